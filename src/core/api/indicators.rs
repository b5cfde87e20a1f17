//! `/indicators`: keys for which a correlation fired.

use serde::{Deserialize, Serialize};

use super::clusters::ClusterSummary;

/// The response of `GET /indicators`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct IndicatorList {
    /// Indicators, newest first.
    pub indicators: Vec<IndicatorInfo>,
}

/// A key and a correlation that fired for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct IndicatorInfo {
    /// Number of the indicator, from 1. The parameter `before` takes it.
    pub id: u64,
    /// Name of the correlation.
    pub correlation: String,
    /// Keyed hash of the group's values, 16 hexadecimal digits.
    pub key: String,
    /// Time of the first firing.
    pub first: u64,
    /// Time of the last firing.
    pub last: u64,
    /// Time after which the indicator no longer counts, unless the correlation fires again.
    pub expires: u64,
    /// Number of firings.
    pub times: u64,
    /// Measured value at the last firing, in the unit of `threshold`.
    pub measured: f64,
    /// Condition of the correlation, in words.
    pub threshold: String,
    /// Number of accounts that the largest firing listed; a sample for large groups.
    pub accounts: u64,
    /// Id of the cluster that the key belongs to, 8 hexadecimal digits.
    pub cluster: Option<String>,
    /// Time of the revocation; null if the indicator is not revoked.
    pub revoked: Option<u64>,
    /// Reason for the revocation.
    pub reason: Option<String>,
    /// End of the revocation; null if it ends when the indicator expires.
    pub until: Option<u64>,
}

/// The response of `GET /indicators/{key}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct IndicatorDetails {
    /// Keyed hash of the group's values, 16 hexadecimal digits.
    pub key: String,
    /// All correlations that fired for the key.
    pub indicators: Vec<IndicatorInfo>,
    /// Cluster that the key belongs to.
    pub cluster: Option<ClusterSummary>,
}

/// The body of `POST /indicators/{key}/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RevokeRequest {
    /// Reason, of which the first 200 characters are stored. It must not be empty.
    pub reason: String,
    /// Name of the person who revokes.
    #[serde(default)]
    pub author: String,
    /// End of the revocation, within a year; if null, it ends when the indicator would have
    /// expired.
    pub until: Option<u64>,
}

/// The response of `POST /indicators/{key}/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RevokeResult {
    /// Key that was revoked, 16 hexadecimal digits.
    pub key: String,
    /// Number of indicators that the key had.
    #[serde(rename = "revoked")]
    pub count: u64,
}
