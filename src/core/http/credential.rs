//! The credential of a request, by which it is billed.
//!
//! The account is a keyed hash of the credential. The host has the key and computes the hash; the
//! credential is not used for anything else.

use crate::http::route::Dialect;

/// The credential of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The request has no credential.
    Missing,
    /// The credential contains control bytes, which no provider issues. The request counts as a
    /// request without credential.
    Malformed,
    /// The credential without its scheme.
    Found(String),
}

impl Credential {
    /// Returns the credential, if the request has a well-formed one.
    pub fn found(self) -> Option<String> {
        match self {
            Self::Found(credential) => Some(credential),
            Self::Missing | Self::Malformed => None,
        }
    }
}

/// Returns the first credential without its scheme, in the order in which origins of the dialect
/// look for one: a header that the origin ignores must not change the account. For the same reason,
/// a malformed credential ends the search.
///
/// `header` returns a header by its lower-case name, `query_key` the query parameter `key`.
pub fn find_credential<'h>(
    dialect: Dialect,
    header: impl Fn(&str) -> Option<&'h str>,
    query_key: impl Fn() -> Option<String>,
) -> Credential {
    let first = credential_sources(dialect).iter().find_map(|name| match *name {
        QUERY_SOURCE => query_key(),
        PROTOCOL_SOURCE => key_in_protocols(header(name)?).map(str::to_owned),
        name => strip_scheme(header(name)?).map(str::to_owned),
    });
    match first {
        None => Credential::Missing,
        Some(credential) if credential.bytes().any(|byte| byte.is_ascii_control()) => {
            Credential::Malformed
        }
        Some(credential) => Credential::Found(credential),
    }
}

/// Returns the names of headers with credentials (and [`QUERY_SOURCE`]), in order of precedence:
/// headers that the API of the dialect reads come first.
fn credential_sources(dialect: Dialect) -> [&'static str; 6] {
    match dialect {
        Dialect::Gemini => [
            "x-goog-api-key",
            QUERY_SOURCE,
            "authorization",
            "x-api-key",
            "api-key",
            PROTOCOL_SOURCE,
        ],
        Dialect::Anthropic => [
            "x-api-key",
            "authorization",
            "api-key",
            "x-goog-api-key",
            QUERY_SOURCE,
            PROTOCOL_SOURCE,
        ],
        Dialect::Openai | Dialect::Generic => [
            "authorization",
            "api-key",
            PROTOCOL_SOURCE,
            "x-api-key",
            "x-goog-api-key",
            QUERY_SOURCE,
        ],
    }
}

/// Returns a credential without its scheme, so that one key is one account in every header; `None`
/// if it is empty.
fn strip_scheme(value: &str) -> Option<&str> {
    let value = value.trim();
    let token = match value.split_once(char::is_whitespace) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ if value.eq_ignore_ascii_case("bearer") => "",
        _ => value,
    };
    Some(token).filter(|token| !token.is_empty())
}

/// Returns the key that a browser sends as a WebSocket protocol, because it cannot set other
/// headers (OpenAI Realtime); `None` if there is none.
fn key_in_protocols(protocols: &str) -> Option<&str> {
    let mut protocols = protocols.split(',').map(str::trim);
    protocols
        .find_map(|protocol| protocol.strip_prefix(API_KEY_PROTOCOL))
        .filter(|key| !key.is_empty())
}

/// Prefix of the WebSocket protocol that is an API key.
const API_KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// The header with the WebSocket protocols that a client offers.
const PROTOCOL_SOURCE: &str = "sec-websocket-protocol";

/// The query parameter `key`, in place of a header name.
const QUERY_SOURCE: &str = "?key";

/// Bytes of the hash that form an account id: 128 bits make a collision negligible.
pub const ACCOUNT_ID_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_lose_their_scheme() {
        let rows = [
            ("Bearer sk-1", Some("sk-1")),
            ("bearer  sk-1 ", Some("sk-1")),
            ("sk-1", Some("sk-1")),
            ("Basic dXNlcjpwYXNz", Some("Basic dXNlcjpwYXNz")),
            ("Bearer", None),
            ("Bearer ", None),
            ("", None),
        ];
        for (value, expected) in rows {
            assert_eq!(strip_scheme(value), expected, "{value}");
        }
    }

    #[test]
    fn browsers_send_the_key_of_a_websocket_as_a_protocol() {
        let rows = [
            ("realtime, openai-insecure-api-key.sk-1, openai-beta.realtime-v1", Some("sk-1")),
            ("openai-insecure-api-key.sk-1", Some("sk-1")),
            ("realtime,openai-insecure-api-key.", None),
            ("realtime", None),
            ("", None),
        ];
        for (protocols, expected) in rows {
            let header = |name: &str| (name == PROTOCOL_SOURCE).then_some(protocols);
            let credential = find_credential(Dialect::Openai, header, || None).found();
            assert_eq!(credential.as_deref(), expected, "{protocols}");
        }
    }

    #[test]
    fn header_precedence_depends_on_the_dialect() {
        let headers = [("authorization", "Bearer a"), ("x-api-key", "b")];
        let header = |name: &str| {
            headers.iter().find(|(header_name, _)| *header_name == name).map(|(_, value)| *value)
        };
        let rows =
            [(Dialect::Openai, "a"), (Dialect::Anthropic, "b"), (Dialect::Gemini, "in the query")];
        for (dialect, expected) in rows {
            let result = find_credential(dialect, header, || Some("in the query".to_owned()));
            assert_eq!(result, Credential::Found(expected.to_owned()));
        }
        assert_eq!(find_credential(Dialect::Openai, |_| None, || None), Credential::Missing);
    }

    #[test]
    fn control_bytes_are_not_part_of_a_credential() {
        let rows = [
            ("sk-1", true),
            ("schl\u{fc}ssel", true),
            ("key\0indicators.v1", false),
            ("sk\t1", false),
            ("sk-1\u{7f}", false),
            ("\u{1}", false),
        ];
        for (key, is_valid) in rows {
            // A later source has a valid credential, which does not replace the malformed one.
            let header = |name: &str| (name == "api-key").then_some("sk-other");
            let result = find_credential(Dialect::Gemini, header, || Some(key.to_owned()));
            let expected = Credential::Found(key.to_owned());
            assert_eq!(result, if is_valid { expected } else { Credential::Malformed }, "{key:?}");
        }
    }
}
