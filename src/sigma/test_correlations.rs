//! Tests correlations: runs the exemplars of each, and runs them again with mutations of the
//! correlation.

use hedgerow_core::correlate::{Correlator, Shard};
use hedgerow_core::rules::correlation::{
    Attribution, Coordination, Correlation, Measure, Threshold,
};
use hedgerow_core::rules::policy::Policy;
use hedgerow_core::rules::signature::{Comparator, Condition, Signature};
use hedgerow_core::ruleset::{Bundle, Ruleset};

use crate::attributes::{
    CUSTOM_ATTRIBUTES, DISTINCT_BY_KEY, EVENNESS_KEY, EVENTS_PER_VALUE_KEY, EXEMPLARS_PATH,
    HANDOVER_KEY, MAX_EVENTS_PER_VALUE_KEY, ONLY_KEY, SYNCHRONIZED_START_KEY, VARIETY_KEY,
};
use crate::correlation::CorrelationRule;
use crate::event_sequence::EventSequence;
use crate::exemplar::ExemplarEvent;
use crate::{Finding, Rules};

/// Tests all correlations that are not deprecated, and adds a finding for each failure.
///
/// Each exemplar must have its expected result in a ruleset of only the rules that the correlation
/// needs, and in the full ruleset. A mutation relaxes one condition of the correlation. Each
/// mutation must change the result of an exemplar; otherwise no exemplar tests the condition.
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
    // `check` has already reported a correlation that does not compile.
    let Ok(rule_ruleset) = compile_with_dependencies(&rule.correlation, rules) else { return };
    let is_active =
        full_ruleset.plan().correlations().iter().any(|correlation| correlation.name == name);
    for (index, exemplar) in rule.exemplars.iter().enumerate() {
        let mut results = vec![("with its rules alone", holds(&rule_ruleset, name, exemplar))];
        if is_active {
            results.push(("in the full ruleset", holds(full_ruleset, name, exemplar)));
        }
        for (context, matched) in results {
            if matched != exemplar.should_match {
                let verb = if matched { "holds" } else { "does not hold" };
                let problem =
                    format!("the correlation {verb} for exemplar '{}' {context}", exemplar.name);
                let index = index.to_string();
                let key = [&EXEMPLARS_PATH[..], &[&index]].concat();
                findings.push(rule.metadata.finding(&key, problem, RESULT_REMEDY));
            }
        }
    }
    for mutation in mutations(&rule.correlation) {
        // A mutation that does not compile is skipped.
        let Ok(ruleset) = compile_with_dependencies(&mutation.correlation, rules) else { continue };
        let mut exemplars = rule.exemplars.iter();
        if exemplars.all(|exemplar| holds(&ruleset, name, exemplar) == exemplar.should_match) {
            let problem = format!("no exemplar has another result {}", mutation.description);
            let remedy = "add an exemplar that has another result then, or change the rule";
            findings.push(rule.metadata.finding(&mutation.key, problem, remedy));
        }
    }
}

/// Returns whether a correlation holds for at least one event of an exemplar.
fn holds(ruleset: &Ruleset, name: &str, exemplar: &EventSequence) -> bool {
    let mut correlator = Correlator::new(ruleset.plan().clone(), Shard::ALL, GROUP_MEMORY_BYTES);
    correlator.fire_intermediates();
    let mut matcher = ruleset.program().matcher();
    let mut firings = Vec::new();
    for (offset, event) in &exemplar.events {
        let now = START_SECONDS.saturating_add(*offset);
        // `check` has already reported an invalid event.
        let Ok(event) = ExemplarEvent::new(event) else { return false };
        let request = event.request();
        let mut observation = ruleset.observe(&mut matcher, &request, &event.headers, now);
        observation.proven = true;
        correlator.observe(&observation, now, &mut firings);
    }
    let correlations = ruleset.plan().correlations();
    firings.iter().any(|firing| {
        correlations.get(firing.correlation).is_some_and(|correlation| correlation.name == name)
    })
}

/// Compiles a ruleset of a correlation, the correlations that it refers to, and the signatures that
/// these correlations name.
fn compile_with_dependencies(
    correlation: &Correlation,
    rules: &Rules,
) -> Result<Ruleset, hedgerow_core::Error> {
    let mut correlations = vec![correlation.clone()];
    let candidates = || rules.correlations.iter().map(|rule| &rule.correlation);
    correlations
        .extend(candidates().filter(|candidate| is_dependency(correlation, candidate)).cloned());
    let is_needed = |signature: &Signature| {
        correlations.iter().any(|correlation| {
            correlation.rules.contains(&signature.name)
                || correlation.only.as_ref() == Some(&signature.name)
        })
    };
    let signatures =
        rules.rules.iter().map(|rule| &rule.signature).filter(|signature| is_needed(signature));
    let bundle = Bundle::new(Policy::default(), signatures.cloned().collect());
    Ruleset::new(Bundle { correlations, ..bundle }, String::new())
}

/// Returns whether a correlation names the candidate as a rule, or compares its own count with the
/// candidate's count.
fn is_dependency(correlation: &Correlation, candidate: &Correlation) -> bool {
    let Attribution { share, variety, .. } = &correlation.attribution;
    correlation.rules.contains(&candidate.name)
        || share.iter().chain(variety).any(|share| share.correlation == candidate.name)
}

