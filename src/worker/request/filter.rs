//! The filter: handles each request that is not for one of Hedgerow's own endpoints.
//!
//! **A fault in Hedgerow never makes a client's request fail.** A request that cannot be scored is
//! forwarded unscored, and logged as such. It is refused only if the policy enforces and sets
//! `fail_closed`.
//!
//! 1. Requests that are not LLM calls are forwarded without being read, tagged or logged. Only
//!    some headers are removed or set. Requests that could carry a prompt are counted by path.
//! 2. The body is read up to a limit. The core scores it and decides.
//! 3. The decision is logged before the request is forwarded, so that a failure at the origin
//!    cannot prevent the log line. A body beyond the limit is sent to the origin without its end,
//!    which is scored when it arrives; then the decision is logged.
//! 4. The decision is enforced: the request is refused, or forwarded with tags.
//! 5. The response is streamed to the client without being read. The observation for correlation is
//!    queued.
//!
//! Step 1 is in this file, the other steps are in `llm_call.rs`. A WebSocket on an LLM path
//! consists of many messages: `websocket.rs` treats each message of the client that contains a
//! prompt like a request.

use std::rc::Rc;

use hedgerow_core::http::route::{Endpoint, has_prompt_method};
use hedgerow_core::http::websocket::is_handshake;
use hedgerow_core::rules::policy::{Mode, Policy, RequestAttributes, UnknownTreatment};
use web_sys::Response;
use worker::Context;

use crate::isolate::active_rules::ActiveRules;
use crate::isolate::{active_rules, indicators, observation_queue, published_names, telemetry};
use crate::platform::clock::now_seconds;
use crate::platform::log;
use crate::platform::settings::Settings;
use crate::request::classify::classify;
use crate::request::client_request;
use crate::request::client_request::ClientRequest;
use crate::request::cors::add_cors_headers;
use crate::request::keep_alive::keep_alive;
use crate::request::llm_call::LlmCall;
use crate::request::mode::effective_mode;
use crate::request::origin_headers::OriginHeaders;
use crate::request::response::RequestError;
use crate::request::sender;
use crate::request::service_worker;
use crate::request::upstream::Upstream;
use crate::request::websocket;

