//! Clusters: accounts that are linked by shared indicators, and so are treated together.
//!
//! Accounts and keys are nodes of a union-find forest: clusters that turn out to share a node
//! become one. The merged cluster has the id of the cluster that was seen first.

use std::collections::HashMap;

use crate::keyed_hash::fmix64;

/// Maximum number of accounts and keys together; further accounts and keys are ignored.
const MAX_NODES: usize = 500_000;

/// Maximum number of keys that are listed per cluster; further keys link, but are not listed.
const MAX_KEYS_PER_CLUSTER: usize = 64;

/// Accounts and keys, grouped into clusters.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    /// Parent of each node; a root is its own parent.
    parent: Vec<u32>,
    account_nodes: HashMap<u64, u32>,
    key_nodes: HashMap<u64, u32>,
    cluster_by_root: HashMap<u32, Cluster>,
}

/// Accounts that act together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Id, which stays the same while the cluster grows; never 0.
    pub id: u32,
    /// Number of accounts in the cluster.
    pub account_count: u32,
    /// Keys that link the accounts, each with the name of its correlation.
    pub keys: Vec<(u64, String)>,
    /// Time of the first link, in seconds since the epoch.
    pub first_seen: u32,
    /// Time of the latest link, in seconds since the epoch.
    pub last_seen: u32,
}

/// The kind of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Account,
    Key,
}

impl Clusters {
    /// Links accounts by a key for which a correlation fired at `at`, in seconds since the epoch.
    /// Returns the id of their cluster, or 0 if the graph has no room for the key.
    pub fn link(&mut self, correlation: &str, key: u64, accounts: &[u64], at: u32) -> u32 {
        let Some(mut root) = self.find_or_add_root(Node::Key, key, at) else { return 0 };
        for account in accounts {
            if let Some(node) = self.find_or_add_root(Node::Account, *account, at) {
                root = self.union(root, node);
            }
        }
        let Some(cluster) = self.cluster_by_root.get_mut(&root) else { return 0 };
        cluster.first_seen = cluster.first_seen.min(at);
        cluster.last_seen = cluster.last_seen.max(at);
        let is_listed = cluster.keys.iter().any(|(listed_key, listed_correlation)| {
            *listed_key == key && listed_correlation == correlation
        });
        if !is_listed && cluster.keys.len() < MAX_KEYS_PER_CLUSTER {
            cluster.keys.push((key, correlation.to_owned()));
        }
        cluster.id
    }

    /// Returns the cluster of an account, given by its hash.
    pub fn for_account(&self, account: u64) -> Option<&Cluster> {
        self.cluster_by_root.get(&self.find_root(*self.account_nodes.get(&account)?))
    }

    /// Returns the cluster that a key links.
    pub fn for_key(&self, key: u64) -> Option<&Cluster> {
        self.cluster_by_root.get(&self.find_root(*self.key_nodes.get(&key)?))
    }

    /// Returns all clusters, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.cluster_by_root.values()
    }

    /// Returns the root of a key or account, which becomes a cluster of its own if it is new.
    /// `None` if the graph has no room for another node.
    fn find_or_add_root(&mut self, kind: Node, hash: u64, at: u32) -> Option<u32> {
        let nodes = match kind {
            Node::Account => &mut self.account_nodes,
            Node::Key => &mut self.key_nodes,
        };
        if let Some(node) = nodes.get(&hash).copied() {
            return Some(self.find_root(node));
        }
        if self.parent.len() >= MAX_NODES {
            return None;
        }
        let node = u32::try_from(self.parent.len()).ok()?;
        self.parent.push(node);
        nodes.insert(hash, node);
        let cluster = Cluster {
            id: (fmix64(hash) as u32).max(1),
            account_count: u32::from(kind == Node::Account),
            keys: Vec::new(),
            first_seen: at,
            last_seen: at,
        };
        self.cluster_by_root.insert(node, cluster);
        Some(node)
    }

    fn find_root(&self, mut node: u32) -> u32 {
        while let Some(parent) = self.parent.get(node as usize).filter(|parent| **parent != node) {
            node = *parent;
        }
        node
    }

    /// Merges two clusters and returns the root. The larger cluster absorbs the other, so that
    /// paths to a root stay short.
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
            // A cluster without keys is a new key or account, whose id nobody has seen.
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
        // Account 10 is in both clusters, which become one.
        let merged_id = clusters.link("cluster_b", 2, &[21, 10, 22], 300);
        assert_eq!(merged_id, first_id, "the older cluster gives its id");
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
    fn accounts_beyond_the_node_limit_are_ignored() {
        let mut clusters = Clusters::default();
        let accounts: Vec<u64> = (0..MAX_NODES as u64 + 10).collect();
        clusters.link("cluster_a", 1, &accounts, 100);
        // The key is a node, too.
        assert_eq!(clusters.for_key(1).unwrap().account_count, MAX_NODES as u32 - 1);
        assert_eq!(clusters.link("cluster_a", 2, &[], 100), 0);
    }
}
