//! Keys that one account has. A prompt that nobody else sends has a dozen template keys, and each key
//! would begin a group for each tracker; so would the templates of a service, time and again. So what
//! an account has sent is put aside, in one small place for each key; the groups begin once another
//! account comes, or the same one with other hits.
//!
//! Only that waits by which nothing can hold as long as there is one account. Who has a key since when
//! is counted as if it had not waited; what an account did alone is taken to be evenly spread over its
//! time.
#![deny(clippy::arithmetic_side_effects)]

use super::plan::{
    Aggregate, Aggregation, EventSource, GroupBy, Plan, Predicate, Rule, StateKind,
    group_table_key, table_key, values_hash_from,
};
use super::singletons::{SeenAt, Singleton};
use super::window_sum::clamp_f32;
use super::{AggregationHit, Correlator, EventContext, GroupKey, Observation, find_hits};
use crate::field::{Field, FieldId};
use crate::keyed_hash::HashKey;
use crate::rules::correlation::{Correlation, Measure, Threshold};
use crate::rules::signature::Condition;

/// What of a grouping waits for a second account.
#[derive(Debug, Default)]
pub(super) struct DeferralPlan {
    /// Stays the same as long as the same waits.
    pub id: u64,
    /// How long a key is remembered.
    retention: u32,
    /// Trackers that wait.
    deferred_aggregations: Vec<usize>,
    /// Trackers that are fed by those.
    fed_aggregations: Vec<usize>,
    /// After how long an account is new again, to the most patient.
    reset_gap: u32,
    /// The field of which there is a mean.
    mean_field: Option<u16>,
}

/// Fewer trackers than this are not worth a place of their own.
const MIN_DEFERRED_AGGREGATIONS: usize = 2;

impl DeferralPlan {
    /// What can wait among the trackers of a grouping; they are told their bits.
    pub fn build(
        group_by: &GroupBy,
        aggregations: &mut [Aggregation],
        correlations: &[Correlation],
    ) -> Option<Self> {
        let mut deferral = Self::default();
        let (mut next_bit, mut id) = (0_u8, String::new());
        for index in group_by.aggregations.iter().copied() {
            let Some(fed) = fed_aggregations(index, aggregations, correlations) else { continue };
            let Some(aggregation) = aggregations.get_mut(index) else { continue };
            let mean_field = aggregation.field.filter(|_| aggregation.kind == StateKind::Sum);
            if deferral.mean_field.is_some()
                && mean_field.is_some()
                && deferral.mean_field != mean_field
            {
                continue;
            }
            let bit_count = hit_bit_count(aggregation);
            let end_bit = next_bit.saturating_add(bit_count);
            if u32::from(end_bit) > u32::BITS {
                continue;
            }
            deferral.mean_field = deferral.mean_field.or(mean_field);
            deferral.reset_gap = deferral.reset_gap.max(aggregation.count_window());
            aggregation.deferral_bit = Some(next_bit);
            next_bit = end_bit;
            deferral.retention = deferral.retention.max(aggregation.max_window());
            id.push_str(&format!("{:x} ", aggregation.id));
            deferral.deferred_aggregations.push(index);
            deferral.fed_aggregations.extend(fed);
        }
        if deferral.deferred_aggregations.len() < MIN_DEFERRED_AGGREGATIONS {
            for aggregation in aggregations
                .iter_mut()
                .filter(|aggregation| aggregation.group_fields == group_by.fields)
            {
                aggregation.deferral_bit = None;
            }
            return None;
        }
        deferral.fed_aggregations.sort_unstable();
        deferral.fed_aggregations.dedup();
        deferral.id = HashKey::default().keyed_hash("aside", id.as_bytes());
        Some(deferral)
    }

    /// What is put aside of an observation; `None` if it is more than fits, and begins its groups.
    fn to_singleton(
        &self,
        event: &EventContext<'_>,
        hit_bits: u32,
        group_by: u16,
    ) -> Option<Singleton> {
        let [(_, account)] = event.observation.values(0) else { return None };
        let mean = self.mean_field.and_then(|field| event.observation.number(field));
        let mean = mean.map_or(f32::NAN, clamp_f32);
        let singleton = Singleton {
            account: *account,
            first_seen: event.at,
            mean,
            event_count: 1,
            hit_bits,
            group_by,
        };
        (*account != 0).then_some(singleton)
    }

    /// The observation that was put aside, as far as those that waited look at it.
    fn to_observation(&self, singleton: &Singleton, at: u32) -> Observation {
        let mean_field = self.mean_field.filter(|_| !singleton.mean.is_nan());
        Observation {
            at,
            signatures: Vec::new(),
            // The account is the plan's first field.
            values: vec![(0, singleton.account)],
            numbers: mean_field
                .map(|field| (field, f64::from(singleton.mean)))
                .into_iter()
                .collect(),
        }
    }
}

