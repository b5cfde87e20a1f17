//! Compares the decision of a shadow ruleset with the decision in force.

use hedgerow_core::Decision;
use hedgerow_core::rules::policy::Band;
use serde::Serialize;

/// The decision of the shadow ruleset, as the log line's member `shadow`.
#[derive(Debug, Serialize)]
pub struct ShadowDecision {
    /// Digest of the shadow ruleset.
    pub ruleset: String,
    /// Score from 0 to 100.
    pub score: f64,
    /// Band of the score.
    pub band: Band,
    /// Names of signatures that hit only in the ruleset that decided.
    pub only_active: Vec<String>,
    /// Names of signatures that hit only in the shadow ruleset.
    pub only_shadow: Vec<String>,
}

impl ShadowDecision {
    /// Compares the shadow ruleset's decision with `decision`, which is in force.
    pub fn new(decision: &Decision, shadow: &Decision) -> Self {
        Self {
            ruleset: shadow.ruleset.clone(),
            score: shadow.score,
            band: shadow.band,
            only_active: hits_only_in_first(decision, shadow),
            only_shadow: hits_only_in_first(shadow, decision),
        }
    }
}

/// Returns the names of the hits of `first` that `second` does not have.
fn hits_only_in_first(first: &Decision, second: &Decision) -> Vec<String> {
    let is_in_second = |name: &String| second.hits.iter().any(|hit| hit.name == *name);
    let names = first.hits.iter().map(|hit| &hit.name);
    names.filter(|name| !is_in_second(name)).cloned().collect()
}
