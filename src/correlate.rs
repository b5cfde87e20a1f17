//! Correlation: what many requests have in common, which none of them shows alone.
//!
//! An [`Observation`] is what is left of a request: which signatures held, and keyed hashes of its
//! account, network, template. A [`Correlator`] counts them by group and window, and tells which
//! correlations hold. It has no clock, no storage and no network: the same code runs in Durable
//! Objects and over recorded files.
#![deny(clippy::arithmetic_side_effects)]

pub mod batch;
mod frequency;
mod local;
mod members;
mod plan;
mod ring;
mod sequence;
mod snapshot;
mod table;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::correlation::Bound;
use crate::hash::{join, mix};

pub use local::Local;
pub use members::{EXACT, Member, Members, SAMPLE};
pub use plan::Plan;
pub use ring::STEPS;
pub use table::PARTS;

use members::is_within;
use plan::{Asks, Event, Kind, Of, Tracker, Watch, group_key};
use ring::Ring;
use sequence::{Chain, Seen};
use table::{Group, State, Table};

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
    plan: Rc<Plan>,
    shard: Shard,
    table: Table,
    /// When a correlation was last told to hold for a key.
    told: BTreeMap<(u16, u64), u32>,
}

/// Groups that one request may belong to for one tracker; further ones are left out.
const MAX_GROUPS: usize = 64;

/// Values of a field that are counted of one request; further ones are left out.
pub const MAX_VALUES: usize = 64;

/// How far an observation's clock may be ahead, in seconds; what is further ahead is taken to be now.
const AHEAD: u32 = 60;

/// How late an observation may come, in seconds, and still find its group.
const LATE: u32 = 60;

/// Firings that are remembered, so that they are not told again too soon.
const MAX_TOLD: usize = 100_000;

/// A firing is told again after so much of the time that it lasts.
const AGAIN: u32 = 4;

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

    fn number(&self, field: u16) -> Option<f64> {
        self.numbers.iter().find(|(own, _)| *own == field).map(|(_, number)| *number)
    }
}

/// An event of a tracker: which of its rules, and for which first value, where not for all.
struct Hit {
    rule: usize,
    first: Option<u64>,
}

impl Correlator {
    /// A correlator for a shard that takes no more than `limit` bytes for its groups.
    pub fn new(plan: Rc<Plan>, shard: Shard, limit: usize) -> Self {
        Self { plan, shard, table: Table::new(limit), told: BTreeMap::new() }
    }

    /// Counts an observation; what holds by it is added to `firings`. `now` is the time, in seconds
    /// since the epoch.
    pub fn observe(&mut self, observation: &Observation, now: u32, firings: &mut Vec<Firing>) {
        let plan = Rc::clone(&self.plan);
        let at = observation.at.min(now.saturating_add(AHEAD));
        let at = if observation.at > at { now } else { at };
        let mut held: Vec<(usize, u64)> = Vec::new();
        for (number, tracker) in plan.trackers.iter().enumerate() {
            let hits = hits(tracker, observation, &held);
            if hits.is_empty() {
                continue;
            }
            let tracked = Tracked { plan: &plan, tracker, number, observation, at, now };
            self.track(&tracked, &hits, &mut held, firings);
        }
        let window = |tracker: u16| kept(&plan, tracker);
        self.table.sweep(now, &window);
    }

    /// Bytes that groups take.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.table.len()
    }

    /// Groups that were given up or not begun for want of room.
    pub fn lost(&self) -> u64 {
        self.table.lost
    }

    fn track(
        &mut self,
        tracked: &Tracked<'_>,
        hits: &[Hit],
        held: &mut Vec<(usize, u64)>,
        firings: &mut Vec<Firing>,
    ) {
        let mut groups = Vec::new();
        combine(&tracked.tracker.group_by, tracked.observation, &mut groups);
        for values in groups.iter().take(MAX_GROUPS) {
            let Some(first) = values.first().copied() else { continue };
            if !self.shard.has(first) {
                continue;
            }
            let is_meant = |hit: &&Hit| hit.first.is_none_or(|own| own == first);
            let hits: Vec<usize> = hits.iter().filter(is_meant).map(|hit| hit.rule).collect();
            if hits.is_empty() {
                continue;
            }
            for (watch, measured, accounts) in self.change(tracked, join(values), &hits) {
                held.push((watch.correlation, first));
                let firing = tracked.firing(watch, values, measured, accounts);
                if self.is_news(&tracked.plan, &firing) {
                    firings.push(firing);
                }
            }
        }
    }

    /// Counts for one group; the correlations that hold, with what was measured.
    fn change<'t>(
        &mut self,
        tracked: &Tracked<'t>,
        values: u64,
        hits: &[usize],
    ) -> Vec<(&'t Watch, f64, Vec<u64>)> {
        let Tracked { plan, tracker, number, observation, at, now } = *tracked;
        let key = group_key(tracker, values);
        let new = || Group {
            key,
            tracker: u16::try_from(number).unwrap_or(u16::MAX),
            newest: at,
            state: State::of(tracker),
        };
        let window = |tracker: u16| kept(plan, tracker);
        let held = self.table.with((key, observation.account()), now, &window, new, |group| {
            // Clocks jump: what seems to come from the future is forgotten, and so is what is over.
            let is_over = !is_within(group.newest, at, tracker.longest());
            let is_ahead = group.newest > now.saturating_add(AHEAD);
            if is_over || is_ahead {
                group.state = State::of(tracker);
                group.newest = at;
            }
            group.newest = group.newest.max(at);
            group.state.add(tracked, group.newest, hits);
            let holds = |watch: &&Watch| group.state.measure(tracked, watch, group.newest);
            let holding = tracker.watches.iter().filter_map(|watch| {
                let measured = holds(&watch)?;
                Some((watch, measured, group.state.accounts(tracked, watch, group.newest)))
            });
            holding.collect()
        });
        held.unwrap_or_default()
    }

    /// Whether a firing has not been told lately.
    fn is_news(&mut self, plan: &Plan, firing: &Firing) -> bool {
        let Some(correlation) = plan.correlations.get(firing.correlation) else { return false };
        let key = (u16::try_from(firing.correlation).unwrap_or(u16::MAX), firing.key);
        let again = correlation.lasts / AGAIN;
        match self.told.get_mut(&key) {
            Some(told) if firing.at.abs_diff(*told) < again => return false,
            Some(told) => *told = firing.at,
            None => {
                if self.told.len() >= MAX_TOLD {
                    self.told.retain(|_, told| firing.at.saturating_sub(*told) < again);
                }
                if self.told.len() < MAX_TOLD {
                    self.told.insert(key, firing.at);
                }
            }
        }
        // It is written down with the part of its key, which need not be that of the group.
        self.table.touch(firing.key);
        true
    }
}

