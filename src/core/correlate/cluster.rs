//! Clusters: accounts that share indicators. What acts together is to be treated together, and an
//! account that joins is known by its first request.
//!
//! Keys and accounts are joined by union-find, so that clusters that turn out to be one become one. It
//! keeps its name: that of the one which was found first.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;

use crate::keyed_hash::fmix64;

/// Accounts and keys, in clusters.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    /// What each node hangs on; itself, where it stands for its cluster.
    parent: Vec<u32>,
    /// The node of an account, and of a key.
    account_nodes: HashMap<u64, u32>,
    key_nodes: HashMap<u64, u32>,
    /// Clusters, by the node that stands for them.
    cluster_by_root: HashMap<u32, Cluster>,
    /// Links that were left out for want of room.
    dropped_links: u64,
}

/// Accounts that act together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Its name: stays the same while it grows.
    pub id: u32,
    /// Its accounts.
    pub account_count: u32,
    /// Its keys, with the correlation that held for each.
    pub keys: Vec<(u64, String)>,
    /// When it was first and last seen, in seconds since the epoch.
    pub first_seen: u32,
    /// See above.
    pub last_seen: u32,
}

/// Accounts and keys that are kept, together.
pub const MAX_NODES: usize = 500_000;

/// Keys of a cluster that are named; it may be linked by more.
pub const MAX_KEYS_PER_CLUSTER: usize = 64;

impl Clusters {
    /// Links accounts by a key for which a correlation held; the cluster's name.
    pub fn link(&mut self, correlation: &str, key: u64, accounts: &[u64], at: u32) -> u32 {
        let Some(mut root) = self.find_or_add_root(key, true, at) else {
            self.dropped_links = self.dropped_links.saturating_add(1);
            return 0;
        };
        for account in accounts {
            match self.find_or_add_root(*account, false, at) {
                Some(node) => root = self.union(root, node),
                None => self.dropped_links = self.dropped_links.saturating_add(1),
            }
        }
        let Some(cluster) = self.cluster_by_root.get_mut(&root) else { return 0 };
        cluster.first_seen = cluster.first_seen.min(at);
        cluster.last_seen = cluster.last_seen.max(at);
        let is_listed = cluster.keys.iter().any(|(existing_key, existing_correlation)| {
            *existing_key == key && existing_correlation == correlation
        });
        if !is_listed && cluster.keys.len() < MAX_KEYS_PER_CLUSTER {
            cluster.keys.push((key, correlation.to_owned()));
        }
        cluster.id
    }

    /// The cluster of an account.
    pub fn for_account(&self, account: u64) -> Option<&Cluster> {
        self.cluster_by_root.get(&self.find_root(*self.account_nodes.get(&account)?))
    }

    /// The cluster of a key.
    pub fn for_key(&self, key: u64) -> Option<&Cluster> {
        self.cluster_by_root.get(&self.find_root(*self.key_nodes.get(&key)?))
    }

    /// All clusters.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.cluster_by_root.values()
    }

    /// Links that were left out for want of room.
    pub fn dropped_links(&self) -> u64 {
        self.dropped_links
    }

    /// The node that stands for the cluster of a key, or of an account.
    fn find_or_add_root(&mut self, hash: u64, is_key: bool, at: u32) -> Option<u32> {
        let nodes = if is_key { &mut self.key_nodes } else { &mut self.account_nodes };
        if let Some(node) = nodes.get(&hash).copied() {
            return Some(self.find_root(node));
        }
        if self.parent.len() >= MAX_NODES {
            return None;
        }
        let node = u32::try_from(self.parent.len()).ok()?;
        self.parent.push(node);
        nodes.insert(hash, node);
        let id = (fmix64(hash) as u32).max(1);
        let account_count = u32::from(!is_key);
        let cluster =
            Cluster { id, account_count, keys: Vec::new(), first_seen: at, last_seen: at };
        self.cluster_by_root.insert(node, cluster);
        Some(node)
    }

    fn find_root(&self, mut node: u32) -> u32 {
        while let Some(parent) = self.parent.get(node as usize).filter(|above| **above != node) {
            node = *parent;
        }
        node
    }

    /// Makes one of two clusters: the larger one takes in the other, so that nothing hangs deep.
    fn union(&mut self, left: u32, right: u32) -> u32 {
        if left == right {
            return left;
        }
        let size = |root| {
            self.cluster_by_root.get(root).map_or(0, |cluster| {
                cluster.account_count.saturating_add(cluster.keys.len() as u32)
            })
        };
        let (root, absorbed_root) =
            if size(&left) >= size(&right) { (left, right) } else { (right, left) };
        if let Some(parent) = self.parent.get_mut(absorbed_root as usize) {
            *parent = root;
        }
        let absorbed = self.cluster_by_root.remove(&absorbed_root).unwrap_or_default();
        if let Some(cluster) = self.cluster_by_root.get_mut(&root) {
            // One that has no key yet is an account that came alone.
            if cluster.keys.is_empty()
                || !absorbed.keys.is_empty() && absorbed.first_seen < cluster.first_seen
            {
                cluster.id = absorbed.id;
            }
            cluster.account_count = cluster.account_count.saturating_add(absorbed.account_count);
            cluster.first_seen = cluster.first_seen.min(absorbed.first_seen);
            cluster.last_seen = cluster.last_seen.max(absorbed.last_seen);
            cluster.keys.extend(absorbed.keys);
            cluster.keys.truncate(MAX_KEYS_PER_CLUSTER);
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_share_an_account_form_one_cluster() {
        let mut clusters = Clusters::default();
        let first_id = clusters.link("cluster_a", 1, &[10, 11, 12], 100);
        let second_id = clusters.link("cluster_b", 2, &[20, 21], 200);
        assert_ne!(first_id, second_id);
        assert_eq!(clusters.for_account(12).unwrap().id, first_id);
        assert_eq!(clusters.iter().count(), 2);
        // An account of both.
        let merged_id = clusters.link("cluster_b", 2, &[21, 10, 22], 300);
        assert_eq!(merged_id, first_id, "the name of the one that was found first");
        assert_eq!(clusters.iter().count(), 1);
        let cluster = clusters.for_account(20).unwrap();
        assert_eq!((cluster.account_count, cluster.first_seen, cluster.last_seen), (6, 100, 300));
        let mut keys: Vec<u64> = cluster.keys.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
        assert_eq!(clusters.for_key(2).unwrap().id, first_id);
        assert_eq!(clusters.for_account(99), None);
    }

    #[test]
    fn links_are_dropped_beyond_the_node_limit() {
        let mut clusters = Clusters::default();
        let accounts: Vec<u64> = (0..MAX_NODES as u64 + 10).collect();
        clusters.link("cluster_a", 1, &accounts, 100);
        assert_eq!(
            (clusters.dropped_links(), clusters.for_key(1).unwrap().account_count),
            (11, MAX_NODES as u32 - 1)
        );
    }
}
