//! Limits how often a firing is repeated for the same correlation and key.
//!
//! A firing is repeated after a quarter of its indicator's time to live. If the host (the Worker or
//! the command line) refused the firing, it is repeated at the time that the host named. A refused
//! firing of several accounts is repeated earlier if more accounts take part.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::identity_hasher::IdentityHasher;
use super::indicator::MAX_INDICATORS;
use super::plan::Plan;
use crate::rules::correlation::Correlation;

/// Maximum number of firings that are remembered: as many as there can be indicators.
const MAX_REMEMBERED_FIRINGS: usize = MAX_INDICATORS;

/// One correlation may use at most 1/4 of the remembered firings. So a correlation that clients can
/// make fire for any number of keys leaves room for other correlations.
const MAX_SHARE_DIVISOR: usize = 4;

/// Minimum number of seconds between two searches for firings that can be forgotten. A search reads
/// all firings.
const PRUNE_INTERVAL_SECONDS: u32 = 60;

/// A firing is repeated after 1/4 of the time to live of its indicator.
const REFIRE_FRACTION: u32 = 4;

/// The identity of a firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiringId {
    /// Key of the indicator.
    pub key: u64,
    /// Index of the correlation in the plan.
    pub correlation: u16,
}

/// Whether a correlation fires for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FiringDecision {
    /// The correlation does not fire, because it fired or was refused recently, or only feeds other
    /// correlations.
    Suppressed,
    /// The correlation fires. According to the remembered firings, it has no indicator for the key.
    First,
    /// The correlation fires again, to extend its indicator.
    Repeated,
}

/// The last firing of a correlation for a key.
#[derive(Clone, Copy, Debug)]
struct LastFiring {
    /// Time of the firing, in seconds since the epoch. For a refused firing, the time from which on
    /// the correlation may fire again.
    at: u32,
    /// Number of accounts of a refused firing; `None` if the firing was not refused.
    refused_accounts: Option<u16>,
}

/// Remembers when each firing was last reported.
#[derive(Debug, Default)]
pub struct RefireLimiter {
    last_fired: HashMap<FiringId, LastFiring, BuildHasherDefault<IdentityHasher>>,
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
    /// Returns whether a correlation may fire for a key at the time `at`. It may fire if its last
    /// firing for the key is old enough or not remembered, or if the time of a refusal is over. It
    /// may also fire if the refused firing had several accounts, because more accounts may take
    /// part now. Correlations that only feed other correlations may fire only if
    /// `fires_intermediates` is set.
    pub fn is_due(&self, plan: &Plan, correlation_index: usize, key: u64, at: u32) -> bool {
        let Some(correlation) = plan.correlations.get(correlation_index) else { return false };
        let fired_at = self.last_fired.get(&FiringId::new(correlation_index, key));
        (self.fires_intermediates || !correlation.is_intermediate())
            && fired_at.is_none_or(|last| match last.refused_accounts {
                None => at.abs_diff(last.at) >= refire_interval(correlation),
                Some(0 | 1) => at >= last.at,
                Some(_) => true,
            })
    }

    /// Decides whether a correlation fires for a key, and records a firing. `accounts` is the
    /// number of accounts that take part. If the memory is full, forgets older firings, because a
    /// flood of firings must not prevent new ones.
    pub fn fire(
        &mut self,
        plan: &Plan,
        correlation_index: usize,
        key: u64,
        at: u32,
        accounts: usize,
    ) -> FiringDecision {
        if !self.is_due(plan, correlation_index, key, at) {
            return FiringDecision::Suppressed;
        }
        let id = FiringId::new(correlation_index, key);
        let ttl = plan.correlations.get(correlation_index).map_or(0, |correlation| correlation.ttl);
        let decision = match self.last_fired.get(&id) {
            Some(LastFiring { at: until, refused_accounts: Some(refused_accounts) }) => {
                let has_grown = accounts > usize::from(*refused_accounts);
                if at >= *until || has_grown {
                    FiringDecision::First
                } else {
                    FiringDecision::Suppressed
                }
            }
            Some(last) if at.abs_diff(last.at) < ttl => FiringDecision::Repeated,
            Some(_) | None => FiringDecision::First,
        };
        if decision != FiringDecision::Suppressed {
            if !self.has_room(id) && at.abs_diff(self.pruned_at) >= PRUNE_INTERVAL_SECONDS {
                self.prune(plan, at, id);
            }
            if !self.has_room(id) {
                self.forget_older_half(id.correlation);
            }
            self.record(id, LastFiring { at, refused_accounts: None });
        }
        decision
    }

    /// Records, if there is room, that the host refused a firing of `accounts` accounts. The
    /// correlation may fire for the key again from `until` on, in seconds since the epoch.
    pub fn refuse(&mut self, correlation_index: usize, key: u64, accounts: usize, until: u32) {
        let id = FiringId::new(correlation_index, key);
        if self.has_room(id) {
            let refused_accounts = Some(u16::try_from(accounts).unwrap_or(u16::MAX));
            self.record(id, LastFiring { at: until, refused_accounts });
        }
    }

    /// Forgets a firing.
    pub fn forget(&mut self, correlation_index: usize, key: u64) {
        if self.last_fired.remove(&FiringId::new(correlation_index, key)).is_some()
            && let Some(count) = self.counts_by_correlation.get_mut(correlation_index)
        {
            *count = count.saturating_sub(1);
        }
    }

