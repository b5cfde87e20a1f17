//! The shipped rules: clean, tested, documented, and matched alike by the fast path, by `explain`
//! and by the naive reference, on every fixture and every line of the corpus.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop, and says why it is skipped"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use hedgerow::explain::Explainer;
use hedgerow::request::{self, Body, Envelope, Request};
use hedgerow::route::Endpoint;
use hedgerow::sigma::{self, Finding};
use hedgerow::{Ruleset, ruleset};
use serde_json::Value;
use support::Plain;

fn rules() -> sigma::Rules {
    let sources = sigma::read(Path::new("rules")).unwrap();
    sigma::check(&sources).unwrap_or_else(|findings| panic!("{}", list(&findings)))
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn every_exemplar_comes_out_as_it_says() {
    let findings = sigma::test(&rules());
    assert!(findings.is_empty(), "{}", list(&findings));
}

#[test]
fn there_are_signatures_enough_in_every_family() {
    let rules = rules();
    let in_force = rules.bundle().signatures;
    assert!(in_force.len() >= 48, "{} signatures", in_force.len());
    for family in
        ["elicitation", "synthesis", "grading", "extraction", "provenance", "evasion", "context"]
    {
        assert!(in_force.iter().any(|signature| signature.family == family), "{family}");
    }
}

#[test]
fn the_pages_are_fresh() {
    for (path, page) in [
        ("docs/fields.md", sigma::fields_page()),
        ("docs/signatures.md", sigma::signatures_page(&rules())),
    ] {
        assert_eq!(
            fs::read_to_string(path).unwrap_or_default(),
            page,
            "{path} is stale; run `cargo run -- docs`"
        );
    }
}

#[test]
fn the_bundle_is_canonical_and_loads() {
    let bytes = rules().bytes();
    let again = serde_json_canonicalizer_by_hand(&serde_json::from_slice(&bytes).unwrap());
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), again);
    let ruleset = Ruleset::load(&bytes).unwrap();
    assert_eq!(ruleset.digest(), ruleset::digest(&bytes));
}

/// RFC 8785 for what a bundle holds: sorted keys, no spaces, whole numbers without a fraction.
fn serde_json_canonicalizer_by_hand(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut keys: Vec<&String> = members.keys().collect();
            keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            let members = keys.iter().map(|key| {
                format!(
                    "{}:{}",
                    Value::from(key.as_str()),
                    serde_json_canonicalizer_by_hand(&members[*key])
                )
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(elements) => {
            format!(
                "[{}]",
                elements.iter().map(serde_json_canonicalizer_by_hand).collect::<Vec<_>>().join(",")
            )
        }
        Value::Number(number) => match number.as_f64() {
            Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// A request with what surrounds it.
struct Recorded {
    name: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[test]
fn fast_path_explanation_and_naive_reference_agree_on_fixtures() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 15, "{} fixtures", fixtures.len());
    agree(&fixtures);
}

#[test]
fn fast_path_explanation_and_naive_reference_agree_on_the_corpus() {
    let Some(lines) = corpus() else {
        println!("skipped: ../shared/corpus is not here");
        return;
    };
    assert!(lines.len() > 1_000);
    std::thread::scope(|scope| {
        for part in lines.chunks(lines.len().div_ceil(2)) {
            scope.spawn(|| agree(part));
        }
    });
}

fn agree(all: &[Recorded]) {
    let ruleset = rules().ruleset().unwrap();
    let explainer = Explainer::default();
    let mut held = 0;
    for recorded in all {
        let envelope = Envelope {
            method: "POST",
            path: &recorded.path,
            headers: &recorded.headers,
            body: &recorded.body,
            ..Envelope::default()
        };
        let Some(endpoint) = ruleset.endpoint(&envelope) else { continue };
        let headers_folded: Vec<(String, String)> = recorded
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), support::normalize(value)))
            .collect();
        let limits = &ruleset.policy().scan;
        let body = Body::new(&recorded.body, None, limits);
        let mut matcher = ruleset.program().matcher();
        let headers = ruleset.program().headers(&recorded.headers);
        request::read(&envelope, endpoint, &body, limits, &mut |request| {
            let fast: Vec<&str> = matcher
                .hits(request, &headers)
                .iter()
                .map(|hit| ruleset.signatures()[hit.signature].name.as_str())
                .collect();
            let naive = naive(recorded, endpoint);
            for signature in ruleset.signatures() {
                let is_fast = fast.contains(&signature.name.as_str());
                let explained = explainer.holds(signature, request, &recorded.headers);
                assert_eq!(
                    is_fast, explained,
                    "explanation of {} on {}",
                    signature.name, recorded.name
                );
                if let Some(naive) = &naive {
                    assert_eq!(
                        is_fast,
                        naive.matches(signature, &headers_folded),
                        "{} on {}",
                        signature.name,
                        recorded.name
                    );
                }
            }
            held += fast.len();
            prove(&ruleset, request, &mut matcher, &headers, recorded);
        });
    }
    assert!(held > 0, "nothing matched at all");
}

