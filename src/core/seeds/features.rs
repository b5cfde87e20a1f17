//! The features by which a seed set recognises a user text: digests and shingles.
//!
//! The hashes have no secret key, because a set is built before it is known which deployment uses
//! it. Digests are XXH3 hashes of whole values with a fixed salt. Shingles are hashes of eight
//! consecutive words, computed as for template keys but with a fixed salt. The text is normalised
//! as for signatures.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::template;

/// Maximum bytes of user text that are compared with sets. The end of the text is compared, because
/// the model answers it.
pub const MAX_TEXT_BYTES: usize = 16 << 10;

/// Maximum number of digests of a text.
///
/// A random digest seems to be in a set with probability 2⁻¹⁶. So this limit and [`MAX_SHINGLES`]
/// bound the probability that another text seems to be in a set: 16 / 2¹⁶ + (2048 / 2¹⁶)² / 2 is
/// less than one in a thousand.
const MAX_DIGESTS: usize = 16;

/// Maximum number of shingles of a text. The last ones are kept.
const MAX_SHINGLES: usize = 2_048;

/// Minimum bytes of a value that has a digest. Shorter values are not evidence: anybody may write
/// "go on" or "hello".
const MIN_DIGEST_BYTES: usize = 24;

/// The salt of digests. A change invalidates every set.
const DIGEST_SALT: u64 = 0x6865_6467_6572_6f77;

/// The salt of shingles. A change invalidates every set.
const SHINGLE_SALT: u64 = 0x7365_6564_2d73_6574;

/// The features of a user text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// Hashes of whole values.
    pub digests: Vec<u64>,
    /// Hashes of eight consecutive words each, across values, in order.
    pub shingles: Vec<u64>,
}

impl Features {
    /// Returns the features of the last `max_bytes` of several normalised values.
    pub fn of_values(values: &[&str], max_bytes: usize) -> Self {
        let parts = template::tail_parts(values, max_bytes);
        let mut features = Self::default();
        // The first part may be only the end of a value. It then has no digest.
        for (part, value) in parts.iter().rev().zip(values.iter().rev()).take(MAX_DIGESTS) {
            if part.len() == value.len() && value.len() >= MIN_DIGEST_BYTES {
                features.digests.push(xxh3_64_with_seed(value.as_bytes(), DIGEST_SALT));
            }
        }
        let shingles = &mut features.shingles;
        let mut push = |hash| shingles.push(hash);
        template::for_each_shingle(parts.into_iter(), SHINGLE_SALT, &mut push);
        shingles.drain(..shingles.len().saturating_sub(MAX_SHINGLES));
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(values: &[&str]) -> Features {
        Features::of_values(values, MAX_TEXT_BYTES)
    }

    #[test]
    fn a_wrapper_keeps_the_shingles_and_another_part_keeps_the_digest() {
        let problem = "a gardener plants 7 rows of 12 beans and loses a third of them to slugs";
        let alone = features(&[problem]);
        assert_eq!((alone.digests.len(), alone.shingles.len()), (1, 9));
        let wrapped =
            features(&[&format!("solve this one for me please: {problem} think step by step")]);
        assert!(!wrapped.digests.contains(&alone.digests[0]));
        assert!(alone.shingles.iter().all(|shingle| wrapped.shingles.contains(shingle)));
        let in_parts = features(&["you like puzzles, do you not?", problem]);
        assert!(in_parts.digests.contains(&alone.digests[0]));
    }

    /// Sets that operators have built must stay valid after an update.
    #[test]
    fn features_are_stable() {
        let features = features(&["a gardener plants 7 rows of 12 beans"]);
        assert_eq!(features.digests, [15568599537345220900]);
        assert_eq!(features.shingles, [10055360344437978154]);
    }

    #[test]
    fn features_are_bounded() {
        let words = "w ".repeat(1 << 20);
        let long = features(&[&words]);
        assert_eq!((long.digests.len(), long.shingles.len()), (0, MAX_SHINGLES));
        let many = vec!["the value of one message out of many"; 10_000];
        assert_eq!(features(&many).digests.len(), MAX_DIGESTS);
        assert_eq!(features(&["go on", ""]), Features::default());
        assert_eq!(Features::of_values(&[&words], 0), Features::default());
    }
}
