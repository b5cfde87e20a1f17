//! Limits how often a firing is repeated for the same correlation and key.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::identity_hasher::IdentityHasher;
use super::indicator::MAX_INDICATORS;
use super::plan::Plan;
use crate::rules::correlation::Correlation;

/// Maximum number of firings that are remembered: as many as there can be indicators.
const MAX_REMEMBERED_FIRINGS: usize = MAX_INDICATORS;

/// One correlation may use at most 1/4 of the remembered firings. So a correlation that clients can
/// make fire for any number of keys leaves room for others.
const MAX_SHARE_DIVISOR: usize = 4;

/// Seconds between two searches for firings that can be forgotten: they read all firings.
const PRUNE_INTERVAL_SECONDS: u32 = 60;

/// A firing is repeated after 1/4 of the time to live of its indicator.
const REFIRE_FRACTION: u32 = 4;

/// The identity of a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiringId {
    /// Key of the group.
    pub key: u64,
    /// Index of the correlation in the plan.
    pub correlation: u16,
}

/// Remembers when each firing was last reported.
#[derive(Debug, Default)]
pub struct RefireLimiter {
    /// Time of each firing, in seconds since the epoch.
    last_fired: HashMap<FiringId, u32, BuildHasherDefault<IdentityHasher>>,
    /// Number of remembered firings of each correlation.
    counts_by_correlation: Vec<usize>,
    /// Time of the latest pruning, in seconds since the epoch.
    pruned_at: u32,
    /// Whether correlations that only feed other correlations fire, too.
    pub fires_intermediates: bool,
}

impl FiringId {
    fn new(correlation_index: usize, key: u64) -> Self {
        Self { key, correlation: u16::try_from(correlation_index).unwrap_or(u16::MAX) }
    }
}

impl RefireLimiter {
    /// Returns whether a correlation may fire for a key: its last firing for the key is old enough.
    pub fn is_due(&self, plan: &Plan, correlation_index: usize, key: u64, at: u32) -> bool {
        let Some(correlation) = plan.correlations.get(correlation_index) else { return false };
        let fired_at = self.last_fired.get(&FiringId::new(correlation_index, key));
        (self.fires_intermediates || !correlation.is_intermediate())
            && fired_at
                .is_none_or(|fired_at| at.abs_diff(*fired_at) >= refire_interval(correlation))
    }

