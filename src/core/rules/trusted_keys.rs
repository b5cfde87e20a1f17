//! Trusted minisign public keys, and the verification of bundle and release signatures.
//!
//! Several keys may be accepted at once, so that a key can be replaced without a gap.

use minisign_verify::{Error as Refusal, PublicKey, Signature};

use crate::error::Error;

/// The accepted public keys, each with its Base64 form.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<(String, PublicKey)>);

/// Maximum number of public keys: the key in use, its successor, and room for mistakes.
const MAX_TRUSTED_KEYS: usize = 8;

impl TrustedKeys {
    /// Parses public keys as minisign prints them, separated by white space, commas or semicolons.
    /// The text may contain whole `.pub` files with their comment lines. Returns an error if a key
    /// is malformed, or if there are too many.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let is_comment = |line: &&str| line.trim_start().starts_with("untrusted comment:");
        let lines = text.lines().filter(|line| !is_comment(line));
        let tokens = lines.flat_map(|line| line.split([' ', '\t', ',', ';']));
        let mut keys = Vec::new();
        for token in tokens.filter(|word| !word.is_empty()) {
            let key = PublicKey::from_base64(token).map_err(|_| {
                let prefix: String = token.chars().take(16).collect();
                Error::new(
                    format!("'{prefix}…' is not a minisign public key"),
                    "use the second line of the .pub file that `hedgerow keygen` wrote",
                )
            })?;
            keys.push((token.to_owned(), key));
        }
        if keys.len() > MAX_TRUSTED_KEYS {
            let problem = format!("{} public keys are more than {MAX_TRUSTED_KEYS}", keys.len());
            return Err(Error::new(problem, "remove the keys that are no longer in use"));
        }
        Ok(Self(keys))
    }

    /// Returns whether there is no key. Every signature is then rejected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the keys in Base64, as they were given.
    pub fn as_base64(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(encoded, _)| encoded.as_str())
    }

    /// Verifies a detached signature of bytes. Returns the Base64 form of the key that made it.
    ///
    /// Returns an error if the signature is malformed, too long or invalid, or if its key is
    /// unknown.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<&str, Error> {
        let json_len = serde_json::to_string(signature).map_or(usize::MAX, |text| text.len());
        if json_len > MAX_SIGNATURE_BYTES {
            let remedy = "use the content of the .minisig file; shorten its comments";
            return Err(Error::new("this is not a minisign signature: it is too long", remedy));
        }
        let signature = Signature::decode(signature).map_err(|_| {
            let remedy = "use the content of the .minisig file, all four lines";
            Error::new("this is not a minisign signature", remedy)
        })?;
        for (encoded, key) in &self.0 {
            match key.verify(bytes, &signature, false) {
                Ok(()) => return Ok(encoded),
                Err(Refusal::UnexpectedKeyId) => {}
                Err(Refusal::UnsupportedLegacyMode) => {
                    let remedy = "sign with `hedgerow`, `minisign -H` or `rsign`";
                    return Err(Error::new("the signature is of minisign's old kind", remedy));
                }
                Err(_) => {
                    let problem = "the signature does not fit: one of the two was changed";
                    return Err(Error::new(problem, "sign the bytes as they are, and send both"));
                }
            }
        }
        let remedy = "sign with a key whose public half is in PUBLIC_KEYS, or add it there";
        Err(Error::new("signed with a key that is not accepted here", remedy))
    }
}

/// Maximum bytes of a detached signature as a JSON string. KV stores it as metadata, which is
/// limited to 1,024 bytes. minisign's signatures have about 300.
const MAX_SIGNATURE_BYTES: usize = 900;
