//! Tests rules: runs the exemplars of each signature, and runs them again under disguises and with
//! mutations of the signature.

use hedgerow_core::evaluate::explain::Explainer;
use hedgerow_core::matching::Matcher;
use hedgerow_core::rules::policy::INNOCENCE_FAMILY;
use hedgerow_core::rules::signature::{Condition, Selection, Signature};
use hedgerow_core::ruleset::Ruleset;
use serde::Serialize;

use crate::attributes::{CUSTOM_ATTRIBUTES, EXCEPTIONS_KEY, EXEMPLARS_PATH, NEAR_KEY};
use crate::disguise::Disguise;
use crate::exemplar::{ExemplarEvent, Verdict};
use crate::test_correlations::RESULT_REMEDY;
use crate::{Exemplar, Finding, Lexicon, Rule, Rules, near, test_correlations};

/// Tests all rules that are not deprecated, and returns the failures, sorted by position.
///
/// Each exemplar must have its expected result with the rule alone, in the full ruleset, and with
/// the [`Explainer`], which evaluates every comparison and is the slow path. A rule must still
/// match under disguises. Each selection must be necessary: if it is removed, at least one exemplar
/// must have another result.
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
    /// Line of the exemplar in the file, from 1.
    pub line: usize,
    /// Name of the rule.
    pub rule: String,
    /// Name of the exemplar.
    pub name: String,
    /// Expected verdict of the rule.
    pub expected: Verdict,
    /// Actual verdict of the rule.
    pub actual: Verdict,
}

/// Returns the results of the exemplars of all detection rules that are not deprecated, both
/// expected and unexpected results. [`test()`] returns only the unexpected ones.
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
                expected: exemplar.expected,
                actual: verdict(&explainer, &rule.signature, &event),
            })
        };
        rule.exemplars.iter().enumerate().filter_map(exemplar_result).collect::<Vec<_>>()
    };
    rules.rules.iter().filter(|rule| !rule.is_deprecated()).flat_map(rule_results).collect()
}

/// Returns the verdict of a signature on an event, computed by the [`Explainer`] (the slow path).
fn verdict(explainer: &Explainer<'_>, signature: &Signature, event: &ExemplarEvent) -> Verdict {
    let explanation = explainer.explain(signature, &event.request(), &event.headers);
    Verdict::new(explanation.holds, !explanation.innocence.is_empty())
}

fn test_rule(
    rule: &Rule,
    lexicon: &Lexicon,
    full_ruleset: &Ruleset,
    full_matcher: &mut Matcher<'_>,
    findings: &mut Vec<Finding>,
) {
    // `check` has already reported a rule that does not compile.
    let Ok(rule_ruleset) = rule.as_ruleset(lexicon) else { return };
    let explainer = Explainer::new(rule_ruleset.concepts());
    let mut rule_matcher = rule_ruleset.program().matcher();
    let is_this_rule = |signature: &Signature| signature.name == rule.signature.name;
    // The index is `None` if the policy disables the signature.
    let active_index = full_ruleset.signatures().iter().position(is_this_rule);
    let mut events = Vec::new();
    for (index, exemplar) in rule.exemplars.iter().enumerate() {
        // `check` has already reported an invalid event.
        let Ok(event) = ExemplarEvent::new(&exemplar.event) else { continue };
        let request = event.request();
        let matched = |matcher: &mut Matcher<'_>, ruleset: &Ruleset, signature_index: usize| {
            let headers = ruleset.program().header_bits(&event.headers);
            let hits = matcher.hits(&request, &headers);
            let hit = hits.iter().find(|hit| hit.signature == signature_index);
            Verdict::new(hit.is_some(), hit.is_some_and(|hit| !hit.innocence.is_empty()))
        };
        let mut results = vec![
            ("alone", matched(&mut rule_matcher, &rule_ruleset, 0)),
            ("by the slow path", verdict(&explainer, &rule.signature, &event)),
        ];
        if let Some(active_index) = active_index {
            let result = matched(full_matcher, full_ruleset, active_index);
            results.push(("in the full ruleset", result));
        }
        for (context, actual) in results {
            if actual != exemplar.expected {
                findings.push(wrong_verdict(rule, (index, exemplar), context, actual));
            }
        }
        events.push((exemplar.expected, event));
    }
    test_disguises(rule, &events, &rule_ruleset, findings);
    test_mutations(rule, &events, &explainer, findings);
}

