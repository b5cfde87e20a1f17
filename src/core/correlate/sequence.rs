//! State of temporal correlations: when sources last had events, and in which order.

use serde::{Deserialize, Serialize};

/// The time of the latest event of each source, in seconds since the epoch; 0 for a source without
/// events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastSeen(Box<[u32]>);

impl LastSeen {
    /// Creates the state for `source_count` sources without events.
    pub fn new(source_count: usize) -> Self {
        Self(vec![0; source_count].into())
    }

    /// Records an event of a source.
    pub fn record(&mut self, source: usize, at: u32) {
        if let Some(last) = self.0.get_mut(source) {
            *last = at.max(*last);
        }
    }

    /// Returns whether a source had an event within the window of `window` seconds that ends with
    /// the newest event.
    pub fn was_hit(&self, source: usize, newest: u32, window: u32) -> bool {
        let last = self.0.get(source).copied().unwrap_or_default();
        last > 0 && newest.saturating_sub(last) < window
    }

    /// Adds the events of another state of the same group.
    pub fn merge(&mut self, other: &Self) {
        for (last, other_last) in self.0.iter_mut().zip(&other.0) {
            *last = (*last).max(*other_last);
        }
    }

    /// Returns the bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.len().saturating_mul(size_of::<u32>())
    }
}

/// The latest sequence of events that has one event of each source, in the order of the sources.
///
/// For each source, the state keeps two partial sequences that end with an event of that source.
/// The first is the sequence that began last. The second is the sequence that began last among
/// sequences that end with another value. The second is needed if consecutive values must differ:
/// an event with the last value of the first sequence can extend only the second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderedMatch(Box<[[Partial; 2]]>);

/// A partial sequence, which ends with an event of one of the sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Partial {
    /// Time of the first event, in seconds since the epoch; 0 before the first event.
    started_at: u32,
    /// Time of the last event, in seconds since the epoch.
    last_hit_at: u32,
    /// Hash of the last event's value. It is compared only if values must differ.
    value: u64,
}

impl OrderedMatch {
    /// Creates the state for `source_count` sources without events.
    pub fn new(source_count: usize) -> Self {
        Self(vec![Default::default(); source_count].into())
    }

    /// Records an event of a source. An event of the first source begins a sequence. An event of
    /// another source extends a sequence that ends with the source before it and, if `value` is
    /// given, with another value.
    ///
    /// A late event is not inserted into a sequence: it can only extend a sequence at its end. So a
    /// sequence may be missed, but no false sequence is found.
    pub fn record(&mut self, source: usize, at: u32, value: Option<u64>) {
        let started_at = match source.checked_sub(1) {
            None => Some(at),
            Some(previous) => {
                let candidates = self.0.get(previous).into_iter().flatten();
                let can_extend = |partial: &&Partial| {
                    partial.started_at > 0
                        && partial.last_hit_at <= at
                        && value.is_none_or(|value| value != partial.value)
                };
                candidates.filter(can_extend).map(|partial| partial.started_at).max()
            }
        };
        if let (Some(started_at), Some(partials)) = (started_at, self.0.get_mut(source)) {
            let value = value.unwrap_or_default();
            keep_latest(partials, Partial { started_at, last_hit_at: at, value });
        }
    }

    /// Returns whether a sequence of all sources lies within the window of `window` seconds that
    /// ends with the newest event.
    pub fn is_complete(&self, newest: u32, window: u32) -> bool {
        self.0.last().is_some_and(|[partial, _]| {
            partial.started_at > 0 && newest.saturating_sub(partial.started_at) < window
        })
    }

    /// Merges another state of the same group: keeps, for each source, the sequences that began
    /// last.
    pub fn merge(&mut self, other: &Self) {
        for (partials, other_partials) in self.0.iter_mut().zip(&other.0) {
            other_partials.iter().for_each(|partial| keep_latest(partials, *partial));
        }
    }

    /// Returns the bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Keeps the sequence that began last, and the sequence that began last among sequences with
/// another value.
fn keep_latest([best, runner_up]: &mut [Partial; 2], candidate: Partial) {
    // Of two sequences that began together, the sequence that ended first can be extended by more
    // events.
    let is_better = |candidate: &Partial, current: &Partial| {
        candidate.started_at > current.started_at
            || candidate.started_at == current.started_at
                && candidate.last_hit_at < current.last_hit_at
    };
    if candidate.value == best.value {
        if is_better(&candidate, best) {
            *best = candidate;
        }
    } else if is_better(&candidate, best) {
        *runner_up = std::mem::replace(best, candidate);
    } else if is_better(&candidate, runner_up) {
        *runner_up = candidate;
    }
}
