//! The shipped rules: they pass `check` and `test`, their documentation is current, and fast path,
//! `explain` and naive reference agree on all fixtures and all lines of the corpus.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::evaluate::explain::Explainer;
use hedgerow_core::extract::Request;
use hedgerow_core::field::{FieldId, FieldType};
use hedgerow_core::http::body::Body;
use hedgerow_core::http::envelope::Envelope;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::Band;
use hedgerow_core::{Ruleset, extract, ruleset};
use hedgerow_sigma::{Finding, Verdict};
use serde_json::Value;

use crate::support::PlainRequest;
use crate::{from_root, skip};

pub(crate) fn rules() -> hedgerow_sigma::Rules {
    let sources = hedgerow_sigma::read(&from_root("rules")).unwrap();
    hedgerow_sigma::check(&sources).unwrap_or_else(|findings| panic!("{}", format_all(&findings)))
}

fn format_all(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn all_exemplars_have_their_expected_results() {
    let findings = hedgerow_sigma::test(&rules());
    assert!(findings.is_empty(), "{}", format_all(&findings));
}

/// The mutations of `hedgerow test` remove only whole selections, so they do not prove that
/// exemplars test the Chinese literals.
#[test]
fn rules_with_chinese_literals_have_a_chinese_exemplar() {
    let is_chinese =
        |text: &str| text.chars().any(|char| ('\u{4e00}'..='\u{9fff}').contains(&char));
    let mut chinese = 0;
    for rule in rules().rules.iter().filter(|rule| !rule.is_deprecated()) {
        let selections = serde_json::to_string(&rule.signature.selections).unwrap();
        if !is_chinese(&selections) {
            continue;
        }
        chinese += 1;
        let event = |exemplar: &hedgerow_sigma::Exemplar| format!("{:?}", exemplar.event);
        let mut matching =
            rule.exemplars.iter().filter(|exemplar| exemplar.expected == Verdict::Match);
        assert!(matching.any(|exemplar| is_chinese(&event(exemplar))), "{}", rule.metadata.path);
    }
    assert!(chinese >= 48, "{chinese} rules with Chinese wording");
}

#[test]
fn the_naive_reference_agrees_on_every_exemplar() {
    let rules = rules();
    let ruleset = rules.ruleset().unwrap();
    let mut compared = 0;
    for rule in rules.rules.iter().filter(|rule| !rule.is_deprecated()) {
        for exemplar in &rule.exemplars {
            let (plain, headers) = PlainRequest::from_event(&exemplar.event);
            let name = &rule.signature.name;
            let mut signatures = ruleset.signatures().iter();
            if let Some(signature) = signatures.find(|signature| signature.name == *name) {
                let is_innocent = signature
                    .innocence
                    .iter()
                    .any(|part| plain.selects(signature, part, ruleset.concepts(), &headers));
                let verdict = Verdict::new(
                    plain.matches(signature, ruleset.concepts(), &headers),
                    is_innocent,
                );
                assert_eq!(verdict, exemplar.expected, "{name} on '{}'", exemplar.name);
                compared += 1;
            }
        }
    }
    assert!(compared >= 700, "{compared} exemplars compared");
}

/// Regression: searching a text that consists of the first words of signatures took seconds.
#[test]
fn text_that_is_expensive_to_search_exhausts_the_budget_and_is_reported() {
    let ruleset = rules().ruleset().unwrap();
    let mut text = "an llm. response. function call dataset. the given prompt. ".to_owned();
    let mut state = 1_u32;
    while text.len() < 400_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(if state >> 31 == 0 { "rewrite " } else { "query " });
    }
    let body = serde_json::json!({ "messages": [{ "role": "user", "content": text }] }).to_string();
    let recorded = Recorded {
        name: "expensive".into(),
        path: "/v1/chat/completions".into(),
        headers: Vec::new(),
        body: body.into_bytes(),
    };
    let assessment = ruleset.assess(&recorded.envelope()).unwrap();
    assert!(assessment.issues.names().any(|issue| issue == "costly"), "{:?}", assessment.issues);
    let mut hits = assessment.hits.iter().map(|hit| &ruleset.signatures()[hit.signature].name);
    assert!(hits.any(|name| name == "evasion_costly_text"));
}

