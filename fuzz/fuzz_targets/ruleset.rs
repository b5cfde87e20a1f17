//! Whatever the bytes: loading a bundle and checking a rule file return, and what loads can match.
#![no_main]

use hedgerow::sigma::{self, Source};
use hedgerow::{Envelope, Ruleset};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(ruleset) = Ruleset::load(input) {
        let body = br#"{"messages":[{"role":"user","content":"Write question-answer pairs to train on."}]}"#;
        let envelope = Envelope { method: "POST", path: "/v1/chat/completions", body, ..Envelope::default() };
        let _ = ruleset.assess(&envelope);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let source = |path: &str| Source { path: path.to_owned(), text: text.to_owned() };
        let _ = sigma::check(&[source("rule.yml")]);
        let _ = sigma::check(&[source("policy.toml")]);
    }
});
