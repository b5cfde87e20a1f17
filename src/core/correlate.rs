//! Correlation: what many requests have in common, which none of them shows alone.
//!
//! An [`Observation`] is what is left of a request: which signatures held, and keyed hashes of its
//! account, network, template. A [`Correlator`] counts them by group and window, and tells which
//! correlations hold. It has no clock, no storage and no network: the same code runs in Durable
//! Objects and over recorded files.
#![deny(clippy::arithmetic_side_effects)]

pub mod batch;
pub mod cluster;
mod deferral;
mod distinct_sample;
mod group_key;
mod group_table;
pub mod indicator;
mod plan;
mod refire;
mod sequence;
mod singletons;
mod sketch;
mod snapshot;
mod window_sum;

use std::sync::Arc;

use distinct_sample::is_within;
pub use distinct_sample::{DistinctValues, MAX_EXACT_VALUES, MAX_SAMPLED_VALUES, SampledValue};
use group_key::GroupKey;
pub(crate) use group_key::{GroupKeys, group_keys};
pub use group_table::PARTITIONS;
use group_table::{Group, GroupState, GroupTable};
pub use plan::Plan;
use plan::{Aggregate, Aggregation, EventSource, Predicate, Rule, StateKind, group_table_key};
use refire::RefireLimiter;
use sequence::OrderedMatch;
use singletons::SingletonTable;
pub use window_sum::BUCKETS;
use window_sum::WindowSum;

pub use crate::engine::{Evaluation, LocalEngine};
use crate::keyed_hash::{combine_hashes, fmix64};
use crate::rules::correlation::Threshold;

/// What correlation keeps of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// When it came, in seconds since the epoch.
    pub at: u32,
    /// The signatures that held, by their place in [`Plan::rules`].
    pub signatures: Vec<u16>,
    /// Hashes of values, by the place of their field in [`Plan::fields`], in that order.
    pub values: Vec<(u16, u64)>,
    /// Numbers, likewise.
    pub numbers: Vec<(u16, f64)>,
}

/// A correlation that holds for a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// Its place in the plan.
    pub correlation: usize,
    /// The group: its values, hashed together.
    pub key: u64,
    /// The values.
    pub values: Vec<u64>,
    /// When, in seconds since the epoch.
    pub at: u32,
    /// What was measured.
    pub value: f64,
    /// Accounts of the group, as hashes; a sample where there are many.
    pub accounts: Vec<u64>,
}

/// Which groups a correlator has: those whose first value falls to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

/// Counts observations.
#[derive(Debug)]
pub struct Correlator {
    plan: Arc<Plan>,
    shard: Shard,
    /// Bytes that table and shelf may take.
    max_bytes: usize,
    table: GroupTable,
    singletons: SingletonTable,
    refire_limiter: RefireLimiter,
    /// Whether keys of one account are put aside.
    deferral_enabled: bool,
    observation_count: u32,
    /// Used again for every observation.
    group_keys: GroupKeys,
    hits: Vec<AggregationHit>,
    /// Which of the groups only wait.
    deferred: Vec<bool>,
    /// Which rules held, a bit each.
    signature_bits: Vec<u64>,
}

/// Values of a field that are counted of one request; further ones are left out.
pub const MAX_VALUES_PER_FIELD: usize = 64;

/// How far an observation's clock may be ahead, in seconds; what is further ahead is taken to be now.
const MAX_CLOCK_AHEAD: u32 = 60;

/// How late an observation may come, in seconds, and still find its group.
const ALLOWED_LATENESS: u32 = 60;

/// Observations between two looks for groups that have expired.
const OBSERVATIONS_PER_SWEEP: u32 = 4;

/// Of a group's values, one in so many events is waited for before they are all looked at again.
const RECHECK_DIVISOR: usize = 32;

impl Shard {
    /// All groups.
    pub const ALL: Self = Self { index: 0, count: 1 };