/// Checks the detection rates that docs/evaluation.md promises for the recorded corpora without
/// correlation. The undetected harvests send plain questions, which only correlations can detect.
#[test]
fn recorded_harvests_are_suspect_and_benign_traffic_is_not() {
    let ruleset = rules().ruleset().unwrap();
    let mut benign = Counts::default();
    for (name, min_runs, min_requests) in [("dev", 94, 73), ("dev2", 85, 60)] {
        let Some(lines) = corpus(name) else {
            return skip("../shared/corpus does not exist");
        };
        let files = count_bands(&ruleset, &lines);
        let harvests = files.iter().filter(|((label, _), _)| label == "harvest");
        let harvests: Vec<&Counts> = harvests.map(|(_, counts)| counts).collect();
        let found = harvests.iter().filter(|counts| counts.suspect > 0).count();
        let runs = harvests.len();
        assert!(found * 100 >= runs * min_runs, "{name}: {found} of {runs} harvests");
        let all: usize = harvests.iter().map(|counts| counts.requests).sum();
        let suspect: usize = harvests.iter().map(|counts| counts.suspect).sum();
        assert!(suspect * 100 >= all * min_requests, "{name}: {suspect} of {all} requests");
        for (_, counts) in files.iter().filter(|((label, _), _)| label == "benign") {
            benign.requests += counts.requests;
            benign.notice += counts.notice;
            benign.suspect += counts.suspect;
        }
    }
    assert!(benign.requests > 7_000, "{benign:?}");
    assert!(benign.suspect * 1_000 <= benign.requests, "{benign:?}");
    assert!(benign.notice * 100 <= benign.requests, "{benign:?}");
}

/// Number of requests, number of requests in band notice or higher, and in band suspect or higher.
#[derive(Debug, Default)]
struct Counts {
    requests: usize,
    notice: usize,
    suspect: usize,
}

/// Counts recorded requests by the label and the name of their file.
fn count_bands(ruleset: &Ruleset, lines: &[Recorded]) -> BTreeMap<(String, String), Counts> {
    let mut files: BTreeMap<(String, String), Counts> = BTreeMap::new();
    for recorded in lines {
        let band = ruleset.assess(&recorded.envelope()).map(|assessment| assessment.band);
        let path = Path::new(&recorded.name);
        let label = path.parent().unwrap().file_name().unwrap().to_string_lossy();
        let file = path.file_name().unwrap().to_string_lossy();
        let file = file.split(':').next().unwrap();
        let counts = files.entry((label.into_owned(), file.to_owned())).or_default();
        counts.requests += 1;
        counts.notice += usize::from(band >= Some(Band::Notice));
        counts.suspect += usize::from(band >= Some(Band::Suspect));
    }
    files
}

#[test]
fn every_family_has_signatures() {
    let signatures = rules().bundle().signatures;
    assert!(signatures.len() >= 48, "{} signatures", signatures.len());
    for family in
        ["elicitation", "synthesis", "grading", "extraction", "provenance", "evasion", "context"]
    {
        assert!(signatures.iter().any(|signature| signature.family == family), "{family}");
    }
}

#[test]
fn the_generated_pages_are_current() {
    for (name, page) in hedgerow_sigma::docs::pages(&rules()) {
        let path = format!("docs/{name}");
        let is_current = fs::read_to_string(from_root(&path)).unwrap_or_default() == page;
        assert!(is_current, "{path} is out of date; run `npm run hedgerow -- docs`");
    }
}

#[test]
fn the_bundle_is_canonical_and_loads() {
    let bytes = rules().encode_bundle();
    let expected = canonical_json(&serde_json::from_slice(&bytes).unwrap());
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
    let ruleset = Ruleset::load(&bytes).unwrap();
    assert_eq!(ruleset.digest(), ruleset::digest(&bytes));
}

