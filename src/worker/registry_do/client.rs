//! Calls to the registry, from the admin API, the correlators, the ledger and the cron trigger.

use std::rc::Rc;

use serde_json::{Value, json};
use web_sys::{Request, RequestInit, Response, UrlSearchParams};
use worker::Stub;

use crate::admin_api::error::ApiError;
use crate::platform::clock::with_timeout;
use crate::platform::rpc::{CALLER_HEADER, RPC_TIMEOUT};
use crate::platform::settings::Settings;
use crate::platform::{log, rpc};

/// Name of the registry's only object within its class.
const OBJECT_NAME: &str = "registry";

/// Base of internal URLs. The platform ignores the host.
const BASE_URL: &str = "https://registry";

/// Returns the registry's stub.
///
/// # Errors
/// `unavailable`, if the binding REGISTRY is missing.
pub fn stub(settings: &Settings) -> Result<Stub, ApiError> {
    let stub = settings.registry().and_then(|objects| objects.get_by_name(OBJECT_NAME).ok());
    stub.ok_or_else(|| {
        let remedy = "restore the Durable Object binding in wrangler.toml, and deploy again";
        ApiError::new(503, "unavailable", "the binding REGISTRY is missing", remedy)
    })
}

/// Calls a route of the registry and returns its response, with any status. `target` is the path
/// and the query. `caller` is stored in the audit log. `body` is a request whose body is passed on;
/// `None` if the call has no body.
///
/// # Errors
/// `unavailable`, if the call fails or the registry does not respond within [`RPC_TIMEOUT`].
pub async fn call(
    stub: &Stub,
    method: &str,
    target: &str,
    caller: &Value,
    body: Option<&Request>,
) -> Result<Response, ApiError> {
    let unavailable = || {
        let remedy = "try again; if it keeps failing, see Cloudflare's status page";
        ApiError::new(503, "unavailable", "the registry does not answer", remedy)
    };
    let request = rpc::request(BASE_URL, method, target, caller, body);
    let response = stub.fetch_with_request(request.map_err(|_| unavailable())?.into());
    let response = with_timeout(response, RPC_TIMEOUT).await.ok_or_else(unavailable)?;
    response.map(Response::from).map_err(|_| unavailable())
}

/// Reads a GET route of the registry. Returns `Ok` with the body of a response with status 2xx, and
/// `Err` with the body of any other response. Both are JSON values instead of types of the API,
/// because parsers of all these types would add 30 KiB to the Worker.
///
/// # Errors
/// `unavailable`, if the response is missing, incomplete, or not JSON.
pub async fn query(
    settings: &Settings,
    target: &str,
    caller: &Value,
) -> Result<Result<Value, Value>, ApiError> {
    let response = call(&stub(settings)?, "GET", target, caller, None).await?;
    let incomplete = || {
        let message = "the registry's response was incomplete";
        ApiError::new(503, "unavailable", message, "try again")
    };
    let is_ok = response.ok();
    let text = worker::Response::from(response).text().await.map_err(|_| incomplete())?;
    let body = serde_json::from_str(&text).map_err(|_| incomplete())?;
    Ok(if is_ok { Ok(body) } else { Err(body) })
}

/// Posts a JSON body to a route of the registry, and returns the JSON of the response.
///
/// # Errors
/// `unavailable`, if the response is missing, incomplete, or not of status 200.
pub async fn post(
    settings: &Settings,
    target: &str,
    caller: &Value,
    body: &str,
) -> Result<Value, ApiError> {
    let unavailable = || {
        let message = "the registry does not answer";
        ApiError::new(503, "unavailable", message, "try again")
    };
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_body(&body.into());
    let request = Request::new_with_str_and_init(&format!("{BASE_URL}{target}"), &init);
    let request = request.map_err(|_| unavailable())?;
    request.headers().set(CALLER_HEADER, &caller.to_string()).map_err(|_| unavailable())?;
    let stub = stub(settings)?;
    let response = stub.fetch_with_request(request.into());
    let response = with_timeout(response, RPC_TIMEOUT).await.ok_or_else(unavailable)?;
    let mut response = response.map_err(|_| unavailable())?;
    if response.status_code() != 200 {
        return Err(unavailable());
    }
    response.json().await.map_err(|_| unavailable())
}

/// Adds an entry to the audit log for a call that was rejected before it reached the registry.
/// `client` is a keyed hash of the client's address. `subject` and `result` are members of the
/// entry. Failures are ignored, because the call is rejected in any case.
pub async fn audit_rejection(
    settings: Rc<Settings>,
    actor: &'static str,
    client: Option<String>,
    subject: String,
    result: &'static str,
) {
    let caller = json!({ "actor": actor, "client": client });
    let query = UrlSearchParams::new().map(|query| {
        query.append("subject", &subject);
        query.append("result", result);
        String::from(query.to_string())
    });
    if let (Ok(stub), Ok(query)) = (stub(&settings), query) {
        let _ = call(&stub, "POST", &format!("/audit?{query}"), &caller, None).await;
    }
}

/// Asks the registry to do its maintenance. The cron trigger calls this every minute. Even without
/// releases, the registry may have indicators and names to publish. Does nothing if the binding
/// REGISTRY is missing and neither CONFIG_URL nor PUBLIC_KEYS is set, because no maintenance is
/// needed then.
pub async fn request_maintenance(settings: &Settings) {
    let has_releases = settings.config_url().is_some() || settings.has_trusted_keys();
    if !has_releases && settings.registry().is_none() {
        return;
    }
    if let Err(problem) = post_maintenance(settings).await {
        log::registry_event("maintenance", Some(&problem));
    }
}

/// Posts the request for maintenance. The request has no timeout, because a pull from CONFIG_URL
/// may take longer than [`RPC_TIMEOUT`].
async fn post_maintenance(settings: &Settings) -> Result<(), String> {
    let stub = stub(settings).map_err(|error| error.message)?;
    let caller = json!({ "actor": "registry" });
    let request = rpc::request(BASE_URL, "POST", "/maintenance", &caller, None);
    let request = request.map_err(|_| "the request cannot be made")?;
    let response = stub.fetch_with_request(request.into()).await;
    response.map(drop).map_err(|_| "the registry does not answer".to_owned())
}