    /// The number of the one among `of` that has the groups of a first value.
    pub fn owner(first_value: u64, count: u32) -> u32 {
        let index = fmix64(first_value).checked_rem(u64::from(count)).unwrap_or_default();
        u32::try_from(index).unwrap_or_default()
    }

    /// Whether it has the groups of a first value.
    pub fn owns(self, first_value: u64) -> bool {
        Self::owner(first_value, self.count) == self.index
    }
}

impl Observation {
    /// The values of a field.
    pub fn values(&self, field: u16) -> &[(u16, u64)] {
        let from = self.values.partition_point(|(index, _)| *index < field);
        let until = self.values.partition_point(|(index, _)| *index <= field);
        let until = until.min(from.saturating_add(MAX_VALUES_PER_FIELD));
        self.values.get(from..until).unwrap_or_default()
    }

    /// The account, hashed.
    pub fn account(&self) -> u64 {
        // It is the plan's first field.
        self.values(0).first().map_or(0, |(_, hash)| *hash)
    }

    /// Whether it has what a tracker counts, sums or tells apart.
    fn has_input_for(&self, aggregation: &Aggregation) -> bool {
        match (aggregation.kind, aggregation.field) {
            (StateKind::Distinct, Some(field)) => !self.values(field).is_empty(),
            (StateKind::Sum, Some(field)) => self.number(field).is_some(),
            _ => true,
        }
    }

    fn number(&self, field: u16) -> Option<f64> {
        self.numbers.iter().find(|(index, _)| *index == field).map(|(_, number)| *number)
    }
}

/// An event of a tracker: which of its rules, and for which first value, where not for all.
#[derive(Debug)]
struct AggregationHit {
    aggregation: usize,
    event: usize,
    first_value: Option<u64>,
}

impl Correlator {
    /// A correlator for a shard that takes no more than `limit` bytes for its groups.
    pub fn new(plan: Arc<Plan>, shard: Shard, max_bytes: usize) -> Self {
        let deferral_enabled = plan.group_bys.iter().any(|group_by| group_by.deferral.is_some());
        let singletons = SingletonTable::new(if deferral_enabled { max_bytes / 2 } else { 0 });
        Self {
            plan,
            shard,
            max_bytes,
            table: GroupTable::new(max_bytes.saturating_sub(singletons.max_bytes())),
            singletons,
            refire_limiter: RefireLimiter::default(),
            deferral_enabled,
            observation_count: 0,
            group_keys: GroupKeys::default(),
            hits: Vec::new(),
            deferred: Vec::new(),
            signature_bits: Vec::new(),
        }
    }

    /// Counts an observation; what holds by it is added to `firings`. `now` is the time, in seconds
    /// since the epoch.
    pub fn observe(&mut self, observation: &Observation, now: u32, firings: &mut Vec<Firing>) {
        let plan = Arc::clone(&self.plan);
        let at = observation.at.min(now.saturating_add(MAX_CLOCK_AHEAD));
        let at = if observation.at > at { now } else { at };
        let mut signature_bits = std::mem::take(&mut self.signature_bits);
        signature_bits.clear();
        signature_bits.resize(plan.signatures().len().div_ceil(64), 0);
        for signature in &observation.signatures {
            let word = signature_bits.get_mut(usize::from(*signature / 64));
            word.into_iter().for_each(|word| *word |= 1 << (signature % 64));
        }
        let event = EventContext {
            plan: &plan,
            observation,
            signature_bits: &signature_bits,
            solo_history: None,
            at,
            now,
        };
        let mut satisfied: Vec<(usize, u64)> = Vec::new();
        let mut hits = std::mem::take(&mut self.hits);
        for (group_by_index, group_by) in plan.group_bys.iter().enumerate() {
            hits.clear();
            for index in group_by.aggregations.iter().copied() {
                let Some(aggregation) = plan.aggregations.get(index) else { continue };
                find_hits(index, aggregation, &event, &[], &mut hits);
            }
            if !hits.is_empty() {
                self.load_groups(&group_by.fields, observation);
                self.defer(&event, group_by_index, &hits);
                self.update_groups(&event, &hits, &mut satisfied, firings);
            }
        }
        self.deferred.clear();
        for (index, aggregation) in plan
            .aggregations
            .iter()
            .enumerate()
            .filter(|(_, aggregation)| aggregation.has_correlation_events())
        {
            hits.clear();
            find_hits(index, aggregation, &event, &satisfied, &mut hits);
            if !hits.is_empty() {
                self.load_groups(&aggregation.group_fields, observation);
                self.update_groups(&event, &hits, &mut satisfied, firings);
            }
        }
        (self.hits, self.signature_bits) = (hits, signature_bits);
        self.observation_count = self.observation_count.wrapping_add(1);
        if self.observation_count.is_multiple_of(OBSERVATIONS_PER_SWEEP) {
            self.table.sweep(now, &|index| group_retention(&plan, index));
        }
    }

