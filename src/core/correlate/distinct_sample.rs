//! The distinct values of a group: their number, and the events and times of each value.
//!
//! Up to [`MAX_EXACT_VALUES`] values are kept exactly. More values are sampled by levels (Gibbons,
//! 2001): a sample of level n has every value whose mixed hash begins with n zero bits. So any
//! number of values is counted in bounded memory over a sliding window. Properties of the sample,
//! such as how evenly values are used and when they start and stop, serve as estimates for all
//! values.

use serde::{Deserialize, Serialize};

use super::earlier_events::EarlierEvents;
use super::event_time::is_within;
use crate::keyed_hash::fmix64;
use crate::rules::correlation::{Coordination, ShareWithin};

/// Maximum number of values of the longest window that are kept exactly.
const MAX_EXACT_VALUES: usize = 64;

/// Maximum number of values in a sample. A full sample is halved.
///
/// So the sample of a growing group has at least about 128 values, and the standard error of the
/// count is at most 1/√128 = 9 %. The sample of a shrinking group may be smaller until a window has
/// passed.
const MAX_SAMPLED_VALUES: usize = 256;

/// A distinct value, with its events. Because these values fill most of the memory, the struct is
/// aligned to four bytes, so that it takes 20 bytes instead of 24.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[repr(C, packed(4))]
pub struct SampledValue {
    /// Hash of the value, combined with the salt of the group.
    pub hash: u64,
    /// Time of the first event, in seconds since the epoch. After a whole window without events,
    /// the next event counts as the first.
    pub first_seen: u32,
    /// Time of the latest event, in seconds since the epoch.
    pub last_seen: u32,
    /// Number of events in the current half window.
    current_events: u16,
    /// Number of events in the previous half window.
    previous_events: u16,
}

/// The distinct values of a group, for several windows that end with the newest event of the group.
/// Events per value are counted over the first window; in a sample, over the window of the sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DistinctValues {
    /// A single value, without heap memory: most groups never have a second value.
    One(SampledValue),
    /// All values of the longest window.
    Exact(Vec<SampledValue>),
    /// A sample for each window.
    Sampled(Box<[LevelSample]>),
}

/// All values of a window whose mixed hash begins with `level` zero bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LevelSample {
    level: u8,
    /// Time at which the level was last raised or checked, in seconds since the epoch.
    level_checked_at: u32,
    values: Vec<SampledValue>,
}

impl SampledValue {
    fn new(hash: u64, at: u32) -> Self {
        Self { hash, first_seen: at, last_seen: at, current_events: 1, previous_events: 0 }
    }

    /// Counts an event. After a whole window without events, the value counts as new again.
    fn record(&mut self, at: u32, window: u32) {
        let half = (window / 2).max(1);
        let half_index = |time: u32| time.checked_div(half).unwrap_or(time);
        match half_index(at).saturating_sub(half_index(self.last_seen)) {
            0 => {}
            1 => self.previous_events = std::mem::take(&mut self.current_events),
            _ => {
                self.previous_events = 0;
                self.current_events = 0;
            }
        }
        self.current_events = self.current_events.saturating_add(1);
        let is_new = at.saturating_sub(self.last_seen) >= window;
        self.first_seen = if is_new { at } else { self.first_seen.min(at) };
        self.last_seen = self.last_seen.max(at);
    }

    /// Adds the earlier events of `history` if the value has the hash `hash`.
    fn backfill(&mut self, hash: u64, history: EarlierEvents, window: u32) {
        if self.hash != hash {
            return;
        }
        self.first_seen = self.first_seen.min(history.first_seen);
        let span = self.last_seen.saturating_sub(history.first_seen);
        let recent_events = events_in_window(history.event_count, span, window);
        self.current_events = self.current_events.saturating_add(recent_events.saturating_sub(1));
    }

