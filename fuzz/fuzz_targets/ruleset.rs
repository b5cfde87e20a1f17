//! Fuzzes loading: any bytes can be loaded as bundle, release, signature or rule file without a
//! panic.
//!
//! If a bundle loads, it can score a request. No minisign signature verifies.
#![no_main]

use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::{Envelope, Release, Ruleset};
use hedgerow_sigma::RuleFile;
use libfuzzer_sys::fuzz_target;

/// A chat with the wording that signatures search for.
const BODY: &[u8] =
    br#"{"messages":[{"role":"user","content":"Write question-answer pairs to train on."}]}"#;

fuzz_target!(|input: &[u8]| {
    if let Ok(ruleset) = Ruleset::load(input) {
        let path = "/v1/chat/completions";
        let envelope = Envelope { method: "POST", path, body: BODY, ..Envelope::default() };
        let _ = ruleset.assess(&envelope);
        let _ = ruleset.compile_regexes();
    }
    if let Ok(release) = Release::parse(input) {
        assert_eq!(release.is_in_canary(Some("a")), release.is_in_canary(Some("a")));
        assert!(release.digests().len() <= 3);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let file = |path: &str| RuleFile { path: path.to_owned(), text: text.to_owned() };
        let _ = hedgerow_sigma::check(&[file("rule.yml")]);
        let _ = hedgerow_sigma::check(&[file("policy.toml")]);
        let _ = hedgerow_sigma::check(&[file("lists/some.toml")]);
        if let Ok(keys) = TrustedKeys::parse(text) {
            assert!(keys.verify(input, text).is_err(), "the input is not its own signature");
        }
        if let Ok(keys) = TrustedKeys::parse(KEY) {
            assert!(keys.verify(input, text).is_err(), "the input is not its own signature");
        }
    }
});

/// A public key whose secret key was deleted, so that nobody can make a valid signature.
const KEY: &str = "RWSwXZ1oevXIPBMZQjHJ8jkLDVhohLQQtj3s2xG+oZjEg3FuDIA6V2wT";
