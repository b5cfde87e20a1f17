//! Numbers, signs and uploads bundles.

use hedgerow_core::api::BundleInfo;
use hedgerow_core::{Bundle, Ruleset, ruleset};
use hedgerow_sigma::Canonical;
use serde_json::{Value, json};

use super::noise::NoiseReport;
use crate::cmd::release::Publisher;
use crate::dates::now;
use crate::error::{Error, Result};
use crate::remote::SignedText;
use crate::terminal::print_line;

/// A bundle that was built and is not uploaded yet, and its compiled form.
pub struct BuiltBundle {
    pub bundle: Bundle,
    pub ruleset: Ruleset,
}

/// A bundle with the serial and time of its push.
pub struct PreparedBundle {
    pub digest: String,
    pub content: String,
    pub bundle: Bundle,
    /// The canonical JSON of a bundle that is to be uploaded; `None` if the registry has it.
    text: Option<String>,
}

/// Compiles a bundle with every regex, as the edge does.
pub fn compile(bytes: &[u8]) -> Result<Ruleset> {
    let ruleset =
        Ruleset::load(bytes).and_then(|ruleset| ruleset.compile_regexes().map(|()| ruleset));
    ruleset.map_err(|error| Error::Rejected(format!("the edge would refuse these rules: {error}")))
}

/// Returns the content digest of a bundle.
pub fn content_of(bundle: &Bundle) -> String {
    ruleset::content_digest(&bundle.encode())
}

/// Gives a bundle its serial and time, unless it is equivalent to the newest bundle of the
/// registry, which is returned in its place.
pub fn prepare(publisher: &Publisher, built: Bundle) -> Result<PreparedBundle> {
    let bundles = publisher.store.bundles()?;
    if let Some(newest) = bundles.first()
        && let Some(bundle) = load_own(publisher, newest)?
        && bundle.is_equivalent(&built)
    {
        let (digest, content) = (newest.digest.clone(), content_of(&bundle));
        return Ok(PreparedBundle { digest, content, bundle, text: None });
    }
    number(built, next_serial(&bundles))
}

/// Returns the serial of the next push.
pub fn next_serial(bundles: &[BundleInfo]) -> u64 {
    bundles.iter().map(|info| info.serial).max().unwrap_or(0).saturating_add(1)
}

/// Gives a bundle a serial and the current time, and compiles it. It is compiled although the rules
/// were compiled before, because the check must cover the bytes that are sent.
pub fn number(bundle: Bundle, serial: u64) -> Result<PreparedBundle> {
    let bundle = Bundle { serial, created: now(), ..bundle };
    let bytes = bundle.encode();
    compile(&bytes)?;
    let (digest, content) = (ruleset::digest(&bytes), ruleset::content_digest(&bytes));
    let text = String::from_utf8(bytes).map_err(|error| Error::Io(error.to_string()))?;
    Ok(PreparedBundle { digest, content, bundle, text: Some(text) })
}

/// Signs and uploads a bundle, unless the registry has it.
pub fn upload(publisher: &Publisher, prepared: &PreparedBundle) -> Result<()> {
    let PreparedBundle { digest, text, .. } = prepared;
    let Some(text) = text.clone() else { return Ok(()) };
    let comment = format!("hedgerow bundle {digest}");
    let signature = publisher.signer.sign(text.as_bytes(), &comment)?;
    publisher.store.upload(digest, &SignedText { text, signature })
}

/// Returns a bundle of the registry if it is readable, unchanged, and signed with the publisher's
/// key; otherwise `None`. A bundle that another key signed does not count, so it is uploaded again:
/// the edge would reject it as soon as it no longer trusts the other key.
fn load_own(publisher: &Publisher, info: &BundleInfo) -> Result<Option<Bundle>> {
    let signed = publisher.store.bundle(&info.digest)?;
    Ok(signed.verified_bundle(&info.digest, publisher.signer.verifying_keys()).ok())
}

impl PreparedBundle {
    /// Returns the result of the push as JSON.
    pub fn to_json(&self, noise: Option<&NoiseReport>) -> Value {
        let Self { digest, content, bundle, text } = self;
        json!({
            "digest": digest, "content": content, "new": text.is_some(), "serial": bundle.serial,
            "noise": noise, "signatures": bundle.signatures.len(), "lists": bundle.lists.len(),
        })
    }

    /// Prints the result of the push as text.
    pub fn print_text(&self) -> Result<()> {
        let Self { digest, content, bundle, text } = self;
        let state = match text {
            Some(_) => "uploaded",
            None => "is the newest bundle and equivalent: nothing to upload",
        };
        print_line(format_args!("{digest}  {state}"))?;
        print_line(format_args!("{content}  content digest"))?;
        if text.is_none() {
            return Ok(());
        }
        print_line(format_args!(
            "push {}, {} signatures, {} lists",
            bundle.serial,
            bundle.signatures.len(),
            bundle.lists.len()
        ))
    }
}
