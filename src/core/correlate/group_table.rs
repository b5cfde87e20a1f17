//! Groups by key, in bounded memory.
//!
//! The table is set-associative: a key may be in any of the eight slots of its set. If a set is
//! full, its partition doubles, up to the memory limit. At the limit, a new group replaces the
//! group of its set that the fewest accounts share. But the new group is rejected if the number of
//! accounts that have used its key is less than the number of accounts that share the old group
//! (see [`sketch`](super::sketch) for the estimate). So a flood of keys that one account uses
//! evicts only keys that one account uses. If several groups are shared by equally many accounts,
//! the table replaces the group with the correlations that need the most accounts.

use std::cmp::Reverse;

use super::event_time::is_from_future;
use super::group::Group;
use super::plan::Plan;
use super::sketch::{AccountSketch, SKETCH_BYTES};

/// Number of partitions of the tables. Each partition grows separately, so that at most one
/// partition at a time is in memory twice. Each partition is also saved separately.
pub const PARTITIONS: usize = 16;

/// Slots per set.
const WAYS: usize = 8;

/// Bytes per slot, without the heap of its group.
const SLOT_BYTES: usize = size_of::<Option<Group>>() + size_of::<u64>();

/// Groups by key, with a memory limit.
#[derive(Debug)]
pub struct GroupTable {
    partitions: [Partition; PARTITIONS],
    /// Number of slots in all partitions.
    slot_count: usize,
    /// Bytes that the states of all groups have on the heap.
    state_bytes: usize,
    /// Maximum of [`GroupTable::heap_bytes`].
    max_bytes: usize,
    /// Estimated number of accounts per key; `None` until a set is full at the memory limit.
    sketch: Option<AccountSketch>,
    /// Next set that is searched for expired groups.
    sweep_cursor: SetIndex,
    evicted: u64,
    /// Partitions that have changed since they were saved.
    dirty: [bool; PARTITIONS],
}

/// Groups whose keys begin with the same bits.
#[derive(Debug)]
struct Partition {
    groups: Vec<Option<Group>>,
    /// Key of each slot, 0 for an empty slot. The keys of a set are adjacent, so that they are read
    /// together.
    keys: Vec<u64>,
}

/// The position of a set.
#[derive(Clone, Copy, Debug, Default)]
struct SetIndex {
    partition: usize,
    set: usize,
}

/// The position of a slot.
#[derive(Clone, Copy, Debug)]
struct SlotIndex {
    partition: usize,
    slot: usize,
}

