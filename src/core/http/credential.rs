//! The credential of a request, by which it is billed.
//!
//! The account is a keyed hash of the credential. The host has the key and computes the hash; the
//! credential is not used for anything else.

use crate::http::route::Dialect;

/// Returns the first credential without its scheme, in the order in which origins of the dialect
/// look for one: a header that the origin ignores must not change the account.
///
/// `header` returns a header by its lower-case name, `query_key` the query parameter `key`.
pub fn find_credential<'h>(
    dialect: Dialect,
    header: impl Fn(&str) -> Option<&'h str>,
    query_key: impl Fn() -> Option<String>,
) -> Option<String> {
    credential_sources(dialect).iter().find_map(|name| match *name {
        QUERY_SOURCE => query_key(),
        name => strip_scheme(header(name)?).map(str::to_owned),
    })
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
            assert_eq!(result.as_deref(), Some(expected));
        }
        assert_eq!(find_credential(Dialect::Openai, |_| None, || None), None);
    }
}
