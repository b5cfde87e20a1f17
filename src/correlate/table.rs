//! Groups by key, in bounded memory: a table that grows up to its limit and then keeps those that
//! several accounts share. A flood of keys that nobody else uses pushes out only its own kind.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use super::frequency::Frequency;
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

/// Places of a new table; one for each part of a snapshot.
pub const PARTS: usize = 16;

/// Groups, none of them twice.
#[derive(Debug)]
pub struct Table {
    groups: Vec<Option<Group>>,
    /// Their keys, 0 where there is none: those of a place are read at once.
    keys: Vec<u64>,
    /// Bytes that groups have on the heap.
    heap: usize,
    limit: usize,
    /// What was asked for while there was no room.
    frequency: Option<Frequency>,
    /// The next place at which room is made.
    cursor: usize,
    /// Groups that were given up, and groups that were not begun, for want of room.
    pub(super) lost: u64,
    /// Parts that have changed since they were last written down.
    pub(super) dirty: [bool; PARTS],
}

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
        let age = now.saturating_sub(self.newest);
        let age = age.checked_div((window / 4).max(1)).unwrap_or(age);
        rank.checked_shr(age).unwrap_or(0)
    }
}

impl Table {
    /// A table that takes no more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            groups: empty(PARTS.saturating_mul(WAYS)),
            keys: vec![0; PARTS.saturating_mul(WAYS)],
            heap: 0,
            limit,
            frequency: None,
            cursor: 0,
            lost: 0,
            dirty: [false; PARTS],
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let slots = self.groups.capacity().saturating_mul(SLOT);
        let frequency = self.frequency.as_ref().map_or(0, Frequency::bytes);
        slots.saturating_add(self.heap).saturating_add(frequency)
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.groups.iter().flatten().count()
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
        let slot = self.groups.get_mut(place)?;
        let before = slot.as_ref().map_or(0, |group| group.state.bytes());
        let group = slot.get_or_insert_with(new);
        if let Some(own) = self.keys.get_mut(place) {
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
    pub fn warm(&self, keys: impl Iterator<Item = u64>) {
        let mut sum = 0;
        for key in keys {
            let from = self.slots(key).start;
            sum ^= self.keys.get(from).copied().unwrap_or_default();
            for way in (0..WAYS).step_by(2) {
                let group = self.groups.get(from.saturating_add(way));
                sum ^= u64::from(group.is_some_and(Option::is_some));
            }
        }
        std::hint::black_box(sum);
    }

    /// The groups of a part.
    pub fn part(&self, part: usize) -> impl Iterator<Item = &Group> {
        let size = self.groups.len() / PARTS;
        self.groups.iter().skip(part.saturating_mul(size)).take(size).flatten()
    }

    /// Forgets a group that has expired, wherever the sweep is now.
    pub fn sweep(&mut self, now: u32, window: &dyn Fn(u16) -> u32) {
        for place in self.ways(self.cursor) {
            let is_over = |group: &Group| is_over(group, now, window);
            if self.groups.get(place).and_then(Option::as_ref).is_some_and(is_over) {
                self.forget(place);
            }
        }
        self.cursor = self.cursor.wrapping_add(1).checked_rem(self.places()).unwrap_or(0);
    }

    fn places(&self) -> usize {
        (self.groups.len() / WAYS).max(1)
    }

    /// The slots of a place.
    fn ways(&self, place: usize) -> std::ops::Range<usize> {
        let from = place.saturating_mul(WAYS);
        from..from.saturating_add(WAYS).min(self.groups.len())
    }

    /// The slots in which a key may be.
    fn slots(&self, key: u64) -> std::ops::Range<usize> {
        // The places are in the order of the keys, so that a part of the keys is a part of the table.
        let place = (u128::from(key).saturating_mul(self.places() as u128) >> 64) as usize;
        self.ways(place)
    }

    fn find(&self, key: u64) -> Option<usize> {
        let from = self.slots(key);
        let at = self.keys.get(from.clone())?.iter().position(|own| *own == key)?;
        Some(from.start.saturating_add(at))
    }

    /// An empty slot for a key.
    fn room(&mut self, key: u64, now: u32, window: &dyn Fn(u16) -> u32) -> Option<usize> {
        loop {
            if let Some(place) = self.free(key, now, window) {
                return Some(place);
            }
            if !self.grow() {
                break;
            }
        }
        let rank = |place: &usize| {
            let group = self.groups.get(*place)?.as_ref()?;
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
    fn free(&mut self, key: u64, now: u32, window: &dyn Fn(u16) -> u32) -> Option<usize> {
        let place = self.slots(key).find(|place| {
            let group = self.groups.get(*place).and_then(Option::as_ref);
            group.is_none_or(|group| is_over(group, now, window))
        })?;
        self.forget(place);
        Some(place)
    }

    fn forget(&mut self, place: usize) {
        if let Some(group) = self.groups.get_mut(place).and_then(Option::take) {
            if let Some(own) = self.keys.get_mut(place) {
                *own = 0;
            }
            self.heap = self.heap.saturating_sub(group.state.bytes());
            self.touch(group.key);
        }
    }

    /// Has the part of a key written down again.
    pub(super) fn touch(&mut self, key: u64) {
        if let Some(dirty) = self.dirty.get_mut((key >> 60) as usize) {
            *dirty = true;
        }
    }

    /// Doubles the table, if its limit allows for both at the same time.
    fn grow(&mut self) -> bool {
        let slots = self.groups.len().saturating_mul(2);
        let bytes = slots.saturating_mul(SLOT);
        if self.bytes().saturating_add(bytes) > self.limit {
            return false;
        }
        let old = std::mem::replace(&mut self.groups, empty(slots));
        self.keys.clear();
        self.keys.resize(slots, 0);
        for group in old.into_iter().flatten() {
            let free = self
                .slots(group.key)
                .find(|place| self.groups.get(*place).is_some_and(Option::is_none));
            let free = free
                .and_then(|place| Some((self.groups.get_mut(place)?, self.keys.get_mut(place)?)));
            match free {
                Some((slot, own)) => {
                    *own = group.key;
                    *slot = Some(group);
                }
                None => self.heap = self.heap.saturating_sub(group.state.bytes()),
            }
        }
        true
    }

    /// Gives up groups, the least shared first, until the limit is kept.
    fn shed(&mut self, now: u32, window: &dyn Fn(u16) -> u32) {
        let mut left = self.places().saturating_mul(2);
        while self.bytes() > self.limit && left > 0 {
            left = left.saturating_sub(1);
            let heavy = |place: &usize| {
                let group = self.groups.get(*place)?.as_ref()?;
                (group.state.bytes() > 0)
                    .then(|| (group.rank(now, window(group.tracker)), group.newest))
            };
            let victim =
                self.ways(self.cursor).filter(|place| heavy(place).is_some()).min_by_key(heavy);
            self.cursor = self.cursor.wrapping_add(1).checked_rem(self.places()).unwrap_or(0);
            if let Some(victim) = victim {
                self.lost = self.lost.saturating_add(1);
                self.forget(victim);
            }
        }
    }
}

fn empty(slots: usize) -> Vec<Option<Group>> {
    let mut groups = Vec::new();
    groups.resize_with(slots, || None);
    groups
}

fn is_over(group: &Group, now: u32, window: &dyn Fn(u16) -> u32) -> bool {
    now.saturating_sub(group.newest) >= window(group.tracker)
}
