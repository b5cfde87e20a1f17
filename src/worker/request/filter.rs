//! One request. This file alone knows the order of I/O and the rule for failures: **trouble of ours
//! never costs a client its answer.** What cannot be scored is forwarded unscored, and logged as such;
//! only a policy that says `fail_closed` (and enforces) refuses instead.
//!
//! 1. What is no LLM call is passed on untouched: not read, not tagged, not logged.
//! 2. The body is read up to the scan window; the core scores and decides.
//! 3. The decision is logged, before anything can get lost on the way to the origin.
//! 4. It is carried out: the request is refused, or sent on with tags.
//! 5. The response streams back unread; what correlation keeps of the request is queued.

use std::rc::Rc;

use hedgerow_core::correlate::Observation;
use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::enforce::degrade::{Degradation, degrade};
use hedgerow_core::enforce::refusal::Refusal;
use hedgerow_core::http::body::Body;
use hedgerow_core::http::route::{Endpoint, builtin_endpoint};
use hedgerow_core::keyed_hash::HashKey;
use hedgerow_core::rules::policy::{Action, Disposition, Mode};
use hedgerow_core::{Decision, Envelope, Ruleset};
use js_sys::{Promise, PromiseWithResolvers, Uint8Array};
use wasm_bindgen::JsValue;
use web_sys::{Headers, Response};
use worker::Context;

use crate::isolate::active_rules::{ActiveRules, RulesetRole};
use crate::isolate::telemetry::Attribution;
use crate::isolate::{active_rules, indicators, observation_queue, telemetry};
use crate::platform::log::DecisionLine;
use crate::platform::settings::Settings;
use crate::platform::{hmac_sha256, log};
use crate::request::client_request::ClientRequest;
use crate::request::request_body::{ReadStop, RequestBody, UpstreamBody};
use crate::request::response::{RequestError, catch_panic};
use crate::request::shadow::ShadowDecision;
use crate::request::upstream::{Upstream, remove_header};
use crate::request::{client_request, tag};

/// Answers a request: with the origin's response wherever there is one.
pub async fn handle(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Response {
    let _staying = keep_alive(context);
    futures_util::join!(
        active_rules::refresh(settings, context),
        indicators::refresh(settings, context)
    );
    let response = respond(request, settings, context).await;
    telemetry::schedule_report(settings, context);
    observation_queue::schedule_send(settings, context);
    response
}

async fn respond(request: &ClientRequest, settings: &Settings, context: &Context) -> Response {
    let request_id = client_request::new_request_id();
    let active_rules = active_rules::current();
    let active = active_rules.as_ref().ok().map(ActiveRules::active);
    let (endpoint, routing_error) = classify(active.map(Rc::as_ref), request);
    let response = async {
        let origin = settings
            .origin
            .as_ref()
            .map_err(|problem| RequestError::Unconfigured(problem.clone()))?;
        let upstream = Upstream { origin, request, request_id: &request_id, context };
        match (&active_rules, endpoint, settings.account_secret.as_deref()) {
            (Ok(active_rules), Some(endpoint), Some(account_secret)) => {
                match LlmCall::new(
                    upstream,
                    settings,
                    active_rules,
                    (endpoint, routing_error),
                    account_secret,
                ) {
                    Ok(call) => call.filter().await,
                    Err(upstream) => upstream.forward_unread().await,
                }
            }
            (_, None, _) => {
                if let Some(error) = routing_error {
                    log::forwarded_unscored(&request_id, error);
                }
                upstream.forward_unread().await
            }
            (Ok(_), Some(_), None) => {
                log::forwarded_unscored(&request_id, "ACCOUNT_SECRET is missing");
                telemetry::count_error("ACCOUNT_SECRET is missing");
                upstream.forward_unread().await
            }
            (Err(problem), Some(_), _) => {
                log::forwarded_unscored(&request_id, problem);
                telemetry::count_error("the embedded ruleset does not load");
                upstream.forward_unread().await
            }
        }
    };
    response.await.unwrap_or_else(|error| error.to_response(endpoint, &request_id))
}

/// Which LLM call it is, if it is one; and what went wrong while that was found out.
fn classify(
    ruleset: Option<&Ruleset>,
    request: &ClientRequest,
) -> (Option<Endpoint>, Option<&'static str>) {
    let endpoint_by_path = || {
        let endpoint = builtin_endpoint(request.path());
        (request.method() == "POST" && endpoint != Endpoint::None).then_some(endpoint)
    };
    let classified = catch_panic(|| {
        #[cfg(feature = "fault-injection")]
        inject_panic(request, "route");
        ruleset.map_or_else(endpoint_by_path, |ruleset| ruleset.endpoint(&request.envelope()))
    });
    match classified {
        Some(endpoint) => (endpoint, None),
        // What nobody can tell may be a call, and is no way past `fail_closed`.
        None => {
            let endpoint = catch_panic(endpoint_by_path).unwrap_or(Some(Endpoint::Generic));
            (endpoint, Some("routing panicked"))
        }
    }
}

/// Keeps the invocation alive until what it returns is dropped. The platform drops invocations whose client
/// is gone, and would leave all that they hold in Wasm's memory for good; this way what they wait for
/// fails instead (the body, and by the client's signal the origin's answer), and everything is given
/// back.
fn keep_alive(context: &Context) -> Option<KeepAlive> {
    let completion: PromiseWithResolvers = Promise::with_resolvers();
    context.as_ref().wait_until(&completion.promise()).ok()?;
    Some(KeepAlive(completion))
}

/// An invocation that is kept alive. No task of ours waits for its end: the platform does.
struct KeepAlive(PromiseWithResolvers);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        let _ = self.0.resolve().call0(&JsValue::UNDEFINED);
    }
}

