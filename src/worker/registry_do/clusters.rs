//! Clusters: accounts that share indicators.
//!
//! The table `link` has a row for each firing that added accounts to a cluster. A new instance of
//! the object rebuilds the clusters from the rows, in their order. The ids do not depend on the
//! rows that are left: the table `cluster_key` has the id of each key's cluster, and
//! `cluster_alias` the ids of clusters that have merged into others. Both are kept as long as the
//! cluster has a link.

use std::collections::HashMap;

use hedgerow_core::api;
use hedgerow_core::correlate::cluster::{Cluster, Clusters, Linked};
use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::rules::policy::format_cluster_id;
use serde::Deserialize;
use serde_json::json;

use super::indicators::parse_hash;
use super::tables::Tables;
use super::{HandlerResult, Registry};
use crate::admin_api::error::ApiError;
use crate::correlator_do::firing_report::FiringReport;
use crate::platform::clock::now_seconds;
use crate::platform::sql::integer;

/// Maximum number of links.
pub(super) const MAX_LINKS: u64 = 20_000;

/// Seconds for which a link is kept after its last firing.
const LINK_RETENTION_SECONDS: u64 = 31 * 86_400;

/// Maximum number of clusters in a list.
const MAX_LISTED: usize = 200;

/// Maximum number of aliases of a cluster in an answer. All of them find the cluster.
const MAX_LISTED_ALIASES: usize = 64;

/// Seconds between two deletions of old links.
const PRUNE_INTERVAL_SECONDS: u64 = 3_600;

/// A row of the table `link`: a key, and accounts that it links.
#[derive(Deserialize)]
struct LinkRow {
    correlation: String,
    /// Key, 16 hex digits.
    key: String,
    /// Time of the firing, in seconds since the epoch.
    at: u32,
    /// Time of the last firing that extended the row, at first `at`, in seconds since the epoch.
    last: u32,
    /// Accounts, 16 hex digits each.
    accounts: String,
}

/// A row of the table `cluster_key`: the id of a key's cluster.
#[derive(Deserialize)]
struct KeyRow {
    /// Key, 16 hex digits.
    key: String,
    /// Id, 8 hex digits.
    cluster: String,
}

/// A row of the table `cluster_alias`.
#[derive(Deserialize)]
struct AliasRow {
    /// Id of a cluster that has merged into another one, 8 hex digits.
    id: String,
    /// Id of that one, 8 hex digits.
    cluster: String,
}

impl Registry {
    /// Links the accounts of a firing. A firing without new accounts only extends the last row.
    pub(super) fn link(&self, firing: &FiringReport, key: u64) -> Result<(), ApiError> {
        self.prune_links()?;
        let correlation = firing.correlation.as_str();
        let added = self.with_clusters(|clusters| {
            let cluster = clusters.for_key(key);
            let is_linked = cluster.is_some_and(|cluster| is_linked_by(cluster, key, correlation));
            let cluster_id = cluster.map(|cluster| cluster.id);
            let is_new = |account: &&String| {
                let cluster = parse_hash(account).and_then(|account| clusters.for_account(account));
                cluster_id.is_none() || cluster.map(|cluster| cluster.id) != cluster_id
            };
            let added: Vec<String> = firing.accounts.iter().filter(is_new).cloned().collect();
            let hashes: Vec<u64> = added.iter().filter_map(|account| parse_hash(account)).collect();
            let linked = clusters.link(correlation, key, &hashes, firing.at);
            let added = (!is_linked || !added.is_empty()).then(|| added.concat());
            (added, linked, clusters.id_counter())
        })?;
        let (added, linked, counter) = added;
        let tables = self.tables()?;
        match added {
            Some(accounts) => tables.add_link(firing, &accounts)?,
            None => tables.extend_link(firing)?,
        }
        linked.map_or(Ok(()), |linked| tables.store_ids(&firing.key, &linked, counter))
    }

    /// Runs `work` with the clusters, which are rebuilt from the table if necessary.
    pub(super) fn with_clusters<T>(
        &self,
        work: impl FnOnce(&mut Clusters) -> T,
    ) -> Result<T, ApiError> {
        if self.clusters.borrow().is_none() {
            let clusters = self.tables()?.clusters()?;
            *self.clusters.borrow_mut() = Some(clusters);
        }
        let mut clusters = self.clusters.borrow_mut();
        Ok(work(clusters.get_or_insert_default()))
    }

    /// Returns the id of a key's cluster, 8 hex digits.
    pub(super) fn cluster_id_for_key(&self, key: u64) -> Result<Option<String>, ApiError> {
        self.with_clusters(|clusters| {
            clusters.for_key(key).map(|cluster| format_cluster_id(cluster.id))
        })
    }

