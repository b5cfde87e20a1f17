//! Tests rules: runs the exemplars and the mutations of each signature.

use hedgerow_core::evaluate::explain::Explainer;
use hedgerow_core::matching::Matcher;
use hedgerow_core::rules::signature::{Condition, Selection, Signature};
use hedgerow_core::ruleset::Ruleset;
use serde::Serialize;

use crate::attributes::{CUSTOM_ATTRIBUTES, EXEMPLARS_PATH, NEAR_KEY};
use crate::exemplar::ExemplarEvent;
use crate::test_correlations::RESULT_REMEDY;
use crate::{Exemplar, Finding, Lexicon, Rule, Rules, near, test_correlations};

/// Tests all rules that are not deprecated, and returns the failures, sorted by position.
///
/// Each exemplar must have its expected result with the rule alone, with all rules, and with the
/// [`Explainer`], the slow path. Without any one selection, an exemplar must have another result.
pub fn test(rules: &Rules) -> Vec<Finding> {
    let mut findings = Vec::new();
    let full_ruleset = match rules.ruleset() {
        Ok(ruleset) => ruleset,
        Err(error) => {
            return vec![Finding::new("policy.toml", (1, 1), error.problem(), error.remedy())];
        }
    };
    let mut matcher = full_ruleset.program().matcher();
    for rule in rules.rules.iter().filter(|rule| !rule.is_deprecated()) {
        test_rule(rule, &rules.lexicon, &full_ruleset, &mut matcher, &mut findings);
    }
    test_correlations::test(rules, &full_ruleset, &mut findings);
    findings.sort();
    findings
}

/// The result of an exemplar with its rule alone.
#[derive(Clone, Debug, Serialize)]
pub struct ExemplarResult {
    /// Path of the rule's file.
    pub path: String,
    /// Line of the exemplar, from 1.
    pub line: usize,
    /// Name of the rule.
    pub rule: String,
    /// Name of the exemplar.
    pub name: String,
    /// Whether the rule must match.
    pub expected: bool,
    /// Whether the rule matches.
    pub matches: bool,
}

/// Returns the results of the exemplars of all detection rules. [`test()`] returns failures only.
pub fn exemplar_results(rules: &Rules) -> Vec<ExemplarResult> {
    let concepts = rules.lexicon.concepts_of(rules.rules.iter().map(|rule| &rule.signature));
    let explainer = Explainer::new(&concepts);
    let rule_results = |rule: &Rule| {
        let exemplar_result = |(index, exemplar): (usize, &Exemplar)| {
            let event = ExemplarEvent::new(&exemplar.event).ok()?;
            let index = index.to_string();
            let key = [&EXEMPLARS_PATH[..], &[&index]].concat();
            Some(ExemplarResult {
                path: rule.metadata.path.clone(),
                line: rule.metadata.finding(&key, "", "").line,
                rule: rule.signature.name.clone(),
                name: exemplar.name.clone(),
                expected: exemplar.should_match,
                matches: explainer.holds(&rule.signature, &event.request(), &event.headers),
            })
        };
        rule.exemplars.iter().enumerate().filter_map(exemplar_result).collect::<Vec<_>>()
    };
    rules.rules.iter().filter(|rule| !rule.is_deprecated()).flat_map(rule_results).collect()
}

