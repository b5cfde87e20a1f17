//! Correlation: what many requests have in common, which none of them shows alone.
//!
//! An [`Observation`] is what is left of a request: which signatures held, and keyed hashes of its
//! account, network, template. A [`Correlator`] counts them by group and window, and tells which
//! correlations hold. It has no clock, no storage and no network: the same code runs in Durable
//! Objects and over recorded files.
#![deny(clippy::arithmetic_side_effects)]

mod aside;
pub mod batch;
mod frequency;
mod groups;
mod local;
mod members;
mod plan;
mod ring;
mod sequence;
mod shelf;
mod snapshot;
mod table;
mod told;

use std::sync::Arc;

use crate::correlation::Bound;
use crate::hash::{join, mix};

pub(crate) use groups::{Groups, combine};
pub use local::{Judged, Local};
pub use members::{EXACT, Member, Members, SAMPLE};
pub use plan::Plan;
pub use ring::STEPS;
pub use table::PARTS;

use groups::Key;
use members::is_within;
use plan::{Asks, Event, Kind, Of, Tracker, Watch, group_key};
use ring::Ring;
use sequence::Chain;
use shelf::Shelf;
use table::{Group, State, Table};
use told::Told;

/// What correlation keeps of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// When it came, in seconds since the epoch.
    pub at: u32,
    /// The signatures that held, by their place in [`Plan::rules`].
    pub rules: Vec<u16>,
    /// Hashes of values, by the place of their field in [`Plan::fields`], in that order.
    pub values: Vec<(u16, u64)>,
    /// Numbers, likewise.
    pub numbers: Vec<(u16, f64)>,
}

/// A correlation that holds for a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// Its place in the plan.
    pub correlation: usize,
    /// The group: its values, hashed together.
    pub key: u64,
    /// The values.
    pub values: Vec<u64>,
    /// When, in seconds since the epoch.
    pub at: u32,
    /// What was measured.
    pub measured: f64,
    /// Accounts of the group, as hashes; a sample where there are many.
    pub accounts: Vec<u64>,
}

/// Which groups a correlator has: those whose first value falls to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

/// Counts observations.
#[derive(Debug)]
pub struct Correlator {
    plan: Arc<Plan>,
    shard: Shard,
    /// Bytes that table and shelf may take.
    limit: usize,
    table: Table,
    shelf: Shelf,
    told: Told,
    /// Whether keys of one account are put aside.
    puts_aside: bool,
    observed: u32,
    /// Used again for every observation.
    groups: Groups,
    hits: Vec<Hit>,
    /// Which of the groups only wait.
    waits: Vec<bool>,
    /// Which rules held, a bit each.
    rules: Vec<u64>,
}

/// Values of a field that are counted of one request; further ones are left out.
pub const MAX_VALUES: usize = 64;

/// How far an observation's clock may be ahead, in seconds; what is further ahead is taken to be now.
const AHEAD: u32 = 60;

/// How late an observation may come, in seconds, and still find its group.
const LATE: u32 = 60;

/// Observations between two looks for groups that have expired.
const SWEEP: u32 = 4;

/// Of a group's values, one in so many events is waited for before they are all looked at again.
const REST: usize = 32;

impl Shard {
    /// All groups.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// The number of the one among `of` that has the groups of a first value.
    pub fn owner(first: u64, of: u32) -> u32 {
        let shard = mix(first).checked_rem(u64::from(of)).unwrap_or_default();
        u32::try_from(shard).unwrap_or_default()
    }

    /// Whether it has the groups of a first value.
    pub fn has(self, first: u64) -> bool {
        Self::owner(first, self.of) == self.number
    }
}

impl Observation {
    /// The values of a field.
    pub fn values(&self, field: u16) -> &[(u16, u64)] {
        let from = self.values.partition_point(|(own, _)| *own < field);
        let until = self.values.partition_point(|(own, _)| *own <= field);
        let until = until.min(from.saturating_add(MAX_VALUES));
        self.values.get(from..until).unwrap_or_default()
    }

