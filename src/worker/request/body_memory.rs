//! The memory of an isolate that bodies may take. [`UploadMemory`] of the core decides which body
//! may take how much. If memory is short, a body *yields*: it gives up its memory, and is not read
//! any further.
//!
//! The platform resolves the promises of a request only in the context of that request. So a
//! request cannot wake another one. Each waiting request checks the memory again after a pause.

use std::cell::RefCell;
use std::thread::LocalKey;
use std::time::Duration;

use hedgerow_core::http::upload_memory::{Admission, MemoryLimits, UploadMemory};
use worker::Delay;

use crate::platform::clock::now_ms;

/// The bytes that a body takes in the isolate's memory, which all requests of the isolate share
/// (cloudflare/workers-rs#255). Dropping the lease releases these bytes.
pub struct MemoryLease {
    memory: &'static LocalKey<RefCell<UploadMemory>>,
    id: u64,
}

impl MemoryLease {
    /// Creates a lease for a body that is read in chunks.
    pub fn for_body() -> Self {
        Self::of(&BODIES)
    }

    /// Creates a lease for a body of `bytes` bytes that the platform reads at once. Returns `None`
    /// if such bodies already take too much memory.
    pub fn for_body_at_once(bytes: usize) -> Option<Self> {
        let lease = Self::of(&BODIES_AT_ONCE);
        if lease.admission(bytes) != Admission::Go {
            return None;
        }
        lease.grow(bytes);
        Some(lease)
    }

    /// Waits for memory for the end of a body, which is to be held back. Returns `None` if no
    /// memory is free within a second. If fewer than [`MIN_HELD_BYTES`] of the body were read, the
    /// upload is slow, and the body does not wait: there may be hundreds of slow bodies, and each
    /// would hold memory while it waits.
    pub async fn for_held_end(read_bytes: usize) -> Option<Self> {
        let lease = Self::of(&HELD_ENDS);
        let max_wait_ms = if read_bytes < MIN_HELD_BYTES { 0.0 } else { MAX_WAIT_FOR_END_MS };
        let give_up_at = now_ms() + max_wait_ms;
        while lease.admission(MIN_HELD_BYTES) != Admission::Go {
            if now_ms() >= give_up_at {
                return None;
            }
            Delay::from(POLL).await;
        }
        lease.grow(MIN_HELD_BYTES);
        Some(lease)
    }

    fn of(memory: &'static LocalKey<RefCell<UploadMemory>>) -> Self {
        Self { memory, id: memory.with_borrow_mut(|memory| memory.add(now_ms())) }
    }

    /// Adds `bytes` to the bytes that the body takes.
    pub fn grow(&self, bytes: usize) {
        self.memory.with_borrow_mut(|memory| memory.grow(self.id, bytes, now_ms()));
    }

    /// Returns whether the body may take `bytes` more, must wait, or must yield.
    pub fn admission(&self, bytes: usize) -> Admission {
        self.memory.with_borrow_mut(|memory| memory.admission(self.id, bytes, now_ms()))
    }

    /// Waits until the body may take `bytes` more. Returns false if the body must yield, because
    /// another body needs the memory or five seconds have passed.
    pub async fn wait_for_room(&self, bytes: usize) -> bool {
        let give_up_at = now_ms() + MAX_WAIT_MS;
        loop {
            match self.admission(bytes) {
                Admission::Go => return true,
                Admission::Wait if now_ms() < give_up_at => Delay::from(POLL).await,
                Admission::Wait | Admission::Yield => return false,
            }
        }
    }

    /// Returns whether the body must yield, because another body needs the memory.
    pub fn must_yield(&self) -> bool {
        self.memory.with_borrow_mut(|memory| memory.must_yield(self.id, now_ms()))
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.memory.with_borrow_mut(|memory| memory.remove(self.id));
    }
}

/// Returns the maximum bytes of a body's end that are held back. The more ends are held back, the
/// fewer bytes each may have.
pub fn max_held_bytes() -> usize {
    let count = HELD_ENDS.with_borrow(UploadMemory::count).max(1);
    (ENDS.max_bytes / count).clamp(MIN_HELD_BYTES, MAX_HELD_BYTES)
}

thread_local! {
    /// Bodies that are being read in chunks.
    static BODIES: RefCell<UploadMemory> = const { RefCell::new(UploadMemory::new(CHUNKED)) };
    /// Bodies that the platform reads at once. They cannot yield, because such a read cannot be
    /// stopped.
    static BODIES_AT_ONCE: RefCell<UploadMemory> =
        const { RefCell::new(UploadMemory::new(AT_ONCE)) };
    /// Bodies that stream to the origin without their end, which is held back.
    static HELD_ENDS: RefCell<UploadMemory> = const { RefCell::new(UploadMemory::new(ENDS)) };
}

/// The limits of bodies that are being read in chunks. An isolate has 128 MB, of which scoring and
/// JavaScript need a part.
///
/// The memory has room for four bodies of the default limit, 5 MiB, and a reserve of 4 MiB for
/// small bodies: requests without files and without long contexts. Hundreds of small uploads can
/// fill the reserve, and then a large upload waits until the reserve is free again. Therefore,
/// bodies yield until the yielding bodies together hold as many bytes as the reserve.
const CHUNKED: MemoryLimits = MemoryLimits {
    max_bytes: 24 << 20,
    reserve_bytes: 4 << 20,
    small_bytes: 256 << 10,
    grace_ms: 1_000.0,
    yield_bytes: 4 << 20,
};

/// The limits of bodies that the platform reads at once, of at most 64 KiB each.
const AT_ONCE: MemoryLimits =
    MemoryLimits { max_bytes: 8 << 20, reserve_bytes: 0, grace_ms: f64::INFINITY, ..CHUNKED };

/// The limits of ends that are held back: at most 64 ends of the minimum size.
const ENDS: MemoryLimits = MemoryLimits {
    max_bytes: 8 << 20,
    reserve_bytes: 0,
    small_bytes: 0,
    grace_ms: 5_000.0,
    yield_bytes: MIN_HELD_BYTES,
};

/// Maximum bytes at the end of a body that are held back and scored.
const MAX_HELD_BYTES: usize = 1 << 20;

/// Minimum bytes at the end of a body that are held back, if many bodies have their ends held back.
const MIN_HELD_BYTES: usize = 128 << 10;

/// Maximum milliseconds for which a body waits for memory for its end. The wait is short because
/// the body holds memory while it waits.
const MAX_WAIT_FOR_END_MS: f64 = 1_000.0;

/// Maximum milliseconds for which a body waits for memory while it is read.
const MAX_WAIT_MS: f64 = 5_000.0;

/// Pause between two checks of the memory.
const POLL: Duration = Duration::from_millis(50);
