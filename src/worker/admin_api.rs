//! `/_hedgerow/v1/…`: the admin API's door. Who may come in is decided here, with the deployment's
//! tokens; what is asked for, by the registry.
//!
//! Where no token is set there is no API: it answers as any path that does not exist.

pub mod analytics;
pub mod clusters;
pub mod console;
pub mod health;
pub mod status;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use web_sys::{Request, Response, UrlSearchParams};
use worker::{Context, Delay, Stub};

use crate::platform::clock::with_timeout;
use crate::platform::settings::Settings;
use crate::platform::{clock, hmac_sha256, log};
use crate::request::client_request::ClientRequest;
use crate::request::response::{RequestError, json_response};
use crate::request::tag;

/// Where the API is.
pub const PREFIX: &str = "/_hedgerow/v1";

/// The registry's name among its class's objects: there is one.
pub const REGISTRY_NAME: &str = "registry";

/// Under this header the registry is told who asks, as JSON.
pub const CALLER_HEADER: &str = "x-caller";

/// Bytes that a body has at most: a bundle of the largest size, escaped as a JSON string.
const MAX_BODY_BYTES: u64 = 12 << 20;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Read,
    Admin,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Admin => "publish",
        }
    }
}

/// An answer that is an error: what is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// A word for programs.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The highest serial there is, where that is what is wrong.
    pub serial: Option<u64>,
}

impl ApiError {
    /// An error.
    pub fn new(
        status: u16,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status, code, message: message.into(), remedy: remedy.into(), serial: None }
    }

    /// Its body.
    pub fn body(&self) -> Value {
        let Self { code, message, remedy, serial, .. } = self;
        let mut error = json!({ "code": code, "message": message, "remedy": remedy });
        if let (Some(serial), Some(members)) = (serial, error.as_object_mut()) {
            members.insert("serial".to_owned(), json!(serial));
        }
        json!({ "error": error })
    }
}

