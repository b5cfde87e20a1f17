//! When a group last had hits of which rules, and in which order.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

/// When each rule was last hit; 0 where it was not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastSeen(Box<[u32]>);

impl LastSeen {
    /// Nothing seen of so many rules.
    pub fn new(event_count: usize) -> Self {
        Self(vec![0; event_count].into())
    }

    /// Notes a hit.
    pub fn record(&mut self, event: usize, at: u32) {
        if let Some(last) = self.0.get_mut(event) {
            *last = at.max(*last);
        }
    }

    /// Whether a rule was hit within the window.
    pub fn was_hit(&self, event: usize, newest: u32, window: u32) -> bool {
        let last = self.0.get(event).copied().unwrap_or_default();
        last > 0 && newest.saturating_sub(last) < window
    }

    /// Adds what another has seen of the same group.
    pub fn merge(&mut self, other: &Self) {
        for (last, other_last) in self.0.iter_mut().zip(&other.0) {
            *last = (*last).max(*other_last);
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.len().saturating_mul(size_of::<u32>())
    }
}

/// Of the hits of rules in their order, the sequence up to each rule that began last; and the one that
/// began last among those that end with another value, where values have to differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderedMatch(Box<[[Partial; 2]]>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Partial {
    /// When the sequence began; 0 where there is none.
    started_at: u32,
    /// When its last rule was hit.
    last_hit_at: u32,
    /// With which value.
    value: u64,
}

impl OrderedMatch {
    /// Nothing seen of so many rules.
    pub fn new(event_count: usize) -> Self {
        Self(vec![Default::default(); event_count].into())
    }

    /// Notes a hit. A late one joins a sequence only at its end: so a sequence may be missed, and none
    /// is invented. Where `value` is given, a hit joins only hits of another one.
    pub fn record(&mut self, event: usize, at: u32, value: Option<u64>) {
        let started_at = match event.checked_sub(1) {
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
        if let (Some(started_at), Some(partials)) = (started_at, self.0.get_mut(event)) {
            keep_latest(
                partials,
                Partial { started_at, last_hit_at: at, value: value.unwrap_or_default() },
            );
        }
    }

    /// Whether all rules were hit in their order, within the window.
    pub fn is_complete(&self, newest: u32, window: u32) -> bool {
        self.0.last().is_some_and(|[partial, _]| {
            partial.started_at > 0 && newest.saturating_sub(partial.started_at) < window
        })
    }

    /// Takes of each rule the sequences that began last, of both.
    pub fn merge(&mut self, other: &Self) {
        for (partials, other_partials) in self.0.iter_mut().zip(&other.0) {
            other_partials.iter().for_each(|partial| keep_latest(partials, *partial));
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Keeps the sequence that began last, and the one of another value that began last.
fn keep_latest([best, runner_up]: &mut [Partial; 2], candidate: Partial) {
    // Of two that began together, the one that can be joined by more hits ended first.
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
