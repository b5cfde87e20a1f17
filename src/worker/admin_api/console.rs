//! `/_hedgerow/`: the console. Files come from the binding ASSETS, where they lie under these very paths;
//! nothing else is ever looked up there.
//!
//! Its pages may load nothing from elsewhere, run nothing that is not a file of ours, and stand in nobody's
//! frame.

use std::time::Duration;

use web_sys::{Headers, Response, ResponseInit};

use crate::admin_api;
use crate::admin_api::ApiError;
use crate::platform::clock::with_timeout;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::{RequestError, json_response};
use crate::request::tag;

/// The page.
const ROOT_PATH: &str = "/_hedgerow/";
const INDEX_PATH: &str = "/_hedgerow/index.html";

/// Files whose names change with what is in them.
const ASSETS_PREFIX: &str = "/_hedgerow/assets/";

/// The deployment's rules, likewise. Who harvests would like to have them.
const RULES_PREFIX: &str = "/_hedgerow/rules/";

/// `wasm-unsafe-eval` allows compiling Wasm, and no `eval`.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const SECURITY_HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// For how long the platform may take to find a file.
const ASSET_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a request for the page, or for a file of it.
pub async fn handle(request: &ClientRequest, settings: &Settings) -> Response {
    if !matches!(request.method(), "GET" | "HEAD") {
        return RequestError::NotFound.to_response(None, "");
    }
    if request.path() == "/_hedgerow" {
        return redirect_to_root();
    }
    let path = if request.path() == ROOT_PATH { INDEX_PATH } else { request.path() };
    let is_public = settings.is_development
        || settings.console_rules_public()
        || !path.starts_with(RULES_PREFIX);
    if !is_public && !admin_api::may_read(request, settings) {
        let remedy = "give a token that reads; CONSOLE_RULES = \"open\" shows them to anybody";
        let error = ApiError::new(
            401,
            "unauthorized",
            "the rules of this deployment are not public",
            remedy,
        );
        return json_response(401, &error.body());
    }
    let unavailable = |message: &str, remedy: &str| {
        json_response(503, &ApiError::new(503, "unavailable", message, remedy).body())
    };
    let Some(assets) = settings.assets() else {
        let message = "the binding ASSETS is missing: there is no console";
        return unavailable(message, "restore [assets] in wrangler.toml, and deploy again");
    };
    // The host means nothing to the binding.
    let fetch = assets.fetch(format!("https://assets{path}"), None);
    match with_timeout(fetch, ASSET_TIMEOUT).await {
        Some(Ok(asset)) if asset.status_code() == 200 => {
            asset_response(asset.into(), path, request.method())
        }
        Some(Ok(_)) => RequestError::NotFound.to_response(None, ""),
        _ => unavailable("the console's files cannot be read", "try again"),
    }
}

/// A file, under our own headers.
fn asset_response(asset: Response, path: &str, method: &str) -> Response {
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
            path if path.starts_with(ASSETS_PREFIX) => "public, max-age=31536000, immutable",
            path if path.starts_with(RULES_PREFIX) => "private, max-age=31536000, immutable",
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

/// Relative links need the slash.
fn redirect_to_root() -> Response {
    let response = json_response(308, &serde_json::Value::Null);
    tag::set_header(&response.headers(), "location", ROOT_PATH);
    response
}
