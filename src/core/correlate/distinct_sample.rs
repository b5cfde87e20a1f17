//! Which values a group has had lately, how often, and since when.
//!
//! All of them while they are few. Once there are many, a sample: of the values whose hash begins with
//! so many zeros, every one. So any number can be counted in bounded memory, over a window that slides,
//! and what holds of the sample (how evenly its values are used, when they came and went) holds of all.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

use crate::keyed_hash::fmix64;
use crate::rules::correlation::{Coordination, ShareWithin};

/// Values of a window that are counted exactly.
pub const MAX_EXACT_VALUES: usize = 64;

/// Values that a sample holds at most. Once it is full it is halved, so in a group that grows a count
/// is of about 128 at least, and its standard error at most 1/√128 = 9 %. In one that shrinks it may be
/// of fewer, until a window is over.
pub const MAX_SAMPLED_VALUES: usize = 256;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampledValue {
    /// Its hash.
    pub hash: u64,
    /// When it was first seen since it was last forgotten, in seconds since the epoch.
    pub first_seen: u32,
    /// When it was last seen.
    pub last_seen: u32,
    /// Its events in this half of a window.
    current_events: u16,
    /// Its events in the half before.
    previous_events: u16,
}

/// The values of one group; over several windows, of which each is a time that is looked back. Events
/// are counted over the first of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DistinctValues {
    /// A single value: most groups never have another.
    One(SampledValue),
    /// All values of the longest window.
    Exact(Vec<SampledValue>),
    /// A sample for each window.
    Sampled(Box<[LevelSample]>),
}

/// Values whose hash, mixed, begins with `level` zeros; all of those that were seen in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LevelSample {
    level: u8,
    /// When the level was last looked at.
    level_checked_at: u32,
    values: Vec<SampledValue>,
}

impl SampledValue {
    fn new(hash: u64, at: u32) -> Self {
        Self { hash, first_seen: at, last_seen: at, current_events: 1, previous_events: 0 }
    }

    fn record(&mut self, at: u32, window: u32) {
        let half = (window / 2).max(1);
        let half_index = |time: u32| time.checked_div(half).unwrap_or(time);
        match half_index(at).saturating_sub(half_index(self.last_seen)) {
            0 => {}
            1 => self.previous_events = std::mem::take(&mut self.current_events),
            _ => (self.previous_events, self.current_events) = (0, 0),
        }
        self.current_events = self.current_events.saturating_add(1);
        // After a whole window it is new again.
        let is_new = at.saturating_sub(self.last_seen) >= window;
        self.first_seen = if is_new { at } else { self.first_seen.min(at) };
        self.last_seen = self.last_seen.max(at);
    }

    fn backfill(&mut self, hash: u64, (first_seen, events): (u32, u16), window: u32) {
        if self.hash != hash {
            return;
        }
        self.first_seen = self.first_seen.min(first_seen);
        let recent_events =
            events_in_window(events, self.last_seen.saturating_sub(first_seen), window);
        self.current_events = self.current_events.saturating_add(recent_events.saturating_sub(1));
    }

    /// Its events in about the last window.
    fn events(&self) -> f64 {
        f64::from(self.current_events) + f64::from(self.previous_events)
    }

    fn merge(&mut self, other: &Self) {
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.current_events = self.current_events.saturating_add(other.current_events);
        self.previous_events = self.previous_events.saturating_add(other.previous_events);
    }
}

impl DistinctValues {
    /// A group that begins with a value.
    pub fn new(hash: u64, at: u32) -> Self {
        Self::One(SampledValue::new(hash, at))
    }

    /// Notes a value. `newest` is the time of the group's latest event, this one included.
    pub fn record(&mut self, hash: u64, at: u32, newest: u32, windows: &[u32]) {
        self.upsert(SampledValue::new(hash, at), newest, windows, &|value, window| {
            value.record(at, window)
        });
    }

    /// Notes what a value, just seen, had been before: since when there is it, and how many events it
    /// had, which are taken to be evenly spread.
    pub fn backfill(&mut self, hash: u64, (first_seen, events): (u32, u16), windows: &[u32]) {
        let count_window = windows.first().copied().unwrap_or_default();
        match self {
            Self::One(value) => value.backfill(hash, (first_seen, events), count_window),
            Self::Exact(values) => {
                values
                    .iter_mut()
                    .for_each(|value| value.backfill(hash, (first_seen, events), count_window));
            }
            Self::Sampled(samples) => {
                for (sample, window) in samples.iter_mut().zip(windows) {
                    let values = sample.values.iter_mut();
                    values.for_each(|value| value.backfill(hash, (first_seen, events), *window));
                }
            }
        }
    }

