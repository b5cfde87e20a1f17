//! `GET /status`: the active rules, the state of their distribution to isolates, and the traffic.

use serde::{Deserialize, Serialize};

use super::releases::ReleaseInfo;
use super::stop::StopStatus;
use super::traffic::{Counts, TrafficSummary};
use crate::rules::policy::Mode;

/// The response of `GET /status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
// The registry leaves `ledger` and `traffic` at their defaults; the Worker fills them in.
pub struct DeploymentStatus {
    /// Time of the response.
    pub now: u64,
    /// Version of the Worker.
    pub version: String,
    /// Digest of the embedded rules; null if they do not load.
    pub embedded: Option<String>,
    /// Content digest of the embedded rules; empty in a response of an older Worker.
    pub embedded_content: String,
    /// Public keys that the deployment trusts.
    pub keys: Vec<String>,
    /// Newest release; null before the first release.
    pub release: Option<ReleaseInfo>,
    /// Stop in force; null if enforcement is not stopped.
    pub stop: Option<StopStatus>,
    /// Highest mode that MODE_CEILING allows; null if an older Worker does not report it.
    pub mode_ceiling: Option<Mode>,
    /// Exemptions of the active bundle, in the order of its policy.
    pub exemptions: Vec<ExemptionInfo>,
    /// State of the release in KV.
    pub publication: PublicationStatus,
    /// State of pulls from CONFIG_URL; null if CONFIG_URL is not set.
    pub pull: Option<PullStatus>,
    /// Numbers of indicators and clusters.
    pub indicators: IndicatorStatus,
    /// Number of accounts with a name or a tenant, and whether KV has the names.
    pub principals: PrincipalsStatus,
    /// State of the ledger, which counts the traffic.
    pub ledger: LedgerStatus,
    /// Traffic of the period; empty if the ledger does not answer.
    pub traffic: TrafficSummary,
}

/// An exemption of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ExemptionInfo {
    /// Name, as decisions show it.
    pub name: String,
    /// End: the time from which the exemption no longer applies.
    pub until: u64,
    /// Reason, for people.
    pub reason: String,
}

/// State of the release in KV, which isolates read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct PublicationStatus {
    /// Serial of the release in KV; null if KV has no release.
    pub serial: Option<u64>,
    /// Serial of a release that is not written to KV yet; null if there is none.
    pub pending: Option<u64>,
    /// Number of failed attempts to write the pending release.
    pub attempts: u64,
    /// Reason why the last attempt to write the pending release failed; null if no attempt failed.
    pub problem: Option<String>,
}

/// State of pulls from CONFIG_URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct PullStatus {
    /// Whether CONFIG_URL is set: always true, because the pull status is null without it.
    pub url_set: bool,
    /// Time of the last pull; null before the first pull.
    pub checked: Option<u64>,
    /// Time of the last pull that found a new release; null if no pull found one.
    pub changed: Option<u64>,
    /// Reason why the last pull failed; null if it succeeded.
    pub problem: Option<String>,
}

/// Numbers of indicators and clusters with their limits, and whether KV has the latest indicators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct IndicatorStatus {
    /// Number of active indicators.
    pub count: u64,
    /// Number of clusters.
    pub clusters: u64,
    /// Whether the latest indicators are still to be written to KV.
    pub pending: bool,
    /// Reason why the last write to KV failed, or why the next write must wait; null if neither is
    /// the case.
    pub problem: Option<String>,
    /// Maximum of `count`.
    pub max: u64,
    /// Maximum number of indicators of one correlation.
    pub max_per_correlation: u64,
    /// Number of indicators by correlation, without revoked indicators, but including expired
    /// indicators that are not deleted yet.
    pub by_correlation: Counts,
    /// Number of revoked indicators.
    pub revoked: u64,
    /// Approximate number of links. A link records the accounts that one firing added to a key.
    pub links: u64,
    /// Maximum of `links`. If there are more, the oldest links are deleted.
    pub max_links: u64,
    /// Number of firings that wait at the correlators to be sent, according to the last reports of
    /// the correlators.
    pub queued_firings: u64,
    /// Largest number of observations that waited at an isolate, according to the last reports of
    /// the correlators. If 4,096 observations wait, the isolate drops further ones.
    pub queued_observations: u64,
    /// Number of writes of indicators to KV on this UTC day.
    pub kv_writes: u64,
    /// Maximum of `kv_writes`: KV_WRITES_PER_DAY.
    pub kv_budget: u64,
    /// Number of firings that a quota refused on this UTC day, since the registry was started.
    pub refused_by_quota: u64,
    /// Number of firings that were refused on this UTC day, since the registry was started, because
    /// the table was full of indicators that were at least as strong.
    pub refused_as_weak: u64,
    /// Number of indicators that were replaced by stronger ones on this UTC day, since the registry
    /// was started.
    pub replaced: u64,
    /// Accounts that caused the most indicators, at most 5, the highest count first.
    pub top_accounts: Vec<IndicatorCause>,
    /// Tenants that caused the most indicators, at most 5, the highest count first.
    pub top_tenants: Vec<IndicatorCause>,
    /// Networks that caused the most indicators, at most 5, the highest count first.
    pub top_networks: Vec<IndicatorCause>,
}

/// An account, tenant or network, and the indicators that it caused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct IndicatorCause {
    /// Keyed hash, 16 hexadecimal digits.
    pub id: String,
    /// Number of indicators.
    pub count: u64,
}

/// Number of accounts that the origin or the operator has named, and whether KV has the names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct PrincipalsStatus {
    /// Number of accounts with a name or a tenant.
    pub count: u64,
    /// Maximum of `count`. A further name replaces the oldest one.
    pub max: u64,
    /// Number of labels; 0 unless the policy has `labels`.
    pub labels: u64,
    /// Whether the latest names are still to be written to KV.
    pub pending: bool,
    /// Reason why the last write to KV failed; null if it succeeded.
    pub problem: Option<String>,
}

/// State of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct LedgerStatus {
    /// Whether all objects of the ledger answered.
    pub reachable: bool,
}

impl Default for LedgerStatus {
    fn default() -> Self {
        Self { reachable: true }
    }
}