/// A copy of a correlation in which one condition is relaxed or removed.
struct Mutation {
    /// The difference from the original, as the end of a sentence: `without the field 'x'`.
    description: String,
    /// Path of the changed key in the rule.
    key: [&'static str; 2],
    correlation: Correlation,
}

impl Mutation {
    fn new(
        original: &Correlation,
        description: String,
        key: [&'static str; 2],
        change: impl FnOnce(&mut Correlation),
    ) -> Self {
        let mut correlation = original.clone();
        change(&mut correlation);
        Self { description, key, correlation }
    }
}

/// Returns all mutations of a correlation. Timespans are not changed.
fn mutations(correlation: &Correlation) -> Vec<Mutation> {
    let mut mutations = without_fields(correlation);
    mutations.extend(without_rules(correlation));
    mutations.extend(without_attributes(correlation));
    mutations.extend(with_relaxed_thresholds(correlation));
    mutations
}

/// Returns a mutation for each field to group by, in which this field is removed. Returns none if
/// there is only one field.
fn without_fields(correlation: &Correlation) -> Vec<Mutation> {
    if correlation.group_by.len() < 2 {
        return Vec::new();
    }
    let fields = correlation.group_by.iter().enumerate().map(|(index, field)| {
        let description = format!("without the field '{}'", field.name());
        Mutation::new(correlation, description, ["correlation", "group-by"], |mutant| {
            mutant.group_by.remove(index);
        })
    });
    fields.collect()
}

/// Returns a mutation for each rule of a temporal correlation, in which this rule is removed.
fn without_rules(correlation: &Correlation) -> Vec<Mutation> {
    if !matches!(correlation.measure, Measure::Temporal { .. } | Measure::TemporalOrdered { .. }) {
        return Vec::new();
    }
    let rules = correlation.rules.iter().enumerate().map(|(index, rule)| {
        let description = format!("without the rule '{rule}'");
        Mutation::new(correlation, description, ["correlation", "rules"], |mutant| {
            mutant.rules.remove(index);
            if let Measure::Temporal { condition } = &mut mutant.measure {
                *condition = without_rule(condition, rule);
            }
        })
    });
    rules.collect()
}

/// Returns a mutation for each custom attribute that decides whether the correlation holds, in
/// which this attribute is removed. Attributes of the indicators, such as the weight and the
/// lifetime, are not varied.
fn without_attributes(correlation: &Correlation) -> Vec<Mutation> {
    let Coordination {
        events_per_value,
        max_events_per_value,
        evenness,
        synchronized_start,
        handover,
    } = correlation.coordination;
    let is_distinct =
        matches!(correlation.measure, Measure::TemporalOrdered { distinct_by: Some(_) });
    let has_variety = correlation.attribution.variety.is_some();
    let rows: [(&'static str, bool, fn(&mut Correlation)); 8] = [
        (ONLY_KEY, correlation.only.is_some(), |mutant| mutant.only = None),
        (DISTINCT_BY_KEY, is_distinct, |mutant| {
            mutant.measure = Measure::TemporalOrdered { distinct_by: None };
        }),
        (EVENTS_PER_VALUE_KEY, events_per_value.is_some(), |mutant| {
            mutant.coordination.events_per_value = None;
        }),
        (MAX_EVENTS_PER_VALUE_KEY, max_events_per_value.is_some(), |mutant| {
            mutant.coordination.max_events_per_value = None;
        }),
        (EVENNESS_KEY, evenness.is_some(), |mutant| mutant.coordination.evenness = None),
        (SYNCHRONIZED_START_KEY, synchronized_start.is_some(), |mutant| {
            mutant.coordination.synchronized_start = None;
        }),
        (HANDOVER_KEY, handover.is_some(), |mutant| mutant.coordination.handover = None),
        (VARIETY_KEY, has_variety, |mutant| mutant.attribution.variety = None),
    ];
    let present = rows.into_iter().filter(|(_, is_present, _)| *is_present);
    let mutations = present.map(|(key, _, remove)| {
        Mutation::new(correlation, format!("without '{key}'"), [CUSTOM_ATTRIBUTES, key], remove)
    });
    mutations.collect()
}

/// Returns a mutation for each threshold other than 0, in which this threshold is relaxed by 50 %
/// of its absolute value, or by 100 % for `lt` and `lte`.
fn with_relaxed_thresholds(correlation: &Correlation) -> Vec<Mutation> {
    let thresholds = thresholds(&correlation.measure).iter().enumerate();
    let mutations =
        thresholds.filter(|(_, threshold)| threshold.value != 0.0).map(|(index, threshold)| {
            let relaxed = match threshold.comparator {
                Comparator::Lt | Comparator::Lte => threshold.value + threshold.value.abs(),
                _ => threshold.value - threshold.value.abs() / 2.0,
            };
            let description = format!("if the threshold {} is {relaxed}", threshold.value);
            Mutation::new(correlation, description, ["correlation", "condition"], |mutant| {
                let mut thresholds = thresholds_mut(&mut mutant.measure).into_iter().flatten();
                if let Some(threshold) = thresholds.nth(index) {
                    threshold.value = relaxed;
                }
            })
        });
    mutations.collect()
}

/// Returns a copy of a condition in which `rule` is replaced by a condition that always holds.
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

/// Returns the thresholds of a measure; a temporal measure has none.
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

/// Time at which exemplars begin, in seconds since the epoch: the first second of a day.
const START_SECONDS: u32 = 20_000 * 86_400;

/// Remedy for an exemplar with an unexpected result.
pub const RESULT_REMEDY: &str = "correct the rule or the exemplar";

/// Bytes of memory for the groups of an exemplar.
const GROUP_MEMORY_BYTES: usize = 8 << 20;
