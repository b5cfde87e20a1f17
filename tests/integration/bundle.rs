//! Bundles and releases: their bytes, formats and limits.
use std::collections::BTreeMap;

use hedgerow_core::rules::policy::Policy;
use hedgerow_core::rules::release::{Canary, EMBEDDED, ShadowBundle};
use hedgerow_core::rules::signature::{
    Comparison, Condition, FieldComparison, Selection, Signature, Status, StringMatch,
};
use hedgerow_core::ruleset::MAX_BUNDLE_BYTES;
use hedgerow_core::{Bundle, Release, Ruleset, ruleset};
use hedgerow_sigma::Canonical;
use serde_json::json;

#[test]
fn encoded_bytes_are_stable() {
    let bundle = Bundle {
        serial: 3,
        created: 1_800_000_000,
        ..Bundle::new(Policy::default(), vec![signature("a_b", "hedge rows")])
    };
    let bytes = bundle.encode();
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), BUNDLE);
    assert_eq!(ruleset::digest(&bytes), BUNDLE_DIGEST);
    assert_eq!(Bundle::parse(&bytes).unwrap(), bundle);
    let release = Release {
        format_version: 1,
        serial: 7,
        created: 1_800_000_000,
        active: "a".repeat(64),
        canary: Some(Canary { digest: "b".repeat(64), percent: 12.5, order: None }),
        shadow: Some(ShadowBundle { digest: EMBEDDED.to_owned() }),
        expires: Some(1_900_000_000),
        resumes: None,
        note: "für „alle“".to_owned(),
        author: "ana".to_owned(),
    };
    assert_eq!(String::from_utf8(release.encode()).unwrap(), RELEASE);
    assert_eq!(ruleset::digest(&release.encode()), RELEASE_DIGEST);
    assert_eq!(Release::parse(RELEASE.as_bytes()).unwrap(), release);
}

const BUNDLE: &str = concat!(
    r#"{"correlations":[],"created":1800000000,"format":1,"lists":[],"#,
    r#""policy":{"account":[],"actions":{"clear":"allow","hostile":"block","notice":"tag","#,
    r#""suspect":"degrade"},"bands":{"hostile":95,"notice":5,"suspect":50},"#,
    r#""enforce":{"fail_closed":false,"retry_after":30,"tag_in_shadow":false},"#,
    r#""exemption":[],"incomplete":{"attachment":"allow","costly":"refuse","crowded":"refuse","#,
    r#""encoding":"refuse","late":"wait","opaque":"refuse","window":"allow"},"mode":"shadow","#,
    r#""noise":{"notice":1,"suspect":0.1},"route":[],"scan":{"max_body":5242880,"#,
    r#""max_decompressed":6291456,"max_entries":10000,"max_upload_time":300,"window":2097152},"#,
    r#""score":{"caps":{"context":2},"family_cap":25,"prior":-20},"signature":[],"#,
    r#""unknown":{"treat":"generic"}},"#,
    r#""serial":3,"signatures":[{"condition":{"is":"it"},"family":"synthesis","id":"a_b","#,
    r#""name":"a_b","selections":{"it":{"field":{"field":"hedgerow.prompt.user","#,
    r#""string":{"string_match":"contains","value":"hedge rows"}}}},"status":"stable","#,
    r#""title":"","weight":5}],"sources":{}}"#,
);
const BUNDLE_DIGEST: &str = "337c6fe91842f67541a563e51254478609d3121cabeb150e223ec7f0add73495";
const RELEASE: &str = concat!(
    r#"{"active":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","#,
    r#""author":"ana","#,
    r#""canary":{"digest":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","#,
    r#""percent":12.5},"created":1800000000,"expires":1900000000,"note":"für „alle“","#,
    r#""release":1,"serial":7,"shadow":{"digest":"embedded"}}"#,
);
const RELEASE_DIGEST: &str = "887ef07549b7c6e7bd957ba25b61b094800a4f907901251f889d1f9164ce0249";