    /// Returns the number of events in about the last window: the current and the previous half
    /// window.
    pub fn events(&self) -> f64 {
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
    /// Counts an event of a value. `newest` is the time of the group's latest event, this one
    /// included.
    pub fn record(&mut self, hash: u64, at: u32, newest: u32, windows: &[u32]) {
        self.upsert(SampledValue::new(hash, at), newest, windows, &|value, window| {
            value.record(at, window);
        });
    }

    /// Adds the deferred, earlier events of a value that was just recorded. The events are assumed
    /// to be evenly spread since the value was first seen.
    pub fn backfill(&mut self, hash: u64, history: EarlierEvents, windows: &[u32]) {
        let count_window = windows.first().copied().unwrap_or_default();
        match self {
            Self::One(value) => value.backfill(hash, history, count_window),
            Self::Exact(values) => {
                values.iter_mut().for_each(|value| value.backfill(hash, history, count_window));
            }
            Self::Sampled(samples) => {
                for (sample, window) in samples.iter_mut().zip(windows) {
                    let values = sample.values.iter_mut();
                    values.for_each(|value| value.backfill(hash, history, *window));
                }
            }
        }
    }

    /// Adds a value, or updates the value with the same hash. `update` gets the stored value, and
    /// the seconds over which its events are counted: the first window, or the window of the sample
    /// if the values are sampled.
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
                retain(values, |existing| is_within(existing.last_seen, newest, max_window));
            }
            if values.len() < MAX_EXACT_VALUES {
                return push(values, value);
            }
            *self = Self::sampled(values, newest, windows);
        }
        if let Self::Sampled(samples) = self {
            for (sample, window) in samples.iter_mut().zip(windows) {
                sample.upsert(value, newest, *window, update);
            }
        }
    }

    /// Creates a sample for each window from all values.
    fn sampled(values: &[SampledValue], newest: u32, windows: &[u32]) -> Self {
        let samples =
            windows.iter().map(|window| LevelSample::from_values(values, newest, *window));
        Self::Sampled(samples.collect())
    }

    /// Returns the number of values in a window; an estimate if the values are sampled.
    /// `window_index` is the index of the window, and `window` is its length in seconds.
    pub fn count(&self, window_index: usize, window: u32, newest: u32) -> f64 {
        let count = self.values_in_window(window_index, window, newest).count() as f64;
        match self {
            Self::Sampled(samples) => {
                let level = samples.get(window_index).map_or(0, |sample| sample.level);
                count * 2_f64.powi(i32::from(level))
            }
            Self::One(_) | Self::Exact(_) => count,
        }
    }

    /// Returns the values in a window, or a sample of them.
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

    /// Returns the number of recent events of a value ([`SampledValue::events`]); 0 if the value is
    /// not stored, or is not in the sample of the window. `window_index` is the index of the
    /// window.
    pub fn events_of(&self, hash: u64, window_index: usize) -> f64 {
        self.value(hash, window_index).map_or(0.0, SampledValue::events)
    }

    /// Returns [`SampledValue::first_seen`] of a value; `None` if the value is not stored, or is
    /// not in the sample of the window. `window_index` is the index of the window.
    pub fn first_seen(&self, hash: u64, window_index: usize) -> Option<u32> {
        self.value(hash, window_index).map(|value| value.first_seen)
    }

    fn value(&self, hash: u64, window_index: usize) -> Option<&SampledValue> {
        let values = match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Exact(values) => values.as_slice(),
            Self::Sampled(samples) => {
                samples.get(window_index).map(|sample| sample.values.as_slice()).unwrap_or_default()
            }
        };
        values.iter().find(|value| value.hash == hash)
    }

    /// Returns the start of the period of `within` seconds in which the largest number of values of
    /// a window were first seen, in seconds since the epoch; 0 without values.
    pub fn common_start(&self, window_index: usize, window: u32, newest: u32, within: u32) -> u32 {
        let values = self.values_in_window(window_index, window, newest);
        common_start(&values.copied().collect::<Vec<_>>(), within).1
    }

    /// Returns the mean number of events of the values in a window; 0 without values.
    pub fn mean_events(&self, window_index: usize, window: u32, newest: u32) -> f64 {
        let (mut events, mut count) = (0.0, 0.0);
        for value in self.values_in_window(window_index, window, newest) {
            events += value.events();
            count += 1.0;
        }
        if count > 0.0 { events / count } else { 0.0 }
    }

    /// Returns whether the values in a window meet each limit of `coordination`.
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
            && coordination.max_events_per_value.is_none_or(|max| events_per_value(&values) <= max)
            && coordination.evenness.is_none_or(|min| evenness(&values) >= min)
            && meets_share(coordination.synchronized_start, &|within| {
                synchronized_start(&values, within)
            })
            && meets_share(coordination.handover, &|within| handover(&values, within, newest))
    }

    /// Adds the values of another state of the same group.
    pub fn merge(&mut self, other: &Self, newest: u32, windows: &[u32]) {
        let max_window = windows.iter().copied().max().unwrap_or_default();
        let recent_values = |values: &Self| -> Vec<SampledValue> {
            values.values_in_window(0, max_window, newest).copied().collect()
        };
        match other {
            Self::Sampled(other_samples) => {
                if let Self::One(_) | Self::Exact(_) = self {
                    *self = Self::sampled(&recent_values(self), newest, windows);
                }
                if let Self::Sampled(samples) = self {
                    for ((sample, other_sample), window) in
                        samples.iter_mut().zip(other_samples).zip(windows)
                    {
                        sample.merge(other_sample, newest, *window);
                    }
                }
            }
            Self::One(_) | Self::Exact(_) => {
                for value in recent_values(other) {
                    self.upsert(value, newest, windows, &|existing, _| existing.merge(&value));
                }
            }
        }
    }

    /// Converts samples for `old_windows` to samples for `windows`, after a change of the rules. A
    /// window gets the sample of the shortest old window that is at least as long, or an empty
    /// sample if there is none.
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

    /// Returns the bytes on the heap.
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
    /// Creates a sample of level 0 from the values in a window.
    fn from_values(values: &[SampledValue], newest: u32, window: u32) -> Self {
        let recent_values =
            values.iter().filter(|value| is_within(value.last_seen, newest, window));
        Self { level: 0, level_checked_at: newest, values: recent_values.copied().collect() }
    }

    /// Adds a value, or updates the value with the same hash. Ignores a value that the level does
    /// not sample.
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
            push(&mut self.values, value);
        }
    }

    fn merge(&mut self, other: &Self, newest: u32, window: u32) {
        self.level = self.level.max(other.level);
        self.drop_below_level();
        for value in &other.values {
            self.upsert(*value, newest, window, &|existing, _| existing.merge(value));
        }
    }

    /// Removes old values from a full sample. Raises the level while the sample is still full.
    fn make_room(&mut self, newest: u32, window: u32) {
        if self.values.len() >= MAX_SAMPLED_VALUES {
            retain(&mut self.values, |value| is_within(value.last_seen, newest, window));
        }
        while self.values.len() >= MAX_SAMPLED_VALUES && self.level < 63 {
            self.level = self.level.saturating_add(1);
            self.level_checked_at = newest;
            self.drop_below_level();
        }
    }

    /// Removes the values that the level does not sample.
    fn drop_below_level(&mut self) {
        let level = self.level;
        retain(&mut self.values, |value| is_sampled(value.hash, level));
    }

    /// Lowers the level by one if a window has passed since the last check and the sample is less
    /// than a quarter full.
    ///
    /// The values that only the lower level samples are added when they have their next event. So
    /// counts may be too low for the next window.
    fn lower_level(&mut self, newest: u32, window: u32) {
        if self.level == 0 || newest.saturating_sub(self.level_checked_at) <= window {
            return;
        }
        self.level_checked_at = newest;
        retain(&mut self.values, |value| is_within(value.last_seen, newest, window));
        if self.values.len() < MAX_SAMPLED_VALUES / 4 {
            self.level = self.level.saturating_sub(1);
        }
    }
}

