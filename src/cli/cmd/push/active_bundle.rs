//! The bundle that is active before a push.

use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::ruleset::{Diff, short_digest};
use hedgerow_core::{Bundle, Release, Ruleset};

use crate::cmd::release::Publisher;
use crate::dates::now;
use crate::error::{Error, Result};
use crate::terminal::print_error;

/// The bundle that decides for all accounts outside of a canary.
pub struct ActiveBundle {
    /// Digest, or `embedded`.
    pub digest: String,
    /// Content; `None` if it cannot be read. The embedded rules are in the Worker.
    bundle: Option<Bundle>,
}

impl ActiveBundle {
    /// Reads and verifies the active bundle of a release; without a release that is in force, it is
    /// the embedded one. Prints a warning if the bundle cannot be read, because a push may have to
    /// replace just such a bundle.
    pub fn load(publisher: &Publisher, current: Option<&Release>) -> Self {
        let in_force = current.filter(|release| !release.is_expired(now()));
        let digest = in_force.map_or(EMBEDDED, |release| release.active.as_str()).to_owned();
        if digest == EMBEDDED {
            return Self { digest, bundle: None };
        }
        let bundle = load_verified(publisher, &digest);
        if let Err(Error::Io(problem) | Error::Rejected(problem)) = &bundle {
            print_error(&format!(
                "warning: the rules cannot be compared with the active bundle {}: {problem}",
                short_digest(&digest)
            ));
        }
        Self { digest, bundle: bundle.ok() }
    }

    /// Compiles the bundle; `None` if its content is not known, or if it does not compile.
    pub fn ruleset(&self) -> Option<Ruleset> {
        Ruleset::new(self.bundle.clone()?, self.digest.clone()).ok()
    }

    /// Returns what changes from this bundle to another; `None` if its content is not known.
    pub fn diff(&self, to: &Bundle) -> Option<Diff> {
        self.bundle.as_ref().map(|from| Diff::between(from, to))
    }
}

/// Reads a bundle of the registry, and verifies its digest and its signature.
pub fn load_verified(publisher: &Publisher, digest: &str) -> Result<Bundle> {
    publisher.store.bundle(digest)?.verified_bundle(digest, &publisher.trusted_keys)
}
