//! Reads a release and its bundles from KV, verifies them and compiles the rulesets.
//!
//! Bytes are verified before they are parsed: the manifest by its signature, a bundle by its digest
//! in the manifest and by its signature. Errors become log lines and counters, so they are kept
//! short: they name bundles by the first 12 digits of their digest.

use std::rc::Rc;

use hedgerow_core::Ruleset;
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::{MAX_BUNDLE_BYTES, Release, digest, short_digest};

use super::rulesets::ActiveRules;
use super::state::{KvState, LoadError};
use super::{embedded, regexes, state};
use crate::isolate::kv_poll::KV_TIMEOUT;
use crate::platform::clock::{now_seconds, with_timeout};
use crate::platform::kv::{ConfigKv, SignedValue};
use crate::platform::panic::catch_panic;
use crate::platform::settings::Settings;

/// The reason why a release cannot be loaded.
enum ReleaseError {
    /// The release or a bundle cannot be verified or compiled.
    Invalid(String),
    /// A bundle cannot be read from KV yet.
    BundleMissing(String),
}

impl From<String> for ReleaseError {
    fn from(error: String) -> Self {
        Self::Invalid(error)
    }
}

/// Reads the release from KV, and loads it if it is new.
///
/// # Errors
/// If the binding RULES is missing, if KV cannot be read within [`KV_TIMEOUT`], or if the release
/// or one of its bundles is invalid or missing.
pub async fn read_release(settings: &Settings) -> Result<KvState, LoadError> {
    let unavailable = |error: &str| LoadError::KvUnavailable(error.to_owned());
    let kv = ConfigKv::from_settings(settings)
        .ok_or_else(|| unavailable("the binding RULES is missing"))?;
    let response = with_timeout(kv.read_release(), KV_TIMEOUT).await;
    let response = response.ok_or_else(|| unavailable("KV does not answer"))?;
    let Some(manifest) = response.map_err(LoadError::KvUnavailable)? else {
        return Ok(KvState::NoRelease);
    };
    if state::with(|state| state.is_in_force(&manifest)) {
        return Ok(KvState::Unchanged);
    }
    if state::with(|state| state.is_backing_off(&manifest)) {
        return Ok(KvState::NoRelease);
    }
    // The first release of an isolate takes effect before its regexes are compiled, unless it was
    // rejected before.
    let compiles_regexes = state::with(|state| state.must_check_first(&manifest));
    match load_release(&kv, &manifest, settings, compiles_regexes).await {
        Ok(rules) => Ok(KvState::New { rules, manifest, is_checked: compiles_regexes }),
        Err(ReleaseError::Invalid(error)) => Err(LoadError::Rejected(manifest, error)),
        Err(ReleaseError::BundleMissing(error)) => Err(LoadError::BundleMissing(manifest, error)),
    }
}

/// Verifies a manifest and loads the bundles that it names: active, canary, shadow.
async fn load_release(
    kv: &ConfigKv,
    manifest: &SignedValue,
    settings: &Settings,
    compiles_regexes: bool,
) -> Result<ActiveRules, ReleaseError> {
    let keys = settings.trusted_keys().map_err(|problem| problem.message)?;
    let release = Rc::new(verify_release(manifest, &keys, settings.min_serial())?);
    let mut loader = Loader { kv, keys: &keys, total_bytes: 0, compiles_regexes };
    let active = loader.load(&release.active).await?;
    let canary = match &release.canary {
        Some(canary) => Some(loader.load(&canary.digest).await?),
        None => None,
    };
    let shadow = match &release.shadow {
        Some(shadow) => Some(loader.load(&shadow.digest).await?),
        None => None,
    };
    Ok(ActiveRules { release: Some(release), active, canary, shadow })
}

