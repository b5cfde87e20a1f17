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

use hedgerow::correlate::Observation;
use hedgerow::degrade::{Degraded, degrade};
use hedgerow::hash::HashKey;
use hedgerow::indicator::Indicators;
use hedgerow::policy::{Action, Mode, Treatment};
use hedgerow::refusal::Refusal;
use hedgerow::request::Body;
use hedgerow::route::{Endpoint, endpoint_of};
use hedgerow::{Decision, Envelope, Ruleset};
use js_sys::{Promise, PromiseWithResolvers, Uint8Array};
use wasm_bindgen::JsValue;
use web_sys::{Headers, Response};
use worker::Context;

use crate::body::{Cut, Inbound, Outbound};
use crate::error::{Failure, caught};
use crate::forward::{Route, remove};
use crate::intake::{self, Arrival};
use crate::log::{self, Line};
use crate::outbox::{self, Place};
use crate::rules::{self, InForce, Role};
use crate::settings::Settings;
use crate::shadow::Shadowed;
use crate::{indicators, mac, sightings, tag};

/// Answers a request: with the origin's response wherever there is one.
pub async fn handle(arrival: &Arrival, settings: &Rc<Settings>, context: &Context) -> Response {
    let _staying = stay(context);
    futures_util::join!(rules::refresh(settings, context), indicators::refresh(settings, context));
    let response = answer(arrival, settings, context).await;
    outbox::report(settings, context);
    sightings::report(settings, context);
    response
}

async fn answer(arrival: &Arrival, settings: &Settings, context: &Context) -> Response {
    let request_id = intake::request_id();
    let rules = rules::in_force();
    let active = rules.as_ref().ok().map(InForce::active);
    let (endpoint, trouble) = classify(active.map(Rc::as_ref), arrival);
    let answer = async {
        let origin =
            settings.origin.as_ref().map_err(|problem| Failure::Unconfigured(problem.clone()))?;
        let route = Route { origin, arrival, request_id: &request_id, context };
        match (&rules, endpoint, settings.account_secret.as_deref()) {
            (Ok(rules), Some(endpoint), Some(secret)) => {
                match Call::new(route, settings, rules, (endpoint, trouble), secret) {
                    Ok(call) => call.filter().await,
                    Err(route) => route.pass().await,
                }
            }
            (_, None, _) => {
                if let Some(trouble) = trouble {
                    log::passed(&request_id, trouble);
                }
                route.pass().await
            }
            (Ok(_), Some(_), None) => {
                log::passed(&request_id, "ACCOUNT_SECRET is missing");
                outbox::error("ACCOUNT_SECRET is missing");
                route.pass().await
            }
            (Err(problem), Some(_), _) => {
                log::passed(&request_id, problem);
                outbox::error("the embedded ruleset does not load");
                route.pass().await
            }
        }
    };
    answer.await.unwrap_or_else(|failure| failure.response(endpoint, &request_id))
}

/// Which LLM call it is, if it is one; and what went wrong while that was found out.
fn classify(
    ruleset: Option<&Ruleset>,
    arrival: &Arrival,
) -> (Option<Endpoint>, Option<&'static str>) {
    let by_path = || {
        let endpoint = endpoint_of(arrival.path());
        (arrival.method() == "POST" && endpoint != Endpoint::None).then_some(endpoint)
    };
    let found = caught(|| {
        #[cfg(feature = "planted-panic")]
        plant_panic(arrival, "route");
        ruleset.map_or_else(by_path, |ruleset| ruleset.endpoint(&arrival.envelope()))
    });
    match found {
        Some(endpoint) => (endpoint, None),
        // What nobody can tell may be a call, and is no way past `fail_closed`.
        None => {
            let endpoint = caught(by_path).unwrap_or(Some(Endpoint::Generic));
            (endpoint, Some("routing panicked"))
        }
    }
}

/// Keeps the invocation alive until what it returns is dropped. The platform drops invocations whose client
/// is gone, and would leave all that they hold in Wasm's memory for good; this way what they wait for
/// fails instead (the body, and by the client's signal the origin's answer), and everything is given
/// back.
fn stay(context: &Context) -> Option<Staying> {
    let left: PromiseWithResolvers = Promise::with_resolvers();
    context.as_ref().wait_until(&left.promise()).ok()?;
    Some(Staying(left))
}

