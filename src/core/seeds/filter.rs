//! A binary fuse filter: a set of 64-bit keys in about nine bits each. It never misses a key, and
//! it takes one other key in 256 for a member.
//!
//! See Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters" (2022). Hedgerow
//! has its own implementation, because bundles contain the filter and its format must not change
//! with a library.

use crate::keyed_hash::fmix64;

/// Maximum number of attempts to build a filter, each with another salt. At most one attempt in ten
/// fails.
const MAX_ATTEMPTS: u32 = 100;

/// Maximum bytes of a segment.
const MAX_SEGMENT_LENGTH: u32 = 1 << 18;

/// A set of keys. Each key has three positions in `bytes`. The key is in the set if the exclusive
/// or of the bytes there is its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuseFilter {
    salt: u32,
    /// Bytes per segment, a power of two. The three bytes of a key are in adjacent segments.
    segment_length: u32,
    bytes: Vec<u8>,
}

impl FuseFilter {
    /// Returns the filter with these parts; `None` if the parts are inconsistent.
    pub fn from_parts(salt: u32, segment_length: u32, bytes: Vec<u8>) -> Option<Self> {
        let segments = (bytes.len() as u64).checked_div(u64::from(segment_length))?;
        let is_valid = segment_length.is_power_of_two()
            && segment_length <= MAX_SEGMENT_LENGTH
            && segments >= 3
            && u32::try_from(bytes.len()).is_ok()
            && segments.checked_mul(u64::from(segment_length)) == Some(bytes.len() as u64);
        is_valid.then_some(Self { salt, segment_length, bytes })
    }

    /// Builds the filter of distinct keys; `None` if a key occurs twice, if there are too many
    /// keys, or if every attempt fails.
    ///
    /// The same keys in the same order make the same filter.
    pub fn build(keys: &[u64]) -> Option<Self> {
        let (segment_length, segments) = layout(keys.len());
        let length = u32::try_from(segments.checked_mul(u64::from(segment_length))?).ok()?;
        let mut filter = Self { salt: 0, segment_length, bytes: vec![0; length as usize] };
        for salt in 0..MAX_ATTEMPTS {
            filter.salt = salt;
            if let Some(peeled) = filter.peel(keys) {
                filter.assign(&peeled);
                return Some(filter);
            }
        }
        None
    }

    /// Returns whether a key is in the set. One other key in 256 seems to be in the set, too.
    pub fn contains(&self, key: u64) -> bool {
        let hash = self.hash(key);
        let byte = |position: usize| self.bytes.get(position).copied().unwrap_or_default();
        let [first, second, third] = self.positions(hash).map(byte);
        fingerprint(hash) == first ^ second ^ third
    }

    /// Returns the salt of the hash.
    pub fn salt(&self) -> u32 {
        self.salt
    }

    /// Returns the bytes per segment.
    pub fn segment_length(&self) -> u32 {
        self.segment_length
    }

