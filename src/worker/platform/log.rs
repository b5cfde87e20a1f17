//! The lines of the log. Each is a JSON object for one event, passed to `console.log` as a string.
//!
//! A line contains keyed hashes, names such as those of rules, counts and byte ranges. It never
//! contains text of a request, a credential, an address or a path. It contains the origin's names
//! of accounts and tenants only if the policy sets `labels`.

use hedgerow_core::Decision;
use hedgerow_core::evaluate::decision::DecisionHit;
use hedgerow_core::matching::Evidence;
use hedgerow_core::rules::policy::{Action, Band, Mode};
use hedgerow_core::rules::release::RulesetRole;
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};

use crate::request::shadow::ShadowDecision;

/// The line `hedgerow.decision` of one LLM call. The members are ordered for human readers. New
/// members may be added, but none is renamed within a version `v`.
#[derive(Serialize)]
pub struct DecisionLine<'a> {
    log: &'static str,
    v: u8,
    /// ISO 8601, UTC.
    time: String,
    /// Request id, as in `x-hedgerow-request-id`.
    pub request_id: &'a str,
    /// Account of the caller (keyed hash).
    pub account: Option<&'a str>,
    /// The kind of source from which the account was determined, such as `key` or `jwt`; `none`
    /// without an account.
    pub account_kind: &'a str,
    /// Tenant of the caller (keyed hash), if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    /// Label of the account; `None` unless the policy has `labels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_label: Option<&'a str>,
    /// Label of the tenant; `None` unless the policy has `labels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_label: Option<&'a str>,
    /// Number of different credentials in the request, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<u32>,
    /// `malformed` if the credential contains control bytes; then the request has no account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<&'static str>,
    /// Id of the cluster, if an indicator of the request belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    /// Former ids of this cluster.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cluster_aliases: &'a [String],
    /// Ids of the other clusters of the request.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    other_clusters: &'a [String],
    /// Dialect of the request.
    pub dialect: &'a str,
    /// Operation, such as `chat`.
    pub operation: &'a str,
    /// `websocket` for a message of a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<&'static str>,
    /// Score from 0 to 100; `None` if scoring failed, which is not the same as a score of 0.
    pub score: Option<f64>,
    /// Band of the score; `None` if scoring failed.
    pub band: Option<Band>,
    /// Action of the policy.
    pub action: Action,
    /// Mode of the policy.
    pub mode: Mode,
    /// Whether the action is carried out.
    pub enforced: bool,
    /// Outcome of the action `degrade`: `edited`, `unchanged` or `not_editable`. `None` for other
    /// actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<&'static str>,
    hits: Vec<LoggedHit<'a>>,
    shadow_hits: &'a [String],
    exemption: Option<&'a str>,
    /// SHA-256 of the bundle that decided, in hex.
    pub ruleset: &'a str,
    /// Role of the ruleset that decided.
    #[serde(rename = "rules")]
    pub ruleset_role: RulesetRole,
    /// Serial of the release in force.
    #[serde(rename = "release")]
    pub release_serial: Option<u64>,
    /// Decision of the release's shadow ruleset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<&'a ShadowDecision>,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Bytes of the body that were not scored.
    pub unscanned_bytes: u64,
    unreadable: &'a [&'static str],
    /// Reasons why a part of the request was not scored.
    unscored: &'a [&'static str],
    /// Share of the body's bytes that were scored, 0 to 1; `None` if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    scored_share: Option<f64>,
    /// The reason in `unscored` that determines the action; `None` if the score determines the
    /// action.
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<&'static str>,
    entries: usize,
    /// Number of earlier messages of the WebSocket that were scored together with this one.
    #[serde(skip_serializing_if = "is_zero")]
    earlier_messages: usize,
    /// Share of the decisions like this one that are logged: a line stands for 1 / `logged_share`
    /// decisions. Absent if it is 1.
    #[serde(skip_serializing_if = "is_one")]
    pub logged_share: f64,
    /// Fault in Hedgerow because of which the request could not be scored.
    pub error: Option<&'a str>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn is_one(number: &f64) -> bool {
    *number == 1.0
}

#[derive(Serialize)]
struct LoggedHit<'a> {
    name: &'a str,
    /// Weight in decibans.
    weight: f64,
    /// The longest evidence. `hedgerow explain` shows all evidence.
    #[serde(flatten)]
    evidence: Option<&'a Evidence>,
}

impl<'a> LoggedHit<'a> {
    fn from_decision_hit(hit: &'a DecisionHit) -> Self {
        Self { name: &hit.name, weight: hit.weight, evidence: longest_evidence(hit) }
    }
}

/// Returns the evidence of a hit that covers the most bytes; `None` if the hit has no evidence.
pub fn longest_evidence(hit: &DecisionHit) -> Option<&Evidence> {
    hit.evidence.iter().max_by_key(|evidence| evidence.end.saturating_sub(evidence.start))
}

