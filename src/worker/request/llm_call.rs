//! One LLM call: reads and scores it, logs the decision, and refuses or forwards the call.
//!
//! The core decides, and this file enforces the decision. Scoring, editing the body and queuing the
//! observation run in [`catch_panic`], so that a panic does not make the request fail.

mod client_response;
mod large_body;
pub mod message;

use hedgerow_core::correlate::Observation;
use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::enforce::degrade::Degradation;
use hedgerow_core::enforce::refusal::Refusal;
use hedgerow_core::extract::earlier_texts::EarlierTexts;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::keyed_hash::HashKey;
use hedgerow_core::rules::policy::{Action, Disposition, Mode, RequestAttributes, RequestCluster};
use hedgerow_core::rules::release::RulesetRole;
use hedgerow_core::{Assessment, Decision, Envelope, Ruleset};
use js_sys::Uint8Array;
use web_sys::{Headers, Response};

use crate::isolate::active_rules::{self, ActiveRules};
use crate::isolate::attribution::Attribution;
use crate::isolate::enforced_buffer::Effect;
use crate::isolate::principals::OriginNames;
use crate::isolate::{account_stats, indicators, observation_queue, telemetry};
use crate::platform::clock::now_seconds;
use crate::platform::hmac_sha256;
use crate::platform::log::DecisionLine;
use crate::platform::panic::catch_panic;
use crate::platform::settings::Settings;
use crate::request::body_memory::MemoryLease;
use crate::request::classify::{Classified, classify};
use crate::request::edit_body::{degrade_body, fix_body_headers};
use crate::request::mode::effective_mode;
use crate::request::request_body::{RequestBody, UpstreamBody};
use crate::request::response::RequestError;
use crate::request::sender::Sender;
use crate::request::shadow::ShadowDecision;
use crate::request::tag;
use crate::request::upstream::{Answer, Upstream};

/// An LLM call that can be scored.
pub struct LlmCall<'a> {
    /// The client's request, and the origin to which it is forwarded.
    upstream: Upstream<'a>,
    settings: &'a Settings,
    /// All rulesets in force.
    active_rules: &'a ActiveRules,
    /// The ruleset that decides for the account.
    ruleset: &'a Ruleset,
    /// Role of this ruleset.
    role: RulesetRole,
    endpoint: Endpoint,
    /// Fault in Hedgerow while the request was classified. Such a request cannot be scored.
    routing_error: Option<&'static str>,
    /// Account and tenant of the request.
    sender: Sender,
    /// ACCOUNT_SECRET, the key of account and tenant ids.
    account_secret: &'a str,
    /// Key of the hashes in observations.
    hash_key: HashKey,
}

