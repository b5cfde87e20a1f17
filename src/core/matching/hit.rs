//! A hit: a matching signature with its evidence, which is a field and a byte range, never text.

use serde::{Deserialize, Serialize};

use crate::field::Field;

/// A signature that matched, with its evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Index of the signature in the ruleset.
    pub signature: usize,
    /// Locations of the matches that together make the condition hold.
    pub evidence: Vec<Evidence>,
    /// Positions in [`Signature::innocence`] of the selections that hold.
    ///
    /// [`Signature::innocence`]: crate::rules::signature::Signature::innocence
    pub innocence: Vec<usize>,
    /// Keyed hash of the indicator if the hit comes from an indicator; `None` for a signature.
    pub indicator_key: Option<u64>,
}

/// The location of a match: never the text itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Evidence {
    /// Field that the comparison tests.
    #[cfg_attr(test, ts(type = "string"))]
    pub field: Field,
    /// Offset of the first byte: in the decompressed body for text, in the value for keywords.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}
