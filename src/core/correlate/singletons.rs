//! Keys that only one account has used, in bounded memory.
//!
//! The table is set-associative and evicts the least recently seen key of a set. So a flood of keys
//! that only one account uses evicts only keys of this table, and never a group.

use serde::{Deserialize, Serialize};

use super::earlier_events::EarlierEvents;
use super::event_time::{is_from_future, is_within};
use super::group_table::PARTITIONS;
use super::window_sum::clamp_f32;

/// The events of the only account of a key, or a mark that the key has groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoleAccountEvents {
    /// Hash of the account.
    pub account: u64,
    /// Time of the first event of the account with the key, in seconds since the epoch. After
    /// [`SeenAt::reset_gap`] without events, the next event counts as the first.
    pub first_seen: u32,
    /// Mean of a number over the events; NaN if an event lacks the number. Then no aggregation uses
    /// the mean: an event without the number is not a hit of an aggregation that averages it, and
    /// all events have the same hits.
    pub mean: f32,
    /// Number of events of the account with the key.
    pub event_count: u16,
    /// Index of the group-by in the plan.
    pub group_by: u16,
    /// Hits that every event had, as bits of [`Aggregation::hit_mask`]; 0 if the key has groups.
    ///
    /// [`Aggregation::hit_mask`]: super::plan::Aggregation::hit_mask
    pub hit_bits: u32,
}

/// A singleton, with the time of its latest event.
#[derive(Clone, Copy, Debug)]
pub struct TimedSingleton {
    /// Events of the key's only account.
    pub singleton: SoleAccountEvents,
    /// Time of the latest event, in seconds since the epoch.
    pub at: u32,
}

/// The time at which a key was seen, and the time for which keys are remembered.
#[derive(Clone, Copy, Debug)]
pub struct SeenAt {
    /// Time of the event, in seconds since the epoch.
    pub at: u32,
    /// Current time, in seconds since the epoch.
    pub now: u32,
    /// Seconds for which a key is remembered after its latest event.
    pub retention: u32,
    /// Seconds without events after which an account counts as new again.
    pub reset_gap: u32,
}

/// The result of [`SingletonTable::record_event`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DeferralOutcome {
    /// Whether the event is deferred, because its key has only one account.
    pub is_deferred: bool,
    /// Earlier events of the key, which must be counted now; `None` if there are none.
    pub released: Option<TimedSingleton>,
}

/// Singletons by key.
#[derive(Debug)]
pub struct SingletonTable {
    /// Key of each slot; 0 if the slot is empty.
    keys: Vec<u64>,
    /// Time of the latest event of each key, in seconds since the epoch.
    newest: Vec<u32>,
    singletons: Vec<SoleAccountEvents>,
    /// Maximum number of slots.
    max_slots: usize,
}

/// Slots per set.
const WAYS: usize = 8;

/// Slots of a new table.
const INITIAL_SLOTS: usize = PARTITIONS * WAYS;

/// Bytes per slot.
const SLOT_BYTES: usize = size_of::<u64>() + size_of::<u32>() + size_of::<SoleAccountEvents>();

impl SoleAccountEvents {
    /// Returns whether the key waits for a second account.
    pub fn is_pending(&self) -> bool {
        self.hit_bits != 0
    }

    /// Returns the history of the account for an aggregation in which an account counts as new
    /// again after `count_window` seconds without events.
    ///
    /// The latest event was at `at`. The other events are assumed to be evenly spread since
    /// `first_seen`.
    pub fn earlier_events(&self, at: u32, count_window: u32) -> EarlierEvents {
        let gap_count = u32::from(self.event_count.saturating_sub(1)).max(1);
        let gap = at.saturating_sub(self.first_seen).checked_div(gap_count).unwrap_or_default();
        let first_seen = if gap >= count_window { at } else { self.first_seen };
        EarlierEvents { first_seen, event_count: self.event_count }
    }

    /// Returns whether `other` is an event of the same account with the same hits.
    fn has_same_hits(&self, other: &Self) -> bool {
        self.is_pending() && (self.account, self.hit_bits) == (other.account, other.hit_bits)
    }

    /// Adds events of the same account.
    fn merge(&mut self, other: &Self) {
        let sum = |events: &Self| f64::from(events.mean) * f64::from(events.event_count);
        let event_count = f64::from(self.event_count) + f64::from(other.event_count);
        self.first_seen = self.first_seen.min(other.first_seen);
        // In f64, the sum of large numbers stays finite. NaN stays NaN.
        self.mean = clamp_f32((sum(self) + sum(other)) / event_count.max(1.0));
        self.event_count = self.event_count.saturating_add(other.event_count);
    }
}

