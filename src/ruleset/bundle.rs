//! The form in which a ruleset travels: canonical JSON, known by its SHA-256.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::policy::Policy;
use crate::signature::Signature;

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Signatures and policy, and the digests of the files that they came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Version of this form.
    pub format: u32,
    /// The policy.
    pub policy: Policy,
    /// The signatures, by name.
    pub signatures: Vec<Signature>,
    /// SHA-256 of every source file, by its path below the rules directory.
    pub sources: BTreeMap<String, String>,
}

impl Bundle {
    /// Reads a bundle.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let rebuild = "build it again with `hedgerow build`";
        let head: Head = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("this is no bundle: {error}"), rebuild))?;
        if head.format == 0 || head.format > FORMAT {
            let problem = format!(
                "bundle format {} is newer than {FORMAT}, the newest known here",
                head.format
            );
            return Err(Error::new(
                problem,
                "update Hedgerow, or build the bundle with this version",
            ));
        }
        serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("damaged bundle: {error}"), rebuild))
    }
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
