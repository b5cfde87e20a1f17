//! Tests correlations: runs the exemplars of each, alone and with all rules, and mutations of each.

use hedgerow_core::correlate::{Correlator, Shard};
use hedgerow_core::rules::correlation::{Coordination, Correlation, Measure, Threshold};
use hedgerow_core::rules::policy::Policy;
use hedgerow_core::rules::signature::{Comparator, Condition, Signature};
use hedgerow_core::ruleset::{Bundle, Ruleset};
use rsigma_parser::EXEMPLARS_KEY;

use crate::correlation::CorrelationRule;
use crate::event_sequence::EventSequence;
use crate::exemplar::ExemplarEvent;
use crate::{Finding, Rules};

/// Tests every correlation; what fails, by place.
pub fn test(rules: &Rules, full_ruleset: &Ruleset, findings: &mut Vec<Finding>) {
    for rule in rules.correlations.iter().filter(|rule| !rule.metadata.deprecated) {
        test_rule(rule, rules, full_ruleset, findings);
    }
}

fn test_rule(
    rule: &CorrelationRule,
    rules: &Rules,
    full_ruleset: &Ruleset,
    findings: &mut Vec<Finding>,
) {
    let name = rule.correlation.name.as_str();
    // `check` has said why, where it does not compile.
    let Ok(rule_ruleset) = compile_with_dependencies(&rule.correlation, rules) else { return };
    let is_active =
        full_ruleset.plan().correlations().iter().any(|correlation| correlation.name == name);
    for (index, exemplar) in rule.exemplars.iter().enumerate() {
        let rows = [
            ("with its rules alone", holds(&rule_ruleset, name, exemplar)),
            (
                "in the full ruleset",
                match is_active {
                    true => holds(full_ruleset, name, exemplar),
                    false => exemplar.should_match,
                },
            ),
        ];
        for (context, matched) in rows {
            if matched != exemplar.should_match {
                let verb = if matched { "holds" } else { "does not hold" };
                let problem =
                    format!("the correlation {verb} for exemplar '{}' {context}", exemplar.name);
                let key = ["custom_attributes", EXEMPLARS_KEY, &index.to_string()];
                findings.push(rule.metadata.finding(
                    &key,
                    problem,
                    "mend the rule or the exemplar",
                ));
            }
        }
    }
    for (description, key, mutant) in mutations(&rule.correlation) {
        // One that cannot be had is not needed.
        let Ok(ruleset) = compile_with_dependencies(&mutant, rules) else { continue };
        if rule
            .exemplars
            .iter()
            .all(|exemplar| holds(&ruleset, name, exemplar) == exemplar.should_match)
        {
            let remedy = "add an exemplar that comes out differently, or change the rule";
            let problem = format!("no exemplar shows a difference {description}");
            findings.push(rule.metadata.finding(&key, problem, remedy));
        }
    }
}

/// Whether a correlation holds at some event of an exemplar.
fn holds(ruleset: &Ruleset, name: &str, exemplar: &EventSequence) -> bool {
    let mut correlator = Correlator::new(ruleset.plan().clone(), Shard::ALL, GROUP_MEMORY_BYTES);
    correlator.fire_intermediates();
    let mut matcher = ruleset.program().matcher();
    let mut firings = Vec::new();
    for (offset, event) in &exemplar.events {
        let now = START_SECONDS.saturating_add(*offset);
        // `check` has said why, where it cannot be read.
        let Ok(event) = ExemplarEvent::new(event) else { return false };
        let request = event.request();
        let observation = ruleset.observe(&mut matcher, &request, &event.headers, now);
        correlator.observe(&observation, now, &mut firings);
    }
    let correlations = ruleset.plan().correlations();
    firings.iter().any(|firing| {
        correlations.get(firing.correlation).is_some_and(|correlation| correlation.name == name)
    })
}

/// A ruleset of a correlation and what it needs.
fn compile_with_dependencies(
    correlation: &Correlation,
    rules: &Rules,
) -> Result<Ruleset, hedgerow_core::Error> {
    let mut correlations = vec![correlation.clone()];
    let candidates = || rules.correlations.iter().map(|rule| &rule.correlation);
    correlations.extend(
        candidates().filter(|candidate| correlation.rules.contains(&candidate.name)).cloned(),
    );
    let is_needed = |signature: &Signature| {
        correlations.iter().any(|correlation| correlation.rules.contains(&signature.name))
    };
    let signatures =
        rules.rules.iter().map(|rule| &rule.signature).filter(|signature| is_needed(signature));
    let bundle = Bundle::new(Policy::default(), signatures.cloned().collect());
    Ruleset::new(Bundle { correlations, ..bundle }, String::new())
}

