//! The core for the browser: the same code that runs at the edge. Nothing leaves the page.

#[cfg(feature = "bench")]
mod bench;

use hedgerow_core::evaluate::explain::Explainer;
use hedgerow_core::http::body::Body;
use hedgerow_core::ruleset::{Bundle, Diff};
use hedgerow_core::{Decision, Ruleset, extract, field};
use hedgerow_sigma::RuleFile;
use hedgerow_sigma::recorded::RecordedRequest;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

/// Checks and tests rule files, given as JSON `{path: text}`. Returns JSON
/// `{findings, exemplars, bundle, signatures}`: how every exemplar comes out, where the files can be
/// read; `bundle` is its canonical text, or null where there are findings.
///
/// Throws where `files` is not such an object.
#[wasm_bindgen]
pub fn check(files: &str) -> Result<String, JsError> {
    let files: std::collections::BTreeMap<String, String> = serde_json::from_str(files)?;
    let rule_files: Vec<RuleFile> =
        files.into_iter().map(|(path, text)| RuleFile { path, text }).collect();
    let report = match hedgerow_sigma::check(&rule_files) {
        Err(findings) => {
            json!({ "findings": findings, "exemplars": [], "bundle": null, "signatures": 0 })
        }
        Ok(rules) => {
            let findings = hedgerow_sigma::test(&rules);
            let bundle = findings
                .is_empty()
                .then(|| String::from_utf8_lossy(&rules.encode_bundle()).into_owned());
            json!({
                "findings": findings,
                "exemplars": hedgerow_sigma::exemplar_results(&rules),
                "bundle": bundle,
                "signatures": rules.bundle().signatures.len(),
            })
        }
    };
    Ok(report.to_string())
}

/// What changes from one bundle to another: signatures, weights, lists, policy; as JSON.
///
/// Throws where one of them cannot be read.
#[wasm_bindgen]
pub fn diff(from: &str, to: &str) -> Result<String, JsError> {
    let diff = Diff::between(&Bundle::parse(from.as_bytes())?, &Bundle::parse(to.as_bytes())?);
    Ok(json!(diff).to_string())
}

/// The fields that signatures may name, as JSON `[{name, kind, doc}]`.
#[wasm_bindgen]
pub fn fields() -> String {
    let row = |row: &field::FieldSpec| json!({ "name": row.name, "kind": row.field_type.name(), "doc": row.doc });
    Value::from_iter(field::FIELDS.iter().map(row)).to_string()
}

/// A ruleset that scores and explains requests: raw HTTP, or JSON lines.
#[wasm_bindgen]
pub struct Filter(Ruleset);

#[wasm_bindgen]
impl Filter {
    /// Loads a bundle. Throws where it cannot be read; the message says why.
    #[wasm_bindgen(constructor)]
    pub fn new(bundle: &str) -> Result<Filter, JsError> {
        Ok(Self(Ruleset::load(bundle.as_bytes())?))
    }

    /// SHA-256 of the bundle.
    pub fn digest(&self) -> String {
        self.0.digest().to_owned()
    }

    /// Scores a request. Returns JSON `{llm_call, decision}`. `now` is in seconds since the epoch.
    ///
    /// Throws where the request cannot be read; the message says why.
    pub fn score(&self, request: &str, now: f64) -> Result<String, JsError> {
        let recorded = parse_request(request)?;
        let envelope = recorded.envelope(self.0.policy().scan.scan_window, now as u64);
        let Some(assessment) = self.0.assess(&envelope) else {
            return Ok(json!({ "llm_call": false }).to_string());
        };
        let disposition = self.0.policy().disposition(envelope.path, envelope.account);
        let decision = Decision::new(&self.0, &envelope, assessment, disposition);
        Ok(json!({ "llm_call": true, "decision": decision }).to_string())
    }

    /// Shows every condition of every signature for a request, true or false. Returns JSON
    /// `{llm_call, requests}`, one list of explanations for each request in the body.
    ///
    /// Throws where the request cannot be read; the message says why.
    pub fn explain(&self, request: &str, now: f64) -> Result<String, JsError> {
        let recorded = parse_request(request)?;
        let limits = &self.0.policy().scan;
        let envelope = recorded.envelope(limits.scan_window, now as u64);
        let Some(endpoint) = self.0.endpoint(&envelope) else {
            return Ok(json!({ "llm_call": false, "requests": [] }).to_string());
        };
        let encoding = recorded.headers.iter().find(|(name, _)| name == "content-encoding");
        let body = Body::new(envelope.body, encoding.map(|(_, value)| value.as_str()), limits);
        let explainer = Explainer::default();
        let mut requests: Vec<Value> = Vec::new();
        extract::for_each_request(&envelope, endpoint, &body, limits, &mut |request| {
            requests.push(json!(explainer.explain_all(&self.0, request, &envelope)));
        });
        Ok(json!({ "llm_call": true, "requests": requests }).to_string())
    }
}

fn parse_request(request: &str) -> Result<RecordedRequest, JsError> {
    RecordedRequest::parse(request.as_bytes()).map_err(|problem| JsError::new(&problem))
}
