//! Which values a group has had lately, how often, and since when.
//!
//! All of them while they are few. Once there are many, a sample: of the values whose hash begins with
//! so many zeros, every one. So any number can be counted in bounded memory, over a window that slides,
//! and what holds of the sample (how evenly its values are used, when they came and went) holds of all.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use crate::correlation::{Crowd, Share};
use crate::hash::mix;

/// Values of a window that are counted exactly.
pub const EXACT: usize = 64;

/// Values that a sample holds at most. Once it is full it is halved, so in a group that grows a count
/// is of about 128 at least, and its standard error at most 1/√128 = 9 %. In one that shrinks it may be
/// of fewer, until a window is over.
pub const SAMPLE: usize = 256;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its hash.
    pub hash: u64,
    /// When it was first seen since it was last forgotten, in seconds since the epoch.
    pub first: u32,
    /// When it was last seen.
    pub last: u32,
    /// Its events in this half of a window.
    now: u16,
    /// Its events in the half before.
    before: u16,
}

/// The values of one group; over several windows, of which each is a time that is looked back. Events
/// are counted over the first of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Members {
    /// A single value: most groups never have another.
    One(Member),
    /// All values of the longest window.
    Few(Vec<Member>),
    /// A sample for each window.
    Many(Box<[Sample]>),
}

/// Values whose hash, mixed, begins with `level` zeros; all of those that were seen in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    level: u8,
    /// When the level was last looked at.
    since: u32,
    members: Vec<Member>,
}

impl Member {
    fn new(hash: u64, at: u32) -> Self {
        Self { hash, first: at, last: at, now: 1, before: 0 }
    }

    fn see(&mut self, at: u32, window: u32) {
        let half = (window / 2).max(1);
        let number = |time: u32| time.checked_div(half).unwrap_or(time);
        match number(at).saturating_sub(number(self.last)) {
            0 => {}
            1 => self.before = std::mem::take(&mut self.now),
            _ => (self.before, self.now) = (0, 0),
        }
        self.now = self.now.saturating_add(1);
        // After a whole window it is new again.
        let is_new = at.saturating_sub(self.last) >= window;
        self.first = if is_new { at } else { self.first.min(at) };
        self.last = self.last.max(at);
    }

    fn alone(&mut self, hash: u64, (since, events): (u32, u16), window: u32) {
        if self.hash != hash {
            return;
        }
        self.first = self.first.min(since);
        let lately = lately(events, self.last.saturating_sub(since), window);
        self.now = self.now.saturating_add(lately.saturating_sub(1));
    }

    /// Its events in about the last window.
    fn events(&self) -> f64 {
        f64::from(self.now) + f64::from(self.before)
    }

    fn join(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.now = self.now.saturating_add(other.now);
        self.before = self.before.saturating_add(other.before);
    }
}

impl Members {
    /// A group that begins with a value.
    pub fn new(hash: u64, at: u32) -> Self {
        Self::One(Member::new(hash, at))
    }

    /// Notes a value. `newest` is the time of the group's latest event, this one included.
    pub fn see(&mut self, hash: u64, at: u32, newest: u32, windows: &[u32]) {
        self.put(Member::new(hash, at), newest, windows, &|known, window| known.see(at, window));
    }

    /// Notes what a value, just seen, had been before: since when there is it, and how many events it
    /// had, which are taken to be evenly spread.
    pub fn alone(&mut self, hash: u64, (since, events): (u32, u16), windows: &[u32]) {
        let counted = windows.first().copied().unwrap_or_default();
        match self {
            Self::One(member) => member.alone(hash, (since, events), counted),
            Self::Few(members) => {
                members.iter_mut().for_each(|own| own.alone(hash, (since, events), counted));
            }
            Self::Many(samples) => {
                for (sample, window) in samples.iter_mut().zip(windows) {
                    let members = sample.members.iter_mut();
                    members.for_each(|own| own.alone(hash, (since, events), *window));
                }
            }
        }
    }