impl GroupTable {
    /// Creates an empty table of at most `max_bytes` bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            partitions: std::array::from_fn(|_| Partition::new(WAYS)),
            slot_count: PARTITIONS.saturating_mul(WAYS),
            state_bytes: 0,
            max_bytes,
            sketch: None,
            sweep_cursor: SetIndex::default(),
            evicted: 0,
            dirty: [false; PARTITIONS],
        }
    }

    /// Returns the bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let sketch_bytes = if self.sketch.is_some() { SKETCH_BYTES } else { 0 };
        self.slot_count
            .saturating_mul(SLOT_BYTES)
            .saturating_add(self.state_bytes)
            .saturating_add(sketch_bytes)
    }

    /// Returns the number of groups.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.partitions.iter().map(|partition| partition.groups.iter().flatten().count()).sum()
    }

    /// Returns the number of groups that were evicted or not admitted for lack of memory.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Updates the group of a key with `apply`. If the key has no group, `new_group` creates it
    /// first. If the table has no room for a new group, neither function is called.
    ///
    /// `account` is the account of the event. The sketch counts it for the key, and so for the
    /// admission of the key.
    pub fn update(
        &mut self,
        key: u64,
        account: u64,
        now: u32,
        plan: &Plan,
        new_group: impl FnOnce() -> Group,
        apply: impl FnOnce(&mut Group),
    ) {
        if let Some(sketch) = &mut self.sketch {
            sketch.record(key, account);
        }
        let Some(slot) = self.find(key).or_else(|| self.admit(key, now, plan)) else {
            self.evicted = self.evicted.saturating_add(1);
            return;
        };
        self.mark_dirty(key);
        let Some(partition) = self.partitions.get_mut(slot.partition) else { return };
        let Some(entry) = partition.groups.get_mut(slot.slot) else { return };
        let bytes_before = entry.as_ref().map_or(0, |group| group.state.heap_bytes());
        let group = entry.get_or_insert_with(new_group);
        if let Some(stored_key) = partition.keys.get_mut(slot.slot) {
            *stored_key = group.key;
        }
        apply(group);
        let bytes_after = group.state.heap_bytes();
        self.state_bytes =
            self.state_bytes.saturating_sub(bytes_before).saturating_add(bytes_after);
        self.evict_to_limit(now, plan);
    }

    /// Returns whether there is a group with a key.
    pub fn contains(&self, key: u64) -> bool {
        self.find(key).is_some()
    }

    /// Returns the group with a key; `None` if there is no such group.
    pub fn group(&self, key: u64) -> Option<&Group> {
        self.get(self.find(key)?)
    }

    /// Reads the slots of several keys at once, so that their cache misses overlap.
    pub fn prefetch(&self, keys: impl Iterator<Item = u64> + Clone) {
        let mut sum = 0;
        for key in keys.clone() {
            let Some(partition) = self.partitions.get(partition_of(key)) else { continue };
            let first_slot = partition.candidate_slots(key).start;
            sum ^= partition.keys.get(first_slot).copied().unwrap_or_default();
        }
        for slot in keys.filter_map(|key| self.find(key)) {
            sum ^= self.get(slot).map_or(0, |group| u64::from(group.newest));
        }
        std::hint::black_box(sum);
    }

    /// Returns the groups of a partition.
    pub fn groups_in_partition(&self, index: usize) -> impl Iterator<Item = &Group> {
        self.partitions
            .get(index)
            .into_iter()
            .flat_map(|partition| partition.groups.iter().flatten())
    }

    /// Removes expired groups from the next set.
    pub fn sweep(&mut self, now: u32, plan: &Plan) {
        for slot in self.next_set() {
            if self.get(slot).is_some_and(|group| is_expired(group, now, plan)) {
                self.remove(slot);
            }
        }
    }

    /// Marks the partition of a key as changed since it was saved.
    pub fn mark_dirty(&mut self, key: u64) {
        if let Some(dirty) = self.dirty.get_mut(partition_of(key)) {
            *dirty = true;
        }
    }

    /// Marks a partition as saved.
    pub fn mark_saved(&mut self, partition: usize) {
        if let Some(dirty) = self.dirty.get_mut(partition) {
            *dirty = false;
        }
    }

    /// Returns the index of the first partition that has changed since it was saved.
    pub fn first_dirty(&self) -> Option<usize> {
        self.dirty.iter().position(|dirty| *dirty)
    }

    /// Returns the slots at the sweep cursor, and moves the cursor to the next set.
    fn next_set(&mut self) -> impl Iterator<Item = SlotIndex> + Clone + use<> {
        let SetIndex { partition, set } = self.sweep_cursor;
        let set_count = self.partitions.get(partition).map_or(0, Partition::set_count);
        let next_set = set.saturating_add(1);
        self.sweep_cursor = if next_set < set_count {
            SetIndex { partition, set: next_set }
        } else {
            let next_partition = partition.wrapping_add(1).checked_rem(PARTITIONS).unwrap_or(0);
            SetIndex { partition: next_partition, set: 0 }
        };
        let from = set.saturating_mul(WAYS);
        (from..from.saturating_add(WAYS)).map(move |slot| SlotIndex { partition, slot })
    }

    fn get(&self, slot: SlotIndex) -> Option<&Group> {
        self.partitions.get(slot.partition)?.groups.get(slot.slot)?.as_ref()
    }

    /// Returns the slots of the set of a key.
    fn candidate_slots(&self, key: u64) -> impl Iterator<Item = SlotIndex> + Clone + use<> {
        let partition = partition_of(key);
        let slots = self
            .partitions
            .get(partition)
            .map(|partition| partition.candidate_slots(key))
            .unwrap_or_default();
        slots.map(move |slot| SlotIndex { partition, slot })
    }

    fn find(&self, key: u64) -> Option<SlotIndex> {
        let partition_index = partition_of(key);
        let partition = self.partitions.get(partition_index)?;
        let slots = partition.candidate_slots(key);
        let offset =
            partition.keys.get(slots.clone())?.iter().position(|stored_key| *stored_key == key)?;
        Some(SlotIndex { partition: partition_index, slot: slots.start.saturating_add(offset) })
    }

    /// Returns an empty slot for a new key. May evict another group. Returns `None` if the key is
    /// not admitted, because each group of its set has a higher eviction rank than the key.
    fn admit(&mut self, key: u64, now: u32, plan: &Plan) -> Option<SlotIndex> {
        loop {
            if let Some(slot) = self.reclaim(key, now, plan) {
                return Some(slot);
            }
            if !self.grow(partition_of(key)) {
                break;
            }
        }
        let rank = |slot: &SlotIndex| self.get(*slot).map(|group| eviction_rank(group, now, plan));
        let victim = self.candidate_slots(key).min_by_key(rank)?;
        let (victim_rank, ..) = rank(&victim)?;
        let candidate_rank = self.sketch.get_or_insert_default().estimate(key).max(1);
        if candidate_rank < victim_rank {
            return None;
        }
        self.evicted = self.evicted.saturating_add(1);
        self.remove(victim);
        Some(victim)
    }

    /// Returns a free slot in the set of a key: an empty slot, or the slot of an expired group,
    /// which is removed. Returns `None` if all groups of the set are active.
    fn reclaim(&mut self, key: u64, now: u32, plan: &Plan) -> Option<SlotIndex> {
        let slot = self
            .candidate_slots(key)
            .find(|slot| self.get(*slot).is_none_or(|group| is_expired(group, now, plan)))?;
        self.remove(slot);
        Some(slot)
    }

    fn remove(&mut self, slot: SlotIndex) {
        let Some(partition) = self.partitions.get_mut(slot.partition) else { return };
        if let Some(group) = partition.groups.get_mut(slot.slot).and_then(Option::take) {
            if let Some(stored_key) = partition.keys.get_mut(slot.slot) {
                *stored_key = 0;
            }
            self.state_bytes = self.state_bytes.saturating_sub(group.state.heap_bytes());
            self.mark_dirty(group.key);
        }
    }

    /// Doubles a partition. Returns false if the memory limit leaves no room for the new slots next
    /// to the old ones, and for the sketch that is needed once no partition can grow.
    fn grow(&mut self, partition_index: usize) -> bool {
        let sketch_bytes = if self.sketch.is_none() { SKETCH_BYTES } else { 0 };
        let current_bytes = self.heap_bytes().saturating_add(sketch_bytes);
        let Some(partition) = self.partitions.get_mut(partition_index) else { return false };
        let new_slot_count = partition.groups.len().saturating_mul(2);
        let new_bytes = new_slot_count.saturating_mul(SLOT_BYTES);
        if current_bytes.saturating_add(new_bytes) > self.max_bytes {
            return false;
        }
        self.slot_count = self.slot_count.saturating_add(partition.groups.len());
        let old = std::mem::replace(partition, Partition::new(new_slot_count));
        for group in old.groups.into_iter().flatten() {
            if let Some(rejected) = partition.insert(group) {
                self.state_bytes = self.state_bytes.saturating_sub(rejected.state.heap_bytes());
            }
        }
        true
    }

    /// Evicts the least shared group of one set after another, until the memory limit is met. Gives
    /// up after two passes over the table.
    fn evict_to_limit(&mut self, now: u32, plan: &Plan) {
        if self.heap_bytes() <= self.max_bytes {
            return;
        }
        let mut remaining_sets = (self.slot_count / WAYS).saturating_mul(2);
        while remaining_sets > 0 && self.heap_bytes() > self.max_bytes {
            remaining_sets = remaining_sets.saturating_sub(1);
            let slots = self.next_set();
            let rank = |slot: &SlotIndex| {
                let group = self.get(*slot).filter(|group| group.state.heap_bytes() > 0)?;
                Some(eviction_rank(group, now, plan))
            };
            let victim = slots.filter(|slot| rank(slot).is_some()).min_by_key(rank);
            if let Some(victim) = victim {
                self.evicted = self.evicted.saturating_add(1);
                self.remove(victim);
            }
        }
    }
}

