//! Limits the memory of uploads in progress, and decides which upload must give up its memory
//! first.
//!
//! A client decides how fast it sends, and thus how long its upload takes memory. Uploads are
//! therefore compared by their usage: the bytes that they hold, times the time for which they hold
//! them. If the memory is full, the upload with the highest usage yields: it gives up its memory
//! for the upload with the lowest usage. So a client that uploads fast is the last that must wait,
//! whatever other clients do.
#![deny(clippy::arithmetic_side_effects)]

/// The memory that all uploads of an isolate share.
#[derive(Debug)]
pub struct UploadMemory {
    limits: MemoryLimits,
    uploads: Vec<Upload>,
    /// Bytes that all uploads hold.
    held: usize,
    /// Id of the last upload.
    last_id: u64,
}

/// The limits of the memory for uploads.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Bytes that all uploads together may hold.
    pub max_bytes: usize,
    /// Bytes of `max_bytes` that are reserved for small uploads.
    pub reserve_bytes: usize,
    /// Maximum bytes of a small upload.
    pub small_bytes: usize,
    /// Milliseconds after the start of an upload during which the upload never has to yield.
    pub grace_ms: f64,
    /// Bytes to free at a time: while uploads that hold this many bytes are yielding, no further
    /// upload has to yield.
    pub yield_bytes: usize,
}

/// An upload that holds memory.
#[derive(Debug)]
struct Upload {
    id: u64,
    bytes: usize,
    /// Milliseconds since the epoch.
    started_at: f64,
    /// Usage until `counted_at`: held bytes, times the milliseconds for which they were held.
    usage: f64,
    counted_at: f64,
    /// Time of the last call of [`UploadMemory::admission`], if the upload had to wait then.
    waiting_at: Option<f64>,
    /// Whether the upload may take the reserve.
    is_small: bool,
    /// Time at which the upload was asked to yield.
    yielding_at: Option<f64>,
}

/// The answer to an upload that asks for more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The upload may take the memory.
    Go,
    /// There is no room for the upload now; it must ask again.
    Wait,
    /// The upload must give up the memory that it holds.
    Yield,
}

impl Upload {
    fn usage(&self, now: f64) -> f64 {
        self.usage + self.bytes as f64 * (now - self.counted_at).max(0.0)
    }

    /// If the upload was waiting, excludes the stall from its age and its usage. The stall is the
    /// time since the upload last asked for memory, beyond the usual pause. The upload would have
    /// asked again in this time, but the isolate was busy with other uploads.
    fn leave_out_stall(&mut self, now: f64) {
        let Some(waiting_at) = self.waiting_at else { return };
        let stall = (now - waiting_at - USUAL_PAUSE_MS).max(0.0);
        self.started_at += stall;
        self.counted_at += stall;
    }

    fn is_waiting(&self, now: f64) -> bool {
        self.waiting_at.is_some_and(|at| now - at <= WAIT_IS_VALID_MS)
    }
}

impl UploadMemory {
    /// Creates the memory, without uploads.
    pub const fn new(limits: MemoryLimits) -> Self {
        Self { limits, uploads: Vec::new(), held: 0, last_id: 0 }
    }

    /// Adds an upload that holds nothing yet, and returns its id. `now` is in milliseconds since
    /// the epoch, here as in all methods.
    pub fn add(&mut self, now: f64) -> u64 {
        self.last_id = self.last_id.wrapping_add(1);
        self.uploads.push(Upload {
            id: self.last_id,
            bytes: 0,
            started_at: now,
            usage: 0.0,
            counted_at: now,
            waiting_at: None,
            is_small: true,
            yielding_at: None,
        });
        self.last_id
    }

    /// Adds bytes that an upload now holds. The bytes count even if they exceed the limit.
    pub fn grow(&mut self, id: u64, bytes: usize, now: f64) {
        let Some(upload) = self.uploads.iter_mut().find(|upload| upload.id == id) else { return };
        upload.usage = upload.usage(now);
        upload.counted_at = now;
        upload.bytes = upload.bytes.saturating_add(bytes);
        self.held = self.held.saturating_add(bytes);
    }

