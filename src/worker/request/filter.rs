//! The filter: what happens to a request that is not for Hedgerow's own endpoints.
//!
//! **A fault in Hedgerow never fails a client's request.** A request that cannot be scored is
//! forwarded unscored, and logged as such. Only a policy that enforces with `fail_closed` refuses
//! it.
//!
//! 1. Requests that are not LLM calls are forwarded without reading, tagging or logging them; only
//!    reserved headers are removed.
//! 2. The body is read up to the scan window; the core scores it and decides.
//! 3. The decision is logged, before anything can go wrong on the way to the origin.
//! 4. The decision is enforced: the request is refused, or forwarded with tags.
//! 5. The response streams back unread; the observation for correlation is queued.
//!
//! Step 1 is here, the others are in `llm_call.rs`.

use std::rc::Rc;

use js_sys::{Promise, PromiseWithResolvers};
use wasm_bindgen::JsValue;
use web_sys::Response;
use worker::Context;

use crate::isolate::active_rules::ActiveRules;
use crate::isolate::{active_rules, indicators, observation_queue, telemetry};
use crate::platform::log;
use crate::platform::settings::Settings;
use crate::request::classify::classify;
use crate::request::client_request;
use crate::request::client_request::ClientRequest;
use crate::request::cors::add_cors_headers;
use crate::request::llm_call::LlmCall;
use crate::request::response::RequestError;
use crate::request::service_worker;
use crate::request::upstream::Upstream;

/// Filters a request. Returns the origin's response, or Hedgerow's own if the request is refused or
/// cannot be forwarded.
///
/// Reads of KV and reports run in the background: only the first request of an isolate waits for
/// them, at most 50 ms.
pub async fn handle(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Response {
    let _guard = keep_alive(context);
    futures_util::join!(
        active_rules::refresh(settings, context),
        indicators::refresh(settings, context)
    );
    let response = respond(request, settings, context).await;
    telemetry::schedule_report(settings, context);
    observation_queue::schedule_send(settings, context);
    response
}

/// Classifies a request, and filters or forwards it. Every error becomes a response.
async fn respond(request: &ClientRequest, settings: &Settings, context: &Context) -> Response {
    let request_id = client_request::new_request_id();
    let active_rules = active_rules::current();
    let active = active_rules.as_ref().ok().map(ActiveRules::active);
    let classified = classify(active.map(Rc::as_ref), request);
    let response = async {
        let origin = settings.origin.as_ref();
        let origin = origin.map_err(|problem| RequestError::Unconfigured(problem.clone()))?;
        let upstream = Upstream { origin, request, request_id: &request_id, context };
        let Some(endpoint) = classified.endpoint else {
            if let Some(error) = classified.error {
                log::forwarded_unscored(&request_id, error);
            }
            return forward_unread(&upstream, settings).await;
        };
        match (&active_rules, settings.account_secret.as_deref()) {
            (Ok(rules), Some(secret)) => {
                match LlmCall::new(upstream, settings, rules, endpoint, classified.error, secret) {
                    Ok(call) => call.filter().await,
                    Err(upstream) => upstream.forward_unread().await,
                }
            }
            (Ok(_), None) => {
                log::forwarded_unscored(&request_id, "ACCOUNT_SECRET is missing or too short");
                telemetry::count_error("ACCOUNT_SECRET is missing or too short");
                upstream.forward_unread().await
            }
            (Err(problem), _) => {
                log::forwarded_unscored(&request_id, problem);
                telemetry::count_error("the embedded ruleset does not load");
                upstream.forward_unread().await
            }
        }
    };
    let response: Result<Response, RequestError> = response.await;
    response.unwrap_or_else(|error| {
        let response = error.to_response(classified.endpoint, &request_id);
        let settings = active.map(|ruleset| ruleset.policy().enforce.clone());
        add_cors_headers(&response.headers(), request, &settings.unwrap_or_default());
        response
    })
}

/// Forwards a request that is not an LLM call. On a host that has the console, too, no service
/// worker may control the console.
async fn forward_unread(
    upstream: &Upstream<'_>,
    settings: &Settings,
) -> Result<Response, RequestError> {
    if !settings.shares_console_host() || settings.assets().is_none() {
        return upstream.forward_unread().await;
    }
    service_worker::check_script(upstream.request)?;
    let response = upstream.forward_unread().await?;
    Ok(service_worker::restrict_scope(upstream.request, response))
}

/// Keeps the invocation alive until the returned guard is dropped. The platform drops an invocation
/// whose client is gone, and everything it holds would stay in Wasm's memory for good. An
/// invocation that is kept alive fails instead, at the body or, by the client's abort signal, at
/// the origin's response, and its memory is freed.
fn keep_alive(context: &Context) -> Option<KeepAlive> {
    let completion: PromiseWithResolvers = Promise::with_resolvers();
    context.as_ref().wait_until(&completion.promise()).ok()?;
    Some(KeepAlive(completion))
}

/// Guard: keeps the invocation alive (`waitUntil`) until dropped.
struct KeepAlive(PromiseWithResolvers);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        let _ = self.0.resolve().call0(&JsValue::UNDEFINED);
    }
}
