//! Clusters: accounts that share indicators. What links them is kept in a table, each row what a firing
//! added, and joined again in the same order when this object begins anew.

use hedgerow::cluster::{Cluster, Clusters};
use serde::Deserialize;
use serde_json::{Value, json};

use super::indicators::hash_of;
use super::tables::Tables;
use super::{Answer, Registry};
use crate::api::ApiError;
use crate::clock::seconds;
use crate::correlator::Fired;
use crate::sql::integer;

/// Links that are kept, and for how many seconds after they were last seen.
const MAX_LINKS: u64 = 20_000;
const LINKS_KEPT: u64 = 31 * 86_400;

/// Clusters that are listed.
const LISTED: usize = 200;

/// Seconds between two looks for old links.
const TIDY: u64 = 3_600;

/// What a firing added: a key, and accounts that were not linked by it yet.
#[derive(Deserialize)]
struct Link {
    correlation: String,
    key: String,
    at: u32,
    last: u32,
    accounts: String,
}

impl Registry {
    /// Links the accounts of a firing.
    pub(super) fn link(&self, fired: &Fired, key: u64) -> Result<(), ApiError> {
        self.forget_links()?;
        let name = fired.correlation.as_str();
        let added = self.with_clusters(|clusters| {
            let cluster = clusters.of_key(key);
            let is_known = cluster.is_some_and(|cluster| names(cluster, key, name));
            let own = cluster.map(|cluster| cluster.id);
            let is_new = |account: &&String| {
                let cluster = hash_of(account).and_then(|account| clusters.of_account(account));
                own.is_none() || cluster.map(|cluster| cluster.id) != own
            };
            let added: Vec<String> = fired.accounts.iter().filter(is_new).cloned().collect();
            let hashes: Vec<u64> = added.iter().filter_map(|account| hash_of(account)).collect();
            clusters.link(name, key, &hashes, fired.at);
            (!is_known || !added.is_empty()).then(|| added.concat())
        })?;
        match added {
            Some(accounts) => self.tables()?.add_link(fired, &accounts),
            None => self.tables()?.extend_link(fired),
        }
    }

    /// The clusters, joined from what is stored where they are not known yet.
    pub(super) fn with_clusters<T>(
        &self,
        work: impl FnOnce(&mut Clusters) -> T,
    ) -> Result<T, ApiError> {
        if self.clusters.borrow().is_none() {
            let clusters = join(self.tables()?.links()?);
            *self.clusters.borrow_mut() = Some(clusters);
        }
        let mut clusters = self.clusters.borrow_mut();
        Ok(work(clusters.get_or_insert_default()))
    }

    /// The id of a key's cluster.
    pub(super) fn cluster_of(&self, key: u64) -> Result<Option<String>, ApiError> {
        self.with_clusters(|clusters| clusters.of_key(key).map(id))
    }

    /// The clusters, last seen first.
    pub(super) fn list_clusters(&self) -> Answer {
        let clusters = self.with_clusters(|clusters| {
            let mut all: Vec<&Cluster> = clusters.iter().collect();
            all.sort_by_key(|cluster| (std::cmp::Reverse(cluster.last), cluster.id));
            all.into_iter().take(LISTED).map(summary).collect::<Vec<Value>>()
        })?;
        Ok((200, json!({ "clusters": clusters })))
    }

    /// A cluster with the keys that link it.
    pub(super) fn cluster(&self, id: &str) -> Answer {
        let unknown = || {
            let id: String = id.chars().take(8).collect();
            let message = format!("there is no cluster '{id}'");
            let remedy = "`hedgerow clusters list` names those there are; one that grew into another has its name";
            ApiError::new(404, "not_found", message, remedy)
        };
        let found = self.with_clusters(|clusters| find(clusters, id).cloned())?;
        let cluster = found.ok_or_else(unknown)?;
        let mut links = Vec::new();
        for (key, correlation) in &cluster.keys {
            links.push(json!({ "key": format!("{key:016x}"), "correlation": correlation }));
        }
        let mut value = summary(&cluster);
        if let Some(members) = value.as_object_mut() {
            members.insert("links".to_owned(), json!(links));
        }
        Ok((200, value))
    }

    /// What is known of a cluster, in short.
    pub(super) fn summary(&self, id: &str) -> Result<Option<Value>, ApiError> {
        self.with_clusters(|clusters| find(clusters, id).map(summary))
    }

