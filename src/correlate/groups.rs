//! The groups that an observation belongs to.
#![deny(clippy::arithmetic_side_effects)]

use super::Observation;
use crate::hash::join;

/// Groups that an observation belongs to: so many values each, one behind the other.
#[derive(Debug, Default)]
pub struct Groups {
    width: usize,
    values: Vec<u64>,
    longer: Vec<u64>,
    /// The values of each, hashed together.
    joined: Vec<u64>,
}

/// The values of a group.
#[derive(Clone, Copy, Debug)]
pub struct Key<'v> {
    /// Empty where they are not known: then it is told at the group's next observation what holds.
    pub values: &'v [u64],
    /// Hashed together.
    pub joined: u64,
}

/// Groups that one request may belong to for one tracker; further ones are left out.
const MAX_GROUPS: usize = 64;

/// Every combination of the values of some fields; none where one has no value.
pub fn combine(fields: &[u16], observation: &Observation, groups: &mut Groups) {
    groups.width = 0;
    groups.values.clear();
    fields.iter().for_each(|field| groups.lengthen(observation.values(*field)));
}

impl Groups {
    /// The groups.
    pub fn iter(&self) -> impl Iterator<Item = &[u64]> + Clone {
        self.values.chunks_exact(self.width.max(1))
    }

    /// The groups, with their values hashed together.
    pub fn keys(&self) -> impl Iterator<Item = Key<'_>> + Clone {
        self.iter().zip(&self.joined).map(|(values, joined)| Key { values, joined: *joined })
    }

    /// Hashes the values of each together.
    pub fn join(&mut self) {
        let width = self.width.max(1);
        self.joined.clear();
        self.joined.extend(self.values.chunks_exact(width).map(join));
    }

    /// Leaves those out whose first value is not as asked.
    pub fn only(&mut self, is_asked: impl Fn(u64) -> bool) {
        self.longer.clear();
        let width = self.width.max(1);
        for group in self.values.chunks_exact(width) {
            if group.first().is_some_and(|first| is_asked(*first)) {
                self.longer.extend_from_slice(group);
            }
        }
        std::mem::swap(&mut self.values, &mut self.longer);
    }

    /// Adds one of some values to each.
    fn lengthen(&mut self, values: &[(u16, u64)]) {
        self.longer.clear();
        let longer = self.width.saturating_add(1);
        let count = self.values.len().checked_div(self.width).unwrap_or(1);
        for number in 0..count {
            let from = number.saturating_mul(self.width);
            let group = self.values.get(from..from.saturating_add(self.width)).unwrap_or_default();
            for (_, value) in values {
                if self.longer.len() < longer.saturating_mul(MAX_GROUPS) {
                    self.longer.extend_from_slice(group);
                    self.longer.push(*value);
                }
            }
        }
        std::mem::swap(&mut self.values, &mut self.longer);
        self.width = longer;
    }
}

impl Key<'_> {
    /// The first of them, by which shards are told apart.
    pub fn first(&self) -> u64 {
        self.values.first().copied().unwrap_or_default()
    }
}