    /// Returns the bytes of all segments.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn hash(&self, key: u64) -> u64 {
        fmix64(key.wrapping_add(u64::from(self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Returns the positions of the three bytes of a key: one in each of three adjacent segments.
    fn positions(&self, hash: u64) -> [usize; 3] {
        let length = u64::from(self.segment_length);
        let start_range = (self.bytes.len() as u64).saturating_sub(length.saturating_mul(2)).max(1);
        let start = (u128::from(hash).wrapping_mul(u128::from(start_range)) >> 64) as u64;
        let within = length.wrapping_sub(1);
        let second = start.wrapping_add(length) ^ ((hash >> 18) & within);
        let third = start.wrapping_add(length.wrapping_mul(2)) ^ (hash & within);
        [start as usize, second as usize, third as usize]
    }

    /// Orders the hashes of the keys so that each hash has a position that no later hash has.
    /// Returns the hashes with these positions; `None` if there is no such order.
    fn peel(&self, keys: &[u64]) -> Option<Vec<(u64, usize)>> {
        // For each position, the number of keys and the exclusive or of their hashes. Once only one
        // key is left, the exclusive or is its hash.
        let mut slots: Vec<(u32, u64)> = vec![(0, 0); self.bytes.len()];
        for key in keys {
            let hash = self.hash(*key);
            for position in self.positions(hash) {
                let (count, sum) = slots.get_mut(position)?;
                *count = count.saturating_add(1);
                *sum ^= hash;
            }
        }
        let mut single: Vec<usize> = (0..slots.len()).collect();
        let mut peeled = Vec::with_capacity(keys.len());
        while let Some(position) = single.pop() {
            let Some((1, hash)) = slots.get(position).copied() else { continue };
            peeled.push((hash, position));
            for other in self.positions(hash) {
                let (count, sum) = slots.get_mut(other)?;
                *count = count.saturating_sub(1);
                *sum ^= hash;
                if *count == 1 {
                    single.push(other);
                }
            }
        }
        (peeled.len() == keys.len()).then_some(peeled)
    }

    /// Sets the bytes in reverse order of peeling. The byte that a key sets is not a byte of any
    /// key that was set before.
    fn assign(&mut self, peeled: &[(u64, usize)]) {
        for (hash, own_position) in peeled.iter().rev() {
            let others = self.positions(*hash).into_iter().filter(|other| other != own_position);
            let byte = |position: usize| self.bytes.get(position).copied().unwrap_or_default();
            let value = others.map(byte).fold(fingerprint(*hash), |sum, byte| sum ^ byte);
            if let Some(slot) = self.bytes.get_mut(*own_position) {
                *slot = value;
            }
        }
    }
}

fn fingerprint(hash: u64) -> u8 {
    (hash ^ (hash >> 32)) as u8
}

/// Returns the bytes per segment and the number of segments of a filter of `count` keys, by the
/// formulas of the paper. A filter has at least 1.125 bytes per key, and about 1.25 for ten
/// thousand keys.
fn layout(count: usize) -> (u32, u64) {
    let count = (count.max(2)) as f64;
    let exponent = (count.ln() / 3.33_f64.ln() + 2.25).floor();
    let segment_length = 2_f64.powf(exponent).clamp(4.0, f64::from(MAX_SEGMENT_LENGTH));
    let factor = (0.875 + 0.25 * 1e6_f64.ln() / count.ln()).max(1.125);
    let segments = (count * factor / segment_length).ceil().max(3.0);
    (segment_length as u32, segments as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(count: u64, salt: u64) -> Vec<u64> {
        (0..count).map(|number| fmix64(number ^ salt << 40)).collect()
    }

    #[test]
    fn every_key_is_found_and_few_others_are() {
        for count in [0, 1, 2, 3, 10, 100, 1_000, 10_000, 200_000] {
            let keys_in = keys(count, 1);
            let filter = FuseFilter::build(&keys_in).unwrap();
            assert!(keys_in.iter().all(|key| filter.contains(*key)), "{count}");
            let found = keys(100_000, 2).iter().filter(|key| filter.contains(**key)).count();
            // 391 are expected: one in 256.
            assert!(count == 0 || (290..500).contains(&found), "{count}: {found}");
            let bytes_per_key = filter.bytes().len() as f64 / count.max(1) as f64;
            assert!(count < 10_000 || bytes_per_key <= 1.3, "{count}: {bytes_per_key}");
        }
    }

    #[test]
    fn a_key_that_occurs_twice_has_no_filter() {
        assert_eq!(FuseFilter::build(&[1, 2, 2]), None);
    }

    proptest! {
        #[test]
        fn parts_are_checked(
            salt: u32,
            length in prop_oneof![any::<u32>(), (0_u32..9).prop_map(|exponent| 1 << exponent)],
            bytes in prop::collection::vec(0_u8.., 0..300),
            key: u64,
        ) {
            if let Some(filter) = FuseFilter::from_parts(salt, length, bytes.clone()) {
                prop_assert!(length.is_power_of_two());
                prop_assert!(bytes.len().is_multiple_of(length as usize));
                filter.contains(key);
            }
        }

        #[test]
        fn positions_are_in_three_adjacent_segments(
            exponent in 2_u32..8, segments in 3_usize..9, key: u64,
        ) {
            let length = 1_usize << exponent;
            let bytes = vec![0; length.saturating_mul(segments)];
            let filter = FuseFilter::from_parts(7, length as u32, bytes).unwrap();
            let segment = |position: usize| position.checked_div(length).unwrap();
            let [first, second, third] = filter.positions(filter.hash(key)).map(segment);
            prop_assert_eq!(second.wrapping_sub(first), 1);
            prop_assert_eq!(third.wrapping_sub(second), 1);
            prop_assert!(third < segments);
        }
    }
}
