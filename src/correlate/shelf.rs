//! Where keys are that one account has: a table that forgets what was not seen for longest. A flood of
//! keys that nobody else uses ends here, and pushes out only its own kind.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use super::AHEAD;
use super::members::is_within;
use super::table::PARTS;

/// What a key's only account has sent, or that it has others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Aside {
    pub account: u64,
    /// Since when it has the key.
    pub since: u32,
    /// The mean of a number; not a number for none.
    pub number: f32,
    /// Of so many events.
    pub events: u16,
    /// The place of its grouping in the plan.
    pub grouping: u16,
    /// What each event hit, by its bit; nothing once there were others.
    pub hits: u32,
}

/// Places by key.
#[derive(Debug)]
pub struct Shelf {
    /// 0 where there is none.
    keys: Vec<u64>,
    /// When each was last seen.
    newest: Vec<u32>,
    asides: Vec<Aside>,
    /// Slots that there may be.
    most: usize,
}

/// When a key is seen, and how long it is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub at: u32,
    pub now: u32,
    pub longest: u32,
    /// After how long an account is new again.
    pub since: u32,
}

/// Keys that share a place.
const WAYS: usize = 8;

/// Slots at the beginning.
const FEWEST: usize = PARTS * WAYS;

/// Bytes of a slot.
const SLOT: usize = size_of::<u64>() + size_of::<u32>() + size_of::<Aside>();

impl Aside {
    /// Whether it waits for another account.
    pub fn waits(&self) -> bool {
        self.hits != 0
    }

    /// Whether the same account has sent more of the same.
    fn is_like(&self, other: &Self) -> bool {
        self.waits() && (self.account, self.hits) == (other.account, other.hits)
    }

    /// Since when its account has the key, to someone to whom it is new again after some time without
    /// events, and how many events it had. The latest was at `at`; the others lie evenly before it.
    pub fn alone(&self, at: u32, counted: u32) -> (u32, u16) {
        let gaps = u32::from(self.events.saturating_sub(1)).max(1);
        let gap = at.saturating_sub(self.since).checked_div(gaps).unwrap_or_default();
        let is_new = gap >= counted;
        (if is_new { at } else { self.since }, self.events)
    }

    /// Adds what the same account has sent.
    fn add(&mut self, other: &Self) {
        let (own, more) = (f32::from(self.events), f32::from(other.events));
        self.since = self.since.min(other.since);
        self.number = match (self.number.is_nan(), other.number.is_nan()) {
            (true, _) => other.number,
            (_, true) => self.number,
            _ => (self.number * own + other.number * more) / (own + more).max(1.0),
        };
        self.events = self.events.saturating_add(other.events);
    }
}

impl Shelf {
    /// A shelf that grows up to so many bytes.
    pub fn new(limit: usize) -> Self {
        let mut most = FEWEST;
        while most.saturating_mul(2).saturating_mul(SLOT) <= limit {
            most = most.saturating_mul(2);
        }
        let mut shelf = Self { keys: vec![], newest: vec![], asides: vec![], most };
        shelf.resize(FEWEST);
        shelf
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.keys.len().saturating_mul(SLOT)
    }

    /// Bytes that it may take.
    pub fn limit(&self) -> usize {
        self.most.saturating_mul(SLOT)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.iter().filter(|key| **key != 0).count()
    }

    /// Notes that a key was seen, and puts `own` aside if it waits and no other account had the key.
    /// Whether that is so; and what had waited until now, with its time. `room` is how many bytes there
    /// are to grow. `has_begun` says whether a key that is not known had others: such a one was forgotten.
    pub fn exchange(
        &mut self,
        key: u64,
        own: Aside,
        moment: Moment,
        room: usize,
        has_begun: impl FnOnce() -> bool,
    ) -> (bool, Option<(Aside, u32)>) {
        let Moment { at, now, longest, since } = moment;
        let known = self.find(key);
        let own = match known {
            None if own.waits() && has_begun() => Aside { hits: 0, ..own },
            _ => own,
        };
        let place = known.unwrap_or_else(|| self.place(key, now, room));
        let (Some(newest), Some(aside)) = (self.newest.get_mut(place), self.asides.get_mut(place))
        else {
            return (false, None);
        };
        let is_current = is_within(*newest, at, longest) && *newest <= now.saturating_add(AHEAD);
        if known.is_none() || !is_current {
            (*newest, *aside) = (at, own);
            if let Some(slot) = self.keys.get_mut(place) {
                *slot = key;
            }
            return (own.waits(), None);
        }
        if aside.is_like(&own) {
            if at.saturating_sub(*newest) >= since {
                aside.since = own.since;
            }
            aside.add(&own);
            *newest = (*newest).max(at);
            return (true, None);
        }
        let before = (std::mem::replace(aside, Aside { hits: 0, ..own }), *newest);
        *newest = (*newest).max(at);
        (false, Some(before).filter(|(aside, _)| aside.waits()))
    }

