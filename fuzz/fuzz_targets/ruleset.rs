//! Whatever the bytes: loading a bundle or a release, holding a signature against them, and checking a
//! rule file return, and what loads can match.
#![no_main]

use hedgerow::sigma::{self, Source};
use hedgerow::trust::Keys;
use hedgerow::{Envelope, Release, Ruleset};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(ruleset) = Ruleset::load(input) {
        let body = br#"{"messages":[{"role":"user","content":"Write question-answer pairs to train on."}]}"#;
        let envelope = Envelope { method: "POST", path: "/v1/chat/completions", body, ..Envelope::default() };
        let _ = ruleset.assess(&envelope);
        let _ = ruleset.check();
    }
    if let Ok(release) = Release::parse(input) {
        assert_eq!(release.in_canary(Some("a")), release.in_canary(Some("a")));
        assert!(release.digests().len() <= 3);
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let source = |path: &str| Source { path: path.to_owned(), text: text.to_owned() };
        let _ = sigma::check(&[source("rule.yml")]);
        let _ = sigma::check(&[source("policy.toml")]);
        let _ = sigma::check(&[source("lists/some.toml")]);
        if let Ok(keys) = Keys::parse(text) {
            assert!(keys.verify(input, text).is_err(), "nothing signs itself");
        }
        if let Ok(keys) = Keys::parse(KEY) {
            assert!(keys.verify(input, text).is_err(), "nothing signs itself");
        }
    }
});

/// A public key whose secret half nobody has kept.
const KEY: &str = "RWSwXZ1oevXIPBMZQjHJ8jkLDVhohLQQtj3s2xG+oZjEg3FuDIA6V2wT";
