//! Clusters: accounts that share indicators. What acts together is to be treated together, and an
//! account that joins is known by its first request.
//!
//! Keys and accounts are joined by union-find, so that clusters that turn out to be one become one. It
//! keeps its name: that of the one which was found first.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;

use crate::hash::mix;

/// Accounts and keys, in clusters.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    /// What each node hangs on; itself, where it stands for its cluster.
    above: Vec<u32>,
    /// The node of an account, and of a key.
    accounts: HashMap<u64, u32>,
    keys: HashMap<u64, u32>,
    /// Clusters, by the node that stands for them.
    clusters: HashMap<u32, Cluster>,
    /// Links that were left out for want of room.
    lost: u64,
}

/// Accounts that act together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Its name: stays the same while it grows.
    pub id: u32,
    /// Its accounts.
    pub accounts: u32,
    /// Its keys, with the correlation that held for each.
    pub keys: Vec<(u64, String)>,
    /// When it was first and last seen, in seconds since the epoch.
    pub first: u32,
    /// See above.
    pub last: u32,
}

/// Accounts and keys that are kept, together.
pub const MAX_NODES: usize = 500_000;

/// Keys of a cluster that are named; it may be linked by more.
pub const MAX_KEYS: usize = 64;

impl Clusters {
    /// Links accounts by a key for which a correlation held; the cluster's name.
    pub fn link(&mut self, correlation: &str, key: u64, accounts: &[u64], at: u32) -> u32 {
        let Some(mut root) = self.node(key, true, at) else {
            self.lost = self.lost.saturating_add(1);
            return 0;
        };
        for account in accounts {
            match self.node(*account, false, at) {
                Some(node) => root = self.join(root, node),
                None => self.lost = self.lost.saturating_add(1),
            }
        }
        let Some(cluster) = self.clusters.get_mut(&root) else { return 0 };
        cluster.first = cluster.first.min(at);
        cluster.last = cluster.last.max(at);
        let is_known = cluster.keys.iter().any(|(own, name)| *own == key && name == correlation);
        if !is_known && cluster.keys.len() < MAX_KEYS {
            cluster.keys.push((key, correlation.to_owned()));
        }
        cluster.id
    }

    /// The cluster of an account.
    pub fn of_account(&self, account: u64) -> Option<&Cluster> {
        self.clusters.get(&self.root(*self.accounts.get(&account)?))
    }

    /// The cluster of a key.
    pub fn of_key(&self, key: u64) -> Option<&Cluster> {
        self.clusters.get(&self.root(*self.keys.get(&key)?))
    }

    /// All clusters.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    /// Links that were left out for want of room.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The node that stands for the cluster of a key, or of an account.
    fn node(&mut self, hash: u64, is_key: bool, at: u32) -> Option<u32> {
        let nodes = if is_key { &mut self.keys } else { &mut self.accounts };
        if let Some(node) = nodes.get(&hash).copied() {
            return Some(self.root(node));
        }
        if self.above.len() >= MAX_NODES {
            return None;
        }
        let node = u32::try_from(self.above.len()).ok()?;
        self.above.push(node);
        nodes.insert(hash, node);
        let id = (mix(hash) as u32).max(1);
        let accounts = u32::from(!is_key);
        let cluster = Cluster { id, accounts, keys: Vec::new(), first: at, last: at };
        self.clusters.insert(node, cluster);
        Some(node)
    }

    fn root(&self, mut node: u32) -> u32 {
        while let Some(above) = self.above.get(node as usize).filter(|above| **above != node) {
            node = *above;
        }
        node
    }

    /// Makes one of two clusters: the larger one takes in the other, so that nothing hangs deep.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        if left == right {
            return left;
        }
        let size = |root| {
            self.clusters
                .get(root)
                .map_or(0, |own| own.accounts.saturating_add(own.keys.len() as u32))
        };
        let (root, gone) = if size(&left) >= size(&right) { (left, right) } else { (right, left) };
        if let Some(above) = self.above.get_mut(gone as usize) {
            *above = root;
        }
        let gone = self.clusters.remove(&gone).unwrap_or_default();
        if let Some(own) = self.clusters.get_mut(&root) {
            // One that has no key yet is an account that came alone.
            if own.keys.is_empty() || !gone.keys.is_empty() && gone.first < own.first {
                own.id = gone.id;
            }
            own.accounts = own.accounts.saturating_add(gone.accounts);
            own.first = own.first.min(gone.first);
            own.last = own.last.max(gone.last);
            own.keys.extend(gone.keys);
            own.keys.truncate(MAX_KEYS);
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shares_an_account_is_one_cluster() {
        let mut clusters = Clusters::default();
        let first = clusters.link("cluster_a", 1, &[10, 11, 12], 100);
        let other = clusters.link("cluster_b", 2, &[20, 21], 200);
        assert_ne!(first, other);
        assert_eq!(clusters.of_account(12).unwrap().id, first);
        assert_eq!(clusters.iter().count(), 2);
        // An account of both.
        let joined = clusters.link("cluster_b", 2, &[21, 10, 22], 300);
        assert_eq!(joined, first, "the name of the one that was found first");
        assert_eq!(clusters.iter().count(), 1);
        let cluster = clusters.of_account(20).unwrap();
        assert_eq!((cluster.accounts, cluster.first, cluster.last), (6, 100, 300));
        let mut keys: Vec<u64> = cluster.keys.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
        assert_eq!(clusters.of_key(2).unwrap().id, first);
        assert_eq!(clusters.of_account(99), None);
    }

    #[test]
    fn any_number_of_accounts_is_bounded() {
        let mut clusters = Clusters::default();
        let accounts: Vec<u64> = (0..MAX_NODES as u64 + 10).collect();
        clusters.link("cluster_a", 1, &accounts, 100);
        assert_eq!(
            (clusters.lost(), clusters.of_key(1).unwrap().accounts),
            (11, MAX_NODES as u32 - 1)
        );
    }
}
