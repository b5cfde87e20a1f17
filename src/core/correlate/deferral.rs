//! Deferred groups: a group is created only when a second account uses its key.
//!
//! Many keys are used by a single account. For example, a prompt that nobody repeats has up to
//! fourteen template keys, and a service with a single account has templates of its own. Without
//! deferral, each key would create a group in several aggregations. Instead, the events of the
//! first account are kept in one small [`SoleAccountEvents`] per key. The groups are created when
//! another account uses the key, or when the first account has other hits.
//!
//! Only aggregations that cannot fire for a single account are deferred. The number of accounts,
//! and the time at which each account first used the key, are exact. The times of the first
//! account's other events are not stored: the events are assumed to be evenly spread between its
//! first and its latest event.

use super::context::EventContext;
use super::correlator::{Correlator, Findings};
use super::group_key::GroupKey;
use super::hits::{AggregationHit, find_hits};
use super::observation::Observation;
use super::plan::{Aggregation, DeferralPlan, Plan};
use super::singletons::{DeferralOutcome, SeenAt, SoleAccountEvents, TimedSingleton};
use super::window_sum::clamp_f32;

/// A key of one combination of fields, with its deferral.
#[derive(Clone, Copy)]
struct DeferredKey<'p> {
    plan: &'p Plan,
    deferral: &'p DeferralPlan,
    /// Hash over the values of the group.
    values_hash: u64,
    /// Current time, in seconds since the epoch.
    now: u32,
}

impl Correlator {
    /// Defers an observation for each of `group_keys` that no other account has used. Creates the
    /// groups of the keys that now have a second account. Sets `self.deferred`.
    pub(super) fn defer(
        &mut self,
        event: &EventContext<'_>,
        group_by_index: usize,
        hits: &[AggregationHit],
    ) {
        self.deferred.clear();
        let plan = event.plan;
        let group_by = plan.group_bys.get(group_by_index);
        let deferral = group_by.and_then(|group_by| group_by.deferral.as_ref());
        let Some(deferral) = deferral.filter(|_| self.deferral_enabled) else { return };
        let hit_bits = hits.iter().fold(0, |bits, hit| bits | hit_mask(plan, hit));
        if hit_bits == 0 {
            return;
        }
        let singleton = deferral.to_singleton(event, hit_bits, group_by_index);
        let group_keys = std::mem::take(&mut self.group_keys);
        self.singletons.prefetch(group_keys.keys().map(|key| deferral.table_key(key.values_hash)));
        for GroupKey { values_hash, .. } in group_keys.keys() {
            let key = DeferredKey { plan, deferral, values_hash, now: event.now };
            let aggregations = hits.iter().filter_map(|hit| plan.aggregations.get(hit.aggregation));
            let incoming = TimedSingleton { singleton, at: event.at };
            let outcome = self.record_event(key, incoming, aggregations);
            self.deferred.push(outcome.is_deferred);
            if let Some(released) = outcome.released {
                self.replay_deferred(key, released);
            }
        }
        self.group_keys = group_keys;
    }

    /// Restores deferred events from a snapshot. `key` is their key in the singleton table.
    pub(super) fn restore_deferred(
        &mut self,
        plan: &Plan,
        key: u64,
        restored: TimedSingleton,
        now: u32,
    ) {
        let group_by = plan.group_bys.get(usize::from(restored.singleton.group_by));
        let deferral = group_by.and_then(|group_by| group_by.deferral.as_ref());
        let Some(deferral) = deferral else { return };
        let key = DeferredKey { plan, deferral, values_hash: deferral.values_hash_from(key), now };
        let aggregations =
            deferral.deferred_aggregations.iter().filter_map(|index| plan.aggregations.get(*index));
        let DeferralOutcome { is_deferred, released } =
            self.record_event(key, restored, aggregations);
        let is_counted_now = restored.singleton.is_pending() && !is_deferred;
        let restored = is_counted_now.then_some(restored);
        let mut to_replay: Vec<TimedSingleton> = released.into_iter().chain(restored).collect();
        to_replay.sort_by_key(|timed| timed.at);
        to_replay.into_iter().for_each(|timed| self.replay_deferred(key, timed));
    }