/// Encodes JSON by RFC 8785. Implements only the parts that bundles need: sorted keys, no spaces,
/// integers without a fraction.
fn canonical_json(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut keys: Vec<&String> = members.keys().collect();
            keys.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            let members = keys.iter().map(|key| {
                format!("{}:{}", Value::from(key.as_str()), canonical_json(&members[*key]))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(canonical_json).collect::<Vec<_>>().join(","))
        }
        Value::Number(number) => match number.as_f64() {
            Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// A request from the fixtures or from a recorded corpus.
struct Recorded {
    /// Name of the file, with the line number for a recorded corpus.
    name: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Recorded {
    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            method: "POST",
            path: &self.path,
            headers: &self.headers,
            body: &self.body,
            ..Envelope::default()
        }
    }
}

#[test]
fn fast_path_explanation_and_naive_reference_agree_on_fixtures() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 15, "{} fixtures", fixtures.len());
    let (requests, naive) = compare(&fixtures);
    assert!(requests > fixtures.len(), "batches have several requests each");
    assert_eq!(requests, naive, "the naive reference reads all requests");
}

#[test]
fn fast_path_explanation_and_naive_reference_agree_on_the_corpus() {
    let Some(lines) = corpus("dev") else {
        return skip("../shared/corpus does not exist");
    };
    assert!(lines.len() > 1_000);
    std::thread::scope(|scope| {
        for part in lines.chunks(lines.len().div_ceil(2)) {
            scope.spawn(|| {
                let (requests, naive) = compare(part);
                assert_eq!(requests, naive, "the naive reference reads all requests");
            });
        }
    });
}

/// Asserts that fast path, explanation and naive reference agree on all requests and signatures.
/// Returns the number of requests, and the number of requests that the naive reference can read.
fn compare(all: &[Recorded]) -> (usize, usize) {
    let ruleset = rules().ruleset().unwrap();
    let explainer = Explainer::new(ruleset.concepts());
    let (mut hits, mut requests, mut naive_requests) = (0, 0, 0);
    for recorded in all {
        let envelope = recorded.envelope();
        let Some(endpoint) = ruleset.endpoint(&envelope) else { continue };
        let normalized_headers: Vec<(String, String)> = recorded
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), crate::support::normalize(value)))
            .collect();
        let limits = &ruleset.policy().scan;
        let body = Body::new(&recorded.body, None, limits);
        let mut matcher = ruleset.program().matcher();
        let headers = ruleset.program().header_bits(&recorded.headers);
        let naive = naive(recorded, endpoint);
        let mut naive = naive.iter();
        extract::for_each_request(&envelope, endpoint, &body, limits, &mut |request| {
            let fast = matcher.hits(request, &headers);
            let naive = naive.next().map(|naive| naive.clone().with_passages(request));
            requests += 1;
            naive_requests += usize::from(naive.is_some());
            for (index, signature) in ruleset.signatures().iter().enumerate() {
                let context = format!("{} on {}", signature.name, recorded.name);
                let hit = fast.iter().find(|hit| hit.signature == index);
                let is_fast = hit.is_some();
                let explained = explainer.holds(signature, request, &recorded.headers);
                assert_eq!(is_fast, explained, "explanation: {context}");
                if let Some(hit) = hit {
                    let explained = explainer.explain(signature, request, &recorded.headers);
                    let names =
                        hit.innocence.iter().map(|position| &signature.innocence[*position]);
                    assert!(names.eq(&explained.innocence), "explained innocence: {context}");
                }
                if let Some(naive) = &naive {
                    let matches = naive.matches(signature, ruleset.concepts(), &normalized_headers);
                    assert_eq!(is_fast, matches, "naive reference: {context}");
                }
            }
            hits += fast.len();
            check_evidence(&ruleset, request, &mut matcher, &headers, recorded);
        });
    }
    assert!(hits > 0, "no signature matched");
    (requests, naive_requests)
}

/// Asserts that evidence of text fields is within the body, and that other evidence is within the
/// maximum length of a value.
fn check_evidence(
    ruleset: &Ruleset,
    request: &Request<'_>,
    matcher: &mut hedgerow_core::matching::Matcher<'_>,
    headers: &hedgerow_core::matching::HeaderBits,
    recorded: &Recorded,
) {
    for hit in matcher.hits(request, headers) {
        for evidence in hit.evidence {
            let name = &ruleset.signatures()[hit.signature].name;
            let end = match evidence.field.field_type() {
                FieldType::Text => recorded.body.len(),
                _ => 8 << 10,
            };
            assert!(evidence.start <= evidence.end && evidence.end <= end, "{name}: {evidence:?}");
            // Evidence of the modifier `|exists` is the empty range at 0.
            let is_valid = evidence.start < evidence.end || evidence.end == 0;
            assert!(is_valid, "{name} on {}: {evidence:?}", recorded.name);
        }
    }
}

