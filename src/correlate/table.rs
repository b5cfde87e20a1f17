//! Groups by key, in bounded memory: a table that grows up to its limit and then keeps those that
//! several accounts share. A flood of keys that nobody else uses pushes out only its own kind.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use super::AHEAD;
use super::frequency::{self, Frequency};
use super::members::Members;
use super::ring::Ring;
use super::sequence::{Chain, Seen};

/// What is known of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Values of a field.
    Members(Members),
    /// Numbers and sums by time.
    Ring(Ring),
    /// Rules that were hit.
    Seen(Seen),
    /// Rules that were hit in their order.
    Chain(Chain),
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its key, of tracker and values; 0 for none.
    pub key: u64,
    /// The tracker that it belongs to.
    pub tracker: u16,
    /// The time of its latest event.
    pub newest: u32,
    /// For how many events nobody looks at all of its values.
    pub rest: u16,
    /// What is known.
    pub state: State,
}

/// Groups that share a place in the table.
const WAYS: usize = 8;

/// Bytes of a slot, its key included.
const SLOT: usize = size_of::<Option<Group>>() + size_of::<u64>();

/// Parts of a table. Each grows for itself, so that no more than one is there twice while it does; and
/// each is written down for itself.
pub const PARTS: usize = 16;

/// Groups, none of them twice.
#[derive(Debug)]
pub struct Table {
    parts: [Part; PARTS],
    /// Their slots, together.
    slots: usize,
    /// Bytes that groups have on the heap.
    heap: usize,
    limit: usize,
    /// What was asked for while there was no room.
    frequency: Option<Frequency>,
    /// Where room is made next: a part and a place in it.
    cursor: (usize, usize),
    /// Groups that were given up, and groups that were not begun, for want of room.
    pub(super) lost: u64,
    /// Parts that have changed since they were last written down.
    pub(super) dirty: [bool; PARTS],
}

/// Groups whose keys begin with the same bits.
#[derive(Debug)]
struct Part {
    groups: Vec<Option<Group>>,
    /// Their keys, 0 where there is none: those of a place are read at once.
    keys: Vec<u64>,
}

/// Where a group is: part and slot.
type Slot = (usize, usize);

impl State {
    fn bytes(&self) -> usize {
        match self {
            Self::Members(members) => members.bytes(),
            Self::Ring(ring) => ring.bytes(),
            Self::Seen(seen) => seen.bytes(),
            Self::Chain(chain) => chain.bytes(),
        }
    }
}

impl Group {
    /// How much would be lost with it: about the number of accounts that share it.
    fn rank(&self, now: u32, window: u32) -> u8 {
        let rank = match &self.state {
            State::Members(Members::One(_)) => 1,
            State::Members(Members::Few(members)) => members.len().min(32) as u8,
            State::Members(Members::Many(_)) => 64,
            State::Ring(_) | State::Seen(_) | State::Chain(_) => 2,
        };
        if self.newest > now.saturating_add(AHEAD) {
            return 0;
        }
        let age = now.saturating_sub(self.newest);
        let age = age.checked_div((window / 4).max(1)).unwrap_or(age);
        rank.checked_shr(age).unwrap_or(0)
    }
}

