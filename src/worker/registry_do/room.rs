//! The room of the registry: the indicators in memory, and counts of what was not stored.

use std::collections::BTreeMap;

use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::correlate::indicator::table::IndicatorTable;

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// The indicators that have not expired, as they are in the table.
#[derive(Default)]
pub struct StoredIndicators {
    /// Indicators that count.
    pub active: IndicatorTable,
    /// Revoked indicators, with the expiry 0.
    pub revoked: Indicators,
}

/// Counts of what was not stored on one UTC day. Only memory has them.
#[derive(Default)]
pub struct Usage {
    /// Number of the day since the epoch.
    day: u64,
    /// Firings beyond a quota.
    pub refused_by_quota: u64,
    /// Firings that found no place.
    pub refused_as_weak: u64,
    /// Indicators that a stronger one replaced.
    pub replaced: u64,
    /// Queues by index of the correlator that last reported them.
    pub queued: BTreeMap<u32, Queued>,
}

/// The firings that wait at a correlator, and the observations at the isolates that send to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Number of firings that wait at the correlator.
    pub firings: u64,
    /// Largest number of observations that waited at an isolate.
    pub observations: u64,
}

impl Usage {
    /// Records the state of a correlator: what waits, and the number of firings that it has left
    /// out because of a quota. `now` is the time in seconds since the epoch.
    pub fn record_report(&mut self, now: u64, shard: u32, queued: Queued, refused: u64) {
        // There are at most 64 correlators, but a release may have had other numbers.
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

    /// Begins a new day, if `now` is in another one.
    pub fn begin_day(&mut self, now: u64) {
        let day = now / DAY_SECONDS;
        if day != self.day {
            *self = Self { day, queued: std::mem::take(&mut self.queued), ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_begin_again_each_day() {
        let mut usage = Usage::default();
        let queued = Queued { firings: 7, observations: 9 };
        usage.record_report(10, 3, queued, 2);
        usage.record_refused_by_quota(20, 1);
        assert_eq!((usage.refused_by_quota, usage.record_refused_as_weak(30)), (3, 1));
        assert_eq!(usage.record_refused_as_weak(DAY_SECONDS), 1);
        assert_eq!((usage.refused_by_quota, usage.queued.get(&3)), (0, Some(&queued)));
    }
}