    /// Adds a member, or changes the one that has its hash.
    fn put(
        &mut self,
        new: Member,
        newest: u32,
        windows: &[u32],
        change: &dyn Fn(&mut Member, u32),
    ) {
        let longest = windows.iter().copied().max().unwrap_or_default();
        let counted = windows.first().copied().unwrap_or_default();
        if let Self::One(member) = self {
            if member.hash == new.hash {
                return change(member, counted);
            }
            *self = Self::Few(vec![*member]);
        }
        if let Self::Few(members) = self {
            if members.is_empty() {
                *self = Self::One(new);
                return;
            }
            if let Some(member) = members.iter_mut().find(|member| member.hash == new.hash) {
                return change(member, counted);
            }
            if members.len() >= EXACT {
                members.retain(|member| is_within(member.last, newest, longest));
            }
            if members.len() < EXACT {
                return members.push(new);
            }
            let samples = windows.iter().map(|window| Sample::of(members, newest, *window));
            *self = Self::Many(samples.collect());
        }
        if let Self::Many(samples) = self {
            for (sample, window) in samples.iter_mut().zip(windows) {
                sample.put(new, newest, *window, change);
            }
        }
    }

    /// How many values were seen in the window with this number, which looks `window` seconds back.
    pub fn count(&self, number: usize, window: u32, newest: u32) -> f64 {
        let count = self.within(number, window, newest).count() as f64;
        match self {
            Self::Many(samples) => {
                let level = samples.get(number).map_or(0, |sample| sample.level);
                count * 2_f64.powi(i32::from(level))
            }
            _ => count,
        }
    }

    /// The values, or a sample of them, that were seen in a window.
    pub fn within(&self, number: usize, window: u32, newest: u32) -> impl Iterator<Item = &Member> {
        let members = match self {
            Self::One(member) => std::slice::from_ref(member),
            Self::Few(members) => members.as_slice(),
            Self::Many(samples) => {
                samples.get(number).map(|sample| sample.members.as_slice()).unwrap_or_default()
            }
        };
        members.iter().filter(move |member| is_within(member.last, newest, window))
    }

    /// Whether the values of a window are as coordinated as asked.
    pub fn fits(&self, crowd: &Crowd, number: usize, window: u32, newest: u32) -> bool {
        if crowd.is_empty() {
            return true;
        }
        let members: Vec<Member> = self.within(number, window, newest).copied().collect();
        let is_least = |share: Option<Share>, of: &dyn Fn(u32) -> f64| {
            share.is_none_or(|share| of(share.within) >= share.least)
        };
        crowd.load.is_none_or(|least| load(&members) >= least)
            && crowd.evenness.is_none_or(|least| evenness(&members) >= least)
            && is_least(crowd.together, &|within| together(&members, within))
            && is_least(crowd.relieved, &|within| relieved(&members, within, newest))
    }

    /// Adds what another has seen of the same group.
    pub fn join(&mut self, other: &Self, newest: u32, windows: &[u32]) {
        let longest = windows.iter().copied().max().unwrap_or_default();
        match other {
            Self::Many(theirs) => {
                if let Self::One(_) | Self::Few(_) = self {
                    let own: Vec<Member> = self.within(0, longest, newest).copied().collect();
                    let samples = windows.iter().map(|window| Sample::of(&own, newest, *window));
                    *self = Self::Many(samples.collect());
                }
                if let Self::Many(own) = self {
                    for ((own, theirs), window) in own.iter_mut().zip(theirs).zip(windows) {
                        own.join(theirs, newest, *window);
                    }
                }
            }
            few => {
                let few: Vec<Member> = few.within(0, longest, newest).copied().collect();
                for member in few {
                    self.put(member, newest, windows, &|known, _| known.join(&member));
                }
            }
        }
    }

    /// The same for other windows than those for which it was kept: a new one begins with what the
    /// next longer one has.
    pub fn arranged(self, kept: &[u32], windows: &[u32]) -> Self {
        let Self::Many(samples) = self else { return self };
        let sample = |window: &u32| {
            let longer = kept.iter().zip(&samples).filter(|(own, _)| *own >= window);
            longer
                .min_by_key(|(own, _)| **own)
                .map(|(_, sample)| sample.clone())
                .unwrap_or_default()
        };
        Self::Many(windows.iter().map(sample).collect())
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let of = |members: &Vec<Member>| members.capacity().saturating_mul(size_of::<Member>());
        match self {
            Self::One(_) => 0,
            Self::Few(members) => of(members),
            Self::Many(samples) => samples
                .iter()
                .map(|sample| of(&sample.members).saturating_add(size_of::<Sample>()))
                .sum(),
        }
    }
}

impl Sample {
    fn of(members: &[Member], newest: u32, window: u32) -> Self {
        let members = members.iter().filter(|member| is_within(member.last, newest, window));
        Self { level: 0, since: newest, members: members.copied().collect() }
    }

