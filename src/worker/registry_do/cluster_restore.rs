//! Rebuilds the clusters from the stored links, and gives them their previous ids.
//!
//! A cluster consists of keys and accounts that links connect. When the last link between two parts
//! of a merged cluster ends, the parts become separate clusters. The table `cluster_key` stores,
//! for each key, the id of the cluster to which the key was first added. So a part gets back the id
//! that it had before the merge.

use std::collections::{BTreeMap, HashMap, HashSet};

use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::rules::policy::format_cluster_id;
use serde::Deserialize;

use super::indicators::parse_hash;

/// A row of the table `link`: a key, and the accounts that it links.
#[derive(Clone, Debug, Deserialize)]
pub struct LinkRow {
    /// Number of the row. A later row has a higher number.
    pub id: u64,
    pub correlation: String,
    /// Key, 16 hex digits.
    pub key: String,
    /// Time of the firing, in seconds since the epoch.
    pub at: u32,
    /// Time of the last firing in which one of the accounts took part, in seconds since the epoch.
    /// In a new row, it equals `at`.
    pub last: u32,
    /// Accounts, 16 hex digits each, without a separator.
    pub accounts: String,
}

/// A row of the table `cluster_key`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeyRow {
    /// Key, 16 hex digits.
    pub key: String,
    /// Id of the key's cluster now, 8 hex digits.
    pub cluster: String,
    /// Id of the key's cluster when the key was added, 8 hex digits.
    pub first: String,
}

/// A row of the table `cluster_alias`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AliasRow {
    /// Id of a cluster that has merged into another one, 8 hex digits.
    pub id: String,
    /// Id of the cluster that contains the merged cluster now, 8 hex digits.
    pub cluster: String,
}

/// The rebuilt clusters, and the table rows that must be stored or deleted.
#[derive(Debug, Default)]
pub struct Restored {
    pub clusters: Clusters,
    pub changed_keys: Vec<KeyRow>,
    pub changed_aliases: Vec<AliasRow>,
    /// Ids whose rows in `cluster_alias` must be deleted.
    pub ended_aliases: Vec<String>,
}

impl LinkRow {
    /// Returns the accounts as hashes, without malformed accounts.
    pub fn account_hashes(&self) -> Vec<u64> {
        self.account_texts().filter_map(parse_hash).collect()
    }

    /// Returns the accounts, 16 hex digits each.
    pub fn account_texts(&self) -> impl Iterator<Item = &str> {
        let chunks = self.accounts.as_bytes().chunks(ACCOUNT_DIGITS);
        chunks.filter_map(|hex| std::str::from_utf8(hex).ok())
    }
}

/// Number of hex digits of an account in a link.
pub const ACCOUNT_DIGITS: usize = 16;

/// A connected component: a cluster before it gets its id.
#[derive(Debug, Default)]
struct Component<'r> {
    first_seen: u32,
    keys: Vec<&'r KeyRow>,
    /// The id that the component gets; 0 if it needs a new one.
    id: u32,
}

/// Rebuilds the clusters: adds `links` in the given order, without the accounts in `split_off`.
/// `counter` is the number from which the last id was made; `None` if no id was made yet.
pub fn restore(
    links: &[LinkRow],
    keys: &[KeyRow],
    aliases: &[AliasRow],
    split_off: &HashSet<u64>,
    counter: Option<u32>,
) -> Restored {
    let links: Vec<(u64, &LinkRow)> =
        links.iter().filter_map(|link| Some((parse_hash(&link.key)?, link))).collect();
    let linked = |link: &LinkRow| -> Vec<u64> {
        link.account_hashes().into_iter().filter(|account| !split_off.contains(account)).collect()
    };
    let mut graph = Clusters::default();
    for (key, link) in &links {
        graph.link(&link.correlation, *key, &linked(link), link.at);
    }
    let label = |key: u64| graph.for_key(key).map(|cluster| cluster.id);
    let mut components: BTreeMap<u32, Component<'_>> = BTreeMap::new();
    for row in keys {
        let Some(cluster) = parse_hash(&row.key).and_then(|key| graph.for_key(key)) else {
            continue;
        };
        let component = components.entry(cluster.id).or_default();
        component.first_seen = cluster.first_seen;
        component.keys.push(row);
    }
    assign_ids(&mut components);
    let mut clusters = Clusters::resume(counter);
    for (key, link) in &links {
        let component = label(*key).and_then(|label| components.get(&label));
        let id = component.map_or(0, |component| component.id);
        clusters.restore(id, &link.correlation, *key, &linked(link), link.at);
        clusters.link(&link.correlation, *key, &[], link.last);
    }
    restore_aliases(&mut clusters, keys, aliases);
    with_changes(clusters, &links, keys, aliases)
}