/// Returns the finding for an exemplar, given with its index, for which a rule does not have the
/// expected verdict.
fn wrong_verdict(
    rule: &Rule,
    (index, exemplar): (usize, &Exemplar),
    context: &str,
    actual: Verdict,
) -> Finding {
    let verb = match actual {
        Verdict::Match => "matches",
        Verdict::Innocent => "matches, with a selection for innocence,",
        Verdict::NoMatch => "does not match",
    };
    let problem = format!("exemplar '{}' {verb} {context}", exemplar.name);
    let index = index.to_string();
    let key = [&EXEMPLARS_PATH[..], &[&index]].concat();
    rule.metadata.finding(&key, problem, RESULT_REMEDY)
}

/// Adds a finding for each disguise under which a matching event does not match any more, and for
/// each exception that is not needed.
///
/// Only rules whose weight is above the cap of the family `innocence` are tested: harmless words
/// may lower a score by as much as this cap, so losing a smaller weight is acceptable.
fn test_disguises(
    rule: &Rule,
    events: &[(Verdict, ExemplarEvent)],
    ruleset: &Ruleset,
    findings: &mut Vec<Finding>,
) {
    let cap = ruleset.policy().score.family_cap(INNOCENCE_FAMILY);
    let weight = rule.signature.weight;
    let mut matcher = ruleset.program().matcher();
    let mut is_hidden_by = |disguise: &Disguise, event: &ExemplarEvent| {
        disguise.apply(event).is_some_and(|event| {
            let headers = ruleset.program().header_bits(&event.headers);
            matcher.hits(&event.request(), &headers).is_empty()
        })
    };
    for disguise in Disguise::all() {
        let mut hidden = events.iter().enumerate().filter(|(_, (expected, event))| {
            weight > cap && *expected == Verdict::Match && is_hidden_by(&disguise, event)
        });
        let hidden = hidden.next().map(|(index, _)| index);
        let name = disguise.name;
        match (hidden, rule.disguise_exceptions.iter().any(|exception| exception == name)) {
            (Some(index), false) => {
                let problem = format!(
                    "exemplar {} does not match under the disguise '{name}', which costs {weight} \
                     dB: expected at most {cap}",
                    index.saturating_add(1)
                );
                let remedy = "demand less of the text around what is asked for";
                let index = index.to_string();
                let key = [&EXEMPLARS_PATH[..], &[&index]].concat();
                findings.push(rule.metadata.finding(&key, problem, remedy));
            }
            (None, true) => {
                let problem = format!("no exemplar needs the exception for the disguise '{name}'");
                let key = [CUSTOM_ATTRIBUTES, EXCEPTIONS_KEY, name];
                findings.push(rule.metadata.finding(&key, problem, "remove the exception"));
            }
            _ => {}
        }
    }
}

/// Tests mutations of the rule: one without each selection in the condition, one without each
/// selection that indicates innocence, and one without each part of a comparison with concepts.
/// Adds a finding for each mutation with which all exemplars keep their results.
fn test_mutations(
    rule: &Rule,
    events: &[(Verdict, ExemplarEvent)],
    explainer: &Explainer<'_>,
    findings: &mut Vec<Finding>,
) {
    let Signature { condition, innocence, selections, .. } = &rule.signature;
    let innocence: Vec<&str> = innocence.iter().map(String::as_str).collect();
    let survives = |condition: Option<&Condition>,
                    removed: Option<&str>,
                    changed: Option<(&str, &Selection)>| {
        events.iter().all(|(expected, event)| {
            let request = event.request();
            let mut holds = |name: &str| {
                let changed = changed.filter(|(changed_name, _)| *changed_name == name);
                let selection = changed.map(|(_, selection)| selection);
                selection.or_else(|| selections.get(name)).is_some_and(|selection| {
                    explainer.selection_holds(selection, &request, &event.headers)
                })
            };
            let matches = condition.is_none_or(|condition| condition.holds(&mut holds));
            let mut others = innocence.iter().filter(|name| removed != Some(name));
            Verdict::new(matches, others.any(|other| holds(other))) == *expected
        })
    };
    for name in condition.selection_names().into_iter().chain(innocence.iter().copied()) {
        if survives(without_selection(condition, name).as_ref(), Some(name), None) {
            let problem = format!("no exemplar needs the selection '{name}'");
            let remedy = "add an exemplar that has another result without it, or remove it";
            findings.push(rule.metadata.finding(&["detection", name], problem, remedy));
        }
        let Some(selection) = selections.get(name) else { continue };
        for (part, mutant) in near::without_each_part(selection) {
            if survives(Some(condition), None, Some((name, &mutant))) {
                let problem = format!("no exemplar needs the part %{part}% of '{name}'");
                let remedy = "add an exemplar that has another result without it, or remove it";
                let key = [CUSTOM_ATTRIBUTES, NEAR_KEY];
                findings.push(rule.metadata.finding(&key, problem, remedy));
            }
        }
    }
}

/// Returns a condition without a selection. Returns `None` if nothing is left; the caller takes
/// this for a condition that always holds.
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