/// Verifies the signature of a manifest, then checks the serial and the expiry of the release. The
/// serial must be at least `min_serial` and above every serial that this isolate has adopted.
fn verify_release(
    manifest: &SignedValue,
    keys: &TrustedKeys,
    min_serial: u64,
) -> Result<Release, String> {
    let to_message = |error: hedgerow_core::Error| format!("release: {}", error.problem());
    keys.verify(&manifest.bytes, &manifest.signature).map_err(to_message)?;
    let release = Release::parse(&manifest.bytes).map_err(to_message)?;
    let serial = release.serial;
    let max_serial = state::with(|state| state.max_serial());
    if serial < min_serial {
        return Err(format!(
            "release {serial} is older than {min_serial}, the value of MIN_SERIAL"
        ));
    }
    if serial < max_serial {
        return Err(format!("release {serial} is older than {max_serial}, which was seen before"));
    }
    if serial == max_serial {
        return Err(format!("another release {serial} was seen before"));
    }
    if release.is_expired(now_seconds()) {
        return Err(format!("release {serial} has expired"));
    }
    Ok(release)
}

/// Loads the rulesets of one release.
struct Loader<'a> {
    kv: &'a ConfigKv,
    keys: &'a TrustedKeys,
    /// Bytes of the bundles that were loaded so far.
    total_bytes: usize,
    /// Whether `load` compiles all regexes. Otherwise each regex is compiled on its first use.
    compiles_regexes: bool,
}

impl Loader<'_> {
    /// Returns the ruleset with this digest: the embedded ruleset for [`EMBEDDED`], else the
    /// compiled ruleset of the last adopted release, else a ruleset from KV.
    async fn load(&mut self, digest: &str) -> Result<Rc<Ruleset>, ReleaseError> {
        if digest == EMBEDDED {
            return Ok(embedded::ruleset()?);
        }
        match state::with(|state| state.find_ruleset(digest)) {
            Some(ruleset) => {
                self.add_bytes(digest, ruleset.bundle_bytes())?;
                Ok(ruleset)
            }
            None => self.fetch(digest).await,
        }
    }

    /// Adds the bytes of a bundle to the total. Returns [`ReleaseError::Invalid`] if the total
    /// exceeds [`MAX_BUNDLE_BYTES`]: the limit is for all bundles of a release together, because an
    /// isolate holds all of them.
    fn add_bytes(&mut self, digest: &str, bytes: usize) -> Result<(), ReleaseError> {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        if self.total_bytes <= MAX_BUNDLE_BYTES {
            return Ok(());
        }
        let name = short_digest(digest);
        let problem = "the bundles of this release have more than 5 MiB together";
        Err(ReleaseError::Invalid(format!("bundle {name}: {problem}")))
    }

    /// Reads a bundle from KV, verifies and compiles it.
    ///
    /// # Errors
    /// [`ReleaseError::BundleMissing`] if KV does not have the bundle or does not answer;
    /// [`ReleaseError::Invalid`] if the digest or the signature does not match, if all bundles of
    /// the release together are too large, or if the bundle does not compile.
    async fn fetch(&mut self, expected_digest: &str) -> Result<Rc<Ruleset>, ReleaseError> {
        let name = short_digest(expected_digest);
        let to_message = |error: &str| format!("bundle {name}: {error}");
        let response = with_timeout(self.kv.read_bundle(expected_digest), KV_TIMEOUT).await;
        let response = response.unwrap_or_else(|| Err("KV does not answer".to_owned()));
        let signed = match response {
            Ok(Some(signed)) => signed,
            Ok(None) => return Err(ReleaseError::BundleMissing(to_message("it is not in KV"))),
            Err(error) => return Err(ReleaseError::BundleMissing(to_message(&error))),
        };
        if digest(&signed.bytes) != expected_digest {
            return Err(to_message("the value in KV has another digest").into());
        }
        self.add_bytes(expected_digest, signed.bytes.len())?;
        let verified = self.keys.verify(&signed.bytes, &signed.signature);
        verified.map_err(|error| to_message(error.problem()))?;
        let loaded = catch_panic(|| Ruleset::load(&signed.bytes));
        let ruleset = loaded.ok_or_else(|| to_message("loading panicked"))?;
        let ruleset = ruleset.map_err(|error| to_message(error.problem()))?;
        drop(signed);
        if self.compiles_regexes {
            let compiled = regexes::compile_stepwise(&ruleset).await;
            compiled.map_err(|error| to_message(error.problem()))?;
        }
        Ok(Rc::new(ruleset))
    }
}
