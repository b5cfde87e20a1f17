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
fn credential_sources(dialect: Dialect) -> [&'static str; 5] {
    match dialect {
        Dialect::Gemini => {
            ["x-goog-api-key", QUERY_SOURCE, "authorization", "x-api-key", "api-key"]
        }
        Dialect::Anthropic => {
            ["x-api-key", "authorization", "api-key", "x-goog-api-key", QUERY_SOURCE]
        }
        Dialect::Openai | Dialect::Generic => {
            ["authorization", "api-key", "x-api-key", "x-goog-api-key", QUERY_SOURCE]
        }
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
