//! `/indicators`: keys for which a correlation fired.
//!
//! A *firing* is a report that a correlation holds for a key.

use serde::{Deserialize, Serialize};

use super::clusters::ClusterSummary;

/// The response of `GET /indicators`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct IndicatorList {
    /// Indicators, newest first.
    pub indicators: Vec<IndicatorInfo>,
    /// Number of indicators that the filters select, on all pages.
    #[serde(default)]
    pub total: u64,
}

/// A key and a correlation that fired for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct IndicatorInfo {
    /// Number of the indicator, from 1. A request with this number as the parameter `before`
    /// returns older indicators.
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
    /// Number of accounts that the largest firing listed. For a large group, a firing lists only a
    /// sample of the accounts.
    pub accounts: u64,
    /// Id of the cluster that the key belongs to, 8 hexadecimal digits; null if it belongs to none.
    pub cluster: Option<String>,
    /// Time of the revocation; null if the indicator is not revoked.
    pub revoked_at: Option<u64>,
    /// Reason for the revocation; null if the indicator is not revoked.
    pub reason: Option<String>,
    /// End of the revocation; null if the indicator is not revoked, or if the revocation ends when
    /// the indicator expires.
    pub revoked_until: Option<u64>,
    /// Hash of the account that caused the first firing, 16 hexadecimal digits; null if unknown.
    pub account: Option<String>,
    /// Hash of the tenant that caused the first firing, 16 hexadecimal digits; null if unknown.
    pub tenant: Option<String>,
    /// Label of `account`; null if it is unknown, or the policy has no `labels`.
    pub account_label: Option<String>,
    /// Label of `tenant`; null if it is unknown, or the policy has no `labels`.
    pub tenant_label: Option<String>,
    /// Hash of the network that caused the first firing, 16 hexadecimal digits; null if unknown.
    pub network: Option<String>,
}

/// The response of `GET /indicators/{key}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct IndicatorDetails {
    /// Keyed hash of the group's values, 16 hexadecimal digits.
    pub key: String,
    /// Indicators of the key, one for each correlation that fired for it.
    pub indicators: Vec<IndicatorInfo>,
    /// Cluster that the key belongs to; null if it belongs to none.
    pub cluster: Option<ClusterSummary>,
}

/// The body of `POST /indicators/{key}/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RevokeRequest {
    /// Reason, of which the first 200 characters are stored. It must not be empty.
    pub reason: String,
    /// Name of the person who revokes the indicators.
    #[serde(default)]
    pub author: String,
    /// End of the revocation, at most a year from now. If it is null, the revocation ends when the
    /// indicator would have expired.
    pub until: Option<u64>,
}

/// The response of `POST /indicators/{key}/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RevokeResult {
    /// Key that was revoked, 16 hexadecimal digits.
    pub key: String,
    /// Number of indicators that the key had.
    pub count: u64,
}

/// The body of `POST /indicators/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RevokeMatchingRequest {
    /// The indicators to revoke.
    pub filter: RevokeFilter,
    /// Reason, of which the first 200 characters are stored. It must not be empty.
    pub reason: String,
    /// Name of the person who revokes the indicators.
    #[serde(default)]
    pub author: String,
    /// End of the revocation, at most a year from now. If it is null, the revocation ends when the
    /// indicators would have expired.
    pub until: Option<u64>,
    /// Whether to only count the indicators, and not revoke them.
    #[serde(default)]
    pub dry_run: bool,
}

/// Conditions that select indicators. An indicator must meet all conditions that are not null. At
/// least one condition is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default, deny_unknown_fields)]
pub struct RevokeFilter {
    /// Name of the correlation.
    pub correlation: Option<String>,
    /// Id of the cluster, 8 hexadecimal digits.
    pub cluster: Option<String>,
    /// Account that took part in a firing: its id, as in decisions, or its hash, as in the status.
    pub account: Option<String>,
    /// Start of the period in which the first firing must be (inclusive).
    pub from: Option<u64>,
    /// End of the period in which the first firing must be (exclusive).
    pub to: Option<u64>,
}

/// The response of `POST /indicators/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RevokeMatchingResult {
    /// Number of indicators that were revoked, or would be in a dry run.
    pub count: u64,
    /// Whether the indicators were only counted, and not revoked.
    pub dry_run: bool,
}