fn test_rule(
    rule: &Rule,
    lexicon: &Lexicon,
    full_ruleset: &Ruleset,
    full_matcher: &mut Matcher<'_>,
    findings: &mut Vec<Finding>,
) {
    // `check` has reported a rule that does not compile.
    let Ok(rule_ruleset) = rule.as_ruleset(lexicon) else { return };
    let explainer = Explainer::new(rule_ruleset.concepts());
    let mut rule_matcher = rule_ruleset.program().matcher();
    let is_this_rule = |signature: &Signature| signature.name == rule.signature.name;
    // The policy can turn the signature off.
    let active_index = full_ruleset.signatures().iter().position(is_this_rule);
    let mut events = Vec::new();
    for (index, exemplar) in rule.exemplars.iter().enumerate() {
        // `check` has reported an invalid event.
        let Ok(event) = ExemplarEvent::new(&exemplar.event) else { continue };
        let request = event.request();
        let is_hit = |matcher: &mut Matcher<'_>, ruleset: &Ruleset, signature_index: usize| {
            let headers = ruleset.program().header_bits(&event.headers);
            matcher.hits(&request, &headers).iter().any(|hit| hit.signature == signature_index)
        };
        let explanation = explainer.explain(&rule.signature, &request, &event.headers);
        let mut results = vec![
            ("alone", is_hit(&mut rule_matcher, &rule_ruleset, 0)),
            ("by the slow path", explanation.holds),
        ];
        if let Some(active_index) = active_index {
            results.push(("in the full ruleset", is_hit(full_matcher, full_ruleset, active_index)));
        }
        for (context, matched) in results {
            if matched != exemplar.should_match {
                let verb = if matched { "matches" } else { "does not match" };
                let problem = format!("exemplar '{}' {verb} {context}", exemplar.name);
                let index = index.to_string();
                let key = [&EXEMPLARS_PATH[..], &[&index]].concat();
                findings.push(rule.metadata.finding(&key, problem, RESULT_REMEDY));
            }
        }
        events.push((exemplar.should_match, event));
    }
    test_mutations(rule, &events, &explainer, findings);
}

/// Removes one selection at a time from the condition, and one part of a comparison with concepts.
/// Adds a finding if all exemplars keep their results.
fn test_mutations(
    rule: &Rule,
    events: &[(bool, ExemplarEvent)],
    explainer: &Explainer<'_>,
    findings: &mut Vec<Finding>,
) {
    let Signature { selections, condition, .. } = &rule.signature;
    let survives = |condition: Option<&Condition>, changed: Option<(&str, &Selection)>| {
        events.iter().all(|(expected, event)| {
            let request = event.request();
            let mut holds = |name: &str| {
                let changed = changed.filter(|(changed_name, _)| *changed_name == name);
                let selection = changed.map(|(_, selection)| selection);
                selection.or_else(|| selections.get(name)).is_some_and(|selection| {
                    explainer.selection_holds(selection, &request, &event.headers)
                })
            };
            condition.is_none_or(|condition| condition.holds(&mut holds)) == *expected
        })
    };
    for name in condition.selection_names() {
        if survives(without_selection(condition, name).as_ref(), None) {
            let problem = format!("no exemplar needs the selection '{name}'");
            let remedy = "add an exemplar that has another result without it, or remove it";
            findings.push(rule.metadata.finding(&["detection", name], problem, remedy));
        }
        let Some(selection) = selections.get(name) else { continue };
        for (part, mutant) in near::without_each_part(selection) {
            if survives(Some(condition), Some((name, &mutant))) {
                let problem = format!("no exemplar needs the part %{part}% of '{name}'");
                let remedy = "add an exemplar that has another result without it, or remove it";
                let key = [CUSTOM_ATTRIBUTES, NEAR_KEY];
                findings.push(rule.metadata.finding(&key, problem, remedy));
            }
        }
    }
}

/// Returns a condition without a selection; `None` if nothing is left, which counts as always true.
fn without_selection(condition: &Condition, name: &str) -> Option<Condition> {
    let remaining = |parts: &[Condition]| {
        parts.iter().filter_map(|part| without_selection(part, name)).collect::<Vec<_>>()
    };
    let non_empty = |parts: Vec<Condition>, combine: fn(Vec<Condition>) -> Condition| {
        (!parts.is_empty()).then(|| combine(parts))
    };
    match condition {
        Condition::All(parts) => non_empty(remaining(parts), Condition::All),
        Condition::Any(parts) => non_empty(remaining(parts), Condition::Any),
        Condition::Not(part) => {
            without_selection(part, name).map(|part| Condition::Not(Box::new(part)))
        }
        Condition::Selection(selection) => (selection != name).then(|| condition.clone()),
    }
}
