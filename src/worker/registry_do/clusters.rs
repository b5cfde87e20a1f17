//! Clusters: accounts that share indicators. What links them is kept in a table, each row what a firing
//! added, and joined again in the same order when this object begins anew.

use hedgerow_core::correlate::cluster::{Cluster, Clusters};
use serde::Deserialize;
use serde_json::{Value, json};

use super::indicators::parse_hash;
use super::tables::Tables;
use super::{HandlerResult, Registry};
use crate::admin_api::ApiError;
use crate::correlator_do::FiringReport;
use crate::platform::clock::now_seconds;
use crate::platform::sql::integer;

/// Links that are kept, and for how many seconds after they were last seen.
const MAX_LINKS: u64 = 20_000;
const LINK_RETENTION_SECONDS: u64 = 31 * 86_400;

/// Clusters that are listed.
const MAX_LISTED: usize = 200;

/// Seconds between two looks for old links.
const PRUNE_INTERVAL_SECONDS: u64 = 3_600;

/// What a firing added: a key, and accounts that were not linked by it yet.
#[derive(Deserialize)]
struct LinkRow {
    correlation: String,
    key: String,
    at: u32,
    last: u32,
    accounts: String,
}

impl Registry {
    /// Links the accounts of a firing.
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

    /// The clusters, joined from what is stored where they are not known yet.
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

    /// The id of a key's cluster.
    pub(super) fn cluster_id_for_key(&self, key: u64) -> Result<Option<String>, ApiError> {
        self.with_clusters(|clusters| clusters.for_key(key).map(format_id))
    }

    /// The clusters, last seen first.
    pub(super) fn list_clusters(&self) -> HandlerResult {
        let clusters = self.with_clusters(|clusters| {
            let mut sorted: Vec<&Cluster> = clusters.iter().collect();
            sorted.sort_by_key(|cluster| (std::cmp::Reverse(cluster.last_seen), cluster.id));
            sorted.into_iter().take(MAX_LISTED).map(summary_json).collect::<Vec<Value>>()
        })?;
        Ok((200, json!({ "clusters": clusters })))
    }

    /// A cluster with the keys that link it.
    pub(super) fn cluster(&self, id: &str) -> HandlerResult {
        let not_found = || {
            let id: String = id.chars().take(8).collect();
            let message = format!("there is no cluster '{id}'");
            let remedy = "`hedgerow clusters list` names those there are; one that grew into another has its name";
            ApiError::new(404, "not_found", message, remedy)
        };
        let cluster = self.with_clusters(|clusters| find_by_id(clusters, id).cloned())?;
        let cluster = cluster.ok_or_else(not_found)?;
        let mut links = Vec::new();
        for (key, correlation) in &cluster.keys {
            links.push(json!({ "key": format!("{key:016x}"), "correlation": correlation }));
        }
        let mut value = summary_json(&cluster);
        if let Some(members) = value.as_object_mut() {
            members.insert("links".to_owned(), json!(links));
        }
        Ok((200, value))
    }

    /// What is known of a cluster, in short.
    pub(super) fn cluster_summary(&self, id: &str) -> Result<Option<Value>, ApiError> {
        self.with_clusters(|clusters| find_by_id(clusters, id).map(summary_json))
    }

    /// Forgets old links now and then: clusters are joined anew without them.
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
    fn links(&self) -> Result<Vec<LinkRow>, ApiError> {
        self.rows("SELECT correlation, key, at, last, accounts FROM link ORDER BY id", Vec::new())
    }

    fn add_link(&self, firing: &FiringReport, accounts: &str) -> Result<(), ApiError> {
        let query =
            "INSERT INTO link (correlation, key, at, last, accounts) VALUES (?1, ?2, ?3, ?3, ?4)";
        let (correlation, key) = (firing.correlation.as_str(), firing.key.as_str());
        let at = integer(firing.at.into());
        self.exec(query, vec![correlation.into(), key.into(), at, accounts.into()])?;
        let query = "DELETE FROM link WHERE id <= (SELECT MAX(id) FROM link) - ?";
        self.exec(query, vec![integer(MAX_LINKS)])
    }

    fn extend_link(&self, firing: &FiringReport) -> Result<(), ApiError> {
        let query = "UPDATE link SET last = MAX(last, ?) WHERE id =
            (SELECT MAX(id) FROM link WHERE key = ? AND correlation = ?)";
        let (correlation, key) = (firing.correlation.as_str(), firing.key.as_str());
        self.exec(query, vec![integer(firing.at.into()), key.into(), correlation.into()])
    }

    /// Whether there were any that are old.
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

fn is_linked_by(cluster: &Cluster, key: u64, correlation: &str) -> bool {
    cluster.keys.iter().any(|(cluster_key, name)| *cluster_key == key && name == correlation)
}

fn find_by_id<'c>(clusters: &'c Clusters, id: &str) -> Option<&'c Cluster> {
    let number = u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 8)?;
    clusters.iter().find(|cluster| cluster.id == number)
}

/// A cluster's id as it is shown.
fn format_id(cluster: &Cluster) -> String {
    format!("{:08x}", cluster.id)
}

fn summary_json(cluster: &Cluster) -> Value {
    let mut correlations: Vec<&str> = cluster.keys.iter().map(|(_, name)| name.as_str()).collect();
    correlations.sort_unstable();
    correlations.dedup();
    json!({
        "id": format_id(cluster),
        "accounts": cluster.account_count,
        "keys": cluster.keys.len(),
        "correlations": correlations,
        "first": cluster.first_seen,
        "last": cluster.last_seen,
    })
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
