//! WebSockets: handshakes, and the paths on which messages carry prompts.

use crate::http::envelope::Envelope;
use crate::http::route::{Endpoint, path_matches};

/// Returns whether a request is the handshake of a WebSocket: GET, and an `Upgrade` header that
/// lists `websocket` (RFC 6455, section 4.2.1).
pub fn is_handshake(envelope: &Envelope<'_>) -> bool {
    let mut upgrades = envelope.headers.iter().filter(|(name, _)| name == "upgrade");
    envelope.method == "GET"
        && upgrades.any(|(_, value)| {
            value.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
        })
}

/// Returns the endpoint of a WebSocket's path by the built-in routes; `None` if its messages are
/// not known to carry prompts.
///
/// ```
/// # use hedgerow_core::http::{route::Endpoint, websocket::builtin_endpoint};
/// assert_eq!(builtin_endpoint("/v1/realtime"), Some(Endpoint::OpenaiRealtime));
/// assert_eq!(builtin_endpoint("/chat"), None);
/// ```
pub fn builtin_endpoint(path: &str) -> Option<Endpoint> {
    let route = WEBSOCKET_ROUTES.iter().find(|(pattern, _)| path_matches(pattern, path));
    route.map(|(_, endpoint)| *endpoint)
}

/// Returns the format of the WebSocket messages on a path whose endpoint is `endpoint`; `None` if
/// the messages carry no prompts. A route of the policy may name an endpoint of HTTP requests. The
/// result is then the message format of that API; [`Endpoint::Generic`] if that format is not
/// known.
pub fn message_endpoint(endpoint: Endpoint) -> Option<Endpoint> {
    use Endpoint::*;
    match endpoint {
        OpenaiRealtime | OpenaiResponses => Some(OpenaiRealtime),
        GeminiLive | GeminiGenerate => Some(GeminiLive),
        None | Unknown => Option::None,
        _ => Some(Generic),
    }
}

/// The built-in routes of WebSockets, in lower case, with the format of their messages; the first
/// match counts.
pub const WEBSOCKET_ROUTES: &[(&str, Endpoint)] = &[
    ("**/responses", Endpoint::OpenaiRealtime),
    ("**/v*/realtime", Endpoint::OpenaiRealtime),
    ("**/v*/realtime/translations", Endpoint::OpenaiRealtime),
    // Path of Azure OpenAI.
    ("**/openai/realtime", Endpoint::OpenaiRealtime),
    // Path without a version, for clients whose base URL has none.
    ("/realtime", Endpoint::OpenaiRealtime),
    ("**/*bidigeneratecontent", Endpoint::GeminiLive),
    // Path for clients with ephemeral tokens.
    ("**/*bidigeneratecontentconstrained", Endpoint::GeminiLive),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::policy::{Policy, RoutePolicy};

    #[test]
    fn builtin_routes_map_paths_of_websockets() {
        let rows = [
            ("/v1/realtime", Some(Endpoint::OpenaiRealtime)),
            ("/v1//Realtime/", Some(Endpoint::OpenaiRealtime)),
            ("/v1/realtime/translations", Some(Endpoint::OpenaiRealtime)),
            ("/openai/realtime", Some(Endpoint::OpenaiRealtime)),
            ("/openai/v1/realtime", Some(Endpoint::OpenaiRealtime)),
            ("/api/paas/v4/realtime", Some(Endpoint::OpenaiRealtime)),
            ("/v1/responses", Some(Endpoint::OpenaiRealtime)),
            ("/backend-api/codex/responses", Some(Endpoint::OpenaiRealtime)),
            (
                "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
                Some(Endpoint::GeminiLive),
            ),
            (
                "/ws/google.ai.generativelanguage.v1beta.GenerativeService.\
                 BidiGenerateContentConstrained",
                Some(Endpoint::GeminiLive),
            ),
            (
                "/ws/google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent",
                Some(Endpoint::GeminiLive),
            ),
            ("/v1/realtime/sessions", None),
            ("/v1/chat/completions", None),
            ("/realtime/v1/websocket", None),
            ("/app/realtime", None),
            ("/", None),
        ];
        for (path, expected) in rows {
            assert_eq!(builtin_endpoint(path), expected, "{path}");
        }
    }

    #[test]
    fn routes_of_the_policy_come_first() {
        let route = |path: &str, endpoint| RoutePolicy {
            path: Some(path.to_owned()),
            endpoint: Some(endpoint),
            ..RoutePolicy::default()
        };
        let policy = Policy {
            routes: vec![
                route("/app/socket", Endpoint::OpenaiRealtime),
                route("/app/both", Endpoint::OpenaiResponses),
                route("/app/chat", Endpoint::Generic),
                route("/v1/realtime", Endpoint::None),
            ],
            ..Policy::default()
        };
        let rows = [
            ("/app/socket", Some(Endpoint::OpenaiRealtime)),
            ("/app/both", Some(Endpoint::OpenaiRealtime)),
            ("/app/chat", Some(Endpoint::Generic)),
            ("/v1/realtime", None),
            ("/v2/realtime", Some(Endpoint::OpenaiRealtime)),
        ];
        for (path, expected) in rows {
            assert_eq!(policy.websocket_endpoint(path), expected, "{path}");
        }
    }

    #[test]
    fn a_handshake_is_a_get_with_an_upgrade() {
        let rows = [
            ("GET", "websocket", true),
            ("GET", "h2c, WebSocket", true),
            ("GET", "h2c", false),
            ("POST", "websocket", false),
        ];
        for (method, upgrade, expected) in rows {
            let headers = [("upgrade".to_owned(), upgrade.to_owned())];
            let envelope = Envelope { method, headers: &headers, ..Envelope::default() };
            assert_eq!(is_handshake(&envelope), expected, "{method} {upgrade}");
        }
    }
}
