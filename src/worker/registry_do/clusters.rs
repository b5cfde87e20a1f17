//! Clusters: groups of accounts that share indicators.
//!
//! The table `link` has a row for each firing that added accounts to a key. A row is deleted 31
//! days after the last firing of the key in which one of its accounts took part. A new instance of
//! the object rebuilds the clusters from the rows (`cluster_restore.rs`). Parts of a cluster that
//! no link joins any more become separate clusters then. The table `cluster_key` stores the id of
//! each key's cluster, and `cluster_alias` the ids of clusters that have merged into others.

use std::collections::HashSet;

use hedgerow_core::api;
use hedgerow_core::correlate::cluster::{Cluster, Clusters, Linked};
use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::rules::policy::format_cluster_id;
use serde::Deserialize;
use serde_json::json;

use super::cluster_restore::{AliasRow, KeyRow, LinkRow, parse_id, restore};
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
pub(super) const LINK_RETENTION_SECONDS: u64 = 31 * 86_400;

/// Maximum number of clusters in a list.
const MAX_LISTED: usize = 200;

/// Maximum number of aliases of a cluster in an answer. A cluster can be found by its other
/// aliases, too.
const MAX_LISTED_ALIASES: usize = 64;

/// Minimum seconds between two extensions of a link. An extension updates the column `last`.
const EXTEND_INTERVAL_SECONDS: u32 = 3_600;

/// Minimum seconds between two deletions of old links.
const PRUNE_INTERVAL_SECONDS: u64 = 3_600;

impl Registry {
    /// Links the accounts of a firing to its key, except accounts that were split off. Extends an
    /// existing row only if one of its accounts takes part in the firing, so that a link ends when
    /// its accounts no longer take part. A row without accounts is always extended.
    pub(super) fn link(&self, firing: &FiringReport, key: u64) -> Result<(), ApiError> {
        self.prune_and_rebuild()?;
        let tables = self.tables()?;
        let split_off = tables.split_off_accounts()?;
        let is_admitted = |account: &&String| {
            parse_hash(account).is_some_and(|account| !split_off.contains(&account))
        };
        let accounts: Vec<&str> =
            firing.accounts.iter().filter(is_admitted).map(String::as_str).collect();
        let rows = tables.links_of_key(firing)?;
        let known: HashSet<&str> = rows.iter().flat_map(LinkRow::account_texts).collect();
        let added: Vec<&str> =
            accounts.iter().copied().filter(|account| !known.contains(account)).collect();
        let hashes: Vec<u64> = added.iter().filter_map(|account| parse_hash(account)).collect();
        let (linked, counter) = self.with_clusters(|clusters| {
            let linked = clusters.link(&firing.correlation, key, &hashes, firing.at);
            (linked, clusters.id_counter())
        })?;
        if rows.is_empty() || !added.is_empty() {
            tables.add_link(firing, &added.concat())?;
        }
        let took_part: HashSet<&str> = accounts.into_iter().collect();
        for row in &rows {
            let is_due = firing.at >= row.last.saturating_add(EXTEND_INTERVAL_SECONDS);
            // A row without accounts can never contain an account of the firing. So every firing of
            // the key extends the row, which keeps the key in its cluster.
            let takes_part = row.accounts.is_empty()
                || row.account_texts().any(|account| took_part.contains(account));
            if is_due && takes_part {
                tables.extend_link(row.id, firing.at)?;
            }
        }
        linked.map_or(Ok(()), |linked| tables.store_ids(&firing.key, &linked, counter))
    }

    /// Runs `work` with the clusters. Rebuilds them from the tables if they are not in memory.
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

    /// Returns the id of a key's cluster, 8 hex digits; `None` if no cluster contains the key.
    pub(super) fn cluster_id_for_key(&self, key: u64) -> Result<Option<String>, ApiError> {
        self.with_clusters(|clusters| {
            clusters.for_key(key).map(|cluster| format_cluster_id(cluster.id))
        })
    }

    /// Lists at most [`MAX_LISTED`] clusters without their traffic, the most recently seen first.
    pub(super) fn list_clusters(&self) -> HandlerResult {
        let clusters = self.with_clusters(|clusters| {
            let mut sorted: Vec<&Cluster> = clusters.iter().collect();
            sorted.sort_by_key(|cluster| (std::cmp::Reverse(cluster.last_seen), cluster.id));
            let summaries = sorted.into_iter().take(MAX_LISTED).map(summarize);
            summaries.map(|summary| api::ClusterInfo { summary, traffic: None }).collect()
        })?;
        Ok((200, json!(api::ClusterList { clusters })))
    }

