//! Bundles and releases, as publishers sign and send them.

use hedgerow_core::api::{BundleUpload, ReleaseUpload};
use hedgerow_core::ruleset::Release;

/// A bundle or release with its signature.
pub struct SignedText {
    /// The signed text. Its signature covers exactly these bytes.
    pub text: String,
    /// The minisign signature: the text of a `.minisig` file.
    pub signature: String,
}

impl From<BundleUpload> for SignedText {
    fn from(BundleUpload { bundle, signature }: BundleUpload) -> Self {
        Self { text: bundle, signature }
    }
}

impl From<ReleaseUpload> for SignedText {
    fn from(ReleaseUpload { release, signature }: ReleaseUpload) -> Self {
        Self { text: release, signature }
    }
}

/// The operation by which a release arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseKind {
    /// `POST /releases`: any change.
    Release,
    /// `POST /promote`: the canary or shadow becomes active.
    Promote,
    /// `POST /rollback`: an earlier bundle becomes active.
    Rollback,
    /// The release was fetched from CONFIG_URL.
    Pull,
}

impl ReleaseKind {
    /// Returns the name in the table `release` and the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Pull => "pull",
        }
    }

    /// Returns the kind of release that a route accepts; `None` for any other path.
    pub fn from_path(path: &str) -> Option<Self> {
        match path {
            "/releases" => Some(Self::Release),
            "/promote" => Some(Self::Promote),
            "/rollback" => Some(Self::Rollback),
            _ => None,
        }
    }
}

/// A release whose signature was verified.
pub struct VerifiedRelease {
    /// The parsed manifest.
    pub release: Release,
    /// The signed text of the manifest.
    pub text: String,
    /// The minisign signature of `text`.
    pub signature: String,
    /// The public key that verified the signature, in base64.
    pub key: String,
}
