//! Keys of the table of groups and of the table of singletons: an id (of an aggregation or a
//! deferral) mixed with the hash over the values of a group.

use crate::keyed_hash::{fmix64, fmix64_inverse};

/// Returns the table key for an id and the hash over the values of a group; never 0, which marks an
/// empty slot.
pub fn table_key(id: u64, values_hash: u64) -> u64 {
    fmix64(id ^ values_hash).max(1)
}

/// Inverts [`table_key`]: returns the hash over the values of the group whose table key is `key`.
pub fn values_hash_from(id: u64, key: u64) -> u64 {
    fmix64_inverse(key) ^ id
}
