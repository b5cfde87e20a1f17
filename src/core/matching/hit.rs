//! A hit: a signature that holds, and its evidence. Evidence is a field and a byte range, never text.

use crate::field::Field;

/// A signature that held, and its proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The signature's place in the ruleset.
    pub signature: usize,
    /// What proved it.
    pub evidence: Vec<Evidence>,
    /// The key of the indicator that it is.
    pub indicator_key: Option<u64>,
}

/// Where something was found: never the text itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Evidence {
    /// The field.
    #[serde(serialize_with = "serialize_field_name")]
    pub field: Field,
    /// First byte: in the (decompressed) body for text, in the value for short strings.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

fn serialize_field_name<S: serde::Serializer>(
    field: &Field,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&field.name())
}
