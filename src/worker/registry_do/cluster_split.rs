//! Splits a cluster: an operator removes the accounts that wrongly join unrelated accounts.
//!
//! These accounts are removed from all links of the cluster. The table `split_off_accounts` lists
//! the accounts for 31 days, so that no firing links them again in that time. Indicators of these
//! accounts and of their keys are not deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hedgerow_core::api;
use hedgerow_core::correlate::cluster::{Cluster, Clusters};
use serde::Deserialize;
use serde_json::json;
use worker::Request;

use super::cluster_restore::LinkRow;
use super::clusters::{LINK_RETENTION_SECONDS, summarize, unknown_cluster};
use super::indicators::{invalid_body, parse_hash};
use super::tables::Tables;
use super::{Caller, HandlerResult, Registry};
use crate::admin_api::error::ApiError;
use crate::platform::clock::now_seconds;
use crate::platform::sql::integer;

/// Maximum number of accounts in a request to split a cluster.
const MAX_ACCOUNTS: usize = 200;

/// Maximum number of rows of `split_off_accounts`. If there are more, the rows that expire first
/// are deleted.
const MAX_SPLIT_OFF_ACCOUNTS: u64 = 10_000;

/// Maximum number of bridges in an answer. A bridge is an account that has several keys of a
/// cluster, so that it may join parts of the cluster.
const MAX_BRIDGES: usize = 20;

/// Maximum number of bridges for which the parts of the cluster are counted. The accounts with the
/// most keys are taken.
const MAX_CANDIDATES: usize = 64;

/// Maximum number of characters of a reason or an author. Further characters are cut off.
const MAX_REASON_CHARS: usize = 200;

impl Registry {
    /// Handles `POST /clusters/<id>/split`: removes accounts from a cluster, and returns the
    /// clusters that result. With `dry_run`, changes nothing, and returns the clusters that would
    /// result.
    ///
    /// # Errors
    /// `invalid`, if the body is malformed, the reason is missing, or no account is in the cluster;
    /// `not_found`, if the cluster is unknown; `unavailable`, if the tables cannot be read or
    /// written.
    pub(super) async fn split_cluster(
        &self,
        id: &str,
        request: &mut Request,
        caller: &Caller,
    ) -> HandlerResult {
        // Parse with serde: the platform's parser ignores unknown members, so that a misspelt
        // `dry_run` would split the cluster.
        let text = request.text().await.map_err(|_| invalid_body())?;
        let body: api::SplitRequest = serde_json::from_str(&text).map_err(|_| invalid_body())?;
        let limit = |text: &str| text.trim().chars().take(MAX_REASON_CHARS).collect::<String>();
        let (reason, author) = (limit(&body.reason), limit(&body.author));
        if reason.is_empty() || body.accounts.is_empty() || body.accounts.len() > MAX_ACCOUNTS {
            let message = "the reason or the accounts are missing, or there are too many";
            let remedy = "give a reason for the audit log, and 1 to 200 accounts";
            return Err(ApiError::new(422, "invalid", message, remedy));
        }
        let cluster = self.cluster_by_id(id)?.ok_or_else(|| unknown_cluster(id))?;
        let mut hashes = HashSet::new();
        for account in &body.accounts {
            hashes.extend(parse_hash(&self.account_hash(account)?));
        }
        let links = self.links_of(&cluster)?;
        let is_member =
            |account: &u64| links.iter().any(|link| link.account_hashes().contains(account));
        hashes.retain(is_member);
        if hashes.is_empty() {
            let message = "no account of the request is in the cluster";
            let remedy = "`hedgerow clusters show ID` shows the accounts that join its parts";
            return Err(ApiError::new(422, "invalid", message, remedy));
        }
        let count = hashes.len() as u64;
        if body.dry_run {
            let parts = parts_without(&links, &hashes);
            let clusters = parts.iter().map(summarize).collect();
            return Ok((200, json!(api::SplitResult { accounts: count, clusters, dry_run: true })));
        }
        self.tables()?.split_off(&links, &hashes)?;
        *self.clusters.borrow_mut() = None;
        let clusters = self.with_clusters(|clusters| summaries_of_keys(clusters, &links))?;
        let id = cluster_text(&cluster);
        let subject = format!("{id}: {count} accounts: {reason}");
        self.tables()?.audit(caller.for_audit(), "cluster.split", &subject, &author, "ok");
        self.mark_indicators_urgent().await?;
        Ok((200, json!(api::SplitResult { accounts: count, clusters, dry_run: false })))
    }

