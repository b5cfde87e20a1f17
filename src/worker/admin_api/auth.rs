//! Authentication of the admin API and of the console's rule files: bearer tokens, tickets of
//! WebSockets, and failed attempts. No other file compares tokens.
//!
//! A valid token is accepted at once. The response to an invalid token is delayed by 0.6 to 2
//! seconds, and has status 429 after 20 failures within a minute. Failures are counted per isolate.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::hash_purpose::HashPurpose;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use web_sys::Response;
use worker::{Context, Delay};

use crate::admin_api::error::ApiError;
use crate::admin_api::live;
use crate::platform::settings::Settings;
use crate::platform::{clock, hmac_sha256, log};
use crate::registry_do::client::audit_rejection;
use crate::request::client_request::ClientRequest;
use crate::request::response::json_response;
use crate::request::tag;

/// The permission that a token gives. Each permission includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// READ_TOKEN: calls that change nothing.
    Read,
    /// STOP_TOKEN: stops, too, which only lower the mode.
    Stop,
    /// ADMIN_TOKEN: all calls.
    Admin,
}

impl Scope {
    /// Returns the name in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Stop => "stop",
            Self::Admin => "admin",
        }
    }
}

/// The tokens that the deployment has set.
pub struct Tokens {
    admin: Option<String>,
    stop: Option<String>,
    read: Option<String>,
}

impl Tokens {
    /// Reads ADMIN_TOKEN, STOP_TOKEN and READ_TOKEN.
    pub fn from_settings(settings: &Settings) -> Self {
        let [admin, stop, read] =
            ["ADMIN_TOKEN", "STOP_TOKEN", "READ_TOKEN"].map(|name| settings.token(name));
        Self { admin, stop, read }
    }

    /// Returns whether no token is set; the admin API is off then.
    pub fn are_missing(&self) -> bool {
        self.ticket_secret().is_none()
    }

    /// Returns the secret that signs tickets; `None` if no token is set.
    pub fn ticket_secret(&self) -> Option<&str> {
        self.read.as_deref().or(self.stop.as_deref()).or(self.admin.as_deref())
    }

    /// Returns the scope of the token in an `Authorization` header. Returns `None` if the header is
    /// missing, is not a bearer token, or matches no token that is set.
    fn scope_of(&self, header: Option<&str>) -> Option<Scope> {
        let (scheme, token) = header?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| self.scope_of_token(token)).flatten()
    }

    /// Returns the scope of a token; `None` if it matches no token that is set. Compares hashes of
    /// the tokens in constant time.
    pub fn scope_of_token(&self, token: &str) -> Option<Scope> {
        let given_hash = Sha256::digest(token.trim());
        let matches_given = |configured: Option<&str>| {
            let configured_hash = Sha256::digest(configured.unwrap_or_default().trim());
            bool::from(configured_hash.ct_eq(given_hash.as_slice())) && configured.is_some()
        };
        // Compare with every token, so that the time does not depend on which of them matches.
        let tokens =
            [(Scope::Admin, &self.admin), (Scope::Stop, &self.stop), (Scope::Read, &self.read)];
        let matching =
            tokens.map(|(scope, token)| matches_given(token.as_deref()).then_some(scope));
        matching.into_iter().flatten().next()
    }
}

/// Returns the response to a request that [`authorize`] rejects.
pub fn unauthorized_response(error: &ApiError) -> Response {
    let response = json_response(error.status, &error.body());
    match error.status {
        401 => tag::set_header(&response.headers(), "www-authenticate", "Bearer"),
        _ => tag::set_header(&response.headers(), "retry-after", "60"),
    }
    response
}

/// Returns the scope of the request's token, or [`Scope::Read`] if the request opens the WebSocket
/// with a valid ticket.
///
/// # Errors
/// After a delay: `unauthorized`, or `throttled` after 20 failures within a minute.
pub async fn authorize(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
    tokens: &Tokens,
) -> Result<Scope, ApiError> {
    if let Some(scope) = tokens.scope_of(request.header("authorization")) {
        return Ok(scope);
    }
    if has_ticket(request, tokens.ticket_secret().unwrap_or_default()) {
        return Ok(Scope::Read);
    }
    let failures = count_failure(clock::now_seconds() / 60);
    report_failure(failures, request, settings, context);
    Delay::from(Duration::from_millis(failures.delay_ms())).await;
    Err(failures.error())
}

/// Returns whether the request is for the path of the WebSocket and offers a valid ticket in
/// `Sec-WebSocket-Protocol`.
fn has_ticket(request: &ClientRequest, secret: &str) -> bool {
    let protocols = request.header("sec-websocket-protocol").unwrap_or_default().split(',');
    let mut tickets = protocols.filter_map(|protocol| protocol.trim().strip_prefix("ticket."));
    request.path() == live::PATH && tickets.any(|ticket| live::is_valid_ticket(secret, ticket))
}