    /// Begins every group with its first account: what tests compare with.
    pub fn without_deferral(mut self) -> Self {
        self.deferral_enabled = false;
        self
    }

    /// Tells of correlations that only feed others, too: their exemplars want to know.
    pub fn fire_intermediates(&mut self) {
        self.refire_limiter.fires_intermediates = true;
        self.deferral_enabled = false;
    }

    /// Forgets that a correlation was told to hold for a key, so that it is told again.
    pub fn forget_firing(&mut self, name: &str, key: u64) {
        let position =
            self.plan.correlations.iter().position(|correlation| correlation.name == name);
        if let Some(index) = position.and_then(|index| u16::try_from(index).ok()) {
            self.refire_limiter.forget((key, index));
            self.table.mark_dirty(key);
        }
    }

    /// Bytes that groups take.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes().saturating_add(self.singletons.heap_bytes())
    }

    /// The number of groups, with those that only wait to begin.
    pub fn group_count(&self) -> usize {
        self.table.len().saturating_add(self.singletons.len())
    }

    /// Groups that were given up or not begun for want of room.
    pub fn evicted(&self) -> u64 {
        self.table.evicted
    }

    /// The groups of an observation that are this shard's.
    fn load_groups(&mut self, fields: &[u16], observation: &Observation) {
        group_keys(fields, observation, &mut self.group_keys);
        let shard = self.shard;
        if shard.count > 1 {
            self.group_keys.retain(|first_value| shard.owns(first_value));
        }
        self.group_keys.hash_values();
    }

    /// Counts hits for the groups, but for what waits.
    fn update_groups(
        &mut self,
        event: &EventContext<'_>,
        hits: &[AggregationHit],
        satisfied: &mut Vec<(usize, u64)>,
        firings: &mut Vec<Firing>,
    ) {
        let group_keys = std::mem::take(&mut self.group_keys);
        let deferred = std::mem::take(&mut self.deferred);
        for hits in hits.chunk_by(|left, right| left.aggregation == right.aggregation) {
            let index = hits.first().map_or(usize::MAX, |hit| hit.aggregation);
            let Some(aggregation) = event.plan.aggregations.get(index) else { continue };
            let deferral_flags = deferred.iter().copied().chain(std::iter::repeat(false));
            let keys = || {
                let should_update = |(_, is_deferred): &(GroupKey<'_>, bool)| {
                    !is_deferred || aggregation.deferral_bit.is_none()
                };
                group_keys
                    .keys()
                    .zip(deferral_flags.clone())
                    .filter(should_update)
                    .map(|(key, _)| key)
            };
            self.table.prefetch(keys().map(|key| group_table_key(aggregation, key.values_hash)));
            let context = event.for_aggregation(aggregation);
            for key in keys().filter(|key| hits.iter().any(|hit| hit.belongs_to(key.first_value())))
            {
                self.update_group(&context, key, hits, satisfied, firings);
            }
        }
        (self.group_keys, self.deferred) = (group_keys, deferred);
    }

    /// Counts for one group; what holds.
    fn update_group(
        &mut self,
        context: &AggregationContext<'_>,
        key: GroupKey<'_>,
        hits: &[AggregationHit],
        satisfied: &mut Vec<(usize, u64)>,
        firings: &mut Vec<Firing>,
    ) {
        let AggregationContext {
            event: EventContext { plan, observation, at, now, .. },
            aggregation,
            ..
        } = *context;
        let (values_hash, first_value) = (key.values_hash, key.first_value());
        let table_key = group_table_key(aggregation, values_hash);
        let index = hits.first().map_or(usize::MAX, |hit| hit.aggregation);
        let new_group = || Group {
            key: table_key,
            aggregation: u16::try_from(index).unwrap_or(u16::MAX),
            newest: at,
            skip_checks: 0,
            state: GroupState::new(aggregation),
        };
        // A sequence begins with its first rule.
        let may_create =
            aggregation.kind != StateKind::Ordered || hits.iter().any(|hit| hit.event == 0);
        if !may_create && !self.table.contains(table_key) {
            return;
        }
        let retention = |index: u16| group_retention(plan, index);
        let (refire_limiter, firings_before) = (&mut self.refire_limiter, firings.len());
        self.table.update(
            (table_key, observation.account()),
            now,
            &retention,
            new_group,
            |group| {
                // Clocks jump: what seems to come from the future is forgotten, and so is what is over.
                let is_expired = !is_within(group.newest, at, aggregation.max_window());
                let is_from_future = group.newest > now.saturating_add(MAX_CLOCK_AHEAD);
                if is_expired || is_from_future {
                    group.state = GroupState::new(aggregation);
                    (group.newest, group.skip_checks) = (at, 0);
                }
                group.newest = group.newest.max(at);
                let skip_check = group.skip_checks > 0;
                group.skip_checks = group.skip_checks.saturating_sub(1);
                let matching_hits = hits.iter().filter(|hit| hit.belongs_to(first_value));
                group.state.record(context, group.newest, matching_hits.map(|hit| hit.event));
                for rule in &aggregation.rules {
                    // Measuring takes long, for nothing where it was told and nobody is fed by it.
                    let feeds_others =
                        plan.feeds_others.get(rule.correlation).is_some_and(|feeds| *feeds);
                    if !feeds_others
                        && !refire_limiter.is_due(plan, rule.correlation, values_hash, at)
                    {
                        continue;
                    }
                    let Some(value) = group.state.measure(context, rule, group.newest) else {
                        continue;
                    };
                    if skip_check && rule.predicate.checks_coordination()
                        || !group.meets_coordination(context, rule)
                    {
                        continue;
                    }
                    satisfied.push((rule.correlation, first_value));
                    if !key.values.is_empty()
                        && refire_limiter.should_fire(plan, rule.correlation, values_hash, at)
                    {
                        let accounts = group.state.accounts(context, rule, group.newest);
                        firings.push(context.firing(rule, key.values, value, accounts));
                    }
                }
            },
        );
        // It is written down with the part of its key, which need not be that of the group.
        firings.iter().skip(firings_before).for_each(|firing| self.table.mark_dirty(firing.key));
    }
}