impl SingletonTable {
    /// Creates a table that grows to at most `max_bytes` bytes, but has at least
    /// [`INITIAL_SLOTS`] slots.
    pub fn new(max_bytes: usize) -> Self {
        let mut max_slots = INITIAL_SLOTS;
        while max_slots.saturating_mul(2).saturating_mul(SLOT_BYTES) <= max_bytes {
            max_slots = max_slots.saturating_mul(2);
        }
        let mut table = Self { keys: vec![], newest: vec![], singletons: vec![], max_slots };
        table.resize(INITIAL_SLOTS);
        table
    }

    /// Returns the bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.keys.len().saturating_mul(SLOT_BYTES)
    }

    /// Returns the maximum of [`SingletonTable::heap_bytes`].
    pub fn max_bytes(&self) -> usize {
        self.max_slots.saturating_mul(SLOT_BYTES)
    }

    /// Returns the number of keys.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.keys.iter().filter(|key| **key != 0).count()
    }

    /// Records an event of a key, and returns whether it is deferred. If it is not, the key is
    /// marked as having groups, and the earlier events that were deferred are returned.
    ///
    /// The table grows only if the larger table takes at most `free_bytes` bytes. `has_groups` is
    /// called for a key that is not in the table. If it returns true, the table has evicted the key
    /// earlier, and the event is not deferred.
    pub fn record_event(
        &mut self,
        key: u64,
        singleton: SoleAccountEvents,
        seen_at: SeenAt,
        free_bytes: usize,
        has_groups: impl FnOnce() -> bool,
    ) -> DeferralOutcome {
        let SeenAt { at, now, retention, reset_gap } = seen_at;
        let existing_slot = self.find(key);
        let singleton = match existing_slot {
            None if singleton.is_pending() && has_groups() => {
                SoleAccountEvents { hit_bits: 0, ..singleton }
            }
            _ => singleton,
        };
        let slot = existing_slot.unwrap_or_else(|| self.allocate(key, now, free_bytes));
        let (Some(newest), Some(stored)) =
            (self.newest.get_mut(slot), self.singletons.get_mut(slot))
        else {
            return DeferralOutcome::default();
        };
        let is_current = is_within(*newest, at, retention) && !is_from_future(*newest, now);
        if existing_slot.is_none() || !is_current {
            *newest = at;
            *stored = singleton;
            if let Some(stored_key) = self.keys.get_mut(slot) {
                *stored_key = key;
            }
            return DeferralOutcome { is_deferred: singleton.is_pending(), released: None };
        }
        if stored.has_same_hits(&singleton) {
            if at.saturating_sub(*newest) >= reset_gap {
                stored.first_seen = singleton.first_seen;
            }
            stored.merge(&singleton);
            *newest = (*newest).max(at);
            return DeferralOutcome { is_deferred: true, released: None };
        }
        let previous = TimedSingleton { singleton: *stored, at: *newest };
        *stored = SoleAccountEvents { hit_bits: 0, ..singleton };
        *newest = (*newest).max(at);
        let released = previous.singleton.is_pending().then_some(previous);
        DeferralOutcome { is_deferred: false, released }
    }

    /// Returns the keys and singletons of a partition. The first bits of a key determine its
    /// partition.
    pub fn entries_in_partition(
        &self,
        partition: usize,
    ) -> impl Iterator<Item = (u64, TimedSingleton)> {
        let size = self.keys.len() / PARTITIONS;
        let slots = self.keys.iter().zip(&self.newest).zip(&self.singletons);
        let partition_slots = slots.skip(partition.saturating_mul(size)).take(size);
        partition_slots.filter(|((key, _), _)| **key != 0).map(|((key, newest), singleton)| {
            (*key, TimedSingleton { singleton: *singleton, at: *newest })
        })
    }

    /// Reads the slots of several keys at once, so that their cache misses overlap.
    pub fn prefetch(&self, keys: impl Iterator<Item = u64>) {
        let mut sum = 0;
        for key in keys {
            let slots = self.candidate_slots(key);
            for slot in [slots.start, slots.end.saturating_sub(1)] {
                sum ^= self.keys.get(slot).copied().unwrap_or_default();
                sum ^= u64::from(self.newest.get(slot).copied().unwrap_or_default());
            }
        }
        std::hint::black_box(sum);
    }

    fn resize(&mut self, slot_count: usize) {
        self.keys.resize(slot_count, 0);
        self.newest.resize(slot_count, 0);
        self.singletons.resize(slot_count, SoleAccountEvents::default());
    }

    /// Returns the slots of the set of a key. Sets are in the order of their keys.
    fn candidate_slots(&self, key: u64) -> std::ops::Range<usize> {
        let set_count = (self.keys.len() / WAYS) as u128;
        let from =
            ((u128::from(key).saturating_mul(set_count) >> 64) as usize).saturating_mul(WAYS);
        from..from.saturating_add(WAYS)
    }

    fn find(&self, key: u64) -> Option<usize> {
        let slots = self.candidate_slots(key);
        let offset =
            self.keys.get(slots.clone())?.iter().position(|stored_key| *stored_key == key)?;
        Some(slots.start.saturating_add(offset))
    }

    /// Returns a slot for a new key: an empty slot, or the slot of the least recently seen key. If
    /// the limits allow it, the table doubles instead of evicting.
    fn allocate(&mut self, key: u64, now: u32, free_bytes: usize) -> usize {
        loop {
            let slots = self.candidate_slots(key);
            if let Some(slot) = self.find_empty(slots.clone()) {
                return slot;
            }
            let new_slot_count = self.keys.len().saturating_mul(2);
            if new_slot_count > self.max_slots
                || new_slot_count.saturating_mul(SLOT_BYTES) > free_bytes
            {
                // Keys with a time in the future are evicted first, because the time must be wrong.
                let is_plausible = |newest: &u32| !is_from_future(*newest, now);
                let last_seen = |slot: &usize| self.newest.get(*slot).copied().filter(is_plausible);
                return slots.min_by_key(last_seen).unwrap_or_default();
            }
            self.grow(new_slot_count);
        }
    }

    fn find_empty(&self, slots: std::ops::Range<usize>) -> Option<usize> {
        let offset =
            self.keys.get(slots.clone())?.iter().position(|stored_key| *stored_key == 0)?;
        Some(slots.start.saturating_add(offset))
    }

    /// Moves all keys to a table of `slot_count` slots. Each set is split in two, so every key
    /// finds a slot.
    fn grow(&mut self, slot_count: usize) {
        let mut old =
            Self { keys: vec![], newest: vec![], singletons: vec![], max_slots: self.max_slots };
        std::mem::swap(self, &mut old);
        self.resize(slot_count);
        for ((key, newest), singleton) in old.keys.into_iter().zip(old.newest).zip(old.singletons) {
            if key == 0 {
                continue;
            }
            let Some(slot) = self.find_empty(self.candidate_slots(key)) else { continue };
            if let (Some(key_slot), Some(newest_slot), Some(singleton_slot)) =
                (self.keys.get_mut(slot), self.newest.get_mut(slot), self.singletons.get_mut(slot))
            {
                *key_slot = key;
                *newest_slot = newest;
                *singleton_slot = singleton;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events without the number counted as if they had the mean of the others: the events 10,
    /// none and 40 had the mean 20.
    #[test]
    fn the_mean_of_merged_events_is_weighted_by_their_number() {
        let events = |event_count, mean| SoleAccountEvents {
            event_count,
            mean,
            ..SoleAccountEvents::default()
        };
        // (3 · 10 + 1 · 30) / 4 = 15
        let rows = [
            ("one and one", (1, 10.0), (1, 40.0), (2, 25.0)),
            ("three and one", (3, 10.0), (1, 30.0), (4, 15.0)),
            ("large numbers", (2, f32::MAX), (2, f32::MAX), (4, f32::MAX)),
            ("a full count", (u16::MAX, 2.0), (u16::MAX, 4.0), (u16::MAX, 3.0)),
        ];
        for (name, (count, mean), (other_count, other_mean), expected) in rows {
            let mut merged = events(count, mean);
            merged.merge(&events(other_count, other_mean));
            assert_eq!((merged.event_count, merged.mean), expected, "{name}");
        }
        for (mean, other) in [(10.0, f32::NAN), (f32::NAN, 10.0), (f32::NAN, f32::NAN)] {
            let mut merged = events(1, mean);
            merged.merge(&events(1, other));
            assert!(merged.mean.is_nan(), "{mean} {other}");
        }
    }
}
