//! Canonical JSON (RFC 8785) of bundles and releases.

use hedgerow_core::{Bundle, Release};

/// A value that has exactly one canonical text. The digest and the signature are computed from this
/// text.
///
/// The trait is not in the core, because only authoring tools encode values, and the number
/// formatting of RFC 8785 would make the Worker larger.
pub trait Canonical {
    /// Returns the canonical JSON as UTF-8.
    fn encode(&self) -> Vec<u8>;
}

impl Canonical for Bundle {
    fn encode(&self) -> Vec<u8> {
        serde_json_canonicalizer::to_vec(self).unwrap_or_default()
    }
}

impl Canonical for Release {
    fn encode(&self) -> Vec<u8> {
        serde_json_canonicalizer::to_vec(self).unwrap_or_default()
    }
}