impl AggregationHit {
    fn belongs_to(&self, first_value: u64) -> bool {
        self.first_value.is_none_or(|value| value == first_value)
    }
}

/// What is being counted, and when.
#[derive(Clone, Copy)]
struct EventContext<'t> {
    plan: &'t Plan,
    observation: &'t Observation,
    /// Which of the plan's rules held, a bit each.
    signature_bits: &'t [u64],
    /// Where that was put aside: since when its account has the key, and with how many events.
    solo_history: Option<(u32, u16)>,
    at: u32,
    now: u32,
}

/// And where.
#[derive(Clone, Copy)]
struct AggregationContext<'t> {
    event: EventContext<'t>,
    aggregation: &'t Aggregation,
    /// The values of the tracker's field.
    values: &'t [(u16, u64)],
}

impl<'t> EventContext<'t> {
    fn for_aggregation(self, aggregation: &'t Aggregation) -> AggregationContext<'t> {
        let values = aggregation.field.map(|field| self.observation.values(field));
        AggregationContext { event: self, aggregation, values: values.unwrap_or_default() }
    }
}

impl AggregationContext<'_> {
    fn firing(&self, rule: &Rule, values: &[u64], value: f64, accounts: Vec<u64>) -> Firing {
        let (correlation, at) = (rule.correlation, self.event.at);
        Firing {
            correlation,
            key: combine_hashes(values),
            values: values.to_vec(),
            at,
            value,
            accounts,
        }
    }
}