    /// The account, hashed.
    pub fn account(&self) -> u64 {
        // It is the plan's first field.
        self.values(0).first().map_or(0, |(_, hash)| *hash)
    }

    /// Whether it has what a tracker counts, sums or tells apart.
    fn has(&self, tracker: &Tracker) -> bool {
        match (tracker.kind, tracker.field) {
            (Kind::Members, Some(field)) => !self.values(field).is_empty(),
            (Kind::Ring, Some(field)) => self.number(field).is_some(),
            _ => true,
        }
    }

    fn number(&self, field: u16) -> Option<f64> {
        self.numbers.iter().find(|(own, _)| *own == field).map(|(_, number)| *number)
    }
}

/// An event of a tracker: which of its rules, and for which first value, where not for all.
#[derive(Debug)]
struct Hit {
    tracker: usize,
    rule: usize,
    first: Option<u64>,
}

impl Correlator {
    /// A correlator for a shard that takes no more than `limit` bytes for its groups.
    pub fn new(plan: Arc<Plan>, shard: Shard, limit: usize) -> Self {
        let puts_aside = plan.groupings.iter().any(|grouping| grouping.aside.is_some());
        let shelf = Shelf::new(if puts_aside { limit / 2 } else { 0 });
        Self {
            plan,
            shard,
            limit,
            table: Table::new(limit.saturating_sub(shelf.limit())),
            shelf,
            told: Told::default(),
            puts_aside,
            observed: 0,
            groups: Groups::default(),
            hits: Vec::new(),
            waits: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Counts an observation; what holds by it is added to `firings`. `now` is the time, in seconds
    /// since the epoch.
    pub fn observe(&mut self, observation: &Observation, now: u32, firings: &mut Vec<Firing>) {
        let plan = Arc::clone(&self.plan);
        let at = observation.at.min(now.saturating_add(AHEAD));
        let at = if observation.at > at { now } else { at };
        let mut rules = std::mem::take(&mut self.rules);
        rules.clear();
        rules.resize(plan.rules().len().div_ceil(64), 0);
        for rule in &observation.rules {
            let word = rules.get_mut(usize::from(*rule / 64));
            word.into_iter().for_each(|word| *word |= 1 << (rule % 64));
        }
        let seen = Seen { plan: &plan, observation, rules: &rules, alone: None, at, now };
        let mut held: Vec<(usize, u64)> = Vec::new();
        let mut hits = std::mem::take(&mut self.hits);
        for (place, grouping) in plan.groupings.iter().enumerate() {
            hits.clear();
            for number in grouping.trackers.iter().copied() {
                let Some(tracker) = plan.trackers.get(number) else { continue };
                find_hits(number, tracker, &seen, &[], &mut hits);
            }
            if !hits.is_empty() {
                self.gather(&grouping.fields, observation);
                self.put_aside(&seen, place, &hits);
                self.count(&seen, &hits, &mut held, firings);
            }
        }
        self.waits.clear();
        for (number, tracker) in plan.trackers.iter().enumerate().filter(|(_, own)| own.is_fed()) {
            hits.clear();
            find_hits(number, tracker, &seen, &held, &mut hits);
            if !hits.is_empty() {
                self.gather(&tracker.group_by, observation);
                self.count(&seen, &hits, &mut held, firings);
            }
        }
        (self.hits, self.rules) = (hits, rules);
        self.observed = self.observed.wrapping_add(1);
        if self.observed.is_multiple_of(SWEEP) {
            self.table.sweep(now, &|tracker| kept(&plan, tracker));
        }
    }

    /// Begins every group with its first account: what tests compare with.
    pub fn hasty(mut self) -> Self {
        self.puts_aside = false;
        self
    }

    /// Tells of correlations that only feed others, too: their exemplars want to know.
    #[cfg(feature = "sigma")]
    pub(crate) fn tell_feeders(&mut self) {
        self.told.feeders = true;
        self.puts_aside = false;
    }

    /// Forgets that a correlation was told to hold for a key, so that it is told again.
    pub fn untell(&mut self, correlation: &str, key: u64) {
        let place = self.plan.correlations.iter().position(|own| own.name == correlation);
        if let Some(place) = place.and_then(|place| u16::try_from(place).ok()) {
            self.told.forget((key, place));
            self.table.touch(key);
        }
    }

    /// Bytes that groups take.
    pub fn bytes(&self) -> usize {
        self.table.bytes().saturating_add(self.shelf.bytes())
    }

    /// The number of groups, with those that only wait to begin.
    pub fn groups(&self) -> usize {
        self.table.len().saturating_add(self.shelf.len())
    }

    /// Groups that were given up or not begun for want of room.
    pub fn lost(&self) -> u64 {
        self.table.lost
    }

    /// The groups of an observation that are this shard's.
    fn gather(&mut self, fields: &[u16], observation: &Observation) {
        combine(fields, observation, &mut self.groups);
        let shard = self.shard;
        if shard.of > 1 {
            self.groups.only(|first| shard.has(first));
        }
        self.groups.join();
    }

    /// Counts hits for the groups, but for what waits.
    fn count(
        &mut self,
        seen: &Seen<'_>,
        hits: &[Hit],
        held: &mut Vec<(usize, u64)>,
        firings: &mut Vec<Firing>,
    ) {
        let groups = std::mem::take(&mut self.groups);
        let waits = std::mem::take(&mut self.waits);
        for hits in hits.chunk_by(|one, other| one.tracker == other.tracker) {
            let number = hits.first().map_or(usize::MAX, |hit| hit.tracker);
            let Some(tracker) = seen.plan.trackers.get(number) else { continue };
            let waits = waits.iter().copied().chain(std::iter::repeat(false));
            let keys = || {
                let counts = |(_, waits): &(Key<'_>, bool)| !waits || tracker.bit.is_none();
                groups.keys().zip(waits.clone()).filter(counts).map(|(key, _)| key)
            };
            self.table.warm(keys().map(|key| group_key(tracker, key.joined)));
            let tracked = seen.of(tracker);
            for key in keys().filter(|key| hits.iter().any(|hit| hit.is_of(key.first()))) {
                self.change(&tracked, key, hits, held, firings);
            }
        }
        (self.groups, self.waits) = (groups, waits);
    }

    /// Counts for one group; what holds.
    fn change(
        &mut self,
        tracked: &Tracked<'_>,
        own: Key<'_>,
        hits: &[Hit],
        held: &mut Vec<(usize, u64)>,
        firings: &mut Vec<Firing>,
    ) {
        let Tracked { seen: Seen { plan, observation, at, now, .. }, tracker, .. } = *tracked;
        let (joined, first) = (own.joined, own.first());
        let key = group_key(tracker, joined);
        let number = hits.first().map_or(usize::MAX, |hit| hit.tracker);
        let new = || Group {
            key,
            tracker: u16::try_from(number).unwrap_or(u16::MAX),
            newest: at,
            rest: 0,
            state: State::of(tracker),
        };
        // A sequence begins with its first rule.
        let begins = tracker.kind != Kind::Chain || hits.iter().any(|hit| hit.rule == 0);
        if !begins && !self.table.has(key) {
            return;
        }
        let window = |tracker: u16| kept(plan, tracker);
        let (told, known) = (&mut self.told, firings.len());
        self.table.with((key, observation.account()), now, &window, new, |group| {
            // Clocks jump: what seems to come from the future is forgotten, and so is what is over.
            let is_over = !is_within(group.newest, at, tracker.longest());
            let is_ahead = group.newest > now.saturating_add(AHEAD);
            if is_over || is_ahead {
                group.state = State::of(tracker);
                (group.newest, group.rest) = (at, 0);
            }
            group.newest = group.newest.max(at);
            let rests = group.rest > 0;
            group.rest = group.rest.saturating_sub(1);
            let meant = hits.iter().filter(|hit| hit.is_of(first));
            group.state.add(tracked, group.newest, meant.map(|hit| hit.rule));
            for watch in &tracker.watches {
                // Measuring takes long, for nothing where it was told and nobody is fed by it.
                let is_fed = plan.feeds.get(watch.correlation).is_some_and(|feeds| *feeds);
                if !is_fed && !told.is_due(plan, watch.correlation, joined, at) {
                    continue;
                }
                let Some(measured) = group.state.measure(tracked, watch, group.newest) else {
                    continue;
                };
                if rests && watch.asks.is_crowd() || !group.is_fit(tracked, watch) {
                    continue;
                }
                held.push((watch.correlation, first));
                if !own.values.is_empty() && told.is_news(plan, watch.correlation, joined, at) {
                    let accounts = group.state.accounts(tracked, watch, group.newest);
                    firings.push(tracked.firing(watch, own.values, measured, accounts));
                }
            }
        });
        // It is written down with the part of its key, which need not be that of the group.
        firings.iter().skip(known).for_each(|firing| self.table.touch(firing.key));
    }
}

impl Hit {
    fn is_of(&self, first: u64) -> bool {
        self.first.is_none_or(|own| own == first)
    }
}

/// What is being counted, and when.
#[derive(Clone, Copy)]
struct Seen<'t> {
    plan: &'t Plan,
    observation: &'t Observation,
    /// Which of the plan's rules held, a bit each.
    rules: &'t [u64],
    /// Where that was put aside: since when its account has the key, and with how many events.
    alone: Option<(u32, u16)>,
    at: u32,
    now: u32,
}

/// And where.
#[derive(Clone, Copy)]
struct Tracked<'t> {
    seen: Seen<'t>,
    tracker: &'t Tracker,
    /// The values of the tracker's field.
    values: &'t [(u16, u64)],
}

impl<'t> Seen<'t> {
    fn of(self, tracker: &'t Tracker) -> Tracked<'t> {
        let values = tracker.field.map(|field| self.observation.values(field));
        Tracked { seen: self, tracker, values: values.unwrap_or_default() }
    }
}

impl Tracked<'_> {
    fn firing(&self, watch: &Watch, values: &[u64], measured: f64, accounts: Vec<u64>) -> Firing {
        let (correlation, at) = (watch.correlation, self.seen.at);
        Firing { correlation, key: join(values), values: values.to_vec(), at, measured, accounts }
    }
}

impl Group {
    /// Whether its values are as coordinated as a correlation asks. To look at many of them takes
    /// long: where they are not, that rests until a few in a hundred are new.
    fn is_fit(&mut self, tracked: &Tracked<'_>, watch: &Watch) -> bool {
        let (Asks::Number { crowd, .. }, State::Members(members)) = (&watch.asks, &self.state)
        else {
            return true;
        };
        let window = tracked.tracker.windows.get(watch.window).copied().unwrap_or_default();
        let fits = members.fits(crowd, watch.window, window, self.newest);
        if !fits {
            let kept = members.within(watch.window, window, self.newest).count();
            self.rest = u16::try_from(kept / REST).unwrap_or(u16::MAX);
        }
        fits
    }
}

impl State {
    fn of(tracker: &Tracker) -> Self {
        match tracker.kind {
            Kind::Members => Self::Members(Members::Few(Vec::new())),
            Kind::Ring => Self::Ring(Ring::default()),
            Kind::Seen => Self::Seen(sequence::Seen::new(tracker.events.len())),
            Kind::Chain => Self::Chain(Chain::new(tracker.events.len())),
        }
    }