/// Filters a request. Returns the origin's response, or a response of Hedgerow if the request is
/// refused or cannot be forwarded.
///
/// Reads of KV and reports run in the background. Only the first request of an isolate waits for
/// the reads of KV, at most 50 ms.
pub async fn handle(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Response {
    let _guard = keep_alive(context);
    futures_util::join!(
        active_rules::refresh(settings, context),
        indicators::refresh(settings, context),
        published_names::refresh(settings, context)
    );
    let response = respond(request, settings, context).await;
    telemetry::schedule_report(settings, context);
    observation_queue::schedule_send(settings, context);
    response
}

/// Classifies a request, and filters or forwards it. Every error becomes a response.
async fn respond(request: &ClientRequest, settings: &Rc<Settings>, context: &Context) -> Response {
    let request_id = client_request::new_request_id();
    let active_rules = active_rules::current();
    let active = active_rules.as_ref().ok().map(ActiveRules::active);
    let classified = classify(active.map(Rc::as_ref), request);
    let policy = active.map(|ruleset| ruleset.policy());
    let identity = policy.map(|policy| &policy.identity);
    let is_trusted = match identity {
        Some(policy) => sender::is_trusted(request, policy, settings, context).await,
        None => false,
    };
    let private_headers = identity
        .map(|policy| sender::private_headers(request, policy, is_trusted))
        .unwrap_or_default();
    let origin_headers = OriginHeaders::new(request, settings, policy, is_trusted);
    let response = async {
        let origin = settings.origin.as_ref();
        let origin = origin.map_err(|problem| RequestError::Unconfigured(problem.clone()))?;
        let request_id = &request_id;
        let private_headers = &private_headers;
        let origin_headers = &origin_headers;
        let upstream = Upstream {
            origin,
            request,
            request_id,
            context,
            private_headers,
            origin_headers,
            is_trusted,
        };
        let Some(endpoint) = classified.endpoint else {
            if let Some(error) = classified.error {
                log::forwarded_unscored(request_id, error);
            }
            return handle_unread(upstream, active_rules.as_ref().ok(), settings).await;
        };
        let error = classified.error;
        handle_llm_request(upstream, settings, &active_rules, endpoint, error).await
    };
    let response: Result<Response, RequestError> = response.await;
    response.unwrap_or_else(|error| {
        let response = error.to_response(classified.endpoint, &request_id);
        let settings = policy.map(|policy| policy.enforce.clone());
        add_cors_headers(&response.headers(), request, &settings.unwrap_or_default());
        response
    })
}

/// Filters an LLM call, or a handshake of a WebSocket on an LLM path. Forwards the request unscored
/// if the rules or ACCOUNT_SECRET are missing. `classify_error` is a fault in Hedgerow that
/// occurred while the request was classified.
async fn handle_llm_request(
    upstream: Upstream<'_>,
    settings: &Rc<Settings>,
    active_rules: &Result<ActiveRules, String>,
    endpoint: Endpoint,
    classify_error: Option<&'static str>,
) -> Result<Response, RequestError> {
    let request_id = upstream.request_id;
    match (active_rules, settings.account_secret.as_deref()) {
        (Ok(rules), Some(secret)) if upstream.request.is_websocket_handshake() => {
            websocket::handle(upstream, settings, rules, endpoint, secret).await
        }
        (Ok(rules), Some(secret)) => {
            match LlmCall::new(upstream, settings, rules, endpoint, classify_error, secret) {
                Ok(call) => call.filter().await,
                Err(upstream) => upstream.forward_unread().await,
            }
        }
        (Ok(_), None) => {
            log::forwarded_unscored(request_id, "ACCOUNT_SECRET is missing or too short");
            telemetry::count_error("ACCOUNT_SECRET is missing or too short");
            upstream.forward_unread().await
        }
        (Err(problem), _) => {
            log::forwarded_unscored(request_id, problem);
            telemetry::count_error("the embedded ruleset does not load");
            upstream.forward_unread().await
        }
    }
}

/// Forwards a request without reading it. If the host also has the console, prevents service
/// workers of the origin's pages from controlling the console.
async fn forward_unread(
    upstream: &Upstream<'_>,
    settings: &Settings,
) -> Result<Response, RequestError> {
    if !settings.shares_console_host() || settings.assets().is_none() {
        return upstream.forward_unread().await;
    }
    service_worker::check_script(upstream.request)?;
    let response = upstream.forward_unread().await?;
    service_worker::restrict_scope(upstream.request, response)
}

/// Forwards a request that is not an LLM call. If the path is unknown and the request could carry a
/// prompt, counts the request. Such a request is refused if the policy enforces and refuses unknown
/// paths.
async fn handle_unread(
    upstream: Upstream<'_>,
    rules: Option<&ActiveRules>,
    settings: &Settings,
) -> Result<Response, RequestError> {
    let request = upstream.request;
    let envelope = request.envelope();
    let is_websocket = is_handshake(&envelope);
    if is_websocket || has_prompt_method(request.method()) {
        let is_unknown = |policy: &&Policy| policy.endpoint(request.path()) == Endpoint::Unknown;
        let policy = rules.map(|rules| rules.active().policy()).filter(is_unknown);
        if let (Some(rules), Some(policy)) = (rules, policy) {
            let method = if is_websocket { telemetry::WEBSOCKET_METHOD } else { request.method() };
            telemetry::count_forwarded_unread(method, request.path());
            let attributes = RequestAttributes { now: now_seconds(), ..envelope.attributes(None) };
            let policy_mode = policy.disposition(&attributes).mode;
            let mode = effective_mode(request, settings, rules, policy_mode);
            if policy.unknown.treat == UnknownTreatment::Refuse && mode == Mode::Enforce {
                return Err(RequestError::NotFound);
            }
        }
    }
    forward_unread(&upstream, settings).await
}