    /// Returns the cluster with the id or alias `id`; `None` if `id` is malformed or unknown.
    pub(super) fn cluster_by_id(&self, id: &str) -> Result<Option<Cluster>, ApiError> {
        self.with_clusters(|clusters| find_by_id(clusters, id).cloned())
    }

    /// Answers with a cluster and its keys, but without its traffic. `id` is the cluster's id or an
    /// alias.
    pub(super) fn cluster(&self, id: &str) -> HandlerResult {
        let cluster = self.cluster_by_id(id)?.ok_or_else(|| unknown_cluster(id))?;
        let links = cluster.keys.iter().map(|(key, correlation)| api::ClusterLink {
            key: format!("{key:016x}"),
            correlation: correlation.clone(),
        });
        let (summary, links) = (summarize(&cluster), links.collect());
        let bridges = self.bridges(&cluster)?;
        Ok((200, json!(api::ClusterDetails { summary, links, bridges, traffic: None })))
    }

    /// Returns the current id of a cluster as 8 hex digits, by its id or an alias. Returns `id`
    /// itself if no cluster has it.
    pub(super) fn current_cluster_id(&self, id: &str) -> Result<String, ApiError> {
        let current =
            self.with_clusters(|clusters| find_by_id(clusters, id).map(|found| found.id))?;
        Ok(current.map_or_else(|| id.to_owned(), format_cluster_id))
    }

    /// Adds the aliases of all clusters to indicators that are to be published.
    pub(super) fn add_aliases(&self, indicators: &mut Indicators) -> Result<(), ApiError> {
        self.with_clusters(|clusters| {
            clusters.aliases().for_each(|(alias, id)| indicators.add_alias(alias, id));
        })
    }

    /// Returns the summary of the cluster with the id or alias `id`; `None` if `id` is unknown.
    pub(super) fn cluster_summary(
        &self,
        id: &str,
    ) -> Result<Option<api::ClusterSummary>, ApiError> {
        self.with_clusters(|clusters| find_by_id(clusters, id).map(summarize))
    }

    /// Deletes old links, at most once an hour. If links were deleted, the clusters are rebuilt
    /// when they are needed next.
    fn prune_and_rebuild(&self) -> Result<(), ApiError> {
        if now_seconds() >= self.links_pruned_at.get().saturating_add(PRUNE_INTERVAL_SECONDS) {
            self.links_pruned_at.set(now_seconds());
            if self.tables()?.delete_old_links()? {
                *self.clusters.borrow_mut() = None;
            }
        }
        Ok(())
    }
}

impl Tables {
    /// Returns all links, in the order in which they were added.
    pub(super) fn links(&self) -> Result<Vec<LinkRow>, ApiError> {
        let query = "SELECT id, correlation, key, at, last, accounts FROM link ORDER BY id";
        self.rows(query, Vec::new())
    }

    /// Returns the links of a firing's key and correlation.
    fn links_of_key(&self, firing: &FiringReport) -> Result<Vec<LinkRow>, ApiError> {
        let query = "SELECT id, correlation, key, at, last, accounts FROM link
            WHERE key = ? AND correlation = ? ORDER BY id";
        self.rows(query, vec![firing.key.as_str().into(), firing.correlation.as_str().into()])
    }

    /// Adds a link, and deletes the oldest links beyond [`MAX_LINKS`].
    fn add_link(&self, firing: &FiringReport, accounts: &str) -> Result<(), ApiError> {
        let query =
            "INSERT INTO link (correlation, key, at, last, accounts) VALUES (?1, ?2, ?3, ?3, ?4)";
        let (correlation, key) = (firing.correlation.as_str(), firing.key.as_str());
        let at = integer(firing.at.into());
        self.exec(query, vec![correlation.into(), key.into(), at, accounts.into()])?;
        let query = "DELETE FROM link WHERE id <= (SELECT MAX(id) FROM link) - ?";
        self.exec(query, vec![integer(MAX_LINKS)])
    }

    /// Sets the time `last` of a link to `at`, unless the stored time is later.
    fn extend_link(&self, id: u64, at: u32) -> Result<(), ApiError> {
        let query = "UPDATE link SET last = MAX(last, ?) WHERE id = ?";
        self.exec(query, vec![integer(at.into()), integer(id)])
    }

