//! Whatever the bytes, at whatever endpoint: reading, matching, scoring and degrading return, and
//! every proof lies within the body.
#![no_main]

use std::sync::LazyLock;

use hedgerow_core::enforce::degrade::Degradation;
use hedgerow_core::enforce::degrade::degrade;
use hedgerow_core::field::FieldType;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::Envelope;
use hedgerow_core::Ruleset;
use libfuzzer_sys::fuzz_target;

static RULESET: LazyLock<Ruleset> = LazyLock::new(|| {
    let rules = hedgerow_sigma::build(std::path::Path::new("../rules"))
        .or_else(|_| hedgerow_sigma::build(std::path::Path::new("rules")))
        .expect("the shipped rules build");
    Ruleset::load(&rules).expect("the shipped rules load")
});

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

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (path, encoding, body) = input;
    let encoding = ["identity", "gzip", "deflate", "gzip, deflate", "br"][usize::from(encoding) % 5];
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
    if let Some(assessment) = RULESET.assess(&envelope) {
        assert!((0.0..=100.0).contains(&assessment.score.probability));
        let evidence = assessment.hits.iter().flat_map(|hit| &hit.evidence);
        for evidence in evidence {
            assert!(evidence.start <= evidence.end);
            let is_text = evidence.field.field_type() == FieldType::Text;
            // Inflated or widened bodies have places of their own.
            if is_text && encoding == "identity" && !body.contains(&0) && !body.starts_with(&[0xff]) {
                assert!(evidence.end <= body.len(), "every proof lies within the body");
            }
        }
    }
    for endpoint in [Endpoint::OpenaiChat, Endpoint::OpenaiFiles] {
        let content_type = Some("multipart/form-data; boundary=b");
        if let Degradation::Edited(bytes) = degrade(body, endpoint, content_type) {
            let again = degrade(&bytes, endpoint, content_type);
            assert_eq!(again, Degradation::Unchanged, "degrading twice is degrading once");
        }
    }
});
