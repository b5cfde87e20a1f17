//! The groups of an observation: every combination of the values of the fields to group by.

use super::observation::Observation;
use crate::keyed_hash::combine_hashes;

/// Maximum number of groups of one observation per combination of fields; further groups are
/// ignored.
const MAX_GROUPS: usize = 64;

/// The groups that an observation belongs to, for one combination of fields.
#[derive(Debug, Default)]
pub struct GroupKeys {
    /// Number of values per group.
    width: usize,
    /// Values of all groups, `width` per group.
    values: Vec<u64>,
    /// Buffer that is swapped with `values`.
    scratch: Vec<u64>,
    /// Hash over the values of each group, as [`GroupKeys::hash_values`] computed it.
    value_hashes: Vec<u64>,
}

/// The values of a group, with their hash.
#[derive(Clone, Copy, Debug)]
pub struct GroupKey<'v> {
    /// Values, one per field; empty if only their hash is known. A group without values does not
    /// fire: the next observation of the group reports the correlations that hold.
    pub values: &'v [u64],
    /// Hash over the values.
    pub values_hash: u64,
}

/// Sets `keys` to the groups of an observation: one for every combination of the values of
/// `fields`, and none if a field has no value. The hashes of `keys` are out of date until
/// [`GroupKeys::hash_values`] is called.
pub fn group_keys(fields: &[u16], observation: &Observation, keys: &mut GroupKeys) {
    keys.width = 0;
    keys.values.clear();
    fields.iter().for_each(|field| keys.extend_with(observation.values(*field)));
}

impl GroupKeys {
    /// Returns the values of each group.
    pub fn iter(&self) -> impl Iterator<Item = &[u64]> + Clone {
        self.values.chunks_exact(self.width.max(1))
    }

    /// Returns the groups with the hashes that [`GroupKeys::hash_values`] computed.
    pub fn keys(&self) -> impl Iterator<Item = GroupKey<'_>> + Clone {
        self.iter()
            .zip(&self.value_hashes)
            .map(|(values, values_hash)| GroupKey { values, values_hash: *values_hash })
    }

    /// Computes the hash over the values of each group.
    pub fn hash_values(&mut self) {
        let width = self.width.max(1);
        self.value_hashes.clear();
        self.value_hashes.extend(self.values.chunks_exact(width).map(combine_hashes));
    }

    /// Removes the groups whose first value `keep` rejects.
    pub fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.scratch.clear();
        let width = self.width.max(1);
        for group in self.values.chunks_exact(width) {
            if group.first().is_some_and(|first_value| keep(*first_value)) {
                self.scratch.extend_from_slice(group);
            }
        }
        std::mem::swap(&mut self.values, &mut self.scratch);
    }

    /// Replaces each group by one group per value, with the value appended.
    fn extend_with(&mut self, values: &[(u16, u64)]) {
        self.scratch.clear();
        let new_width = self.width.saturating_add(1);
        let count = self.values.len().checked_div(self.width).unwrap_or(1);
        for index in 0..count {
            let from = index.saturating_mul(self.width);
            let group = self.values.get(from..from.saturating_add(self.width)).unwrap_or_default();
            for (_, value) in values {
                if self.scratch.len() < new_width.saturating_mul(MAX_GROUPS) {
                    self.scratch.extend_from_slice(group);
                    self.scratch.push(*value);
                }
            }
        }
        std::mem::swap(&mut self.values, &mut self.scratch);
        self.width = new_width;
    }
}

impl GroupKey<'_> {
    /// Returns the first value, which determines the shard; 0 if the values are unknown.
    pub fn first_value(&self) -> u64 {
        self.values.first().copied().unwrap_or_default()
    }
}