/// Answers a request for the API.
pub async fn handle(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Response {
    let (admin_token, read_token) = (settings.token("ADMIN_TOKEN"), settings.token("READ_TOKEN"));
    if admin_token.is_none() && read_token.is_none() {
        return RequestError::NotFound.to_response(None, "");
    }
    let token_scope = scope_for_token(
        request.header("authorization"),
        admin_token.as_deref(),
        read_token.as_deref(),
    );
    let ticket_secret = read_token.or(admin_token).unwrap_or_default();
    let scope =
        token_scope.or_else(|| has_live_ticket(request, &ticket_secret).then_some(Scope::Read));
    match authorize(request, settings, context, scope).await {
        Ok(scope) => match dispatch(request, settings, scope).await {
            Ok(response) => response,
            Err(error) => {
                if matches!(error.code, "scope" | "too_large") {
                    let subject = format!("{} {}", request.method(), request.path());
                    let client = client_hash(request, settings);
                    let audited =
                        audit(Rc::clone(settings), scope.name(), client, subject, error.code);
                    context.wait_until(audited);
                }
                json_response(error.status, &error.body())
            }
        },
        Err(error) => unauthorized_response(&error),
    }
}

/// Whether a token of either scope is given: the console's rules are for those who have one.
pub fn may_read(request: &ClientRequest, settings: &Settings) -> bool {
    let (admin_token, read_token) = (settings.token("ADMIN_TOKEN"), settings.token("READ_TOKEN"));
    scope_for_token(request.header("authorization"), admin_token.as_deref(), read_token.as_deref())
        .is_some()
}

/// Whether a browser's WebSocket brings a ticket.
fn has_live_ticket(request: &ClientRequest, secret: &str) -> bool {
    let protocols = request.header("sec-websocket-protocol").unwrap_or_default().split(',');
    let mut tickets = protocols.filter_map(|protocol| protocol.trim().strip_prefix("ticket."));
    request.path() == LIVE_PATH && tickets.any(|ticket| analytics::is_valid_ticket(secret, ticket))
}

/// The WebSocket's path.
const LIVE_PATH: &str = "/_hedgerow/v1/live";

/// What the token in a header allows. Hashes are compared, and to their ends: time tells nothing.
fn scope_for_token(
    header: Option<&str>,
    admin_token: Option<&str>,
    read_token: Option<&str>,
) -> Option<Scope> {
    let (scheme, token) = header?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let given_hash = Sha256::digest(token.trim());
    let matches_given = |configured: Option<&str>| {
        let configured_hash = Sha256::digest(configured.unwrap_or_default().trim());
        bool::from(configured_hash.ct_eq(given_hash.as_slice()))
    };
    let (is_admin, is_reader) = (matches_given(admin_token), matches_given(read_token));
    match (admin_token.is_some() && is_admin, read_token.is_some() && is_reader) {
        (true, _) => Some(Scope::Admin),
        (false, true) => Some(Scope::Read),
        (false, false) => None,
    }
}

#[derive(Default)]
struct AuthFailures {
    /// The minute they are counted in.
    minute: u64,
    count: u32,
}

thread_local! {
    static AUTH_FAILURES: RefCell<AuthFailures> = RefCell::default();
}

/// Failures within a minute from which on they are answered with 429.
const MAX_FAILURES: u32 = 20;

/// Lets a right token in, at once and always. A wrong one waits for its answer, longer and longer.
async fn authorize(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
    scope: Option<Scope>,
) -> Result<Scope, ApiError> {
    if let Some(scope) = scope {
        return Ok(scope);
    }
    let minute = clock::now_seconds() / 60;
    let (previous, count) = AUTH_FAILURES.with_borrow_mut(|failures| {
        let previous = if failures.minute == minute { 0 } else { failures.count };
        if failures.minute != minute {
            *failures = AuthFailures { minute, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        (previous, failures.count)
    });
    let client = client_hash(request, settings);
    if previous > 1 {
        let subject = format!("{previous} within the last minute that had any");
        context.wait_until(audit(Rc::clone(settings), "nobody", None, subject, "unauthorized"));
    }
    if count.is_power_of_two() {
        log::unauthorized(count, client.as_deref());
    }
    if count == 1 || count == MAX_FAILURES {
        let subject = format!("{count} within a minute");
        context.wait_until(audit(Rc::clone(settings), "nobody", client, subject, "unauthorized"));
    }
    let delay_ms = 500_u64.saturating_add(u64::from(count).saturating_mul(100)).min(2_000);
    Delay::from(Duration::from_millis(delay_ms)).await;
    let remedy =
        "give the token that was set as ADMIN_TOKEN or READ_TOKEN: `Authorization: Bearer …`";
    Err(match count {
        ..=MAX_FAILURES => {
            ApiError::new(401, "unauthorized", "there is no token, or a wrong one", remedy)
        }
        _ => ApiError::new(429, "throttled", "too many attempts with wrong tokens", remedy),
    })
}

fn unauthorized_response(error: &ApiError) -> Response {
    let response = json_response(error.status, &error.body());
    match error.status {
        401 => tag::set_header(&response.headers(), "www-authenticate", "Bearer"),
        _ => tag::set_header(&response.headers(), "retry-after", "60"),
    }
    response
}

/// Tells the registry, for its audit log, of a call that it does not see; that it cannot be told is no
/// reason to fail.
async fn audit(
    settings: Rc<Settings>,
    actor: &'static str,
    client: Option<String>,
    subject: String,
    result: &'static str,
) {
    let caller = json!({ "who": actor, "from": client });
    let query = UrlSearchParams::new().map(|query| {
        query.append("subject", &subject);
        query.append("result", result);
        String::from(query.to_string())
    });
    if let (Ok(stub), Ok(query)) = (registry_stub(&settings), query) {
        let _ = call_registry(&stub, "POST", &format!("/note?{query}"), &caller, None).await;
    }
}

async fn dispatch(
    request: &ClientRequest,
    settings: &Settings,
    scope: Scope,
) -> Result<Response, ApiError> {
    let path = request.path().strip_prefix(PREFIX).unwrap_or_default();
    let is_write = route_writes(request.method(), path)?;
    if is_write && scope != Scope::Admin {
        let remedy = "use the token that was set as ADMIN_TOKEN";
        return Err(ApiError::new(403, "scope", "this token only reads", remedy));
    }
    let caller = json!({ "who": scope.name(), "from": client_hash(request, settings) });
    if path.trim_start_matches('/').split('/').next() == Some("clusters") {
        return clusters::handle(request, settings, path, &caller).await;
    }
    match path {
        "/status" => return status::handle(request, settings, &caller).await,
        "/series" => return analytics::handle_series(request, settings).await,
        "/decisions" => return analytics::handle_decisions(request, settings).await,
        "/live" => return analytics::handle_live(request, settings).await,
        "/live/ticket" => {
            let secret = settings.token("READ_TOKEN").or_else(|| settings.token("ADMIN_TOKEN"));
            let ticket = secret.and_then(|secret| analytics::issue_ticket(&secret));
            return Ok(json_response(200, &ticket.unwrap_or_default()));
        }
        _ => {}
    }
    let body = match is_write {
        true => Some(check_body_size(request)?),
        false => None,
    };
    let (_, query) = request.target().split_once('?').unwrap_or_default();
    let target = format!("{path}?{query}");
    call_registry(&registry_stub(settings)?, request.method(), &target, &caller, body).await
}

/// Whether a call changes something.
fn route_writes(method: &str, path: &str) -> Result<bool, ApiError> {
    let route = match path.trim_start_matches('/').split_once('/') {
        Some(("bundles", _)) => "/bundles/{digest}",
        Some(("indicators", key)) if key.ends_with("/revoke") => "/indicators/{key}/revoke",
        Some(("indicators", _)) => "/indicators/{key}",
        Some(("clusters", _)) => "/clusters/{id}",
        _ => path,
    };
    let methods: &[(&str, bool)] = match route {
        "/bundles/{digest}" => &[("GET", false), ("PUT", true)],
        "/releases" => &[("GET", false), ("POST", true)],
        "/promote" | "/rollback" | "/indicators/{key}/revoke" => &[("POST", true)],
        "/bundles" | "/releases/current" | "/diff" | "/audit" | "/status" | "/indicators"
        | "/indicators/{key}" | "/clusters" | "/clusters/{id}" | "/series" | "/decisions"
        | "/live" | "/live/ticket" => &[("GET", false)],
        _ => {
            let remedy = "docs/openapi.yaml lists every path";
            return Err(ApiError::new(404, "not_found", "there is no such path", remedy));
        }
    };
    let allowed = methods.iter().find(|(name, _)| *name == method);
    allowed.map(|(_, is_write)| *is_write).ok_or_else(|| {
        let names: Vec<&str> = methods.iter().map(|(name, _)| *name).collect();
        let remedy = format!("use {}", names.join(" or "));
        ApiError::new(405, "method", "this path does not take that method", remedy)
    })
}

fn check_body_size(request: &ClientRequest) -> Result<&Request, ApiError> {
    match request.content_length() {
        Some(..=MAX_BODY_BYTES) => Ok(&request.raw),
        _ => {
            let message = "the body is larger than 12 MiB, or does not say how large it is";
            Err(ApiError::new(413, "too_large", message, "a bundle has at most 5 MiB"))
        }
    }
}

/// The registry's stub.
pub fn registry_stub(settings: &Settings) -> Result<Stub, ApiError> {
    let stub = settings.registry().and_then(|objects| objects.get_by_name(REGISTRY_NAME).ok());
    stub.ok_or_else(|| {
        let remedy = "restore the Durable Object binding in wrangler.toml, and deploy again";
        ApiError::new(503, "unavailable", "the binding REGISTRY is missing", remedy)
    })
}

/// Asks the registry.
pub async fn call_registry(
    stub: &Stub,
    method: &str,
    target: &str,
    caller: &Value,
    body: Option<&Request>,
) -> Result<Response, ApiError> {
    let unavailable = || {
        let remedy = "try again; Cloudflare's status page may know more";
        ApiError::new(503, "unavailable", "the registry does not answer", remedy)
    };
    let request = health::rpc_request("https://registry", method, target, caller, body);
    let response = stub.fetch_with_request(request.map_err(|_| unavailable())?.into());
    let response = with_timeout(response, health::RPC_TIMEOUT).await.ok_or_else(unavailable)?;
    response.map(Response::from).map_err(|_| unavailable())
}

/// What the registry answers to a question, as JSON: what is asked for, or an object with `error`.
pub async fn query_registry(
    settings: &Settings,
    target: &str,
    caller: &Value,
) -> Result<Value, ApiError> {
    let response = call_registry(&registry_stub(settings)?, "GET", target, caller, None).await?;
    let unreadable =
        || ApiError::new(503, "unavailable", "the registry's answer broke off", "try again");
    let text = worker::Response::from(response).text().await.map_err(|_| unreadable())?;
    serde_json::from_str(&text).map_err(|_| unreadable())
}

/// A keyed hash of the client's address, of another domain than those of credentials: nobody can have
/// an address hashed as an account.
fn client_hash(request: &ClientRequest, settings: &Settings) -> Option<String> {
    let address = request.header("cf-connecting-ip")?;
    let message = format!("address\0{address}");
    hmac_sha256::hmac_hex(settings.account_secret.as_deref()?, message.as_bytes(), 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_map_to_scopes() {
        let (admin_token, read_token) =
            (Some("publish-token-of-the-tests"), Some("read-token-of-the-tests"));
        let rows = [
            (Some("Bearer publish-token-of-the-tests"), Some(Scope::Admin)),
            (Some("bearer  publish-token-of-the-tests "), Some(Scope::Admin)),
            (Some("Bearer read-token-of-the-tests"), Some(Scope::Read)),
            (Some("Basic publish-token-of-the-tests"), None),
            (Some("Bearer publish-token-of-the-test"), None),
            (Some("Bearer "), None),
            (Some("Bearer"), None),
            (Some(""), None),
            (None, None),
        ];
        for (header, expected) in rows {
            assert_eq!(scope_for_token(header, admin_token, read_token), expected, "{header:?}");
            assert_eq!(scope_for_token(header, None, None), None, "{header:?}");
        }
        assert_eq!(
            scope_for_token(Some("Bearer read-token-of-the-tests"), admin_token, None),
            None
        );
    }

    #[test]
    fn routes_know_which_methods_write() {
        let rows = [
            ("GET", "/bundles", Ok(false)),
            ("PUT", "/bundles/abc", Ok(true)),
            ("POST", "/rollback", Ok(true)),
            ("GET", "/rollback", Err(405)),
            ("DELETE", "/bundles/abc", Err(405)),
            ("GET", "", Err(404)),
            ("POST", "/pull", Err(404)),
            ("POST", "/note", Err(404)),
            ("POST", "/firings", Err(404)),
            ("POST", "/indicators", Err(405)),
            ("GET", "/indicators/00/revoke", Err(405)),
            ("POST", "/indicators/00/revoke", Ok(true)),
            ("GET", "/indicators/00", Ok(false)),
            ("GET", "/clusters/00", Ok(false)),
        ];
        for (method, path, expected) in rows {
            let writes = route_writes(method, path).map_err(|error| error.status);
            assert_eq!(writes, expected, "{method} {path}");
        }
    }
}
