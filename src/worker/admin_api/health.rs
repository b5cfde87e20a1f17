//! `/_hedgerow/health` and `/_hedgerow/version`: the filter's own endpoints. They never reach the origin,
//! and what is wrong is told with its remedy.
//!
//! Anybody may ask. Health says what an operator must do; mode, ruleset and number of signatures only
//! in development. Version names the release, the ruleset's digest (so that a deployment can be
//! checked against `hedgerow build`; it tells nothing of the rules) and whether panics unwind.

use std::time::Duration;

use serde_json::{Value, json};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Request, RequestInit, Response};

use crate::admin_api;
use crate::isolate::active_rules;
use crate::isolate::active_rules::ActiveRules;
use crate::platform::settings::{ConfigProblem, Settings};
use crate::request::client_request::ClientRequest;
use crate::request::response::{RequestError, json_response};
use crate::request::tag;

/// Answers a request for one of them.
pub fn handle(request: &ClientRequest, settings: &Settings) -> Response {
    match (request.method(), request.path()) {
        ("GET" | "HEAD", "/_hedgerow/health") => health(request, settings),
        ("GET" | "HEAD", "/_hedgerow/version") => json_response(200, &version()),
        _ => RequestError::NotFound.to_response(None, ""),
    }
}

/// 200, or 503 where requests are not forwarded or not scored: a monitor needs no more than that.
fn health(request: &ClientRequest, settings: &Settings) -> Response {
    let mut problems = settings.problems();
    let rules = active_rules::current();
    if let Err(problem) = &rules {
        let message = format!(
            "the embedded ruleset does not load: {problem}; requests are forwarded unscored"
        );
        problems.push(ConfigProblem::new(
            message,
            "run `hedgerow check` and `npm run build`, and deploy again",
        ));
    }
    let (status, status_name) = if problems.is_empty() { (200, "ok") } else { (503, "degraded") };
    let mut warnings = settings.warnings(request.header("cf-connecting-ip"));
    if active_rules::has_correlations() && settings.correlators().is_none() {
        warnings.push(ConfigProblem::new(
            "the binding CORRELATOR is missing: what requests have in common is not counted",
            "restore it in wrangler.toml, and deploy again",
        ));
    }
    let rejection = active_rules::last_problem();
    if rejection.is_some() {
        // What exactly, the log and the status tell those who may know.
        warnings.push(ConfigProblem::new(
            "the last release could not be taken over: the rules before it are in force",
            "see `hedgerow status`",
        ));
    }
    let mut report = json!({ "status": status_name, "problems": problems, "warnings": warnings });
    if let (true, Some(members)) = (settings.is_development, report.as_object_mut()) {
        let ruleset = rules.as_ref().ok().map(ActiveRules::active);
        let details = [
            ("ruleset", json!(ruleset.map(|ruleset| ruleset.digest()))),
            ("signatures", json!(ruleset.map(|ruleset| ruleset.signatures().len()))),
            ("mode", json!(ruleset.map(|ruleset| ruleset.policy().mode.name()))),
            ("release", json!(rules.as_ref().ok().and_then(ActiveRules::serial))),
            ("refused", json!(rejection)),
            ("memory_bytes", json!(wasm_memory_bytes())),
        ];
        members.extend(details.map(|(name, value)| (name.to_owned(), value)));
    }
    json_response(status, &report)
}

fn version() -> Value {
    let rules = active_rules::current().ok();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ruleset": rules.as_ref().map(|rules| rules.active().digest()),
        "release": rules.as_ref().and_then(ActiveRules::serial),
        // Without it one panic fails every request that the isolate has in flight.
        "panic_unwind": cfg!(panic = "unwind"),
    })
}

/// Bytes of Wasm memory, which grows and never shrinks.
fn wasm_memory_bytes() -> f64 {
    let buffer = wasm_bindgen::memory().unchecked_into::<js_sys::WebAssembly::Memory>().buffer();
    buffer.unchecked_into::<js_sys::ArrayBuffer>().byte_length().into()
}

/// A request to one of our own objects.
pub fn rpc_request(
    base: &str,
    method: &str,
    target: &str,
    caller: &Value,
    body: Option<&Request>,
) -> Result<Request, JsValue> {
    let init = RequestInit::new();
    init.set_method(method);
    if let Some(body) = body.and_then(Request::body) {
        init.set_body(&body);
    }
    let request = Request::new_with_str_and_init(&format!("{base}{target}"), &init)?;
    tag::set_header(&request.headers(), admin_api::CALLER_HEADER, &caller.to_string());
    Ok(request)
}

/// For how long an object may take: a large bundle has to be compiled, and KV may have to be asked
/// again.
pub const RPC_TIMEOUT: Duration = Duration::from_secs(25);
