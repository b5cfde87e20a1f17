//! The form in which a ruleset travels: canonical JSON, known by its SHA-256.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::list::List;
use crate::error::Error;
use crate::policy::Policy;
use crate::signature::Signature;

/// The format that this version writes, and the newest that it reads.
///
/// | format | adds |
/// |---|---|
/// | 1 | policy, signatures, sources |
/// | 2 | serial, created, correlations, lists; the policy's `noise` |
pub const FORMAT: u32 = 2;

/// Bytes that a bundle has at most.
pub const MAX_BYTES: usize = 5 << 20;

/// Signatures and lists that a bundle has at most.
pub const MAX_SIGNATURES: usize = 10_000;

/// Signatures, lists and policy, and the digests of the files that they came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Version of this form.
    pub format: u32,
    /// Which push this was, from 1; 0 where it was built for no push.
    #[serde(default)]
    pub serial: u64,
    /// When it was pushed, in seconds since the epoch; 0 where it was built for no push: the same
    /// files then make the same bundle.
    #[serde(default)]
    pub created: u64,
    /// The policy.
    pub policy: Policy,
    /// The signatures, by name.
    pub signatures: Vec<Signature>,
    /// The correlations. This version evaluates none, and so takes none.
    #[serde(default)]
    pub correlations: Vec<Correlation>,
    /// Lists of clients and accounts, by name.
    #[serde(default)]
    pub lists: Vec<List>,
    /// SHA-256 of every source file, by its path below the rules directory.
    pub sources: BTreeMap<String, String>,
}

/// A rule over many requests: none can be expressed yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Correlation {}

impl Bundle {
    /// A bundle of no push, without lists.
    pub fn new(policy: Policy, signatures: Vec<Signature>) -> Self {
        Self {
            format: FORMAT,
            serial: 0,
            created: 0,
            policy,
            signatures,
            correlations: Vec::new(),
            lists: Vec::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Reads a bundle.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        if bytes.len() > MAX_BYTES {
            let problem =
                format!("the bundle has {} bytes, more than {MAX_BYTES} (5 MiB)", bytes.len());
            return Err(Error::new(problem, "shorten lists, or retire signatures"));
        }
        let rebuild = "build it again with `hedgerow build`";
        let head: Head = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("this is no bundle: {error}"), rebuild))?;
        match head.format {
            0 => return Err(Error::new("there is no bundle format 0", rebuild)),
            1..=FORMAT => {}
            newer => {
                let problem =
                    format!("bundle format {newer} is newer than {FORMAT}, the newest known here");
                let remedy = "update Hedgerow, or build the bundle with this version";
                return Err(Error::new(problem, remedy));
            }
        }
        let bundle: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("damaged bundle: {error}"), rebuild))?;
        match bundle.signatures.len().saturating_add(bundle.lists.len()) {
            ..=MAX_SIGNATURES => Ok(bundle),
            count => {
                let problem =
                    format!("{count} signatures and lists are more than {MAX_SIGNATURES}");
                Err(Error::new(problem, "retire some, or merge lists"))
            }
        }
    }

    /// Whether two bundles decide alike: whatever push they are of, from whatever files.
    pub fn decides_like(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.signatures == other.signatures
            && self.correlations == other.correlations
            && self.lists == other.lists
    }

    /// The canonical JSON (RFC 8785): what is addressed, and signed.
    #[cfg(feature = "sigma")]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json_canonicalizer::to_vec(self).unwrap_or_default()
    }
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this is a SHA-256 in hex, as digests are written.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
