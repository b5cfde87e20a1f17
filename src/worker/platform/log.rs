//! Every line that is logged: JSON, one line an event, in one string for `console.log`. Never text of
//! a request, a credential, an address or a path: only keyed hashes, names, counts and byte ranges.

use std::sync::Once;

use hedgerow_core::Decision;
use hedgerow_core::evaluate::decision::DecisionHit;
use hedgerow_core::matching::Evidence;
use hedgerow_core::rules::policy::{Action, Band, Mode};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};

use crate::isolate::active_rules::RulesetRole;
use crate::request::shadow::ShadowDecision;

/// The line of one scored request. Members in the order in which a human reads them; others may be
/// added, none is ever renamed.
#[derive(Serialize)]
pub struct DecisionLine<'a> {
    log: &'static str,
    v: u8,
    time: String,
    /// The request.
    pub request_id: &'a str,
    /// Whose it is.
    pub account: Option<&'a str>,
    /// The cluster that it is of, where an indicator says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    /// Its wire format.
    pub dialect: &'a str,
    /// What was asked for.
    pub operation: &'a str,
    /// The score; nothing where scoring failed, which is not the same as zero.
    pub score: Option<f64>,
    /// The band, likewise.
    pub band: Option<Band>,
    /// What is done.
    pub action: Action,
    /// Whether it is done or only recorded.
    pub mode: Mode,
    /// The same as a flag.
    pub enforced: bool,
    /// Where the request should be degraded: `done`, `nothing` (to remove) or `impossible`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<&'static str>,
    hits: Vec<LoggedHit<'a>>,
    shadow_hits: &'a [String],
    exemption: Option<&'a str>,
    /// Digest of the ruleset.
    pub ruleset: &'a str,
    /// Why this ruleset decided.
    #[serde(rename = "rules")]
    pub ruleset_role: RulesetRole,
    /// Serial of the release in force, where there is one.
    #[serde(rename = "release")]
    pub release_serial: Option<u64>,
    /// What the ruleset that is only watched says, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<&'a ShadowDecision>,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Bytes that were not scored.
    pub unscanned_bytes: u64,
    /// Why less than the window was read, where that is so: the body came `late`, or the isolate was
    /// `crowded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_stop: Option<&'static str>,
    unreadable: &'a [&'static str],
    entries: usize,
    /// What went wrong on our side.
    pub error: Option<&'a str>,
}

#[derive(Serialize)]
struct LoggedHit<'a> {
    name: &'a str,
    weight: f64,
    /// The longest proof: it says most. `hedgerow explain` shows all.
    #[serde(flatten)]
    evidence: Option<&'a Evidence>,
}

impl<'a> DecisionLine<'a> {
    /// The line of a request that could not be scored.
    pub fn for_unscored(request_id: &'a str, error: &'a str) -> Self {
        Self {
            log: "hedgerow.decision",
            v: 1,
            time: js_sys::Date::new_0().to_iso_string().into(),
            request_id,
            account: None,
            cluster: None,
            dialect: "",
            operation: "",
            score: None,
            band: None,
            action: Action::Allow,
            mode: Mode::Shadow,
            enforced: false,
            degraded: None,
            hits: Vec::new(),
            shadow_hits: &[],
            exemption: None,
            ruleset: "",
            ruleset_role: RulesetRole::Embedded,
            release_serial: None,
            shadow: None,
            body_bytes: 0,
            unscanned_bytes: 0,
            read_stop: None,
            unreadable: &[],
            entries: 0,
            error: Some(error),
        }
    }

    /// The line of a decision.
    pub fn for_decision(request_id: &'a str, decision: &'a Decision) -> Self {
        Self {
            account: decision.account.as_deref(),
            cluster: decision.cluster.as_deref(),
            dialect: decision.dialect,
            operation: decision.operation,
            score: Some(decision.score),
            band: Some(decision.band),
            action: decision.action,
            mode: decision.mode,
            enforced: decision.is_enforced(),
            hits: decision.hits.iter().map(LoggedHit::from_decision_hit).collect(),
            shadow_hits: &decision.shadow_hits,
            exemption: decision.exemption.as_deref(),
            ruleset: &decision.ruleset,
            body_bytes: decision.body_bytes,
            unscanned_bytes: decision.unscanned_bytes,
            unreadable: &decision.unreadable,
            entries: decision.entries,
            error: None,
            ..Self::for_unscored(request_id, "")
        }
    }

    /// Logs it.
    pub fn write(&self) {
        // A line that does not serialise (none is known) is not worth a request.
        write_line(&serde_json::to_string(self).unwrap_or_default());
    }
}

