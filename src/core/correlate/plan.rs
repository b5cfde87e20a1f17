//! From correlations to what is tracked for them: correlations that look at the same thing share it.

use std::collections::{BTreeSet, HashMap};

use super::deferral::DeferralPlan;
use super::{Observation, Shard};
use crate::correlate::indicator::MAX_NAME_BYTES;
use crate::error::Error;
use crate::field::{Field, FieldId};
use crate::keyed_hash::{HashKey, fmix64, fmix64_inverse};
use crate::rules::correlation::{
    Coordination, Correlation, MAX_GROUP_BY_FIELDS, Measure, TIMESPAN_RANGE_SECONDS, Threshold,
};
use crate::rules::signature::Condition;

/// Correlations, compiled.
#[derive(Debug, Default)]
pub struct Plan {
    /// The correlations, in the ruleset's order.
    pub(super) correlations: Vec<Correlation>,
    signatures: Vec<String>,
    fields: Vec<Field>,
    /// What is tracked; that which is fed by correlations stands behind the rest.
    pub(super) aggregations: Vec<Aggregation>,
    /// What makes groups, each combination of fields once.
    pub(super) group_bys: Vec<GroupBy>,
    /// Whether a correlation is an event of another.
    pub(super) feeds_others: Vec<bool>,
}

/// Fields whose values make groups.
#[derive(Debug)]
pub(super) struct GroupBy {
    pub fields: Vec<u16>,
    /// The trackers that count nothing but signatures by them.
    pub aggregations: Vec<usize>,
    /// What waits for a second account.
    pub deferral: Option<DeferralPlan>,
}

/// Something that is tracked for every group.
#[derive(Debug)]
pub(super) struct Aggregation {
    /// Stays the same as long as it tracks the same.
    pub id: u64,
    /// Its events, by rule.
    pub events: Vec<EventSource>,
    /// The signatures among them, a bit each.
    pub signature_bits: Vec<u64>,
    pub group_fields: Vec<u16>,
    /// The field that is counted, summed or told apart.
    pub field: Option<u16>,
    pub kind: StateKind,
    /// The times that are looked back; where events are counted by value, that is over the first.
    pub windows: Vec<u32>,
    /// That one, where there is one.
    coordination_window: Option<u32>,
    /// What is asked of it.
    pub rules: Vec<Rule>,
    /// The first of its bits in what is put aside, if it waits.
    pub deferral_bit: Option<u8>,
}

/// How a tracker's state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateKind {
    Distinct,
    Sum,
    LastSeen,
    Ordered,
}

/// What makes an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventSource {
    /// A hit of a signature: its place in [`Plan::rules`].
    Signature(usize),
    /// A correlation that holds.
    Correlation(usize),
}

/// A correlation's question to a tracker.
#[derive(Debug)]
pub(super) struct Rule {
    pub correlation: usize,
    /// The number of its window.
    pub window: usize,
    pub predicate: Predicate,
}

/// When a correlation holds.
#[derive(Debug)]
pub(super) enum Predicate {
    /// By a number.
    Thresholds { aggregate: Aggregate, thresholds: Vec<Threshold>, coordination: Coordination },
    /// By the rules that were seen.
    Temporal(Condition, Vec<String>),
    /// By a whole sequence.
    TemporalOrdered,
}

/// Which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    ValueCount,
    EventCount,
    Sum,
    Mean,
}

