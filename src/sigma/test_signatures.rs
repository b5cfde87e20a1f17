//! Tests rules: runs the exemplars of each signature, alone and with all rules, and mutations of each.

use hedgerow_core::evaluate::explain::Explainer;
use hedgerow_core::matching::Matcher;
use hedgerow_core::rules::signature::Condition;
use hedgerow_core::ruleset::Ruleset;
use rsigma_parser::EXEMPLARS_KEY;
use serde::Serialize;

use crate::exemplar::ExemplarEvent;
use crate::{Exemplar, Finding, Rule, Rules, test_correlations};

/// Tests every rule; what fails, by place.
///
/// An exemplar must come out as it says, from the rule alone and from the whole ruleset, and by the
/// slow path too. And no selection may be there for show: without it, some exemplar must come out
/// differently.
pub fn test(rules: &Rules) -> Vec<Finding> {
    let mut findings = Vec::new();
    let full_ruleset = match rules.ruleset() {
        Ok(ruleset) => ruleset,
        Err(error) => {
            let finding = Finding {
                path: "policy.toml".into(),
                line: 1,
                column: 1,
                problem: error.problem().into(),
                remedy: error.remedy().into(),
            };
            return vec![finding];
        }
    };
    let mut matcher = full_ruleset.program().matcher();
    for rule in rules.rules.iter().filter(|rule| !rule.is_deprecated()) {
        test_rule(rule, &full_ruleset, &mut matcher, &mut findings);
    }
    test_correlations::test(rules, &full_ruleset, &mut findings);
    findings.sort();
    findings
}

/// How an exemplar comes out by its rule alone.
#[derive(Clone, Debug, Serialize)]
pub struct ExemplarResult {
    /// The rule's file, and where in it the exemplar begins.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// FieldId of the rule.
    pub rule: String,
    /// FieldId of the exemplar.
    pub name: String,
    /// Whether it is to match.
    pub expected: bool,
    /// Whether it does.
    pub matches: bool,
}

/// How every exemplar of every detection rule comes out. [`test`] says what is wrong; this, what is right, too.
pub fn exemplar_results(rules: &Rules) -> Vec<ExemplarResult> {
    let explainer = Explainer::default();
    let rule_results = |rule: &Rule| {
        let exemplar_result = |(index, exemplar): (usize, &Exemplar)| {
            let event = ExemplarEvent::new(&exemplar.event).ok()?;
            let key = ["custom_attributes", EXEMPLARS_KEY, &index.to_string()];
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
    full_ruleset: &Ruleset,
    full_matcher: &mut Matcher<'_>,
    findings: &mut Vec<Finding>,
) {
    // `check` has said why, where it does not compile.
    let Ok(rule_ruleset) = rule.as_ruleset() else { return };
    let explainer = Explainer::default();
    let mut rule_matcher = rule_ruleset.program().matcher();
    let signature_index = full_ruleset
        .signatures()
        .iter()
        .position(|signature| signature.name == rule.signature.name);
    let mut events = Vec::new();
    for (index, exemplar) in rule.exemplars.iter().enumerate() {
        let index = index.to_string();
        let key = ["custom_attributes", EXEMPLARS_KEY, &index];
        // `check` has said why, where it cannot be read.
        let Ok(event) = ExemplarEvent::new(&exemplar.event) else { continue };
        let request = event.request();
        let is_hit = |matcher: &mut Matcher<'_>, ruleset: &Ruleset, signature_index: usize| {
            let headers = ruleset.program().header_bits(&event.headers);
            matcher.hits(&request, &headers).iter().any(|hit| hit.signature == signature_index)
        };
        let rows = [
            ("alone", is_hit(&mut rule_matcher, &rule_ruleset, 0)),
            (
                "by the slow path",
                explainer.explain(&rule.signature, &request, &event.headers).holds,
            ),
            (
                "in the full ruleset",
                signature_index.is_some_and(|signature_index| {
                    is_hit(full_matcher, full_ruleset, signature_index)
                }) || signature_index.is_none() && exemplar.should_match,
            ),
        ];
        for (context, matched) in rows {
            if matched != exemplar.should_match {
                let verb = if matched { "matches" } else { "does not match" };
                let problem = format!("exemplar '{}' {verb} {context}", exemplar.name);
                findings.push(rule.metadata.finding(
                    &key,
                    problem,
                    "mend the rule or the exemplar",
                ));
            }
        }
        events.push((exemplar.should_match, event));
    }
    test_mutations(rule, &events, &explainer, findings);
}

/// Leaves out one selection at a time.
fn test_mutations(
    rule: &Rule,
    events: &[(bool, ExemplarEvent)],
    explainer: &Explainer,
    findings: &mut Vec<Finding>,
) {
    for name in rule.signature.condition.selection_names() {
        let mutant = without_selection(&rule.signature.condition, name);
        let survives = events.iter().all(|(expected, event)| {
            let request = event.request();
            let mut holds = |name: &str| {
                let selection = rule.signature.selections.get(name);
                selection.is_some_and(|selection| {
                    explainer.selection_holds(selection, &request, &event.headers)
                })
            };
            mutant.as_ref().is_none_or(|mutant| mutant.holds(&mut holds)) == *expected
        });
        if survives {
            let problem = format!("no exemplar needs the selection '{name}'");
            findings.push(rule.metadata.finding(
                &["detection", name],
                problem,
                "add an exemplar that comes out differently without it, or remove it",
            ));
        }
    }
}

/// A condition without a selection; `None` where nothing is left, which then always holds.
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
