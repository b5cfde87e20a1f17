//! Clusters: accounts that are linked by shared indicators, and so are treated together.
//!
//! Accounts and keys are nodes of a union-find forest. If a key and its accounts are in different
//! clusters, these clusters merge. The merged cluster has the id of the cluster that was seen
//! first. The other id becomes an alias: a look-up by the alias finds the merged cluster. An id is
//! never given to another cluster, because policies refer to clusters by id.

use std::collections::HashMap;

use crate::keyed_hash::fmix64;

/// Maximum number of accounts and keys together; further accounts and keys are ignored.
const MAX_NODES: usize = 500_000;

/// Maximum number of pairs of key and correlation that are listed per cluster. Further keys link
/// accounts, too, but are not listed.
const MAX_KEYS_PER_CLUSTER: usize = 64;

/// Maximum number of aliases of all clusters together. Beyond this number, the cluster with the
/// most aliases forgets its oldest alias. So a flood of merges that an attacker causes removes
/// aliases of the attacker's own cluster first.
pub const MAX_ALIASES: usize = 20_000;

/// Accounts and keys, grouped into clusters.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    /// Parent of each node; a root is its own parent.
    parent: Vec<u32>,
    account_nodes: HashMap<u64, u32>,
    key_nodes: HashMap<u64, u32>,
    cluster_by_root: HashMap<u32, Cluster>,
    /// For each id and each alias, a node of its cluster.
    node_by_id: HashMap<u32, u32>,
    /// Number of aliases of all clusters.
    alias_count: usize,
    /// Counter from which the last id was computed; `None` before the first id.
    id_counter: Option<u32>,
}

/// The changes of ids that a link causes, for a host that stores ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// Id of the cluster of the key.
    pub id: u32,
    /// Ids that became aliases of `id`, because their clusters merged into the cluster `id`.
    pub merged: Vec<u32>,
    /// Aliases that were forgotten, because there were more than [`MAX_ALIASES`].
    pub forgotten: Vec<u32>,
}