    /// Returns the accounts that have several keys of a cluster. The accounts that join the most
    /// parts of the cluster come first.
    pub(super) fn bridges(&self, cluster: &Cluster) -> Result<Vec<api::ClusterBridge>, ApiError> {
        Ok(find_bridges(&self.links_of(cluster)?))
    }

    /// Returns the links of all keys of a cluster, the oldest link first. The links do not contain
    /// accounts that were split off.
    fn links_of(&self, cluster: &Cluster) -> Result<Vec<LinkRow>, ApiError> {
        let split_off = self.tables()?.split_off_accounts()?;
        let mut links = self.tables()?.links()?;
        self.with_clusters(|clusters| {
            links.retain(|link| {
                let found = parse_hash(&link.key).and_then(|key| clusters.for_key(key));
                found.is_some_and(|found| found.id == cluster.id)
            });
        })?;
        for link in &mut links {
            link.accounts = without_accounts(link, &split_off);
        }
        Ok(links)
    }
}

impl Tables {
    /// Returns the accounts that do not link keys at present, because an operator has removed them
    /// from a cluster.
    pub(super) fn split_off_accounts(&self) -> Result<HashSet<u64>, ApiError> {
        #[derive(Deserialize)]
        struct Row {
            account: String,
        }
        let query = "SELECT account FROM split_off_accounts WHERE until > ?";
        let rows: Vec<Row> = self.rows(query, vec![integer(now_seconds())])?;
        Ok(rows.iter().filter_map(|row| parse_hash(&row.account)).collect())
    }

    /// Removes accounts from links, and adds the accounts to `split_off_accounts` for
    /// [`LINK_RETENTION_SECONDS`].
    fn split_off(&self, links: &[LinkRow], accounts: &HashSet<u64>) -> Result<(), ApiError> {
        let until = now_seconds().saturating_add(LINK_RETENTION_SECONDS);
        for account in accounts {
            let query = "INSERT OR REPLACE INTO split_off_accounts (account, until) VALUES (?, ?)";
            self.exec(query, vec![format!("{account:016x}").into(), integer(until)])?;
        }
        let query = "DELETE FROM split_off_accounts WHERE account IN
            (SELECT account FROM split_off_accounts ORDER BY until DESC LIMIT -1 OFFSET ?)";
        self.exec(query, vec![integer(MAX_SPLIT_OFF_ACCOUNTS)])?;
        for link in links {
            let left = without_accounts(link, accounts);
            if left != link.accounts {
                let query = "UPDATE link SET accounts = ? WHERE id = ?";
                self.exec(query, vec![left.into(), integer(link.id)])?;
            }
        }
        Ok(())
    }
}

/// Returns the accounts of a link that are not in `accounts`, in the form of [`LinkRow::accounts`].
fn without_accounts(link: &LinkRow, accounts: &HashSet<u64>) -> String {
    let is_left = |text: &&str| parse_hash(text).is_none_or(|hash| !accounts.contains(&hash));
    link.account_texts().filter(is_left).collect()
}

/// Returns the clusters that `links` form without `accounts`. Clusters with the most accounts come
/// first. All clusters have the id 0.
fn parts_without(links: &[LinkRow], accounts: &HashSet<u64>) -> Vec<Cluster> {
    let mut graph = Clusters::default();
    for link in links {
        let left: Vec<u64> = link
            .account_hashes()
            .into_iter()
            .filter(|account| !accounts.contains(account))
            .collect();
        if let Some(key) = parse_hash(&link.key) {
            graph.link(&link.correlation, key, &left, link.at);
        }
    }
    let mut parts: Vec<Cluster> =
        graph.iter().map(|part| Cluster { id: 0, ..part.clone() }).collect();
    parts.sort_by_key(|part| (std::cmp::Reverse(part.account_count), part.first_seen));
    parts
}