/// Appends a value. The capacity grows by a quarter: if it doubled, a third of the memory would be
/// unused.
fn push(values: &mut Vec<SampledValue>, value: SampledValue) {
    if values.len() == values.capacity() {
        values.reserve_exact((values.len() / 4).max(2));
    }
    values.push(value);
}

/// Removes the values that `is_kept` rejects. If more than a third of the capacity is unused then,
/// reduces the capacity to 1.25 times the number of values.
fn retain(values: &mut Vec<SampledValue>, is_kept: impl Fn(&SampledValue) -> bool) {
    values.retain(is_kept);
    if values.capacity() > values.len().saturating_add(values.len() / 2) {
        values.shrink_to(values.len().saturating_add(values.len() / 4));
    }
}

/// Returns how many of `event_count` events were in the last `window` seconds if the events are
/// evenly spread over the last `span` seconds; at least 1.
pub fn events_in_window(event_count: u16, span: u32, window: u32) -> u16 {
    if span < window {
        return event_count.max(1);
    }
    let share = f64::from(window) / f64::from(span.max(1));
    (f64::from(event_count) * share).ceil().max(1.0) as u16
}

fn is_sampled(hash: u64, level: u8) -> bool {
    fmix64(hash).leading_zeros() >= u32::from(level)
}

/// Returns the mean number of events per value.
fn events_per_value(values: &[SampledValue]) -> f64 {
    let events: f64 = values.iter().map(SampledValue::events).sum();
    events / values.len().max(1) as f64
}

/// Returns Simpson's evenness of the events over the values, in percent: 100 if all values have
/// equally many events.
fn evenness(values: &[SampledValue]) -> f64 {
    let mut sum = 0.0;
    let mut squares = 0.0;
    for events in values.iter().map(SampledValue::events) {
        sum += events;
        squares += events * events;
    }
    if squares > 0.0 { 100.0 * sum * sum / (values.len() as f64 * squares) } else { 0.0 }
}

/// Returns the largest share of values that were first seen within the same `within` seconds, in
/// percent.
fn synchronized_start(values: &[SampledValue], within: u32) -> f64 {
    percent(common_start(values, within).0, values.len())
}

/// Returns the largest number of values that were first seen within the same `within` seconds, and
/// the latest start of such a period, in seconds since the epoch. Returns 0 for both without
/// values.
fn common_start(values: &[SampledValue], within: u32) -> (usize, u32) {
    let starts = sorted(values.iter().map(|value| value.first_seen));
    let counts = starts.iter().enumerate().map(|(index, start)| {
        let until = starts.partition_point(|other| *other <= start.saturating_add(within));
        (until.saturating_sub(index), *start)
    });
    counts.max().unwrap_or_default()
}

/// Returns the largest share of values that take part in a hand-over, in percent. A hand-over is a
/// moment around which some values stop and equally many other values start.
///
/// For a moment t: 200 × min(values last seen in [t − within, t), values first seen in [t, t +
/// within]) / all values. The moments are the times at which a value was first seen. Moments in the
/// last `within` seconds before the newest event are left out, because a value that was last seen
/// just before such a moment may be seen again.
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
