//! The values of a request that are keyed hashes: what correlation and lists compare instead of text.

use super::request::Request;
use crate::field::{FieldId, Section};
use crate::keyed_hash::HashKey;
use crate::template;

impl Request<'_> {
    /// The values of a field that is a keyed hash; those that come from hits are not known here.
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
                let compute_hashes = || template::keys(field_name, self.texts(section), hash_key);
                match cache.get_or_init(|| (*hash_key, compute_hashes())) {
                    (cached_key, cached) if cached_key == hash_key => hashes.extend(cached),
                    _ => hashes.extend(compute_hashes()),
                }
            }
            FieldId::PromptDigest => {
                hashes.extend(template::digest(field_name, self.texts(Section::User), hash_key));
            }
            FieldId::ReasoningToken => {
                // Escapes are the sender's choice.
                let reasoning_hashes = self
                    .reasoning_tokens
                    .iter()
                    .map(|raw| hash_key.keyed_hash(field_name, raw.text().as_bytes()));
                hashes.extend(reasoning_hashes);
                // Of many the same are taken, whoever sends them.
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

/// Signed reasonings of one request that are hashed, at most.
const MAX_REASONING_HASHES: usize = 16;
