//! Hides the version and the console's files from requests without a token, if the policy sets
//! `hidden` in `[admin]`.
//!
//! Without a token, they are answered with 404, like unknown paths below `/_hedgerow/`. A host that
//! the console has for itself is an exception: when a browser opens a page, it can send a token
//! only as the password of HTTP Basic, and only after a response with status 401 has asked for it.
//! On a host that the console shares, pages of the origin could ask for the same password, so the
//! browser is not asked there.
//!
//! A wrong token has the same effect on unknown paths, so that the answers do not show which paths
//! are hidden.

use std::rc::Rc;

use hedgerow_core::api::ConsoleHost;
use js_sys::global;
use wasm_bindgen::JsCast;
use web_sys::{Response, WorkerGlobalScope};
use worker::Context;

use crate::admin_api::auth;
use crate::admin_api::auth::Tokens;
use crate::admin_api::error::ApiError;
use crate::isolate::active_rules;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::RequestError;
use crate::request::tag;

/// Answers a request for an unknown path with 404. If the policy hides paths, a wrong token is
/// counted, and delays the response.
pub async fn not_found(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Response {
    // The hidden paths answer other methods at once. Paths without the prefix are those of a client
    // that takes the console's host for the API, with a key of the API.
    let is_checked = request.header("authorization").is_some()
        && matches!(request.method(), "GET" | "HEAD")
        && request.path().starts_with("/_hedgerow");
    if is_checked && let Err(rejection) = check(request, settings, context).await {
        return rejection;
    }
    RequestError::NotFound.to_response(None, "")
}

/// Checks that a request may see a path that the policy may hide. Returns whether the request has a
/// token; false if the policy does not hide the path, because then the token is not read.
///
/// Refreshes the rules first: these paths may be all that the isolate answers, so that nothing else
/// reads the policy that may hide them.
///
/// # Errors
/// The response to a request without a token. After a wrong token, it is delayed.
pub async fn check(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Result<bool, Response> {
    active_rules::refresh(settings, context).await;
    if !active_rules::current().is_ok_and(|rules| rules.active().policy().admin.hidden) {
        return Ok(false);
    }
    let tokens = Tokens::from_settings(settings);
    let asks_for_password = !tokens.are_missing()
        && matches!(
            settings.console_host(&request.raw.url()),
            ConsoleHost::Own | ConsoleHost::Local
        );
    let authorization = request.header("authorization");
    let password = authorization.and_then(basic_password);
    if password.as_ref().is_some_and(|token| tokens.scope_of_token(token).is_some()) {
        return Ok(true);
    }
    // A request without a token is not an attempt to guess one, so its response is not delayed.
    if authorization.is_some() {
        match auth::authorize(request, settings, context, &tokens).await {
            Ok(_) => return Ok(true),
            Err(error) if error.status != 401 => return Err(auth::unauthorized_response(&error)),
            Err(_) => {}
        }
    }
    // A script of the page that gives a wrong bearer token must not make the browser ask.
    let asks = asks_for_password && (authorization.is_none() || password.is_some());
    Err(if asks { ask_for_password() } else { RequestError::NotFound.to_response(None, "") })
}

/// Returns the response that makes a browser ask for a password.
fn ask_for_password() -> Response {
    let remedy = "give ADMIN_TOKEN, STOP_TOKEN or READ_TOKEN as the password, with any name";
    let error = ApiError::new(401, "unauthorized", "this path is hidden", remedy);
    let response = auth::unauthorized_response(&error);
    let challenge = "Basic realm=\"Hedgerow\", charset=\"UTF-8\"";
    tag::set_header(&response.headers(), "www-authenticate", challenge);
    response
}

/// Returns the password in an `Authorization` header; `None` if it is not valid HTTP Basic.
fn basic_password(authorization: &str) -> Option<String> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = global().unchecked_into::<WorkerGlobalScope>().atob(encoded.trim()).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}