    /// Removes an upload, and frees the bytes that it holds.
    pub fn remove(&mut self, id: u64) {
        if let Some(index) = self.uploads.iter().position(|upload| upload.id == id) {
            let upload = self.uploads.swap_remove(index);
            self.held = self.held.saturating_sub(upload.bytes);
        }
    }

    /// Returns whether an upload may take `bytes` more, must wait, or must yield. The upload may
    /// take the bytes if they fit, and if no waiting upload of its size class has a lower usage. An
    /// id that is not known may always take them.
    pub fn admission(&mut self, id: u64, bytes: usize, now: f64) -> Admission {
        let Some(index) = self.index(id) else { return Admission::Go };
        let room = self.limits.max_bytes.saturating_sub(self.held);
        let Some(upload) = self.uploads.get_mut(index) else { return Admission::Go };
        let is_small = upload.bytes.saturating_add(bytes) <= self.limits.small_bytes;
        let kept = if is_small { 0 } else { self.limits.reserve_bytes };
        let has_room = bytes <= room.saturating_sub(kept);
        upload.leave_out_stall(now);
        upload.waiting_at = None;
        upload.is_small = is_small;
        let usage = upload.usage(now);
        let goes_next = !self.uploads.iter().any(|other| {
            other.is_waiting(now) && other.is_small == is_small && other.usage(now) < usage
        });
        if has_room && goes_next {
            return Admission::Go;
        }
        if let Some(upload) = self.uploads.get_mut(index) {
            upload.waiting_at = Some(now);
        }
        if self.must_yield(id, now) { Admission::Yield } else { Admission::Wait }
    }

    /// Returns whether an upload must give up the memory that it holds, because another upload is
    /// waiting and this one is among the uploads with the highest usage. An upload within its grace
    /// period keeps its memory.
    pub fn must_yield(&mut self, id: u64, now: f64) -> bool {
        let Some(index) = self.index(id) else { return false };
        if !self.uploads.iter().any(|upload| upload.is_waiting(now)) {
            return false;
        }
        let Some(upload) = self.uploads.get(index) else { return false };
        let usage = upload.usage(now);
        let is_old = now - upload.started_at >= self.limits.grace_ms;
        let yielding_before = self.uploads.iter().filter(|other| {
            let yields = match other.yielding_at {
                Some(at) => now - at <= YIELD_TAKES_MS,
                None => now - other.started_at >= self.limits.grace_ms && other.usage(now) > usage,
            };
            yields && other.id != id
        });
        let yielding_bytes: usize =
            yielding_before.map(|other| other.bytes).fold(0, usize::saturating_add);
        let must_yield = is_old && upload.bytes > 0 && yielding_bytes < self.limits.yield_bytes;
        if let Some(upload) = self.uploads.get_mut(index).filter(|_| must_yield) {
            upload.yielding_at = Some(now);
            upload.waiting_at = None;
        }
        must_yield
    }

    /// Returns the number of uploads.
    pub fn count(&self) -> usize {
        self.uploads.len()
    }

    /// Returns the bytes that all uploads hold.
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    fn index(&self, id: u64) -> Option<usize> {
        self.uploads.iter().position(|upload| upload.id == id)
    }
}

/// Milliseconds after which an upload that has not asked again no longer counts as waiting, because
/// its client may have disconnected.
const WAIT_IS_VALID_MS: f64 = 400.0;

/// Maximum milliseconds between two calls of [`UploadMemory::admission`] for a waiting upload, if
/// the isolate is not busy.
const USUAL_PAUSE_MS: f64 = 100.0;

