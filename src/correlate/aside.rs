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
    Asks, Event, Grouping, Kind, Of, Plan, Tracker, Watch, group_key, key_of, values_of,
};
use super::ring::finite;
use super::shelf::{Aside, Moment};
use super::{Correlator, Hit, Key, Observation, Seen, find_hits};
use crate::correlation::{Bound, Correlation, Measure};
use crate::field::{Field, Name};
use crate::hash::HashKey;
use crate::signature::Condition;

/// What of a grouping waits for a second account.
#[derive(Debug, Default)]
pub(super) struct Asides {
    /// Stays the same as long as the same waits.
    pub id: u64,
    /// How long a key is remembered.
    longest: u32,
    /// Trackers that wait.
    waiting: Vec<usize>,
    /// Trackers that are fed by those.
    fed: Vec<usize>,
    /// After how long an account is new again, to the most patient.
    since: u32,
    /// The field of which there is a mean.
    number: Option<u16>,
}

/// Fewer trackers than this are not worth a place of their own.
const LEAST: usize = 2;

impl Asides {
    /// What can wait among the trackers of a grouping; they are told their bits.
    pub fn of(
        grouping: &Grouping,
        trackers: &mut [Tracker],
        correlations: &[Correlation],
    ) -> Option<Self> {
        let mut asides = Self::default();
        let (mut bit, mut id) = (0_u8, String::new());
        for place in grouping.trackers.iter().copied() {
            let Some(fed) = fed_by(place, trackers, correlations) else { continue };
            let Some(tracker) = trackers.get_mut(place) else { continue };
            let number = tracker.field.filter(|_| tracker.kind == Kind::Ring);
            if asides.number.is_some() && number.is_some() && asides.number != number {
                continue;
            }
            let width = bits(tracker);
            let next = bit.saturating_add(width);
            if u32::from(next) > u32::BITS {
                continue;
            }
            asides.number = asides.number.or(number);
            asides.since = asides.since.max(tracker.counted());
            tracker.bit = Some(bit);
            bit = next;
            asides.longest = asides.longest.max(tracker.longest());
            id.push_str(&format!("{:x} ", tracker.id));
            asides.waiting.push(place);
            asides.fed.extend(fed);
        }
        if asides.waiting.len() < LEAST {
            for tracker in trackers.iter_mut().filter(|own| own.group_by == grouping.fields) {
                tracker.bit = None;
            }
            return None;
        }
        asides.fed.sort_unstable();
        asides.fed.dedup();
        asides.id = HashKey::default().value("aside", id.as_bytes());
        Some(asides)
    }

    /// What is put aside of an observation; `None` if it is more than fits, and begins its groups.
    fn take(&self, seen: &Seen<'_>, hits: u32, grouping: u16) -> Option<Aside> {
        let [(_, account)] = seen.observation.values(0) else { return None };
        let number = self.number.and_then(|field| seen.observation.number(field));
        let number = number.map_or(f32::NAN, finite);
        let own = Aside { account: *account, since: seen.at, number, events: 1, hits, grouping };
        (*account != 0).then_some(own)
    }

    /// The observation that was put aside, as far as those that waited look at it.
    fn observation(&self, aside: &Aside, at: u32) -> Observation {
        let number = self.number.filter(|_| !aside.number.is_nan());
        Observation {
            at,
            rules: Vec::new(),
            // The account is the plan's first field.
            values: vec![(0, aside.account)],
            numbers: number.map(|field| (field, f64::from(aside.number))).into_iter().collect(),
        }
    }
}

