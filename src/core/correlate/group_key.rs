//! The groups that an observation belongs to.
#![deny(clippy::arithmetic_side_effects)]

use super::Observation;
use crate::keyed_hash::combine_hashes;

/// Groups that an observation belongs to: so many values each, one behind the other.
#[derive(Debug, Default)]
pub struct GroupKeys {
    width: usize,
    values: Vec<u64>,
    scratch: Vec<u64>,
    /// The values of each, hashed together.
    value_hashes: Vec<u64>,
}

/// The values of a group.
#[derive(Clone, Copy, Debug)]
pub struct GroupKey<'v> {
    /// Empty where they are not known: then it is told at the group's next observation what holds.
    pub values: &'v [u64],
    /// Hashed together.
    pub values_hash: u64,
}

/// Groups that one request may belong to for one tracker; further ones are left out.
const MAX_GROUPS: usize = 64;

/// Every combination of the values of some fields; none where one has no value.
pub fn group_keys(fields: &[u16], observation: &Observation, keys: &mut GroupKeys) {
    keys.width = 0;
    keys.values.clear();
    fields.iter().for_each(|field| keys.extend_with(observation.values(*field)));
}

impl GroupKeys {
    /// The groups.
    pub fn iter(&self) -> impl Iterator<Item = &[u64]> + Clone {
        self.values.chunks_exact(self.width.max(1))
    }

    /// The groups, with their values hashed together.
    pub fn keys(&self) -> impl Iterator<Item = GroupKey<'_>> + Clone {
        self.iter()
            .zip(&self.value_hashes)
            .map(|(values, values_hash)| GroupKey { values, values_hash: *values_hash })
    }

    /// Hashes the values of each together.
    pub fn hash_values(&mut self) {
        let width = self.width.max(1);
        self.value_hashes.clear();
        self.value_hashes.extend(self.values.chunks_exact(width).map(combine_hashes));
    }

    /// Leaves those out whose first value is not as asked.
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

    /// Adds one of some values to each.
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
    /// The first of them, by which shards are told apart.
    pub fn first_value(&self) -> u64 {
        self.values.first().copied().unwrap_or_default()
    }
}