    fn add(
        &mut self,
        tracked: &Tracked<'_>,
        newest: u32,
        hits: impl DoubleEndedIterator<Item = usize>,
    ) {
        let Tracked { seen: Seen { observation, at, .. }, tracker, values } = *tracked;
        let window = tracker.longest();
        let field = tracker.field;
        match self {
            Self::Members(members) => {
                for (_, hash) in values {
                    members.see(*hash, at, newest, &tracker.windows);
                    if let Some(alone) = tracked.seen.alone {
                        members.alone(*hash, alone, &tracker.windows);
                    }
                }
            }
            Self::Ring(ring) => {
                let number = match field {
                    None => Some(1.0),
                    Some(field) => observation.number(field),
                };
                if let Some(number) = number {
                    let lately =
                        |(since, events)| members::lately(events, at.saturating_sub(since), window);
                    let events = tracked.seen.alone.map_or(1, lately);
                    ring.add((number, events), at, newest, window);
                }
            }
            Self::Seen(seen) => hits.for_each(|rule| seen.add(rule, at)),
            Self::Chain(chain) => {
                let value = values.first().map(|(_, hash)| *hash);
                // From the last rule on: no request follows itself.
                hits.rev().for_each(|rule| chain.add(rule, at, value));
            }
        }
    }

