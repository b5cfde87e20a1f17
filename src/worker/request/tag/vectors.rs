//! Test vectors for origins that verify tags, `tests/fixtures/tag-vectors.json`. The vectors
//! contain the headers that the Worker sends, and changed copies of them. The programs of
//! docs/origin.md run over the vectors in `tests/integration/tags.rs` and
//! `tests/scripts/tag-verification.test.mjs`.

use std::collections::BTreeMap;
use std::path::Path;

use hedgerow_core::Decision;
use hedgerow_core::evaluate::decision::DecisionHit;
use hedgerow_core::rules::policy::{Action, Band, Mode};
use serde::Serialize;

use super::signed_tags;

const OLD: &str = "9f2c61b0c6a84e0b8a51d7e3f4a0b2c4d6e8f00112233445566778899aabbcc0";
const NEW: &str = "0d1e2f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6";
const RULESET: &str = "5df2c35f6d0c8d8f5c6f2f6a9c8b7a6d5e4f3c2b1a09f8e7d6c5b4a392817060";

/// A request id, and the seconds since the epoch that it names.
const ID: &str = "019ad7da-4f80-7c9e-9d38-3f2f6a9c8b7a";
const TIME: i64 = 0x019a_d7da_4f80 / 1_000;
const OTHER_ID: &str = "019ad7da-5368-7a10-8f4e-1b2c3d4e5f60";

/// Seconds for which tags are valid, before and after the time in the request id.
const MAX_AGE: i64 = 600;

/// The headers of a request, and whether an origin accepts them as Hedgerow's tags.
#[derive(Serialize)]
struct Vector {
    name: &'static str,
    /// The values of TAG_SECRET that the origin knows.
    secrets: Vec<&'static str>,
    /// The origin's clock, in seconds since the epoch.
    now: i64,
    headers: Headers,
    valid: bool,
}

#[derive(Serialize)]
struct VectorFile {
    about: &'static str,
    max_age: i64,
    vectors: Vec<Vector>,
}

type Headers = BTreeMap<&'static str, String>;

/// Returns a decision with this ruleset, band, score and hits; each hit weighs less than the one
/// before.
pub fn decision(ruleset: &str, band: Band, score: f64, hits: &[&str]) -> Decision {
    let hit = |(index, name): (usize, &&str)| DecisionHit {
        name: (*name).to_owned(),
        family: "synthesis".to_owned(),
        weight: 20.0 - index as f64,
        evidence: Vec::new(),
        innocence: Vec::new(),
        key: None,
    };
    let hits = hits.iter().enumerate().map(hit).collect();
    Decision {
        account: None,
        account_kind: None,
        tenant: None,
        cluster: None,
        cluster_aliases: Vec::new(),
        other_clusters: Vec::new(),
        dialect: "openai",
        operation: "chat",
        score,
        prior: -20.0,
        evidence: 20.02,
        contributions: Vec::new(),
        band,
        action: Action::Degrade,
        mode: Mode::Enforce,
        hits,
        shadow_hits: Vec::new(),
        exemption: None,
        is_exempt: false,
        ruleset: ruleset.to_owned(),
        body_bytes: 0,
        unscanned_bytes: 0,
        unreadable: Vec::new(),
        unscored: Vec::new(),
        scored_share: Some(1.0),
        incomplete: None,
        entries: 1,
        earlier_messages: 0,
    }
}

/// Returns the headers that the origin gets if TAG_SECRET has the values `secrets`.
fn headers(id: &str, secrets: &[&str]) -> Headers {
    let hits = ["synthesis_training_purpose", "elicitation_think_tags"];
    let decision = decision(RULESET, Band::Hostile, 97.1, &hits);
    let secrets: Vec<String> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    signed_tags(&decision, id, &secrets).into_iter().collect()
}