    /// Returns whether a correlation fires for a key, and records that it does. Forgets the older
    /// half of the correlation's firings when the memory is full: a flood must not silence it.
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
        let id = FiringId::new(correlation_index, key);
        if !self.has_room(id) && at.abs_diff(self.pruned_at) >= PRUNE_INTERVAL_SECONDS {
            self.prune(plan, at);
        }
        if !self.has_room(id) {
            self.forget_older_half(id.correlation);
        }
        self.record(id, at);
        true
    }

    /// Forgets a firing.
    pub fn forget(&mut self, correlation_index: usize, key: u64) {
        if self.last_fired.remove(&FiringId::new(correlation_index, key)).is_some()
            && let Some(count) = self.counts_by_correlation.get_mut(correlation_index)
        {
            *count = count.saturating_sub(1);
        }
    }

    /// Restores a saved firing, if there is room. The later of two times counts.
    pub fn restore(&mut self, correlation_index: usize, key: u64, fired_at: u32) {
        let id = FiringId::new(correlation_index, key);
        if self.has_room(id) {
            let known_at = self.last_fired.get(&id).copied().unwrap_or_default();
            self.record(id, fired_at.max(known_at));
        }
    }

    /// Returns all firings with their times, in seconds since the epoch.
    pub fn iter(&self) -> impl Iterator<Item = (FiringId, u32)> {
        self.last_fired.iter().map(|(id, fired_at)| (*id, *fired_at))
    }

    /// Forgets the firings that are due again.
    fn prune(&mut self, plan: &Plan, at: u32) {
        self.pruned_at = at;
        self.last_fired.retain(|id, fired_at| {
            let correlation = plan.correlations.get(usize::from(id.correlation));
            correlation.is_some_and(|correlation| {
                at.saturating_sub(*fired_at) < refire_interval(correlation)
            })
        });
        self.counts_by_correlation.clear();
        let correlations: Vec<u16> = self.last_fired.keys().map(|id| id.correlation).collect();
        correlations.into_iter().for_each(|correlation| self.increment_count(correlation));
    }

    /// Forgets the older half of the firings of a correlation if it has its share, or else of the
    /// correlation with the most firings. The forgotten ones fire again at their next event, which
    /// extends their indicators.
    fn forget_older_half(&mut self, correlation: u16) {
        let counts = self.counts_by_correlation.iter().zip(0_u16..);
        let fullest = counts.max().map_or(correlation, |(_, fullest)| fullest);
        let own_count = self.counts_by_correlation.get(usize::from(correlation)).copied();
        let has_share = own_count.unwrap_or_default() >= MAX_REMEMBERED_FIRINGS / MAX_SHARE_DIVISOR;
        let victim = if has_share { correlation } else { fullest };
        let mut times: Vec<u32> = self
            .last_fired
            .iter()
            .filter(|(id, _)| id.correlation == victim)
            .map(|(_, fired_at)| *fired_at)
            .collect();
        let middle = times.len() / 2;
        if times.is_empty() {
            return;
        }
        let median = *times.select_nth_unstable(middle).1;
        // Of the firings at the median itself, as many as there are too many.
        let older = times.iter().filter(|fired_at| **fired_at < median).count();
        let mut remaining_at_median = middle.saturating_add(1).saturating_sub(older);
        self.last_fired.retain(|id, fired_at| {
            let is_older = id.correlation == victim && *fired_at <= median;
            let is_forgotten = is_older && (*fired_at < median || remaining_at_median > 0);
            if is_forgotten && *fired_at == median {
                remaining_at_median = remaining_at_median.saturating_sub(1);
            }
            !is_forgotten
        });
        if let Some(count) = self.counts_by_correlation.get_mut(usize::from(victim)) {
            *count = count.saturating_sub(middle.saturating_add(1));
        }
    }

    /// Returns whether a firing is remembered, or there is room to remember it.
    fn has_room(&self, id: FiringId) -> bool {
        let count = self.counts_by_correlation.get(usize::from(id.correlation)).copied();
        self.last_fired.len() < MAX_REMEMBERED_FIRINGS
            && count.unwrap_or_default() < MAX_REMEMBERED_FIRINGS / MAX_SHARE_DIVISOR
            || self.last_fired.contains_key(&id)
    }

    fn record(&mut self, id: FiringId, at: u32) {
        if self.last_fired.insert(id, at).is_none() {
            self.increment_count(id.correlation);
        }
    }

    fn increment_count(&mut self, correlation: u16) {
        let index = usize::from(correlation);
        if self.counts_by_correlation.len() <= index {
            self.counts_by_correlation.resize(index.saturating_add(1), 0);
        }
        if let Some(count) = self.counts_by_correlation.get_mut(index) {
            *count = count.saturating_add(1);
        }
    }
}

/// Returns the seconds after which a firing is repeated.
fn refire_interval(correlation: &Correlation) -> u32 {
    correlation.ttl / REFIRE_FRACTION
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(counts: &[(u16, u64)]) -> RefireLimiter {
        let mut limiter = RefireLimiter::default();
        for (correlation, count) in counts {
            for key in 0..*count {
                limiter.record(FiringId { key, correlation: *correlation }, key as u32);
            }
        }
        limiter
    }

    #[test]
    fn a_full_limiter_forgets_the_older_half_of_the_fullest() {
        let share = (MAX_REMEMBERED_FIRINGS / MAX_SHARE_DIVISOR) as u64;
        let rows: [(&[(u16, u64)], u16, u16); 2] = [
            (&[(0, share), (1, 10)], 0, 0),
            (&[(0, share - 1), (1, share), (2, share), (3, share), (4, 1)], 4, 3),
        ];
        for (counts, correlation, victim) in rows {
            let mut limiter = limiter(counts);
            let newcomer = FiringId { key: u64::MAX, correlation };
            assert!(!limiter.has_room(newcomer));
            limiter.forget_older_half(correlation);
            assert!(limiter.has_room(newcomer));
            for (id, at) in limiter.iter() {
                assert!(id.correlation != victim || u64::from(at) > share / 2 - 1);
            }
            for (correlation, count) in counts {
                let left = limiter.iter().filter(|(id, _)| id.correlation == *correlation).count();
                assert_eq!(limiter.counts_by_correlation[usize::from(*correlation)], left);
                let expected = if *correlation == victim { share / 2 - 1 } else { *count };
                assert_eq!(left as u64, expected);
            }
        }
    }
}