    /// What a correlation measures, where its bounds hold.
    fn measure(&self, tracked: &Tracked<'_>, watch: &Watch, newest: u32) -> Option<f64> {
        let window = *tracked.tracker.windows.get(watch.window)?;
        let (measured, holds) = match (self, &watch.asks) {
            (Self::Members(members), Asks::Number { bounds, .. }) => {
                let count = members.count(watch.window, window, newest);
                (count, Bound::all(bounds, count))
            }
            (Self::Ring(ring), Asks::Number { of, bounds, .. }) => {
                let (count, sum) = ring.total(newest, window);
                let measured = match of {
                    Of::Sum => sum,
                    Of::Mean => sum / count.max(1.0),
                    Of::Events | Of::Values => count,
                };
                (measured, count > 0.0 && Bound::all(bounds, measured))
            }
            (Self::Seen(seen), Asks::Rules(condition, rules)) => {
                let has = |name: &str| {
                    let rule = rules.iter().position(|rule| rule == name);
                    rule.is_some_and(|rule| seen.has(rule, newest, window))
                };
                if !condition.holds(&mut |name| has(name)) {
                    return None;
                }
                (rules.iter().filter(|rule| has(rule)).count() as f64, true)
            }
            (Self::Chain(chain), Asks::Whole) => {
                (tracked.tracker.events.len() as f64, chain.is_whole(newest, window))
            }
            _ => return None,
        };
        holds.then_some(measured)
    }