impl Correlator {
    /// Puts an observation aside for those of its keys that no other account has had, and begins the
    /// groups of those that one has. Which keys wait is left in `self.waits`.
    pub(super) fn put_aside(&mut self, seen: &Seen<'_>, number: usize, hits: &[Hit]) {
        self.waits.clear();
        let grouping = seen.plan.groupings.get(number);
        let asides = grouping.and_then(|grouping| grouping.aside.as_ref());
        let Some(asides) = asides.filter(|_| self.puts_aside) else { return };
        let bits = hits.iter().fold(0, |all, hit| all | mask(seen.plan, hit));
        if bits == 0 {
            return;
        }
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let other = Aside { grouping: number, ..Aside::default() };
        let own = asides.take(seen, bits, number).unwrap_or(other);
        let groups = std::mem::take(&mut self.groups);
        self.shelf.warm(groups.keys().map(|key| key_of(asides.id, key.joined)));
        for key in groups.keys() {
            let hit = hits.iter().filter_map(|hit| seen.plan.trackers.get(hit.tracker));
            let (waits, first) = self.exchange(asides, key.joined, own, (seen.at, seen.now), hit);
            self.waits.push(waits);
            if let Some(first) = first {
                self.begin(seen.plan, asides, key.joined, first, seen.now);
            }
        }
        self.groups = groups;
    }

    /// Takes an observation that was put aside in an earlier life, at its time.
    pub(super) fn keep_aside(
        &mut self,
        plan: &Plan,
        key: u64,
        (aside, at): (Aside, u32),
        now: u32,
    ) {
        let grouping = plan.groupings.get(usize::from(aside.grouping));
        let Some(asides) = grouping.and_then(|grouping| grouping.aside.as_ref()) else { return };
        let joined = values_of(asides.id, key);
        let waiting = asides.waiting.iter().filter_map(|place| plan.trackers.get(*place));
        let (waits, first) = self.exchange(asides, joined, aside, (at, now), waiting);
        let own = (aside.waits() && !waits).then_some((aside, at));
        let mut both: Vec<(Aside, u32)> = first.into_iter().chain(own).collect();
        both.sort_by_key(|(_, at)| *at);
        for first in both {
            self.begin(plan, asides, joined, first, now);
        }
    }

    /// Whether a key waits, and what had waited. One that the shelf does not know has others all the
    /// same if there are groups of it, for some of `trackers`: the shelf forgets.
    fn exchange<'t>(
        &mut self,
        asides: &Asides,
        joined: u64,
        own: Aside,
        (at, now): (u32, u32),
        trackers: impl Iterator<Item = &'t Tracker>,
    ) -> (bool, Option<(Aside, u32)>) {
        let key = key_of(asides.id, joined);
        let moment = Moment { at, now, longest: asides.longest, since: asides.since };
        let room = self.limit.saturating_sub(self.bytes());
        self.table.touch(key);
        let mut waiting = trackers.filter(|tracker| tracker.bit.is_some());
        let has_begun = || waiting.any(|tracker| self.table.has(group_key(tracker, joined)));
        self.shelf.exchange(key, own, moment, room, has_begun)
    }

    /// Counts an observation that had been put aside, in the groups that now begin.
    fn begin(
        &mut self,
        plan: &Plan,
        asides: &Asides,
        joined: u64,
        (aside, at): (Aside, u32),
        now: u32,
    ) {
        let observation = asides.observation(&aside, at);
        let seen = Seen { plan, observation: &observation, rules: &[], alone: None, at, now };
        let (mut held, mut firings, mut hits) = (Vec::new(), Vec::new(), Vec::new());
        // Nothing is told by it.
        let key = Key { values: &[], joined };
        for number in asides.waiting.iter().copied() {
            let Some(tracker) = plan.trackers.get(number) else { continue };
            let all =
                (0..tracker.events.len()).map(|rule| Hit { tracker: number, rule, first: None });
            hits.clear();
            // To trackers of one bit all events are the same.
            let most = if bits(tracker) == 1 { 1 } else { usize::MAX };
            hits.extend(all.filter(|hit| aside.hits & mask(plan, hit) != 0).take(most));
            if !hits.is_empty() {
                let seen = Seen { alone: Some(aside.alone(at, tracker.counted())), ..seen };
                self.change(&seen.of(tracker), key, &hits, &mut held, &mut firings);
            }
        }
        for number in asides.fed.iter().copied() {
            let Some(tracker) = plan.trackers.get(number) else { continue };
            hits.clear();
            find_hits(number, tracker, &seen, &held, &mut hits);
            if !hits.is_empty() {
                self.change(&seen.of(tracker), key, &hits, &mut held, &mut firings);
            }
        }
    }
}