    /// Lists the clusters, last seen first, without their traffic.
    pub(super) fn list_clusters(&self) -> HandlerResult {
        let clusters = self.with_clusters(|clusters| {
            let mut sorted: Vec<&Cluster> = clusters.iter().collect();
            sorted.sort_by_key(|cluster| (std::cmp::Reverse(cluster.last_seen), cluster.id));
            let summaries = sorted.into_iter().take(MAX_LISTED).map(summarize);
            summaries.map(|summary| api::ClusterInfo { summary, traffic: None }).collect()
        })?;
        Ok((200, json!(api::ClusterList { clusters })))
    }

    /// Returns a cluster, by its id or an alias, with its keys, without its traffic.
    pub(super) fn cluster(&self, id: &str) -> HandlerResult {
        let not_found = || {
            let id: String = id.chars().take(8).collect();
            let message = format!("unknown cluster '{id}'");
            let remedy = "`hedgerow clusters list` lists all clusters; a cluster ends 31 days \
                after its last firing";
            ApiError::new(404, "not_found", message, remedy)
        };
        let cluster = self.with_clusters(|clusters| find_by_id(clusters, id).cloned())?;
        let cluster = cluster.ok_or_else(not_found)?;
        let links = cluster.keys.iter().map(|(key, correlation)| api::ClusterLink {
            key: format!("{key:016x}"),
            correlation: correlation.clone(),
        });
        let (summary, links) = (summarize(&cluster), links.collect());
        Ok((200, json!(api::ClusterDetails { summary, links, traffic: None })))
    }

    /// Returns the current id of a cluster, by its id or an alias, 8 hex digits; `id` itself if it
    /// is unknown.
    pub(super) fn current_cluster_id(&self, id: &str) -> Result<String, ApiError> {
        let current =
            self.with_clusters(|clusters| find_by_id(clusters, id).map(|found| found.id))?;
        Ok(current.map_or_else(|| id.to_owned(), format_cluster_id))
    }

    /// Adds all aliases of clusters to indicators that are published.
    pub(super) fn add_aliases(&self, indicators: &mut Indicators) -> Result<(), ApiError> {
        self.with_clusters(|clusters| {
            clusters.aliases().for_each(|(alias, id)| indicators.add_alias(alias, id));
        })
    }

    /// Returns the summary of a cluster; `None` for an unknown id.
    pub(super) fn cluster_summary(
        &self,
        id: &str,
    ) -> Result<Option<api::ClusterSummary>, ApiError> {
        self.with_clusters(|clusters| find_by_id(clusters, id).map(summarize))
    }

    /// Deletes old links, at most once an hour. The clusters are then rebuilt without them.
    fn prune_links(&self) -> Result<(), ApiError> {
        if now_seconds() >= self.links_pruned_at.get().saturating_add(PRUNE_INTERVAL_SECONDS) {
            self.links_pruned_at.set(now_seconds());
            if self.tables()?.prune_links()? {
                *self.clusters.borrow_mut() = None;
            }
        }
        Ok(())
    }
}

impl Tables {
    /// Returns all links, in the order in which they were added.
    fn links(&self) -> Result<Vec<LinkRow>, ApiError> {
        self.rows("SELECT correlation, key, at, last, accounts FROM link ORDER BY id", Vec::new())
    }

    /// Adds a link, and deletes the oldest link if there are too many.
    fn add_link(&self, firing: &FiringReport, accounts: &str) -> Result<(), ApiError> {
        let query =
            "INSERT INTO link (correlation, key, at, last, accounts) VALUES (?1, ?2, ?3, ?3, ?4)";
        let (correlation, key) = (firing.correlation.as_str(), firing.key.as_str());
        let at = integer(firing.at.into());
        self.exec(query, vec![correlation.into(), key.into(), at, accounts.into()])?;
        let query = "DELETE FROM link WHERE id <= (SELECT MAX(id) FROM link) - ?";
        self.exec(query, vec![integer(MAX_LINKS)])
    }

    /// Sets the last time of the newest link of a firing's key and correlation.
    fn extend_link(&self, firing: &FiringReport) -> Result<(), ApiError> {
        let query = "UPDATE link SET last = MAX(last, ?) WHERE id =
            (SELECT MAX(id) FROM link WHERE key = ? AND correlation = ?)";
        let (correlation, key) = (firing.correlation.as_str(), firing.key.as_str());
        self.exec(query, vec![integer(firing.at.into()), key.into(), correlation.into()])
    }

