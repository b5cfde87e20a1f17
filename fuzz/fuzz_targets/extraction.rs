//! Fuzzes extraction: for any bytes at any endpoint, scoring and degrading return a result.
//!
//! Scores are within 0 to 100, evidence is within the body, and degrading a degraded body changes
//! nothing. Decompressed bodies, normalised text and work do not exceed their limits.
#![no_main]

use std::sync::LazyLock;

use hedgerow_core::enforce::degrade::{Degradation, degrade};
use hedgerow_core::extract;
use hedgerow_core::extract::realtime;
use hedgerow_core::field::FieldType;
use hedgerow_core::http::body::{Body, max_inflated};
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::Limits;
use hedgerow_core::{Envelope, Ruleset};
use libfuzzer_sys::fuzz_target;

static RULESET: LazyLock<Ruleset> = LazyLock::new(|| {
    let rules = hedgerow_sigma::build(std::path::Path::new("../rules"))
        .or_else(|_| hedgerow_sigma::build(std::path::Path::new("rules")))
        .expect("the shipped rules are valid");
    Ruleset::load(&rules).expect("the bundle of the shipped rules is valid")
});

/// Paths of built-in routes, one for each kind of request body.

const PATHS: &[&str] = &[
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/files",
    "/v1/messages",
    "/v1/messages/batches",
    "/v1beta/models/m:generateContent",
    "/v1beta/models/m:batchEmbedContents",
    "/v1beta/models/m:batchGenerateContent",
    "/model/m/invoke",
];

// Loads the rules before the first input, because the time limit of an input would include loading.
fuzz_target!(init: { LazyLock::force(&RULESET); }, |input: (u8, u8, &[u8])| {
    let (path, encoding, body) = input;
    let encodings = ["identity", "gzip", "deflate", "gzip, deflate", "br", "zstd", "zstd, gzip"];
    let encoding = encodings[usize::from(encoding) % encodings.len()];
    let headers = [
        ("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned()),
        ("content-encoding".to_owned(), encoding.to_owned()),
    ];
    let envelope = Envelope {
        method: "POST",
        path: PATHS[usize::from(path) % PATHS.len()],
        headers: &headers,
        body,
        ..Envelope::default()
    };
    check_assessment(&envelope, encoding);
    check_cost(&envelope, encoding);
    check_messages(body);
    for endpoint in [Endpoint::OpenaiChat, Endpoint::OpenaiFiles] {
        let content_type = Some("multipart/form-data; boundary=b");
        if let Degradation::Edited(bytes) = degrade(body, endpoint, content_type) {
            let second = degrade(&bytes, endpoint, content_type);
            assert_eq!(second, Degradation::Unchanged, "degrading a degraded body changes it");
        }
    }
});

fn check_assessment(envelope: &Envelope<'_>, encoding: &str) {
    let Some(assessment) = RULESET.assess(envelope) else { return };
    assert!((0.0..=100.0).contains(&assessment.score.probability));
    let body = envelope.body;
    // If the body was decompressed, or converted from UTF-16 or UTF-32, the evidence has offsets
    // into the result, which can be longer than the received body.
    let has_body_offsets = Body::new(body, Some(encoding), &Limits::default()).is_unmodified();
    for evidence in assessment.hits.iter().flat_map(|hit| &hit.evidence) {
        assert!(evidence.start <= evidence.end);
        if has_body_offsets && evidence.field.field_type() == FieldType::Text {
            assert!(evidence.end <= body.len(), "evidence ends beyond the body");
        }
    }
}

/// Checks that work and text are at most proportional to the decoded body, and that the decoded
/// body is at most proportional to the received bytes.
fn check_cost(envelope: &Envelope<'_>, encoding: &str) {
    let limits = Limits::default();
    let received = envelope.body.len();
    let body = Body::new(envelope.body, Some(encoding), &limits);
    let length = body.bytes().len();
    // The conversion of UTF-16 to UTF-8 makes a body at most 1.5 times as long.
    assert!(length <= max_inflated(received, &limits).max(2 * received) + 4, "{length}");
    let mut matcher = RULESET.program().matcher();
    let headers = RULESET.program().header_bits(envelope.headers);
    for endpoint in [Endpoint::OpenaiChat, Endpoint::OpenaiFiles, Endpoint::AnthropicBatches] {
        extract::for_each_request(envelope, endpoint, &body, &limits, &mut |request| {
            matcher.hits(request, &headers);
            let text = request.text().len();
            assert!(text <= length + length / 4 + (512 << 10), "{text} bytes of text");
            let work = request.work().spent();
            assert!(work <= 20 * length + (1 << 20), "{work} bytes worked on");
        });
    }
}

/// Checks the body as a message of each WebSocket API.
fn check_messages(body: &[u8]) {
    let headers = [("upgrade".to_owned(), "websocket".to_owned())];
    for (path, endpoint) in [
        ("/v1/realtime", Endpoint::OpenaiRealtime),
        ("/ws/BidiGenerateContent", Endpoint::GeminiLive),
    ] {
        if realtime::message_effect(body, endpoint).carries_prompt {
            let envelope =
                Envelope { method: "GET", path, headers: &headers, body, ..Envelope::default() };
            check_assessment(&envelope, "identity");
        }
    }
}
