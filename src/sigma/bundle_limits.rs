//! Checks that the bundle of all rules is within the limits of the core. The edge refuses a bundle
//! that exceeds a limit.

use hedgerow_core::Error;
use hedgerow_core::matching::regex_gate;
use hedgerow_core::rules::signature::{Comparison, Signature};

use crate::{Finding, Rule, Rules};

/// Loads the bundle of the rules as the edge does, and compiles its regexes. Returns the error, if
/// any, as a finding. If the regexes take too much memory, the finding is at the rule whose regexes
/// take most; other findings are at `policy.toml`.
pub fn find_exceeded_limit(rules: &Rules) -> Option<Finding> {
    let at_policy =
        |error: Error| Finding::new("policy.toml", (1, 1), error.problem(), error.remedy());
    let ruleset = match rules.ruleset() {
        Ok(ruleset) => ruleset,
        Err(error) => return Some(at_policy(error)),
    };
    let error = ruleset.compile_regexes().err()?;
    let is_active =
        |rule: &&Rule| !rule.is_deprecated() && !rules.policy.is_disabled(&rule.signature.name);
    let active = rules.rules.iter().filter(is_active);
    let Some(largest) = active.max_by_key(|rule| regex_bytes(&rule.signature)) else {
        return Some(at_policy(error));
    };
    let kibibytes = regex_bytes(&largest.signature) >> 10;
    let remedy = format!("{}: this rule takes most, {kibibytes} KiB", error.remedy());
    Some(largest.metadata.finding(&["detection"], error.problem(), remedy))
}

/// Returns the memory of the compiled regexes of a signature, in bytes.
fn regex_bytes(signature: &Signature) -> usize {
    let mut bytes = 0_usize;
    for selection in signature.selections.values() {
        selection.for_each_comparison(&mut |test| {
            if let Comparison::Regex { pattern, .. } = &test.comparison {
                let regex = regex_gate::compile(pattern);
                let memory = regex.map_or(0, |regex| regex_gate::memory_bytes(&regex));
                bytes = bytes.saturating_add(memory);
            }
        });
    }
    bytes
}
