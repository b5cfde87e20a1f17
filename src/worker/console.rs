//! `/_hedgerow/`: the console. Files come from the binding ASSETS, where they lie under these very paths;
//! nothing else is ever looked up there.
//!
//! Its pages may load nothing from elsewhere, run nothing that is not a file of ours, and stand in nobody's
//! frame.

use std::time::Duration;

use web_sys::{Headers, Response, ResponseInit};

use crate::api::{self, ApiError};
use crate::clock::in_time;
use crate::error::{Failure, json_response};
use crate::intake::Arrival;
use crate::settings::Settings;
use crate::tag;

/// The page.
const PAGE: &str = "/_hedgerow/";
const INDEX: &str = "/_hedgerow/index.html";

/// Files whose names change with what is in them.
const HASHED: &str = "/_hedgerow/assets/";

/// The deployment's rules, likewise. Who harvests would like to have them.
const RULES: &str = "/_hedgerow/rules/";

/// `wasm-unsafe-eval` allows compiling Wasm, and no `eval`.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// For how long the platform may take to find a file.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a path is the console's.
pub fn owns(path: &str) -> bool {
    matches!(path, "/_hedgerow" | PAGE) || path.starts_with(HASHED) || path.starts_with(RULES)
}

/// Answers a request for the page, or for a file of it.
pub async fn answer(arrival: &Arrival, settings: &Settings) -> Response {
    if !matches!(arrival.method(), "GET" | "HEAD") {
        return Failure::NotFound.response(None, "");
    }
    if arrival.path() == "/_hedgerow" {
        return moved();
    }
    let path = if arrival.path() == PAGE { INDEX } else { arrival.path() };
    let is_open = settings.development || settings.opens_rules() || !path.starts_with(RULES);
    if !is_open && !api::may_read(arrival, settings) {
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
    let found = assets.fetch(format!("https://assets{path}"), None);
    match in_time(found, PATIENCE).await {
        Some(Ok(found)) if found.status_code() == 200 => file(found.into(), path, arrival.method()),
        Some(Ok(_)) => Failure::NotFound.response(None, ""),
        _ => unavailable("the console's files cannot be read", "try again"),
    }
}

/// A file, under our own headers.
fn file(found: Response, path: &str, method: &str) -> Response {
    let made = Headers::new().and_then(|headers| {
        for name in ["content-type", "etag"] {
            if let Ok(Some(value)) = found.headers().get(name) {
                tag::set(&headers, name, &value);
            }
        }
        for (name, value) in HEADERS {
            tag::set(&headers, name, value);
        }
        let cache = match path {
            path if path.starts_with(HASHED) => "public, max-age=31536000, immutable",
            path if path.starts_with(RULES) => "private, max-age=31536000, immutable",
            _ => "no-cache",
        };
        tag::set(&headers, "cache-control", cache);
        let init = ResponseInit::new();
        init.set_headers(&headers);
        let body = found.body().filter(|_| method == "GET");
        Response::new_with_opt_readable_stream_and_init(body.as_ref(), &init)
    });
    made.unwrap_or_else(|_| Response::error())
}

/// Relative links need the slash.
fn moved() -> Response {
    let response = json_response(308, &serde_json::Value::Null);
    tag::set(&response.headers(), "location", PAGE);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_paths_are_looked_up() {
        let rows = [
            ("/_hedgerow", true),
            ("/_hedgerow/", true),
            ("/_hedgerow/assets/index-a.js", true),
            ("/_hedgerow/rules/bundle-a.json", true),
            ("/_hedgerow/health", false),
            ("/_hedgerow/v1/status", false),
            ("/_hedgerowing", false),
            ("/assets/index-a.js", false),
            ("/v1/chat/completions", false),
            ("/", false),
        ];
        for (path, expected) in rows {
            assert_eq!(owns(path), expected, "{path}");
        }
    }
}
