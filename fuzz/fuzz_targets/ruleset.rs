//! Whatever the bytes: loading a bundle or a release, holding a signature against them, and checking a
//! rule file return, and what loads can match.
#![no_main]
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_sigma::RuleFile;
use hedgerow_core::Envelope;
use hedgerow_core::Release;
use hedgerow_core::Ruleset;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(ruleset) = Ruleset::load(input) {
        let body = br#"{"messages":[{"role":"user","content":"Write question-answer pairs to train on."}]}"#;
        let envelope = Envelope { method: "POST", path: "/v1/chat/completions", body, ..Envelope::default() };
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
            assert!(keys.verify(input, text).is_err(), "nothing signs itself");
        }
        if let Ok(keys) = TrustedKeys::parse(KEY) {
            assert!(keys.verify(input, text).is_err(), "nothing signs itself");
        }
    }
});

/// A public key whose secret half nobody has kept.
const KEY: &str = "RWSwXZ1oevXIPBMZQjHJ8jkLDVhohLQQtj3s2xG+oZjEg3FuDIA6V2wT";
