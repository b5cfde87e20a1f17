//! Whom a request is billed to. The account is a keyed hash of its credential; key and hash are the
//! host's, and the credential goes no further.

use crate::http::route::Dialect;

/// The first credential there is, without its scheme, in the order in which origins of the dialect
/// look for one: junk under a name that the origin does not heed makes nobody another account.
/// `in_query` is asked for the parameter `key` of the query.
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

/// Where credentials are, those first that the dialect's own API heeds.
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

/// A credential without its scheme. The same key counts as the same account under every header.
fn strip_scheme(value: &str) -> Option<&str> {
    let value = value.trim();
    let token = match value.split_once(char::is_whitespace) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ if value.eq_ignore_ascii_case("bearer") => "",
        _ => value,
    };
    Some(token).filter(|token| !token.is_empty())
}

/// No header, but the query's parameter `key`.
const QUERY_SOURCE: &str = "?key";

/// Bytes of the hash that make an account's name: by chance no two accounts of any deployment share
/// 128 bits.
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
