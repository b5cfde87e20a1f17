//! `GET /audit`: the log of changes and rejected calls.

use serde::{Deserialize, Serialize};

/// The response of `GET /audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AuditLog {
    /// Entries, newest first.
    pub entries: Vec<AuditEntry>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct AuditEntry {
    /// Number of the entry, from 1. A request with this number as the parameter `before` returns
    /// older entries.
    pub id: u64,
    /// Time of the call.
    pub at: u64,
    /// Caller: the scope of the caller's token (`admin`, `stop` or `read`), or `nobody` without a
    /// valid token. For releases from CONFIG_URL, the value is `pull`; for actions of the registry
    /// itself, `registry`.
    pub actor: String,
    /// Name of the action: `release` or `indicator.revoke`, for example.
    pub action: String,
    /// Object of the action: digest of the bundle, serial of the release, or key of the indicator
    /// with the reason for its revocation.
    pub subject: String,
    /// Author that the release or the revocation names; empty if it names none.
    pub author: String,
    /// Keyed hash of the client's address, 16 hexadecimal digits; null if the address or
    /// ACCOUNT_SECRET is missing.
    #[serde(rename = "client")]
    pub client_hash: Option<String>,
    /// `ok`, the code of an error, or a description of the problem.
    pub result: String,
}
