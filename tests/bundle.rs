//! Bundles and releases: their bytes, their formats, their limits.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeMap;

use hedgerow::policy::Policy;
use hedgerow::ruleset::release::{Canary, EMBEDDED, Shadow};
use hedgerow::ruleset::{self, MAX_BYTES};
use hedgerow::signature::{Anchor, Condition, FieldTest, Op, Signature, Status, Test};
use hedgerow::{Bundle, Release, Ruleset};
use serde_json::json;

#[test]
fn bytes_that_are_signed_never_change_their_form() {
    let bundle = Bundle {
        serial: 3,
        created: 1_800_000_000,
        ..Bundle::new(Policy::default(), vec![signature("a_b", "hedge rows")])
    };
    let bytes = bundle.bytes();
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), BUNDLE);
    assert_eq!(ruleset::digest(&bytes), BUNDLE_DIGEST);
    assert_eq!(Bundle::parse(&bytes).unwrap(), bundle);
    let release = Release {
        release: 1,
        serial: 7,
        created: 1_800_000_000,
        active: "a".repeat(64),
        canary: Some(Canary { digest: "b".repeat(64), percent: 12.5 }),
        shadow: Some(Shadow { digest: EMBEDDED.to_owned() }),
        expires: Some(1_900_000_000),
        note: "für „alle“".to_owned(),
        author: "ana".to_owned(),
    };
    assert_eq!(String::from_utf8(release.bytes()).unwrap(), RELEASE);
    assert_eq!(ruleset::digest(&release.bytes()), RELEASE_DIGEST);
    assert_eq!(Release::parse(RELEASE.as_bytes()).unwrap(), release);
}

const BUNDLE: &str = r#"{"correlations":[],"created":1800000000,"format":3,"lists":[],"policy":{"account":[],"actions":{"clear":"allow","hostile":"block","notice":"tag","suspect":"degrade"},"bands":{"hostile":95,"notice":5,"suspect":50},"enforce":{"fail_closed":false,"retry_after":60,"tag_in_shadow":false},"exemption":[],"mode":"shadow","noise":{"notice":1,"suspect":0.1},"route":[],"scan":{"entries":10000,"inflated":4194304,"window":2097152},"score":{"caps":{"context":6},"family_cap":25,"prior":-20},"signature":[]},"serial":3,"signatures":[{"condition":{"is":"it"},"family":"synthesis","id":"a_b","name":"a_b","selections":{"it":{"field":{"field":"hedgerow.prompt.user","string":{"anchor":"contains","value":"hedge rows"}}}},"status":"stable","title":"","weight":5}],"sources":{}}"#;
const BUNDLE_DIGEST: &str = "22ef7324fecf77eca3b992abb45c572806f2ffe7562fd44b6b49ed317237719b";
const RELEASE: &str = r#"{"active":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","author":"ana","canary":{"digest":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","percent":12.5},"created":1800000000,"expires":1900000000,"note":"für „alle“","release":1,"serial":7,"shadow":{"digest":"embedded"}}"#;
const RELEASE_DIGEST: &str = "887ef07549b7c6e7bd957ba25b61b094800a4f907901251f889d1f9164ce0249";

fn signature(name: &str, value: &str) -> Signature {
    let op = Op::String { anchor: Anchor::Contains, value: value.to_owned(), cased: false };
    let field = serde_json::from_value(json!("hedgerow.prompt.user")).unwrap();
    let test = Test::Field(Box::new(FieldTest { field, op }));
    Signature {
        name: name.to_owned(),
        id: name.to_owned(),
        title: String::new(),
        family: "synthesis".to_owned(),
        status: Status::Stable,
        weight: 5.0,
        selections: BTreeMap::from([("it".to_owned(), test)]),
        condition: Condition::Is("it".to_owned()),
    }
}

/// One of everything: lists, regexes, numbers, networks, exemptions. The fuzzer begins with them, too.
#[test]
fn stored_bundles_of_every_shape_stay_what_they_are() {
    let stored = include_bytes!("../fuzz/seeds/ruleset/bundle.json");
    let digest = "54575f4132b1166ac1fd7ea88080097e25bd4e42230827dbc563cf8bbf59e2e8";
    assert_eq!(ruleset::digest(stored), digest, "these bytes are somebody's release");
    let bundle = Bundle::parse(stored).unwrap();
    assert_eq!(String::from_utf8(bundle.bytes()).unwrap().as_bytes(), stored);
    Ruleset::load(stored).unwrap().check().unwrap();
    let old = include_bytes!("../fuzz/seeds/ruleset/bundle-of-format-1.json");
    let old = Bundle::parse(old).unwrap();
    assert_eq!((old.format, old.signatures), (1, bundle.signatures));
    let release = include_bytes!("../fuzz/seeds/ruleset/release.json");
    assert_eq!(Release::parse(release).unwrap().bytes(), release);
}

#[test]
fn old_bundles_load_and_newer_or_larger_ones_do_not() {
    let text = |format: u32| {
        format!(r#"{{"format":{format},"policy":{{}},"signatures":[],"sources":{{}}}}"#)
    };
    Ruleset::load(text(1).as_bytes()).unwrap().check().unwrap();
    Ruleset::load(text(2).as_bytes()).unwrap();
    let many = |count: usize| {
        let signatures = (0..count).map(|number| signature(&number.to_string(), "hedge rows"));
        Bundle::new(Policy::default(), signatures.collect()).bytes()
    };
    let small: Vec<String> = (0..50_000).map(|_| "0".to_owned()).collect();
    let many_small = format!(
        r#"{{"format":2,"policy":{{}},"sources":{{}},"signatures":[{}]}}"#,
        small.join(",")
    );
    let regex = |pattern: &str| {
        let mut bundle = Bundle::new(Policy::default(), vec![signature("a", "hedge")]);
        let field = serde_json::from_value(json!("hedgerow.prompt.user")).unwrap();
        let landmarks =
            vec![serde_json::from_value(json!({ "strings": ["hedge"], "min": 0 })).unwrap()];
        let op = Op::Regex { pattern: pattern.to_owned(), landmarks, longest: None, first: None };
        let test = Test::Field(Box::new(FieldTest { field, op }));
        bundle.signatures[0].selections.insert("it".to_owned(), test);
        bundle.bytes()
    };
    let late = |serial: u64, created: u64| {
        Bundle { serial, created, ..Bundle::new(Policy::default(), Vec::new()) }.bytes()
    };
    // The registry's SQLite hands out such numbers as fractions, and then nothing could list bundles.
    let rows: [(&str, Vec<u8>, &str); 10] = [
        ("a serial that JavaScript has not", late(1 << 60, 0), "serial"),
        ("a date that JavaScript has not", late(1, 1 << 60), "date"),
        ("format 0", text(0).into_bytes(), "no bundle format 0"),
        ("format 4", text(4).into_bytes(), "format 4 is newer than 3"),
        ("10,001 signatures", many(10_001), "10001 signatures and lists, more than 10000"),
        ("50,000 signatures", many(50_000), "more than"),
        ("50,000 things", many_small.into_bytes(), "damaged bundle"),
        ("6 MiB", vec![b' '; MAX_BYTES + 1], "5 MiB"),
        ("a regex that does not compile", regex("hedge("), "does not compile"),
        ("a regex without end", regex(&"hedge|".repeat(1_000)), "more than 4096"),
    ];
    for (name, bytes, expected) in rows {
        let loaded = Ruleset::load(&bytes).and_then(|ruleset| ruleset.check());
        let error = loaded.unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{name}: {}",
            error.chars().take(300).collect::<String>()
        );
    }
}