/// Failed authentications of the isolate within one minute.
#[derive(Default)]
struct AuthFailures {
    /// Minutes since the epoch.
    minute: u64,
    count: u32,
}

thread_local! {
    static AUTH_FAILURES: RefCell<AuthFailures> = RefCell::default();
}

/// Number of failures within a minute that are answered with 401. Later failures of the minute are
/// answered with 429.
const MAX_FAILURES: u32 = 20;

/// The numbers of failures, just after a failure was counted.
#[derive(Clone, Copy)]
struct FailureCounts {
    /// Failures of the current minute, including the new failure.
    current: u32,
    /// Number of failures in the previous minute that had failures, if this failure is the first of
    /// its minute; otherwise 0.
    previous_minute: u32,
}

/// Counts a failure, and returns the new numbers. `minute` is in minutes since the epoch.
fn count_failure(minute: u64) -> FailureCounts {
    AUTH_FAILURES.with_borrow_mut(|failures| {
        let previous_minute = if failures.minute == minute { 0 } else { failures.count };
        if failures.minute != minute {
            *failures = AuthFailures { minute, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        FailureCounts { current: failures.count, previous_minute }
    })
}

impl FailureCounts {
    fn delay_ms(self) -> u64 {
        500_u64.saturating_add(u64::from(self.current).saturating_mul(100)).min(2_000)
    }

    fn error(self) -> ApiError {
        let remedy = "give the token that was set as ADMIN_TOKEN, STOP_TOKEN or READ_TOKEN: \
                      `Authorization: Bearer …`";
        match self.current {
            ..=MAX_FAILURES => ApiError::new(401, "unauthorized", "missing or wrong token", remedy),
            _ => ApiError::new(429, "throttled", "too many attempts with wrong tokens", remedy),
        }
    }
}

/// Logs the 1st, 2nd, 4th, 8th, … failure of a minute. Adds the first and the 20th failure to the
/// audit log. If the previous minute with failures had more than one failure, the first failure
/// after it also adds the total of that minute.
fn report_failure(
    failures: FailureCounts,
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) {
    let audit = |client, subject| {
        let settings = Rc::clone(settings);
        context.wait_until(audit_rejection(settings, "nobody", client, subject, "unauthorized"));
    };
    let FailureCounts { current, previous_minute } = failures;
    if previous_minute > 1 {
        audit(None, format!("{previous_minute} within the last minute that had any"));
    }
    let client = client_hash(request, settings);
    if current.is_power_of_two() {
        log::unauthorized(current, client.as_deref());
    }
    if current == 1 || current == MAX_FAILURES {
        audit(client, format!("{current} within a minute"));
    }
}

/// Returns a keyed hash of the client's address, in hex; `None` without an address or without
/// ACCOUNT_SECRET.
pub fn client_hash(request: &ClientRequest, settings: &Settings) -> Option<String> {
    let address = request.header("cf-connecting-ip")?;
    let secret = settings.account_secret.as_deref()?;
    hmac_sha256::hmac_hex(secret, HashPurpose::Address, address.as_bytes(), 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_map_to_scopes() {
        let all = Tokens {
            admin: Some("admin-token-of-the-tests".to_owned()),
            stop: Some("stop-token-of-the-tests".to_owned()),
            read: Some("read-token-of-the-tests".to_owned()),
        };
        let none = Tokens { admin: None, stop: None, read: None };
        let rows = [
            (Some("Bearer admin-token-of-the-tests"), Some(Scope::Admin)),
            (Some("bearer  admin-token-of-the-tests "), Some(Scope::Admin)),
            (Some("Bearer stop-token-of-the-tests"), Some(Scope::Stop)),
            (Some("Bearer read-token-of-the-tests"), Some(Scope::Read)),
            (Some("Basic admin-token-of-the-tests"), None),
            (Some("Bearer admin-token-of-the-test"), None),
            (Some("Bearer "), None),
            (Some("Bearer"), None),
            (Some(""), None),
            (None, None),
        ];
        for (header, expected) in rows {
            assert_eq!(all.scope_of(header), expected, "{header:?}");
            assert_eq!(none.scope_of(header), None, "{header:?}");
        }
        let only_admin = Tokens { stop: None, read: None, ..all };
        assert_eq!(only_admin.scope_of(Some("Bearer read-token-of-the-tests")), None);
    }

    #[test]
    fn failures_are_counted_per_minute() {
        let counts = |minute| {
            let FailureCounts { current, previous_minute } = count_failure(minute);
            (current, previous_minute)
        };
        assert_eq!([1, 1, 3, 3].map(counts), [(1, 0), (2, 0), (1, 2), (2, 0)]);
        let failures = |current| FailureCounts { current, previous_minute: 0 };
        assert_eq!([1, 20, 21].map(|count| failures(count).error().status), [401, 401, 429]);
        assert_eq!([1, 15, 1_000].map(|count| failures(count).delay_ms()), [600, 2_000, 2_000]);
    }
}
