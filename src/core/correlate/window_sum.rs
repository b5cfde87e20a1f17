//! Events of a group by time: how many, and their sum, over a window that slides in steps.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

/// Steps that a window is made of, of a second at least. A step counts as long as all of it is within
/// the window: an event is counted for 31/32 of the window at least, and never after it.
pub const BUCKETS: u32 = 32;

/// Counts and sums of the steps in which there were events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowSum(Vec<Bucket>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    index: u32,
    count: u32,
    sum: f32,
}

impl WindowSum {
    /// Notes so many events of a value each. `newest` is the time of the group's latest event, these
    /// included.
    pub fn add(&mut self, (value, events): (f64, u16), at: u32, newest: u32, window: u32) {
        let sum = clamp_f32(value * f64::from(events));
        let events = u32::from(events);
        let index = at.checked_div(bucket_seconds(window)).unwrap_or(at);
        if !is_bucket_within(index, newest, window) {
            return;
        }
        self.0.retain(|bucket| is_bucket_within(bucket.index, newest, window));
        match self.0.binary_search_by_key(&index, |bucket| bucket.index) {
            Ok(position) => {
                if let Some(bucket) = self.0.get_mut(position) {
                    bucket.count = bucket.count.saturating_add(events);
                    bucket.sum = clamp_f32(f64::from(bucket.sum) + f64::from(sum));
                }
            }
            Err(position) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(position, Bucket { index, count: events, sum });
            }
        }
    }

    /// The number of events in the window, and their sum.
    pub fn total(&self, newest: u32, window: u32) -> (f64, f64) {
        let buckets = self.0.iter().filter(|bucket| is_bucket_within(bucket.index, newest, window));
        buckets.fold((0.0, 0.0), |(count, sum), bucket| {
            (count + f64::from(bucket.count), sum + f64::from(bucket.sum))
        })
    }

    /// Adds what another has seen of the same group.
    pub fn merge(&mut self, other: &Self, newest: u32, window: u32) {
        for other_bucket in
            other.0.iter().filter(|bucket| is_bucket_within(bucket.index, newest, window))
        {
            match self.0.binary_search_by_key(&other_bucket.index, |bucket| bucket.index) {
                Ok(position) => {
                    if let Some(bucket) = self.0.get_mut(position) {
                        bucket.count = bucket.count.saturating_add(other_bucket.count);
                        bucket.sum = clamp_f32(f64::from(bucket.sum) + f64::from(other_bucket.sum));
                    }
                }
                Err(position) => self.0.insert(position, *other_bucket),
            }
        }
        self.0.retain(|bucket| is_bucket_within(bucket.index, newest, window));
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity().saturating_mul(size_of::<Bucket>())
    }
}

/// A number as it is kept: some that clients choose are larger.
pub fn clamp_f32(number: f64) -> f32 {
    number.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// Seconds of a step.
fn bucket_seconds(window: u32) -> u32 {
    window.div_ceil(BUCKETS).max(1)
}

fn is_bucket_within(index: u32, newest: u32, window: u32) -> bool {
    let start = index.saturating_mul(bucket_seconds(window));
    newest.saturating_sub(start) < window
}