fn signature(name: &str, value: &str) -> Signature {
    let comparison = Comparison::String {
        string_match: StringMatch::Contains,
        value: value.to_owned(),
        cased: false,
    };
    let field = serde_json::from_value(json!("hedgerow.prompt.user")).unwrap();
    let selection = Selection::Field(Box::new(FieldComparison { field, comparison }));
    Signature {
        name: name.to_owned(),
        id: name.to_owned(),
        title: String::new(),
        family: "synthesis".to_owned(),
        status: Status::Stable,
        weight: 5.0,
        selections: BTreeMap::from([("it".to_owned(), selection)]),
        condition: Condition::Selection("it".to_owned()),
        innocence: Vec::new(),
    }
}

/// The stored bundle contains all kinds of content: lists, regexes, numbers, networks and
/// exemptions. It is also a seed of the fuzzer.
#[test]
fn stored_bundles_are_read_and_encoded_unchanged() {
    let stored = include_bytes!("../../fuzz/seeds/ruleset/bundle.json");
    let digest = "57f6c6a3e3d1c00cf27c016f44af97d5c56bf5dd8f105f1123d111a9ff0a0ccd";
    assert_eq!(ruleset::digest(stored), digest, "stored bundles must stay readable");
    let bundle = Bundle::parse(stored).unwrap();
    assert_eq!(String::from_utf8(bundle.encode()).unwrap().as_bytes(), stored);
    Ruleset::load(stored).unwrap().compile_regexes().unwrap();
    let release = include_bytes!("../../fuzz/seeds/ruleset/release.json");
    assert_eq!(Release::parse(release).unwrap().encode(), release);
}

#[test]
fn newer_and_larger_bundles_are_rejected() {
    let text = |format: u32| {
        format!(r#"{{"format":{format},"policy":{{}},"signatures":[],"sources":{{}}}}"#)
    };
    Ruleset::load(text(1).as_bytes()).unwrap().compile_regexes().unwrap();
    let many = |count: usize| {
        let signatures = (0..count).map(|number| signature(&number.to_string(), "hedge rows"));
        Bundle::new(Policy::default(), signatures.collect()).encode()
    };
    let small: Vec<String> = (0..50_000).map(|_| "0".to_owned()).collect();
    let many_small = format!(
        r#"{{"format":1,"policy":{{}},"sources":{{}},"signatures":[{}]}}"#,
        small.join(",")
    );
    let regex = |pattern: &str| {
        let mut bundle = Bundle::new(Policy::default(), vec![signature("a", "hedge")]);
        let field = serde_json::from_value(json!("hedgerow.prompt.user")).unwrap();
        let literals = json!({ "alternatives": ["hedge"], "min_distance": 0 });
        let comparison = Comparison::Regex {
            pattern: pattern.to_owned(),
            required_literals: vec![serde_json::from_value(literals).unwrap()],
            max_len: None,
            first_bytes: None,
        };
        let selection = Selection::Field(Box::new(FieldComparison { field, comparison }));
        bundle.signatures[0].selections.insert("it".to_owned(), selection);
        bundle.encode()
    };
    let numbered = |serial: u64, created: u64| {
        Bundle { serial, created, ..Bundle::new(Policy::default(), Vec::new()) }.encode()
    };
    // The registry's SQLite returns numbers above 2^53 as fractions, with which `GET /bundles`
    // would fail.
    let rows: [(&str, Vec<u8>, &str); 10] = [
        ("a serial that JavaScript cannot represent", numbered(1 << 60, 0), "serial"),
        ("a date that JavaScript cannot represent", numbered(1, 1 << 60), "created"),
        ("format 0", text(0).into_bytes(), "bundle format 0 does not exist"),
        ("format 4", text(4).into_bytes(), "format 4 is newer than 1"),
        ("10,001 signatures", many(10_001), "10001 signatures and lists, more than 10000"),
        ("50,000 signatures", many(50_000), "more than"),
        ("50,000 numbers instead of signatures", many_small.into_bytes(), "damaged bundle"),
        ("6 MiB", vec![b' '; MAX_BUNDLE_BYTES + 1], "5 MiB"),
        ("a regex that does not compile", regex("hedge("), "does not compile"),
        ("a regex that is too long", regex(&"hedge|".repeat(1_000)), "more than 4096"),
    ];
    for (name, bytes, expected) in rows {
        let loaded = Ruleset::load(&bytes).and_then(|ruleset| ruleset.compile_regexes());
        let error = loaded.unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{name}: {}",
            error.chars().take(300).collect::<String>()
        );
    }
}
