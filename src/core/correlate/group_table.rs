//! Groups by key, in bounded memory: a table that grows up to its limit and then keeps those that
//! several accounts share. A flood of keys that nobody else uses pushes out only its own kind.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use super::distinct_sample::DistinctValues;
use super::sequence::{LastSeen, OrderedMatch};
use super::sketch::AccountSketch;
use super::window_sum::WindowSum;
use super::{MAX_CLOCK_AHEAD, sketch};

/// What is known of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupState {
    /// Values of a field.
    Distinct(DistinctValues),
    /// Numbers and sums by time.
    Sum(WindowSum),
    /// Rules that were hit.
    LastSeen(LastSeen),
    /// Rules that were hit in their order.
    Ordered(OrderedMatch),
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its key, of tracker and values; 0 for none.
    pub key: u64,
    /// The tracker that it belongs to.
    pub aggregation: u16,
    /// The time of its latest event.
    pub newest: u32,
    /// For how many events nobody looks at all of its values.
    pub skip_checks: u16,
    /// What is known.
    pub state: GroupState,
}

/// Groups that share a place in the table.
const WAYS: usize = 8;

/// Bytes of a slot, its key included.
const SLOT_BYTES: usize = size_of::<Option<Group>>() + size_of::<u64>();

/// Parts of a table. Each grows for itself, so that no more than one is there twice while it does; and
/// each is written down for itself.
pub const PARTITIONS: usize = 16;

/// Groups, none of them twice.
#[derive(Debug)]
pub struct GroupTable {
    partitions: [Partition; PARTITIONS],
    /// Their slots, together.
    slot_count: usize,
    /// Bytes that groups have on the heap.
    state_bytes: usize,
    max_bytes: usize,
    /// What was asked for while there was no room.
    sketch: Option<AccountSketch>,
    /// Where room is made next: a part and a place in it.
    sweep_cursor: (usize, usize),
    /// Groups that were given up, and groups that were not begun, for want of room.
    pub(super) evicted: u64,
    /// Parts that have changed since they were last written down.
    pub(super) dirty: [bool; PARTITIONS],
}

/// Groups whose keys begin with the same bits.
#[derive(Debug)]
struct Partition {
    groups: Vec<Option<Group>>,
    /// Their keys, 0 where there is none: those of a place are read at once.
    keys: Vec<u64>,
}

/// Where a group is: part and slot.
type SlotIndex = (usize, usize);

impl GroupState {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Distinct(values) => values.heap_bytes(),
            Self::Sum(window_sum) => window_sum.heap_bytes(),
            Self::LastSeen(last_seen) => last_seen.heap_bytes(),
            Self::Ordered(ordered_match) => ordered_match.heap_bytes(),
        }
    }
}

impl Group {
    /// How much would be lost with it: about the number of accounts that share it.
    fn retention_rank(&self, now: u32, window: u32) -> u8 {
        let rank = match &self.state {
            GroupState::Distinct(DistinctValues::One(_)) => 1,
            GroupState::Distinct(DistinctValues::Exact(values)) => values.len().min(32) as u8,
            GroupState::Distinct(DistinctValues::Sampled(_)) => 64,
            GroupState::Sum(_) | GroupState::LastSeen(_) | GroupState::Ordered(_) => 2,
        };
        if self.newest > now.saturating_add(MAX_CLOCK_AHEAD) {
            return 0;
        }
        let age = now.saturating_sub(self.newest);
        let age = age.checked_div((window / 4).max(1)).unwrap_or(age);
        rank.checked_shr(age).unwrap_or(0)
    }
}