impl Plan {
    /// Compiles correlations. Rules are names of signatures, or of correlations without such rules.
    pub fn new(correlations: Vec<Correlation>, signatures: &BTreeSet<&str>) -> Result<Self, Error> {
        let mut plan = Self { correlations: Vec::new(), ..Self::default() };
        // Their accounts are what links groups.
        plan.intern_field(&Field::Known(FieldId::Account));
        let correlation_indexes: HashMap<&str, usize> = correlations
            .iter()
            .enumerate()
            .map(|(index, correlation)| (correlation.name.as_str(), index))
            .collect();
        let (mut direct, mut nested) = (Vec::new(), Vec::new());
        for (index, correlation) in correlations.iter().enumerate() {
            validate(correlation)?;
            let mut events = Vec::new();
            for name in &correlation.rules {
                events.push(match correlation_indexes.get(name.as_str()) {
                    Some(inner_index) => {
                        validate_nesting(
                            correlation,
                            correlations.get(*inner_index),
                            &correlation_indexes,
                        )?;
                        EventSource::Correlation(*inner_index)
                    }
                    None if signatures.contains(name.as_str()) => {
                        EventSource::Signature(plan.intern_signature(name))
                    }
                    None => {
                        return Err(error(
                            correlation,
                            &format!("there is no rule '{name}'"),
                            "name a signature or a correlation",
                        ));
                    }
                });
            }
            let is_direct = events.iter().all(|event| matches!(event, EventSource::Signature(_)));
            let aggregations = if is_direct { &mut direct } else { &mut nested };
            plan.add_rule(index, correlation, events, aggregations);
        }
        direct.append(&mut nested);
        direct.iter_mut().for_each(Aggregation::finalize);
        let is_event_source = |index: usize| {
            let mut events = direct.iter().flat_map(|aggregation| &aggregation.events);
            events.any(|source| *source == EventSource::Correlation(index))
        };
        plan.feeds_others = (0..correlations.len()).map(is_event_source).collect();
        plan.aggregations = direct;
        plan.correlations = correlations;
        plan.build_group_bys();
        Ok(plan)
    }

    /// The correlations, in the ruleset's order.
    pub fn correlations(&self) -> &[Correlation] {
        &self.correlations
    }

    /// The signatures that are events of some correlation.
    pub fn signatures(&self) -> &[String] {
        &self.signatures
    }

    /// The fields that are looked at; the account is the first.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The fields that make groups, each combination once.
    pub fn group_by_fields(&self) -> impl Iterator<Item = &[u16]> {
        self.group_bys.iter().map(|group_by| group_by.fields.as_slice())
    }

    /// The numbers of the shards, among `of`, that have a group which an observation counts for.
    pub fn owners(&self, observation: &Observation, shard_count: u32) -> Vec<u32> {
        let is_hit = |source: &EventSource| match source {
            EventSource::Signature(index) => {
                observation.signatures.iter().any(|signature| usize::from(*signature) == *index)
            }
            // Counted where the group of the correlation is.
            EventSource::Correlation(_) => false,
        };
        let hit_aggregations =
            self.aggregations.iter().filter(|aggregation| aggregation.events.iter().any(is_hit));
        let first_fields = hit_aggregations
            .filter_map(|aggregation| aggregation.group_fields.first())
            .collect::<BTreeSet<_>>();
        let values = first_fields.into_iter().flat_map(|field| observation.values(*field));
        let owners: BTreeSet<u32> =
            values.map(|(_, hash)| Shard::owner(*hash, shard_count)).collect();
        owners.into_iter().collect()
    }

    /// Whether there is nothing to be counted.
    pub fn is_empty(&self) -> bool {
        self.correlations.is_empty()
    }