impl Group {
    /// Whether its values are as coordinated as a correlation asks. To look at many of them takes
    /// long: where they are not, that rests until a few in a hundred are new.
    fn meets_coordination(&mut self, context: &AggregationContext<'_>, rule: &Rule) -> bool {
        let (Predicate::Thresholds { coordination, .. }, GroupState::Distinct(distinct_values)) =
            (&rule.predicate, &self.state)
        else {
            return true;
        };
        let window = context.aggregation.windows.get(rule.window).copied().unwrap_or_default();
        let is_coordinated = distinct_values.meets(coordination, rule.window, window, self.newest);
        if !is_coordinated {
            let value_count =
                distinct_values.values_in_window(rule.window, window, self.newest).count();
            self.skip_checks = u16::try_from(value_count / RECHECK_DIVISOR).unwrap_or(u16::MAX);
        }
        is_coordinated
    }
}

impl GroupState {
    fn new(aggregation: &Aggregation) -> Self {
        match aggregation.kind {
            StateKind::Distinct => Self::Distinct(DistinctValues::Exact(Vec::new())),
            StateKind::Sum => Self::Sum(WindowSum::default()),
            StateKind::LastSeen => {
                Self::LastSeen(sequence::LastSeen::new(aggregation.events.len()))
            }
            StateKind::Ordered => Self::Ordered(OrderedMatch::new(aggregation.events.len())),
        }
    }

    fn record(
        &mut self,
        context: &AggregationContext<'_>,
        newest: u32,
        hits: impl DoubleEndedIterator<Item = usize>,
    ) {
        let AggregationContext { event: EventContext { observation, at, .. }, aggregation, values } =
            *context;
        let window = aggregation.max_window();
        let field = aggregation.field;
        match self {
            Self::Distinct(distinct_values) => {
                for (_, hash) in values {
                    distinct_values.record(*hash, at, newest, &aggregation.windows);
                    if let Some(solo_history) = context.event.solo_history {
                        distinct_values.backfill(*hash, solo_history, &aggregation.windows);
                    }
                }
            }
            Self::Sum(window_sum) => {
                let number = match field {
                    None => Some(1.0),
                    Some(field) => observation.number(field),
                };
                if let Some(number) = number {
                    let recent_events = |(first_seen, events)| {
                        distinct_sample::events_in_window(
                            events,
                            at.saturating_sub(first_seen),
                            window,
                        )
                    };
                    let events = context.event.solo_history.map_or(1, recent_events);
                    window_sum.add((number, events), at, newest, window);
                }
            }
            Self::LastSeen(last_seen) => hits.for_each(|event| last_seen.record(event, at)),
            Self::Ordered(ordered_match) => {
                let value = values.first().map(|(_, hash)| *hash);
                // From the last rule on: no request follows itself.
                hits.rev().for_each(|event| ordered_match.record(event, at, value));
            }
        }
    }

