//! Aliases of clusters: ids of clusters that have merged into others.
//!
//! Isolates receive the aliases together with the indicators, because a policy may name a cluster
//! by any id that the cluster has had.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::MAX_ALIASES;

/// Aliases, each with the current id of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterAliases {
    id_by_alias: BTreeMap<u32, u32>,
    /// Pairs of id and alias.
    by_id: BTreeSet<(u32, u32)>,
}

impl ClusterAliases {
    /// Returns the number of aliases.
    pub fn len(&self) -> usize {
        self.id_by_alias.len()
    }

    /// Returns whether there are no aliases.
    pub fn is_empty(&self) -> bool {
        self.id_by_alias.is_empty()
    }

    /// Adds an alias of the cluster with the id or alias `id`. If `alias` was the id of a cluster,
    /// all aliases of that cluster become aliases of the cluster `id`. New aliases beyond
    /// [`MAX_ALIASES`] are ignored.
    pub fn add(&mut self, alias: u32, id: u32) {
        let id = self.current_id(id);
        if alias == id || alias == 0 || id == 0 {
            return;
        }
        if self.len() >= MAX_ALIASES && !self.id_by_alias.contains_key(&alias) {
            return;
        }
        let moved: Vec<u32> = self.aliases_of(alias).chain([alias]).collect();
        for alias in moved {
            if let Some(previous) = self.id_by_alias.insert(alias, id) {
                self.by_id.remove(&(previous, alias));
            }
            self.by_id.insert((id, alias));
        }
    }

    /// Returns the current id of the cluster with the id or alias `id`. An `id` that is not an
    /// alias is returned unchanged.
    pub fn current_id(&self, id: u32) -> u32 {
        self.id_by_alias.get(&id).copied().unwrap_or(id)
    }

    /// Returns the aliases of the cluster with the current id `id`, in ascending order.
    pub fn aliases_of(&self, id: u32) -> impl Iterator<Item = u32> {
        self.by_id.range((id, 0)..=(id, u32::MAX)).map(|(_, alias)| *alias)
    }

    /// Returns all aliases, each with the id of its cluster, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.id_by_alias.iter().map(|(alias, id)| (*alias, *id))
    }

    /// Appends the aliases to `encoded`: first the number of aliases (4 bytes), then each alias and
    /// the id of its cluster (4 bytes each), in ascending order of the aliases. Numbers are
    /// little-endian.
    pub(super) fn encode(&self, encoded: &mut Vec<u8>) {
        let count = u32::try_from(self.len()).unwrap_or(u32::MAX);
        encoded.extend_from_slice(&count.to_le_bytes());
        for (alias, id) in self.iter() {
            encoded.extend_from_slice(&alias.to_le_bytes());
            encoded.extend_from_slice(&id.to_le_bytes());
        }
    }

    /// Decodes the aliases at the beginning of `bytes`. Returns the aliases and the remaining
    /// bytes. Returns `None` if the aliases are truncated, more than [`MAX_ALIASES`], not sorted or
    /// repeated, if an alias or an id is 0, or if an id is itself an alias.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        let byte_count = count.checked_mul(ALIAS_BYTES).filter(|_| count <= MAX_ALIASES)?;
        let (pairs, rest) = rest.split_at_checked(byte_count)?;
        let mut aliases = Self::default();
        let mut previous = 0;
        for pair in pairs.chunks_exact(ALIAS_BYTES) {
            let (alias, id) = pair.split_first_chunk()?;
            let alias = u32::from_le_bytes(*alias);
            let id = u32::from_le_bytes(*id.first_chunk()?);
            if alias <= previous || id == 0 {
                return None;
            }
            previous = alias;
            aliases.id_by_alias.insert(alias, id);
            aliases.by_id.insert((id, alias));
        }
        let is_flat = |id: &u32| !aliases.id_by_alias.contains_key(id);
        let all_flat = aliases.id_by_alias.values().all(is_flat);
        all_flat.then_some((aliases, rest))
    }
}

/// Bytes of an encoded alias.
pub(super) const ALIAS_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_alias_of_an_alias_is_one_of_the_current_cluster() {
        let mut aliases = ClusterAliases::default();
        aliases.add(1, 2);
        aliases.add(2, 3);
        aliases.add(9, 1);
        aliases.add(3, 1);
        assert_eq!([1, 2, 3, 9, 5].map(|id| aliases.current_id(id)), [3, 3, 3, 3, 5]);
        assert_eq!(aliases.aliases_of(3).collect::<Vec<_>>(), [1, 2, 9]);
        assert_eq!(aliases.aliases_of(2).count(), 0);
    }

    #[test]
    fn malformed_bytes_are_rejected() {
        let encode = |pairs: &[(u32, u32)]| {
            let mut bytes = (pairs.len() as u32).to_le_bytes().to_vec();
            for (alias, id) in pairs {
                bytes.extend(alias.to_le_bytes());
                bytes.extend(id.to_le_bytes());
            }
            bytes
        };
        let rows = [
            (encode(&[(1, 2), (3, 2)]), true),
            (encode(&[]), true),
            (encode(&[(3, 2), (1, 2)]), false),
            (encode(&[(1, 2), (1, 4)]), false),
            (encode(&[(1, 2), (2, 3)]), false),
            (encode(&[(1, 1)]), false),
            (encode(&[(0, 1)]), false),
            (encode(&[(1, 0)]), false),
            (encode(&[(1, 2)])[..11].to_vec(), false),
            (vec![1, 0, 0], false),
            (u32::MAX.to_le_bytes().to_vec(), false),
        ];
        for (bytes, is_valid) in rows {
            assert_eq!(ClusterAliases::decode(&bytes).is_some(), is_valid, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn aliases_stay_flat_and_encode_to_themselves(
            merges in prop::collection::vec((0_u32..30, 0_u32..30), 0..60)
        ) {
            let mut aliases = ClusterAliases::default();
            for (alias, id) in merges {
                let (before, target) = (aliases.current_id(alias), aliases.current_id(id));
                aliases.add(alias, id);
                prop_assert!(alias == target || alias.min(target) == 0
                    || aliases.current_id(alias) == target);
                prop_assert!(before == target || aliases.current_id(target) == target);
            }
            for (alias, id) in aliases.iter() {
                prop_assert_eq!(aliases.current_id(id), id);
                prop_assert!(aliases.aliases_of(id).any(|other| other == alias));
            }
            let mut bytes = Vec::new();
            aliases.encode(&mut bytes);
            bytes.push(7);
            prop_assert_eq!(ClusterAliases::decode(&bytes), Some((aliases, &[7_u8][..])));
        }
    }
}
