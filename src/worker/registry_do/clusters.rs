//! Clusters: accounts that share indicators.
//!
//! The table `link` has a row for each firing that added accounts to a cluster. A new instance of
//! the object rebuilds the clusters from the rows, in their order, so that ids stay the same.

use hedgerow_core::api;
use hedgerow_core::correlate::cluster::{Cluster, Clusters};
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
            clusters.link(correlation, key, &hashes, firing.at);
            (!is_linked || !added.is_empty()).then(|| added.concat())
        })?;
        match added {
            Some(accounts) => self.tables()?.add_link(firing, &accounts),
            None => self.tables()?.extend_link(firing),
        }
    }

    /// Runs `work` with the clusters, which are rebuilt from the table if necessary.
    pub(super) fn with_clusters<T>(
        &self,
        work: impl FnOnce(&mut Clusters) -> T,
    ) -> Result<T, ApiError> {
        if self.clusters.borrow().is_none() {
            let clusters = clusters_from_links(self.tables()?.links()?);
            *self.clusters.borrow_mut() = Some(clusters);
        }
        let mut clusters = self.clusters.borrow_mut();
        Ok(work(clusters.get_or_insert_default()))
    }

    /// Returns the id of a key's cluster, 8 hex digits.
    pub(super) fn cluster_id_for_key(&self, key: u64) -> Result<Option<String>, ApiError> {
        self.with_clusters(|clusters| clusters.for_key(key).map(format_id))
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

    /// Returns a cluster with its keys, without its traffic.
    pub(super) fn cluster(&self, id: &str) -> HandlerResult {
        let not_found = || {
            let id: String = id.chars().take(8).collect();
            let message = format!("unknown cluster '{id}'");
            let remedy = "`hedgerow clusters list` lists all clusters; a cluster that merged into \
                another has the other's id";
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
        Ok(expired.is_some())
    }
}

/// Builds the clusters that the links, in their order, result in.
fn clusters_from_links(links: Vec<LinkRow>) -> Clusters {
    let mut clusters = Clusters::default();
    for LinkRow { correlation, key, at, last, accounts } in links {
        let Some(key) = parse_hash(&key) else { continue };
        let accounts = accounts.as_bytes().chunks(16);
        let accounts: Vec<u64> =
            accounts.filter_map(|hex| parse_hash(std::str::from_utf8(hex).ok()?)).collect();
        clusters.link(&correlation, key, &accounts, at);
        clusters.link(&correlation, key, &[], last);
    }
    clusters
}

/// Returns whether a correlation links the cluster by `key`.
fn is_linked_by(cluster: &Cluster, key: u64, correlation: &str) -> bool {
    cluster.keys.iter().any(|(cluster_key, name)| *cluster_key == key && name == correlation)
}

/// Returns the cluster with an id of 8 hex digits.
fn find_by_id<'c>(clusters: &'c Clusters, id: &str) -> Option<&'c Cluster> {
    let number = u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 8)?;
    clusters.iter().find(|cluster| cluster.id == number)
}

/// Returns a cluster's id as 8 hex digits.
fn format_id(cluster: &Cluster) -> String {
    format!("{:08x}", cluster.id)
}

/// Returns a cluster as the API lists it.
fn summarize(cluster: &Cluster) -> api::ClusterSummary {
    let mut correlations: Vec<String> = cluster.keys.iter().map(|(_, name)| name.clone()).collect();
    correlations.sort_unstable();
    correlations.dedup();
    api::ClusterSummary {
        id: format_id(cluster),
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

    #[test]
    fn stored_links_rebuild_the_same_clusters() {
        let link = |correlation: &str, key: u64, accounts: &[u64], at, last| LinkRow {
            correlation: correlation.to_owned(),
            key: format!("{key:016x}"),
            at,
            last,
            accounts: accounts.iter().map(|account| format!("{account:016x}")).collect(),
        };
        let mut online = Clusters::default();
        online.link("cluster_a", 1, &[10, 11], 100);
        online.link("cluster_b", 2, &[20, 21], 200);
        online.link("cluster_b", 2, &[10], 300);
        online.link("cluster_b", 2, &[], 400);
        let rebuilt = clusters_from_links(vec![
            link("cluster_a", 1, &[10, 11], 100, 100),
            link("cluster_b", 2, &[20, 21], 200, 200),
            link("cluster_b", 2, &[10], 300, 400),
        ]);
        assert_eq!(rebuilt.for_account(21), online.for_account(21));
        let cluster = rebuilt.for_key(1).unwrap();
        assert_eq!((cluster.account_count, cluster.last_seen), (4, 400));
        assert_eq!(find_by_id(&rebuilt, &format_id(cluster)), Some(cluster));
        assert_eq!(find_by_id(&rebuilt, "1"), None);
    }
}