    /// Adds a member, or changes the one that has its hash.
    fn upsert(
        &mut self,
        value: SampledValue,
        newest: u32,
        windows: &[u32],
        update: &dyn Fn(&mut SampledValue, u32),
    ) {
        let max_window = windows.iter().copied().max().unwrap_or_default();
        let count_window = windows.first().copied().unwrap_or_default();
        if let Self::One(existing) = self {
            if existing.hash == value.hash {
                return update(existing, count_window);
            }
            *self = Self::Exact(vec![*existing]);
        }
        if let Self::Exact(values) = self {
            if values.is_empty() {
                *self = Self::One(value);
                return;
            }
            if let Some(existing) = values.iter_mut().find(|existing| existing.hash == value.hash) {
                return update(existing, count_window);
            }
            if values.len() >= MAX_EXACT_VALUES {
                values.retain(|existing| is_within(existing.last_seen, newest, max_window));
            }
            if values.len() < MAX_EXACT_VALUES {
                return values.push(value);
            }
            let samples =
                windows.iter().map(|window| LevelSample::from_values(values, newest, *window));
            *self = Self::Sampled(samples.collect());
        }
        if let Self::Sampled(samples) = self {
            for (sample, window) in samples.iter_mut().zip(windows) {
                sample.upsert(value, newest, *window, update);
            }
        }
    }

    /// How many values were seen in the window with this number, which looks `window` seconds back.
    pub fn count(&self, window_index: usize, window: u32, newest: u32) -> f64 {
        let count = self.values_in_window(window_index, window, newest).count() as f64;
        match self {
            Self::Sampled(samples) => {
                let level = samples.get(window_index).map_or(0, |sample| sample.level);
                count * 2_f64.powi(i32::from(level))
            }
            _ => count,
        }
    }

    /// The values, or a sample of them, that were seen in a window.
    pub fn values_in_window(
        &self,
        window_index: usize,
        window: u32,
        newest: u32,
    ) -> impl Iterator<Item = &SampledValue> {
        let values = match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Exact(values) => values.as_slice(),
            Self::Sampled(samples) => {
                samples.get(window_index).map(|sample| sample.values.as_slice()).unwrap_or_default()
            }
        };
        values.iter().filter(move |value| is_within(value.last_seen, newest, window))
    }

    /// Whether the values of a window are as coordinated as asked.
    pub fn meets(
        &self,
        coordination: &Coordination,
        window_index: usize,
        window: u32,
        newest: u32,
    ) -> bool {
        if coordination.is_empty() {
            return true;
        }
        let values: Vec<SampledValue> =
            self.values_in_window(window_index, window, newest).copied().collect();
        let meets_share = |share: Option<ShareWithin>, measure: &dyn Fn(u32) -> f64| {
            share.is_none_or(|share| measure(share.within) >= share.min_percent)
        };
        coordination.events_per_value.is_none_or(|min| events_per_value(&values) >= min)
            && coordination.evenness.is_none_or(|min| evenness(&values) >= min)
            && meets_share(coordination.synchronized_start, &|within| {
                synchronized_start(&values, within)
            })
            && meets_share(coordination.handover, &|within| handover(&values, within, newest))
    }

    /// Adds what another has seen of the same group.
    pub fn merge(&mut self, other: &Self, newest: u32, windows: &[u32]) {
        let max_window = windows.iter().copied().max().unwrap_or_default();
        match other {
            Self::Sampled(other_samples) => {
                if let Self::One(_) | Self::Exact(_) = self {
                    let values: Vec<SampledValue> =
                        self.values_in_window(0, max_window, newest).copied().collect();
                    let samples = windows
                        .iter()
                        .map(|window| LevelSample::from_values(&values, newest, *window));
                    *self = Self::Sampled(samples.collect());
                }
                if let Self::Sampled(samples) = self {
                    for ((sample, other_sample), window) in
                        samples.iter_mut().zip(other_samples).zip(windows)
                    {
                        sample.merge(other_sample, newest, *window);
                    }
                }
            }
            unsampled => {
                let values: Vec<SampledValue> =
                    unsampled.values_in_window(0, max_window, newest).copied().collect();
                for value in values {
                    self.upsert(value, newest, windows, &|existing, _| existing.merge(&value));
                }
            }
        }
    }

    /// The same for other windows than those for which it was kept: a new one begins with what the
    /// next longer one has.
    pub fn with_windows(self, old_windows: &[u32], windows: &[u32]) -> Self {
        let Self::Sampled(samples) = self else { return self };
        let sample_for = |window: &u32| {
            let candidates =
                old_windows.iter().zip(&samples).filter(|(old_window, _)| *old_window >= window);
            candidates
                .min_by_key(|(old_window, _)| **old_window)
                .map(|(_, sample)| sample.clone())
                .unwrap_or_default()
        };
        Self::Sampled(windows.iter().map(sample_for).collect())
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let vec_bytes = |values: &Vec<SampledValue>| {
            values.capacity().saturating_mul(size_of::<SampledValue>())
        };
        match self {
            Self::One(_) => 0,
            Self::Exact(values) => vec_bytes(values),
            Self::Sampled(samples) => samples
                .iter()
                .map(|sample| vec_bytes(&sample.values).saturating_add(size_of::<LevelSample>()))
                .sum(),
        }
    }
}

