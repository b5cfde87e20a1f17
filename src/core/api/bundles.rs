//! `/bundles`: the stored bundles.

use serde::{Deserialize, Serialize};

use crate::rules::bundle::{Bundle, content_digest};

/// The response of `GET /bundles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct BundleList {
    /// Stored bundles, last uploaded first.
    pub bundles: Vec<BundleInfo>,
}

/// A stored bundle without its text; the response of `PUT /bundles/{digest}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default)]
pub struct BundleInfo {
    /// Digest of the bundle's text.
    pub digest: String,
    /// Content digest: the digest without serial, time and digests of source files. Empty in a
    /// response of an older Worker.
    pub content: String,
    /// Number of the push that built the bundle, from 1; 0 if the bundle was not built for a push.
    pub serial: u64,
    /// Time of the build.
    pub created: u64,
    /// Bytes of the bundle's text.
    pub bytes: u64,
    /// Number of signatures.
    pub signatures: u64,
    /// Number of lists.
    pub lists: u64,
    /// Time of the upload.
    pub uploaded: u64,
}

/// The response of `GET /bundles/{digest}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SignedBundle {
    /// Digest of `bundle`.
    pub digest: String,
    /// Signed text of the bundle.
    pub bundle: String,
    /// Minisign signature of the bundle: the text of the `.minisig` file.
    pub signature: String,
}

/// The body of `PUT /bundles/{digest}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct BundleUpload {
    /// Signed text of the bundle.
    pub bundle: String,
    /// Minisign signature of the bundle: the text of the `.minisig` file.
    pub signature: String,
}

impl BundleInfo {
    /// Creates the description of a bundle with this text. `uploaded` is the time of the upload, in
    /// seconds since the epoch.
    pub fn new(digest: String, text: &[u8], bundle: &Bundle, uploaded: u64) -> Self {
        Self {
            digest,
            content: content_digest(text),
            serial: bundle.serial,
            created: bundle.created,
            bytes: text.len() as u64,
            signatures: bundle.signatures.len() as u64,
            lists: bundle.lists.len() as u64,
            uploaded,
        }
    }
}