    /// The place of a field.
    fn intern_field(&mut self, field: &Field) -> u16 {
        let existing = self.fields.iter().position(|interned| interned == field);
        let index = existing.unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len().saturating_sub(1)
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    fn intern_signature(&mut self, signature: &str) -> usize {
        self.signatures.iter().position(|interned| interned == signature).unwrap_or_else(|| {
            self.signatures.push(signature.to_owned());
            self.signatures.len().saturating_sub(1)
        })
    }

    /// Gathers the trackers that make the same groups.
    fn build_group_bys(&mut self) {
        for (index, aggregation) in self.aggregations.iter().enumerate() {
            let fields = &aggregation.group_fields;
            let existing = self.group_bys.iter().position(|group_by| group_by.fields == *fields);
            let group_by_index = existing.unwrap_or_else(|| {
                let (fields, aggregations) = (fields.clone(), Vec::new());
                self.group_bys.push(GroupBy { fields, aggregations, deferral: None });
                self.group_bys.len().saturating_sub(1)
            });
            if let Some(group_by) = self.group_bys.get_mut(group_by_index)
                && !aggregation.has_correlation_events()
            {
                group_by.aggregations.push(index);
            }
        }
        for group_by in &mut self.group_bys {
            group_by.deferral =
                DeferralPlan::build(group_by, &mut self.aggregations, &self.correlations);
        }
    }

    fn add_rule(
        &mut self,
        correlation_index: usize,
        correlation: &Correlation,
        events: Vec<EventSource>,
        aggregations: &mut Vec<Aggregation>,
    ) {
        let group_fields: Vec<u16> =
            correlation.group_by.iter().map(|field| self.intern_field(field)).collect();
        let field = correlation.field().map(|field| self.intern_field(field));
        let (kind, predicate) = compile_measure(correlation);
        let id = aggregation_id(correlation, kind);
        let coordination_window =
            (!correlation.coordination.is_empty()).then_some(correlation.timespan);
        let is_compatible = |other: Option<u32>| {
            other.is_none() || coordination_window.is_none() || other == coordination_window
        };
        let existing = aggregations.iter_mut().find(|aggregation| {
            aggregation.id == id && is_compatible(aggregation.coordination_window)
        });
        let aggregation = match existing {
            Some(aggregation) => aggregation,
            None => {
                let (windows, rules, deferral_bit) = (Vec::new(), Vec::new(), None);
                let signature_bits = Vec::new();
                aggregations.push(Aggregation {
                    id,
                    events,
                    signature_bits,
                    group_fields,
                    field,
                    kind,
                    windows,
                    coordination_window,
                    rules,
                    deferral_bit,
                });
                let Some(aggregation) = aggregations.last_mut() else { return };
                aggregation
            }
        };
        let existing_window =
            aggregation.windows.iter().position(|window| *window == correlation.timespan);
        let window_index = existing_window.unwrap_or_else(|| {
            aggregation.windows.push(correlation.timespan);
            aggregation.windows.len().saturating_sub(1)
        });
        aggregation.rules.push(Rule {
            correlation: correlation_index,
            window: window_index,
            predicate,
        });
        aggregation.coordination_window = aggregation.coordination_window.or(coordination_window);
    }
}

impl Predicate {
    /// Whether it takes a look at all values of a group.
    pub fn checks_coordination(&self) -> bool {
        matches!(self, Self::Thresholds { coordination, .. } if !coordination.is_empty())
    }
}

impl Aggregation {
    /// How long a group is kept after its latest event.
    pub fn max_window(&self) -> u32 {
        self.windows.iter().copied().max().unwrap_or_default()
    }

    /// After how long without events a value is new.
    pub fn count_window(&self) -> u32 {
        self.windows.first().copied().unwrap_or_default()
    }

    /// Once it is known what is asked of it: gathers its signatures; has the window over which events
    /// are counted come first, and tells it by that.
    fn finalize(&mut self) {
        for source in &self.events {
            let EventSource::Signature(index) = source else { continue };
            let word_index = index / 64;
            self.signature_bits
                .resize(self.signature_bits.len().max(word_index.saturating_add(1)), 0);
            self.signature_bits
                .get_mut(word_index)
                .into_iter()
                .for_each(|bits| *bits |= 1 << (index % 64));
        }
        let Some(coordination_window) = self.coordination_window else { return };
        self.id = fmix64(self.id ^ u64::from(coordination_window));
        let position = self
            .windows
            .iter()
            .position(|window| *window == coordination_window)
            .unwrap_or_default();
        self.windows.swap(0, position);
        for rule in &mut self.rules {
            if rule.window == position {
                rule.window = 0;
            } else if rule.window == 0 {
                rule.window = position;
            }
        }
    }