/// What is being counted where.
#[derive(Clone, Copy)]
struct Tracked<'t> {
    plan: &'t Plan,
    tracker: &'t Tracker,
    number: usize,
    observation: &'t Observation,
    at: u32,
    now: u32,
}

impl Tracked<'_> {
    fn firing(&self, watch: &Watch, values: &[u64], measured: f64, accounts: Vec<u64>) -> Firing {
        let (correlation, at) = (watch.correlation, self.at);
        Firing { correlation, key: join(values), values: values.to_vec(), at, measured, accounts }
    }
}

impl State {
    fn of(tracker: &Tracker) -> Self {
        match tracker.kind {
            Kind::Members => Self::Members(Members::Few(Vec::new())),
            Kind::Ring => Self::Ring(Ring::default()),
            Kind::Seen => Self::Seen(Seen::new(tracker.events.len())),
            Kind::Chain => Self::Chain(Chain::new(tracker.events.len())),
        }
    }

    fn add(&mut self, tracked: &Tracked<'_>, newest: u32, hits: &[usize]) {
        let Tracked { tracker, observation, at, .. } = *tracked;
        let window = tracker.longest();
        let field = tracker.field;
        match self {
            Self::Members(members) => {
                for (_, hash) in field.map(|field| observation.values(field)).unwrap_or_default() {
                    members.see(*hash, at, newest, &tracker.windows);
                }
            }
            Self::Ring(ring) => {
                let number = match field {
                    None => Some(1.0),
                    Some(field) => observation.number(field),
                };
                if let Some(number) = number {
                    ring.add(number, at, newest, window);
                }
            }
            Self::Seen(seen) => hits.iter().for_each(|rule| seen.add(*rule, at)),
            Self::Chain(chain) => {
                let value = field.and_then(|field| observation.values(field).first());
                let value = value.map(|(_, hash)| *hash);
                hits.iter().for_each(|rule| chain.add(*rule, at, value));
            }
        }
    }

    /// What a correlation measures, where it holds.
    fn measure(&self, tracked: &Tracked<'_>, watch: &Watch, newest: u32) -> Option<f64> {
        let window = *tracked.tracker.windows.get(watch.window)?;
        let (measured, holds) = match (self, &watch.asks) {
            (Self::Members(members), Asks::Number { bounds, crowd, .. }) => {
                let count = members.count(watch.window, window, newest);
                let holds =
                    Bound::all(bounds, count) && members.fits(crowd, watch.window, window, newest);
                (count, holds)
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
                let count = rules.iter().filter(|rule| has(rule)).count();
                (count as f64, condition.holds(&mut |name| has(name)))
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
            _ => vec![tracked.observation.account()],
        }
    }
}

/// The events of a tracker in an observation.
fn hits(tracker: &Tracker, observation: &Observation, held: &[(usize, u64)]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (rule, event) in tracker.events.iter().enumerate() {
        match event {
            Event::Signature(place) => {
                if observation.rules.iter().any(|held| usize::from(*held) == *place) {
                    hits.push(Hit { rule, first: None });
                }
            }
            Event::Correlation(place) => {
                let own = held.iter().filter(|(correlation, _)| correlation == place);
                hits.extend(own.map(|(_, first)| Hit { rule, first: Some(*first) }));
            }
        }
    }
    hits
}

/// Every combination of the values of some fields; none where one has no value.
pub(crate) fn combine(fields: &[u16], observation: &Observation, groups: &mut Vec<Vec<u64>>) {
    groups.clear();
    groups.push(Vec::with_capacity(fields.len()));
    for field in fields {
        let values = observation.values(*field);
        let longer = groups.iter().flat_map(|group| {
            values.iter().map(move |(_, value)| {
                let mut group = group.clone();
                group.push(*value);
                group
            })
        });
        *groups = longer.take(MAX_GROUPS).collect();
    }
}

/// How long after its latest event a tracker's group is kept.
fn kept(plan: &Plan, tracker: u16) -> u32 {
    let longest = plan.trackers.get(usize::from(tracker)).map_or(0, Tracker::longest);
    longest.saturating_add(LATE)
}
