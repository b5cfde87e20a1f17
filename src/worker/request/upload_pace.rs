//! The pace of an upload, which decides whether Hedgerow continues to wait for it.

use std::time::Duration;

use hedgerow_core::rules::policy::{IncompleteAction, Policy};

use crate::platform::clock::now_ms;

/// Measures whether an upload makes enough progress to be waited for.
pub struct UploadPace {
    /// Time at which Hedgerow stops waiting for the upload, in milliseconds since the epoch.
    deadline: f64,
    /// Whether the policy waits for an upload that makes progress.
    waits: bool,
    /// Start of the current interval, in milliseconds since the epoch.
    interval_start: f64,
    /// Bytes that had been received at the start of the interval.
    interval_bytes: u64,
}

impl UploadPace {
    /// Returns the pace of an upload whose beginning is read into memory.
    pub fn new(policy: &Policy) -> Self {
        let waits = policy.incomplete.late == IncompleteAction::Wait;
        let max_ms =
            if waits { f64::from(policy.scan.max_upload_time) * 1_000.0 } else { READ_TIMEOUT_MS };
        Self { deadline: now_ms() + max_ms, waits, interval_start: now_ms(), interval_bytes: 0 }
    }

    /// Returns the pace of an upload that may take any time, because it takes little memory.
    /// `received` bytes have arrived.
    pub fn without_deadline(received: u64) -> Self {
        Self {
            deadline: f64::INFINITY,
            waits: true,
            interval_start: now_ms(),
            interval_bytes: received,
        }
    }

    /// Returns whether the upload is too slow to be waited for. `received` is the number of bytes
    /// that have arrived.
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

/// Milliseconds after which the request is scored by the bytes that have arrived, if the policy
/// does not wait for slow uploads.
const READ_TIMEOUT_MS: f64 = 10_000.0;

/// Milliseconds of an interval in which an upload must send at least [`MIN_PROGRESS_BYTES`]. A
/// pause of half an interval, as on a mobile phone, does not end the upload.
const PROGRESS_INTERVAL_MS: f64 = 20_000.0;

/// Minimum bytes that an upload must send in an interval: 512 bytes per second.
const MIN_PROGRESS_BYTES: u64 = 10 << 10;

/// Pause between two checks of an upload that sends nothing: whether it is too slow, and whether
/// other bodies need its memory.
pub const TICK: Duration = Duration::from_millis(200);
