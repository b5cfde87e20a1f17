//! What was told, so that it is not told again too soon.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::Plan;
use crate::correlate::indicator::{IdentityHasher, MAX_INDICATORS};

/// When a correlation was last told to hold for a key.
#[derive(Debug, Default)]
pub struct RefireLimiter {
    pub last_fired: HashMap<(u64, u16), u32, BuildHasherDefault<IdentityHasher>>,
    /// How many of each correlation.
    counts_by_correlation: Vec<usize>,
    /// When old ones were last forgotten for want of room.
    pruned_at: u32,
    /// Whether correlations are told that only feed others.
    pub fires_intermediates: bool,
}

/// Firings that are remembered, so that they are not told again too soon: as many as there can be
/// indicators.
const MAX_REMEMBERED_FIRINGS: usize = MAX_INDICATORS;

/// One correlation has that share of them at most.
const MAX_SHARE_DIVISOR: usize = 4;

/// Seconds between two looks for firings that can be forgotten.
const PRUNE_INTERVAL_SECONDS: u32 = 60;

/// A firing is told again after so much of the time that it lasts.
const REFIRE_FRACTION: u32 = 4;

impl RefireLimiter {
    /// Whether a correlation has not been told lately to hold for a key.
    pub fn is_due(&self, plan: &Plan, correlation_index: usize, key: u64, at: u32) -> bool {
        let Some(correlation) = plan.correlations.get(correlation_index) else { return false };
        let fired_at =
            self.last_fired.get(&(key, u16::try_from(correlation_index).unwrap_or(u16::MAX)));
        (self.fires_intermediates || !correlation.is_intermediate())
            && fired_at
                .is_none_or(|fired_at| at.abs_diff(*fired_at) >= correlation.ttl / REFIRE_FRACTION)
    }

    /// The same, and notes that it is told; there is no telling what cannot be remembered.
    pub fn should_fire(
        &mut self,
        plan: &Plan,
        correlation_index: usize,
        key: u64,
        at: u32,
    ) -> bool {
        if !self.is_due(plan, correlation_index, key, at) {
            return false;
        }
        let entry = (key, u16::try_from(correlation_index).unwrap_or(u16::MAX));
        // Looking through all of them takes long: not for every firing.
        if !self.has_room(entry) && at.abs_diff(self.pruned_at) >= PRUNE_INTERVAL_SECONDS {
            self.pruned_at = at;
            self.last_fired.retain(|(_, index), fired_at| {
                let correlation = plan.correlations.get(usize::from(*index));
                correlation.is_some_and(|correlation| {
                    at.saturating_sub(*fired_at) < correlation.ttl / REFIRE_FRACTION
                })
            });
            self.counts_by_correlation.clear();
            let correlation_indexes: Vec<u16> =
                self.last_fired.keys().map(|(_, index)| *index).collect();
            correlation_indexes.into_iter().for_each(|index| self.increment_count(index));
        }
        let has_room = self.has_room(entry);
        if has_room {
            self.record(entry, at);
        }
        has_room
    }

    /// Whether one more can be remembered. A correlation that clients make hold at will leaves room for
    /// the others.
    pub fn has_room(&self, entry: (u64, u16)) -> bool {
        let count =
            self.counts_by_correlation.get(usize::from(entry.1)).copied().unwrap_or_default();
        self.last_fired.len() < MAX_REMEMBERED_FIRINGS
            && count < MAX_REMEMBERED_FIRINGS / MAX_SHARE_DIVISOR
            || self.last_fired.contains_key(&entry)
    }

    pub fn record(&mut self, entry: (u64, u16), at: u32) {
        if self.last_fired.insert(entry, at).is_none() {
            self.increment_count(entry.1);
        }
    }

    pub fn forget(&mut self, entry: (u64, u16)) {
        if self.last_fired.remove(&entry).is_some()
            && let Some(count) = self.counts_by_correlation.get_mut(usize::from(entry.1))
        {
            *count = count.saturating_sub(1);
        }
    }

    fn increment_count(&mut self, correlation_index: u16) {
        let index = usize::from(correlation_index);
        if self.counts_by_correlation.len() <= index {
            self.counts_by_correlation.resize(index.saturating_add(1), 0);
        }
        self.counts_by_correlation
            .get_mut(index)
            .into_iter()
            .for_each(|count| *count = count.saturating_add(1));
    }
}