/// An invocation that is kept alive. No task of ours waits for its end: the platform does.
struct Staying(PromiseWithResolvers);

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.0.resolve().call0(&JsValue::UNDEFINED);
    }
}

/// An LLM call that can be scored.
struct Call<'a> {
    route: Route<'a>,
    settings: &'a Settings,
    rules: &'a InForce,
    /// The ruleset that decides for this account, and why it does.
    ruleset: &'a Ruleset,
    role: Role,
    endpoint: Endpoint,
    /// What went wrong already: the call cannot be scored.
    trouble: Option<&'static str>,
    account: Option<String>,
    /// What is counted is hashed with it.
    key: HashKey,
}

/// What scoring came to.
enum Verdict {
    /// The body shows that this is no LLM call after all.
    Pass,
    /// A decision, and what is counted beside it.
    Decided(Box<Decision>, Seen),
    /// Scoring failed.
    Failed(&'static str),
}

/// What is counted of a request, beside the decision.
struct Seen {
    /// What correlation keeps of it.
    observation: Option<Observation>,
    /// The model that was asked for.
    model: Option<String>,
}

impl<'a> Call<'a> {
    /// Finds the account, and the ruleset for it; the route back where that takes this for no call.
    fn new(
        route: Route<'a>,
        settings: &'a Settings,
        rules: &'a InForce,
        (mut endpoint, mut trouble): (Endpoint, Option<&'static str>),
        secret: &str,
    ) -> Result<Self, Route<'a>> {
        let account = route.arrival.account(secret, endpoint.dialect());
        let (ruleset, role) = rules.choose(account.as_deref());
        if role == Role::Canary {
            let (found, found_trouble) = classify(Some(ruleset), route.arrival);
            let Some(found) = found else { return Err(route) };
            (endpoint, trouble) = (found, found_trouble);
        }
        let key = mac::hash_key(secret);
        Ok(Self { route, settings, rules, ruleset, role, endpoint, trouble, account, key })
    }

    async fn filter(self) -> Result<Response, Failure> {
        let arrival = self.route.arrival;
        let limits = &self.ruleset.policy().scan;
        let inbound = Inbound::read(&arrival.request, arrival.declared(), limits.window).await;
        let inbound = inbound.map_err(|_| Failure::BrokenOff)?;
        let verdict = match self.trouble {
            Some(trouble) => Verdict::Failed(trouble),
            None => self.score(&inbound),
        };
        match verdict {
            Verdict::Pass => self.send(inbound, None, None).await,
            Verdict::Decided(decision, seen) => self.carry_out(&decision, seen, inbound).await,
            Verdict::Failed(error) => self.unscored(error, inbound).await,
        }
    }

    /// Mode and actions: the policy's, or in development what the request asks for.
    fn treatment(&self, cluster: Option<&str>) -> Treatment {
        let (path, account) = (self.route.arrival.path(), self.account.as_deref());
        let mut treatment = self.ruleset.policy().treatment_in(cluster, path, account);
        if let Some(mode) = self.order("x-hedgerow-mode").and_then(Mode::parse) {
            treatment.mode = mode;
        }
        treatment
    }

    /// What a request orders under our own prefix; in development only.
    fn order(&self, name: &str) -> Option<&str> {
        self.route.arrival.order(name).filter(|_| self.settings.development)
    }

