//! Where bundles and releases are kept: a deployment's registry, or a directory that one pulls from.

mod directory;
mod http;

use hedgerow::ruleset::{Diff, digest, short};
use hedgerow::trust::Keys;
use hedgerow::{Bundle, Release};
use serde::{Deserialize, Serialize};

use super::{Failure, Result};

pub use directory::Directory;
pub use http::{Http, Token};

/// A registry.
pub trait Store {
    /// The bundles, newest first.
    fn bundles(&self) -> Result<Vec<Entry>>;

    /// A bundle and its signature, as they came: nothing is held against anything.
    fn bundle(&self, digest: &str) -> Result<Signed>;

    /// Keeps a bundle.
    fn upload(&self, digest: &str, bundle: &Signed) -> Result<()>;

    /// The newest releases, newest first.
    fn releases(&self) -> Result<Vec<Signed>>;

    /// Keeps a release, and puts it in force.
    fn publish(&self, kind: Kind, serial: u64, release: &Signed) -> Result<Published>;

    /// What changes from one bundle to another, where the store itself can tell.
    fn diff(&self, from: &str, to: &str) -> Result<Diff>;

    /// The registry as what waiting asks, where it is one.
    fn http(&self) -> Option<&Http>;

    /// The newest release.
    fn current(&self) -> Result<Option<Signed>> {
        Ok(self.releases()?.into_iter().next())
    }
}

/// A bundle that a registry has.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Entry {
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
pub struct Signed {
    #[serde(alias = "bundle")]
    pub text: String,
    pub signature: String,
}

/// What publishing came to.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Published {
    pub serial: u64,
    pub published: bool,
    pub problem: Option<String>,
}

/// How a release comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Release,
    Promote,
    Rollback,
}

impl Signed {
    /// The bundle, if somebody who is believed signed it, and it is the one asked for.
    pub fn bundle(&self, asked: &str, keys: &Keys) -> Result<Bundle> {
        let name = short(asked);
        let found = digest(self.text.as_bytes());
        if found != asked {
            return Err(Failure::Refused(format!(
                "bundle {name}: the registry gave other bytes, {}; it was changed there: push again",
                short(&found)
            )));
        }
        let verified = keys.verify(self.text.as_bytes(), &self.signature);
        verified.map_err(|error| unbelieved(&format!("bundle {name}"), &error))?;
        Bundle::parse(self.text.as_bytes())
            .map_err(|error| Failure::Refused(format!("bundle {name}: {error}")))
    }

    /// The release, if somebody who is believed signed it.
    pub fn release(&self, keys: &Keys) -> Result<Release> {
        let verified = keys.verify(self.text.as_bytes(), &self.signature);
        verified.map_err(|error| unbelieved("the registry's release", &error))?;
        Release::parse(self.text.as_bytes())
            .map_err(|error| Failure::Refused(format!("the registry's release: {error}")))
    }
}

/// Something that was signed by whom this command does not know: what is derived from it would carry
/// this command's signature.
fn unbelieved(what: &str, error: &hedgerow::Error) -> Failure {
    Failure::Refused(format!(
        "{what}: {}; if it is a colleague's, or of a key that this one follows, add that public key \
         to `public_keys` in hedgerow.toml",
        error.problem()
    ))
}

/// Somebody published meanwhile, or something is ahead of this command.
pub fn conflict(serial: Option<u64>) -> Failure {
    let found = serial.map_or(String::new(), |serial| format!(": the current serial is {serial}"));
    Failure::Refused(format!(
        "somebody else published a release meanwhile{found}; look at it with `hedgerow status`, \
         and decide again"
    ))
}
