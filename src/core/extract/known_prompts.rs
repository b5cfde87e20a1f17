//! The field `hedgerow.seed`: the sets of known prompts to which the user text of a request
//! belongs.

use std::borrow::Cow;

use super::request::Request;
use crate::field::{FieldId, Section};
use crate::seeds::{CompiledSeeds, Features, MAX_TEXT_BYTES};

impl Request<'_> {
    /// Adds the names of the sets that match the user text. Nothing is computed if there are no
    /// sets.
    pub fn add_known_prompt_sets(&mut self, seeds: &CompiledSeeds) {
        if seeds.is_empty() {
            return;
        }
        let max_bytes = MAX_BYTES_PER_BODY.saturating_sub(self.seed_bytes).min(MAX_TEXT_BYTES);
        let features = self.seed_features(max_bytes);
        let length: usize = self.texts(Section::User).map(str::len).sum();
        self.seed_bytes = self.seed_bytes.saturating_add(length.min(max_bytes));
        let names = seeds.names_of(&features);
        self.keywords.extend(names.map(|name| (FieldId::SeedSet, Cow::Owned(name.to_owned()))));
    }

    /// Returns the features of the last `max_bytes` of the user text.
    pub(crate) fn seed_features(&self, max_bytes: usize) -> Features {
        let values: Vec<&str> = self.texts(Section::User).collect();
        Features::of_values(&values, max_bytes)
    }
}

/// Maximum bytes of user text per body that are compared with sets of known prompts. The limit is
/// needed because an upload may have thousands of requests.
const MAX_BYTES_PER_BODY: usize = 256 << 10;