    /// Records the events of a key in the singleton table. The table may have evicted the key
    /// although the key has groups. To detect this, the function searches the group table for
    /// groups of `aggregations`.
    fn record_event<'t>(
        &mut self,
        DeferredKey { deferral, values_hash, now, .. }: DeferredKey<'_>,
        incoming: TimedSingleton,
        aggregations: impl Iterator<Item = &'t Aggregation>,
    ) -> DeferralOutcome {
        let key = deferral.table_key(values_hash);
        let seen_at = SeenAt {
            at: incoming.at,
            now,
            retention: deferral.retention,
            reset_gap: deferral.reset_gap,
        };
        let free_bytes = self.max_bytes.saturating_sub(self.heap_bytes());
        self.table.mark_dirty(key);
        let mut deferred_aggregations =
            aggregations.filter(|aggregation| aggregation.deferral_bit.is_some());
        let has_groups = || {
            deferred_aggregations
                .any(|aggregation| self.table.contains(aggregation.table_key(values_hash)))
        };
        self.singletons.record_event(key, incoming.singleton, seen_at, free_bytes, has_groups)
    }

    /// Creates the groups of a key, and counts its deferred events in them. No correlation fires
    /// here, because only the hash of the key's values is known. The event that is counted next
    /// reports the correlations that hold.
    fn replay_deferred(&mut self, key: DeferredKey<'_>, timed: TimedSingleton) {
        let DeferredKey { plan, deferral, values_hash, now } = key;
        let TimedSingleton { singleton, at } = timed;
        let observation = deferral.to_observation(&singleton, at);
        let event = EventContext {
            plan,
            observation: &observation,
            signature_bits: &[],
            earlier_events: None,
            principals: &observation.values,
            at,
            now,
        };
        let mut hits = Vec::new();
        let mut firings = Vec::new();
        let mut findings = Findings { satisfied: Vec::new(), firings: &mut firings };
        let group_key = GroupKey { values: &[], values_hash };
        for index in deferral.deferred_aggregations.iter().copied() {
            let Some(aggregation) = plan.aggregations.get(index) else { continue };
            hits.clear();
            push_deferred_hits(index, aggregation, singleton.hit_bits, &mut hits);
            if !hits.is_empty() {
                let earlier_events = singleton.earlier_events(at, aggregation.count_window());
                let event = EventContext { earlier_events: Some(earlier_events), ..event };
                let context = event.for_aggregation(aggregation);
                self.update_group(&context, group_key, &hits, &mut findings);
            }
        }
        for index in deferral.dependent_aggregations.iter().copied() {
            let Some(aggregation) = plan.aggregations.get(index) else { continue };
            hits.clear();
            find_hits(index, aggregation, &event, &findings.satisfied, &mut hits);
            if !hits.is_empty() {
                let context = event.for_aggregation(aggregation);
                self.update_group(&context, group_key, &hits, &mut findings);
            }
        }
    }
}

impl DeferralPlan {
    /// Returns the singleton for an observation. An observation without an account, or with
    /// several, must not be deferred: its singleton is not pending.
    fn to_singleton(
        &self,
        event: &EventContext<'_>,
        hit_bits: u32,
        group_by_index: usize,
    ) -> SoleAccountEvents {
        let group_by = u16::try_from(group_by_index).unwrap_or(u16::MAX);
        let account = match event.principals {
            [(_, account)] => *account,
            _ => 0,
        };
        if account == 0 {
            return SoleAccountEvents { group_by, ..SoleAccountEvents::default() };
        }
        let mean = self.mean_field.and_then(|field| event.observation.number(field));
        SoleAccountEvents {
            account,
            first_seen: event.at,
            mean: mean.map_or(f32::NAN, clamp_f32),
            event_count: 1,
            group_by,
            hit_bits,
        }
    }

    /// Returns one observation at the time `at` that represents all deferred observations of a
    /// singleton. The observation has only the parts that deferred aggregations read.
    fn to_observation(&self, singleton: &SoleAccountEvents, at: u32) -> Observation {
        let mean_field = self.mean_field.filter(|_| !singleton.mean.is_nan());
        let numbers = mean_field.map(|field| (field, f64::from(singleton.mean)));
        Observation {
            at,
            signatures: Vec::new(),
            // The account is the first field of every plan.
            values: vec![(0, singleton.account)],
            numbers: numbers.into_iter().collect(),
            ..Observation::default()
        }
    }
}

/// Appends the hits of an aggregation that `hit_bits` contains. `hit_bits` is the field of a
/// singleton, and `index` is the index of the aggregation in the plan.
fn push_deferred_hits(
    index: usize,
    aggregation: &Aggregation,
    hit_bits: u32,
    hits: &mut Vec<AggregationHit>,
) {
    // All events share a bit if the aggregation does not distinguish them.
    let max_hits = if aggregation.hit_bit_count() == 1 { 1 } else { usize::MAX };
    let sources = 0..aggregation.sources.len();
    let hit_sources = sources.filter(|source| hit_bits & aggregation.hit_mask(*source) != 0);
    hits.extend(hit_sources.take(max_hits).map(|source| AggregationHit {
        aggregation: index,
        source,
        first_value: None,
    }));
}

/// Returns the bit of a hit in `SoleAccountEvents::hit_bits`; 0 if the aggregation of the hit is
/// not deferred.
fn hit_mask(plan: &Plan, hit: &AggregationHit) -> u32 {
    let aggregation = plan.aggregations.get(hit.aggregation);
    aggregation.map_or(0, |aggregation| aggregation.hit_mask(hit.source))
}
