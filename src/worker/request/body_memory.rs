//! The memory of an isolate that bodies may take, by the rules of the core's [`UploadMemory`].
//!
//! The platform resolves the promises of a request in its own context only, so that a request
//! cannot wake another one: each looks again after a pause.

use std::cell::RefCell;
use std::thread::LocalKey;
use std::time::Duration;

use hedgerow_core::http::upload_memory::{MemoryLimits, Turn, UploadMemory};
use worker::Delay;

use crate::platform::clock::now_ms;

/// Bytes of a body in the isolate's memory, which all of its requests share
/// (cloudflare/workers-rs#255). Dropping the lease gives them back.
pub struct MemoryLease {
    memory: &'static LocalKey<RefCell<UploadMemory>>,
    id: u64,
}

impl MemoryLease {
    /// Creates a lease for a body that is read in chunks.
    pub fn for_body() -> Self {
        Self::of(&BODIES)
    }

    /// Creates a lease for a body of `bytes` bytes that the platform reads at once; `None` if it is
    /// reading too many such bodies.
    pub fn for_body_at_once(bytes: usize) -> Option<Self> {
        let lease = Self::of(&BODIES_AT_ONCE);
        if lease.turn(bytes) != Turn::Go {
            return None;
        }
        lease.grow(bytes);
        Some(lease)
    }

    /// Waits for memory for the end of a body, which is held back. Returns `None` if there is none
    /// after a second. A body of which fewer than [`MIN_HELD_BYTES`] were read is slow, and does
    /// not wait: there may be hundreds, and each would hold memory while it waits.
    pub async fn for_held_end(read_bytes: usize) -> Option<Self> {
        let lease = Self::of(&HELD_ENDS);
        let max_wait_ms = if read_bytes < MIN_HELD_BYTES { 0.0 } else { MAX_WAIT_FOR_END_MS };
        let give_up_at = now_ms() + max_wait_ms;
        while lease.turn(MIN_HELD_BYTES) != Turn::Go {
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

    /// Adds bytes that are held.
    pub fn grow(&self, bytes: usize) {
        self.memory.with_borrow_mut(|memory| memory.grow(self.id, bytes, now_ms()));
    }

    /// Returns whether the body may take `bytes` more.
    pub fn turn(&self, bytes: usize) -> Turn {
        self.memory.with_borrow_mut(|memory| memory.turn(self.id, bytes, now_ms()))
    }

    /// Waits until the body may take `bytes` more. Returns false if the body must give up its
    /// memory: because another body needs it, or because five seconds have passed.
    pub async fn wait_for_room(&self, bytes: usize) -> bool {
        let give_up_at = now_ms() + MAX_WAIT_MS;
        loop {
            match self.turn(bytes) {
                Turn::Go => return true,
                Turn::Wait if now_ms() < give_up_at => Delay::from(POLL).await,
                Turn::Wait | Turn::Yield => return false,
            }
        }
    }

    /// Returns whether the body must give up its memory, because another one needs it.
    pub fn must_yield(&self) -> bool {
        self.memory.with_borrow_mut(|memory| memory.must_yield(self.id, now_ms()))
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.memory.with_borrow_mut(|memory| memory.remove(self.id));
    }
}

/// Returns the bytes that the end of a body may have while it is held back: the more ends are held,
/// the fewer.
pub fn max_held_bytes() -> usize {
    let count = HELD_ENDS.with_borrow(UploadMemory::count).max(1);
    (ENDS.max_bytes / count).clamp(MIN_HELD_BYTES, MAX_HELD_BYTES)
}

thread_local! {
    /// Bodies that are being read in chunks.
    static BODIES: RefCell<UploadMemory> = const { RefCell::new(UploadMemory::new(WHOLE)) };
    /// Bodies that the platform reads at once. They cannot yield.
    static BODIES_AT_ONCE: RefCell<UploadMemory> =
        const { RefCell::new(UploadMemory::new(AT_ONCE)) };
    /// Bodies that stream to the origin without their end, which is held back.
    static HELD_ENDS: RefCell<UploadMemory> = const { RefCell::new(UploadMemory::new(ENDS)) };
}

/// The limits of bodies that are being read. An isolate has 128 MB, but scoring takes memory in
/// addition, and JavaScript needs memory, too.
///
/// The memory holds four bodies of the default limit, 5 MiB. The reserve is for requests without
/// files and without long contexts. As much yields at a time: hundreds of small uploads can fill
/// the reserve, and a large one waits until it is free again.
const WHOLE: MemoryLimits = MemoryLimits {
    max_bytes: 24 << 20,
    reserve_bytes: 4 << 20,
    small_bytes: 256 << 10,
    grace_ms: 1_000.0,
    yield_bytes: 4 << 20,
};

/// The limits of bodies that the platform reads at once, of at most 64 KiB each.
const AT_ONCE: MemoryLimits =
    MemoryLimits { max_bytes: 8 << 20, reserve_bytes: 0, grace_ms: f64::INFINITY, ..WHOLE };

/// The limits of ends that are held back: 64 of the least size.
const ENDS: MemoryLimits = MemoryLimits {
    max_bytes: 8 << 20,
    reserve_bytes: 0,
    small_bytes: 0,
    grace_ms: 5_000.0,
    yield_bytes: MIN_HELD_BYTES,
};

/// Maximum bytes at the end of a body that are held back and scored.
const MAX_HELD_BYTES: usize = 1 << 20;

/// Bytes that are held back if many bodies have their ends held back.
const MIN_HELD_BYTES: usize = 128 << 10;

/// Maximum milliseconds for which a body waits for a place for its end, while it holds memory.
const MAX_WAIT_FOR_END_MS: f64 = 1_000.0;

/// Maximum milliseconds for which a body waits for room.
const MAX_WAIT_MS: f64 = 5_000.0;

/// Pause between two looks at the memory.
const POLL: Duration = Duration::from_millis(50);