    /// What a correlation measures, where its bounds hold.
    fn measure(&self, context: &AggregationContext<'_>, rule: &Rule, newest: u32) -> Option<f64> {
        let window = *context.aggregation.windows.get(rule.window)?;
        let (value, is_satisfied) = match (self, &rule.predicate) {
            (Self::Distinct(distinct_values), Predicate::Thresholds { thresholds, .. }) => {
                let count = distinct_values.count(rule.window, window, newest);
                (count, Threshold::all_satisfied(thresholds, count))
            }
            (Self::Sum(window_sum), Predicate::Thresholds { aggregate, thresholds, .. }) => {
                let (count, sum) = window_sum.total(newest, window);
                let value = match aggregate {
                    Aggregate::Sum => sum,
                    Aggregate::Mean => sum / count.max(1.0),
                    Aggregate::EventCount | Aggregate::ValueCount => count,
                };
                (value, count > 0.0 && Threshold::all_satisfied(thresholds, value))
            }
            (Self::LastSeen(last_seen), Predicate::Temporal(condition, rule_names)) => {
                let was_hit = |name: &str| {
                    let event = rule_names.iter().position(|rule_name| rule_name == name);
                    event.is_some_and(|event| last_seen.was_hit(event, newest, window))
                };
                if !condition.holds(&mut |name| was_hit(name)) {
                    return None;
                }
                (rule_names.iter().filter(|rule_name| was_hit(rule_name)).count() as f64, true)
            }
            (Self::Ordered(ordered_match), Predicate::TemporalOrdered) => {
                (context.aggregation.events.len() as f64, ordered_match.is_complete(newest, window))
            }
            _ => return None,
        };
        is_satisfied.then_some(value)
    }

    /// The accounts that share a group, as far as they are known.
    fn accounts(&self, context: &AggregationContext<'_>, rule: &Rule, newest: u32) -> Vec<u64> {
        let window = context.aggregation.windows.get(rule.window).copied().unwrap_or_default();
        match self {
            Self::Distinct(distinct_values) if context.aggregation.field == Some(0) => {
                distinct_values
                    .values_in_window(rule.window, window, newest)
                    .map(|value| value.hash)
                    .collect()
            }
            // Who has no account has none in common with others.
            _ => Some(context.event.observation.account())
                .filter(|account| *account != 0)
                .into_iter()
                .collect(),
        }
    }
}

/// Finds the events of a tracker in an observation and in what holds by it.
fn find_hits(
    aggregation_index: usize,
    aggregation: &Aggregation,
    event: &EventContext<'_>,
    satisfied: &[(usize, u64)],
    hits: &mut Vec<AggregationHit>,
) {
    let mut words = aggregation.signature_bits.iter().zip(event.signature_bits);
    let is_hit = words.any(|(mask, bits)| mask & bits != 0);
    if !is_hit && satisfied.is_empty() || !event.observation.has_input_for(aggregation) {
        return;
    }
    // To these all events are the same.
    if is_hit && matches!(aggregation.kind, StateKind::Distinct | StateKind::Sum) {
        hits.push(AggregationHit { aggregation: aggregation_index, event: 0, first_value: None });
        return;
    }
    for (event_index, source) in aggregation.events.iter().enumerate() {
        match source {
            EventSource::Signature(index) => {
                let word = event.signature_bits.get(index / 64).copied().unwrap_or_default();
                if word >> (index % 64) & 1 == 1 {
                    hits.push(AggregationHit {
                        aggregation: aggregation_index,
                        event: event_index,
                        first_value: None,
                    });
                }
            }
            EventSource::Correlation(index) => {
                let matching = satisfied.iter().filter(|(correlation, _)| correlation == index);
                let to_hit = |first_value: u64| AggregationHit {
                    aggregation: aggregation_index,
                    event: event_index,
                    first_value: Some(first_value),
                };
                hits.extend(matching.map(|(_, first_value)| to_hit(*first_value)));
            }
        }
    }
}

/// How long after its latest event a tracker's group is kept.
fn group_retention(plan: &Plan, index: u16) -> u32 {
    let max_window = plan.aggregations.get(usize::from(index)).map_or(0, Aggregation::max_window);
    max_window.saturating_add(ALLOWED_LATENESS)
}