    fn put(&mut self, new: Member, newest: u32, window: u32, change: &dyn Fn(&mut Member, u32)) {
        self.relax(newest, window);
        if !is_sampled(new.hash, self.level) {
            return;
        }
        if let Some(member) = self.members.iter_mut().find(|member| member.hash == new.hash) {
            return change(member, window);
        }
        self.make_room(newest, window);
        if is_sampled(new.hash, self.level) {
            self.members.push(new);
        }
    }

    fn join(&mut self, other: &Self, newest: u32, window: u32) {
        self.level = self.level.max(other.level);
        self.thin();
        for member in &other.members {
            self.put(*member, newest, window, &|known, _| known.join(member));
        }
    }

    fn make_room(&mut self, newest: u32, window: u32) {
        if self.members.len() >= SAMPLE {
            self.members.retain(|member| is_within(member.last, newest, window));
        }
        while self.members.len() >= SAMPLE && self.level < 63 {
            self.level = self.level.saturating_add(1);
            self.since = newest;
            self.thin();
        }
    }

    fn thin(&mut self) {
        let level = self.level;
        self.members.retain(|member| is_sampled(member.hash, level));
    }

    /// Once a window in which few were seen is over, more are sampled again. Those come one by one:
    /// for the next window counts may be low.
    fn relax(&mut self, newest: u32, window: u32) {
        if self.level == 0 || newest.saturating_sub(self.since) <= window {
            return;
        }
        self.since = newest;
        self.members.retain(|member| is_within(member.last, newest, window));
        if self.members.len() < SAMPLE / 4 {
            self.level = self.level.saturating_sub(1);
        }
    }
}

/// Of events that are evenly spread over a time, those of the last window; one at least.
pub fn lately(events: u16, over: u32, window: u32) -> u16 {
    let share = f64::from(window) / f64::from(over.max(1));
    if over < window { events.max(1) } else { (f64::from(events) * share).ceil().max(1.0) as u16 }
}

/// Whether something at a time is within a window that ends with the newest event.
pub fn is_within(at: u32, newest: u32, window: u32) -> bool {
    newest.saturating_sub(at) < window
}

fn is_sampled(hash: u64, level: u8) -> bool {
    mix(hash).leading_zeros() >= u32::from(level)
}

/// Events of a member, on average.
fn load(members: &[Member]) -> f64 {
    let events: f64 = members.iter().map(Member::events).sum();
    events / members.len().max(1) as f64
}

/// Simpson's evenness, in percent.
fn evenness(members: &[Member]) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for events in members.iter().map(Member::events) {
        sum += events;
        squares += events * events;
    }
    if squares > 0.0 { 100.0 * sum * sum / (members.len() as f64 * squares) } else { 0.0 }
}

/// The largest share of members first seen within the same `within` seconds, in percent.
fn together(members: &[Member], within: u32) -> f64 {
    let firsts = sorted(members.iter().map(|member| member.first));
    let most = firsts.iter().enumerate().map(|(number, first)| {
        let until = firsts.partition_point(|other| *other <= first.saturating_add(within));
        until.saturating_sub(number)
    });
    percent(most.max().unwrap_or(0), members.len())
}

/// The largest share of members, doubled, that were last seen within `within` seconds before a moment
/// while as many others were first seen within as long behind it, in percent. Moments that are not as
/// long ago do not count: who was seen just before them may yet be seen again.
fn relieved(members: &[Member], within: u32, newest: u32) -> f64 {
    let firsts = sorted(members.iter().map(|member| member.first));
    let lasts = sorted(members.iter().map(|member| member.last));
    let between = |times: &[u32], from: u32, to: u32| {
        let until = times.partition_point(|time| *time <= to);
        until.saturating_sub(times.partition_point(|time| *time < from))
    };
    let settled = firsts.iter().filter(|moment| moment.saturating_add(within) <= newest);
    let most = settled.map(|moment| {
        let moment = *moment;
        let stopped = between(&lasts, moment.saturating_sub(within), moment.saturating_sub(1));
        let started = between(&firsts, moment, moment.saturating_add(within));
        stopped.min(started).saturating_mul(2)
    });
    percent(most.max().unwrap_or(0), members.len())
}

fn sorted(times: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut times: Vec<u32> = times.collect();
    times.sort_unstable();
    times
}

fn percent(part: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { 100.0 * part as f64 / of as f64 }
}