    /// Whether correlations are among its events.
    pub fn has_correlation_events(&self) -> bool {
        self.events.iter().any(|source| matches!(source, EventSource::Correlation(_)))
    }
}

fn compile_measure(correlation: &Correlation) -> (StateKind, Predicate) {
    let thresholds_predicate = |kind, aggregate, thresholds: &Vec<Threshold>| {
        (
            kind,
            Predicate::Thresholds {
                aggregate,
                thresholds: thresholds.clone(),
                coordination: correlation.coordination,
            },
        )
    };
    match &correlation.measure {
        Measure::EventCount { thresholds } => {
            thresholds_predicate(StateKind::Sum, Aggregate::EventCount, thresholds)
        }
        Measure::ValueCount { thresholds, .. } => {
            thresholds_predicate(StateKind::Distinct, Aggregate::ValueCount, thresholds)
        }
        Measure::ValueSum { thresholds, .. } => {
            thresholds_predicate(StateKind::Sum, Aggregate::Sum, thresholds)
        }
        Measure::ValueAvg { thresholds, .. } => {
            thresholds_predicate(StateKind::Sum, Aggregate::Mean, thresholds)
        }
        Measure::Temporal { condition } => {
            (StateKind::LastSeen, Predicate::Temporal(condition.clone(), correlation.rules.clone()))
        }
        Measure::TemporalOrdered { .. } => (StateKind::Ordered, Predicate::TemporalOrdered),
    }
}

/// A hash over what a tracker tracks. Over which time events are counted by value is not in it.
fn aggregation_id(correlation: &Correlation, kind: StateKind) -> u64 {
    let fields: Vec<String> = correlation.group_by.iter().map(Field::name).collect();
    let field = correlation.field().map(Field::name);
    let mut rule_names: Vec<&str> = correlation.rules.iter().map(String::as_str).collect();
    let timespan = match kind {
        // Values are told apart by time.
        StateKind::Distinct => None,
        _ => Some(correlation.timespan),
    };
    if matches!(kind, StateKind::Distinct | StateKind::Sum) {
        rule_names.sort_unstable();
    }
    let text = format!("{kind:?} {rule_names:?} {fields:?} {field:?} {timespan:?}");
    HashKey::default().keyed_hash("tracker", text.as_bytes())
}

/// What can be asked at all.
fn validate(correlation: &Correlation) -> Result<(), Error> {
    if !TIMESPAN_RANGE_SECONDS.contains(&correlation.timespan) {
        return Err(error(
            correlation,
            "its timespan is not from 10 seconds to 30 days",
            "choose one that is",
        ));
    }
    if !TIMESPAN_RANGE_SECONDS.contains(&correlation.ttl) && correlation.ttl != 0 {
        let problem = "its indicators do not last from 10 seconds to 30 days";
        return Err(error(correlation, problem, "choose a time that is"));
    }
    if correlation.name.len() > MAX_NAME_BYTES {
        let problem = format!("its name is longer than {MAX_NAME_BYTES} bytes");
        return Err(error(correlation, &problem, "shorten it"));
    }
    if correlation.rules.is_empty() {
        return Err(error(correlation, "it has no rules", "name signatures under `rules`"));
    }
    if !(1..=MAX_GROUP_BY_FIELDS).contains(&correlation.group_by.len()) {
        let problem = format!("it groups by {} fields", correlation.group_by.len());
        return Err(error(
            correlation,
            &problem,
            &format!("group by one to {MAX_GROUP_BY_FIELDS} fields"),
        ));
    }
    Ok(())
}

/// What a correlation over correlations needs: both groups must be kept in the same place, and the
/// inner one must look at signatures only.
fn validate_nesting(
    outer: &Correlation,
    inner: Option<&Correlation>,
    correlation_indexes: &HashMap<&str, usize>,
) -> Result<(), Error> {
    let Some(inner) = inner else { return Ok(()) };
    if outer.group_by.first() != inner.group_by.first() {
        let problem = format!("its first field to group by is not that of '{}'", inner.name);
        return Err(error(outer, &problem, "group both by the same field first"));
    }
    if inner.rules.iter().any(|name| correlation_indexes.contains_key(name.as_str())) {
        let problem = format!("'{}' is itself a correlation over correlations", inner.name);
        return Err(error(outer, &problem, "two levels are the most"));
    }
    Ok(())
}

fn error(correlation: &Correlation, problem: &str, remedy: &str) -> Error {
    Error::new(format!("correlation '{}': {problem}", correlation.name), remedy)
}

/// The key of a tracker's group.
pub(super) fn group_table_key(aggregation: &Aggregation, values_hash: u64) -> u64 {
    table_key(aggregation.id, values_hash)
}

/// A key, by what it is for and the values, hashed together.
pub(super) fn table_key(id: u64, values_hash: u64) -> u64 {
    fmix64(id ^ values_hash).max(1)
}

/// The values of a key.
pub(super) fn values_hash_from(id: u64, key: u64) -> u64 {
    fmix64_inverse(key) ^ id
}