/// The line of a change of rules, or of one that was refused.
#[derive(Serialize)]
pub struct RulesEvent<'a> {
    /// `adopted`, `refused` or `expired`.
    pub event: &'static str,
    /// Serial of the release in force.
    pub serial: Option<u64>,
    /// Digest of the ruleset in force.
    pub ruleset: Option<&'a str>,
    /// What is wrong.
    pub error: Option<&'a str>,
}

impl RulesEvent<'_> {
    /// Logs it.
    pub fn write(&self) {
        write_event("hedgerow.rules", self);
    }
}

/// Logs that somebody tried the admin API without a right token, for the `count`th time within a minute.
pub fn unauthorized(count: u32, client: Option<&str>) {
    #[derive(Serialize)]
    struct UnauthorizedEvent<'a> {
        error: &'static str,
        count: u32,
        from: Option<&'a str>,
    }
    write_event(
        "hedgerow.admin",
        &UnauthorizedEvent { error: "no right token", count, from: client },
    );
}

/// Logs what the registry or the ledger did, or could not do, when nobody waits for an answer.
pub fn registry_event(event: &str, error: Option<&str>) {
    #[derive(Serialize)]
    struct RegistryEvent<'a> {
        event: &'a str,
        error: Option<&'a str>,
    }
    write_event("hedgerow.registry", &RegistryEvent { event, error });
}

/// Logs that indicators were not taken over.
pub fn indicators_error(event: &str, error: &str) {
    write_event("hedgerow.indicators", &ErrorEvent { event, error });
}

/// Logs what a correlator could not do.
pub fn correlator_error(event: &str, error: &str) {
    write_event("hedgerow.correlator", &ErrorEvent { event, error });
}

#[derive(Serialize)]
struct ErrorEvent<'a> {
    event: &'a str,
    error: &'a str,
}

fn write_event(log: &'static str, event: &impl Serialize) {
    #[derive(Serialize)]
    struct NamedEvent<'a, T> {
        log: &'static str,
        #[serde(flatten)]
        event: &'a T,
    }
    write_line(&serde_json::to_string(&NamedEvent { log, event }).unwrap_or_default());
}

/// The line of anything else.
#[derive(Serialize)]
struct ErrorLine<'a> {
    log: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    error: &'a str,
}

impl ErrorLine<'_> {
    fn write(&self) {
        write_line(&serde_json::to_string(self).unwrap_or_default());
    }
}

impl<'a> LoggedHit<'a> {
    fn from_decision_hit(hit: &'a DecisionHit) -> Self {
        Self {
            name: &hit.name,
            weight: hit.weight,
            evidence: hit
                .evidence
                .iter()
                .max_by_key(|evidence| evidence.end.saturating_sub(evidence.start)),
        }
    }
}

/// Logs that a request went by unscored for want of a setting or a ruleset.
pub fn forwarded_unscored(request_id: &str, error: &str) {
    ErrorLine { log: "hedgerow.error", request_id: Some(request_id), error }.write();
}

/// Logs that the origin did not answer: its trouble, not ours.
pub fn origin_error(request_id: &str, error: &JsValue) {
    let error = error
        .dyn_ref::<js_sys::Error>()
        .map_or_else(String::new, |error| String::from(error.message()));
    ErrorLine { log: "hedgerow.origin", request_id: Some(request_id), error: redact(&error) }
        .write();
}

/// Replaces the panic hooks, which print the panic's message: that may quote a request. Called with
/// the first request, after every start function, `worker`'s among them, has run.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let location = info.location().map_or_else(String::new, |location| {
                format!("{}:{}", location.file(), location.line())
            });
            ErrorLine { log: "hedgerow.panic", request_id: None, error: &location }.write();
            #[cfg(not(panic = "unwind"))]
            restart();
        }));
    });
}

/// Without unwinding a panic leaves Wasm's memory as it is. This tells worker-build's shim to start
/// the module anew with the next request, as the hook that ours replaces would have.
#[cfg(not(panic = "unwind"))]
fn restart() {
    let state = js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("__worker_init_state"));
    if let Ok(state) = state {
        let _ = js_sys::Reflect::set(&state, &JsValue::from_str("criticalError"), &JsValue::TRUE);
    }
}

/// An error message of the platform's, unless it quotes a URL, a path or a header.
fn redact(message: &str) -> &str {
    let may_quote =
        message.contains(['/', ':', '"', '\'', '?']) || message.len() > 120 || message.is_empty();
    if may_quote { "the platform's message is withheld: it may quote the request" } else { message }
}

fn write_line(line: &str) {
    web_sys::console::log_1(&JsValue::from_str(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_may_quote_a_request_are_redacted() {
        assert_eq!(redact("Network connection lost."), "Network connection lost.");
        for message in ["", "Invalid URL: http://x/?key=sk-1", "unexpected 'sk-1'"] {
            assert!(redact(message).starts_with("the platform's"), "{message}");
        }
    }
}