    /// Deletes expired links, expired rows of `split_off_accounts`, and unused ids and aliases.
    /// Returns whether a link has expired.
    fn delete_old_links(&self) -> Result<bool, ApiError> {
        #[derive(Deserialize)]
        struct Row {}
        let cutoff = || vec![integer(now_seconds().saturating_sub(LINK_RETENTION_SECONDS))];
        let expired: Option<Row> =
            self.row("SELECT id FROM link WHERE last < ? LIMIT 1", cutoff())?;
        self.exec("DELETE FROM link WHERE last < ?", cutoff())?;
        let now = vec![integer(now_seconds())];
        self.exec("DELETE FROM split_off_accounts WHERE until <= ?", now)?;
        // Do this even if no link has expired: `add_link` may have deleted links because there were
        // too many.
        self.prune_ids()?;
        Ok(expired.is_some())
    }

    /// Deletes the rows of `cluster_key` whose keys have no link, and the aliases of clusters
    /// without keys.
    fn prune_ids(&self) -> Result<(), ApiError> {
        let query = "DELETE FROM cluster_key WHERE key NOT IN (SELECT key FROM link)";
        self.exec(query, Vec::new())?;
        let query =
            "DELETE FROM cluster_alias WHERE cluster NOT IN (SELECT cluster FROM cluster_key)";
        self.exec(query, Vec::new())
    }

    /// Stores the changes of ids that a new link causes: the id of the key's cluster, new aliases,
    /// and the deletion of forgotten aliases. `counter` is the number from which the last id was
    /// made.
    fn store_ids(&self, key: &str, linked: &Linked, counter: Option<u32>) -> Result<(), ApiError> {
        let id = format_cluster_id(linked.id);
        let query = "INSERT INTO cluster_key (key, cluster, first) VALUES (?1, ?2, ?2)
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
        self.store_counter(counter)
    }

    /// Stores the number from which the last id was made, if it is known and has changed.
    fn store_counter(&self, counter: Option<u32>) -> Result<(), ApiError> {
        let stored = self.meta_number(META_ID_COUNTER);
        match counter.map(u64::from) {
            Some(counter) if stored != Some(counter) => {
                self.set_meta(META_ID_COUNTER, Some(&counter.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Builds the clusters from the tables. Stores the ids and aliases that differ from the tables:
    /// for example, ids of keys that have no row yet, and ids of clusters that have separated.
    fn clusters(&self) -> Result<Clusters, ApiError> {
        let keys: Vec<KeyRow> =
            self.rows("SELECT key, cluster, first FROM cluster_key", Vec::new())?;
        let aliases: Vec<AliasRow> =
            self.rows("SELECT id, cluster FROM cluster_alias ORDER BY rowid", Vec::new())?;
        let counter = self.meta_number(META_ID_COUNTER).and_then(|counter| counter.try_into().ok());
        let restored =
            restore(&self.links()?, &keys, &aliases, &self.split_off_accounts()?, counter);
        for KeyRow { key, cluster, first } in restored.changed_keys {
            let query = "INSERT OR REPLACE INTO cluster_key (key, cluster, first) VALUES (?, ?, ?)";
            self.exec(query, vec![key.into(), cluster.into(), first.into()])?;
        }
        for id in restored.ended_aliases {
            self.exec("DELETE FROM cluster_alias WHERE id = ?", vec![id.into()])?;
        }
        for AliasRow { id, cluster } in restored.changed_aliases {
            let query = "INSERT OR REPLACE INTO cluster_alias (id, cluster) VALUES (?, ?)";
            self.exec(query, vec![id.into(), cluster.into()])?;
        }
        self.store_counter(restored.clusters.id_counter())?;
        Ok(restored.clusters)
    }
}

/// Name in `meta` of the number from which the last id of a cluster was made.
const META_ID_COUNTER: &str = "clusters.counter";

/// Returns the cluster with the id or alias `id`, 8 hex digits; `None` if `id` is malformed or
/// unknown.
fn find_by_id<'c>(clusters: &'c Clusters, id: &str) -> Option<&'c Cluster> {
    clusters.for_id(parse_id(id)?)
}

/// Returns the error for an unknown cluster.
pub(super) fn unknown_cluster(id: &str) -> ApiError {
    let id: String = id.chars().take(8).collect();
    let message = format!("unknown cluster '{id}'");
    let remedy = "`hedgerow clusters list` lists all clusters; a cluster ends 31 days after its \
        last firing";
    ApiError::new(404, "not_found", message, remedy)
}

/// Returns the summary of a cluster in the form of the API.
pub(super) fn summarize(cluster: &Cluster) -> api::ClusterSummary {
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