impl Table {
    /// A table that takes no more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            parts: std::array::from_fn(|_| Part::new(WAYS)),
            slots: PARTS.saturating_mul(WAYS),
            heap: 0,
            limit,
            frequency: None,
            cursor: (0, 0),
            lost: 0,
            dirty: [false; PARTS],
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let frequency = if self.frequency.is_some() { frequency::BYTES } else { 0 };
        self.slots.saturating_mul(SLOT).saturating_add(self.heap).saturating_add(frequency)
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.groups.iter().flatten().count()).sum()
    }

    /// Changes a group, which is made by `new` where there is none; `None` where there is no room for
    /// it. `window` says how long a group of some tracker is kept after its latest event.
    pub fn with<T>(
        &mut self,
        (key, account): (u64, u64),
        now: u32,
        window: &dyn Fn(u16) -> u32,
        new: impl FnOnce() -> Group,
        change: impl FnOnce(&mut Group) -> T,
    ) -> Option<T> {
        if let Some(frequency) = &mut self.frequency {
            frequency.note(key, account);
        }
        let place = self.find(key).or_else(|| self.room(key, now, window));
        let Some(place) = place else {
            self.lost = self.lost.saturating_add(1);
            return None;
        };
        self.touch(key);
        let (part, at) = place;
        let part = self.parts.get_mut(part)?;
        let slot = part.groups.get_mut(at)?;
        let before = slot.as_ref().map_or(0, |group| group.state.bytes());
        let group = slot.get_or_insert_with(new);
        if let Some(own) = part.keys.get_mut(at) {
            *own = group.key;
        }
        let result = change(group);
        let after = group.state.bytes();
        self.heap = self.heap.saturating_sub(before).saturating_add(after);
        self.shed(now, window);
        Some(result)
    }

    /// Whether there is a group of a key.
    pub fn has(&self, key: u64) -> bool {
        self.find(key).is_some()
    }

    /// Reads where the groups of some keys are, all at once: memory that is far away takes as long for
    /// many as for one, as long as none is waited for.
    pub fn warm(&self, keys: impl Iterator<Item = u64> + Clone) {
        let mut sum = 0;
        for key in keys.clone() {
            let Some(part) = self.parts.get(part_of(key)) else { continue };
            sum ^= part.keys.get(part.slots(key).start).copied().unwrap_or_default();
        }
        for slot in keys.filter_map(|key| self.find(key)) {
            sum ^= self.group(slot).map_or(0, |group| u64::from(group.newest));
        }
        std::hint::black_box(sum);
    }

    /// The groups of a part.
    pub fn part(&self, part: usize) -> impl Iterator<Item = &Group> {
        self.parts.get(part).into_iter().flat_map(|part| part.groups.iter().flatten())
    }

    /// Forgets groups that have expired, wherever the sweep is now.
    pub fn sweep(&mut self, now: u32, window: &dyn Fn(u16) -> u32) {
        for place in self.next_place() {
            if self.group(place).is_some_and(|group| is_over(group, now, window)) {
                self.forget(place);
            }
        }
    }

    /// The slots at the cursor, which moves on.
    fn next_place(&mut self) -> impl Iterator<Item = Slot> + Clone + use<> {
        let (part, place) = self.cursor;
        let places = self.parts.get(part).map_or(0, Part::places);
        let next = place.saturating_add(1);
        self.cursor = match next < places {
            true => (part, next),
            false => (part.wrapping_add(1).checked_rem(PARTS).unwrap_or(0), 0),
        };
        let from = place.saturating_mul(WAYS);
        (from..from.saturating_add(WAYS)).map(move |slot| (part, slot))
    }

    fn group(&self, (part, slot): Slot) -> Option<&Group> {
        self.parts.get(part)?.groups.get(slot)?.as_ref()
    }

    /// The slots in which a key may be.
    fn slots(&self, key: u64) -> impl Iterator<Item = Slot> + Clone + use<> {
        let part = part_of(key);
        let slots = self.parts.get(part).map(|own| own.slots(key)).unwrap_or_default();
        slots.map(move |slot| (part, slot))
    }

    fn find(&self, key: u64) -> Option<Slot> {
        let part = part_of(key);
        let own = self.parts.get(part)?;
        let from = own.slots(key);
        let at = own.keys.get(from.clone())?.iter().position(|own| *own == key)?;
        Some((part, from.start.saturating_add(at)))
    }

    /// An empty slot for a key.
    fn room(&mut self, key: u64, now: u32, window: &dyn Fn(u16) -> u32) -> Option<Slot> {
        loop {
            if let Some(place) = self.free(key, now, window) {
                return Some(place);
            }
            if !self.grow(part_of(key)) {
                break;
            }
        }
        let rank = |place: &Slot| {
            let group = self.group(*place)?;
            Some((group.rank(now, window(group.tracker)), group.newest))
        };
        let victim = self.slots(key).min_by_key(rank)?;
        let (least, _) = rank(&victim)?;
        let wanted = self.frequency.get_or_insert_default().of(key).max(1);
        if wanted < least {
            return None;
        }
        self.lost = self.lost.saturating_add(1);
        self.forget(victim);
        Some(victim)
    }

    /// A slot that is empty, or whose group has expired.
    fn free(&mut self, key: u64, now: u32, window: &dyn Fn(u16) -> u32) -> Option<Slot> {
        let place = self
            .slots(key)
            .find(|place| self.group(*place).is_none_or(|group| is_over(group, now, window)))?;
        self.forget(place);
        Some(place)
    }

    fn forget(&mut self, (part, slot): Slot) {
        let Some(part) = self.parts.get_mut(part) else { return };
        if let Some(group) = part.groups.get_mut(slot).and_then(Option::take) {
            if let Some(own) = part.keys.get_mut(slot) {
                *own = 0;
            }
            self.heap = self.heap.saturating_sub(group.state.bytes());
            self.touch(group.key);
        }
    }

    /// Has the part of a key written down again.
    pub(super) fn touch(&mut self, key: u64) {
        if let Some(dirty) = self.dirty.get_mut(part_of(key)) {
            *dirty = true;
        }
    }

    /// Doubles a part, if the limit allows for it twice.
    fn grow(&mut self, part: usize) -> bool {
        // Once it does not, what is asked for is counted.
        let counts = if self.frequency.is_none() { frequency::BYTES } else { 0 };
        let bytes = self.bytes().saturating_add(counts);
        let Some(part) = self.parts.get_mut(part) else { return false };
        let slots = part.groups.len().saturating_mul(2);
        if bytes.saturating_add(slots.saturating_mul(SLOT)) > self.limit {
            return false;
        }
        self.slots = self.slots.saturating_add(part.groups.len());
        let old = std::mem::replace(part, Part::new(slots));
        for group in old.groups.into_iter().flatten() {
            if let Some(group) = part.put(group) {
                self.heap = self.heap.saturating_sub(group.state.bytes());
            }
        }
        true
    }

    /// Gives up groups, the least shared first, until the limit is kept.
    fn shed(&mut self, now: u32, window: &dyn Fn(u16) -> u32) {
        if self.bytes() <= self.limit {
            return;
        }
        let mut left = (self.slots / WAYS).saturating_mul(2);
        while left > 0 && self.bytes() > self.limit {
            left = left.saturating_sub(1);
            let slots = self.next_place();
            let heavy = |place: &Slot| {
                let group = self.group(*place)?;
                (group.state.bytes() > 0)
                    .then(|| (group.rank(now, window(group.tracker)), group.newest))
            };
            let victim = slots.filter(|place| heavy(place).is_some()).min_by_key(heavy);
            if let Some(victim) = victim {
                self.lost = self.lost.saturating_add(1);
                self.forget(victim);
            }
        }
    }
}