    /// The accounts that share a group, as far as they are known.
    fn accounts(&self, tracked: &Tracked<'_>, watch: &Watch, newest: u32) -> Vec<u64> {
        let window = tracked.tracker.windows.get(watch.window).copied().unwrap_or_default();
        match self {
            Self::Members(members) if tracked.tracker.field == Some(0) => {
                members.within(watch.window, window, newest).map(|member| member.hash).collect()
            }
            // Who has no account has none in common with others.
            _ => Some(tracked.seen.observation.account())
                .filter(|own| *own != 0)
                .into_iter()
                .collect(),
        }
    }
}

/// Finds the events of a tracker in an observation and in what holds by it.
fn find_hits(
    number: usize,
    tracker: &Tracker,
    seen: &Seen<'_>,
    held: &[(usize, u64)],
    hits: &mut Vec<Hit>,
) {
    let mut words = tracker.signatures.iter().zip(seen.rules);
    let is_hit = words.any(|(own, held)| own & held != 0);
    if !is_hit && held.is_empty() || !seen.observation.has(tracker) {
        return;
    }
    // To these all events are the same.
    if is_hit && matches!(tracker.kind, Kind::Members | Kind::Ring) {
        hits.push(Hit { tracker: number, rule: 0, first: None });
        return;
    }
    for (rule, event) in tracker.events.iter().enumerate() {
        match event {
            Event::Signature(place) => {
                let word = seen.rules.get(place / 64).copied().unwrap_or_default();
                if word >> (place % 64) & 1 == 1 {
                    hits.push(Hit { tracker: number, rule, first: None });
                }
            }
            Event::Correlation(place) => {
                let own = held.iter().filter(|(correlation, _)| correlation == place);
                let hit = |first: u64| Hit { tracker: number, rule, first: Some(first) };
                hits.extend(own.map(|(_, first)| hit(*first)));
            }
        }
    }
}

/// How long after its latest event a tracker's group is kept.
fn kept(plan: &Plan, tracker: u16) -> u32 {
    let longest = plan.trackers.get(usize::from(tracker)).map_or(0, Tracker::longest);
    longest.saturating_add(LATE)
}
