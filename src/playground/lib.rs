//! The core for the browser: the same code that runs at the edge. Nothing leaves the page.

mod bench;

use hedgerow::explain::Explainer;
use hedgerow::recorded::Recorded;
use hedgerow::request::{self, Body};
use hedgerow::sigma::{self, Source};
use hedgerow::{Decision, Ruleset};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

/// Checks and tests rule files, given as JSON `{path: text}`. Returns JSON
/// `{findings, bundle, signatures}`; `bundle` is its canonical text, or null where there are findings.
///
/// Throws where `files` is not such an object.
#[wasm_bindgen]
pub fn check(files: &str) -> Result<String, JsError> {
    let files: std::collections::BTreeMap<String, String> = serde_json::from_str(files)?;
    let sources: Vec<Source> =
        files.into_iter().map(|(path, text)| Source { path, text }).collect();
    let report = match sigma::check(&sources) {
        Err(findings) => json!({ "findings": findings, "bundle": null, "signatures": 0 }),
        Ok(rules) => {
            let findings = sigma::test(&rules);
            let bundle =
                findings.is_empty().then(|| String::from_utf8_lossy(&rules.bytes()).into_owned());
            json!({ "findings": findings, "bundle": bundle, "signatures": rules.bundle().signatures.len() })
        }
    };
    Ok(report.to_string())
}

/// Scores a request (raw HTTP, or a JSON line) by a bundle. Returns JSON `{llm_call, decision, score}`.
/// `now` is in seconds since the epoch.
///
/// Throws where the bundle or the request cannot be read; the message says why.
#[wasm_bindgen]
pub fn score(request: &str, bundle: &str, now: f64) -> Result<String, JsError> {
    let (ruleset, recorded) = load(request, bundle)?;
    let envelope = recorded.envelope(ruleset.policy().scan.window, now as u64);
    let Some(assessment) = ruleset.assess(&envelope) else {
        return Ok(json!({ "llm_call": false }).to_string());
    };
    let treatment = ruleset.policy().treatment(envelope.path, envelope.account);
    let score = assessment.score.clone();
    let decision = Decision::new(&ruleset, &envelope, assessment, treatment);
    Ok(json!({ "llm_call": true, "decision": decision, "score": score }).to_string())
}

/// Shows every condition of every signature for a request, true or false. Returns JSON
/// `{llm_call, requests}`, one list of explanations for each request in the body.
///
/// Throws where the bundle or the request cannot be read; the message says why.
#[wasm_bindgen]
pub fn explain(request: &str, bundle: &str, now: f64) -> Result<String, JsError> {
    let (ruleset, recorded) = load(request, bundle)?;
    let limits = &ruleset.policy().scan;
    let envelope = recorded.envelope(limits.window, now as u64);
    let Some(endpoint) = ruleset.endpoint(&envelope) else {
        return Ok(json!({ "llm_call": false, "requests": [] }).to_string());
    };
    let encoding = recorded.headers.iter().find(|(name, _)| name == "content-encoding");
    let body = Body::new(envelope.body, encoding.map(|(_, value)| value.as_str()), limits);
    let explainer = Explainer::default();
    let mut requests: Vec<Value> = Vec::new();
    request::read(&envelope, endpoint, &body, limits, &mut |request| {
        requests.push(json!(explainer.explain_all(&ruleset, request, &envelope)));
    });
    Ok(json!({ "llm_call": true, "requests": requests }).to_string())
}

fn load(request: &str, bundle: &str) -> Result<(Ruleset, Recorded), JsError> {
    let ruleset = Ruleset::load(bundle.as_bytes())?;
    let recorded = Recorded::parse(request.as_bytes()).map_err(|problem| JsError::new(&problem))?;
    Ok((ruleset, recorded))
}
