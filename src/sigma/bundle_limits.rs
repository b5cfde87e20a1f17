//! Checks that the bundle of all rules is within the limits of the core: the edge refuses a bundle
//! that is not.

use hedgerow_core::matching::regex_gate;
use hedgerow_core::rules::signature::{Comparison, Signature};

use crate::{Finding, Rule, Rules};

/// Loads the bundle of the rules as the edge does, and compiles its regexes. Returns the error, if
/// any, as a finding at the rule that takes most memory.
pub fn find_exceeded_limit(rules: &Rules) -> Option<Finding> {
    let error = rules.ruleset().and_then(|ruleset| ruleset.compile_regexes()).err()?;
    let active = rules.rules.iter().filter(|rule| !rule.is_deprecated());
    let largest = active.max_by_key(|rule| (regex_bytes(&rule.signature), encoded_bytes(rule)));
    let Some(largest) = largest else {
        return Some(Finding::new("policy.toml", (1, 1), error.problem(), error.remedy()));
    };
    let remedy = format!(
        "{}: this rule takes most, {} KiB for its regexes",
        error.remedy(),
        regex_bytes(&largest.signature) >> 10,
    );
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

/// Returns the bytes of a rule in the bundle.
fn encoded_bytes(rule: &Rule) -> usize {
    serde_json::to_vec(&rule.signature).map_or(0, |json| json.len())
}
