//! The shard: the share of all groups that one correlator counts.

use crate::keyed_hash::fmix64;

/// A share of all groups: the groups whose first value hashes to the index of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Index of the shard, from 0.
    pub index: u32,
    /// Number of shards among which all groups are divided.
    pub count: u32,
}

impl Shard {
    /// The only shard, with all groups.
    pub const ALL: Self = Self { index: 0, count: 1 };

    /// Returns the index of the shard, out of `count` shards, that counts the groups whose first
    /// value is `first_value`.
    pub fn owner(first_value: u64, count: u32) -> u32 {
        let index = fmix64(first_value).checked_rem(u64::from(count)).unwrap_or_default();
        u32::try_from(index).unwrap_or_default()
    }

    /// Returns whether the shard has the groups whose first value is `first_value`.
    pub fn owns(self, first_value: u64) -> bool {
        Self::owner(first_value, self.count) == self.index
    }
}