/// Every proof lies in the body (or in a short value).
fn prove(
    ruleset: &Ruleset,
    request: &Request<'_>,
    matcher: &mut hedgerow::matcher::Matcher<'_>,
    headers: &hedgerow::matcher::HeaderBits,
    recorded: &Recorded,
) {
    for hit in matcher.hits(request, headers) {
        for evidence in hit.evidence {
            let name = &ruleset.signatures()[hit.signature].name;
            assert!(
                evidence.start <= evidence.end && evidence.end <= recorded.body.len().max(8 << 10),
                "{name} on {}",
                recorded.name
            );
        }
    }
}

/// The naive reading of a single JSON request; uploads are read by the core alone.
fn naive(recorded: &Recorded, endpoint: Endpoint) -> Option<Plain> {
    if matches!(
        endpoint,
        Endpoint::OpenaiFiles
            | Endpoint::OpenaiBatches
            | Endpoint::AnthropicBatches
            | Endpoint::GeminiBatches
            | Endpoint::GeminiEmbed
            | Endpoint::GeminiEmbedBatch
    ) {
        return None;
    }
    let body: Value = serde_json::from_slice(&recorded.body).ok()?;
    let model_in_path = recorded
        .path
        .split('/')
        .skip_while(|part| !matches!(*part, "models" | "engines" | "deployments" | "model"))
        .nth(1);
    let mut plain = Plain::read(&body, endpoint).with_call(
        endpoint,
        &recorded.path,
        &recorded.headers,
        recorded.body.len(),
    );
    if !plain.keywords.iter().any(|(name, _)| *name == hedgerow::field::Name::RequestModel)
        && let Some(model) = model_in_path
    {
        plain.keywords.push((
            hedgerow::field::Name::RequestModel,
            model.split(':').next().unwrap().to_owned(),
        ));
    }
    plain.numbers.push((hedgerow::field::Name::Hour, 0.0));
    Some(plain.folded())
}

fn corpus() -> Option<Vec<Recorded>> {
    let mut lines = Vec::new();
    for label in fs::read_dir("../shared/corpus/dev").ok()? {
        for file in fs::read_dir(label.ok()?.path()).ok()? {
            let path = file.ok()?.path();
            for (number, line) in fs::read_to_string(&path).ok()?.lines().enumerate() {
                lines.push(recorded(line, &path, number));
            }
        }
    }
    Some(lines)
}

fn recorded(line: &str, path: &Path, number: usize) -> Recorded {
    let line: Value = serde_json::from_str(line).unwrap();
    let headers = line["headers"].as_array().unwrap().iter().map(|pair| {
        (pair[0].as_str().unwrap().to_lowercase(), pair[1].as_str().unwrap().to_owned())
    });
    Recorded {
        name: format!("{}:{}", path.display(), number + 1),
        path: line["path"].as_str().unwrap().split('?').next().unwrap().to_owned(),
        headers: headers.collect(),
        body: line["body"].as_str().unwrap_or_default().as_bytes().to_vec(),
    }
}

/// The project's own requests: `tests/fixtures/requests/*.http`.
fn fixtures() -> Vec<Recorded> {
    let mut paths: Vec<PathBuf> = fs::read_dir("tests/fixtures/requests")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    paths.iter().map(|path| fixture(path)).collect()
}

fn fixture(path: &Path) -> Recorded {
    let bytes = fs::read(path).unwrap();
    let end = bytes.windows(2).position(|window| window == b"\n\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Recorded {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        path: target.split('?').next().unwrap().to_owned(),
        headers: headers.collect(),
        body: bytes[end + 2..].to_vec(),
    }
}

/// What is extracted from every fixture, so that a change of it is seen and meant.
#[test]
fn extraction_snapshots() {
    let ruleset = rules().ruleset().unwrap();
    for recorded in fixtures() {
        let envelope = Envelope {
            method: "POST",
            path: &recorded.path,
            headers: &recorded.headers,
            body: &recorded.body,
            ..Envelope::default()
        };
        let endpoint = ruleset.endpoint(&envelope).unwrap();
        let limits = &ruleset.policy().scan;
        let body = Body::new(&recorded.body, None, limits);
        let mut requests = Vec::new();
        request::read(&envelope, endpoint, &body, limits, &mut |request| {
            requests.push(snapshot(request))
        });
        insta::assert_snapshot!(recorded.name.as_str(), requests.join("\n---\n"));
    }
}

fn snapshot(request: &Request<'_>) -> String {
    let mut lines: Vec<String> = request
        .segments()
        .iter()
        .map(|segment| {
            let (text, source) = (&request.text()[segment.range.clone()], segment.raw.range());
            format!(
                "{} [{}..{}]: {text}",
                segment.place.field().row().name,
                source.start,
                source.end
            )
        })
        .collect();
    lines.extend(
        request.keywords().iter().map(|(name, value)| format!("{}: {value}", name.row().name)),
    );
    lines.extend(
        request.numbers().iter().map(|(name, value)| format!("{}: {value}", name.row().name)),
    );
    lines.join("\n")
}