impl Partition {
    fn new(slot_count: usize) -> Self {
        let mut groups = Vec::new();
        groups.resize_with(slot_count, || None);
        Self { groups, keys: vec![0; slot_count] }
    }

    fn set_count(&self) -> usize {
        (self.groups.len() / WAYS).max(1)
    }

    /// Returns the slots of the set of a key. Sets are in the order of their keys.
    fn candidate_slots(&self, key: u64) -> std::ops::Range<usize> {
        let scaled = u128::from(key.wrapping_mul(PARTITIONS as u64))
            .saturating_mul(self.set_count() as u128);
        let from = ((scaled >> 64) as usize).saturating_mul(WAYS);
        from..from.saturating_add(WAYS)
    }

    /// Puts a group into an empty slot of its set. Returns the group if no slot is empty.
    fn insert(&mut self, group: Group) -> Option<Group> {
        let mut slots = self.candidate_slots(group.key);
        let empty_slot = slots.find(|slot| self.groups.get(*slot).is_some_and(Option::is_none));
        let (Some(slot), Some(key)) = (
            empty_slot.and_then(|slot| self.groups.get_mut(slot)),
            empty_slot.and_then(|slot| self.keys.get_mut(slot)),
        ) else {
            return Some(group);
        };
        *key = group.key;
        *slot = Some(group);
        None
    }
}

/// Returns the partition of a key: its first bits.
fn partition_of(key: u64) -> usize {
    (u128::from(key).saturating_mul(PARTITIONS as u128) >> u64::BITS) as usize
}

/// Returns a rank: the group with the lowest rank is evicted first. The criteria are, in this
/// order: the fewest accounts share the group; its correlations need the most accounts; its latest
/// event is the oldest.
fn eviction_rank(group: &Group, now: u32, plan: &Plan) -> (u8, Reverse<u32>, u32) {
    let retention = plan.group_retention(group.aggregation);
    let needed = plan.values_needed(group.aggregation);
    (group.retention_rank(now, retention), Reverse(needed), group.newest)
}

fn is_expired(group: &Group, now: u32, plan: &Plan) -> bool {
    is_from_future(group.newest, now)
        || now.saturating_sub(group.newest) >= plan.group_retention(group.aggregation)
}