impl LevelSample {
    fn from_values(values: &[SampledValue], newest: u32, window: u32) -> Self {
        let recent_values =
            values.iter().filter(|value| is_within(value.last_seen, newest, window));
        Self { level: 0, level_checked_at: newest, values: recent_values.copied().collect() }
    }

    fn upsert(
        &mut self,
        value: SampledValue,
        newest: u32,
        window: u32,
        update: &dyn Fn(&mut SampledValue, u32),
    ) {
        self.lower_level(newest, window);
        if !is_sampled(value.hash, self.level) {
            return;
        }
        if let Some(existing) = self.values.iter_mut().find(|existing| existing.hash == value.hash)
        {
            return update(existing, window);
        }
        self.make_room(newest, window);
        if is_sampled(value.hash, self.level) {
            self.values.push(value);
        }
    }

    fn merge(&mut self, other: &Self, newest: u32, window: u32) {
        self.level = self.level.max(other.level);
        self.drop_below_level();
        for value in &other.values {
            self.upsert(*value, newest, window, &|existing, _| existing.merge(value));
        }
    }

    fn make_room(&mut self, newest: u32, window: u32) {
        if self.values.len() >= MAX_SAMPLED_VALUES {
            self.values.retain(|value| is_within(value.last_seen, newest, window));
        }
        while self.values.len() >= MAX_SAMPLED_VALUES && self.level < 63 {
            self.level = self.level.saturating_add(1);
            self.level_checked_at = newest;
            self.drop_below_level();
        }
    }

    fn drop_below_level(&mut self) {
        let level = self.level;
        self.values.retain(|value| is_sampled(value.hash, level));
    }

    /// Once a window in which few were seen is over, more are sampled again. Those come one by one:
    /// for the next window counts may be low.
    fn lower_level(&mut self, newest: u32, window: u32) {
        if self.level == 0 || newest.saturating_sub(self.level_checked_at) <= window {
            return;
        }
        self.level_checked_at = newest;
        self.values.retain(|value| is_within(value.last_seen, newest, window));
        if self.values.len() < MAX_SAMPLED_VALUES / 4 {
            self.level = self.level.saturating_sub(1);
        }
    }
}

/// Of events that are evenly spread over a time, those of the last window; one at least.
pub fn events_in_window(events: u16, span: u32, window: u32) -> u16 {
    let share = f64::from(window) / f64::from(span.max(1));
    if span < window { events.max(1) } else { (f64::from(events) * share).ceil().max(1.0) as u16 }
}

/// Whether something at a time is within a window that ends with the newest event.
pub fn is_within(at: u32, newest: u32, window: u32) -> bool {
    newest.saturating_sub(at) < window
}

fn is_sampled(hash: u64, level: u8) -> bool {
    fmix64(hash).leading_zeros() >= u32::from(level)
}

/// Events of a member, on average.
fn events_per_value(values: &[SampledValue]) -> f64 {
    let events: f64 = values.iter().map(SampledValue::events).sum();
    events / values.len().max(1) as f64
}

/// Simpson's evenness, in percent.
fn evenness(values: &[SampledValue]) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for events in values.iter().map(SampledValue::events) {
        sum += events;
        squares += events * events;
    }
    if squares > 0.0 { 100.0 * sum * sum / (values.len() as f64 * squares) } else { 0.0 }
}

/// The largest share of members first seen within the same `within` seconds, in percent.
fn synchronized_start(values: &[SampledValue], within: u32) -> f64 {
    let starts = sorted(values.iter().map(|value| value.first_seen));
    let counts = starts.iter().enumerate().map(|(index, start)| {
        let until = starts.partition_point(|other| *other <= start.saturating_add(within));
        until.saturating_sub(index)
    });
    percent(counts.max().unwrap_or(0), values.len())
}

/// The largest share of members, doubled, that were last seen within `within` seconds before a moment
/// while as many others were first seen within as long behind it, in percent. Moments that are not as
/// long ago do not count: who was seen just before them may yet be seen again.
fn handover(values: &[SampledValue], within: u32, newest: u32) -> f64 {
    let starts = sorted(values.iter().map(|value| value.first_seen));
    let ends = sorted(values.iter().map(|value| value.last_seen));
    let count_between = |times: &[u32], from: u32, to: u32| {
        let until = times.partition_point(|time| *time <= to);
        until.saturating_sub(times.partition_point(|time| *time < from))
    };
    let eligible_moments = starts.iter().filter(|moment| moment.saturating_add(within) <= newest);
    let handovers = eligible_moments.map(|moment| {
        let moment = *moment;
        let stopped = count_between(&ends, moment.saturating_sub(within), moment.saturating_sub(1));
        let started = count_between(&starts, moment, moment.saturating_add(within));
        stopped.min(started).saturating_mul(2)
    });
    percent(handovers.max().unwrap_or(0), values.len())
}

fn sorted(times: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut times: Vec<u32> = times.collect();
    times.sort_unstable();
    times
}

fn percent(part: usize, total: usize) -> f64 {
    if total == 0 { 0.0 } else { 100.0 * part as f64 / total as f64 }
}
