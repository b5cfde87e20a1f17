//! `/stop`: orders that lower the mode to Shadow.

use serde::{Deserialize, Serialize};

use crate::rules::stop::Stop;

/// The body of `POST /stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Patterns of the paths that are no longer enforced, at most 16, such as `/v1/chat/**`. Empty
    /// for all requests.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Reason for the audit log; further characters after 200 are cut off.
    pub reason: String,
    /// Name of the operator, for the audit log.
    #[serde(default)]
    pub author: String,
}

/// The response of `POST /stop`, and the member `stop` of `GET /status`: the stop in force, and
/// whether isolates can read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct StopStatus {
    /// The stop. Its paths include those of an earlier stop that was in force.
    pub stop: Stop,
    /// Whether KV has the stop. If not, the registry retries the write.
    pub published: bool,
    /// Reason why KV does not have the stop; null if KV has it.
    pub problem: Option<String>,
}
