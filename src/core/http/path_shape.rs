//! Path shapes: paths in which `*` replaces ids, so that requests can be counted by path.
#![deny(clippy::arithmetic_side_effects)]

/// Returns the shape of a path: segments that are not words of an API become `*`.
///
/// A word begins with a letter and has at most 48 bytes. It consists of ASCII letters, at most 24
/// in a row, and of versions such as `v1beta`, with `-`, `_`, `.` and `:` between them. The segment
/// after `users` and similar words is always treated as an id. At most eight segments are kept;
/// `/**` replaces the others. A shape has no query.
///
/// ```
/// # use hedgerow_core::http::path_shape::path_shape;
/// assert_eq!(path_shape("/v2/agents/ag_81f3e20c77/sessions"), "/v2/agents/*/sessions");
/// ```
pub fn path_shape(path: &str) -> String {
    let mut shape = String::with_capacity(path.len().min(MAX_SEGMENTS * (MAX_WORD_BYTES + 1)));
    let mut follows_collection = false;
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    for segment in segments.by_ref().take(MAX_SEGMENTS) {
        let is_kept = is_word(segment) && !follows_collection;
        shape.push('/');
        shape.push_str(if is_kept { segment } else { "*" });
        follows_collection = COLLECTIONS.iter().any(|name| segment.eq_ignore_ascii_case(name));
    }
    if segments.next().is_some() {
        shape.push_str("/**");
    }
    if shape.is_empty() { "/".to_owned() } else { shape }
}

/// Returns whether a segment is a word of an API, as opposed to an id.
fn is_word(segment: &str) -> bool {
    let is_version = |text: &str| {
        text.strip_prefix(['v', 'V']).is_some_and(|number| {
            (1..=12).contains(&number.len())
                && number.starts_with(|char: char| char.is_ascii_digit())
        }) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_part = |part: &str| {
        let is_alphabetic = part.bytes().all(|byte| byte.is_ascii_alphabetic());
        part.len() <= MAX_PART_BYTES && (is_alphabetic || is_version(part))
    };
    segment.len() <= MAX_WORD_BYTES
        && segment.starts_with(|char: char| char.is_ascii_alphabetic())
        && segment.split(['-', '_', '.', ':']).all(is_part)
}

/// Segments after which a name of a person or of an organisation may follow.
const COLLECTIONS: [&str; 14] = [
    "user",
    "users",
    "account",
    "accounts",
    "customer",
    "customers",
    "member",
    "members",
    "org",
    "orgs",
    "organization",
    "organizations",
    "tenant",
    "tenants",
];

/// Maximum number of segments of a shape. No known LLM API has more segments in the part of its
/// paths that names the operation.
const MAX_SEGMENTS: usize = 8;

/// Maximum bytes of a segment that is kept.
const MAX_WORD_BYTES: usize = 48;

/// Maximum bytes between two separators of a word. Keys and ids that consist only of letters are
/// longer.
const MAX_PART_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_folded() {
        let rows = [
            ("/", "/"),
            ("", "/"),
            ("/v1/agents", "/v1/agents"),
            ("/v1beta/interactions", "/v1beta/interactions"),
            ("/v1internal:generateContent", "/v1internal:generateContent"),
            ("//v1//Agents/", "/v1/Agents"),
            ("/v1/agents/123/sessions", "/v1/agents/*/sessions"),
            ("/v1/agents/0f8fad5b-d9cb-469f-a165-70867728950e", "/v1/agents/*"),
            ("/v1/agents/ag_81f3e20c77", "/v1/agents/*"),
            ("/users/ada/notes", "/users/*/notes"),
            ("/Users/ada@example.com", "/Users/*"),
            ("/model/anthropic.claude-3-sonnet/x", "/model/*/x"),
            ("/a%20b/c", "/*/c"),
            ("/\u{e4}/c", "/*/c"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/**"),
            ("/sk-abcdefghijklmnopqrstuvwxyz", "/*"),
        ];
        for (path, shape) in rows {
            assert_eq!(path_shape(path), shape, "{path}");
        }
    }

    #[test]
    fn a_long_path_has_a_short_shape() {
        let path = format!("/{}", "a/".repeat(32 << 10));
        assert!(path_shape(&path).len() <= MAX_SEGMENTS * (MAX_WORD_BYTES + 1) + 3);
    }
}