impl Correlator {
    /// Puts an observation aside for those of its keys that no other account has had, and begins the
    /// groups of those that one has. Which keys wait is left in `self.waits`.
    pub(super) fn defer(
        &mut self,
        event: &EventContext<'_>,
        group_by_index: usize,
        hits: &[AggregationHit],
    ) {
        self.deferred.clear();
        let group_by = event.plan.group_bys.get(group_by_index);
        let deferral = group_by.and_then(|group_by| group_by.deferral.as_ref());
        let Some(deferral) = deferral.filter(|_| self.deferral_enabled) else { return };
        let hit_bits = hits.iter().fold(0, |combined, hit| combined | hit_mask(event.plan, hit));
        if hit_bits == 0 {
            return;
        }
        let group_by_index = u16::try_from(group_by_index).unwrap_or(u16::MAX);
        let not_deferrable = Singleton { group_by: group_by_index, ..Singleton::default() };
        let singleton =
            deferral.to_singleton(event, hit_bits, group_by_index).unwrap_or(not_deferrable);
        let group_keys = std::mem::take(&mut self.group_keys);
        self.singletons
            .prefetch(group_keys.keys().map(|key| table_key(deferral.id, key.values_hash)));
        for key in group_keys.keys() {
            let aggregations =
                hits.iter().filter_map(|hit| event.plan.aggregations.get(hit.aggregation));
            let (is_deferred, released) = self.swap(
                deferral,
                key.values_hash,
                singleton,
                (event.at, event.now),
                aggregations,
            );
            self.deferred.push(is_deferred);
            if let Some(released) = released {
                self.replay_deferred(event.plan, deferral, key.values_hash, released, event.now);
            }
        }
        self.group_keys = group_keys;
    }

    /// Takes an observation that was put aside in an earlier life, at its time.
    pub(super) fn restore_deferred(
        &mut self,
        plan: &Plan,
        key: u64,
        (singleton, at): (Singleton, u32),
        now: u32,
    ) {
        let group_by = plan.group_bys.get(usize::from(singleton.group_by));
        let Some(deferral) = group_by.and_then(|group_by| group_by.deferral.as_ref()) else {
            return;
        };
        let values_hash = values_hash_from(deferral.id, key);
        let aggregations =
            deferral.deferred_aggregations.iter().filter_map(|index| plan.aggregations.get(*index));
        let (is_deferred, released) =
            self.swap(deferral, values_hash, singleton, (at, now), aggregations);
        let incoming = (singleton.is_pending() && !is_deferred).then_some((singleton, at));
        let mut to_replay: Vec<(Singleton, u32)> = released.into_iter().chain(incoming).collect();
        to_replay.sort_by_key(|(_, at)| *at);
        for deferred in to_replay {
            self.replay_deferred(plan, deferral, values_hash, deferred, now);
        }
    }

    /// Whether a key waits, and what had waited. One that the shelf does not know has others all the
    /// same if there are groups of it, for some of `trackers`: the shelf forgets.
    fn swap<'t>(
        &mut self,
        deferral: &DeferralPlan,
        values_hash: u64,
        singleton: Singleton,
        (at, now): (u32, u32),
        aggregations: impl Iterator<Item = &'t Aggregation>,
    ) -> (bool, Option<(Singleton, u32)>) {
        let key = table_key(deferral.id, values_hash);
        let seen_at =
            SeenAt { at, now, retention: deferral.retention, reset_gap: deferral.reset_gap };
        let free_bytes = self.max_bytes.saturating_sub(self.heap_bytes());
        self.table.mark_dirty(key);
        let mut deferred_aggregations =
            aggregations.filter(|aggregation| aggregation.deferral_bit.is_some());
        let has_groups = || {
            deferred_aggregations
                .any(|aggregation| self.table.contains(group_table_key(aggregation, values_hash)))
        };
        self.singletons.swap(key, singleton, seen_at, free_bytes, has_groups)
    }

    /// Counts an observation that had been put aside, in the groups that now begin.
    fn replay_deferred(
        &mut self,
        plan: &Plan,
        deferral: &DeferralPlan,
        values_hash: u64,
        (singleton, at): (Singleton, u32),
        now: u32,
    ) {
        let observation = deferral.to_observation(&singleton, at);
        let event = EventContext {
            plan,
            observation: &observation,
            signature_bits: &[],
            solo_history: None,
            at,
            now,
        };
        let (mut satisfied, mut firings, mut hits) = (Vec::new(), Vec::new(), Vec::new());
        // Nothing is told by it.
        let key = GroupKey { values: &[], values_hash };
        for index in deferral.deferred_aggregations.iter().copied() {
            let Some(aggregation) = plan.aggregations.get(index) else { continue };
            let all_hits = (0..aggregation.events.len()).map(|event_index| AggregationHit {
                aggregation: index,
                event: event_index,
                first_value: None,
            });
            hits.clear();
            // To trackers of one bit all events are the same.
            let max_hits = if hit_bit_count(aggregation) == 1 { 1 } else { usize::MAX };
            hits.extend(
                all_hits.filter(|hit| singleton.hit_bits & hit_mask(plan, hit) != 0).take(max_hits),
            );
            if !hits.is_empty() {
                let event = EventContext {
                    solo_history: Some(singleton.solo_history(at, aggregation.count_window())),
                    ..event
                };
                self.update_group(
                    &event.for_aggregation(aggregation),
                    key,
                    &hits,
                    &mut satisfied,
                    &mut firings,
                );
            }
        }
        for index in deferral.fed_aggregations.iter().copied() {
            let Some(aggregation) = plan.aggregations.get(index) else { continue };
            hits.clear();
            find_hits(index, aggregation, &event, &satisfied, &mut hits);
            if !hits.is_empty() {
                self.update_group(
                    &event.for_aggregation(aggregation),
                    key,
                    &hits,
                    &mut satisfied,
                    &mut firings,
                );
            }
        }
    }
}

