//! Hedgerow's core for JavaScript: checks rules, and scores and explains requests with the Worker's
//! code.
//!
//! The console runs this module in a Web Worker (`www/src/core/`); rules and requests never leave
//! the page. `npm run build` uses the module to compile the bundle that the Worker embeds. Results
//! are JSON text.

#[cfg(feature = "bench")]
mod bench;

use std::collections::BTreeMap;

use hedgerow_core::evaluate::explain::{Explainer, explain_passages};
use hedgerow_core::extract::Request;
use hedgerow_core::http::body::Body;
use hedgerow_core::http::envelope::Envelope;
use hedgerow_core::ruleset::{Bundle, Diff};
use hedgerow_core::{Decision, Ruleset, extract, field};
use hedgerow_sigma::recorded::RecordedRequest;
use hedgerow_sigma::{Canonical, RuleFile};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

/// Checks and tests rule files, given as JSON `{path: text}`. Returns JSON:
///
/// - `findings`: the problems in the files and the failures of exemplars; empty if there are none
/// - `exemplars`: the result of every exemplar; empty if the files cannot be compiled
/// - `bundle`: the canonical text of the bundle; null if there are findings
/// - `signatures`: the number of signatures; 0 if the files cannot be compiled
///
/// Throws if `files` is not an object of texts.
#[wasm_bindgen]
pub fn check(files: &str) -> Result<String, JsError> {
    let files: BTreeMap<String, String> = serde_json::from_str(files)?;
    let files: Vec<RuleFile> =
        files.into_iter().map(|(path, text)| RuleFile { path, text }).collect();
    let report = match hedgerow_sigma::check(&files) {
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

/// Returns the bundle that the Worker embeds: the given bundle without the digests of its files.
///
/// The digests show from which files a released bundle was built. A Worker does not need them,
/// because it is built from its own checkout, and they would add 14 KiB to its size. Throws if the
/// bundle is invalid.
#[wasm_bindgen]
pub fn embedded_bundle(bundle: &str) -> Result<String, JsError> {
    let mut bundle = Bundle::parse(bundle.as_bytes())?;
    bundle.sources.clear();
    Ok(String::from_utf8_lossy(&bundle.encode()).into_owned())
}

/// Compares two bundles. Returns the differences in signatures, weights, concepts, lists and policy
/// as JSON.
///
/// Throws if a bundle is invalid.
#[wasm_bindgen]
pub fn diff(from: &str, to: &str) -> Result<String, JsError> {
    let diff = Diff::between(&Bundle::parse(from.as_bytes())?, &Bundle::parse(to.as_bytes())?);
    Ok(json!(diff).to_string())
}

/// Returns the fields that signatures may name, as JSON `[{name, kind, doc}]`. `kind` is the type.
#[wasm_bindgen]
pub fn fields() -> String {
    let to_json = |field: &field::FieldSpec| {
        let kind = field.field_type.name();
        json!({ "name": field.name, "kind": kind, "doc": field.doc })
    };
    Value::from_iter(field::FIELDS.iter().map(to_json)).to_string()
}

/// A ruleset that scores and explains requests. A request is given as raw HTTP, or as a JSON object
/// as in the NDJSON files of `hedgerow replay`.
#[wasm_bindgen]
pub struct Filter(Ruleset);

#[wasm_bindgen]
impl Filter {
    /// Compiles a bundle, given as JSON text. Throws if the bundle is invalid; the message gives
    /// the reason.
    #[wasm_bindgen(constructor)]
    pub fn new(bundle: &str) -> Result<Filter, JsError> {
        Ok(Self(Ruleset::load(bundle.as_bytes())?))
    }

    /// Returns the SHA-256 of the bundle, in hex.
    pub fn digest(&self) -> String {
        self.0.digest().to_owned()
    }

    /// Scores a request at `now`, in seconds since the epoch. Returns JSON `{llm_call, decision}`;
    /// `decision` is missing if the request is not an LLM call.
    ///
    /// Throws if the request cannot be parsed; the message says why.
    pub fn score(&self, request: &str, now: f64) -> Result<String, JsError> {
        let recorded = parse_request(request)?;
        let envelope = recorded.envelope(self.0.policy().scan.max_body, now as u64);
        let Some(assessment) = self.0.assess(&envelope) else {
            return Ok(json!({ "llm_call": false }).to_string());
        };
        let attributes = envelope.attributes(assessment.model.as_deref());
        let disposition = self.0.policy().disposition(&attributes);
        let decision = Decision::new(&self.0, &envelope, assessment, disposition);
        Ok(json!({ "llm_call": true, "decision": decision }).to_string())
    }

    /// Evaluates every condition of every signature for a request, including conditions that do not
    /// hold. `now` is in seconds since the epoch. Returns JSON `{llm_call, requests}`. `requests`
    /// has one list of explanations for each request in the body, because the upload of a batch
    /// contains many requests.
    ///
    /// Throws if the request cannot be parsed; the message says why.
    pub fn explain(&self, request: &str, now: f64) -> Result<String, JsError> {
        let recorded = parse_request(request)?;
        let explainer = Explainer::new(self.0.concepts());
        let mut requests: Vec<Value> = Vec::new();
        let llm_call = self.for_each_request(&recorded, now, &mut |request, envelope| {
            request.add_known_prompt_sets(self.0.seeds());
            requests.push(json!(explainer.explain_all(&self.0, request, envelope)));
        });
        Ok(json!({ "llm_call": llm_call, "requests": requests }).to_string())
    }

    /// Divides the text of a request into passages: instructions, material and examples. Returns
    /// JSON `{llm_call, passages}`. `passages` has at most the first 2,000 passages of the body. If
    /// the body is the upload of a batch, the passages of all its requests are in one list. `now`
    /// is in seconds since the epoch.
    ///
    /// Throws if the request cannot be parsed; the message says why.
    pub fn passages(&self, request: &str, now: f64) -> Result<String, JsError> {
        let recorded = parse_request(request)?;
        let mut passages = Vec::new();
        let llm_call = self.for_each_request(&recorded, now, &mut |request, _| {
            let left = MAX_PASSAGES.saturating_sub(passages.len());
            passages.extend(explain_passages(request, left));
        });
        Ok(json!({ "llm_call": llm_call, "passages": passages }).to_string())
    }
}

/// Maximum number of passages. The console shows fewer on a page.
const MAX_PASSAGES: usize = 2_000;

impl Filter {
    /// Calls `visit` with each request of a body. Returns whether the recorded request is an LLM
    /// call.
    fn for_each_request(
        &self,
        recorded: &RecordedRequest,
        now: f64,
        visit: &mut dyn FnMut(&mut Request<'_>, &Envelope<'_>),
    ) -> bool {
        let limits = &self.0.policy().scan;
        let envelope = recorded.envelope(limits.max_body, now as u64);
        let Some(endpoint) = self.0.endpoint(&envelope) else { return false };
        let encoding = recorded.headers.iter().find(|(name, _)| name == "content-encoding");
        let body = Body::new(envelope.body, encoding.map(|(_, value)| value.as_str()), limits);
        let count = extract::for_each_request(&envelope, endpoint, &body, limits, &mut |request| {
            visit(request, &envelope)
        });
        count.is_some()
    }
}

fn parse_request(request: &str) -> Result<RecordedRequest, JsError> {
    RecordedRequest::parse(request.as_bytes()).map_err(|problem| JsError::new(&problem))
}
