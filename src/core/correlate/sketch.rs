//! How many accounts a key has had lately, for keys that are not kept: by it is decided who is let in
//! when there is no room (TinyLFU). What one account does again and again counts once.
#![deny(clippy::arithmetic_side_effects)]

use crate::keyed_hash::fmix64;

/// Counters, and bits of the filter: a power of two each.
const COUNTERS: usize = 1 << 18;
const DOORKEEPER_BITS: usize = 1 << 21;

/// Bytes that counts take.
pub const SKETCH_BYTES: usize = COUNTERS + DOORKEEPER_BITS / 8;

/// Accounts after which all counts are halved.
const HALVING_INTERVAL: usize = COUNTERS;

/// Counters of a key.
const ROWS: u64 = 4;

/// Approximate counts.
#[derive(Clone, Debug)]
pub struct AccountSketch {
    counters: Box<[u8]>,
    /// Pairs of key and account that have been counted (a Bloom filter).
    doorkeeper: Box<[u64]>,
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
    /// Notes that an account has used a key.
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

    /// About how many accounts have used a key: never fewer than did since counts were last halved.
    pub fn estimate(&self, key: u64) -> u8 {
        let counts =
            counter_indexes(key).map(|index| self.counters.get(index).copied().unwrap_or(0));
        counts.min().unwrap_or(0)
    }

    /// Marks a pair; whether it was marked already, which it may seem to be by chance.
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
