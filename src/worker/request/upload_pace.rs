//! The pace of an upload, which decides whether it is waited for.

use hedgerow_core::rules::policy::{IncompleteAction, Policy};

use crate::platform::clock::now_ms;

/// The pace of an upload: whether it makes enough progress to be waited for.
pub struct UploadPace {
    /// Milliseconds since the epoch.
    started_at: f64,
    /// Milliseconds after which no upload is waited for.
    max_ms: f64,
    /// Whether the policy waits for an upload that makes progress.
    waits: bool,
    /// Start of the current interval, in milliseconds since the epoch.
    interval_start: f64,
    /// Bytes that had been received at the start of the interval.
    interval_bytes: usize,
}

impl UploadPace {
    /// Begins the upload.
    pub fn new(policy: &Policy) -> Self {
        let now = now_ms();
        Self {
            started_at: now,
            max_ms: f64::from(policy.scan.max_upload_time) * 1_000.0,
            waits: policy.incomplete.late == IncompleteAction::Wait,
            interval_start: now,
            interval_bytes: 0,
        }
    }

    /// Returns the milliseconds since the upload began.
    pub fn elapsed_ms(&self) -> f64 {
        now_ms() - self.started_at
    }

    /// Returns whether an upload of which `received` bytes have arrived is not waited for any more.
    pub fn is_late(&mut self, received: usize) -> bool {
        let now = now_ms();
        let elapsed = now - self.started_at;
        if !self.waits {
            return elapsed >= READ_TIMEOUT_MS;
        }
        if now - self.interval_start < PROGRESS_INTERVAL_MS {
            return elapsed >= self.max_ms;
        }
        let progress = received.saturating_sub(self.interval_bytes);
        (self.interval_start, self.interval_bytes) = (now, received);
        progress < MIN_PROGRESS_BYTES || elapsed >= self.max_ms
    }
}

/// Milliseconds after which the request is scored on the bytes received so far, if the policy does
/// not wait for slow uploads.
const READ_TIMEOUT_MS: f64 = 10_000.0;

/// Milliseconds in which an upload must make progress, and the bytes that it must send in them: 512
/// bytes per second. A pause of half the interval does not end the upload of a phone.
const PROGRESS_INTERVAL_MS: f64 = 20_000.0;
const MIN_PROGRESS_BYTES: usize = 10 << 10;