/// Ways to ask less, of which each must make a difference to some exemplar: in words, and where it is
/// asked.
fn mutations(correlation: &Correlation) -> Vec<(String, Vec<&'static str>, Correlation)> {
    let mut mutations = Vec::new();
    let mut add = |description: String, key: &[&'static str], change: &dyn Fn(&mut Correlation)| {
        let mut mutant = correlation.clone();
        change(&mut mutant);
        mutations.push((description, key.to_vec(), mutant));
    };
    let attributes_key = "custom_attributes";
    for (index, field) in correlation.group_by.iter().enumerate() {
        if correlation.group_by.len() > 1 {
            let description = format!("without the field '{}'", field.name());
            add(description, &["correlation", "group-by"], &|mutant| {
                drop(mutant.group_by.remove(index))
            });
        }
    }
    if matches!(correlation.measure, Measure::Temporal { .. } | Measure::TemporalOrdered { .. }) {
        for (index, rule) in correlation.rules.iter().enumerate() {
            let description = format!("without the rule '{rule}'");
            add(description, &["correlation", "rules"], &|mutant| {
                let removed = mutant.rules.remove(index);
                if let Measure::Temporal { condition } = &mut mutant.measure {
                    *condition = without_rule(condition, &removed);
                }
            });
        }
    }
    if let Measure::TemporalOrdered { distinct_by: Some(_) } = correlation.measure {
        let measure = Measure::TemporalOrdered { distinct_by: None };
        add(
            "without 'hedgerow.distinct_by'".into(),
            &[attributes_key, "hedgerow.distinct_by"],
            &|mutant| mutant.measure = measure.clone(),
        );
    }
    let Coordination { events_per_value, evenness, synchronized_start, handover } =
        correlation.coordination;
    if events_per_value.is_some() {
        add(
            "without 'hedgerow.events_per_value'".into(),
            &[attributes_key, "hedgerow.events_per_value"],
            &|mutant| mutant.coordination.events_per_value = None,
        );
    }
    if evenness.is_some() {
        add(
            "without 'hedgerow.evenness'".into(),
            &[attributes_key, "hedgerow.evenness"],
            &|mutant| mutant.coordination.evenness = None,
        );
    }
    if synchronized_start.is_some() {
        add(
            "without 'hedgerow.synchronized_start'".into(),
            &[attributes_key, "hedgerow.synchronized_start"],
            &|mutant| mutant.coordination.synchronized_start = None,
        );
    }
    if handover.is_some() {
        add(
            "without 'hedgerow.handover'".into(),
            &[attributes_key, "hedgerow.handover"],
            &|mutant| mutant.coordination.handover = None,
        );
    }
    let thresholds = thresholds(&correlation.measure).iter().enumerate();
    for (index, threshold) in thresholds.filter(|(_, threshold)| threshold.value != 0.0) {
        let description = format!("when half of {} is asked", threshold.value);
        add(description, &["correlation", "condition"], &|mutant| {
            if let Some(threshold) =
                thresholds_mut(&mut mutant.measure).and_then(|thresholds| thresholds.get_mut(index))
            {
                let half = threshold.value.abs() / 2.0;
                threshold.value += match threshold.comparator {
                    Comparator::Lt | Comparator::Lte => 2.0 * half,
                    _ => -half,
                };
            }
        });
    }
    mutations
}

/// A condition in which a rule always holds.
fn without_rule(condition: &Condition, rule: &str) -> Condition {
    let convert_all =
        |parts: &[Condition]| parts.iter().map(|part| without_rule(part, rule)).collect();
    match condition {
        Condition::Selection(name) if name == rule => Condition::All(Vec::new()),
        Condition::Selection(name) => Condition::Selection(name.clone()),
        Condition::All(parts) => Condition::All(convert_all(parts)),
        Condition::Any(parts) => Condition::Any(convert_all(parts)),
        Condition::Not(part) => Condition::Not(Box::new(without_rule(part, rule))),
    }
}

fn thresholds(measure: &Measure) -> &[Threshold] {
    match measure {
        Measure::EventCount { thresholds }
        | Measure::ValueCount { thresholds, .. }
        | Measure::ValueSum { thresholds, .. }
        | Measure::ValueAvg { thresholds, .. } => thresholds,
        Measure::Temporal { .. } | Measure::TemporalOrdered { .. } => &[],
    }
}

fn thresholds_mut(measure: &mut Measure) -> Option<&mut Vec<Threshold>> {
    match measure {
        Measure::EventCount { thresholds }
        | Measure::ValueCount { thresholds, .. }
        | Measure::ValueSum { thresholds, .. }
        | Measure::ValueAvg { thresholds, .. } => Some(thresholds),
        Measure::Temporal { .. } | Measure::TemporalOrdered { .. } => None,
    }
}

/// When exemplars begin, in seconds since the epoch: the first second of a day.
const START_SECONDS: u32 = 20_000 * 86_400;

/// Bytes for the groups of an exemplar.
const GROUP_MEMORY_BYTES: usize = 8 << 20;