    /// Forgets old links now and then: clusters are joined anew without them.
    fn forget_links(&self) -> Result<(), ApiError> {
        if seconds() >= self.links_tidied.get().saturating_add(TIDY) {
            self.links_tidied.set(seconds());
            if self.tables()?.forget_links()? {
                *self.clusters.borrow_mut() = None;
            }
        }
        Ok(())
    }
}

impl Tables {
    fn links(&self) -> Result<Vec<Link>, ApiError> {
        self.rows("SELECT correlation, key, at, last, accounts FROM link ORDER BY id", Vec::new())
    }

    fn add_link(&self, fired: &Fired, accounts: &str) -> Result<(), ApiError> {
        let query =
            "INSERT INTO link (correlation, key, at, last, accounts) VALUES (?1, ?2, ?3, ?3, ?4)";
        let (name, key) = (fired.correlation.as_str(), fired.key.as_str());
        let at = integer(fired.at.into());
        self.exec(query, vec![name.into(), key.into(), at, accounts.into()])?;
        let query = "DELETE FROM link WHERE id <= (SELECT MAX(id) FROM link) - ?";
        self.exec(query, vec![integer(MAX_LINKS)])
    }

    fn extend_link(&self, fired: &Fired) -> Result<(), ApiError> {
        let query = "UPDATE link SET last = MAX(last, ?) WHERE id =
            (SELECT MAX(id) FROM link WHERE key = ? AND correlation = ?)";
        let (name, key) = (fired.correlation.as_str(), fired.key.as_str());
        self.exec(query, vec![integer(fired.at.into()), key.into(), name.into()])
    }

    /// Whether there were any that are old.
    fn forget_links(&self) -> Result<bool, ApiError> {
        #[derive(Deserialize)]
        struct Row {}
        let old = || vec![integer(seconds().saturating_sub(LINKS_KEPT))];
        let is_old: Option<Row> = self.row("SELECT id FROM link WHERE last < ? LIMIT 1", old())?;
        self.exec("DELETE FROM link WHERE last < ?", old())?;
        Ok(is_old.is_some())
    }
}

fn join(links: Vec<Link>) -> Clusters {
    let mut clusters = Clusters::default();
    for Link { correlation, key, at, last, accounts } in links {
        let Some(key) = hash_of(&key) else { continue };
        let accounts = accounts.as_bytes().chunks(16);
        let accounts: Vec<u64> =
            accounts.filter_map(|hex| hash_of(std::str::from_utf8(hex).ok()?)).collect();
        clusters.link(&correlation, key, &accounts, at);
        clusters.link(&correlation, key, &[], last);
    }
    clusters
}

fn names(cluster: &Cluster, key: u64, correlation: &str) -> bool {
    cluster.keys.iter().any(|(own, name)| *own == key && name == correlation)
}

fn find<'c>(clusters: &'c Clusters, id: &str) -> Option<&'c Cluster> {
    let number = u32::from_str_radix(id, 16).ok().filter(|_| id.len() == 8)?;
    clusters.iter().find(|cluster| cluster.id == number)
}

/// A cluster's id as it is shown.
fn id(cluster: &Cluster) -> String {
    format!("{:08x}", cluster.id)
}

fn summary(cluster: &Cluster) -> Value {
    let mut correlations: Vec<&str> = cluster.keys.iter().map(|(_, name)| name.as_str()).collect();
    correlations.sort_unstable();
    correlations.dedup();
    json!({
        "id": id(cluster),
        "accounts": cluster.accounts,
        "keys": cluster.keys.len(),
        "correlations": correlations,
        "first": cluster.first,
        "last": cluster.last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_makes_the_same_clusters() {
        let link = |correlation: &str, key: u64, accounts: &[u64], at, last| Link {
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
        let joined = join(vec![
            link("cluster_a", 1, &[10, 11], 100, 100),
            link("cluster_b", 2, &[20, 21], 200, 200),
            link("cluster_b", 2, &[10], 300, 400),
        ]);
        assert_eq!(joined.of_account(21), online.of_account(21));
        let cluster = joined.of_key(1).unwrap();
        assert_eq!((cluster.accounts, cluster.last), (4, 400));
        assert_eq!(find(&joined, &id(cluster)), Some(cluster));
        assert_eq!(find(&joined, "1"), None);
    }
}
