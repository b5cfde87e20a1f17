//! Exemplars of correlations: sequences of events, read with their rule and run, each with what the
//! correlation needs alone and within the full ruleset; and the mutation check.

use rsigma_parser::{EXEMPLARS_KEY, ExemplarPayload, ExemplarRuleKind, Expect};
use yaml_serde::{Mapping, Value as Yaml};

use super::correlation::CorrelationRule;
use super::document::Note;
use super::exemplar::{Event, check_event, count, note_shape};
use super::{Finding, Rules};
use crate::correlate::{Correlator, Shard};
use crate::correlation::{Bound, Correlation, Crowd, Measure};
use crate::policy::Policy;
use crate::ruleset::{Bundle, Ruleset};
use crate::signature::{Condition, Order, Signature};

/// Events that a correlation must, or must not, hold for.
#[derive(Clone, Debug)]
pub struct Timed {
    /// What it shows.
    pub name: String,
    /// Whether the correlation must hold at some event.
    pub matches: bool,
    /// Seconds from the first moment, and field names and values; in the order of time.
    pub events: Vec<(u32, Mapping)>,
}

/// Reads a correlation's exemplars and checks their events.
pub fn read(document: &Mapping, note: &mut Note<'_>) -> Vec<Timed> {
    let own = document.get("custom_attributes").and_then(|own| own.get(EXEMPLARS_KEY));
    for (number, exemplar) in own.and_then(Yaml::as_sequence).into_iter().flatten().enumerate() {
        let events = exemplar.get("events").and_then(Yaml::as_sequence);
        for (place, event) in events.into_iter().flatten().enumerate() {
            if let Some(event) = event.get("event").and_then(Yaml::as_mapping) {
                let (number, place) = (number.to_string(), place.to_string());
                check_event(event, &[&number, "events", &place, "event"], note);
            }
        }
    }
    let path = format!("/custom_attributes/{EXEMPLARS_KEY}");
    let parsed =
        own.map(|own| rsigma_parser::parse_exemplars(own, ExemplarRuleKind::Correlation, path));
    match parsed.unwrap_or(Ok(Vec::new())) {
        Ok(parsed) => {
            let exemplars: Vec<Timed> = parsed.into_iter().filter_map(timed).collect();
            count(exemplars.iter().map(|exemplar| exemplar.matches), note);
            exemplars
        }
        Err(errors) => {
            let shape = "write {name, expect: match | no-match, events: [{offset: 1m, event: {field: value}}]}";
            note_shape(errors, shape, note);
            Vec::new()
        }
    }
}

fn timed(parsed: rsigma_parser::Exemplar) -> Option<Timed> {
    let ExemplarPayload::Sequence(sequence) = parsed.payload else { return None };
    let events = sequence.into_iter().filter_map(|event| match event.event {
        Yaml::Mapping(values) => {
            Some((u32::try_from(event.offset.seconds).unwrap_or(u32::MAX), values))
        }
        _ => None,
    });
    let mut events: Vec<(u32, Mapping)> = events.collect();
    events.sort_by_key(|(offset, _)| *offset);
    Some(Timed { name: parsed.name, matches: parsed.expect == Expect::Match, events })
}

/// Tests every correlation; what fails, by place.
pub fn test(rules: &Rules, whole: &Ruleset, findings: &mut Vec<Finding>) {
    for rule in rules.correlations.iter().filter(|rule| !rule.about.retired) {
        test_rule(rule, rules, whole, findings);
    }
}

fn test_rule(rule: &CorrelationRule, rules: &Rules, whole: &Ruleset, findings: &mut Vec<Finding>) {
    let name = rule.correlation.name.as_str();
    // `check` has said why, where it does not compile.
    let Ok(alone) = with(&rule.correlation, rules) else { return };
    let is_in_force = whole.plan().correlations().iter().any(|own| own.name == name);
    for (number, exemplar) in rule.exemplars.iter().enumerate() {
        let rows = [
            ("with its rules alone", holds(&alone, name, exemplar)),
            (
                "in the full ruleset",
                match is_in_force {
                    true => holds(whole, name, exemplar),
                    false => exemplar.matches,
                },
            ),
        ];
        for (how, held) in rows {
            if held != exemplar.matches {
                let does = if held { "holds" } else { "does not hold" };
                let problem =
                    format!("the correlation {does} for exemplar '{}' {how}", exemplar.name);
                let key = ["custom_attributes", EXEMPLARS_KEY, &number.to_string()];
                findings.push(rule.about.finding(&key, problem, "mend the rule or the exemplar"));
            }
        }
    }
    for (what, key, mutant) in mutants(&rule.correlation) {
        // One that cannot be had is not needed.
        let Ok(ruleset) = with(&mutant, rules) else { continue };
        if rule.exemplars.iter().all(|own| holds(&ruleset, name, own) == own.matches) {
            let remedy = "add an exemplar that comes out differently, or change the rule";
            let problem = format!("no exemplar shows a difference {what}");
            findings.push(rule.about.finding(&key, problem, remedy));
        }
    }
}

/// Whether a correlation holds at some event of an exemplar.
fn holds(ruleset: &Ruleset, name: &str, exemplar: &Timed) -> bool {
    let mut correlator = Correlator::new(ruleset.plan().clone(), Shard::WHOLE, MEMORY);
    correlator.tell_feeders();
    let mut matcher = ruleset.program().matcher();
    let mut firings = Vec::new();
    for (offset, event) in &exemplar.events {
        let now = START.saturating_add(*offset);
        // `check` has said why, where it cannot be read.
        let Ok(event) = Event::new(event) else { return false };
        let request = event.request();
        let observation = ruleset.observe(&mut matcher, &request, &event.headers, now);
        correlator.observe(&observation, now, &mut firings);
    }
    let plan = ruleset.plan().correlations();
    firings.iter().any(|firing| plan.get(firing.correlation).is_some_and(|own| own.name == name))
}

