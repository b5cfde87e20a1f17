//! `/releases`, `/promote` and `/rollback`: releases, which name the bundles in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::rules::release::Release;

/// The response of `GET /releases`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ReleaseList {
    /// Releases, newest first.
    pub releases: Vec<ReleaseInfo>,
}

/// A stored release; the response of `GET /releases/current`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ReleaseInfo {
    /// Number of the release, from 1.
    pub serial: u64,
    /// Action that made the release: `release`, `promote`, `rollback` or `pull`.
    #[serde(default)]
    pub kind: String,
    /// Time at which the release was written to KV; null until then.
    #[serde(default)]
    pub published: Option<u64>,
    /// Signed content; null if it has a format that this version does not know.
    #[serde(deserialize_with = "deserialize_known_format")]
    pub release: Option<Release>,
    /// Content digests of the bundles of `release`, by digest of the bundle. Bundles that are no
    /// longer stored are missing, and so are the embedded rules.
    #[serde(default)]
    pub contents: BTreeMap<String, String>,
    /// Signed text of `release`.
    #[serde(default)]
    pub text: String,
    /// Minisign signature of the release: the text of the `.minisig` file.
    #[serde(default)]
    pub signature: String,
    /// Public key that verifies the signature: the second line of a `.pub` file.
    #[serde(default)]
    pub key: String,
}

/// The body of `POST /releases`, `POST /promote` and `POST /rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ReleaseUpload {
    /// Signed text of the release, at most 16 KiB.
    pub release: String,
    /// Minisign signature of the release: the text of the `.minisig` file.
    pub signature: String,
}

/// The response of `POST /releases`, `POST /promote` and `POST /rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct PublishResult {
    /// Number of the release.
    pub serial: u64,
    /// Whether KV has the release. If not, the registry has stored the release and retries the
    /// write.
    pub published: bool,
    /// Reason why KV does not have the release; null if KV has it.
    pub problem: Option<String>,
    /// Whether a stop is in force, so that some or all requests are not enforced.
    pub stopped: bool,
}

/// Deserialises a release; `None` if this version cannot read it.
fn deserialize_known_format<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Release>, D::Error> {
    Ok(Release::deserialize(Value::deserialize(deserializer)?).ok())
}