/// The result of scoring.
enum ScoreOutcome {
    /// The body shows that the request is not an LLM call.
    NotLlmCall,
    /// The decision, and the data that is counted in addition.
    Decided(Box<Decision>, Observed),
    /// Scoring failed; the text is the reason.
    Failed(&'static str),
}

/// Data of a scored request that is counted but is not part of the decision.
struct Observed {
    /// The observation for correlation, if any rule counts the request.
    observation: Option<Observation>,
    /// Name of the requested model.
    model: Option<String>,
}

/// The way in which a decision is enforced.
struct Enforcement {
    /// The action that is carried out.
    action: Action,
    /// The result of editing the body; `None` unless the action is `degrade`.
    degradation: Option<Degradation>,
    /// Reason why the request is refused; `None` if the request is forwarded.
    refusal: Option<Refusal>,
}

impl Enforcement {
    /// Returns the effect on the request: whether it is refused, or its body was edited.
    fn effect(&self) -> Effect {
        let is_edited = matches!(self.degradation, Some(Degradation::Edited(_)));
        Effect {
            is_enforced: self.refusal.is_some() || is_edited,
            degraded: self.degradation.as_ref().map(Degradation::name),
        }
    }
}

impl<'a> LlmCall<'a> {
    /// Finds the account of a request and the ruleset that decides for it.
    ///
    /// `endpoint` and `routing_error` are the result of classifying by the active ruleset. If a
    /// canary decides, its own routes classify the request again.
    ///
    /// # Errors
    /// Returns `upstream`, if the request is not an LLM call by the routes of the canary.
    pub fn new(
        upstream: Upstream<'a>,
        settings: &'a Settings,
        active_rules: &'a ActiveRules,
        mut endpoint: Endpoint,
        mut routing_error: Option<&'static str>,
        account_secret: &'a str,
    ) -> Result<Self, Upstream<'a>> {
        // The active ruleset's settings determine the account, even for a canary: the account
        // determines whether the canary decides.
        let identity = &active_rules.active().policy().identity;
        let Upstream { request, is_trusted, .. } = upstream;
        let dialect = endpoint.dialect();
        let sender = Sender::find(request, dialect, identity, is_trusted, account_secret);
        let (ruleset, role) = active_rules.ruleset_for_account(sender.account.as_deref());
        if role == RulesetRole::Canary {
            let Classified { endpoint: canary_endpoint, error } =
                classify(Some(ruleset), upstream.request);
            let Some(canary_endpoint) = canary_endpoint else { return Err(upstream) };
            endpoint = canary_endpoint;
            routing_error = error;
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
            sender,
            account_secret,
            hash_key,
        })
    }

    /// Reads and scores the request, and enforces the decision. Returns the origin's response, or
    /// the refusal.
    ///
    /// # Errors
    /// If the upload ends early, or if the request cannot be sent to the origin.
    pub async fn filter(self) -> Result<Response, RequestError> {
        let request = self.upstream.request;
        let policy = self.ruleset.policy();
        let body = RequestBody::read(&request.raw, request.content_length(), policy).await;
        let mut body = body.map_err(|_| RequestError::UploadAborted)?;
        if !self.must_score_end(&body) {
            body.stop_if_yielded();
        }
        match self.score(&body) {
            ScoreOutcome::NotLlmCall => {
                Ok(self.split_answer(self.forward(body, None, None).await?).0)
            }
            ScoreOutcome::Decided(decision, observed) => {
                self.enforce(&decision, observed, body).await
            }
            ScoreOutcome::Failed(error) => self.forward_unscored(error, body).await,
        }
    }

    /// Returns the effective mode and the policy's actions for this request.
    fn disposition(
        &self,
        clusters: &[RequestCluster],
        attributes: &RequestAttributes<'_>,
    ) -> Disposition {
        let policy = self.ruleset.policy();
        let mut disposition = policy.disposition_in_clusters(clusters, attributes);
        let Upstream { request, .. } = self.upstream;
        let mode = effective_mode(request, self.settings, self.active_rules, disposition.mode);
        disposition.mode = mode;
        disposition
    }

    /// Returns the value of a reserved header of the request, in development only.
    fn dev_override(&self, name: &str) -> Option<&str> {
        self.upstream.request.override_header(name).filter(|_| self.settings.is_development)
    }

    /// Returns the core's view of the request.
    fn envelope<'e>(&'e self, body: &'e RequestBody, indicators: &'e Indicators) -> Envelope<'e> {
        Envelope {
            body: body.scanned(),
            body_size: body.size(),
            unscanned_bytes: body.unscanned_bytes(),
            read_stop: body.read_stop(),
            ..self.envelope_without_body(indicators)
        }
    }

    /// Returns the core's view of the request without its body.
    fn envelope_without_body<'e>(&'e self, indicators: &'e Indicators) -> Envelope<'e> {
        Envelope {
            hash_key: self.hash_key,
            indicators: Some(indicators),
            now: now_seconds(),
            ..self.sender.envelope(self.upstream.request.envelope())
        }
    }

    /// Scores the request by the ruleset that decides. In development, a request may choose the
    /// action.
    fn score(&self, body: &RequestBody) -> ScoreOutcome {
        self.score_by(body, |envelope| self.decide(envelope))
    }

    /// Scores the request with the function `decide`, which returns `None` if the request is not an
    /// LLM call. A panic in `decide` becomes [`ScoreOutcome::Failed`].
    fn score_by(
        &self,
        body: &RequestBody,
        decide: impl FnOnce(&Envelope<'_>) -> Option<(Decision, Observed)>,
    ) -> ScoreOutcome {
        if let Some(error) = self.routing_error {
            return ScoreOutcome::Failed(error);
        }
        let indicators = indicators::current();
        let envelope = self.envelope(body, &indicators);
        let scored = catch_panic(|| {
            #[cfg(feature = "fault-injection")]
            crate::request::classify::inject_panic(self.upstream.request, "1");
            decide(&envelope)
        });
        match scored {
            None => ScoreOutcome::Failed("scoring panicked"),
            Some(None) => ScoreOutcome::NotLlmCall,
            Some(Some((mut decision, observed))) => {
                let action = self.dev_override("x-hedgerow-action").and_then(Action::parse);
                decision.action = action.unwrap_or(decision.action);
                ScoreOutcome::Decided(Box::new(decision), observed)
            }
        }
    }

    /// Returns the decision about a request, and the data that is counted in addition. Returns
    /// `None` if the request is not an LLM call.
    fn decide(&self, envelope: &Envelope<'_>) -> Option<(Decision, Observed)> {
        Some(self.decision(envelope, self.ruleset.assess_as(self.endpoint, envelope)?))
    }

    /// Returns the decision for an assessment, and the data that is counted in addition.
    fn decision(
        &self,
        envelope: &Envelope<'_>,
        mut assessment: Assessment,
    ) -> (Decision, Observed) {
        let observation = assessment.observation.take();
        // The assessment keeps the model, because the decision depends on it.
        let observed = Observed { observation, model: assessment.model.clone() };
        let attributes = envelope.attributes(assessment.model.as_deref());
        let disposition = self.disposition(&assessment.clusters, &attributes);
        (Decision::new(self.ruleset, envelope, assessment, disposition), observed)
    }

    /// Scores the request by the shadow ruleset. Returns `None` if the release has no shadow, if
    /// the request is not an LLM call by the routes of the shadow, or if scoring panics. `earlier`
    /// contains the texts of the earlier messages that `decision` is based on.
    fn score_by_shadow(
        &self,
        body: &RequestBody,
        decision: &Decision,
        earlier: Option<&EarlierTexts>,
    ) -> Option<ShadowDecision> {
        let shadow = self.active_rules.shadow()?;
        let indicators = indicators::current();
        let envelope = Envelope { earlier, ..self.envelope(body, &indicators) };
        let outcome = catch_panic(|| {
            let assessment = shadow.assess(&envelope)?;
            let attributes = envelope.attributes(assessment.model.as_deref());
            let clusters = &assessment.clusters;
            let disposition = shadow.policy().disposition_in_clusters(clusters, &attributes);
            let shadow_decision = Decision::new(shadow, &envelope, assessment, disposition);
            Some(ShadowDecision::new(decision, &shadow_decision))
        });
        if outcome.is_none() {
            telemetry::count_error("scoring by the shadow ruleset panicked");
        }
        outcome.flatten()
    }

    /// Logs a decision and enforces it. If the body is large and its beginning is not refused, the
    /// end of the body is scored first.
    async fn enforce(
        &self,
        decision: &Decision,
        observed: Observed,
        body: RequestBody,
    ) -> Result<Response, RequestError> {
        let enforcement = self.enforcement(decision, &body);
        if enforcement.refusal.is_none() && self.must_score_end(&body) {
            return match MemoryLease::for_held_end(body.read_bytes().len()).await {
                Some(memory) => self.enforce_large(decision, observed, body, memory).await,
                None => self.enforce_without_end(decision, observed, body).await,
            };
        }
        self.enforce_now(decision, observed, body, enforcement).await
    }

    /// Logs a decision, and refuses or forwards the request.
    async fn enforce_now(
        &self,
        decision: &Decision,
        observed: Observed,
        body: RequestBody,
        enforcement: Enforcement,
    ) -> Result<Response, RequestError> {
        let shadow_decision = self.score_by_shadow(&body, decision, None);
        let model = observed.model.as_deref();
        self.record(decision, model, shadow_decision.as_ref(), &enforcement, None);
        let Enforcement { action, degradation, refusal } = enforcement;
        let (response, names) = match refusal {
            Some(refusal) => (self.refuse(refusal), OriginNames::default()),
            None => {
                let edited_body = degradation.and_then(Degradation::into_edited_bytes);
                let is_edited = edited_body.is_some();
                let answer = self.forward(body, Some(decision), edited_body).await?;
                let (response, names) = self.split_answer(answer);
                if is_edited {
                    self.add_notice(&response, decision.band);
                }
                (response, names)
            }
        };
        self.queue_observation(observed.observation, response.status(), action, &names);
        if self.settings.is_development {
            tag::set_debug_headers(&response.headers(), decision);
        }
        Ok(response)
    }

    /// Returns how a decision is enforced. In Shadow mode, every request is allowed. A body that
    /// cannot be edited is forwarded unchanged, unless the policy sets `fail_closed`.
    fn enforcement(&self, decision: &Decision, body: &RequestBody) -> Enforcement {
        self.enforcement_with(decision, || {
            let limits = &self.ruleset.policy().scan;
            degrade_body(self.upstream.request, body, self.endpoint, limits)
        })
    }

    /// Returns how a decision about a body that cannot be edited is enforced.
    fn enforcement_unedited(&self, decision: &Decision) -> Enforcement {
        self.enforcement_with(decision, || Degradation::NotEditable)
    }

    /// Returns how a decision is enforced. If the action is `degrade`, the function `degrade` is
    /// called to edit the body.
    fn enforcement_with(
        &self,
        decision: &Decision,
        degrade: impl FnOnce() -> Degradation,
    ) -> Enforcement {
        let action = if decision.is_enforced() { decision.action } else { Action::Allow };
        let degradation = (action == Action::Degrade).then(degrade);
        // If a body that cannot be edited were forwarded, a client could avoid degradation by
        // padding its body beyond the limit.
        let fails_closed = self.ruleset.policy().enforce.fail_closed
            && degradation == Some(Degradation::NotEditable);
        let refusal = match action {
            Action::Degrade if fails_closed => Some(Refusal::Block),
            _ => self.refusal(decision),
        };
        let action = if refusal == Some(Refusal::Block) { Action::Block } else { action };
        Enforcement { action, degradation, refusal }
    }

    /// Counts a decision, and logs it together with its enforcement. `transport` is the log's
    /// member of this name; `None` for HTTP requests.
    fn record(
        &self,
        decision: &Decision,
        model: Option<&str>,
        shadow: Option<&ShadowDecision>,
        enforcement: &Enforcement,
        transport: Option<&'static str>,
    ) {
        let effect = enforcement.effect();
        self.count(decision, model, effect, shadow);
        account_stats::record(
            decision.account.as_deref(),
            self.sender.credential_account_hash,
            now_seconds(),
        );
        let mut line = DecisionLine::for_decision(self.upstream.request_id, decision);
        self.add_context(&mut line);
        line.transport = transport;
        line.shadow = shadow;
        if enforcement.refusal == Some(Refusal::Block) {
            line.action = Action::Block;
        }
        line.degraded = effect.degraded;
        if let Some(share) = self.logged_share(decision, effect, shadow) {
            line.logged_share = share;
            line.write();
        }
    }

    /// Returns the share of decisions like this one that are logged; `None` if this decision is not
    /// logged. The share is 1 for an enforced decision. If a shadow ruleset scored the request,
    /// the higher of the two bands counts.
    fn logged_share(
        &self,
        decision: &Decision,
        effect: Effect,
        shadow: Option<&ShadowDecision>,
    ) -> Option<f64> {
        if effect.is_enforced || self.settings.logs_all_decisions {
            return Some(1.0);
        }
        let band = shadow.map_or(decision.band, |shadow| decision.band.max(shadow.band));
        let log = &self.ruleset.policy().log;
        log.selects(band, self.upstream.request_id).then(|| log.share(band))
    }

    /// Returns the refusal that a decision demands; `None` if it does not refuse the request, or in
    /// Shadow mode.
    fn refusal(&self, decision: &Decision) -> Option<Refusal> {
        match decision.action {
            _ if !decision.is_enforced() => None,
            Action::Throttle => Some(Refusal::Throttle),
            Action::Block => {
                Some(decision.incomplete.map_or(Refusal::Block, Refusal::of_incomplete))
            }
            Action::Degrade | Action::Tag | Action::Allow => None,
        }
    }

    /// Counts a decision, and the request in its cluster, for the report to the ledger.
    fn count(
        &self,
        decision: &Decision,
        model: Option<&str>,
        effect: Effect,
        shadow: Option<&ShadowDecision>,
    ) {
        let (id, attribution) = (self.upstream.request_id, self.attribution());
        // Other rules, such as the embedded ones before the first poll, may have smaller limits, by
        // which the ledger would delete decisions.
        if let Some(deployed) = active_rules::deployed() {
            telemetry::set_decision_settings(deployed.active().policy().decisions);
        }
        telemetry::count_decision(id, &attribution, decision, model, effect, shadow);
        if let Some(cluster) = &decision.cluster {
            telemetry::count_cluster(cluster, decision.band, model);
        }
    }

    /// Returns the serial of the release, the role of the ruleset, and the data centre, under which
    /// this request is counted.
    fn attribution(&self) -> Attribution<'_> {
        Attribution {
            serial: self.active_rules.serial(),
            role: self.role,
            colo: self.upstream.request.colo(),
        }
    }

    /// Adds the members that do not depend on the decision to a log line.
    fn add_context<'l>(&'l self, line: &mut DecisionLine<'l>) {
        line.ruleset_role = self.role;
        line.release_serial = self.active_rules.serial();
        line.account_kind = self.sender.kind_name();
        line.tenant = self.sender.tenant.as_deref();
        line.account_label = self.sender.account_label.as_deref();
        line.tenant_label = self.sender.tenant_label.as_deref();
        line.credentials = Some(self.sender.credential_count).filter(|count| *count > 1);
        line.credential = self.sender.is_credential_malformed.then_some("malformed");
    }

    /// Records the answer to the request for the sender: the names that the origin gave, and
    /// whether the origin accepted the credential. Then queues the observation, if there is one,
    /// for correlation. `status` is the status of the response, and `action` is the action that was
    /// carried out.
    fn queue_observation(
        &self,
        observation: Option<Observation>,
        status: u16,
        action: Action,
        names: &OriginNames,
    ) {
        let identity = &self.active_rules.active().policy().identity;
        let is_forwarded = !matches!(action, Action::Throttle | Action::Block);
        self.sender.record_answer(
            names,
            is_forwarded && identity.accepts_credential(status),
            identity,
        );
        let Some(mut observation) = observation else { return };
        let queued = catch_panic(|| {
            observation.proven |= self.sender.is_proven();
            self.ruleset.record_outcome(&mut observation, &self.hash_key, status, action);
            self.sender.assign_account(&mut observation, names, &self.hash_key);
            observation_queue::enqueue(self.ruleset, observation, self.settings);
        });
        if queued.is_none() {
            telemetry::count_error("correlate: queuing an observation panicked");
        }
    }

    /// Logs and counts that scoring failed, and forwards the request. Refuses it instead if the
    /// policy enforces and sets `fail_closed`.
    async fn forward_unscored(
        &self,
        error: &str,
        body: RequestBody,
    ) -> Result<Response, RequestError> {
        if self.record_failure(error, &body, None) {
            return Ok(self.refuse(Refusal::Unavailable));
        }
        Ok(self.split_answer(self.forward(body, None, None).await?).0)
    }

    /// Logs and counts that scoring failed. Returns whether the policy refuses the request.
    fn record_failure(
        &self,
        error: &str,
        body: &RequestBody,
        transport: Option<&'static str>,
    ) -> bool {
        telemetry::count_error(error);
        let policy = self.ruleset.policy();
        let request = self.upstream.request;
        let mode = effective_mode(request, self.settings, self.active_rules, policy.mode);
        let fallback = Disposition { mode, actions: policy.actions };
        let disposition = catch_panic(|| {
            let indicators = indicators::current();
            let envelope = self.envelope_without_body(&indicators);
            self.disposition(&[], &envelope.attributes(None))
        })
        .unwrap_or(fallback);
        let fails_closed = policy.enforce.fail_closed && disposition.mode == Mode::Enforce;
        let mut line = DecisionLine::for_unscored(self.upstream.request_id, error);
        self.add_context(&mut line);
        line.account = self.sender.account.as_deref();
        line.dialect = self.endpoint.dialect().name();
        line.operation = self.endpoint.operation();
        line.transport = transport;
        line.action = if fails_closed { Action::Block } else { Action::Allow };
        line.mode = disposition.mode;
        line.enforced = disposition.mode == Mode::Enforce;
        line.ruleset = self.ruleset.digest();
        line.body_bytes = body.size().unwrap_or(body.scanned().len() as u64);
        line.unscanned_bytes = body.unscanned_bytes();
        line.write();
        telemetry::record_unscored(&self.attribution(), &line, error, fails_closed);
        fails_closed
    }

    /// Forwards the request, with tags if the decision needs them. The body is `edited_body` if
    /// that is set, otherwise `body`.
    async fn forward(
        &self,
        body: RequestBody,
        decision: Option<&Decision>,
        edited_body: Option<Vec<u8>>,
    ) -> Result<Answer, RequestError> {
        let headers = self.tagged_headers(decision)?;
        let upstream_body = match edited_body {
            None => body.into_upstream_body(None).map_err(|_| RequestError::InvalidRequest)?,
            Some(bytes) => {
                fix_body_headers(&headers, self.upstream.request.header("content-type"));
                UpstreamBody::Buffered(Uint8Array::from(bytes.as_slice()))
            }
        };
        self.upstream.forward(headers, upstream_body).await
    }

    /// Returns the headers for the origin. The headers include the request id unless the policy
    /// turns it off, and tags if the decision needs them.
    fn tagged_headers(&self, decision: Option<&Decision>) -> Result<Headers, RequestError> {
        let headers = self.upstream.headers()?;
        // A request to an unknown path that has no decision is not an LLM call, and is not logged.
        let is_logged = decision.is_some() || self.endpoint != Endpoint::Unknown;
        if is_logged && self.ruleset.policy().enforce.send_request_id {
            tag::set_header(&headers, tag::REQUEST_ID_HEADER, self.upstream.request_id);
        }
        if let Some(decision) = decision.filter(|decision| self.needs_tags(decision)) {
            let secrets = &self.settings.tag_secrets;
            tag::add_tags(&headers, decision, self.upstream.request_id, secrets);
        }
        Ok(headers)
    }

    /// Returns whether the origin gets tags: if the decision is enforced, or in Shadow mode if the
    /// policy sets `tag_in_shadow`, which is off by default. Requests with the action `allow` get
    /// no tags.
    fn needs_tags(&self, decision: &Decision) -> bool {
        let is_tagging_enabled =
            decision.is_enforced() || self.ruleset.policy().enforce.tag_in_shadow;
        is_tagging_enabled && decision.action != Action::Allow
    }
}
