//! `/_hedgerow/v1/…`: the admin API, for the CLI, the console and monitoring.
//!
//! ADMIN_TOKEN allows every call. READ_TOKEN allows the calls that change nothing. STOP_TOKEN also
//! allows stops, which lower the mode to Shadow. If none is set, the API is off: its paths are
//! answered with 404, like unknown paths of `/_hedgerow/`.
//!
//! | file | content |
//! |---|---|
//! | `routes.rs` | the table of routes: method, path, handler, scope |
//! | `auth.rs` | tokens, tickets, failed attempts |
//! | `status.rs` | the registry's status, and traffic from the ledger |
//! | `metrics.rs` | the same for Prometheus, with totals |
//! | `series.rs`, `decisions.rs` | counts and sampled decisions, from the ledger |
//! | `clusters.rs` | clusters, from the registry, and their traffic |
//! | `principals.rs` | names of accounts, and labels |
//! | `live.rs` | the WebSocket that notifies the console of new data |
//! | `error.rs`, `params.rs` | errors and query parameters |
//! | `health.rs` | `/_hedgerow/health` and `/_hedgerow/version`, without a token |
//! | `hidden.rs` | hides version and console from requests without a token |
//! | `console.rs` | `/_hedgerow/`: the console's files |
//!
//! The registry (`registry_do.rs`), a Durable Object, serves all other routes. The ledger
//! (`ledger_do.rs`) consists of the Durable Objects that count traffic. Errors have the shape of
//! [`ApiError`].

pub mod auth;
pub mod console;
pub mod error;
pub mod health;
pub mod hidden;

mod clusters;
mod decisions;
mod live;
mod metrics;
mod params;
mod principals;
mod routes;
mod series;
mod status;

use std::rc::Rc;

use hedgerow_core::api::ConsoleHost;
use serde_json::json;
use web_sys::{Request, Response};
use worker::Context;

use crate::admin_api::auth::{Scope, Tokens, client_hash};
use crate::admin_api::error::ApiError;
use crate::admin_api::routes::RouteHandler;
use crate::platform::settings::Settings;
use crate::registry_do::client;
use crate::request::client_request::ClientRequest;
use crate::request::response::{RequestError, json_response};

/// Path prefix of the API.
const PREFIX: &str = "/_hedgerow/v1";

/// Maximum bytes of a body: enough for a bundle of the maximum size, escaped as a JSON string.
const MAX_BODY_BYTES: u64 = 12 << 20;

/// Answers a request to the API; with 404 if no token is set. Adds an entry to the audit log
/// if the token does not allow the call, or if the body is too large or has no declared length.
pub async fn handle(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Response {
    let tokens = Tokens::from_settings(settings);
    if tokens.are_missing() {
        return RequestError::NotFound.to_response(None, "");
    }
    let scope = match auth::authorize(request, settings, context, &tokens).await {
        Ok(scope) => scope,
        Err(error) => return auth::unauthorized_response(&error),
    };
    dispatch(request, settings, &tokens, scope).await.unwrap_or_else(|error| {
        if matches!(error.code, "scope" | "too_large") {
            let subject = format!("{} {}", request.method(), request.path());
            let (settings, client) = (Rc::clone(settings), client_hash(request, settings));
            let audited =
                client::audit_rejection(settings, scope.name(), client, subject, error.code);
            context.wait_until(audited);
        }
        json_response(error.status, &error.body())
    })
}

/// Finds the route, checks the scope, and calls the handler of the route.
///
/// # Errors
/// `not_found` or `method`, if no route matches; `scope`, if `scope` does not allow the call;
/// `too_large`, if the body is too large; or the error of the handler.
async fn dispatch(
    request: &ClientRequest,
    settings: &Settings,
    tokens: &Tokens,
    scope: Scope,
) -> Result<Response, ApiError> {
    let path = request.path().strip_prefix(PREFIX).unwrap_or_default();
    let route = routes::find(request.method(), path)?;
    // Only the console opens the WebSocket: hosts without the console do not have these two routes.
    let is_live = matches!(route.handler, RouteHandler::Live | RouteHandler::LiveTicket);
    if is_live && settings.console_host(&request.raw.url()) == ConsoleHost::Other {
        return Err(routes::not_found());
    }
    if scope < route.scope {
        return Err(scope_error(scope, route.scope));
    }
    let caller = json!({ "actor": scope.name(), "client": client_hash(request, settings) });
    match route.handler {
        RouteHandler::Status => status::handle(request, settings, &caller).await,
        RouteHandler::Metrics => Ok(metrics::handle(settings, &caller).await),
        RouteHandler::Series => series::handle(request, settings).await,
        RouteHandler::Decisions => decisions::handle(request, settings, &caller).await,
        RouteHandler::Live => live::handle(request, settings).await,
        RouteHandler::LiveTicket => {
            let ticket = tokens.ticket_secret().and_then(live::issue_ticket);
            Ok(json_response(200, &ticket))
        }
        RouteHandler::Clusters => clusters::handle(request, settings, path, &caller).await,
        RouteHandler::Principals => {
            principals::handle(check_body_size(request)?, settings, &caller).await
        }
        RouteHandler::Registry => {
            let body = match route.scope {
                Scope::Admin | Scope::Stop => Some(check_body_size(request)?),
                Scope::Read => None,
            };
            let target = format!("{path}?{}", params::query_of(request));
            let stub = client::stub(settings)?;
            client::call(&stub, request.method(), &target, &caller, body).await
        }
    }
}

/// Returns the error for a token of scope `given` on a route that needs the scope `needed`.
fn scope_error(given: Scope, needed: Scope) -> ApiError {
    let message = match given {
        Scope::Read => "this token only allows reading",
        Scope::Stop | Scope::Admin => "this token only allows reading and stops",
    };
    let remedy = match needed {
        Scope::Stop => "use the token that was set as STOP_TOKEN or ADMIN_TOKEN",
        Scope::Read | Scope::Admin => "use the token that was set as ADMIN_TOKEN",
    };
    ApiError::new(403, "scope", message, remedy)
}

/// Returns the platform's request, from which the body can be read.
///
/// # Errors
/// `too_large`, if the body is larger than [`MAX_BODY_BYTES`] or its length is not declared.
fn check_body_size(request: &ClientRequest) -> Result<&Request, ApiError> {
    match request.content_length() {
        Some(..=MAX_BODY_BYTES) => Ok(&request.raw),
        _ => {
            let message = "the body is larger than 12 MiB, or its length is not declared";
            Err(ApiError::new(413, "too_large", message, "a bundle has at most 5 MiB"))
        }
    }
}