impl GroupTable {
    /// A table that takes no more than `limit` bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            partitions: std::array::from_fn(|_| Partition::new(WAYS)),
            slot_count: PARTITIONS.saturating_mul(WAYS),
            state_bytes: 0,
            max_bytes,
            sketch: None,
            sweep_cursor: (0, 0),
            evicted: 0,
            dirty: [false; PARTITIONS],
        }
    }

    /// Bytes that it takes.
    pub fn heap_bytes(&self) -> usize {
        let sketch_bytes = if self.sketch.is_some() { sketch::SKETCH_BYTES } else { 0 };
        self.slot_count
            .saturating_mul(SLOT_BYTES)
            .saturating_add(self.state_bytes)
            .saturating_add(sketch_bytes)
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.partitions.iter().map(|partition| partition.groups.iter().flatten().count()).sum()
    }

    /// Changes a group, which is made by `new` where there is none; `None` where there is no room for
    /// it. `window` says how long a group of some tracker is kept after its latest event.
    pub fn update<T>(
        &mut self,
        (key, account): (u64, u64),
        now: u32,
        retention: &dyn Fn(u16) -> u32,
        new_group: impl FnOnce() -> Group,
        apply: impl FnOnce(&mut Group) -> T,
    ) -> Option<T> {
        if let Some(sketch) = &mut self.sketch {
            sketch.record(key, account);
        }
        let slot = self.find(key).or_else(|| self.admit(key, now, retention));
        let Some(slot) = slot else {
            self.evicted = self.evicted.saturating_add(1);
            return None;
        };
        self.mark_dirty(key);
        let (partition_index, slot_index) = slot;
        let partition = self.partitions.get_mut(partition_index)?;
        let entry = partition.groups.get_mut(slot_index)?;
        let bytes_before = entry.as_ref().map_or(0, |group| group.state.heap_bytes());
        let group = entry.get_or_insert_with(new_group);
        if let Some(stored_key) = partition.keys.get_mut(slot_index) {
            *stored_key = group.key;
        }
        let result = apply(group);
        let bytes_after = group.state.heap_bytes();
        self.state_bytes =
            self.state_bytes.saturating_sub(bytes_before).saturating_add(bytes_after);
        self.evict_to_limit(now, retention);
        Some(result)
    }

    /// Whether there is a group of a key.
    pub fn contains(&self, key: u64) -> bool {
        self.find(key).is_some()
    }

    /// Reads where the groups of some keys are, all at once: memory that is far away takes as long for
    /// many as for one, as long as none is waited for.
    pub fn prefetch(&self, keys: impl Iterator<Item = u64> + Clone) {
        let mut sum = 0;
        for key in keys.clone() {
            let Some(partition) = self.partitions.get(partition_of(key)) else { continue };
            sum ^= partition
                .keys
                .get(partition.candidate_slots(key).start)
                .copied()
                .unwrap_or_default();
        }
        for slot in keys.filter_map(|key| self.find(key)) {
            sum ^= self.get(slot).map_or(0, |group| u64::from(group.newest));
        }
        std::hint::black_box(sum);
    }

    /// The groups of a part.
    pub fn groups_in_partition(&self, index: usize) -> impl Iterator<Item = &Group> {
        self.partitions
            .get(index)
            .into_iter()
            .flat_map(|partition| partition.groups.iter().flatten())
    }

    /// Forgets groups that have expired, wherever the sweep is now.
    pub fn sweep(&mut self, now: u32, retention: &dyn Fn(u16) -> u32) {
        for slot in self.next_set() {
            if self.get(slot).is_some_and(|group| is_expired(group, now, retention)) {
                self.remove(slot);
            }
        }
    }

    /// The slots at the cursor, which moves on.
    fn next_set(&mut self) -> impl Iterator<Item = SlotIndex> + Clone + use<> {
        let (partition, set) = self.sweep_cursor;
        let set_count = self.partitions.get(partition).map_or(0, Partition::set_count);
        let next = set.saturating_add(1);
        self.sweep_cursor = match next < set_count {
            true => (partition, next),
            false => (partition.wrapping_add(1).checked_rem(PARTITIONS).unwrap_or(0), 0),
        };
        let from = set.saturating_mul(WAYS);
        (from..from.saturating_add(WAYS)).map(move |slot| (partition, slot))
    }

    fn get(&self, (partition, slot): SlotIndex) -> Option<&Group> {
        self.partitions.get(partition)?.groups.get(slot)?.as_ref()
    }

    /// The slots in which a key may be.
    fn candidate_slots(&self, key: u64) -> impl Iterator<Item = SlotIndex> + Clone + use<> {
        let partition_index = partition_of(key);
        let slots = self
            .partitions
            .get(partition_index)
            .map(|partition| partition.candidate_slots(key))
            .unwrap_or_default();
        slots.map(move |slot| (partition_index, slot))
    }

    fn find(&self, key: u64) -> Option<SlotIndex> {
        let partition_index = partition_of(key);
        let partition = self.partitions.get(partition_index)?;
        let slots = partition.candidate_slots(key);
        let offset =
            partition.keys.get(slots.clone())?.iter().position(|stored_key| *stored_key == key)?;
        Some((partition_index, slots.start.saturating_add(offset)))
    }

    /// An empty slot for a key.
    fn admit(&mut self, key: u64, now: u32, retention: &dyn Fn(u16) -> u32) -> Option<SlotIndex> {
        loop {
            if let Some(slot) = self.reclaim(key, now, retention) {
                return Some(slot);
            }
            if !self.grow(partition_of(key)) {
                break;
            }
        }
        let rank = |slot: &SlotIndex| {
            let group = self.get(*slot)?;
            Some((group.retention_rank(now, retention(group.aggregation)), group.newest))
        };
        let victim = self.candidate_slots(key).min_by_key(rank)?;
        let (victim_rank, _) = rank(&victim)?;
        let candidate_rank = self.sketch.get_or_insert_default().estimate(key).max(1);
        if candidate_rank < victim_rank {
            return None;
        }
        self.evicted = self.evicted.saturating_add(1);
        self.remove(victim);
        Some(victim)
    }

    /// A slot that is empty, or whose group has expired.
    fn reclaim(&mut self, key: u64, now: u32, retention: &dyn Fn(u16) -> u32) -> Option<SlotIndex> {
        let slot = self
            .candidate_slots(key)
            .find(|slot| self.get(*slot).is_none_or(|group| is_expired(group, now, retention)))?;
        self.remove(slot);
        Some(slot)
    }

    fn remove(&mut self, (partition_index, slot): SlotIndex) {
        let Some(partition) = self.partitions.get_mut(partition_index) else { return };
        if let Some(group) = partition.groups.get_mut(slot).and_then(Option::take) {
            if let Some(stored_key) = partition.keys.get_mut(slot) {
                *stored_key = 0;
            }
            self.state_bytes = self.state_bytes.saturating_sub(group.state.heap_bytes());
            self.mark_dirty(group.key);
        }
    }

    /// Has the part of a key written down again.
    pub(super) fn mark_dirty(&mut self, key: u64) {
        if let Some(dirty) = self.dirty.get_mut(partition_of(key)) {
            *dirty = true;
        }
    }

    /// Doubles a part, if the limit allows for it twice.
    fn grow(&mut self, partition_index: usize) -> bool {
        // Once it does not, what is asked for is counted.
        let sketch_bytes = if self.sketch.is_none() { sketch::SKETCH_BYTES } else { 0 };
        let current_bytes = self.heap_bytes().saturating_add(sketch_bytes);
        let Some(partition) = self.partitions.get_mut(partition_index) else { return false };
        let new_slot_count = partition.groups.len().saturating_mul(2);
        if current_bytes.saturating_add(new_slot_count.saturating_mul(SLOT_BYTES)) > self.max_bytes
        {
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

    /// Gives up groups, the least shared first, until the limit is kept.
    fn evict_to_limit(&mut self, now: u32, retention: &dyn Fn(u16) -> u32) {
        if self.heap_bytes() <= self.max_bytes {
            return;
        }
        let mut remaining_sets = (self.slot_count / WAYS).saturating_mul(2);
        while remaining_sets > 0 && self.heap_bytes() > self.max_bytes {
            remaining_sets = remaining_sets.saturating_sub(1);
            let slots = self.next_set();
            let eviction_rank = |slot: &SlotIndex| {
                let group = self.get(*slot)?;
                (group.state.heap_bytes() > 0).then(|| {
                    (group.retention_rank(now, retention(group.aggregation)), group.newest)
                })
            };
            let victim =
                slots.filter(|slot| eviction_rank(slot).is_some()).min_by_key(eviction_rank);
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

    /// The slots in which a key may be: they are in the order of the keys.
    fn candidate_slots(&self, key: u64) -> std::ops::Range<usize> {
        let scaled = u128::from(key.wrapping_mul(PARTITIONS as u64))
            .saturating_mul(self.set_count() as u128);
        let from = ((scaled >> 64) as usize).saturating_mul(WAYS);
        from..from.saturating_add(WAYS)
    }

    /// Puts a group into an empty slot; gives it back where there is none.
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

/// The part that a key belongs to: by its first bits.
fn partition_of(key: u64) -> usize {
    (u128::from(key).saturating_mul(PARTITIONS as u128) >> u64::BITS) as usize
}

fn is_expired(group: &Group, now: u32, retention: &dyn Fn(u16) -> u32) -> bool {
    // Clocks jump: nothing counts that seems to come from the future.
    let is_from_future = group.newest > now.saturating_add(MAX_CLOCK_AHEAD);
    is_from_future || now.saturating_sub(group.newest) >= retention(group.aggregation)
}
