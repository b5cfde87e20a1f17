//! The indicators that the registry has in memory, and counts of firings that it did not store.

use std::collections::BTreeMap;

use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::correlate::indicator::table::IndicatorTable;

/// Seconds in a day.
const DAY_SECONDS: u64 = 86_400;

/// The indicators of the table that have not expired.
#[derive(Default)]
pub struct StoredIndicators {
    /// Indicators that are not revoked, and raise scores.
    pub active: IndicatorTable,
    /// Revoked indicators, with the expiry 0.
    pub revoked: Indicators,
}

impl StoredIndicators {
    /// Returns the number of indicators that `selects` accepts by correlation and key. Indicators
    /// that have expired at `now`, in seconds since the epoch, do not count. Revoked ones count
    /// until they are deleted.
    pub fn count(&self, now: u64, selects: impl Fn(&str, u64) -> bool) -> u64 {
        let active = self.active.iter().filter(|(correlation, key, entry)| {
            now < u64::from(entry.expires) && selects(correlation, *key)
        });
        let revoked = self.revoked.iter();
        let revoked = revoked.filter(|indicator| selects(indicator.correlation, indicator.key));
        (active.count() + revoked.count()) as u64
    }
}

/// Counts of firings that were not stored, and of indicators that were replaced, on one UTC day.
/// The counts are only in memory.
#[derive(Default)]
pub struct FiringStats {
    /// The day, as days since the epoch.
    day: u64,
    /// Number of firings that a quota refused.
    pub refused_by_quota: u64,
    /// Number of firings that were refused because all stored indicators were stronger.
    pub refused_as_weak: u64,
    /// Number of indicators that a stronger one replaced.
    pub replaced: u64,
    /// The last reported queue lengths, by index of the correlator.
    pub queued: BTreeMap<u32, Queued>,
}

/// Lengths of the queues of a correlator, and of the isolates that send observations to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Number of firings that wait at the correlator.
    pub firings: u64,
    /// Largest number of observations that waited at an isolate since the report before.
    pub observations: u64,
}

impl FiringStats {
    /// Records a report of the correlator with the index `shard`: the lengths of its queues, and
    /// the number of firings that it refused because of a quota. `now` is in seconds since the
    /// epoch.
    pub fn record_report(&mut self, now: u64, shard: u32, queued: Queued, refused: u64) {
        // There are at most 64 correlators, but a release may have changed their number.
        if self.queued.len() < 256 || self.queued.contains_key(&shard) {
            self.queued.insert(shard, queued);
        }
        self.record_refused_by_quota(now, refused);
    }

    /// Counts firings that were refused because of a quota.
    pub fn record_refused_by_quota(&mut self, now: u64, count: u64) {
        self.begin_day(now);
        self.refused_by_quota = self.refused_by_quota.saturating_add(count);
    }

    /// Counts a firing that was refused because all indicators were stronger, and returns the
    /// number of such firings on this day.
    pub fn record_refused_as_weak(&mut self, now: u64) -> u64 {
        self.begin_day(now);
        self.refused_as_weak = self.refused_as_weak.saturating_add(1);
        self.refused_as_weak
    }

    /// Counts an indicator that replaced a weaker one.
    pub fn record_replaced(&mut self, now: u64) {
        self.begin_day(now);
        self.replaced = self.replaced.saturating_add(1);
    }

    /// Sets the counts to zero if they are of another day than `now`, which is in seconds since the
    /// epoch. Keeps the lengths of queues.
    pub fn begin_day(&mut self, now: u64) {
        let day = now / DAY_SECONDS;
        if day != self.day {
            *self = Self { day, queued: std::mem::take(&mut self.queued), ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_core::correlate::Cause;
    use hedgerow_core::correlate::indicator::Indicator;
    use hedgerow_core::correlate::indicator::strength::Strength;
    use hedgerow_core::correlate::indicator::table::TableEntry;

    use super::*;

    #[test]
    fn indicators_are_counted_by_correlation_and_key_until_they_expire() {
        let mut active = IndicatorTable::new(usize::MAX);
        for (correlation, key, expires) in [("a", 1, 100), ("a", 2, 50), ("b", 1, 100)] {
            let (strength, cause) = (Strength::default(), Cause::default());
            active.insert(correlation, key, TableEntry { strength, expires, cause });
        }
        let mut revoked = Indicators::default();
        revoked.add(Indicator { correlation: "a", key: 3, expires: 0, cluster: 0 });
        let stored = StoredIndicators { active, revoked };
        assert_eq!([stored.count(0, |_, _| true), stored.count(50, |_, _| true)], [4, 3]);
        assert_eq!(stored.count(0, |correlation, _| correlation == "a"), 3);
        assert_eq!(stored.count(0, |_, key| key == 1), 2);
    }

    #[test]
    fn counts_begin_again_each_day() {
        let mut stats = FiringStats::default();
        let queued = Queued { firings: 7, observations: 9 };
        stats.record_report(10, 3, queued, 2);
        stats.record_refused_by_quota(20, 1);
        assert_eq!((stats.refused_by_quota, stats.record_refused_as_weak(30)), (3, 1));
        assert_eq!(stats.record_refused_as_weak(DAY_SECONDS), 1);
        assert_eq!((stats.refused_by_quota, stats.queued.get(&3)), (0, Some(&queued)));
    }
}
