//! The interface of a store, and its contents: signed bundles and releases.

use hedgerow_core::api::{BundleInfo, PublishResult};
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::{Diff, digest, short_digest};
use hedgerow_core::{Bundle, Release};
use serde_json::Value;

use crate::error::{Error, Result};

/// A store of bundles and releases.
pub trait ReleaseStore {
    /// Lists the bundles, newest first.
    fn bundles(&self) -> Result<Vec<BundleInfo>>;

    /// Returns a bundle and its signature, without verifying them.
    fn bundle(&self, digest: &str) -> Result<SignedText>;

    /// Stores a bundle.
    fn upload(&self, digest: &str, bundle: &SignedText) -> Result<()>;

    /// Returns the latest releases, newest first, without verifying them.
    fn releases(&self) -> Result<Vec<SignedText>>;

    /// Stores a release, and makes it current.
    ///
    /// Returns `Rejected` if its serial is not above the current serial.
    fn publish(
        &self,
        kind: ReleaseCommand,
        serial: u64,
        release: &SignedText,
    ) -> Result<PublishResult>;

    /// Compares two bundles. `from` and `to` are digests, or `embedded` for the Worker's own rules.
    /// A directory returns an I/O error, because it does not have the embedded rules.
    fn diff(&self, from: &str, to: &str) -> Result<Diff>;

    /// Returns whether the store is the registry of a deployment. Only a registry knows the traffic
    /// and the embedded rules of a deployment.
    fn is_registry(&self) -> bool {
        false
    }

    /// Returns the answer of `GET /status` of the deployment. A directory returns an I/O error,
    /// because it has no status.
    fn status(&self) -> Result<Value> {
        Err(Error::Io(
            "a directory has no status: expected a deployment; set `url` in the settings"
                .to_owned(),
        ))
    }

    /// Returns the latest release, without verifying it; `None` if nothing was released.
    fn current_release(&self) -> Result<Option<SignedText>> {
        Ok(self.releases()?.into_iter().next())
    }
}

/// A text and the content of its `.minisig` file.
#[derive(Clone, Debug)]
pub struct SignedText {
    pub text: String,
    pub signature: String,
}

/// The command that makes a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseCommand {
    Release,
    Promote,
    Rollback,
}

impl SignedText {
    /// Verifies the digest and the signature of a bundle, and parses the bundle. Returns `Rejected`
    /// if one of these steps fails.
    pub fn verified_bundle(&self, expected_digest: &str, keys: &TrustedKeys) -> Result<Bundle> {
        let name = short_digest(expected_digest);
        let actual_digest = digest(self.text.as_bytes());
        if actual_digest != expected_digest {
            return Err(changed_bundle(expected_digest, &actual_digest));
        }
        let verified = keys.verify(self.text.as_bytes(), &self.signature);
        verified.map_err(|error| untrusted_error(&format!("bundle {name}"), &error))?;
        Bundle::parse(self.text.as_bytes())
            .map_err(|error| Error::Rejected(format!("bundle {name}: {error}")))
    }

    /// Verifies the signature of a release, and parses the release. Returns `Rejected` if one of
    /// these steps fails.
    pub fn verified_release(&self, keys: &TrustedKeys) -> Result<Release> {
        let verified = keys.verify(self.text.as_bytes(), &self.signature);
        verified.map_err(|error| untrusted_error("the registry's release", &error))?;
        Release::parse(self.text.as_bytes())
            .map_err(|error| Error::Rejected(format!("the registry's release: {error}")))
    }
}

/// Returns the error for a bundle that differs from its digest.
pub fn changed_bundle(expected_digest: &str, actual_digest: &str) -> Error {
    Error::Rejected(format!(
        "bundle {}: the stored bytes have another digest, {}: somebody changed them; push again",
        short_digest(expected_digest),
        short_digest(actual_digest)
    ))
}

/// Returns the error for a text whose signature is not by a trusted key. Such a text is refused,
/// because the command signs the release that it makes from the text, and so would vouch for it.
fn untrusted_error(subject: &str, error: &hedgerow_core::Error) -> Error {
    Error::Rejected(format!(
        "{subject}: {}; if it is the key of a colleague or your previous key, add its public key \
         to `public_keys` in hedgerow.toml",
        error.problem()
    ))
}

/// Returns the error for a release whose serial is not above the current serial, because somebody
/// else has published a release in the meantime. `serial` is the current serial, if it is known.
pub fn serial_conflict(serial: Option<u64>) -> Error {
    let current =
        serial.map_or(String::new(), |serial| format!(": the current serial is {serial}"));
    Error::Rejected(format!(
        "somebody else published a release meanwhile{current}; look at it with `hedgerow status`, \
         and decide again"
    ))
}