/// The bit of a hit, if its tracker waits.
fn hit_mask(plan: &Plan, hit: &AggregationHit) -> u32 {
    let Some(aggregation) = plan.aggregations.get(hit.aggregation) else { return 0 };
    let Some(bit) = aggregation.deferral_bit else { return 0 };
    // Where all events are the same, one bit is theirs.
    let event_index = if hit_bit_count(aggregation) == 1 { 0 } else { hit.event };
    u32::try_from(event_index)
        .ok()
        .and_then(|event_index| 1_u32.checked_shl(u32::from(bit).saturating_add(event_index)))
        .unwrap_or(0)
}

/// How many bits a tracker's hits take.
fn hit_bit_count(aggregation: &Aggregation) -> u8 {
    match aggregation.kind {
        StateKind::Ordered => u8::try_from(aggregation.events.len()).unwrap_or(u8::MAX),
        _ => 1,
    }
}

/// The trackers that a tracker feeds, if it can wait for a second account: if nothing can hold by a
/// single one but what is told to nobody and makes nothing else hold.
fn fed_aggregations(
    index: usize,
    aggregations: &[Aggregation],
    correlations: &[Correlation],
) -> Option<Vec<usize>> {
    let aggregation = aggregations.get(index)?;
    let is_mean = |rule: &Rule| {
        matches!(rule.predicate, Predicate::Thresholds { aggregate: Aggregate::Mean, .. })
    };
    let can_defer = match aggregation.kind {
        StateKind::Distinct => aggregation.field == Some(0),
        StateKind::Sum => aggregation.rules.iter().all(is_mean),
        // All that is kept of who was first is the account.
        StateKind::Ordered => aggregation.field.is_none_or(|field| field == 0),
        StateKind::LastSeen => false,
    };
    if !can_defer || aggregation.has_correlation_events() {
        return None;
    }
    let mut all_fed = Vec::new();
    for rule in &aggregation.rules {
        let correlation = correlations.get(rule.correlation)?;
        if needs_two_accounts(correlation, correlations) {
            continue;
        }
        let source = EventSource::Correlation(rule.correlation);
        let consumers = aggregations
            .iter()
            .enumerate()
            .filter(|(_, consumer)| consumer.events.contains(&source));
        for (consumer_index, consumer) in consumers {
            let mut consumer_correlations =
                consumer.rules.iter().map(|rule| correlations.get(rule.correlation));
            let need_two_accounts = consumer_correlations.all(|correlation| {
                correlation.is_some_and(|correlation| needs_two_accounts(correlation, correlations))
            });
            let has_only_correlation_events =
                consumer.events.iter().all(|source| matches!(source, EventSource::Correlation(_)));
            let shares_groups = consumer.kind == StateKind::LastSeen
                && consumer.group_fields == aggregation.group_fields;
            if !(need_two_accounts && has_only_correlation_events && shares_groups) {
                return None;
            }
            all_fed.push(consumer_index);
        }
        if !correlation.is_intermediate() {
            return None;
        }
    }
    Some(all_fed)
}

/// Whether a correlation cannot hold by what a single account does.
fn needs_two_accounts(correlation: &Correlation, correlations: &[Correlation]) -> bool {
    let is_account = |field: &Field| *field == Field::Known(FieldId::Account);
    match &correlation.measure {
        Measure::ValueCount { field, thresholds } => {
            is_account(field)
                && !Threshold::all_satisfied(thresholds, 1.0)
                && !Threshold::all_satisfied(thresholds, 0.0)
        }
        Measure::EventCount { .. } | Measure::ValueSum { .. } | Measure::ValueAvg { .. } => false,
        Measure::Temporal { condition } => !may_hold(condition, &|name| {
            let inner = correlations.iter().find(|candidate| candidate.name == name);
            inner.is_none_or(|inner| !needs_two_accounts(inner, correlations))
        }),
        Measure::TemporalOrdered { distinct_by } => {
            correlation.rules.len() > 1 && distinct_by.as_ref().is_some_and(is_account)
        }
    }
}

/// Whether a condition may hold if some of its names may.
fn may_hold(condition: &Condition, name_may_hold: &dyn Fn(&str) -> bool) -> bool {
    match condition {
        Condition::All(inner) => inner.iter().all(|inner| may_hold(inner, name_may_hold)),
        Condition::Any(inner) => inner.iter().any(|inner| may_hold(inner, name_may_hold)),
        Condition::Not(_) => true,
        Condition::Selection(name) => name_may_hold(name),
    }
}