/// Returns summaries of the clusters that contain the keys of `links`. Clusters with the most
/// accounts come first.
fn summaries_of_keys(clusters: &Clusters, links: &[LinkRow]) -> Vec<api::ClusterSummary> {
    let keys = links.iter().filter_map(|link| parse_hash(&link.key));
    let found: BTreeMap<u32, &Cluster> =
        keys.filter_map(|key| clusters.for_key(key)).map(|cluster| (cluster.id, cluster)).collect();
    let mut found: Vec<&Cluster> = found.into_values().collect();
    found.sort_by_key(|cluster| (std::cmp::Reverse(cluster.account_count), cluster.first_seen));
    found.into_iter().map(summarize).collect()
}

/// Returns at most [`MAX_BRIDGES`] accounts that have several keys. For each account, counts the
/// parts into which the cluster falls without this account. Accounts with the most parts come
/// first. Of accounts with equally many parts, those with the most keys come first.
fn find_bridges(links: &[LinkRow]) -> Vec<api::ClusterBridge> {
    let mut keys_by_account: HashMap<u64, BTreeSet<&str>> = HashMap::new();
    for link in links {
        for account in link.account_hashes() {
            keys_by_account.entry(account).or_default().insert(&link.key);
        }
    }
    let mut candidates: Vec<(u64, usize)> =
        keys_by_account.into_iter().map(|(account, keys)| (account, keys.len())).collect();
    candidates.retain(|(_, keys)| *keys > 1);
    candidates.sort_by_key(|(account, keys)| (std::cmp::Reverse(*keys), *account));
    let mut bridges: Vec<api::ClusterBridge> = candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .map(|(account, keys)| api::ClusterBridge {
            account: format!("{account:016x}"),
            keys: keys as u64,
            parts: parts_without(links, &HashSet::from([account])).len() as u64,
        })
        .collect();
    bridges.sort_by_key(|bridge| std::cmp::Reverse((bridge.parts, bridge.keys)));
    bridges.truncate(MAX_BRIDGES);
    bridges
}

/// Returns the id of a cluster as text.
fn cluster_text(cluster: &Cluster) -> String {
    hedgerow_core::rules::policy::format_cluster_id(cluster.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(key: u64, accounts: &[u64]) -> LinkRow {
        LinkRow {
            id: key,
            correlation: "cluster_a".to_owned(),
            key: format!("{key:016x}"),
            at: 100,
            last: 100,
            accounts: accounts.iter().map(|account| format!("{account:016x}")).collect(),
        }
    }

    #[test]
    fn a_bridge_is_an_account_whose_removal_leaves_parts() {
        let links = [link(1, &[10, 11, 12]), link(2, &[12, 20, 21]), link(3, &[20, 21, 30])];
        let found: Vec<(String, u64, u64)> = find_bridges(&links)
            .into_iter()
            .map(|bridge| (bridge.account, bridge.keys, bridge.parts))
            .collect();
        let hex = |account: u64| format!("{account:016x}");
        // The accounts 20 and 21 both have the keys 2 and 3: if one account is removed, the other
        // still joins the keys.
        assert_eq!(found, [(hex(12), 2, 2), (hex(20), 2, 1), (hex(21), 2, 1)]);
        let parts = parts_without(&links, &HashSet::from([20, 21]));
        let sizes: Vec<u32> = parts.iter().map(|part| part.account_count).collect();
        assert_eq!(sizes, [3, 1], "12 still joins the first two keys");
        let left = without_accounts(&links[0], &HashSet::from([11]));
        assert_eq!(left, format!("{}{}", hex(10), hex(12)));
    }
}
