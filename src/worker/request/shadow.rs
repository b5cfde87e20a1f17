//! What a ruleset that is only watched would have decided, and where it differs.

use hedgerow_core::Decision;
use hedgerow_core::rules::policy::Band;
use serde::Serialize;

/// The shadow's word on a request.
#[derive(Debug, Serialize)]
pub struct ShadowDecision {
    /// Digest of the shadow.
    pub ruleset: String,
    /// Its score.
    pub score: f64,
    /// The score's band.
    pub band: Band,
    /// Signatures that held for the ruleset that decided, and not for the shadow.
    pub only_active: Vec<String>,
    /// Signatures that held for the shadow, and not for the ruleset that decided.
    pub only_shadow: Vec<String>,
}

impl ShadowDecision {
    /// Holds the shadow's decision against the one that counts.
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

fn hits_only_in_first(first: &Decision, second: &Decision) -> Vec<String> {
    let is_in_second = |name: &String| second.hits.iter().any(|hit| hit.name == *name);
    let names = first.hits.iter().map(|hit| &hit.name);
    names.filter(|name| !is_in_second(name)).cloned().collect()
}