    /// Deletes old links, and returns whether any link was deleted.
    fn prune_links(&self) -> Result<bool, ApiError> {
        #[derive(Deserialize)]
        struct Row {}
        let cutoff = || vec![integer(now_seconds().saturating_sub(LINK_RETENTION_SECONDS))];
        let expired: Option<Row> =
            self.row("SELECT id FROM link WHERE last < ? LIMIT 1", cutoff())?;
        self.exec("DELETE FROM link WHERE last < ?", cutoff())?;
        // Also after links were deleted because there were too many.
        self.prune_ids()?;
        Ok(expired.is_some())
    }

    /// Deletes the ids of keys without links, and the aliases of clusters without keys.
    fn prune_ids(&self) -> Result<(), ApiError> {
        let query = "DELETE FROM cluster_key WHERE key NOT IN (SELECT key FROM link)";
        self.exec(query, Vec::new())?;
        let query =
            "DELETE FROM cluster_alias WHERE cluster NOT IN (SELECT cluster FROM cluster_key)";
        self.exec(query, Vec::new())
    }

    /// Stores the effect of a link on ids: the id of the key's cluster, and new aliases. `counter`
    /// is that of the ids.
    fn store_ids(&self, key: &str, linked: &Linked, counter: Option<u32>) -> Result<(), ApiError> {
        let id = format_cluster_id(linked.id);
        let query = "INSERT INTO cluster_key (key, cluster) VALUES (?1, ?2)
            ON CONFLICT (key) DO UPDATE SET cluster = ?2 WHERE cluster <> ?2";
        self.exec(query, vec![key.into(), id.as_str().into()])?;
        for merged in &linked.merged {
            let merged = format_cluster_id(*merged);
            let ids = || vec![id.as_str().into(), merged.as_str().into()];
            self.exec("UPDATE cluster_key SET cluster = ? WHERE cluster = ?", ids())?;
            self.exec("UPDATE cluster_alias SET cluster = ? WHERE cluster = ?", ids())?;
            let query = "INSERT OR REPLACE INTO cluster_alias (cluster, id) VALUES (?, ?)";
            self.exec(query, ids())?;
        }
        for alias in &linked.forgotten {
            let alias = format_cluster_id(*alias);
            self.exec("DELETE FROM cluster_alias WHERE id = ?", vec![alias.into()])?;
        }
        let stored = self.meta_number(META_ID_COUNTER);
        match counter.map(u64::from) {
            Some(counter) if stored != Some(counter) => {
                self.set_meta(META_ID_COUNTER, Some(&counter.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Builds the clusters from the tables. Ids that keys of an earlier version do not have yet are
    /// made, and stored.
    fn clusters(&self) -> Result<Clusters, ApiError> {
        let keys = self.rows("SELECT key, cluster FROM cluster_key", Vec::new())?;
        let aliases =
            self.rows("SELECT id, cluster FROM cluster_alias ORDER BY rowid", Vec::new())?;
        let counter = self.meta_number(META_ID_COUNTER).and_then(|counter| counter.try_into().ok());
        let (clusters, made) = build_clusters(self.links()?, keys, aliases, counter);
        for (key, linked) in made {
            self.store_ids(&key, &linked, clusters.id_counter())?;
        }
        Ok(clusters)
    }
}

/// Name of the number from which the last id of a cluster was made.
const META_ID_COUNTER: &str = "clusters.counter";

/// Builds the clusters that the links, in their order, result in. Also returns the keys whose ids
/// are not stored as they are now, with their clusters.
fn build_clusters(
    links: Vec<LinkRow>,
    keys: Vec<KeyRow>,
    aliases: Vec<AliasRow>,
    counter: Option<u32>,
) -> (Clusters, Vec<(String, Linked)>) {
    let mut clusters = Clusters::resume(counter);
    let keys = keys.into_iter().map(|row| (row.key, parse_id(&row.cluster).unwrap_or(0)));
    let id_by_key: HashMap<String, u32> = keys.collect();
    let mut changed = Vec::new();
    for LinkRow { correlation, key: key_text, at, last, accounts } in links {
        let Some(key) = parse_hash(&key_text) else { continue };
        let accounts = accounts.as_bytes().chunks(16);
        let accounts: Vec<u64> =
            accounts.filter_map(|hex| parse_hash(std::str::from_utf8(hex).ok()?)).collect();
        let id = id_by_key.get(&key_text).copied().unwrap_or(0);
        let linked = clusters.restore(id, &correlation, key, &accounts, at);
        clusters.link(&correlation, key, &[], last);
        if let Some(linked) = linked.filter(|linked| id == 0 || !linked.merged.is_empty()) {
            changed.push((key_text, linked));
        }
    }
    for AliasRow { id: alias, cluster } in aliases {
        if let (Some(alias), Some(id)) = (parse_id(&alias), parse_id(&cluster)) {
            clusters.add_alias(alias, id);
        }
    }
    (clusters, changed)
}

/// Parses the id of a cluster; `None` if it is not 8 hex digits.
fn parse_id(id: &str) -> Option<u32> {
    u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 8)
}

/// Returns whether a correlation links the cluster by `key`.
fn is_linked_by(cluster: &Cluster, key: u64, correlation: &str) -> bool {
    cluster.keys.iter().any(|(cluster_key, name)| *cluster_key == key && name == correlation)
}

/// Returns the cluster with an id or an alias of 8 hex digits.
fn find_by_id<'c>(clusters: &'c Clusters, id: &str) -> Option<&'c Cluster> {
    clusters.for_id(parse_id(id)?)
}

/// Returns a cluster as the API lists it.
fn summarize(cluster: &Cluster) -> api::ClusterSummary {
    let mut correlations: Vec<String> = cluster.keys.iter().map(|(_, name)| name.clone()).collect();
    correlations.sort_unstable();
    correlations.dedup();
    let aliases = cluster.aliases.iter().rev().take(MAX_LISTED_ALIASES);
    api::ClusterSummary {
        id: format_cluster_id(cluster.id),
        aliases: aliases.map(|alias| format_cluster_id(*alias)).collect(),
        accounts: cluster.account_count as u64,
        keys: cluster.keys.len() as u64,
        correlations,
        first: cluster.first_seen.into(),
        last: cluster.last_seen.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(correlation: &str, key: u64, accounts: &[u64], at: u32, last: u32) -> LinkRow {
        LinkRow {
            correlation: correlation.to_owned(),
            key: format!("{key:016x}"),
            at,
            last,
            accounts: accounts.iter().map(|account| format!("{account:016x}")).collect(),
        }
    }

    fn key_row(key: u64, id: u32) -> KeyRow {
        KeyRow { key: format!("{key:016x}"), cluster: format_cluster_id(id) }
    }

    #[test]
    fn stored_links_rebuild_the_same_clusters() {
        let mut online = Clusters::default();
        let first = online.link("cluster_a", 1, &[10, 11], 100).unwrap().id;
        let second = online.link("cluster_b", 2, &[20, 21], 200).unwrap().id;
        online.link("cluster_b", 2, &[10], 300);
        online.link("cluster_b", 2, &[], 400);
        let links = vec![
            row("cluster_a", 1, &[10, 11], 100, 100),
            row("cluster_b", 2, &[20, 21], 200, 200),
            row("cluster_b", 2, &[10], 300, 400),
        ];
        let alias = AliasRow { id: format_cluster_id(second), cluster: format_cluster_id(first) };
        let keys = vec![key_row(1, first), key_row(2, first)];
        let (rebuilt, changed) = build_clusters(links, keys, vec![alias], online.id_counter());
        assert_eq!(changed, []);
        let cluster = rebuilt.for_key(1).unwrap();
        assert_eq!((cluster.account_count, cluster.last_seen), (4, 400));
        assert_eq!((cluster.id, cluster.aliases.as_slice()), (first, [second].as_slice()));
        for id in [first, second] {
            assert_eq!(find_by_id(&rebuilt, &format_cluster_id(id)), Some(cluster));
        }
        assert_eq!(find_by_id(&rebuilt, "1"), None);
    }

    /// After a month without the first key, only rows of the second one are left.
    #[test]
    fn the_id_outlives_the_links_that_made_it() {
        let links = vec![row("cluster_b", 2, &[20, 21], 200, 900)];
        let alias = AliasRow { id: "00000007".to_owned(), cluster: "00000005".to_owned() };
        let (rebuilt, _) = build_clusters(links, vec![key_row(2, 5)], vec![alias], Some(9));
        assert_eq!(rebuilt.for_key(2).map(|cluster| cluster.id), Some(5));
        assert_eq!(rebuilt.for_id(7), rebuilt.for_id(5));
    }

    #[test]
    fn keys_without_a_stored_id_get_one() {
        let links = vec![row("cluster_a", 1, &[10], 100, 100), row("cluster_a", 2, &[20], 1, 1)];
        let (rebuilt, changed) = build_clusters(links, vec![key_row(1, 5)], Vec::new(), None);
        let [(key, linked)] = changed.as_slice() else { panic!("{changed:?}") };
        assert_eq!((key.as_str(), linked.id), ("0000000000000002", rebuilt.for_key(2).unwrap().id));
        assert_ne!(linked.id, 5);
    }
}
