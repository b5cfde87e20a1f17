//! Where keys are that one account has: a table that forgets what was not seen for longest. A flood of
//! keys that nobody else uses ends here, and pushes out only its own kind.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use super::MAX_CLOCK_AHEAD;
use super::distinct_sample::is_within;
use super::group_table::PARTITIONS;

/// What a key's only account has sent, or that it has others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Singleton {
    pub account: u64,
    /// Since when it has the key.
    pub first_seen: u32,
    /// The mean of a number; not a number for none.
    pub mean: f32,
    /// Of so many events.
    pub event_count: u16,
    /// The place of its grouping in the plan.
    pub group_by: u16,
    /// What each event hit, by its bit; nothing once there were others.
    pub hit_bits: u32,
}

/// Places by key.
#[derive(Debug)]
pub struct SingletonTable {
    /// 0 where there is none.
    keys: Vec<u64>,
    /// When each was last seen.
    newest: Vec<u32>,
    singletons: Vec<Singleton>,
    /// Slots that there may be.
    max_slots: usize,
}

/// When a key is seen, and how long it is remembered.
#[derive(Clone, Copy, Debug)]
pub struct SeenAt {
    pub at: u32,
    pub now: u32,
    pub retention: u32,
    /// After how long an account is new again.
    pub reset_gap: u32,
}

/// Keys that share a place.
const WAYS: usize = 8;

/// Slots at the beginning.
const INITIAL_SLOTS: usize = PARTITIONS * WAYS;

/// Bytes of a slot.
const SLOT_BYTES: usize = size_of::<u64>() + size_of::<u32>() + size_of::<Singleton>();

impl Singleton {
    /// Whether it waits for another account.
    pub fn is_pending(&self) -> bool {
        self.hit_bits != 0
    }

    /// Whether the same account has sent more of the same.
    fn has_same_hits(&self, other: &Self) -> bool {
        self.is_pending() && (self.account, self.hit_bits) == (other.account, other.hit_bits)
    }

    /// Since when its account has the key, to someone to whom it is new again after some time without
    /// events, and how many events it had. The latest was at `at`; the others lie evenly before it.
    pub fn solo_history(&self, at: u32, count_window: u32) -> (u32, u16) {
        let gaps = u32::from(self.event_count.saturating_sub(1)).max(1);
        let gap = at.saturating_sub(self.first_seen).checked_div(gaps).unwrap_or_default();
        let is_new = gap >= count_window;
        (if is_new { at } else { self.first_seen }, self.event_count)
    }

    /// Adds what the same account has sent.
    fn merge(&mut self, other: &Self) {
        let (count, other_count) = (f32::from(self.event_count), f32::from(other.event_count));
        self.first_seen = self.first_seen.min(other.first_seen);
        self.mean = match (self.mean.is_nan(), other.mean.is_nan()) {
            (true, _) => other.mean,
            (_, true) => self.mean,
            _ => (self.mean * count + other.mean * other_count) / (count + other_count).max(1.0),
        };
        self.event_count = self.event_count.saturating_add(other.event_count);
    }
}

impl SingletonTable {
    /// A shelf that grows up to so many bytes.
    pub fn new(max_bytes: usize) -> Self {
        let mut max_slots = INITIAL_SLOTS;
        while max_slots.saturating_mul(2).saturating_mul(SLOT_BYTES) <= max_bytes {
            max_slots = max_slots.saturating_mul(2);
        }
        let mut table = Self { keys: vec![], newest: vec![], singletons: vec![], max_slots };
        table.resize(INITIAL_SLOTS);
        table
    }

    /// Bytes that it takes.
    pub fn heap_bytes(&self) -> usize {
        self.keys.len().saturating_mul(SLOT_BYTES)
    }

    /// Bytes that it may take.
    pub fn max_bytes(&self) -> usize {
        self.max_slots.saturating_mul(SLOT_BYTES)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.iter().filter(|key| **key != 0).count()
    }

    /// Notes that a key was seen, and puts `own` aside if it waits and no other account had the key.
    /// Whether that is so; and what had waited until now, with its time. `room` is how many bytes there
    /// are to grow. `has_begun` says whether a key that is not known had others: such a one was forgotten.
    pub fn swap(
        &mut self,
        key: u64,
        singleton: Singleton,
        seen_at: SeenAt,
        free_bytes: usize,
        has_groups: impl FnOnce() -> bool,
    ) -> (bool, Option<(Singleton, u32)>) {
        let SeenAt { at, now, retention, reset_gap } = seen_at;
        let existing_slot = self.find(key);
        let singleton = match existing_slot {
            None if singleton.is_pending() && has_groups() => {
                Singleton { hit_bits: 0, ..singleton }
            }
            _ => singleton,
        };
        let slot = existing_slot.unwrap_or_else(|| self.allocate(key, now, free_bytes));
        let (Some(newest), Some(stored)) =
            (self.newest.get_mut(slot), self.singletons.get_mut(slot))
        else {
            return (false, None);
        };
        let is_current =
            is_within(*newest, at, retention) && *newest <= now.saturating_add(MAX_CLOCK_AHEAD);
        if existing_slot.is_none() || !is_current {
            (*newest, *stored) = (at, singleton);
            if let Some(stored_key) = self.keys.get_mut(slot) {
                *stored_key = key;
            }
            return (singleton.is_pending(), None);
        }
        if stored.has_same_hits(&singleton) {
            if at.saturating_sub(*newest) >= reset_gap {
                stored.first_seen = singleton.first_seen;
            }
            stored.merge(&singleton);
            *newest = (*newest).max(at);
            return (true, None);
        }
        let previous = (std::mem::replace(stored, Singleton { hit_bits: 0, ..singleton }), *newest);
        *newest = (*newest).max(at);
        (false, Some(previous).filter(|(singleton, _)| singleton.is_pending()))
    }

    /// What is kept of some keys, by the first bits of those.
    pub fn entries_in_partition(
        &self,
        partition: usize,
    ) -> impl Iterator<Item = (u64, u32, Singleton)> {
        let size = self.keys.len() / PARTITIONS;
        let slots = self.keys.iter().zip(&self.newest).zip(&self.singletons);
        let partition_slots = slots.skip(partition.saturating_mul(size)).take(size);
        partition_slots
            .filter(|((key, _), _)| **key != 0)
            .map(|((key, newest), singleton)| (*key, *newest, *singleton))
    }

    /// Reads where some keys are, all at once.
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
        self.singletons.resize(slot_count, Singleton::default());
    }

    /// The slots in which a key may be: they are in the order of the keys.
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

    /// A slot for a new key: an empty one, or that of the key that was not seen for longest.
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
                // Clocks jump: what seems to come from the future is the first to go.
                let is_plausible = |newest: &u32| *newest <= now.saturating_add(MAX_CLOCK_AHEAD);
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

    fn grow(&mut self, slot_count: usize) {
        let mut old =
            Self { keys: vec![], newest: vec![], singletons: vec![], max_slots: self.max_slots };
        std::mem::swap(self, &mut old);
        self.resize(slot_count);
        for ((key, newest), singleton) in old.keys.into_iter().zip(old.newest).zip(old.singletons) {
            // What shared a place is spread over two.
            let Some(slot) =
                (key != 0).then(|| self.find_empty(self.candidate_slots(key))).flatten()
            else {
                continue;
            };
            if let (Some(key_slot), Some(newest_slot), Some(singleton_slot)) =
                (self.keys.get_mut(slot), self.newest.get_mut(slot), self.singletons.get_mut(slot))
            {
                (*key_slot, *newest_slot, *singleton_slot) = (key, newest, singleton);
            }
        }
    }
}
