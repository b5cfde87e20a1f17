//! Rules of upper layers that replace rules of lower layers.

use std::collections::BTreeSet;

use crate::Finding;
use crate::attributes::{CUSTOM_ATTRIBUTES, REPLACES_KEY};
use crate::correlation::CorrelationRule;
use crate::layers::Override;
use crate::metadata::RuleMetadata;
use crate::rule::Rule;

/// Removes the rules that a rule of an upper layer replaces, and returns these overrides. Adds a
/// finding for each rule that replaces nothing.
pub fn replace_rules(
    rules: &mut Vec<Rule>,
    correlations: &mut Vec<CorrelationRule>,
    findings: &mut Vec<Finding>,
) -> Vec<Override> {
    let signatures = rules.iter().map(|rule| (rule.signature.id.as_str(), &rule.metadata));
    let of_correlations =
        correlations.iter().map(|rule| (rule.correlation.id.as_str(), &rule.metadata));
    let identities: Vec<(&str, &RuleMetadata)> = signatures.chain(of_correlations).collect();
    let mut overrides = Vec::new();
    let mut replaced: BTreeSet<String> = BTreeSet::new();
    for (_, metadata) in &identities {
        let Some(id) = &metadata.replaces else { continue };
        let is_replaced =
            |(other, lower): &&(&str, &RuleMetadata)| other == id && lower.layer < metadata.layer;
        let Finding { path, line, column, .. } = metadata.finding(&REPLACES_PATH, "", "");
        let previous = overrides.len();
        for (_, lower) in identities.iter().filter(is_replaced) {
            replaced.insert(lower.path.clone());
            let change = format!("replaces {}", lower.path);
            overrides.push(Override { path: path.clone(), line, column, change });
        }
        if overrides.len() == previous {
            let problem = format!("the rule replaces nothing: no lower layer has the id '{id}'");
            findings.push(metadata.finding(&REPLACES_PATH, problem, REPLACES_REMEDY));
        }
    }
    rules.retain(|rule| !replaced.contains(&rule.metadata.path));
    correlations.retain(|rule| !replaced.contains(&rule.metadata.path));
    overrides
}

/// The path of the attribute that names a replaced rule.
const REPLACES_PATH: [&str; 2] = [CUSTOM_ATTRIBUTES, REPLACES_KEY];

const REPLACES_REMEDY: &str = "remove `hedgerow.replaces`, or write the id of the rule that \
    replaces it; an update may have removed it";