/// The bit of a hit, if its tracker waits.
fn mask(plan: &Plan, hit: &Hit) -> u32 {
    let Some(tracker) = plan.trackers.get(hit.tracker) else { return 0 };
    let Some(bit) = tracker.bit else { return 0 };
    // Where all events are the same, one bit is theirs.
    let rule = if bits(tracker) == 1 { 0 } else { hit.rule };
    u32::try_from(rule)
        .ok()
        .and_then(|rule| 1_u32.checked_shl(u32::from(bit).saturating_add(rule)))
        .unwrap_or(0)
}

/// How many bits a tracker's hits take.
fn bits(tracker: &Tracker) -> u8 {
    match tracker.kind {
        Kind::Chain => u8::try_from(tracker.events.len()).unwrap_or(u8::MAX),
        _ => 1,
    }
}

/// The trackers that a tracker feeds, if it can wait for a second account: if nothing can hold by a
/// single one but what is told to nobody and makes nothing else hold.
fn fed_by(place: usize, trackers: &[Tracker], correlations: &[Correlation]) -> Option<Vec<usize>> {
    let tracker = trackers.get(place)?;
    let is_mean = |watch: &Watch| matches!(watch.asks, Asks::Number { of: Of::Mean, .. });
    let may_wait = match tracker.kind {
        Kind::Members => tracker.field == Some(0),
        Kind::Ring => tracker.watches.iter().all(is_mean),
        // All that is kept of who was first is the account.
        Kind::Chain => tracker.field.is_none_or(|field| field == 0),
        Kind::Seen => false,
    };
    if !may_wait || tracker.is_fed() {
        return None;
    }
    let mut all_fed = Vec::new();
    for watch in &tracker.watches {
        let correlation = correlations.get(watch.correlation)?;
        if is_quiet(correlation, correlations) {
            continue;
        }
        let event = Event::Correlation(watch.correlation);
        let fed = trackers.iter().enumerate().filter(|(_, own)| own.events.contains(&event));
        for (number, fed) in fed {
            let mut watches = fed.watches.iter().map(|watch| correlations.get(watch.correlation));
            let are_quiet = watches.all(|own| own.is_some_and(|own| is_quiet(own, correlations)));
            let is_pure = fed.events.iter().all(|event| matches!(event, Event::Correlation(_)));
            let is_own = fed.kind == Kind::Seen && fed.group_by == tracker.group_by;
            if !(are_quiet && is_pure && is_own) {
                return None;
            }
            all_fed.push(number);
        }
        if !correlation.is_feeder() {
            return None;
        }
    }
    Some(all_fed)
}

/// Whether a correlation cannot hold by what a single account does.
fn is_quiet(correlation: &Correlation, all: &[Correlation]) -> bool {
    let is_account = |field: &Field| *field == Field::Known(Name::Account);
    match &correlation.measure {
        Measure::ValueCount { field, bounds } => {
            is_account(field) && !Bound::all(bounds, 1.0) && !Bound::all(bounds, 0.0)
        }
        Measure::EventCount { .. } | Measure::ValueSum { .. } | Measure::ValueAvg { .. } => false,
        Measure::Temporal { condition } => !may_hold(condition, &|rule| {
            let inner = all.iter().find(|own| own.name == rule);
            inner.is_none_or(|inner| !is_quiet(inner, all))
        }),
        Measure::TemporalOrdered { apart } => {
            correlation.rules.len() > 1 && apart.as_ref().is_some_and(is_account)
        }
    }
}

/// Whether a condition may hold if some of its names may.
fn may_hold(condition: &Condition, may: &dyn Fn(&str) -> bool) -> bool {
    match condition {
        Condition::All(inner) => inner.iter().all(|inner| may_hold(inner, may)),
        Condition::Any(inner) => inner.iter().any(|inner| may_hold(inner, may)),
        Condition::Not(_) => true,
        Condition::Is(name) => may(name),
    }
}
