//! How many accounts a key has had lately, for keys that are not kept: by it is decided who is let in
//! when there is no room (TinyLFU). What one account does again and again counts once.
#![deny(clippy::arithmetic_side_effects)]

use crate::hash::mix;

/// Counters, and bits of the filter: a power of two each.
const COUNTERS: usize = 1 << 18;
const BITS: usize = 1 << 21;

/// Bytes that counts take.
pub const BYTES: usize = COUNTERS + BITS / 8;

/// Accounts after which all counts are halved.
const AGE: usize = COUNTERS;

/// Counters of a key.
const ROWS: u64 = 4;

/// Approximate counts.
#[derive(Clone, Debug)]
pub struct Frequency {
    counters: Box<[u8]>,
    /// Pairs of key and account that have been counted (a Bloom filter).
    counted: Box<[u64]>,
    noted: usize,
}

impl Default for Frequency {
    fn default() -> Self {
        Self { counters: vec![0; COUNTERS].into(), counted: vec![0; BITS / 64].into(), noted: 0 }
    }
}

impl Frequency {
    /// Notes that an account has used a key.
    pub fn note(&mut self, key: u64, account: u64) {
        if self.has_counted(mix(key ^ account.rotate_left(32))) {
            return;
        }
        let least = self.of(key);
        for place in places(key) {
            if let Some(counter) = self.counters.get_mut(place)
                && *counter == least
            {
                *counter = counter.saturating_add(1);
            }
        }
        self.noted = self.noted.saturating_add(1);
        if self.noted >= AGE {
            self.age();
        }
    }

    /// About how many accounts have used a key: never fewer than did since counts were last halved.
    pub fn of(&self, key: u64) -> u8 {
        let counts = places(key).map(|place| self.counters.get(place).copied().unwrap_or(0));
        counts.min().unwrap_or(0)
    }

    /// Marks a pair; whether it was marked already, which it may seem to be by chance.
    fn has_counted(&mut self, pair: u64) -> bool {
        let mut known = true;
        for bit in [pair as usize % BITS, (pair >> 32) as usize % BITS] {
            if let Some(word) = self.counted.get_mut(bit / 64) {
                let mask = 1 << (bit % 64);
                known &= *word & mask != 0;
                *word |= mask;
            }
        }
        known
    }

    fn age(&mut self) {
        self.counters.iter_mut().for_each(|counter| *counter /= 2);
        self.counted.fill(0);
        self.noted = 0;
    }
}

fn places(key: u64) -> impl Iterator<Item = usize> {
    (1..=ROWS).map(move |row| {
        mix(key.wrapping_add(row.wrapping_mul(0x9e37_79b9_7f4a_7c15))) as usize % COUNTERS
    })
}