/// A cluster: accounts that are linked by shared keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Id, which stays the same until the cluster merges into an older one; never 0 in a cluster
    /// that [`Clusters`] returns.
    pub id: u32,
    /// Ids of the clusters that have merged into this one, in the order of the merges.
    pub aliases: Vec<u32>,
    /// Number of accounts in the cluster.
    pub account_count: u32,
    /// Pairs of a key that links the accounts and the name of a correlation that fired for the key;
    /// at most 64 pairs.
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
    /// Creates an empty graph that continues the ids of an earlier graph. `counter` is the
    /// [`Clusters::id_counter`] of the earlier graph.
    pub fn resume(counter: Option<u32>) -> Self {
        Self { id_counter: counter, ..Self::default() }
    }

    /// Links accounts by a key for which a correlation fired at `at`, in seconds since the epoch.
    /// Returns `None` if the graph has no room for the key.
    pub fn link(
        &mut self,
        correlation: &str,
        key: u64,
        accounts: &[u64],
        at: u32,
    ) -> Option<Linked> {
        self.restore(0, correlation, key, accounts, at)
    }

    /// Links accounts by a key, like [`Clusters::link`], in a graph that is being restored. `id` is
    /// the stored id of the key's cluster; 0 if the key had no cluster.
    pub fn restore(
        &mut self,
        id: u32,
        correlation: &str,
        key: u64,
        accounts: &[u64],
        at: u32,
    ) -> Option<Linked> {
        let mut linked = Linked::default();
        let mut root = self.find_or_add_root(Node::Key, key, at)?;
        root = self.join_id(root, id, &mut linked);
        for account in accounts {
            if let Some(node) = self.find_or_add_root(Node::Account, *account, at) {
                root = self.union(root, node, &mut linked);
            }
        }
        if self.cluster_by_root.get(&root).is_some_and(|cluster| cluster.id == 0) {
            let id = self.new_id(key);
            root = self.join_id(root, id, &mut linked);
        }
        self.forget_surplus_aliases(&mut linked);
        let cluster = self.cluster_by_root.get_mut(&root)?;
        cluster.first_seen = cluster.first_seen.min(at);
        cluster.last_seen = cluster.last_seen.max(at);
        let is_listed = cluster.keys.iter().any(|(listed_key, listed_correlation)| {
            *listed_key == key && listed_correlation == correlation
        });
        if !is_listed && cluster.keys.len() < MAX_KEYS_PER_CLUSTER {
            cluster.keys.push((key, correlation.to_owned()));
        }
        linked.id = cluster.id;
        Some(linked)
    }

    /// Adds an alias to the cluster with the id or alias `id`. Does nothing if no cluster has
    /// `id`, if `alias` is 0 or known already, or if [`MAX_ALIASES`] aliases are stored.
    pub fn add_alias(&mut self, alias: u32, id: u32) {
        let Some(node) = self.node_by_id.get(&id).copied() else { return };
        let root = self.find_root(node);
        if alias == 0 || self.alias_count >= MAX_ALIASES || self.node_by_id.contains_key(&alias) {
            return;
        }
        if let Some(cluster) = self.cluster_by_root.get_mut(&root) {
            cluster.aliases.push(alias);
            self.node_by_id.insert(alias, root);
            self.alias_count = self.alias_count.saturating_add(1);
        }
    }

    /// Returns the cluster with an id or an alias; `None` if there is no such cluster.
    pub fn for_id(&self, id: u32) -> Option<&Cluster> {
        self.cluster_by_root.get(&self.find_root(*self.node_by_id.get(&id)?))
    }

    /// Returns all aliases, each with the id of its cluster, in no particular order.
    pub fn aliases(&self) -> impl Iterator<Item = (u32, u32)> {
        self.cluster_by_root
            .values()
            .flat_map(|cluster| cluster.aliases.iter().map(|alias| (*alias, cluster.id)))
    }

    /// Returns the counter from which the last id was computed; `None` before the first id.
    pub fn id_counter(&self) -> Option<u32> {
        self.id_counter
    }

    /// Returns the cluster of the account with the hash `account`; `None` if the graph does not
    /// have the account.
    pub fn for_account(&self, account: u64) -> Option<&Cluster> {
        self.cluster_by_root.get(&self.find_root(*self.account_nodes.get(&account)?))
    }

    /// Returns the cluster that a key links; `None` if the graph does not have the key.
    pub fn for_key(&self, key: u64) -> Option<&Cluster> {
        self.cluster_by_root.get(&self.find_root(*self.key_nodes.get(&key)?))
    }

    /// Returns all clusters, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.cluster_by_root.values()
    }

    /// Returns the root of the cluster of a key or account, given by its hash. A new key or account
    /// becomes a separate cluster, first seen at `at`. Returns `None` if the graph has no room for
    /// another node.
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
            id: 0,
            aliases: Vec::new(),
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

    /// Gives the id `id` to the cluster of `root`, unless `id` is 0. If another cluster has the id
    /// or alias `id`, the two clusters merge. Otherwise, if the cluster of `root` has an id
    /// already, `id` becomes an alias. Returns the root of the resulting cluster.
    fn join_id(&mut self, root: u32, id: u32, linked: &mut Linked) -> u32 {
        if id == 0 {
            return root;
        }
        if let Some(node) = self.node_by_id.get(&id) {
            let other_root = self.find_root(*node);
            return self.union(root, other_root, linked);
        }
        match self.cluster_by_root.get_mut(&root) {
            Some(cluster) if cluster.id == 0 => {
                cluster.id = id;
                self.node_by_id.insert(id, root);
            }
            Some(cluster) => {
                let current_id = cluster.id;
                self.add_alias(id, current_id);
                linked.merged.push(id);
            }
            None => {}
        }
        root
    }

    /// Returns an id that no cluster has had. `key` determines only the start of the counter, and
    /// so the first id.
    ///
    /// An id is a bijective function of a counter. So ids repeat only after 2³² clusters, and
    /// successive ids do not look alike.
    fn new_id(&mut self, key: u64) -> u32 {
        let mut counter = self.id_counter.unwrap_or(fmix64(key) as u32);
        loop {
            counter = counter.wrapping_add(1);
            let id = fmix32(counter);
            // The loop ends, because at most MAX_NODES + MAX_ALIASES of the 2³² ids are in use.
            if id != 0 && !self.node_by_id.contains_key(&id) {
                self.id_counter = Some(counter);
                return id;
            }
        }
    }

    /// Removes aliases beyond [`MAX_ALIASES`]: each time, the oldest alias of the cluster that has
    /// the most aliases.
    fn forget_surplus_aliases(&mut self, linked: &mut Linked) {
        while self.alias_count > MAX_ALIASES {
            let clusters = self.cluster_by_root.values_mut();
            let largest = clusters.max_by_key(|cluster| (cluster.aliases.len(), cluster.id));
            let Some(cluster) = largest.filter(|cluster| !cluster.aliases.is_empty()) else {
                return;
            };
            let alias = cluster.aliases.remove(0);
            self.node_by_id.remove(&alias);
            self.alias_count = self.alias_count.saturating_sub(1);
            linked.forgotten.push(alias);
        }
    }

    /// Merges the clusters of the roots `left` and `right`, and returns the root of the merged
    /// cluster. The larger cluster absorbs the other, so that paths to a root stay short.
    fn union(&mut self, left: u32, right: u32, linked: &mut Linked) -> u32 {
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
        if let Some(cluster) = self.cluster_by_root.get_mut(&root)
            && let Some(alias) = cluster.absorb(absorbed)
        {
            self.alias_count = self.alias_count.saturating_add(1);
            linked.merged.push(alias);
        }
        root
    }
}

