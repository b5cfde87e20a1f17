//! `/_hedgerow/health` and `/_hedgerow/version`, which need no token.

use serde::{Deserialize, Serialize};

use crate::rules::policy::Mode;

/// The response of `GET /_hedgerow/health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// Whether requests are forwarded and scored.
    pub status: HealthStatus,
    /// Problems that prevent the forwarding or the scoring of requests.
    pub problems: Vec<ConfigProblem>,
    /// Problems that disable a feature, but do not prevent forwarding or scoring.
    pub warnings: Vec<ConfigProblem>,
    /// Bytes of the isolate's Wasm memory, which never shrinks.
    pub memory_bytes: u64,
    /// State of the isolate, in development only. In JSON, its members are members of this object.
    #[serde(flatten)]
    pub details: Option<HealthDetails>,
}

/// Whether requests are forwarded and scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Requests are forwarded and scored; there may be warnings.
    Ok,
    /// Requests are not forwarded, or not scored.
    Degraded,
}

/// State of the isolate that answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthDetails {
    /// Digest of the active bundle; null if the embedded rules do not load.
    pub ruleset: Option<String>,
    /// Number of signatures in the active bundle; null if the embedded rules do not load.
    pub signatures: Option<u64>,
    /// Mode of the policy in the active bundle; null if the embedded rules do not load.
    pub mode: Option<Mode>,
    /// Serial of the release; null for the embedded rules.
    pub release: Option<u64>,
    /// Reason why the last release was rejected; null if it was not rejected.
    pub rejection: Option<String>,
}

/// A fault in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigProblem {
    /// The fault and its effect, without a full stop.
    pub message: String,
    /// The step that repairs the fault, without a full stop.
    pub remedy: String,
}

/// The response of `GET /_hedgerow/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct VersionInfo {
    /// Version of the Worker.
    pub version: String,
    /// Digest of the active bundle; null if the embedded rules do not load.
    pub ruleset: Option<String>,
    /// Serial of the release; null for the embedded rules.
    pub release: Option<u64>,
    /// Whether a panic ends only the request that caused it, and not the other requests of the
    /// isolate.
    pub panic_unwind: bool,
    /// Role of the host that received the request: whether it serves the console and other pages.
    pub console_host: ConsoleHost,
}

/// The role of a host for the console, which depends on the setting CONSOLE_HOST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum ConsoleHost {
    /// The host serves the console, and nothing else.
    Own,
    /// The host is the local machine in development. It serves the console and the pages of the
    /// origin.
    Local,
    /// The host serves the console and the pages of the origin. Scripts of these pages share the
    /// web origin of the console, and so can read the data that the console stores.
    Shared,
    /// The host does not serve the console: another host does.
    Other,
}

impl ConfigProblem {
    /// Creates a problem from a message and its remedy.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}