impl Part {
    fn new(slots: usize) -> Self {
        let mut groups = Vec::new();
        groups.resize_with(slots, || None);
        Self { groups, keys: vec![0; slots] }
    }

    fn places(&self) -> usize {
        (self.groups.len() / WAYS).max(1)
    }

    /// The slots in which a key may be: they are in the order of the keys.
    fn slots(&self, key: u64) -> std::ops::Range<usize> {
        let place =
            u128::from(key.wrapping_mul(PARTS as u64)).saturating_mul(self.places() as u128);
        let from = ((place >> 64) as usize).saturating_mul(WAYS);
        from..from.saturating_add(WAYS)
    }

    /// Puts a group into an empty slot; gives it back where there is none.
    fn put(&mut self, group: Group) -> Option<Group> {
        let mut slots = self.slots(group.key);
        let free = slots.find(|slot| self.groups.get(*slot).is_some_and(Option::is_none));
        let (Some(slot), Some(key)) = (
            free.and_then(|slot| self.groups.get_mut(slot)),
            free.and_then(|slot| self.keys.get_mut(slot)),
        ) else {
            return Some(group);
        };
        *key = group.key;
        *slot = Some(group);
        None
    }
}

/// The part that a key belongs to: by its first bits.
fn part_of(key: u64) -> usize {
    (u128::from(key).saturating_mul(PARTS as u128) >> u64::BITS) as usize
}

fn is_over(group: &Group, now: u32, window: &dyn Fn(u16) -> u32) -> bool {
    // Clocks jump: nothing counts that seems to come from the future.
    let is_ahead = group.newest > now.saturating_add(AHEAD);
    is_ahead || now.saturating_sub(group.newest) >= window(group.tracker)
}