/// Gives each component an id from the rows of its keys. First, components get a current id that
/// was also the first id of its key. Each remaining component then gets any current id of its keys,
/// or else any first id. Each id is given only once; of several components with the same choice,
/// the oldest gets the id. A component without a free id keeps the id 0.
fn assign_ids(components: &mut BTreeMap<u32, Component<'_>>) {
    let mut order: Vec<(u32, u32)> =
        components.iter().map(|(label, component)| (component.first_seen, *label)).collect();
    order.sort_unstable();
    let mut taken = HashSet::new();
    // If a merged cluster separates, the part that had the id before the merge keeps it.
    let choices: [fn(&KeyRow) -> Option<u32>; 3] = [
        |row| parse_id(&row.cluster).filter(|_| row.cluster == row.first),
        |row| parse_id(&row.cluster),
        |row| parse_id(&row.first),
    ];
    for choice in choices {
        for (_, label) in &order {
            let Some(component) = components.get_mut(label).filter(|found| found.id == 0) else {
                continue;
            };
            let ids = component.keys.iter().filter_map(|row| choice(row));
            if let Some(id) = ids.into_iter().find(|id| !taken.contains(id)) {
                taken.insert(id);
                component.id = id;
            }
        }
    }
}

/// Adds each alias that is not the id of a cluster. If the alias is the first id of a key, the
/// alias now belongs to the cluster of that key. Otherwise, the alias stays with its previous
/// cluster.
fn restore_aliases(clusters: &mut Clusters, keys: &[KeyRow], aliases: &[AliasRow]) {
    let mut current_by_first: HashMap<&str, u32> = HashMap::new();
    for row in keys {
        let cluster = parse_hash(&row.key).and_then(|key| clusters.for_key(key));
        if let Some(cluster) = cluster {
            current_by_first.entry(&row.first).or_insert(cluster.id);
        }
    }
    for AliasRow { id, cluster } in aliases {
        let (Some(alias), Some(cluster)) = (parse_id(id), parse_id(cluster)) else { continue };
        let current = current_by_first.get(id.as_str()).copied().unwrap_or(cluster);
        clusters.add_alias(alias, current);
    }
    // If the keys of a cluster had different ids, the other ids become aliases.
    let ids: Vec<(u32, u32)> = keys
        .iter()
        .filter_map(|row| {
            let cluster = clusters.for_key(parse_hash(&row.key)?)?;
            Some((parse_id(&row.cluster)?, cluster.id))
        })
        .collect();
    for (id, current) in ids {
        clusters.add_alias(id, current);
    }
}

/// Compares the rebuilt clusters with the stored rows. Returns the clusters, and the rows that must
/// be stored or deleted.
fn with_changes(
    clusters: Clusters,
    links: &[(u64, &LinkRow)],
    keys: &[KeyRow],
    aliases: &[AliasRow],
) -> Restored {
    let stored: HashMap<&str, &KeyRow> = keys.iter().map(|row| (row.key.as_str(), row)).collect();
    let mut seen = HashSet::new();
    let mut changed_keys = Vec::new();
    for (key, link) in links {
        let Some(cluster) = clusters.for_key(*key).filter(|_| seen.insert(*key)) else { continue };
        let cluster = format_cluster_id(cluster.id);
        let known = stored.get(link.key.as_str());
        if known.is_none_or(|row| row.cluster != cluster) {
            let first = known.map_or_else(|| cluster.clone(), |row| row.first.clone());
            changed_keys.push(KeyRow { key: link.key.clone(), cluster, first });
        }
    }
    let wanted: HashMap<String, String> = clusters
        .aliases()
        .map(|(alias, id)| (format_cluster_id(alias), format_cluster_id(id)))
        .collect();
    let known: HashMap<&str, &str> =
        aliases.iter().map(|row| (row.id.as_str(), row.cluster.as_str())).collect();
    let changed = wanted.iter().filter(|(id, cluster)| {
        known.get(id.as_str()).is_none_or(|known| known != &cluster.as_str())
    });
    let changed_aliases = changed
        .map(|(id, cluster)| AliasRow { id: id.clone(), cluster: cluster.clone() })
        .collect();
    let ended = aliases.iter().filter(|row| !wanted.contains_key(&row.id));
    let ended_aliases = ended.map(|row| row.id.clone()).collect();
    Restored { clusters, changed_keys, changed_aliases, ended_aliases }
}

