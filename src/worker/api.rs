//! `/_hedgerow/v1/…`: the admin API's door. Who may come in is decided here, with the deployment's
//! tokens; what is asked for, by the registry.
//!
//! Where no token is set there is no API: it answers as any path that does not exist.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use web_sys::{Request, Response, UrlSearchParams};
use worker::{Context, Delay, Stub};

use crate::clock::{self, in_time};
use crate::error::{Failure, json_response};
use crate::intake::Arrival;
use crate::settings::Settings;
use crate::{admin, clusters, insight, log, mac, status, tag};

/// Where the API is.
pub const PREFIX: &str = "/_hedgerow/v1";

/// The registry's name among its class's objects: there is one.
pub const REGISTRY: &str = "registry";

/// Under this header the registry is told who asks, as JSON.
pub const CALLER: &str = "x-caller";

/// Bytes that a body has at most: a bundle of the largest size, escaped as a JSON string.
const MAX_BODY: u64 = 12 << 20;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Read,
    Publish,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
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

/// Whether a path is the API's.
pub fn owns(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request for the API.
pub async fn answer(arrival: &Arrival, settings: &Rc<Settings>, context: &Context) -> Response {
    let (publish, read) = (settings.token("ADMIN_TOKEN"), settings.token("READ_TOKEN"));
    if publish.is_none() && read.is_none() {
        return Failure::NotFound.response(None, "");
    }
    let given = scope(arrival.header("authorization"), publish.as_deref(), read.as_deref());
    let secret = read.or(publish).unwrap_or_default();
    let scope = given.or_else(|| has_ticket(arrival, &secret).then_some(Scope::Read));
    match authorized(arrival, settings, context, scope).await {
        Ok(scope) => match dispatch(arrival, settings, scope).await {
            Ok(response) => response,
            Err(error) => {
                if matches!(error.code, "scope" | "too_large") {
                    let subject = format!("{} {}", arrival.method(), arrival.path());
                    let from = from(arrival, settings);
                    let noted = note(Rc::clone(settings), scope.name(), from, subject, error.code);
                    context.wait_until(noted);
                }
                json_response(error.status, &error.body())
            }
        },
        Err(error) => refused(&error),
    }
}

/// Whether a token of either scope is given: the console's rules are for those who have one.
pub fn may_read(arrival: &Arrival, settings: &Settings) -> bool {
    let (publish, read) = (settings.token("ADMIN_TOKEN"), settings.token("READ_TOKEN"));
    scope(arrival.header("authorization"), publish.as_deref(), read.as_deref()).is_some()
}

/// Whether a browser's WebSocket brings a ticket.
fn has_ticket(arrival: &Arrival, secret: &str) -> bool {
    let protocols = arrival.header("sec-websocket-protocol").unwrap_or_default().split(',');
    let mut tickets = protocols.filter_map(|own| own.trim().strip_prefix("ticket."));
    arrival.path() == LIVE && tickets.any(|ticket| insight::is_ticket(secret, ticket))
}

/// The WebSocket's path.
const LIVE: &str = "/_hedgerow/v1/live";

/// What the token in a header allows. Hashes are compared, and to their ends: time tells nothing.
fn scope(header: Option<&str>, publish: Option<&str>, read: Option<&str>) -> Option<Scope> {
    let (scheme, token) = header?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let given = Sha256::digest(token.trim());
    let is = |own: Option<&str>| {
        let own = Sha256::digest(own.unwrap_or_default().trim());
        let differs = own.iter().zip(&given).fold(0, |sum, (a, b)| sum | (a ^ b));
        differs == 0
    };
    let (publishes, reads) = (is(publish), is(read));
    match (publish.is_some() && publishes, read.is_some() && reads) {
        (true, _) => Some(Scope::Publish),
        (false, true) => Some(Scope::Read),
        (false, false) => None,
    }
}

#[derive(Default)]
struct Failures {
    /// The minute they are counted in.
    minute: u64,
    count: u32,
}

thread_local! {
    static FAILURES: RefCell<Failures> = RefCell::default();
}

/// Failures within a minute from which on they are answered with 429.
const MANY: u32 = 20;

/// Lets a right token in, at once and always. A wrong one waits for its answer, longer and longer.
async fn authorized(
    arrival: &Arrival,
    settings: &Rc<Settings>,
    context: &Context,
    scope: Option<Scope>,
) -> Result<Scope, ApiError> {
    if let Some(scope) = scope {
        return Ok(scope);
    }
    let minute = clock::seconds() / 60;
    let (before, count) = FAILURES.with_borrow_mut(|failures| {
        let before = if failures.minute == minute { 0 } else { failures.count };
        if failures.minute != minute {
            *failures = Failures { minute, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        (before, failures.count)
    });
    let from = from(arrival, settings);
    if before > 1 {
        let subject = format!("{before} within the last minute that had any");
        context.wait_until(note(Rc::clone(settings), "nobody", None, subject, "unauthorized"));
    }
    if count.is_power_of_two() {
        log::unauthorized(count, from.as_deref());
    }
    if count == 1 || count == MANY {
        let subject = format!("{count} within a minute");
        context.wait_until(note(Rc::clone(settings), "nobody", from, subject, "unauthorized"));
    }
    let wait = 500_u64.saturating_add(u64::from(count).saturating_mul(100)).min(2_000);
    Delay::from(Duration::from_millis(wait)).await;
    let remedy =
        "give the token that was set as ADMIN_TOKEN or READ_TOKEN: `Authorization: Bearer …`";
    Err(match count {
        ..=MANY => ApiError::new(401, "unauthorized", "there is no token, or a wrong one", remedy),
        _ => ApiError::new(429, "throttled", "too many attempts with wrong tokens", remedy),
    })
}

fn refused(error: &ApiError) -> Response {
    let response = json_response(error.status, &error.body());
    match error.status {
        401 => tag::set(&response.headers(), "www-authenticate", "Bearer"),
        _ => tag::set(&response.headers(), "retry-after", "60"),
    }
    response
}

/// Tells the registry, for its audit log, of a call that it does not see; that it cannot be told is no
/// reason to fail.
async fn note(
    settings: Rc<Settings>,
    who: &'static str,
    from: Option<String>,
    subject: String,
    result: &'static str,
) {
    let caller = json!({ "who": who, "from": from });
    let query = UrlSearchParams::new().map(|query| {
        query.append("subject", &subject);
        query.append("result", result);
        String::from(query.to_string())
    });
    if let (Ok(stub), Ok(query)) = (registry(&settings), query) {
        let _ = ask(&stub, "POST", &format!("/note?{query}"), &caller, None).await;
    }
}

async fn dispatch(
    arrival: &Arrival,
    settings: &Settings,
    scope: Scope,
) -> Result<Response, ApiError> {
    let path = arrival.path().strip_prefix(PREFIX).unwrap_or_default();
    let writes = is_known(arrival.method(), path)?;
    if writes && scope != Scope::Publish {
        let remedy = "use the token that was set as ADMIN_TOKEN";
        return Err(ApiError::new(403, "scope", "this token only reads", remedy));
    }
    let caller = json!({ "who": scope.name(), "from": from(arrival, settings) });
    if path.trim_start_matches('/').split('/').next() == Some("clusters") {
        return clusters::answer(arrival, settings, path, &caller).await;
    }
    match path {
        "/status" => return status::answer(arrival, settings, &caller).await,
        "/series" => return insight::series(arrival, settings).await,
        "/decisions" => return insight::decisions(arrival, settings).await,
        "/live" => return insight::live(arrival, settings).await,
        "/live/ticket" => {
            let secret = settings.token("READ_TOKEN").or_else(|| settings.token("ADMIN_TOKEN"));
            let ticket = secret.and_then(|secret| insight::ticket(&secret));
            return Ok(json_response(200, &ticket.unwrap_or_default()));
        }
        _ => {}
    }
    let body = match writes {
        true => Some(sized_body(arrival)?),
        false => None,
    };
    let (_, query) = arrival.target().split_once('?').unwrap_or_default();
    let target = format!("{path}?{query}");
    ask(&registry(settings)?, arrival.method(), &target, &caller, body).await
}

/// Whether a call changes something.
fn is_known(method: &str, path: &str) -> Result<bool, ApiError> {
    let kind = match path.trim_start_matches('/').split_once('/') {
        Some(("bundles", _)) => "/bundles/{digest}",
        Some(("indicators", key)) if key.ends_with("/revoke") => "/indicators/{key}/revoke",
        Some(("indicators", _)) => "/indicators/{key}",
        Some(("clusters", _)) => "/clusters/{id}",
        _ => path,
    };
    let methods: &[(&str, bool)] = match kind {
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
    let known = methods.iter().find(|(own, _)| *own == method);
    known.map(|(_, writes)| *writes).ok_or_else(|| {
        let allowed: Vec<&str> = methods.iter().map(|(own, _)| *own).collect();
        let remedy = format!("use {}", allowed.join(" or "));
        ApiError::new(405, "method", "this path does not take that method", remedy)
    })
}

fn sized_body(arrival: &Arrival) -> Result<&Request, ApiError> {
    match arrival.declared() {
        Some(..=MAX_BODY) => Ok(&arrival.request),
        _ => {
            let message = "the body is larger than 12 MiB, or does not say how large it is";
            Err(ApiError::new(413, "too_large", message, "a bundle has at most 5 MiB"))
        }
    }
}

/// The registry's stub.
pub fn registry(settings: &Settings) -> Result<Stub, ApiError> {
    let stub = settings.registry().and_then(|objects| objects.get_by_name(REGISTRY).ok());
    stub.ok_or_else(|| {
        let remedy = "restore the Durable Object binding in wrangler.toml, and deploy again";
        ApiError::new(503, "unavailable", "the binding REGISTRY is missing", remedy)
    })
}

/// Asks the registry.
pub async fn ask(
    stub: &Stub,
    method: &str,
    target: &str,
    caller: &Value,
    body: Option<&Request>,
) -> Result<Response, ApiError> {
    let silent = || {
        let remedy = "try again; Cloudflare's status page may know more";
        ApiError::new(503, "unavailable", "the registry does not answer", remedy)
    };
    let request = admin::internal("https://registry", method, target, caller, body);
    let answer = stub.fetch_with_request(request.map_err(|_| silent())?.into());
    let answer = in_time(answer, admin::PATIENCE).await.ok_or_else(silent)?;
    answer.map(Response::from).map_err(|_| silent())
}

/// What the registry answers to a question, as JSON: what is asked for, or an object with `error`.
pub async fn ask_json(
    settings: &Settings,
    target: &str,
    caller: &Value,
) -> Result<Value, ApiError> {
    let answer = ask(&registry(settings)?, "GET", target, caller, None).await?;
    let unreadable =
        || ApiError::new(503, "unavailable", "the registry's answer broke off", "try again");
    let text = worker::Response::from(answer).text().await.map_err(|_| unreadable())?;
    serde_json::from_str(&text).map_err(|_| unreadable())
}

/// A keyed hash of the client's address, of another domain than those of credentials: nobody can have
/// an address hashed as an account.
fn from(arrival: &Arrival, settings: &Settings) -> Option<String> {
    let address = arrival.header("cf-connecting-ip")?;
    let message = format!("address\0{address}");
    mac::hex(settings.account_secret.as_deref()?, message.as_bytes(), 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_allows() {
        let (publish, read) = (Some("publish-token-of-the-tests"), Some("read-token-of-the-tests"));
        let rows = [
            (Some("Bearer publish-token-of-the-tests"), Some(Scope::Publish)),
            (Some("bearer  publish-token-of-the-tests "), Some(Scope::Publish)),
            (Some("Bearer read-token-of-the-tests"), Some(Scope::Read)),
            (Some("Basic publish-token-of-the-tests"), None),
            (Some("Bearer publish-token-of-the-test"), None),
            (Some("Bearer "), None),
            (Some("Bearer"), None),
            (Some(""), None),
            (None, None),
        ];
        for (header, expected) in rows {
            assert_eq!(scope(header, publish, read), expected, "{header:?}");
            assert_eq!(scope(header, None, None), None, "{header:?}");
        }
        assert_eq!(scope(Some("Bearer read-token-of-the-tests"), publish, None), None);
    }

    #[test]
    fn what_changes_something() {
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
            let known = is_known(method, path).map_err(|error| error.status);
            assert_eq!(known, expected, "{method} {path}");
        }
    }
}