/// An LLM call that can be scored.
struct LlmCall<'a> {
    upstream: Upstream<'a>,
    settings: &'a Settings,
    active_rules: &'a ActiveRules,
    /// The ruleset that decides for this account, and why it does.
    ruleset: &'a Ruleset,
    role: RulesetRole,
    endpoint: Endpoint,
    /// What went wrong already: the call cannot be scored.
    routing_error: Option<&'static str>,
    account: Option<String>,
    /// What is counted is hashed with it.
    hash_key: HashKey,
}

/// What scoring came to.
enum ScoreOutcome {
    /// The body shows that this is no LLM call after all.
    NotLlmCall,
    /// A decision, and what is counted beside it.
    Decided(Box<Decision>, Observed),
    /// Scoring failed.
    Failed(&'static str),
}

/// What is counted of a request, beside the decision.
struct Observed {
    /// What correlation keeps of it.
    observation: Option<Observation>,
    /// The model that was asked for.
    model: Option<String>,
}

impl<'a> LlmCall<'a> {
    /// Finds the account, and the ruleset for it; the route back where that takes this for no call.
    fn new(
        upstream: Upstream<'a>,
        settings: &'a Settings,
        active_rules: &'a ActiveRules,
        (mut endpoint, mut routing_error): (Endpoint, Option<&'static str>),
        account_secret: &str,
    ) -> Result<Self, Upstream<'a>> {
        let account = upstream.request.account(account_secret, endpoint.dialect());
        let (ruleset, role) = active_rules.ruleset_for_account(account.as_deref());
        if role == RulesetRole::Canary {
            let (canary_endpoint, canary_error) = classify(Some(ruleset), upstream.request);
            let Some(canary_endpoint) = canary_endpoint else { return Err(upstream) };
            (endpoint, routing_error) = (canary_endpoint, canary_error);
        }
        let hash_key = hmac_sha256::hash_key(account_secret);
        Ok(Self {
            upstream,
            settings,
            active_rules,
            ruleset,
            role,
            endpoint,
            routing_error,
            account,
            hash_key,
        })
    }

