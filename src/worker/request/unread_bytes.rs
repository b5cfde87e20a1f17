//! An estimate of the bytes that one end of a WebSocket has not read yet, and that the platform
//! holds for it.
//!
//! If a peer does not read, the platform queues messages for it without a limit. The platform does
//! not report the size of the queue: it offers neither `bufferedAmount` nor a promise of `send`.

use std::cell::Cell;

/// The estimated number of bytes that were sent to one end and that it has not read.
pub struct UnreadBytes {
    bytes: Cell<u64>,
    max_bytes: u64,
    /// Bytes per millisecond that the end is assumed to read.
    bytes_per_ms: f64,
}

impl UnreadBytes {
    /// Returns an estimate for a client, with a maximum of 16 MiB, because the longest spoken
    /// answer takes 13 MB. The client is assumed to read 1 MiB/s, sixteen times the rate of speech.
    pub fn of_client() -> Self {
        Self::new(16, 1.0)
    }

    /// Returns an estimate for an origin, with a maximum of 48 MiB, because a client may send
    /// several files at once. The origin is assumed to read 8 MiB/s.
    pub fn of_origin() -> Self {
        Self::new(48, 8.0)
    }

    fn new(max_mib: u64, mib_per_second: f64) -> Self {
        const BYTES_PER_MIB: f64 = 1_048_576.0;
        let bytes_per_ms = mib_per_second * BYTES_PER_MIB / 1_000.0;
        Self { bytes: Cell::new(0), max_bytes: max_mib << 20, bytes_per_ms }
    }

    /// Adds a message of `bytes` bytes. Returns false if the message exceeds the maximum, and must
    /// not be sent. A message of any size may be sent if nothing else is unread.
    pub fn add(&self, bytes: u64) -> bool {
        let unread = self.bytes.get();
        let total = unread.saturating_add(bytes);
        let fits = unread == 0 || total <= self.max_bytes;
        if fits {
            self.bytes.set(total);
        }
        fits
    }

    /// Removes the bytes that the end is assumed to read in `ms` milliseconds.
    pub fn drain(&self, ms: f64) {
        let read_bytes = (ms.max(0.0) * self.bytes_per_ms) as u64;
        self.bytes.set(self.bytes.get().saturating_sub(read_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_bytes_are_bounded() {
        const MIB: u64 = 1 << 20;
        let unread = UnreadBytes::of_client();
        assert!(unread.add(32 * MIB), "a single message of any size");
        assert!(!unread.add(1));
        unread.drain(15_000.0);
        assert!(!unread.add(1), "17 MiB are left");
        unread.drain(2_000.0);
        assert!(unread.add(MIB) && !unread.add(MIB));
        unread.drain(f64::MAX);
        unread.drain(-1.0);
        assert!((0..16).all(|_| unread.add(MIB)) && !unread.add(1));
        let unread = UnreadBytes::of_origin();
        assert!((0..6).all(|_| unread.add(8 * MIB)) && !unread.add(8 * MIB));
        unread.drain(1_000.0);
        assert!(unread.add(8 * MIB));
    }

    #[test]
    fn speech_is_never_too_much() {
        for unread in [UnreadBytes::of_client(), UnreadBytes::of_origin()] {
            // An hour of speech in messages of a tenth of a second, as base64.
            for _ in 0..36_000 {
                unread.drain(100.0);
                assert!(unread.add(6_400));
            }
        }
    }
}
