//! An estimate of the bytes that the platform holds for one end of a WebSocket.
//!
//! The platform queues what is sent to a peer that does not read, without limit, and says nothing
//! about the queue: it has neither `bufferedAmount` nor a promise of `send`.

use std::cell::Cell;

/// The bytes that were sent to an end and that it may not have read.
#[derive(Default)]
pub struct InFlight {
    bytes: Cell<u64>,
}

impl InFlight {
    /// Adds a message of `bytes`. Returns false if it does not fit in, and is not to be sent. Any
    /// message fits if nothing else is in flight.
    pub fn add(&self, bytes: u64) -> bool {
        let held = self.bytes.get();
        let total = held.saturating_add(bytes);
        let fits = held == 0 || total <= MAX_IN_FLIGHT_BYTES;
        if fits {
            self.bytes.set(total);
        }
        fits
    }

    /// Removes the bytes that an end reads in `ms` milliseconds.
    pub fn drain(&self, ms: f64) {
        let read_bytes = (ms.max(0.0) * READ_BYTES_PER_MS) as u64;
        self.bytes.set(self.bytes.get().saturating_sub(read_bytes));
    }
}

/// Bytes that may be in flight to one end. A spoken answer of the longest length has 13 MB.
const MAX_IN_FLIGHT_BYTES: u64 = 16 << 20;

/// Bytes per millisecond that an end is assumed to read: 1 MiB/s, sixteen times the rate of speech.
const READ_BYTES_PER_MS: f64 = 1_048.576;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_flight_are_bounded() {
        const MIB: u64 = 1 << 20;
        let in_flight = InFlight::default();
        assert!(in_flight.add(32 * MIB), "a single message of any size");
        assert!(!in_flight.add(1));
        in_flight.drain(15_000.0);
        assert!(!in_flight.add(1), "17 MiB are left");
        in_flight.drain(2_000.0);
        assert!(in_flight.add(MIB) && !in_flight.add(MIB));
        in_flight.drain(f64::MAX);
        in_flight.drain(-1.0);
        assert!((0..16).all(|_| in_flight.add(MIB)) && !in_flight.add(1));
    }

    #[test]
    fn speech_is_never_too_much() {
        let in_flight = InFlight::default();
        // An hour of speech in messages of a tenth of a second, as base64.
        for _ in 0..36_000 {
            in_flight.drain(100.0);
            assert!(in_flight.add(6_400));
        }
    }
}
