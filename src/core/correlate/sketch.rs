//! An approximate count of accounts per key, for keys without a group.
//!
//! A full group table admits or rejects new keys by this count (the algorithm TinyLFU). The
//! counters are a count-min sketch. A Bloom filter of pairs of key and account makes each account
//! count only once per key.

use crate::keyed_hash::fmix64;

/// Number of counters, one byte each; a power of two.
const COUNTERS: usize = 1 << 18;

/// Bits of the Bloom filter; a power of two.
const DOORKEEPER_BITS: usize = 1 << 21;

/// Bytes of a sketch on the heap.
pub const SKETCH_BYTES: usize = COUNTERS + DOORKEEPER_BITS / 8;

/// Number of recorded pairs after which all counts are halved and the Bloom filter is cleared.
const HALVING_INTERVAL: usize = COUNTERS;

/// Number of counters of each key.
const ROWS: u64 = 4;

/// Approximate counts of the accounts that used each key.
#[derive(Clone, Debug)]
pub struct AccountSketch {
    counters: Box<[u8]>,
    /// Bloom filter of the pairs of key and account that have been counted.
    doorkeeper: Box<[u64]>,
    /// Number of pairs that have been counted since the last halving.
    recorded_pairs: usize,
}

impl Default for AccountSketch {
    fn default() -> Self {
        Self {
            counters: vec![0; COUNTERS].into(),
            doorkeeper: vec![0; DOORKEEPER_BITS / 64].into(),
            recorded_pairs: 0,
        }
    }
}

impl AccountSketch {
    /// Counts an account for a key, unless the pair was counted since the last halving.
    pub fn record(&mut self, key: u64, account: u64) {
        if self.test_and_set(fmix64(key ^ account.rotate_left(32))) {
            return;
        }
        let minimum = self.estimate(key);
        for index in counter_indexes(key) {
            if let Some(counter) = self.counters.get_mut(index)
                && *counter == minimum
            {
                *counter = counter.saturating_add(1);
            }
        }
        self.recorded_pairs = self.recorded_pairs.saturating_add(1);
        if self.recorded_pairs >= HALVING_INTERVAL {
            self.halve();
        }
    }

    /// Returns approximately how many accounts used a key, up to 255. Collisions of counters raise
    /// the estimate; collisions in the Bloom filter lower it.
    pub fn estimate(&self, key: u64) -> u8 {
        let counts =
            counter_indexes(key).map(|index| self.counters.get(index).copied().unwrap_or(0));
        counts.min().unwrap_or(0)
    }

    /// Adds a pair to the Bloom filter. Returns whether the filter seemed to contain the pair
    /// already.
    fn test_and_set(&mut self, pair: u64) -> bool {
        let mut was_set = true;
        for bit in [pair as usize % DOORKEEPER_BITS, (pair >> 32) as usize % DOORKEEPER_BITS] {
            if let Some(word) = self.doorkeeper.get_mut(bit / 64) {
                let mask = 1 << (bit % 64);
                was_set &= *word & mask != 0;
                *word |= mask;
            }
        }
        was_set
    }

    fn halve(&mut self) {
        self.counters.iter_mut().for_each(|counter| *counter /= 2);
        self.doorkeeper.fill(0);
        self.recorded_pairs = 0;
    }
}

fn counter_indexes(key: u64) -> impl Iterator<Item = usize> {
    (1..=ROWS).map(move |row| {
        fmix64(key.wrapping_add(row.wrapping_mul(0x9e37_79b9_7f4a_7c15))) as usize % COUNTERS
    })
}
