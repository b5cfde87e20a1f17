//! Headers that let scripts of web pages read Hedgerow's own responses.
//!
//! Preflight requests are forwarded to the origin, and responses of the origin keep their headers.
//! But without CORS headers, a script would see an error of Hedgerow only as a network error.

use hedgerow_core::rules::policy::{Cors, EnforcementSettings};
use web_sys::Headers;

use crate::request::client_request::ClientRequest;
use crate::request::tag;

/// Headers of Hedgerow's own responses that a script may read, in addition to those that CORS
/// always allows.
const EXPOSED_HEADERS: &str = "retry-after, x-should-retry, x-hedgerow-request-id, \
    x-hedgerow-appeal, x-request-id, request-id";

/// Adds the CORS headers to a response to `request`. A request without the header `origin` gets
/// none. If the policy does not allow the web origin, adds only `vary`.
pub fn add_cors_headers(
    headers: &Headers,
    request: &ClientRequest,
    settings: &EnforcementSettings,
) {
    for (name, value) in cors_headers(request.header("origin"), settings) {
        tag::set_header(headers, name, value);
    }
}

/// Lets scripts read the header `name` of a response of the origin. Whether a script may read the
/// response at all, the origin decides by its own headers.
pub fn expose_header(
    headers: &Headers,
    request: &ClientRequest,
    settings: &EnforcementSettings,
    name: &str,
) {
    if request.header("origin").is_some_and(|origin| settings.cors.allows(origin)) {
        // The platform rejects only invalid values.
        let _ = headers.append("access-control-expose-headers", name);
    }
}

/// Returns the headers for a request from the web origin `origin`; none if `origin` is `None`.
fn cors_headers<'o>(
    origin: Option<&'o str>,
    settings: &EnforcementSettings,
) -> Vec<(&'static str, &'o str)> {
    let Some(origin) = origin else { return Vec::new() };
    let mut headers = vec![("vary", "Origin")];
    if settings.cors.allows(origin) {
        headers.push(("access-control-allow-origin", origin));
        headers.push(("access-control-expose-headers", EXPOSED_HEADERS));
        let has_list = matches!(settings.cors, Cors::Origins(_));
        if has_list && settings.cors_credentials {
            headers.push(("access-control-allow-credentials", "true"));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_follow_the_policy() {
        const APP: &str = "https://app.example.com";
        let list = || Cors::Origins(vec![APP.to_owned()]);
        let rows = [
            (Cors::Reflect, false, Some(APP), (true, false)),
            (Cors::Reflect, false, Some("null"), (true, false)),
            (Cors::Reflect, true, Some(APP), (true, false)),
            (Cors::Off, false, Some(APP), (false, false)),
            (list(), false, Some(APP), (true, false)),
            (list(), true, Some(APP), (true, true)),
            (list(), true, Some("https://other.example"), (false, false)),
        ];
        for (cors, cors_credentials, origin, (is_allowed, has_credentials)) in rows {
            let settings =
                EnforcementSettings { cors, cors_credentials, ..EnforcementSettings::default() };
            let headers = cors_headers(origin, &settings);
            let value =
                |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, v)| *v);
            assert_eq!(value("vary"), Some("Origin"));
            assert_eq!(value("access-control-allow-origin"), origin.filter(|_| is_allowed));
            assert_eq!(value("access-control-expose-headers").is_some(), is_allowed);
            assert_eq!(value("access-control-allow-credentials").is_some(), has_credentials);
            assert_eq!(cors_headers(None, &settings), []);
        }
    }
}