    /// What is kept of some keys, by the first bits of those.
    pub fn part(&self, part: usize) -> impl Iterator<Item = (u64, u32, Aside)> {
        let size = self.keys.len() / PARTS;
        let all = self.keys.iter().zip(&self.newest).zip(&self.asides);
        let own = all.skip(part.saturating_mul(size)).take(size);
        own.filter(|((key, _), _)| **key != 0).map(|((key, newest), aside)| (*key, *newest, *aside))
    }

    /// Reads where some keys are, all at once.
    pub fn warm(&self, keys: impl Iterator<Item = u64>) {
        let mut sum = 0;
        for key in keys {
            let slots = self.slots(key);
            for slot in [slots.start, slots.end.saturating_sub(1)] {
                sum ^= self.keys.get(slot).copied().unwrap_or_default();
                sum ^= u64::from(self.newest.get(slot).copied().unwrap_or_default());
            }
        }
        std::hint::black_box(sum);
    }

    fn resize(&mut self, slots: usize) {
        self.keys.resize(slots, 0);
        self.newest.resize(slots, 0);
        self.asides.resize(slots, Aside::default());
    }

    /// The slots in which a key may be: they are in the order of the keys.
    fn slots(&self, key: u64) -> std::ops::Range<usize> {
        let places = (self.keys.len() / WAYS) as u128;
        let from = ((u128::from(key).saturating_mul(places) >> 64) as usize).saturating_mul(WAYS);
        from..from.saturating_add(WAYS)
    }

    fn find(&self, key: u64) -> Option<usize> {
        let slots = self.slots(key);
        let at = self.keys.get(slots.clone())?.iter().position(|own| *own == key)?;
        Some(slots.start.saturating_add(at))
    }

    /// A slot for a new key: an empty one, or that of the key that was not seen for longest.
    fn place(&mut self, key: u64, now: u32, room: usize) -> usize {
        loop {
            let slots = self.slots(key);
            if let Some(place) = self.find_empty(slots.clone()) {
                return place;
            }
            let more = self.keys.len().saturating_mul(2);
            if more > self.most || more.saturating_mul(SLOT) > room {
                // Clocks jump: what seems to come from the future is the first to go.
                let is_possible = |newest: &u32| *newest <= now.saturating_add(AHEAD);
                let newest = |place: &usize| self.newest.get(*place).copied().filter(is_possible);
                return slots.min_by_key(newest).unwrap_or_default();
            }
            self.grow(more);
        }
    }

    fn find_empty(&self, slots: std::ops::Range<usize>) -> Option<usize> {
        let at = self.keys.get(slots.clone())?.iter().position(|own| *own == 0)?;
        Some(slots.start.saturating_add(at))
    }

    fn grow(&mut self, slots: usize) {
        let mut old = Self { keys: vec![], newest: vec![], asides: vec![], most: self.most };
        std::mem::swap(self, &mut old);
        self.resize(slots);
        for ((key, newest), aside) in old.keys.into_iter().zip(old.newest).zip(old.asides) {
            // What shared a place is spread over two.
            let Some(place) = (key != 0).then(|| self.find_empty(self.slots(key))).flatten() else {
                continue;
            };
            if let (Some(own), Some(time), Some(kept)) =
                (self.keys.get_mut(place), self.newest.get_mut(place), self.asides.get_mut(place))
            {
                (*own, *time, *kept) = (key, newest, aside);
            }
        }
    }
}