    /// The request for the core.
    fn envelope<'e>(&'e self, inbound: &'e Inbound, known: &'e Indicators) -> Envelope<'e> {
        Envelope {
            key: self.key,
            indicators: Some(known),
            body: inbound.window(),
            body_size: inbound.size(),
            unscanned: inbound.unscanned(),
            account: self.account.as_deref(),
            now: (js_sys::Date::now() / 1_000.0) as u64,
            ..self.route.arrival.envelope()
        }
    }

    /// What the ruleset that is only watched says of a request. That it fails is no trouble of the
    /// request's.
    fn shadowed(&self, inbound: &Inbound, decision: &Decision) -> Option<Shadowed> {
        let shadow = self.rules.shadow()?;
        let known = indicators::in_force();
        let envelope = self.envelope(inbound, &known);
        let judged = caught(|| {
            let assessment = shadow.assess(&envelope)?;
            let cluster = assessment.cluster(&envelope);
            let (path, account) = (envelope.path, envelope.account);
            let treatment = shadow.policy().treatment_in(cluster.as_deref(), path, account);
            let said = Decision::new(shadow, &envelope, assessment, treatment);
            Some(Shadowed::new(decision, &said))
        });
        if judged.is_none() {
            outbox::error("scoring by the shadow panicked");
        }
        judged.flatten()
    }

    fn score(&self, inbound: &Inbound) -> Verdict {
        let known = indicators::in_force();
        let envelope = self.envelope(inbound, &known);
        let decided = caught(|| {
            #[cfg(feature = "planted-panic")]
            plant_panic(self.route.arrival, "1");
            let mut assessment = self.ruleset.assess(&envelope)?;
            let observation = assessment.observation.take();
            let seen = Seen { observation, model: assessment.model.take() };
            let treatment = self.treatment(assessment.cluster(&envelope).as_deref());
            Some((Decision::new(self.ruleset, &envelope, assessment, treatment), seen))
        });
        match decided {
            None => Verdict::Failed("scoring panicked"),
            Some(None) => Verdict::Pass,
            Some(Some((mut decision, seen))) => {
                if let Some(action) = self.order("x-hedgerow-action").and_then(Action::parse) {
                    decision.action = action;
                }
                Verdict::Decided(Box::new(decision), seen)
            }
        }
    }

    /// Logs a decision and does what it says.
    async fn carry_out(
        &self,
        decision: &Decision,
        seen: Seen,
        inbound: Inbound,
    ) -> Result<Response, Failure> {
        let action = if decision.is_enforced() { decision.action } else { Action::Allow };
        let degraded = (action == Action::Degrade).then(|| self.degrade(&inbound));
        let refused = match action {
            Action::Throttle => Some(Refusal::Throttle),
            Action::Block => Some(Refusal::Block),
            Action::Degrade if self.is_closed_to(degraded.as_ref()) => Some(Refusal::Block),
            _ => None,
        };
        let shadowed = self.shadowed(&inbound, decision);
        let arrival = self.route.arrival;
        let place = Place { serial: self.rules.serial(), role: self.role, colo: arrival.colo() };
        let (id, model) = (self.route.request_id, seen.model.as_deref());
        outbox::decided(id, &place, decision, model, shadowed.as_ref());
        if let Some(cluster) = &decision.cluster {
            outbox::clustered(cluster, decision.band, model);
        }
        let mut line = Line::decided(self.route.request_id, decision);
        (line.rules, line.release) = (self.role, self.rules.serial());
        line.shadow = shadowed.as_ref();
        if refused == Some(Refusal::Block) {
            line.action = Action::Block;
        }
        line.degraded = degraded.as_ref().map(Degraded::name);
        line.cut = inbound.cut().map(Cut::name);
        line.write();
        drop(line);
        let response = match refused {
            Some(refusal) => self.refuse(refusal),
            None => {
                let edited = degraded.and_then(Degraded::bytes);
                self.send(inbound, Some(decision), edited).await?
            }
        };
        let done = if refused == Some(Refusal::Block) { Action::Block } else { action };
        self.observed(seen.observation, response.status(), done);
        if self.settings.development {
            tag::reveal(&response.headers(), decision);
        }
        Ok(response)
    }

    /// Queues what correlation keeps of a request, and how it ended.
    fn observed(&self, observation: Option<Observation>, status: u16, done: Action) {
        let Some(mut observation) = observation else { return };
        let concluded = caught(|| {
            self.ruleset.conclude(&mut observation, &self.key, status, done);
            sightings::note(self.ruleset, observation, self.settings);
        });
        if concluded.is_none() {
            outbox::error("noting for correlation panicked");
        }
    }

    /// Logs that scoring failed, and forwards.
    async fn unscored(&self, error: &str, inbound: Inbound) -> Result<Response, Failure> {
        outbox::error(error);
        let policy = self.ruleset.policy();
        let general = Treatment { mode: policy.mode, actions: policy.actions };
        let treatment = caught(|| self.treatment(None)).unwrap_or(general);
        let refuses = self.ruleset.policy().enforce.fail_closed && treatment.mode == Mode::Enforce;
        let mut line = Line::unscored(self.route.request_id, error);
        line.account = self.account.as_deref();
        (line.rules, line.release) = (self.role, self.rules.serial());
        line.dialect = self.endpoint.dialect().name();
        line.operation = self.endpoint.operation();
        line.action = if refuses { Action::Block } else { Action::Allow };
        line.mode = treatment.mode;
        line.enforced = treatment.mode == Mode::Enforce;
        line.ruleset = self.ruleset.digest();
        line.body_bytes = inbound.size().unwrap_or(inbound.window().len() as u64);
        line.unscanned = inbound.unscanned();
        line.cut = inbound.cut().map(Cut::name);
        line.write();
        let colo = self.route.arrival.colo();
        let place = Place { serial: self.rules.serial(), role: self.role, colo };
        outbox::unscored(&place, &line, error);
        drop(line);
        match refuses {
            true => Ok(self.refuse(Refusal::Unavailable)),
            false => self.send(inbound, None, None).await,
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        let seconds = self.ruleset.policy().enforce.retry_after;
        Failure::Refused(refusal, seconds).response(Some(self.endpoint), self.route.request_id)
    }

    /// Sends the request on: with tags where the decision asks for them, with `degraded` for a body
    /// where there is one.
    async fn send(
        &self,
        inbound: Inbound,
        decision: Option<&Decision>,
        degraded: Option<Vec<u8>>,
    ) -> Result<Response, Failure> {
        let headers = self.route.headers()?;
        if let Some(decision) = decision.filter(|decision| self.is_tagged(decision)) {
            tag::tag(
                &headers,
                decision,
                self.route.request_id,
                self.settings.tag_secret.as_deref(),
            );
        }
        let body = match degraded {
            None => inbound.outbound().map_err(|_| Failure::Unsendable)?,
            Some(bytes) => {
                forget_encoding(&headers);
                if self.route.arrival.header("content-type").is_some_and(is_wide) {
                    tag::set(&headers, "content-type", "application/json; charset=utf-8");
                }
                Outbound::Whole(Uint8Array::from(bytes.as_slice()))
            }
        };
        self.route.send(headers, body).await
    }

    /// Tags change nothing for the client, so Shadow has them too unless the policy says otherwise.
    fn is_tagged(&self, decision: &Decision) -> bool {
        let wanted = decision.is_enforced() || self.ruleset.policy().enforce.tag_in_shadow;
        wanted && decision.action != Action::Allow
    }

    /// Whether what cannot be degraded is refused. It is scored, and suspect: padding a body beyond
    /// the scan window must be no way around.
    fn is_closed_to(&self, degraded: Option<&Degraded>) -> bool {
        self.ruleset.policy().enforce.fail_closed && degraded == Some(&Degraded::Impossible)
    }

    /// The body without what makes its answer worth harvesting.
    fn degrade(&self, inbound: &Inbound) -> Degraded {
        let Some(whole) = inbound.whole() else { return Degraded::Impossible };
        let header = |name| self.route.arrival.header(name);
        let degraded = caught(|| {
            let body = Body::new(whole, header("content-encoding"), &self.ruleset.policy().scan);
            // What was cut off while inflating would be missing at the origin. A body that is not
            // what its header says is edited as it is: who reads it does not heed the header.
            match body.trouble.is_none() || body.is_as_sent() {
                true => degrade(body.bytes(), self.endpoint, header("content-type")),
                false => Degraded::Impossible,
            }
        });
        degraded.unwrap_or(Degraded::Impossible)
    }
}

/// Test builds only: a panic in the middle of everything.
#[cfg(feature = "planted-panic")]
#[expect(clippy::panic, reason = "that is its purpose")]
fn plant_panic(arrival: &Arrival, place: &str) {
    if arrival.order("x-hedgerow-plant-panic") == Some(place) {
        panic!("planted: {}", arrival.path());
    }
}

/// Whether a content type says UTF-16 or UTF-32: an edited body is UTF-8.
fn is_wide(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    content_type.contains("utf-16") || content_type.contains("utf-32")
}

/// An edited body is not compressed any more (if it ever was), and no digest fits it.
fn forget_encoding(headers: &Headers) {
    for name in [
        "content-encoding",
        "content-length",
        "content-md5",
        "content-digest",
        "repr-digest",
        "digest",
    ] {
        remove(headers, name);
    }
}
