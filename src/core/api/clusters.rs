//! `/clusters`: groups of accounts that share indicators.

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
    /// Ids of clusters that have merged into this one, the last merged first; at most 64. A request
    /// for any of them finds this cluster.
    pub aliases: Vec<String>,
    /// Number of accounts that correlations have linked. Accounts since the last firing are not
    /// included yet.
    pub accounts: u64,
    /// Number of keys that link the accounts, at most 64.
    pub keys: u64,
    /// Names of the correlations that fired for these keys, in alphabetical order.
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
    /// Members of the cluster itself, which are members of this object.
    #[serde(flatten)]
    pub summary: ClusterSummary,
    /// Traffic of the cluster; null if the ledger does not answer.
    pub traffic: Option<ClusterTraffic>,
}

/// The response of `GET /clusters/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ClusterDetails {
    /// Members of the cluster itself, which are members of this object.
    #[serde(flatten)]
    pub summary: ClusterSummary,
    /// Keys that link the accounts.
    pub links: Vec<ClusterLink>,
    /// Traffic of the cluster; null if the ledger does not answer.
    pub traffic: Option<ClusterTraffic>,
}

/// A key that links accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ClusterLink {
    /// Keyed hash of the shared values, 16 hexadecimal digits.
    pub key: String,
    /// Name of a correlation that fired for the key.
    pub correlation: String,
}

/// Requests whose indicators belong to a cluster.
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
    /// Requests by model; `other` if a model's name may not be stored.
    pub by_model: Counts,
}