    /// Restores a saved firing, if there is room. If the firing is known already, the later time is
    /// kept.
    pub fn restore(&mut self, correlation_index: usize, key: u64, fired_at: u32) {
        let id = FiringId::new(correlation_index, key);
        if self.has_room(id) {
            let known_at = self.last_fired.get(&id).map_or(0, |last| last.at);
            self.record(id, LastFiring { at: fired_at.max(known_at), refused_accounts: None });
        }
    }

    /// Returns all firings that were not refused, with their times, in seconds since the epoch.
    pub fn iter(&self) -> impl Iterator<Item = (FiringId, u32)> {
        let admitted = self.last_fired.iter().filter(|(_, last)| last.refused_accounts.is_none());
        admitted.map(|(id, last)| (*id, last.at))
    }

    /// Forgets refused firings, and firings whose indicators have expired. If `id` then has no
    /// room, also forgets the firings that are due again.
    fn prune(&mut self, plan: &Plan, at: u32, id: FiringId) {
        self.pruned_at = at;
        self.retain_younger(plan, at, |correlation| correlation.ttl);
        if !self.has_room(id) {
            self.retain_younger(plan, at, refire_interval);
        }
    }

    /// Keeps the firings that were not refused, and are younger than the seconds that `max_age`
    /// returns for their correlation.
    fn retain_younger(&mut self, plan: &Plan, at: u32, max_age: impl Fn(&Correlation) -> u32) {
        self.last_fired.retain(|id, last| {
            let correlation = plan.correlations.get(usize::from(id.correlation));
            last.refused_accounts.is_none()
                && correlation
                    .is_some_and(|correlation| at.saturating_sub(last.at) < max_age(correlation))
        });
        self.counts_by_correlation.clear();
        let correlations: Vec<u16> = self.last_fired.keys().map(|id| id.correlation).collect();
        correlations.into_iter().for_each(|correlation| self.increment_count(correlation));
    }

    /// Forgets the older half of the firings of `correlation` if it has used up its share, or else
    /// of the correlation with the most firings. A forgotten firing is repeated at the next event,
    /// which only extends its indicator.
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
            .map(|(_, last)| last.at)
            .collect();
        let middle = times.len() / 2;
        if times.is_empty() {
            return;
        }
        let median = *times.select_nth_unstable(middle).1;
        // Several firings may have the median time. Of these, only as many are forgotten as
        // complete the older half.
        let older = times.iter().filter(|fired_at| **fired_at < median).count();
        let mut remaining_at_median = middle.saturating_add(1).saturating_sub(older);
        self.last_fired.retain(|id, last| {
            let is_older = id.correlation == victim && last.at <= median;
            let is_forgotten = is_older && (last.at < median || remaining_at_median > 0);
            if is_forgotten && last.at == median {
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

    fn record(&mut self, id: FiringId, last: LastFiring) {
        if self.last_fired.insert(id, last).is_none() {
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
    use crate::rules::correlation::{Attribution, Coordination, Measure};
    use crate::rules::signature::Status;

    /// Returns a plan with one correlation, whose indicators are active for 4,000 seconds.
    fn plan() -> Plan {
        let correlation = Correlation {
            name: "cluster_one".into(),
            id: String::new(),
            title: String::new(),
            family: "cluster".into(),
            status: Status::Stable,
            weight: 6.0,
            rules: vec!["a".into()],
            only: None,
            group_by: Vec::new(),
            timespan: 3_600,
            measure: Measure::TemporalOrdered { distinct_by: None },
            coordination: Coordination::default(),
            attribution: Attribution::default(),
            ttl: 4_000,
        };
        Plan { correlations: vec![correlation], ..Plan::default() }
    }

    fn limiter(counts: &[(u16, u64)]) -> RefireLimiter {
        let mut limiter = RefireLimiter::default();
        for (correlation, count) in counts {
            for key in 0..*count {
                let last = LastFiring { at: key as u32, refused_accounts: None };
                limiter.record(FiringId { key, correlation: *correlation }, last);
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

    #[test]
    fn a_refused_firing_waits_for_its_time_or_for_more_accounts() {
        let plan = plan();
        // Columns: accounts at the refusal, seconds after the firing, accounts at that time,
        // expected result.
        let rows = [
            (1, 59, 1, FiringDecision::Suppressed),
            (1, 60, 1, FiringDecision::First),
            (3, 59, 3, FiringDecision::Suppressed),
            (3, 59, 4, FiringDecision::First),
            (3, 60, 3, FiringDecision::First),
        ];
        for (refused, after, accounts, expected) in rows {
            let mut limiter = RefireLimiter::default();
            assert_eq!(limiter.fire(&plan, 0, 7, 100, refused), FiringDecision::First);
            limiter.refuse(0, 7, refused, 160);
            assert_eq!(limiter.iter().count(), 0, "a refused firing is not saved");
            let name = format!("{refused} {after} {accounts}");
            assert_eq!(limiter.fire(&plan, 0, 7, 100 + after, accounts), expected, "{name}");
        }
    }

    #[test]
    fn a_repeated_firing_extends_its_indicator_until_that_has_expired() {
        let plan = plan();
        for (after, expected) in [
            (999, FiringDecision::Suppressed),
            (1_000, FiringDecision::Repeated),
            (3_999, FiringDecision::Repeated),
            (4_000, FiringDecision::First),
        ] {
            let mut limiter = RefireLimiter::default();
            assert_eq!(limiter.fire(&plan, 0, 7, 100, 1), FiringDecision::First);
            assert_eq!(limiter.fire(&plan, 0, 7, 100 + after, 1), expected, "{after}");
        }
    }
}
