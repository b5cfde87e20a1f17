//! The schedule by which an isolate reads KV: in the background, at most every REFRESH_SECONDS.
//!
//! One request starts a poll; the others do not wait for its result. Times are milliseconds since
//! the epoch.

use std::time::Duration;

use futures_channel::oneshot;
use worker::Context;

use crate::platform::clock::with_timeout;
use crate::platform::lease::{Backoff, Lease};

/// Timeout of one read of KV.
pub const KV_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for which the first request of an isolate waits for the first poll.
const FIRST_POLL_WAIT: Duration = Duration::from_millis(50);

/// Time after which another request may poll, if the platform ended the polling request before it
/// finished.
const POLL_LEASE: Duration = Duration::from_secs(30);

/// The longest pause between two polls while KV cannot be read.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The state of the schedule: when KV is polled again, and whether a request polls it now.
#[derive(Default)]
pub struct KvPoll {
    /// The lease of the request that polls.
    lease: Lease,
    backoff: Backoff,
    has_started: bool,
    has_finished: bool,
}

/// The right of one request to poll.
pub struct PollTicket {
    /// Whether this is the isolate's first poll: the request waits for the result, at most 50 ms.
    pub is_first: bool,
}

impl KvPoll {
    /// Returns whether a poll is due, and no other request polls.
    pub fn is_due(&self, now: f64) -> bool {
        self.backoff.is_due(now) && !self.lease.is_held(now)
    }

    /// Returns whether any poll has started.
    pub fn has_started(&self) -> bool {
        self.has_started
    }

    /// Returns whether any poll has finished, successfully or not.
    pub fn has_finished(&self) -> bool {
        self.has_finished
    }

    /// Returns whether the first poll is running.
    pub fn is_first_running(&self, now: f64) -> bool {
        !self.has_finished && self.lease.is_held(now)
    }

    /// Starts a poll: no other request polls until it finishes or its lease of 30 seconds expires.
    pub fn start(&mut self, now: f64) -> PollTicket {
        self.lease.renew(now, POLL_LEASE);
        PollTicket { is_first: !std::mem::replace(&mut self.has_started, true) }
    }

    /// Makes the next poll due after `interval`, without polling now.
    pub fn postpone(&mut self, now: f64, interval: Duration) {
        self.backoff.postpone(now, interval);
    }

    /// Ends a poll that KV answered: the next poll is due after `interval`.
    pub fn finish(&mut self, now: f64, interval: Duration) {
        self.has_finished = true;
        self.lease.release();
        self.backoff.record_success(now, interval);
    }

    /// Ends a poll that failed: the next poll is due after a pause that doubles from `interval`, up
    /// to 60 seconds.
    pub fn finish_failed(&mut self, now: f64, interval: Duration) {
        self.has_finished = true;
        self.lease.release();
        self.backoff.record_failure(now, interval, MAX_BACKOFF);
    }
}

/// Runs a poll in the background. `waitUntil` lets the poll continue after the response. `poll`
/// gets a sender, and sends `()` as soon as the result is in force: the first request of an isolate
/// waits for that signal, at most 50 ms.
pub async fn run_in_background<F>(
    context: &Context,
    ticket: PollTicket,
    poll: impl FnOnce(oneshot::Sender<()>) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let (done_tx, done_rx) = oneshot::channel();
    context.wait_until(poll(done_tx));
    if ticket.is_first {
        with_timeout(done_rx, FIRST_POLL_WAIT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[test]
    fn one_request_polls_at_a_time_and_an_abandoned_poll_is_replaced() {
        let mut poll = KvPoll::default();
        assert!(poll.is_due(0.0) && poll.start(0.0).is_first);
        assert!(!poll.is_due(29_999.0) && poll.is_first_running(29_999.0));
        assert!(poll.is_due(30_000.0) && !poll.start(30_000.0).is_first);
        poll.finish(31_000.0, INTERVAL);
        assert!(poll.has_finished() && !poll.is_first_running(31_000.0));
        assert!(!poll.is_due(40_999.0) && poll.is_due(41_000.0));
    }

    #[test]
    fn a_failing_kv_is_polled_after_10_20_40_and_then_every_60_seconds() {
        let (mut poll, mut now) = (KvPoll::default(), 0.0);
        for seconds in [10.0, 20.0, 40.0, 60.0, 60.0] {
            poll.start(now);
            poll.finish_failed(now, INTERVAL);
            now += seconds * 1_000.0;
            assert!(!poll.is_due(now - 1.0) && poll.is_due(now), "{seconds}");
        }
        poll.finish(now, INTERVAL);
        poll.finish_failed(now, INTERVAL);
        assert!(poll.is_due(now + 10_000.0));
    }
}
