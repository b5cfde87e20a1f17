//! The memory of an isolate that bodies may take.

use std::cell::Cell;
use std::time::Duration;

use worker::Delay;

use crate::platform::clock::now_ms;
use crate::request::body_chunk::CHUNK_BYTES;
use crate::request::upload_pace::UploadPace;

/// Bytes of a body in the isolate's memory, which all of its requests share
/// (cloudflare/workers-rs#255). Dropping the lease gives them back.
#[derive(Default)]
pub struct MemoryLease(usize);

impl MemoryLease {
    /// Adds bytes that are held.
    pub fn grow(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
        HELD_BYTES.set(HELD_BYTES.get().saturating_add(bytes));
    }

    /// Returns whether the isolate holds too many bytes of bodies for more of this body. A body
    /// below 64 KiB is always read.
    fn is_over_limit(&self) -> bool {
        self.0 >= CHUNK_BYTES as usize && HELD_BYTES.get() > MAX_HELD_BYTES
    }

    /// Returns whether this body must give up its memory: uploads that have taken long already make
    /// room for others.
    pub fn must_yield(&self, pace: &UploadPace) -> bool {
        self.is_over_limit() && pace.elapsed_ms() > YIELD_AFTER_MS
    }

    /// Waits until more of this body may be read. Returns whether it may; after five seconds, and
    /// for a slow upload at once, it may not.
    pub async fn wait_for_room(&self, pace: &UploadPace) -> bool {
        let give_up_at = now_ms() + MAX_QUEUE_MS;
        while self.is_over_limit() {
            if self.must_yield(pace) || now_ms() >= give_up_at {
                return false;
            }
            Delay::from(QUEUE_POLL).await;
        }
        true
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        HELD_BYTES.set(HELD_BYTES.get().saturating_sub(self.0));
    }
}

thread_local! {
    /// Bytes of all bodies in the isolate.
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Milliseconds after which an upload makes room for others, if the isolate holds too many bytes.
const YIELD_AFTER_MS: f64 = 15_000.0;

/// Maximum milliseconds for which a body waits until the isolate holds fewer bytes.
const MAX_QUEUE_MS: f64 = 5_000.0;

/// Pause between two looks at the bytes that the isolate holds.
const QUEUE_POLL: Duration = Duration::from_millis(50);

/// Bytes of bodies in an isolate above which it stops reading large bodies. An isolate has 128 MB,
/// but scoring takes memory in addition, and JavaScript needs memory, too.
///
/// This is four bodies of the default limit, 5 MiB, and more. If more large uploads are under way,
/// a body waits; then it is scored on what was read, 64 KiB at least, and the reason is `crowded`.
const MAX_HELD_BYTES: usize = 24 << 20;