impl Cluster {
    /// Adds the members of another cluster. The id of the cluster that was seen later becomes an
    /// alias and is returned. Returns `None` if one of the two clusters is a new key or account,
    /// which has no id yet.
    fn absorb(&mut self, absorbed: Self) -> Option<u32> {
        let is_older = absorbed.first_seen < self.first_seen;
        let (id, alias) = match (self.id, absorbed.id) {
            (0, id) | (id, 0) => (id, None),
            (own, other) if is_older => (other, Some(own)),
            (own, other) => (own, Some(other)),
        };
        self.id = id;
        self.aliases.extend(absorbed.aliases);
        self.aliases.extend(alias);
        self.account_count = self.account_count.saturating_add(absorbed.account_count);
        self.first_seen = self.first_seen.min(absorbed.first_seen);
        self.last_seen = self.last_seen.max(absorbed.last_seen);
        self.keys.extend(absorbed.keys);
        self.keys.truncate(MAX_KEYS_PER_CLUSTER);
        alias
    }
}

/// Mixes the bits of a word; a bijection (the finaliser of MurmurHash3 for 32 bits).
fn fmix32(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn link(clusters: &mut Clusters, name: &str, key: u64, accounts: &[u64], at: u32) -> Linked {
        clusters.link(name, key, accounts, at).unwrap()
    }

    #[test]
    fn keys_that_share_an_account_form_one_cluster() {
        let mut clusters = Clusters::default();
        let first = link(&mut clusters, "cluster_a", 1, &[10, 11, 12], 100);
        let second = link(&mut clusters, "cluster_b", 2, &[20, 21], 200);
        assert_ne!(first.id, second.id);
        assert_eq!(clusters.for_account(12).unwrap().id, first.id);
        assert_eq!(clusters.iter().count(), 2);
        // Account 10 is in both clusters, which become one.
        let merged = link(&mut clusters, "cluster_b", 2, &[21, 10, 22], 300);
        assert_eq!(merged.id, first.id, "the older cluster gives its id");
        assert_eq!(merged.merged, [second.id]);
        assert_eq!(clusters.iter().count(), 1);
        let cluster = clusters.for_account(20).unwrap();
        assert_eq!((cluster.account_count, cluster.first_seen, cluster.last_seen), (6, 100, 300));
        let mut keys: Vec<u64> = cluster.keys.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
        assert_eq!(clusters.for_key(2).unwrap().id, first.id);
        assert_eq!(clusters.for_account(99), None);
        assert_eq!(clusters.for_id(second.id), clusters.for_id(first.id));
        assert_eq!(clusters.aliases().collect::<Vec<_>>(), [(second.id, first.id)]);
    }

    #[test]
    fn accounts_beyond_the_node_limit_are_ignored() {
        let mut clusters = Clusters::default();
        let accounts: Vec<u64> = (0..MAX_NODES as u64 + 10).collect();
        clusters.link("cluster_a", 1, &accounts, 100);
        // The key is a node, too.
        assert_eq!(clusters.for_key(1).unwrap().account_count, MAX_NODES as u32 - 1);
        assert_eq!(clusters.link("cluster_a", 2, &[], 100), None);
    }

    #[test]
    fn a_chain_of_merges_keeps_every_id_and_restored_clusters_keep_them_without_their_bridge() {
        let mut clusters = Clusters::default();
        let ids: Vec<u32> = (1..=4)
            .map(|key| link(&mut clusters, "cluster_a", key, &[key * 10], key as u32).id)
            .collect();
        // Clusters 3 and 4 merge, then 2 and 3, then 1 and 2.
        for (key, account) in [(4, 30), (3, 20), (2, 10)] {
            link(&mut clusters, "cluster_a", key, &[account], 9);
        }
        let oldest = clusters.for_key(1).unwrap().clone();
        assert_eq!(oldest.id, ids[0]);
        for id in &ids {
            assert_eq!(clusters.for_id(*id), Some(&oldest));
        }
        // The host has deleted the links that joined the clusters, but has stored the cluster id of
        // each key.
        let mut restored = Clusters::resume(clusters.id_counter());
        for key in 2..=4 {
            restored.restore(oldest.id, "cluster_a", key, &[key * 10], key as u32).unwrap();
        }
        clusters.aliases().for_each(|(alias, id)| restored.add_alias(alias, id));
        assert_eq!(restored.iter().count(), 1);
        for id in &ids {
            assert_eq!(restored.for_id(*id).map(|cluster| cluster.id), Some(ids[0]));
        }
        let new = link(&mut restored, "cluster_a", 7, &[70], 50);
        assert!(!ids.contains(&new.id));
    }

    /// A flood of merges removes aliases of the attacker's cluster. A cluster with few aliases
    /// keeps them.
    #[test]
    fn surplus_aliases_are_those_of_the_cluster_with_the_most() {
        let mut clusters = Clusters::default();
        let victim = link(&mut clusters, "cluster_a", 1, &[1], 1).id;
        let treated = link(&mut clusters, "cluster_a", 2, &[2], 2).id;
        link(&mut clusters, "cluster_a", 2, &[1], 3);
        let mut forgotten = Vec::new();
        let mut first = 0;
        for key in 0..MAX_ALIASES as u64 + 20 {
            let (key, account, at) = (1_000 + key, 1_000_000 + key, 4 + key as u32);
            let id = link(&mut clusters, "cluster_b", key, &[account], at).id;
            let linked = link(&mut clusters, "cluster_b", key, &[1_000_000], at);
            forgotten.extend(linked.forgotten);
            if key == 1_001 {
                first = id;
            }
        }
        assert_eq!(clusters.aliases().count(), MAX_ALIASES);
        assert_eq!(forgotten.len(), 20);
        assert_eq!(forgotten[0], first);
        assert_eq!(clusters.for_id(first), None);
        assert_eq!(clusters.for_id(treated).map(|cluster| cluster.id), Some(victim));
    }

    proptest! {
        /// The graph agrees with a naive relabelling of nodes. Every id that [`Clusters::link`] has
        /// ever returned for a key still finds the cluster of this key.
        #[test]
        fn ids_find_their_key_for_ever_and_name_no_other_cluster(
            links in
                prop::collection::vec((0_u64..12, prop::collection::vec(0_u64..20, 0..3)), 1..60)
        ) {
            let mut clusters = Clusters::default();
            let mut label_of: BTreeMap<(bool, u64), usize> = BTreeMap::new();
            let mut given: Vec<(u32, u64)> = Vec::new();
            for (index, (key, accounts)) in links.iter().enumerate() {
                let linked = clusters.link("cluster_a", *key, accounts, index as u32).unwrap();
                given.push((linked.id, *key));
                let mut nodes = vec![(true, *key)];
                nodes.extend(accounts.iter().map(|account| (false, *account)));
                let old: HashSet<usize> =
                    nodes.iter().filter_map(|node| label_of.get(node).copied()).collect();
                // Labels of earlier links are smaller than `index`, so `old` does not contain
                // `index`.
                label_of.values_mut().filter(|label| old.contains(label)).for_each(|label| {
                    *label = index;
                });
                label_of.extend(nodes.into_iter().map(|node| (node, index)));
            }
            for (id, key) in &given {
                let found = clusters.for_id(*id).unwrap();
                prop_assert_eq!(Some(found), clusters.for_key(*key));
            }
            for (left, right) in given.iter().zip(given.iter().skip(1)) {
                let same = clusters.for_id(left.0) == clusters.for_id(right.0);
                prop_assert_eq!(same, label_of[&(true, left.1)] == label_of[&(true, right.1)]);
            }
        }
    }
}