    async fn filter(self) -> Result<Response, RequestError> {
        let request = self.upstream.request;
        let limits = &self.ruleset.policy().scan;
        let body =
            RequestBody::read(&request.raw, request.content_length(), limits.scan_window).await;
        let body = body.map_err(|_| RequestError::UploadAborted)?;
        let outcome = match self.routing_error {
            Some(error) => ScoreOutcome::Failed(error),
            None => self.score(&body),
        };
        match outcome {
            ScoreOutcome::NotLlmCall => self.forward(body, None, None).await,
            ScoreOutcome::Decided(decision, observed) => {
                self.enforce(&decision, observed, body).await
            }
            ScoreOutcome::Failed(error) => self.forward_unscored(error, body).await,
        }
    }

    /// Mode and actions: the policy's, or in development what the request asks for.
    fn disposition(&self, cluster: Option<&str>) -> Disposition {
        let (path, account) = (self.upstream.request.path(), self.account.as_deref());
        let mut disposition = self.ruleset.policy().disposition_in_cluster(cluster, path, account);
        if let Some(mode) = self.dev_override("x-hedgerow-mode").and_then(Mode::parse) {
            disposition.mode = mode;
        }
        disposition
    }

    /// What a request orders under our own prefix; in development only.
    fn dev_override(&self, name: &str) -> Option<&str> {
        self.upstream.request.override_header(name).filter(|_| self.settings.is_development)
    }