impl<'a> DecisionLine<'a> {
    /// Makes the line of a request that could not be scored. The caller sets the other members that
    /// are known.
    pub fn for_unscored(request_id: &'a str, error: &'a str) -> Self {
        Self {
            log: "hedgerow.decision",
            v: 1,
            time: js_sys::Date::new_0().to_iso_string().into(),
            request_id,
            account: None,
            account_kind: "none",
            tenant: None,
            account_label: None,
            tenant_label: None,
            credentials: None,
            credential: None,
            cluster: None,
            cluster_aliases: &[],
            other_clusters: &[],
            dialect: "",
            operation: "",
            transport: None,
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
            unreadable: &[],
            unscored: &[],
            scored_share: None,
            incomplete: None,
            entries: 0,
            earlier_messages: 0,
            logged_share: 1.0,
            error: Some(error),
        }
    }

    /// Makes the line of a decision.
    pub fn for_decision(request_id: &'a str, decision: &'a Decision) -> Self {
        Self {
            account: decision.account.as_deref(),
            cluster: decision.cluster.as_deref(),
            cluster_aliases: &decision.cluster_aliases,
            other_clusters: &decision.other_clusters,
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
            unscored: &decision.unscored,
            scored_share: decision.scored_share,
            incomplete: decision.incomplete,
            entries: decision.entries,
            earlier_messages: decision.earlier_messages,
            error: None,
            ..Self::for_unscored(request_id, "")
        }
    }

    /// Writes the line.
    pub fn write(&self) {
        write_json(self);
    }
}

/// The line `hedgerow.rules`: a release was adopted or rejected, or it expired.
#[derive(Serialize)]
pub struct RulesEvent<'a> {
    /// `adopted`, `rejected` or `expired`.
    pub event: &'static str,
    /// Serial of the last adopted release; `None` if there is none.
    pub serial: Option<u64>,
    /// Digest of the active ruleset of the adopted release; `None` for other events.
    pub ruleset: Option<&'a str>,
    /// Reason of a rejection, or consequence of an expiry; `None` for an adoption.
    pub error: Option<&'a str>,
}

impl RulesEvent<'_> {
    /// Writes the line.
    pub fn write(&self) {
        write_event("hedgerow.rules", self);
    }
}

/// Logs a call of the admin API without a valid token: the line `hedgerow.admin`. `count` is the
/// number of such calls within the minute, and `client` a keyed hash of the address.
pub fn unauthorized(count: u32, client: Option<&str>) {
    #[derive(Serialize)]
    struct UnauthorizedEvent<'a> {
        error: &'static str,
        count: u32,
        from: Option<&'a str>,
    }
    let event = UnauthorizedEvent { error: "no valid token", count, from: client };
    write_event("hedgerow.admin", &event);
}

/// Logs background work of the registry or the ledger, or an isolate's failed read of names: the
/// line `hedgerow.registry`. `error` is `None` if the work succeeded.
pub fn registry_event(event: &str, error: Option<&str>) {
    #[derive(Serialize)]
    struct RegistryEvent<'a> {
        event: &'a str,
        error: Option<&'a str>,
    }
    write_event("hedgerow.registry", &RegistryEvent { event, error });
}

/// Logs that published indicators were rejected, or could not be published: the line
/// `hedgerow.indicators`.
pub fn indicators_error(event: &str, error: &str) {
    write_event("hedgerow.indicators", &ErrorEvent { event, error });
}

/// Logs a failure of a correlator: the line `hedgerow.correlator`.
pub fn correlator_error(event: &str, error: &str) {
    write_event("hedgerow.correlator", &ErrorEvent { event, error });
}

/// Logs that an LLM call was forwarded unscored, because a setting or the ruleset is missing: the
/// line `hedgerow.error`.
pub fn forwarded_unscored(request_id: &str, error: &str) {
    write_json(&ErrorLine { log: "hedgerow.error", request_id: Some(request_id), error });
}

/// Logs that the origin did not answer, or that the platform rejected a copy of its response: the
/// line `hedgerow.origin`.
pub fn origin_error(request_id: &str, error: &JsValue) {
    let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    let error = redact(message.as_deref().unwrap_or_default());
    write_json(&ErrorLine { log: "hedgerow.origin", request_id: Some(request_id), error });
}

/// Logs the source location of a panic, as `file:line`: the line `hedgerow.panic`. The panic's
/// message is left out, because it may quote a request.
pub fn panicked(location: &str) {
    write_json(&ErrorLine { log: "hedgerow.panic", request_id: None, error: location });
}

#[derive(Serialize)]
struct ErrorEvent<'a> {
    event: &'a str,
    error: &'a str,
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    log: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    error: &'a str,
}

/// Writes a line whose first member, `log`, is its name.
fn write_event(log: &'static str, event: &impl Serialize) {
    #[derive(Serialize)]
    struct NamedEvent<'a, T> {
        log: &'static str,
        #[serde(flatten)]
        event: &'a T,
    }
    write_json(&NamedEvent { log, event });
}

/// Writes a line. If the line cannot be serialised, which should never happen, an empty line is
/// written, because logging must not fail a request.
fn write_json(line: &impl Serialize) {
    let json = serde_json::to_string(line).unwrap_or_default();
    web_sys::console::log_1(&JsValue::from_str(&json));
}

/// Returns an error message of the platform, or a fixed text if the message may quote a URL, a path
/// or a header: if it contains `/`, `:`, `?` or a quotation mark, exceeds 120 bytes or is empty.
fn redact(message: &str) -> &str {
    let may_quote =
        message.contains(['/', ':', '"', '\'', '?']) || message.len() > 120 || message.is_empty();
    if may_quote { "the platform's message is withheld: it may quote the request" } else { message }
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
