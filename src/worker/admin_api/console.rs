//! `/_hedgerow/`: the console's files, from the binding ASSETS.
//!
//! A file has the same path in the binding as in the URL. An unknown path is answered with 404, not
//! with the page. The headers allow a page to load only files of this deployment, and forbid other
//! sites to embed it in a frame.

use std::rc::Rc;
use std::time::Duration;

use web_sys::{Headers, Response, ResponseInit};
use worker::Context;

use crate::admin_api::auth;
use crate::admin_api::auth::Tokens;
use crate::admin_api::error::ApiError;
use crate::admin_api::hidden;
use crate::platform::clock::with_timeout;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::{RequestError, json_response};
use crate::request::tag;

/// Path of the console's only page.
const ROOT_PATH: &str = "/_hedgerow/";

/// The page's file.
const INDEX_PATH: &str = "/_hedgerow/index.html";

/// Path prefix of scripts and styles. A file's name contains a hash of its content, so that
/// browsers may cache it without a time limit.
const ASSETS_PREFIX: &str = "/_hedgerow/assets/";

/// Path prefix of the embedded rules, whose file names contain a hash, too. A client that knows the
/// rules could evade them. So reading the rules needs a token, except in development or if
/// CONSOLE_RULES is `open`.
const RULES_PREFIX: &str = "/_hedgerow/rules/";

/// `wasm-unsafe-eval` allows compiling Wasm, but not `eval`.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
    style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
    worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Security headers of every file.
const SECURITY_HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// Timeout of one read of the binding.
const ASSET_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a request for the page or one of its files.
pub async fn handle(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Response {
    if !matches!(request.method(), "GET" | "HEAD") {
        return RequestError::NotFound.to_response(None, "");
    }
    let has_token = match hidden::check(request, settings, context).await {
        Ok(has_token) => has_token,
        Err(rejection) => return rejection,
    };
    if request.path() == "/_hedgerow" {
        return redirect_to_root();
    }
    let path = if request.path() == ROOT_PATH { INDEX_PATH } else { request.path() };
    let is_readable = has_token
        || settings.is_development
        || settings.console_rules_public()
        || !path.starts_with(RULES_PREFIX);
    if !is_readable && let Err(error) = authorize(request, settings, context).await {
        return auth::unauthorized_response(&error);
    }
    let unavailable = |message: &str, remedy: &str| {
        json_response(503, &ApiError::new(503, "unavailable", message, remedy).body())
    };
    let Some(assets) = settings.assets() else {
        let message = "the console is off: the binding ASSETS is missing";
        return unavailable(message, "restore [assets] in wrangler.toml, and deploy again");
    };
    // The binding ignores the host.
    let fetch = assets.fetch(format!("https://assets{path}"), None);
    match with_timeout(fetch, ASSET_TIMEOUT).await {
        Some(Ok(asset)) if asset.status_code() == 200 => {
            asset_response(asset.into(), path, request.method(), has_token)
        }
        Some(Ok(_)) => RequestError::NotFound.to_response(None, ""),
        _ => unavailable("the console's files cannot be read", "try again"),
    }
}

/// Checks the token of a request for the rules. A request without a token is not an attempt to
/// guess one, so its error is not delayed.
async fn authorize(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Result<(), ApiError> {
    if request.header("authorization").is_none() {
        let message = "the rules of this deployment are not public";
        let remedy = "give a token; or set CONSOLE_RULES = \"open\", which shows them to anybody";
        return Err(ApiError::new(401, "unauthorized", message, remedy));
    }
    let tokens = Tokens::from_settings(settings);
    auth::authorize(request, settings, context, &tokens).await.map(drop)
}

/// Returns a file of the binding with the security headers, and without a body for HEAD.
/// `is_hidden` is whether the request needed a token. Then caches of others must not store the
/// response.
fn asset_response(asset: Response, path: &str, method: &str, is_hidden: bool) -> Response {
    let response = Headers::new().and_then(|headers| {
        for name in ["content-type", "etag"] {
            if let Ok(Some(value)) = asset.headers().get(name) {
                tag::set_header(&headers, name, &value);
            }
        }
        for (name, value) in SECURITY_HEADERS {
            tag::set_header(&headers, name, value);
        }
        let cache_control = match path {
            path if path.starts_with(ASSETS_PREFIX) && !is_hidden => {
                "public, max-age=31536000, immutable"
            }
            path if path.starts_with(ASSETS_PREFIX) || path.starts_with(RULES_PREFIX) => {
                "private, max-age=31536000, immutable"
            }
            _ if is_hidden => "private, no-cache",
            _ => "no-cache",
        };
        tag::set_header(&headers, "cache-control", cache_control);
        let init = ResponseInit::new();
        init.set_headers(&headers);
        let body = asset.body().filter(|_| method == "GET");
        Response::new_with_opt_readable_stream_and_init(body.as_ref(), &init)
    });
    response.unwrap_or_else(|_| Response::error())
}

/// Redirects `/_hedgerow` to the page, because the page's relative links need the final slash.
fn redirect_to_root() -> Response {
    let response = json_response(308, &serde_json::Value::Null);
    tag::set_header(&response.headers(), "location", ROOT_PATH);
    response
}
