//! The pace of an upload, which decides whether it is waited for.

use std::time::Duration;

use hedgerow_core::rules::policy::{IncompleteAction, Policy};

use crate::platform::clock::now_ms;

/// The pace of an upload: whether it makes enough progress to be waited for.
pub struct UploadPace {
    /// Milliseconds since the epoch after which the upload is not waited for.
    deadline: f64,
    /// Whether the policy waits for an upload that makes progress.
    waits: bool,
    /// Start of the current interval, in milliseconds since the epoch.
    interval_start: f64,
    /// Bytes that had been received at the start of the interval.
    interval_bytes: u64,
}

impl UploadPace {
    /// Begins an upload that is read as a whole.
    pub fn new(policy: &Policy) -> Self {
        let waits = policy.incomplete.late == IncompleteAction::Wait;
        let max_ms =
            if waits { f64::from(policy.scan.max_upload_time) * 1_000.0 } else { READ_TIMEOUT_MS };
        Self { deadline: now_ms() + max_ms, waits, interval_start: now_ms(), interval_bytes: 0 }
    }

    /// Goes on with an upload that may take any time, because it takes little memory. `received`
    /// bytes have arrived.
    pub fn without_deadline(received: u64) -> Self {
        Self {
            deadline: f64::INFINITY,
            waits: true,
            interval_start: now_ms(),
            interval_bytes: received,
        }
    }

    /// Returns whether an upload of which `received` bytes have arrived is not waited for any more.
    pub fn is_late(&mut self, received: u64) -> bool {
        let now = now_ms();
        if !self.waits || now - self.interval_start < PROGRESS_INTERVAL_MS {
            return now >= self.deadline;
        }
        let progress = received.saturating_sub(self.interval_bytes);
        (self.interval_start, self.interval_bytes) = (now, received);
        progress < MIN_PROGRESS_BYTES || now >= self.deadline
    }
}

/// Milliseconds after which the request is scored on the bytes received so far, if the policy does
/// not wait for slow uploads.
const READ_TIMEOUT_MS: f64 = 10_000.0;

/// Milliseconds in which an upload must make progress, and the bytes that it must send in them: 512
/// bytes per second. A pause of half the interval does not end the upload of a phone.
const PROGRESS_INTERVAL_MS: f64 = 20_000.0;
const MIN_PROGRESS_BYTES: u64 = 10 << 10;

/// Pause between two looks at the progress of an upload that does not send, and at the bodies that
/// need its memory.
pub const TICK: Duration = Duration::from_millis(200);