/// Returns the headers under the old secret, with one header replaced, or removed by `None`.
fn changed(name: &'static str, value: Option<&str>) -> Headers {
    let mut headers = headers(ID, &[OLD]);
    headers.remove(name);
    headers.extend(value.map(|value| (name, value.to_owned())));
    headers
}

fn vectors() -> Vec<Vector> {
    let (both, only_old, only_new) = (vec![OLD, NEW], vec![OLD], vec![NEW]);
    let mac = headers(ID, &[OLD]).remove("x-hedgerow-mac").unwrap();
    let no_hits = signed_tags(&decision(RULESET, Band::Notice, 5.0, &[]), ID, &[OLD.to_owned()]);
    let vector = |name, secrets: &Vec<&'static str>, age: i64, headers, valid| Vector {
        name,
        secrets: secrets.clone(),
        now: TIME + age,
        headers,
        valid,
    };
    let invalid = |name, headers| vector(name, &only_old, 1, headers, false);
    let replaced = |name, secrets: &[&str], origin, valid| {
        vector(name, origin, 1, headers(ID, secrets), valid)
    };
    vec![
        replaced("one secret", &[OLD], &only_old, true),
        vector("no hits", &only_old, 1, no_hits.into_iter().collect(), true),
        replaced("before the replacement, an origin with both secrets", &[OLD], &both, true),
        replaced("during it, an origin with the old secret", &[OLD, NEW], &only_old, true),
        replaced("during it, an origin with the new secret", &[OLD, NEW], &only_new, true),
        replaced("during it, an origin with both secrets", &[OLD, NEW], &both, true),
        replaced("after it, an origin with the new secret", &[NEW], &only_new, true),
        replaced("after it, an origin with both secrets", &[NEW], &both, true),
        replaced("after it, an origin with the old secret", &[NEW], &only_old, false),
        replaced("an origin without secrets", &[OLD], &Vec::new(), false),
        invalid("a lower score", changed("x-hedgerow-score", Some("1.5"))),
        invalid("another band", changed("x-hedgerow-band", Some("clear"))),
        invalid("a hit less", changed("x-hedgerow-hits", Some("synthesis_training_purpose"))),
        invalid("without hits", changed("x-hedgerow-hits", None)),
        invalid("the id of another request", changed("x-hedgerow-request-id", Some(OTHER_ID))),
        invalid("without a MAC", changed("x-hedgerow-mac", None)),
        invalid("an empty MAC", changed("x-hedgerow-mac", Some(""))),
        invalid("half of the MAC", changed("x-hedgerow-mac", mac.get(..32))),
        invalid("a MAC that is not hex", changed("x-hedgerow-mac", Some("zz-é"))),
        invalid("two MACs", changed("x-hedgerow-mac", Some(&format!("{mac}, {mac}")))),
        invalid("no tags", BTreeMap::new()),
        invalid("only a request id", Headers::from([("x-hedgerow-request-id", ID.to_owned())])),
        invalid("an id without a time", headers("r-1", &[OLD])),
        invalid("an id of version 4", headers("019ad7da-4f80-4c9e-9d38-3f2f6a9c8b7a", &[OLD])),
        vector("as old as allowed", &only_old, MAX_AGE, headers(ID, &[OLD]), true),
        vector("too old", &only_old, MAX_AGE + 1, headers(ID, &[OLD]), false),
        vector("from the future", &only_old, -MAX_AGE - 1, headers(ID, &[OLD]), false),
    ]
}

#[test]
fn the_vectors_are_the_headers_that_the_worker_sends() {
    let file = VectorFile {
        about: "Written by `UPDATE_TAG_VECTORS=1 cargo test -p hedgerow-worker vectors`. See \
            docs/origin.md.",
        max_age: MAX_AGE,
        vectors: vectors(),
    };
    let expected = format!("{}\n", serde_json::to_string_pretty(&file).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tag-vectors.json");
    if std::env::var_os("UPDATE_TAG_VECTORS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "the tags or their MACs have changed");
}
