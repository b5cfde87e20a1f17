use std::collections::BTreeMap;

use hedgerow_core::extract;
use hedgerow_core::field::FieldId;
use hedgerow_core::http::body::{Body, max_inflated};
use hedgerow_core::http::envelope::Envelope;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::keyed_hash::HashKey;
use hedgerow_core::rules::policy::Limits;
use hedgerow_core::{Ruleset, work};

use crate::hostile_bodies::{hostile_bodies, prose};
use crate::shipped_rules::rules;

/// Work and length of the text that scoring a body causes.
struct Cost {
    /// Bytes after decoding.
    body_len: usize,
    /// Bytes of normalised text.
    text_len: usize,
    /// Work in bytes, as the work budget counts it.
    work: usize,
    issues: Vec<&'static str>,
}

impl Cost {
    /// Measures a body: extracts, matches and sketches it, as scoring does.
    fn new(ruleset: &Ruleset, bytes: &[u8], encoding: &str) -> Self {
        let limits = Limits::default();
        let path = "/v1/chat/completions";
        let envelope = Envelope { method: "POST", path, body: bytes, ..Envelope::default() };
        let body = Body::new(bytes, Some(encoding), &limits);
        assert!(body.bytes().len() <= max_inflated(bytes.len(), &limits).max(3 * bytes.len()) + 4);
        let mut matcher = ruleset.program().matcher();
        let headers = ruleset.program().header_bits(&[]);
        let mut cost =
            Self { body_len: body.bytes().len(), text_len: 0, work: 0, issues: Vec::new() };
        let endpoint = Endpoint::OpenaiChat;
        extract::for_each_request(&envelope, endpoint, &body, &limits, &mut |request| {
            matcher.hits(request, &headers);
            request.keyed_hashes(FieldId::TemplateUser, &HashKey::default());
            cost.text_len = cost.text_len.max(request.text().len());
            cost.work = request.work().spent();
            cost.issues.extend(request.issues().names());
            if request.work().is_exhausted() {
                cost.issues.push("costly");
            }
        });
        cost
    }

    fn work_per_byte(&self) -> f64 {
        self.work as f64 / self.body_len as f64
    }
}

/// Regression: a text of U+FDFA became eleven times as long as the body, and took fifty times as
/// long as prose.
#[test]
fn no_body_takes_more_than_eight_times_the_work_of_prose() {
    let ruleset = rules().ruleset().unwrap();
    let size = 1 << 20;
    let ordinary = Cost::new(&ruleset, &prose(size), "");
    assert!(ordinary.issues.is_empty(), "{:?}", ordinary.issues);
    let mut ratios = BTreeMap::new();
    for body in hostile_bodies(size) {
        let cost = Cost::new(&ruleset, &body.bytes, body.encoding);
        let name = body.name;
        let max_text = work::WorkBudget::for_body(cost.body_len).max_text();
        // The text may exceed the limit by one run of characters that are composed together.
        assert!(cost.text_len <= max_text + (4 << 10), "{name}: {} bytes of text", cost.text_len);
        // Ignores bodies that decode to few bytes, because the constant part of their work
        // dominates.
        if cost.body_len >= size / 2 {
            let ratio = cost.work_per_byte() / ordinary.work_per_byte();
            assert!(ratio <= 8.0, "{name}: {ratio:.1} times the work of prose");
            ratios.insert((ratio * 100.0) as u64, name);
        }
    }
    println!("work of prose: {:.2} bytes per byte", ordinary.work_per_byte());
    for (ratio, name) in ratios.iter().rev().take(5) {
        println!("{:>6.2} times: {name}", *ratio as f64 / 100.0);
    }
    let (highest, name) = ratios.last_key_value().unwrap();
    assert!(*highest > 200, "{name}: a body that exhausts its budget takes more work than prose");
}

/// If the budget is exhausted, the dropped text must be reported. Otherwise, a client could hide a
/// prompt behind expensive text.
#[test]
fn text_after_an_exhausted_budget_is_reported() {
    let ruleset = rules().ruleset().unwrap();
    let harvest = "Write 50 question-answer pairs to train a language model on.";
    for (name, unit) in [
        ("expanding characters", "\u{3300}".repeat(400_000)),
        ("fractions", "\u{bd}".repeat(500_000)),
        ("nothing", String::new()),
    ] {
        let body = serde_json::json!({ "messages": [
            { "role": "user", "content": unit },
            { "role": "user", "content": harvest },
        ] });
        let cost = Cost::new(&ruleset, body.to_string().as_bytes(), "");
        assert_eq!(cost.issues.contains(&"costly"), !unit.is_empty(), "{name}: {:?}", cost.issues);
    }
}

/// The entries of a batch share the budget of their body. An entry that exhausts its share does not
/// reduce the shares of other entries.
#[test]
fn an_expensive_entry_does_not_hide_the_next_one() {
    let ruleset = rules().ruleset().unwrap();
    let expensive = "rewrite the dataset. query an llm. response. ".repeat(4_000);
    let harvest = "Generate 20 diverse instruction and response pairs to train a language model.";
    let entry = |text: &str| {
        serde_json::json!({ "custom_id": "a", "params": {
            "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": text }],
        } })
    };
    let body = serde_json::json!({ "requests": [entry(&expensive), entry(harvest)] }).to_string();
    let score = |body: &str, path: &str| {
        let envelope =
            Envelope { method: "POST", path, body: body.as_bytes(), ..Envelope::default() };
        ruleset.assess(&envelope).unwrap().score.probability
    };
    let alone = serde_json::json!({ "requests": [entry(harvest)] }).to_string();
    let path = "/v1/messages/batches";
    assert!(score(&body, path) >= score(&alone, path), "{}", score(&body, path));
}
