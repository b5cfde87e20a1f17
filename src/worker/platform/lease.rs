//! Leases and backoff. A lease lets one request do work for all requests. Backoff gives the time of
//! the next attempt after a failure.
//!
//! All times are milliseconds since the epoch, as [`now_ms`](super::clock::now_ms) returns them.
//! The types have no interior mutability: Durable Objects keep them in a `RefCell`.

use std::time::Duration;

/// The exclusive right to do some work, until it is released or expires.
///
/// It expires because the platform may end an invocation at any time: then the holder never
/// releases the lease, and must not block the work for ever.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    /// Milliseconds since the epoch; 0 if no request holds the lease.
    until: f64,
}

impl Lease {
    /// Returns whether a request holds the lease at `now`.
    pub fn is_held(&self, now: f64) -> bool {
        now < self.until
    }

    /// Takes the lease for `ttl` and returns true. Returns false if another request holds it.
    pub fn try_acquire(&mut self, now: f64, ttl: Duration) -> bool {
        let is_free = !self.is_held(now);
        if is_free {
            self.renew(now, ttl);
        }
        is_free
    }

    /// Takes the lease for `ttl` from `now`, even if another request holds it.
    pub fn renew(&mut self, now: f64, ttl: Duration) {
        self.until = now + millis(ttl);
    }

    /// Releases the lease.
    pub fn release(&mut self) {
        self.until = 0.0;
    }
}

/// The time at which work that can fail is due again. The pause doubles with each consecutive
/// failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    /// Time from which on the work may be tried, in milliseconds since the epoch; 0 if it was never
    /// tried.
    due: f64,
    /// Number of consecutive failures.
    failures: u32,
}

impl Backoff {
    /// Returns whether the work may be tried at `now`.
    pub fn is_due(&self, now: f64) -> bool {
        now >= self.due
    }

    /// Forgets earlier failures, and makes the work due again after `pause`.
    pub fn record_success(&mut self, now: f64, pause: Duration) {
        self.failures = 0;
        self.postpone(now, pause);
    }

    /// Counts a failure, makes the work due again after the [`backoff_delay`] of `base` and `max`,
    /// and returns that delay.
    pub fn record_failure(&mut self, now: f64, base: Duration, max: Duration) -> Duration {
        let delay = backoff_delay(base, self.failures, max);
        self.failures = self.failures.saturating_add(1);
        self.postpone(now, delay);
        delay
    }

    /// Makes the work due after `pause`. The number of failures stays.
    pub fn postpone(&mut self, now: f64, pause: Duration) {
        self.due = now + millis(pause);
    }
}

/// Returns the pause after a failure that follows `failures` others: `base` × 2^`failures`, at most
/// `max`. A `base` below one second counts as one second. If `base` is above `max`, the pause is
/// `base`.
pub fn backoff_delay(base: Duration, failures: u32, max: Duration) -> Duration {
    let factor = 2_u32.saturating_pow(failures.min(MAX_DOUBLINGS));
    base.max(MIN_BASE).saturating_mul(factor).min(max.max(base))
}

/// The shortest pause after a failure. It is needed because REFRESH_SECONDS, which is used as the
/// base, may be 0.
const MIN_BASE: Duration = Duration::from_secs(1);

/// Number of doublings after which every pause is at its maximum.
const MAX_DOUBLINGS: u32 = 16;

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_exclusive_until_it_is_released_or_expires() {
        let ttl = Duration::from_secs(30);
        let mut lease = Lease::default();
        assert!(!lease.is_held(1_000.0));
        assert!(lease.try_acquire(1_000.0, ttl));
        assert!(!lease.try_acquire(30_999.0, ttl));
        assert!(lease.try_acquire(31_000.0, ttl), "an expired lease is free");
        lease.renew(40_000.0, ttl);
        assert!(lease.is_held(69_999.0));
        lease.release();
        assert!(lease.try_acquire(40_001.0, ttl));
    }

    #[test]
    fn pauses_double_up_to_the_maximum_and_start_over_after_a_success() {
        let (base, max) = (Duration::from_secs(1), Duration::from_secs(5));
        let mut backoff = Backoff::default();
        assert!(backoff.is_due(0.0));
        for (now, next) in [(0.0, 1_000.0), (1_000.0, 3_000.0), (3_000.0, 7_000.0)] {
            backoff.record_failure(now, base, max);
            assert!(!backoff.is_due(next - 1.0) && backoff.is_due(next), "after {now}");
        }
        assert_eq!(backoff.record_failure(7_000.0, base, max), max);
        assert_eq!(backoff.failures, 4);
        backoff.postpone(7_000.0, base);
        assert_eq!((backoff.failures, backoff.is_due(8_000.0)), (4, true));
        backoff.record_success(8_000.0, Duration::from_secs(10));
        assert!(!backoff.is_due(17_999.0) && backoff.is_due(18_000.0));
        assert_eq!(backoff.record_failure(18_000.0, base, max), base);
    }

    #[test]
    fn a_delay_has_a_minimum_and_never_overflows() {
        let seconds = Duration::from_secs;
        let rows = [
            (Duration::ZERO, 0, seconds(60), seconds(1)),
            (seconds(10), 1, seconds(60), seconds(20)),
            (seconds(10), 3, seconds(60), seconds(60)),
            (seconds(3_600), 0, seconds(60), seconds(3_600)),
            (seconds(1), u32::MAX, Duration::MAX, seconds(65_536)),
        ];
        for (base, failures, max, expected) in rows {
            assert_eq!(backoff_delay(base, failures, max), expected, "{base:?} {failures}");
        }
    }
}
