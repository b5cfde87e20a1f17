//! The values of a request that are keyed hashes: what correlation and lists compare instead of text.

use super::Request;
use crate::field::{Name, Place};
use crate::hash::HashKey;
use crate::template;

impl Request<'_> {
    /// The values of a field that is a keyed hash; those that come from hits are not known here.
    pub fn hashes(&self, name: Name, key: &HashKey) -> Vec<u64> {
        let field = name.row().name;
        let given = self.keys.iter().filter(|(own, _)| *own == name);
        let given = given.map(|(_, value)| key.value(field, value.as_bytes()));
        let mut hashes: Vec<u64> = given.collect();
        match name {
            Name::TemplateUser | Name::TemplateSystem => {
                let [of_user, of_system] = &self.templates;
                let (known, place) = match name {
                    Name::TemplateUser => (of_user, Place::User),
                    _ => (of_system, Place::System),
                };
                let keys = || template::keys(field, self.texts(place), key);
                match known.get_or_init(|| (*key, keys())) {
                    (own, known) if own == key => hashes.extend(known),
                    _ => hashes.extend(keys()),
                }
            }
            Name::PromptDigest => {
                hashes.extend(template::digest(field, self.texts(Place::User), key));
            }
            Name::ReasoningToken => {
                // Escapes are the sender's choice.
                let own = self.reasoning.iter().map(|raw| key.value(field, raw.text().as_bytes()));
                hashes.extend(own);
                // Of many the same are taken, whoever sends them.
                hashes.sort_unstable();
                hashes.truncate(MAX_REASONING);
            }
            Name::LogitBiasDigest => {
                hashes.extend(self.bias.map(|bias| key.value(field, &bias.to_le_bytes())));
            }
            _ => {}
        }
        hashes
    }
}

/// Signed reasonings of one request that are hashed, at most.
const MAX_REASONING: usize = 16;