/// Reads all requests in a body with the naive reference. Returns none if the body is not JSON.
fn naive(recorded: &Recorded, endpoint: Endpoint) -> Vec<PlainRequest> {
    let json = || serde_json::from_slice::<Value>(&recorded.body).ok();
    let (bodies, inner, is_batch): (Vec<Value>, _, _) = match endpoint {
        Endpoint::OpenaiFiles => {
            let text = String::from_utf8_lossy(&recorded.body).into_owned();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let lines = lines.filter(|line| line["url"] == "/v1/chat/completions");
            let bodies = lines.map(|line| line["body"].clone()).collect();
            (bodies, Endpoint::OpenaiChat, true)
        }
        Endpoint::AnthropicBatches => {
            let body = json().unwrap_or_default();
            let entries = body["requests"].as_array().cloned().unwrap_or_default();
            let bodies = entries.iter().map(|entry| entry["params"].clone()).collect();
            (bodies, Endpoint::AnthropicMessages, true)
        }
        Endpoint::OpenaiBatches => (json().into_iter().collect(), Endpoint::OpenaiChat, false),
        endpoint => (json().into_iter().collect(), endpoint, false),
    };
    let size = bodies.len();
    let plain = |body: &Value| {
        let mut plain = PlainRequest::read(body, inner).with_call(
            endpoint,
            &recorded.path,
            &recorded.headers,
            recorded.body.len(),
        );
        let segments = recorded.path.split('/');
        let is_kind = |part: &&str| matches!(*part, "models" | "engines" | "deployments" | "model");
        let model = segments.skip_while(|part| !is_kind(part)).nth(1);
        let has_model = plain.keywords.iter().any(|(name, _)| *name == FieldId::RequestModel);
        if let Some(model) = model.filter(|_| !has_model) {
            let model = model.split(':').next().unwrap().to_owned();
            plain.keywords.push((FieldId::RequestModel, model));
        }
        if is_batch {
            plain.numbers.push((FieldId::BatchSize, size as f64));
        }
        plain.numbers.push((FieldId::Hour, 0.0));
        plain.normalized()
    };
    bodies.iter().map(plain).collect()
}

/// Reads all lines of a corpus of recorded requests; `None` if it does not exist.
fn corpus(name: &str) -> Option<Vec<Recorded>> {
    let mut lines = Vec::new();
    for label in fs::read_dir(from_root("../shared/corpus").join(name)).ok()? {
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

/// Reads the fixtures, `tests/fixtures/requests/*.http`, by name.
fn fixtures() -> Vec<Recorded> {
    let mut paths: Vec<PathBuf> = fs::read_dir(from_root("tests/fixtures/requests"))
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

/// Compares all values that are extracted from the fixtures with stored snapshots.
#[test]
fn extraction_snapshots() {
    let ruleset = rules().ruleset().unwrap();
    for recorded in fixtures() {
        let envelope = recorded.envelope();
        let endpoint = ruleset.endpoint(&envelope).unwrap();
        let limits = &ruleset.policy().scan;
        let body = Body::new(&recorded.body, None, limits);
        let mut requests = Vec::new();
        extract::for_each_request(&envelope, endpoint, &body, limits, &mut |request| {
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
            let (text, source) = (&request.text()[segment.range.clone()], segment.source.range());
            format!(
                "{} [{}..{}]: {text}",
                segment.section.field().spec().name,
                source.start,
                source.end
            )
        })
        .collect();
    lines.extend(
        request.keywords().iter().map(|(field, value)| format!("{}: {value}", field.spec().name)),
    );
    lines.extend(
        request.numbers().iter().map(|(field, value)| format!("{}: {value}", field.spec().name)),
    );
    lines.join("\n")
}