/// A ruleset of a correlation and what it needs.
fn with(correlation: &Correlation, rules: &Rules) -> Result<Ruleset, crate::Error> {
    let mut correlations = vec![correlation.clone()];
    let all = || rules.correlations.iter().map(|rule| &rule.correlation);
    correlations.extend(all().filter(|own| correlation.rules.contains(&own.name)).cloned());
    let is_needed = |own: &Signature| {
        correlations.iter().any(|correlation| correlation.rules.contains(&own.name))
    };
    let signatures = rules.rules.iter().map(|rule| &rule.signature).filter(|own| is_needed(own));
    let bundle = Bundle::new(Policy::default(), signatures.cloned().collect());
    Ruleset::new(Bundle { correlations, ..bundle }, String::new())
}

/// Ways to ask less, of which each must make a difference to some exemplar: in words, and where it is
/// asked.
fn mutants(correlation: &Correlation) -> Vec<(String, Vec<&'static str>, Correlation)> {
    let mut mutants = Vec::new();
    let mut add = |what: String, key: &[&'static str], change: &dyn Fn(&mut Correlation)| {
        let mut mutant = correlation.clone();
        change(&mut mutant);
        mutants.push((what, key.to_vec(), mutant));
    };
    let own = "custom_attributes";
    for (number, field) in correlation.group_by.iter().enumerate() {
        if correlation.group_by.len() > 1 {
            let what = format!("without the field '{}'", field.name());
            add(what, &["correlation", "group-by"], &|own| drop(own.group_by.remove(number)));
        }
    }
    if matches!(correlation.measure, Measure::Temporal { .. } | Measure::TemporalOrdered { .. }) {
        for (number, rule) in correlation.rules.iter().enumerate() {
            let what = format!("without the rule '{rule}'");
            add(what, &["correlation", "rules"], &|own| {
                let rule = own.rules.remove(number);
                if let Measure::Temporal { condition } = &mut own.measure {
                    *condition = without(condition, &rule);
                }
            });
        }
    }
    if let Measure::TemporalOrdered { apart: Some(_) } = correlation.measure {
        let measure = Measure::TemporalOrdered { apart: None };
        add("without 'hedgerow.apart'".into(), &[own, "hedgerow.apart"], &|own| {
            own.measure = measure.clone()
        });
    }
    let Crowd { load, evenness, together, relieved } = correlation.crowd;
    if load.is_some() {
        add("without 'hedgerow.load'".into(), &[own, "hedgerow.load"], &|own| {
            own.crowd.load = None
        });
    }
    if evenness.is_some() {
        add("without 'hedgerow.evenness'".into(), &[own, "hedgerow.evenness"], &|own| {
            own.crowd.evenness = None
        });
    }
    if together.is_some() {
        add("without 'hedgerow.together'".into(), &[own, "hedgerow.together"], &|own| {
            own.crowd.together = None
        });
    }
    if relieved.is_some() {
        add("without 'hedgerow.relieved'".into(), &[own, "hedgerow.relieved"], &|own| {
            own.crowd.relieved = None
        });
    }
    let bounds = bounds(&correlation.measure).iter().enumerate();
    for (number, bound) in bounds.filter(|(_, bound)| bound.value != 0.0) {
        let what = format!("when half of {} is asked", bound.value);
        add(what, &["correlation", "condition"], &|own| {
            if let Some(bound) = bounds_mut(&mut own.measure).and_then(|own| own.get_mut(number)) {
                let half = bound.value.abs() / 2.0;
                bound.value += match bound.order {
                    Order::Lt | Order::Lte => 2.0 * half,
                    _ => -half,
                };
            }
        });
    }
    mutants
}

/// A condition in which a rule always holds.
fn without(condition: &Condition, rule: &str) -> Condition {
    let each = |parts: &[Condition]| parts.iter().map(|part| without(part, rule)).collect();
    match condition {
        Condition::Is(name) if name == rule => Condition::All(Vec::new()),
        Condition::Is(name) => Condition::Is(name.clone()),
        Condition::All(parts) => Condition::All(each(parts)),
        Condition::Any(parts) => Condition::Any(each(parts)),
        Condition::Not(part) => Condition::Not(Box::new(without(part, rule))),
    }
}

fn bounds(measure: &Measure) -> &[Bound] {
    match measure {
        Measure::EventCount { bounds }
        | Measure::ValueCount { bounds, .. }
        | Measure::ValueSum { bounds, .. }
        | Measure::ValueAvg { bounds, .. } => bounds,
        Measure::Temporal { .. } | Measure::TemporalOrdered { .. } => &[],
    }
}

fn bounds_mut(measure: &mut Measure) -> Option<&mut Vec<Bound>> {
    match measure {
        Measure::EventCount { bounds }
        | Measure::ValueCount { bounds, .. }
        | Measure::ValueSum { bounds, .. }
        | Measure::ValueAvg { bounds, .. } => Some(bounds),
        Measure::Temporal { .. } | Measure::TemporalOrdered { .. } => None,
    }
}

/// When exemplars begin, in seconds since the epoch: the first second of a day.
const START: u32 = 20_000 * 86_400;

/// Bytes for the groups of an exemplar.
const MEMORY: usize = 8 << 20;
