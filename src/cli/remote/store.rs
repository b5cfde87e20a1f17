//! The interface of a store, and what it holds: signed bundles and releases.

use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::{Diff, digest, short_digest};
use hedgerow_core::{Bundle, Release};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// A registry.
pub trait ReleaseStore {
    /// The bundles, newest first.
    fn bundles(&self) -> Result<Vec<BundleInfo>>;

    /// A bundle and its signature, as they came: nothing is held against anything.
    fn bundle(&self, digest: &str) -> Result<SignedText>;

    /// Keeps a bundle.
    fn upload(&self, digest: &str, bundle: &SignedText) -> Result<()>;

    /// The newest releases, newest first.
    fn releases(&self) -> Result<Vec<SignedText>>;

    /// Keeps a release, and puts it in force.
    fn publish(
        &self,
        kind: ReleaseKind,
        serial: u64,
        release: &SignedText,
    ) -> Result<PublishResult>;

    /// What changes from one bundle to another, where the store itself can tell.
    fn diff(&self, from: &str, to: &str) -> Result<Diff>;

    /// Returns whether the store is the registry of a deployment, which knows its traffic and its embedded rules.
    fn is_registry(&self) -> bool {
        false
    }

    /// Returns the answer of `GET /status` of the deployment. A directory has none: that is an I/O error.
    fn status(&self) -> Result<Value> {
        Err(Error::Io("a directory does not know what the edge does: expected `url`".to_owned()))
    }

    /// The newest release.
    fn current_release(&self) -> Result<Option<SignedText>> {
        Ok(self.releases()?.into_iter().next())
    }
}

/// A bundle that a registry has.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct BundleInfo {
    pub digest: String,
    pub serial: u64,
    pub created: u64,
    pub bytes: u64,
    pub signatures: usize,
    pub lists: usize,
    pub uploaded: u64,
}

/// A text and its signature.
#[derive(Clone, Debug, Deserialize)]
pub struct SignedText {
    #[serde(alias = "bundle")]
    pub text: String,
    pub signature: String,
}

/// What publishing came to.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PublishResult {
    pub serial: u64,
    pub published: bool,
    pub problem: Option<String>,
}

/// How a release comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseKind {
    Release,
    Promote,
    Rollback,
}

impl SignedText {
    /// The bundle, if somebody who is believed signed it, and it is the one asked for.
    pub fn verified_bundle(&self, expected_digest: &str, keys: &TrustedKeys) -> Result<Bundle> {
        let name = short_digest(expected_digest);
        let actual_digest = digest(self.text.as_bytes());
        if actual_digest != expected_digest {
            return Err(Error::Rejected(format!(
                "bundle {name}: the registry gave other bytes, {}; it was changed there: push again",
                short_digest(&actual_digest)
            )));
        }
        let verified = keys.verify(self.text.as_bytes(), &self.signature);
        verified.map_err(|error| untrusted(&format!("bundle {name}"), &error))?;
        Bundle::parse(self.text.as_bytes())
            .map_err(|error| Error::Rejected(format!("bundle {name}: {error}")))
    }

    /// The release, if somebody who is believed signed it.
    pub fn verified_release(&self, keys: &TrustedKeys) -> Result<Release> {
        let verified = keys.verify(self.text.as_bytes(), &self.signature);
        verified.map_err(|error| untrusted("the registry's release", &error))?;
        Release::parse(self.text.as_bytes())
            .map_err(|error| Error::Rejected(format!("the registry's release: {error}")))
    }
}

/// Something that was signed by whom this command does not know: what is derived from it would carry
/// this command's signature.
pub(super) fn untrusted(subject: &str, error: &hedgerow_core::Error) -> Error {
    Error::Rejected(format!(
        "{subject}: {}; if it is a colleague's, or of a key that this one follows, add that public key \
         to `public_keys` in hedgerow.toml",
        error.problem()
    ))
}

/// Somebody published meanwhile, or something is ahead of this command.
pub fn serial_conflict(serial: Option<u64>) -> Error {
    let current =
        serial.map_or(String::new(), |serial| format!(": the current serial is {serial}"));
    Error::Rejected(format!(
        "somebody else published a release meanwhile{current}; look at it with `hedgerow status`, \
         and decide again"
    ))
}
