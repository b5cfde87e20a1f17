//! The number of events and the sum of a field in a sliding window, by buckets of time.

use serde::{Deserialize, Serialize};

/// Number of buckets per window. Each bucket is at least one second long.
///
/// A bucket counts as long as all of it is within the window. So an event counts for at least 31/32
/// of the length of the window, and never for longer than the window. Public for the reference
/// implementation in the integration tests.
pub const BUCKETS: u32 = 32;

/// Number and sum of the events of a group, by buckets of time that had events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowSum(Vec<Bucket>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bucket {
    /// Start of the bucket, in bucket lengths since the epoch.
    index: u32,
    count: u32,
    sum: f32,
}

/// Number and sum of the events in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowTotal {
    /// Number of events in the window.
    pub count: f64,
    /// Sum of the field's values in the window.
    pub sum: f64,
}

impl WindowSum {
    /// Adds `event_count` events with the same value and the same time `at`. `newest` is the time
    /// of the group's latest event, including the added events. Ignores events that are too old for
    /// the window of `window` seconds that ends with `newest`.
    pub fn add(&mut self, value: f64, event_count: u16, at: u32, newest: u32, window: u32) {
        let sum = clamp_f32(value * f64::from(event_count));
        let count = u32::from(event_count);
        let index = at.checked_div(bucket_seconds(window)).unwrap_or(at);
        if !is_bucket_within(index, newest, window) {
            return;
        }
        self.0.retain(|bucket| is_bucket_within(bucket.index, newest, window));
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.add_bucket(Bucket { index, count, sum });
    }

    /// Returns the number and sum of the events in the window of `window` seconds that ends with
    /// the newest event.
    pub fn total(&self, newest: u32, window: u32) -> WindowTotal {
        let buckets = self.0.iter().filter(|bucket| is_bucket_within(bucket.index, newest, window));
        buckets.fold(WindowTotal { count: 0.0, sum: 0.0 }, |total, bucket| WindowTotal {
            count: total.count + f64::from(bucket.count),
            sum: total.sum + f64::from(bucket.sum),
        })
    }

    /// Adds the events of another state of the same group.
    pub fn merge(&mut self, other: &Self, newest: u32, window: u32) {
        for bucket in &other.0 {
            if is_bucket_within(bucket.index, newest, window) {
                self.add_bucket(*bucket);
            }
        }
        self.0.retain(|bucket| is_bucket_within(bucket.index, newest, window));
    }

    /// Returns the bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity().saturating_mul(size_of::<Bucket>())
    }

    /// Adds the counts of a bucket to the bucket with the same index, or inserts the bucket in the
    /// order of the indexes.
    fn add_bucket(&mut self, added: Bucket) {
        match self.0.binary_search_by_key(&added.index, |bucket| bucket.index) {
            Ok(position) => {
                if let Some(bucket) = self.0.get_mut(position) {
                    bucket.count = bucket.count.saturating_add(added.count);
                    bucket.sum = clamp_f32(f64::from(bucket.sum) + f64::from(added.sum));
                }
            }
            Err(position) => self.0.insert(position, added),
        }
    }
}

/// Converts a number to `f32`. Clients can send numbers that are too large for `f32`. Such a number
/// becomes the largest finite `f32`.
pub fn clamp_f32(number: f64) -> f32 {
    number.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

fn bucket_seconds(window: u32) -> u32 {
    window.div_ceil(BUCKETS).max(1)
}

fn is_bucket_within(index: u32, newest: u32, window: u32) -> bool {
    let start = index.saturating_mul(bucket_seconds(window));
    newest.saturating_sub(start) < window
}
