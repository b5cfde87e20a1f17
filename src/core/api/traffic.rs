//! The member `traffic` of `GET /status`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rules::policy::Band;

/// Numbers by name, such as the number of requests by the name of the band.
pub type Counts = BTreeMap<String, u64>;

/// Decided requests of a period, over all isolates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct TrafficSummary {
    /// Length of the period in seconds.
    pub seconds: u64,
    /// Number of requests.
    pub requests: u64,
    /// Requests by serial of the release; `0` if the embedded rules decided without a release.
    pub by_serial: Counts,
    /// Requests by digest of the bundle that decided.
    pub by_ruleset: Counts,
    /// Requests by role of the ruleset that decided.
    pub by_role: Counts,
    /// Requests by band.
    pub by_band: Counts,
    /// Requests by action of the policy. The action is carried out only in mode Enforce.
    pub by_action: Counts,
    /// Requests by mode.
    pub by_mode: Counts,
    /// Requests by IATA code of the data centre.
    pub by_colo: Counts,
    /// Requests by name of the exemption that applied. If several applied, the first one of the
    /// policy counts.
    pub by_exemption: Counts,
    /// Signatures, lists and correlations with the most hits, the most frequent first; at most 50.
    pub signatures: Vec<SignatureHits>,
    /// Number of requests of which a part was not scored.
    pub incomplete: u64,
    /// Requests by reason why a part was not scored. A request may have several reasons.
    pub by_unscored: Counts,
    /// Requests with a body that were forwarded unread, by method and path, the most frequent
    /// first; at most 50.
    pub forwarded_unread: Vec<PathCount>,
    /// Requests that were refused or degraded, but whose decisions are not kept: an isolate had no
    /// room for them, or the ledger deleted them because of `max_bytes`.
    pub enforced_not_kept: u64,
    /// Number of reports of isolates by MiB of the isolate's Wasm memory, rounded up to a multiple
    /// of 16.
    pub memory_mib: Counts,
    /// Failures of Hedgerow.
    pub errors: Vec<ErrorCount>,
    /// Comparison with the shadow bundle that scored the most requests; null if no shadow bundle
    /// scored a request.
    pub shadow: Option<ShadowTraffic>,
}

/// Hits of a signature, list or correlation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SignatureHits {
    /// Name of the signature, list or correlation.
    pub name: String,
    /// Number of requests that the signature, list or correlation hit.
    pub hits: u64,
}

/// Requests to paths that differ only in ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PathCount {
    /// HTTP method, or `WEBSOCKET` for a WebSocket.
    pub method: String,
    /// Path, in which `*` stands for ids.
    pub path: String,
    /// Number of requests.
    pub count: u64,
}

/// A failure of Hedgerow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ErrorCount {
    /// Description of the failure.
    pub message: String,
    /// Number of failures in the period.
    pub count: u64,
}

/// Requests that both the active bundle and the shadow bundle have scored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct ShadowTraffic {
    /// Digest of the shadow bundle.
    pub ruleset: String,
    /// Number of requests.
    pub requests: u64,
    /// Requests by the bands of both bundles.
    pub bands: Vec<BandChange>,
    /// Signatures that hit requests with only one of the two bundles.
    pub signatures: Vec<SignatureDifference>,
}

/// Requests in band `from` of the active bundle and band `to` of the shadow bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct BandChange {
    /// Band of the active bundle.
    pub from: Band,
    /// Band of the shadow bundle.
    pub to: Band,
    /// Number of requests.
    pub count: u64,
}

/// Requests that a signature hit with only one of the bundles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SignatureDifference {
    /// Name of the signature, list or correlation.
    pub name: String,
    /// Number of requests that were hit only with the active bundle.
    pub only_active: u64,
    /// Number of requests that were hit only with the shadow bundle.
    pub only_shadow: u64,
}
