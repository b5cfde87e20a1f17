//! Keyed hashes of a request's values, which correlations and lists compare instead of text.

use super::raw_string::RawString;
use super::request::Request;
use crate::field::{FieldId, Section};
use crate::keyed_hash::HashKey;
use crate::template;

impl Request<'_> {
    /// Returns the values of `field`, which are keyed hashes. Values that come from the matched
    /// rules, or from the headers of the request, are not included.
    ///
    /// Template hashes are cached in the request, for the first `hash_key` only.
    pub fn keyed_hashes(&self, field: FieldId, hash_key: &HashKey) -> Vec<u64> {
        let field_name = field.spec().name;
        let inputs = self.hash_inputs.iter().filter(|(id, _)| *id == field);
        let input_hashes =
            inputs.map(|(_, value)| hash_key.keyed_hash(field_name, value.as_bytes()));
        let mut hashes: Vec<u64> = input_hashes.collect();
        match field {
            FieldId::TemplateUser | FieldId::TemplateSystem => {
                let [user_cache, system_cache] = &self.template_hashes;
                let (cache, section) = match field {
                    FieldId::TemplateUser => (user_cache, Section::User),
                    _ => (system_cache, Section::System),
                };
                let compute_hashes = || {
                    self.work.spend_reading(template::MAX_SKETCHED_BYTES.min(self.text.len()));
                    template::keys(field_name, self.texts(section), hash_key)
                };
                match cache.get_or_init(|| (*hash_key, compute_hashes())) {
                    (cached_key, cached) if cached_key == hash_key => hashes.extend(cached),
                    _ => hashes.extend(compute_hashes()),
                }
            }
            FieldId::PromptDigest => {
                hashes.extend(template::digest(field_name, self.texts(Section::User), hash_key));
            }
            FieldId::ReasoningToken => {
                // The token is decoded, because the sender can escape the same value in many ways.
                let tokens = self.reasoning_tokens.iter().map(RawString::text);
                let signed = tokens.filter(|token| may_be_ciphertext(token.as_bytes()));
                hashes
                    .extend(signed.map(|token| hash_key.keyed_hash(field_name, token.as_bytes())));
                // The hashes are sorted first, so that the selection does not depend on the
                // sender's order.
                hashes.sort_unstable();
                hashes.truncate(MAX_REASONING_HASHES);
            }
            FieldId::LogitBiasDigest => {
                hashes.extend(
                    self.logit_bias_digest
                        .map(|bias| hash_key.keyed_hash(field_name, &bias.to_le_bytes())),
                );
            }
            _ => {}
        }
        hashes
    }
}

/// Returns whether a token may be a signature or a ciphertext. The signatures and ciphertexts of
/// all vendors are longer than the placeholders of clients, and have more different characters.
fn may_be_ciphertext(token: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in token.iter().take(MAX_INSPECTED_BYTES) {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    token.len() >= MIN_TOKEN_BYTES
        && seen.iter().filter(|seen| **seen).count() >= MIN_DIFFERENT_BYTES
}

/// Minimum bytes of a token that may be a ciphertext. Real tokens have hundreds of bytes.
const MIN_TOKEN_BYTES: usize = 48;

/// Minimum number of different bytes in a token that may be a ciphertext: 16, because a token may
/// be written in hexadecimal digits.
const MIN_DIFFERENT_BYTES: usize = 16;

/// Maximum number of bytes at the start of a token in which different bytes are counted.
const MAX_INSPECTED_BYTES: usize = 1_024;

/// Maximum number of reasoning tokens that are hashed per request.
const MAX_REASONING_HASHES: usize = 16;