/// Parses the id of a cluster; `None` if it is not 8 hex digits.
pub fn parse_id(id: &str) -> Option<u32> {
    u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(correlation: &str, key: u64, accounts: &[u64], at: u32, last: u32) -> LinkRow {
        LinkRow {
            id: u64::from(at),
            correlation: correlation.to_owned(),
            key: format!("{key:016x}"),
            at,
            last,
            accounts: accounts.iter().map(|account| format!("{account:016x}")).collect(),
        }
    }

    fn key_row(key: u64, cluster: u32, first: u32) -> KeyRow {
        let [cluster, first] = [cluster, first].map(format_cluster_id);
        KeyRow { key: format!("{key:016x}"), cluster, first }
    }

    fn alias_row(id: u32, cluster: u32) -> AliasRow {
        AliasRow { id: format_cluster_id(id), cluster: format_cluster_id(cluster) }
    }

    fn restored(links: &[LinkRow], keys: &[KeyRow], aliases: &[AliasRow]) -> Restored {
        restore(links, keys, aliases, &HashSet::new(), Some(99))
    }

    fn id_of(restored: &Restored, key: u64) -> u32 {
        restored.clusters.for_key(key).map_or(0, |cluster| cluster.id)
    }

    #[test]
    fn stored_links_rebuild_the_same_clusters() {
        let mut online = Clusters::default();
        let first = online.link("cluster_a", 1, &[10, 11], 100).unwrap().id;
        let second = online.link("cluster_b", 2, &[20, 21], 200).unwrap().id;
        online.link("cluster_b", 2, &[10], 300);
        online.link("cluster_b", 2, &[], 400);
        let links = [
            row("cluster_a", 1, &[10, 11], 100, 100),
            row("cluster_b", 2, &[20, 21], 200, 200),
            row("cluster_b", 2, &[10], 300, 400),
        ];
        let keys = [key_row(1, first, first), key_row(2, first, second)];
        let aliases = [alias_row(second, first)];
        let rebuilt = restore(&links, &keys, &aliases, &HashSet::new(), online.id_counter());
        assert!(rebuilt.changed_keys.is_empty() && rebuilt.changed_aliases.is_empty());
        assert!(rebuilt.ended_aliases.is_empty());
        let cluster = rebuilt.clusters.for_key(1).unwrap();
        assert_eq!((cluster.account_count, cluster.last_seen), (4, 400));
        assert_eq!((cluster.id, cluster.aliases.as_slice()), (first, [second].as_slice()));
        assert_eq!(rebuilt.clusters.for_id(second), Some(cluster));
    }

    /// The first key of the cluster had no firing for a month, so only rows of the second key are
    /// left.
    #[test]
    fn the_id_outlives_the_links_that_made_it() {
        let links = [row("cluster_b", 2, &[20, 21], 200, 900)];
        let rebuilt = restored(&links, &[key_row(2, 5, 6)], &[alias_row(7, 5), alias_row(6, 5)]);
        assert_eq!(id_of(&rebuilt, 2), 5);
        for alias in [6, 7] {
            assert_eq!(rebuilt.clusters.for_id(alias), rebuilt.clusters.for_id(5));
        }
    }

    #[test]
    fn clusters_separate_when_the_link_between_them_has_ended_or_its_account_is_split_off() {
        let sides =
            [row("cluster_a", 1, &[10, 11], 100, 900), row("cluster_b", 2, &[20, 10], 200, 900)];
        let keys = [key_row(1, 5, 5), key_row(2, 5, 6)];
        let aliases = [alias_row(6, 5), alias_row(7, 5), alias_row(8, 6)];
        let merged = restored(&sides, &keys, &aliases);
        assert_eq!((id_of(&merged, 1), id_of(&merged, 2)), (5, 5));
        let without_account = restore(&sides, &keys, &aliases, &HashSet::from([10]), Some(99));
        let ended = [sides[0].clone(), row("cluster_b", 2, &[20], 200, 900)];
        for split in [without_account, restored(&ended, &keys, &aliases)] {
            assert_eq!((id_of(&split, 1), id_of(&split, 2)), (5, 6), "each has its own id again");
            assert_eq!(split.changed_keys, [key_row(2, 6, 6)]);
            assert_eq!(split.ended_aliases, [format_cluster_id(6)]);
            assert_eq!(split.clusters.for_id(7).map(|cluster| cluster.id), Some(5));
            assert_eq!(split.clusters.for_id(8).map(|cluster| cluster.id), Some(6));
        }
    }

    #[test]
    fn of_two_parts_the_one_that_had_the_id_first_keeps_it_and_the_other_gets_a_new_one() {
        // Both keys were added to cluster 5. A third key, which has no links any more, created it.
        let links = [row("cluster_a", 1, &[10], 300, 900), row("cluster_a", 2, &[20], 200, 900)];
        let split = restored(&links, &[key_row(1, 5, 5), key_row(2, 5, 5)], &[]);
        assert_eq!(id_of(&split, 2), 5, "the older part");
        assert!(![0, 5].contains(&id_of(&split, 1)));
        let split = restored(&links, &[key_row(1, 5, 5), key_row(2, 5, 7)], &[]);
        assert_eq!((id_of(&split, 1), id_of(&split, 2)), (5, 7));
    }

    #[test]
    fn keys_without_a_stored_id_get_one() {
        let links = [row("cluster_a", 1, &[10], 100, 100), row("cluster_a", 2, &[20], 1, 1)];
        let rebuilt = restored(&links, &[key_row(1, 5, 5)], &[]);
        let id = id_of(&rebuilt, 2);
        assert_eq!(rebuilt.changed_keys, [key_row(2, id, id)]);
        assert_ne!(id, 5);
    }
}