    /// The request for the core.
    fn envelope<'e>(&'e self, body: &'e RequestBody, indicators: &'e Indicators) -> Envelope<'e> {
        Envelope {
            hash_key: self.hash_key,
            indicators: Some(indicators),
            body: body.scanned(),
            body_size: body.size(),
            unscanned_bytes: body.unscanned_bytes(),
            account: self.account.as_deref(),
            now: (js_sys::Date::now() / 1_000.0) as u64,
            ..self.upstream.request.envelope()
        }
    }

    /// What the ruleset that is only watched says of a request. That it fails is no trouble of the
    /// request's.
    fn score_by_shadow(&self, body: &RequestBody, decision: &Decision) -> Option<ShadowDecision> {
        let shadow = self.active_rules.shadow()?;
        let indicators = indicators::current();
        let envelope = self.envelope(body, &indicators);
        let outcome = catch_panic(|| {
            let assessment = shadow.assess(&envelope)?;
            let cluster = assessment.cluster_id(&envelope);
            let (path, account) = (envelope.path, envelope.account);
            let disposition =
                shadow.policy().disposition_in_cluster(cluster.as_deref(), path, account);
            let shadow_decision = Decision::new(shadow, &envelope, assessment, disposition);
            Some(ShadowDecision::new(decision, &shadow_decision))
        });
        if outcome.is_none() {
            telemetry::count_error("scoring by the shadow panicked");
        }
        outcome.flatten()
    }

    fn score(&self, body: &RequestBody) -> ScoreOutcome {
        let indicators = indicators::current();
        let envelope = self.envelope(body, &indicators);
        let scored = catch_panic(|| {
            #[cfg(feature = "fault-injection")]
            inject_panic(self.upstream.request, "1");
            let mut assessment = self.ruleset.assess(&envelope)?;
            let observation = assessment.observation.take();
            let observed = Observed { observation, model: assessment.model.take() };
            let disposition = self.disposition(assessment.cluster_id(&envelope).as_deref());
            Some((Decision::new(self.ruleset, &envelope, assessment, disposition), observed))
        });
        match scored {
            None => ScoreOutcome::Failed("scoring panicked"),
            Some(None) => ScoreOutcome::NotLlmCall,
            Some(Some((mut decision, observed))) => {
                if let Some(action) = self.dev_override("x-hedgerow-action").and_then(Action::parse)
                {
                    decision.action = action;
                }
                ScoreOutcome::Decided(Box::new(decision), observed)
            }
        }
    }

    /// Logs a decision and does what it says.
    async fn enforce(
        &self,
        decision: &Decision,
        observed: Observed,
        body: RequestBody,
    ) -> Result<Response, RequestError> {
        let action = if decision.is_enforced() { decision.action } else { Action::Allow };
        let degradation = (action == Action::Degrade).then(|| self.degrade(&body));
        let refusal = match action {
            Action::Throttle => Some(Refusal::Throttle),
            Action::Block => Some(Refusal::Block),
            Action::Degrade if self.fails_closed_on(degradation.as_ref()) => Some(Refusal::Block),
            _ => None,
        };
        let shadow_decision = self.score_by_shadow(&body, decision);
        let request = self.upstream.request;
        let attribution = Attribution {
            serial: self.active_rules.serial(),
            role: self.role,
            colo: request.colo(),
        };
        let (request_id, model) = (self.upstream.request_id, observed.model.as_deref());
        telemetry::count_decision(
            request_id,
            &attribution,
            decision,
            model,
            shadow_decision.as_ref(),
        );
        if let Some(cluster) = &decision.cluster {
            telemetry::count_cluster(cluster, decision.band, model);
        }
        let mut line = DecisionLine::for_decision(self.upstream.request_id, decision);
        (line.ruleset_role, line.release_serial) = (self.role, self.active_rules.serial());
        line.shadow = shadow_decision.as_ref();
        if refusal == Some(Refusal::Block) {
            line.action = Action::Block;
        }
        line.degraded = degradation.as_ref().map(Degradation::name);
        line.read_stop = body.read_stop().map(ReadStop::name);
        line.write();
        drop(line);
        let response = match refusal {
            Some(refusal) => self.refuse(refusal),
            None => {
                let edited_body = degradation.and_then(Degradation::into_edited_bytes);
                self.forward(body, Some(decision), edited_body).await?
            }
        };
        let final_action = if refusal == Some(Refusal::Block) { Action::Block } else { action };
        self.queue_observation(observed.observation, response.status(), final_action);
        if self.settings.is_development {
            tag::set_debug_headers(&response.headers(), decision);
        }
        Ok(response)
    }

    /// Queues what correlation keeps of a request, and how it ended.
    fn queue_observation(&self, observation: Option<Observation>, status: u16, action: Action) {
        let Some(mut observation) = observation else { return };
        let queued = catch_panic(|| {
            self.ruleset.record_outcome(&mut observation, &self.hash_key, status, action);
            observation_queue::enqueue(self.ruleset, observation, self.settings);
        });
        if queued.is_none() {
            telemetry::count_error("noting for correlation panicked");
        }
    }

    /// Logs that scoring failed, and forwards.
    async fn forward_unscored(
        &self,
        error: &str,
        body: RequestBody,
    ) -> Result<Response, RequestError> {
        telemetry::count_error(error);
        let policy = self.ruleset.policy();
        let fallback = Disposition { mode: policy.mode, actions: policy.actions };
        let disposition = catch_panic(|| self.disposition(None)).unwrap_or(fallback);
        let fails_closed =
            self.ruleset.policy().enforce.fail_closed && disposition.mode == Mode::Enforce;
        let mut line = DecisionLine::for_unscored(self.upstream.request_id, error);
        line.account = self.account.as_deref();
        (line.ruleset_role, line.release_serial) = (self.role, self.active_rules.serial());
        line.dialect = self.endpoint.dialect().name();
        line.operation = self.endpoint.operation();
        line.action = if fails_closed { Action::Block } else { Action::Allow };
        line.mode = disposition.mode;
        line.enforced = disposition.mode == Mode::Enforce;
        line.ruleset = self.ruleset.digest();
        line.body_bytes = body.size().unwrap_or(body.scanned().len() as u64);
        line.unscanned_bytes = body.unscanned_bytes();
        line.read_stop = body.read_stop().map(ReadStop::name);
        line.write();
        let colo = self.upstream.request.colo();
        let attribution = Attribution { serial: self.active_rules.serial(), role: self.role, colo };
        telemetry::record_unscored(&attribution, &line, error);
        drop(line);
        match fails_closed {
            true => Ok(self.refuse(Refusal::Unavailable)),
            false => self.forward(body, None, None).await,
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        let retry_after_seconds = self.ruleset.policy().enforce.retry_after;
        RequestError::Refused(refusal, retry_after_seconds)
            .to_response(Some(self.endpoint), self.upstream.request_id)
    }

    /// Sends the request on: with tags where the decision asks for them, with `degraded` for a body
    /// where there is one.
    async fn forward(
        &self,
        body: RequestBody,
        decision: Option<&Decision>,
        edited_body: Option<Vec<u8>>,
    ) -> Result<Response, RequestError> {
        let headers = self.upstream.headers()?;
        if let Some(decision) = decision.filter(|decision| self.needs_tags(decision)) {
            tag::add_tags(
                &headers,
                decision,
                self.upstream.request_id,
                self.settings.tag_secret.as_deref(),
            );
        }
        let upstream_body = match edited_body {
            None => body.into_upstream_body().map_err(|_| RequestError::InvalidRequest)?,
            Some(bytes) => {
                remove_encoding_headers(&headers);
                if self.upstream.request.header("content-type").is_some_and(is_utf16_or_utf32) {
                    tag::set_header(&headers, "content-type", "application/json; charset=utf-8");
                }
                UpstreamBody::Buffered(Uint8Array::from(bytes.as_slice()))
            }
        };
        self.upstream.forward(headers, upstream_body).await
    }

    /// Tags change nothing for the client, so Shadow has them too unless the policy says otherwise.
    fn needs_tags(&self, decision: &Decision) -> bool {
        let is_tagging_enabled =
            decision.is_enforced() || self.ruleset.policy().enforce.tag_in_shadow;
        is_tagging_enabled && decision.action != Action::Allow
    }

    /// Whether what cannot be degraded is refused. It is scored, and suspect: padding a body beyond
    /// the scan window must be no way around.
    fn fails_closed_on(&self, degradation: Option<&Degradation>) -> bool {
        self.ruleset.policy().enforce.fail_closed && degradation == Some(&Degradation::NotEditable)
    }

    /// The body without what makes its answer worth harvesting.
    fn degrade(&self, body: &RequestBody) -> Degradation {
        let Some(full_body) = body.complete_bytes() else { return Degradation::NotEditable };
        let header = |name| self.upstream.request.header(name);
        let degradation = catch_panic(|| {
            let decoded =
                Body::new(full_body, header("content-encoding"), &self.ruleset.policy().scan);
            // What was cut off while inflating would be missing at the origin. A body that is not
            // what its header says is edited as it is: who reads it does not heed the header.
            match decoded.issues.is_empty() || decoded.is_unmodified() {
                true => degrade(decoded.bytes(), self.endpoint, header("content-type")),
                false => Degradation::NotEditable,
            }
        });
        degradation.unwrap_or(Degradation::NotEditable)
    }
}

/// Test builds only: a panic in the middle of everything.
#[cfg(feature = "fault-injection")]
#[expect(clippy::panic, reason = "that is its purpose")]
fn inject_panic(request: &ClientRequest, stage: &str) {
    if request.override_header("x-hedgerow-inject-panic") == Some(stage) {
        panic!("injected: {}", request.path());
    }
}

/// Whether a content type says UTF-16 or UTF-32: an edited body is UTF-8.
fn is_utf16_or_utf32(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    content_type.contains("utf-16") || content_type.contains("utf-32")
}

/// An edited body is not compressed any more (if it ever was), and no digest fits it.
fn remove_encoding_headers(headers: &Headers) {
    for name in [
        "content-encoding",
        "content-length",
        "content-md5",
        "content-digest",
        "repr-digest",
        "digest",
    ] {
        remove_header(headers, name);
    }
}
