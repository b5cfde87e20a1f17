//! `/clusters`: groups of accounts that share indicators.
//!
//! A *firing* is a report that a correlation holds for a key. Correlations that fire link the
//! accounts that have the key.

use serde::{Deserialize, Serialize};

use super::traffic::Counts;

/// The response of `GET /clusters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ClusterList {
    /// Clusters, last seen first; at most 200.
    pub clusters: Vec<ClusterInfo>,
}

/// A cluster, without its traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct ClusterSummary {
    /// Id of the cluster, 8 hexadecimal digits.
    pub id: String,
    /// Ids of clusters that have merged into this one, at most 64. The latest merge is first. `GET
    /// /clusters/{id}` with any of these ids returns this cluster.
    pub aliases: Vec<String>,
    /// Number of accounts that firings have linked. An account that joined after the last firing is
    /// not included yet.
    pub accounts: u64,
    /// Number of pairs of a key and a correlation that fired for the key, at most 64. Further keys
    /// link accounts, too, but are not counted.
    pub keys: u64,
    /// Names of the correlations in these pairs, in alphabetical order.
    pub correlations: Vec<String>,
    /// Time of the first firing.
    pub first: u64,
    /// Time of the last firing.
    pub last: u64,
}

/// A cluster with its traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ClusterInfo {
    /// The cluster. In JSON, its members are members of this object.
    #[serde(flatten)]
    pub summary: ClusterSummary,
    /// Traffic of the cluster; null if the ledger does not answer.
    pub traffic: Option<ClusterTraffic>,
}

/// The response of `GET /clusters/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ClusterDetails {
    /// The cluster. In JSON, its members are members of this object.
    #[serde(flatten)]
    pub summary: ClusterSummary,
    /// The pairs that `keys` counts. A key for which several correlations fired is in several
    /// pairs.
    pub links: Vec<ClusterLink>,
    /// Accounts that have several keys of the cluster, at most 20. The accounts with the highest
    /// `parts` come first.
    pub bridges: Vec<ClusterBridge>,
    /// Traffic of the cluster; null if the ledger does not answer.
    pub traffic: Option<ClusterTraffic>,
}

/// A key that links accounts, and a correlation that fired for the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ClusterLink {
    /// Keyed hash of the shared values, 16 hexadecimal digits.
    pub key: String,
    /// Name of the correlation.
    pub correlation: String,
}

/// An account that has several keys of a cluster, and may be the only link between parts of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ClusterBridge {
    /// Keyed hash of the account's id, 16 hexadecimal digits.
    pub account: String,
    /// Number of keys of the cluster that the account has.
    pub keys: u64,
    /// Number of parts into which the cluster would fall without the account.
    pub parts: u64,
}

/// The body of `POST /clusters/{id}/split`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRequest {
    /// Accounts to remove from the cluster: their ids, as in decisions, or their hashes, as in
    /// `bridges`.
    pub accounts: Vec<String>,
    /// Reason for the split, which the audit log stores.
    pub reason: String,
    /// Name of the person who splits the cluster, for the audit log.
    #[serde(default)]
    pub author: String,
    /// Whether to compute the resulting clusters without changing anything.
    #[serde(default)]
    pub dry_run: bool,
}

/// The response of `POST /clusters/{id}/split`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitResult {
    /// Number of accounts that were removed from the cluster, or would be in a dry run.
    pub accounts: u64,
    /// Clusters that result from the split, the clusters with the most accounts first. In a dry
    /// run, their ids are 00000000.
    pub clusters: Vec<ClusterSummary>,
    /// Whether this is the result of a dry run, which changed nothing.
    pub dry_run: bool,
}

/// Traffic of a cluster: the requests that matched one of its indicators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct ClusterTraffic {
    /// Length of the period in whole minutes.
    pub minutes: u64,
    /// Number of requests.
    pub requests: u64,
    /// Requests by band.
    pub by_band: Counts,
    /// Requests by model. The key `other` counts requests whose model may not be stored or exceeds
    /// the limit of models per cluster.
    pub by_model: Counts,
}