/// Milliseconds that an upload may take to free its memory before the next upload must yield. In
/// this time, the yielding request is scored and then written to the origin.
const YIELD_TAKES_MS: f64 = 1_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MemoryLimits = MemoryLimits {
        max_bytes: 1_000,
        reserve_bytes: 200,
        small_bytes: 50,
        grace_ms: 1_000.0,
        yield_bytes: 100,
    };

    /// Returns memory with one upload for each pair: the time at which it took its bytes, and their
    /// number. The ids are 1, 2, ….
    fn memory(uploads: &[(f64, usize)]) -> UploadMemory {
        let mut memory = UploadMemory::new(LIMITS);
        for (at, bytes) in uploads {
            let id = memory.add(*at);
            memory.grow(id, *bytes, *at);
        }
        memory
    }

    #[test]
    fn room_is_kept_for_small_uploads() {
        let mut memory = memory(&[(0.0, 800), (0.0, 0)]);
        let rows = [(50, Admission::Go), (51, Admission::Wait), (200, Admission::Wait)];
        for (bytes, admission) in rows {
            assert_eq!(memory.admission(2, bytes, 0.0), admission, "{bytes}");
        }
        memory.grow(2, 50, 0.0);
        assert_eq!(memory.admission(2, 1, 0.0), Admission::Wait, "it is not small any more");
        memory.remove(1);
        assert_eq!((memory.admission(2, 750, 0.0), memory.held_bytes()), (Admission::Go, 50));
        assert_eq!(memory.admission(2, 751, 0.0), Admission::Wait);
    }

    #[test]
    fn the_upload_that_has_used_most_yields() {
        // (name, uploads, the one that must yield at 10 s if a newcomer needs room)
        let rows: [(&str, &[(f64, usize)], Option<u64>); 5] = [
            ("the largest of one age", &[(0.0, 300), (0.0, 400), (0.0, 100)], Some(2)),
            ("the oldest of one size", &[(9_000.0, 250), (5_000.0, 250), (7_000.0, 300)], Some(2)),
            ("small for long", &[(0.0, 100), (8_900.0, 700)], Some(1)),
            ("large for short", &[(0.0, 10), (8_000.0, 790)], Some(2)),
            ("nobody in the grace period", &[(9_500.0, 400), (9_600.0, 400)], None),
        ];
        for (name, uploads, expected) in rows {
            let mut memory = memory(uploads);
            let now = 10_000.0;
            let ids: Vec<u64> = (1..=uploads.len() as u64).collect();
            assert!(ids.iter().all(|id| !memory.must_yield(*id, now)), "{name}: nobody waits");
            let newcomer = memory.add(now);
            assert_eq!(memory.admission(newcomer, 201, now), Admission::Wait, "{name}");
            let yielding: Vec<u64> =
                ids.into_iter().filter(|id| memory.must_yield(*id, now)).collect();
            assert_eq!(yielding, Vec::from_iter(expected), "{name}");
        }
    }

    /// 600 slow uploads once kept an isolate so busy that a fast upload had the highest usage: it
    /// held its memory while it waited for the isolate.
    #[test]
    fn a_busy_isolate_makes_no_upload_yield() {
        for (pause, expected) in [(2_000.0, Admission::Wait), (50.0, Admission::Yield)] {
            let mut memory = memory(&[(0.0, 500)]);
            let looks = std::iter::successors(Some(0.0), |at| Some(at + pause));
            let mut admissions =
                looks.take_while(|at| *at <= 2_000.0).map(|at| memory.admission(1, 400, at));
            let admission = admissions
                .find(|admission| *admission != Admission::Wait)
                .unwrap_or(Admission::Wait);
            assert_eq!(admission, expected, "{pause} ms between looks");
        }
    }

    #[test]
    fn the_upload_that_has_used_least_goes_next() {
        let mut memory = memory(&[(0.0, 400), (0.0, 400), (0.0, 60)]);
        assert_eq!(memory.admission(2, 100, 500.0), Admission::Wait);
        let newcomer = memory.add(500.0);
        assert_eq!(memory.admission(newcomer, 100, 500.0), Admission::Wait);
        memory.remove(1);
        assert_eq!(memory.admission(2, 100, 510.0), Admission::Wait, "the newcomer goes first");
        assert_eq!(memory.admission(newcomer, 100, 520.0), Admission::Go);
        memory.grow(newcomer, 100, 520.0);
        assert_eq!(memory.admission(2, 100, 530.0), Admission::Go, "nobody else is waiting");
        memory.grow(2, 100, 530.0);
        assert_eq!(memory.admission(newcomer, 200, 540.0), Admission::Wait);
        memory.remove(3);
        let later = 540.0 + 2.0 * WAIT_IS_VALID_MS;
        assert_eq!(memory.admission(2, 100, later), Admission::Go, "it has not asked for long");
    }

    #[test]
    fn uploads_yield_until_enough_is_yielding() {
        let mut small = memory(&[(0.0, 60), (1.0, 50), (2.0, 40), (0.0, 650)]);
        small.remove(4);
        small.grow(3, 640, 1_900.0);
        let newcomer = small.add(2_000.0);
        assert_eq!(small.admission(newcomer, 300, 2_000.0), Admission::Wait);
        let yielding: Vec<u64> = (1..4).filter(|id| small.must_yield(*id, 2_000.0)).collect();
        assert_eq!(yielding, [3], "680 bytes for 100 ms are more than 60 for 2 s, and enough");

        let mut equal = memory(&[(0.0, 60), (1.0, 60), (2.0, 60), (3.0, 610)]);
        equal.remove(4);
        let last = equal.add(2_000.0);
        equal.grow(last, 610, 2_000.0);
        assert_eq!(equal.admission(last, 100, 2_000.0), Admission::Wait);
        let yielding: Vec<u64> = (1..4).filter(|id| equal.must_yield(*id, 2_000.0)).collect();
        assert_eq!(yielding, [1, 2], "120 bytes are yielding");
    }

    #[test]
    fn a_large_upload_yields_alone() {
        let mut memory = memory(&[(0.0, 400), (0.0, 399)]);
        let newcomer = memory.add(2_000.0);
        let ask = |memory: &mut UploadMemory, now| memory.admission(newcomer, 300, now);
        assert_eq!(ask(&mut memory, 2_000.0), Admission::Wait);
        assert!(memory.must_yield(1, 2_000.0) && !memory.must_yield(2, 2_000.0));
        let late = 2_001.0 + YIELD_TAKES_MS;
        assert_eq!(ask(&mut memory, late), Admission::Wait);
        assert!(memory.must_yield(2, late), "the first one takes too long");
        memory.remove(1);
        assert_eq!(ask(&mut memory, late), Admission::Go);
    }

    #[test]
    fn an_upload_that_waits_yields_to_itself() {
        let mut memory = memory(&[(0.0, 790)]);
        for look in 10..20 {
            assert_eq!(memory.admission(1, 100, 50.0 * f64::from(look)), Admission::Wait, "{look}");
        }
        assert_eq!(memory.admission(1, 100, 1_000.0), Admission::Yield);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            failure_persistence: None,
            ..Default::default()
        })]

        /// Slow uploads of any number and size never keep a fast upload from being read whole
        /// within five seconds, while one slow upload after the other yields.
        #[test]
        fn a_fast_upload_is_served_before_slow_ones(
            slow in proptest::collection::vec((0.0..5_000.0_f64, 1_usize..400), 1..40),
            wanted in 1_usize..500,
        ) {
            let mut memory = UploadMemory::new(LIMITS);
            let mut ids = Vec::new();
            for (at, bytes) in slow {
                let id = memory.add(at);
                if memory.admission(id, bytes, at) == Admission::Go {
                    memory.grow(id, bytes, at);
                    ids.push(id);
                } else {
                    memory.remove(id);
                }
            }
            let fast = memory.add(7_000.0);
            let mut received = 0_usize;
            for step in 0..100 {
                let now = 7_000.0 + 50.0 * f64::from(step);
                // The slow uploads ask first, and take all the room that they get.
                ids.retain(|id| {
                    match memory.admission(*id, 10, now) {
                        Admission::Go => memory.grow(*id, 10, now),
                        Admission::Wait => {}
                        Admission::Yield => {
                            memory.remove(*id);
                            return false;
                        }
                    }
                    true
                });
                while received < wanted {
                    let bytes = 10.min(wanted.saturating_sub(received));
                    match memory.admission(fast, bytes, now) {
                        Admission::Go => {
                            memory.grow(fast, bytes, now);
                            received = received.saturating_add(bytes);
                        }
                        Admission::Wait => break,
                        Admission::Yield => proptest::prop_assert!(false, "the fast upload yields"),
                    }
                }
                proptest::prop_assert!(memory.held_bytes() <= LIMITS.max_bytes);
                if received == wanted {
                    return Ok(());
                }
            }
            proptest::prop_assert!(false, "{received} of {wanted} bytes after five seconds");
        }
    }
}
