//! Routes: the path of a request decides whether it is an LLM call, and the format of its body.

use std::sync::LazyLock;

pub use super::endpoint::{Dialect, Endpoint};
use super::routes::builtin_routes;

/// Returns whether requests of a method can carry a prompt.
pub fn has_prompt_method(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH")
}

/// Returns the endpoint of a path by the built-in routes; [`Endpoint::Unknown`] if none matches.
///
/// ```
/// # use hedgerow_core::http::route::{Endpoint, builtin_endpoint};
/// assert_eq!(builtin_endpoint("/api/v1/chat/completions"), Endpoint::OpenaiChat);
/// assert_eq!(builtin_endpoint("/v1/models"), Endpoint::Unknown);
/// ```
pub fn builtin_endpoint(path: &str) -> Endpoint {
    let path = canonical_segments(path);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    INDEX.find(&path).unwrap_or(Endpoint::Unknown)
}

/// The built-in routes, indexed by the last segment of their patterns.
static INDEX: LazyLock<RouteIndex> = LazyLock::new(|| RouteIndex::new(builtin_routes()));

/// An index of routes, which finds the first match without a comparison of every route.
struct RouteIndex {
    /// Pattern segments and endpoint of each route, in order.
    routes: Vec<(Vec<&'static str>, Endpoint)>,
    /// Last segment of each pattern, if it has no wildcard, and the position of the route; sorted.
    by_last_segment: Vec<(&'static str, usize)>,
    /// Verb of each pattern that ends with `*:verb`, and the position of the route; sorted.
    by_verb: Vec<(&'static str, usize)>,
    /// Positions of all other routes, each with a segment that every matching path has; `None` if
    /// its pattern has no segment without wildcard.
    others: Vec<(Option<&'static str>, usize)>,
}

impl RouteIndex {
    fn new(routes: impl Iterator<Item = (&'static str, Endpoint)>) -> Self {
        let mut index = Self {
            routes: Vec::new(),
            by_last_segment: Vec::new(),
            by_verb: Vec::new(),
            others: Vec::new(),
        };
        for (position, (pattern, endpoint)) in routes.enumerate() {
            let last_segment = pattern.rsplit('/').next().unwrap_or_default();
            match last_segment.strip_prefix("*:") {
                Some(verb) if !verb.contains(['*', ':']) => index.by_verb.push((verb, position)),
                None if !last_segment.contains('*') => {
                    index.by_last_segment.push((last_segment, position))
                }
                _ => {
                    let literal = pattern_segments(pattern)
                        .into_iter()
                        .rfind(|segment| !segment.contains('*'));
                    index.others.push((literal, position));
                }
            }
            index.routes.push((pattern_segments(pattern), endpoint));
        }
        index.by_last_segment.sort_unstable();
        index.by_verb.sort_unstable();
        index
    }

    /// Returns the endpoint of the first route that matches; `None` if none matches.
    fn find(&self, path: &[&str]) -> Option<Endpoint> {
        let last_segment = path.last().copied().unwrap_or_default();
        let verb = last_segment.rsplit_once(':').map(|(_, verb)| verb);
        let by_last_segment = positions(&self.by_last_segment, last_segment);
        let by_verb = verb.into_iter().flat_map(|verb| positions(&self.by_verb, verb));
        let has_segment =
            |literal: &Option<&str>| literal.is_none_or(|literal| path.contains(&literal));
        let others = self.others.iter().filter(|(literal, _)| has_segment(literal));
        let others = others.map(|(_, position)| *position);
        let candidates = by_last_segment.chain(by_verb).chain(others);
        let matching = candidates.filter_map(|position| {
            let (pattern, endpoint) = self.routes.get(position)?;
            segments_match(pattern, path).then_some((position, *endpoint))
        });
        matching.min_by_key(|(position, _)| *position).map(|(_, endpoint)| endpoint)
    }
}

/// Returns the positions of a key in a sorted list.
fn positions<'t>(
    sorted: &'t [(&'static str, usize)],
    key: &'t str,
) -> impl Iterator<Item = usize> + 't {
    let start = sorted.partition_point(|(other, _)| *other < key);
    let entries = sorted.get(start..).unwrap_or_default().iter();
    entries.take_while(move |(other, _)| *other == key).map(|(_, position)| *position)
}

/// Returns the segments of a pattern that are not empty.
fn pattern_segments(pattern: &str) -> Vec<&str> {
    pattern.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Returns whether a path matches a pattern: `**` matches any number of segments, `*` any part of
/// one segment.
///
/// The path is normalised as lenient servers do, so that another spelling of a path is not a
/// bypass. Percent-encoding is decoded, dot segments are resolved, and backslashes become slashes.
/// Matrix parameters and spaces around segments are removed. Case, repeated slashes and trailing
/// slashes are ignored.
pub fn path_matches(pattern: &str, path: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let pattern = pattern_segments(&pattern);
    let path = canonical_segments(path);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    segments_match(&pattern, &path)
}

/// Returns the last [`MAX_SEGMENTS`] segments of a path, normalised as in [`path_matches`].
fn canonical_segments(path: &str) -> Vec<String> {
    let decoded = percent_decode(path).replace('\\', "/");
    let mut segments: Vec<String> = Vec::new();
    for segment in decoded.split('/') {
        let segment = segment.split(';').next().unwrap_or_default().trim();
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment.to_ascii_lowercase()),
        }
    }
    segments.split_off(segments.len().saturating_sub(MAX_SEGMENTS))
}

/// Decodes percent-encoding; malformed escapes stay as they are.
fn percent_decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut remaining = path.as_bytes();
    while let Some((first, tail)) = remaining.split_first() {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                remaining = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                remaining = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns whether path segments match pattern segments. Compares from the last segment to the
/// first, because most patterns differ at the end. The time is at most proportional to the product
/// of the lengths, whatever the pattern: of several `**`, only the last one reached needs to be
/// tried with more segments.
fn segments_match(pattern: &[&str], path: &[&str]) -> bool {
    let (mut pattern, mut path) = (pattern, path);
    // The pattern before the last `**` and the path that it has to match.
    let mut retry = None;
    loop {
        match (pattern.split_last(), path.split_last()) {
            (None, None) => return true,
            (Some((&"**", before)), _) => {
                retry = Some((before, path));
                pattern = before;
            }
            (Some((pattern_segment, before)), Some((segment, parent)))
                if wildcard_matches(pattern_segment, segment) =>
            {
                (pattern, path) = (before, parent);
            }
            _ => {
                // The `**` matches one segment more.
                let Some((before, longer)) = retry else { return false };
                let Some((_, shorter)) = longer.split_last() else { return false };
                retry = Some((before, shorter));
                (pattern, path) = (before, shorter);
            }
        }
    }
}

/// Returns whether a text matches a pattern, in which `*` matches any part. The time is at most
/// proportional to the product of the lengths, whatever the pattern.
pub(crate) fn wildcard_matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut remaining) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        // The earliest occurrence leaves the most text for the parts that follow.
        let Some((_, after)) = remaining.split_once(part) else { return false };
        remaining = after;
    }
    remaining.ends_with(tail)
}

/// Maximum number of segments that are compared: the last segments of a path identify the endpoint.
const MAX_SEGMENTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_routes_map_paths_to_endpoints() {
        let rows = [
            ("/v1/chat/completions", Endpoint::OpenaiChat),
            ("/v1/chat/completions/", Endpoint::OpenaiChat),
            ("//v1//chat/completions", Endpoint::OpenaiChat),
            ("/v1/chat/completions/.", Endpoint::OpenaiChat),
            ("/v1/chat/x/../completions", Endpoint::OpenaiChat),
            ("/v1/chat\\completions", Endpoint::OpenaiChat),
            ("/v1/chat/%63ompletions", Endpoint::OpenaiChat),
            ("/v1/chat%2Fcompletions%20", Endpoint::OpenaiChat),
            ("/v1/Chat/Completions;a=1", Endpoint::OpenaiChat),
            ("/v1beta/models/g%3AgenerateContent", Endpoint::GeminiGenerate),
            ("/%", Endpoint::Unknown),
            ("/%zz%2", Endpoint::Unknown),
            ("/openai/deployments/x/chat/completions", Endpoint::OpenaiChat),
            ("/api/v1/chat/completions", Endpoint::OpenaiChat),
            ("/v1/engines/davinci/completions", Endpoint::OpenaiCompletions),
            ("/v1/responses", Endpoint::OpenaiResponses),
            ("/v1/responses/resp_1", Endpoint::Unknown),
            ("/v1/embeddings", Endpoint::OpenaiEmbeddings),
            ("/v1/files", Endpoint::OpenaiFiles),
            ("/files", Endpoint::OpenaiFiles),
            ("/base/v1/files", Endpoint::OpenaiFiles),
            ("/users/ada/files", Endpoint::Unknown),
            ("/v1/batches", Endpoint::OpenaiBatches),
            ("/v1/messages", Endpoint::AnthropicMessages),
            ("/v1/messages/count_tokens", Endpoint::AnthropicCountTokens),
            ("/v1/messages/batches", Endpoint::AnthropicBatches),
            ("/v1/messages/batches/b1/results", Endpoint::Unknown),
            ("/v1/threads/t1/messages", Endpoint::OpenaiOther),
            ("/v1/threads/t1/messages/m1", Endpoint::Unknown),
            ("/base/model/us.c/converse", Endpoint::Generic),
            ("/v1beta/models/vertex_ai/g:generateContent", Endpoint::GeminiGenerate),
            ("/v1internal:streamGenerateContent", Endpoint::GeminiGenerate),
            ("/v1/responses/compact", Endpoint::OpenaiResponses),
            ("/accounts/a/ai/run/@cf/meta/llama", Endpoint::Generic),
            ("/v2/embed", Endpoint::GenericEmbeddings),
            ("/v1.1/chat", Endpoint::Generic),
            ("/chat", Endpoint::Unknown),
            ("/v1beta/models/gemini-3-pro:generateContent", Endpoint::GeminiGenerate),
            ("/v1beta/models/gemini-3-pro:streamGenerateContent", Endpoint::GeminiGenerate),
            ("/v1beta/models/e:embedContent", Endpoint::GeminiEmbed),
            ("/v1beta/models", Endpoint::Unknown),
            ("/model/anthropic.claude/invoke", Endpoint::Generic),
            (
                "/model/arn%3Aaws%3Abedrock%3Ax%3A1%3Ainference-profile%2Fus.c/invoke",
                Endpoint::Generic,
            ),
            ("/v1/chat/completions/batch", Endpoint::OpenaiChat),
            ("/v1/chat/completions/chatcmpl-1", Endpoint::Unknown),
            ("/v1/uploads/upload_1/parts", Endpoint::OpenaiFiles),
            ("/v1/uploads", Endpoint::Unknown),
            ("/v1/conversations/conv_1/items", Endpoint::OpenaiResponses),
            ("/v1/projects/p/publishers/mistralai/models/m:rawPredict", Endpoint::GeminiOther),
            (
                "/v1/projects/p/publishers/anthropic/models/m:rawPredict",
                Endpoint::AnthropicMessages,
            ),
            ("/generate", Endpoint::Generic),
            ("/base/generate", Endpoint::Generic),
            ("/generate/report", Endpoint::Unknown),
            ("/", Endpoint::Unknown),
        ];
        for (path, endpoint) in rows {
            assert_eq!(builtin_endpoint(path), endpoint, "{path}");
        }
    }

    #[test]
    fn patterns_match_paths() {
        let rows = [
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/c", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**/z", "/a/b/c/z", true),
            ("/a/**/z", "/b/z", false),
            ("/a/x*y*z", "/a/x--y--z", true),
            ("/a/x*y*z", "/a/x--z", false),
            ("**", "/anything/at/all", true),
        ];
        for (pattern, path, expected) in rows {
            assert_eq!(path_matches(pattern, path), expected, "{pattern} {path}");
        }
        assert!(!path_matches("**/a/**/a/**/b", &"/a".repeat(5_000)));
        // These patterns took hours: the time grew with each wildcard.
        assert!(!path_matches(&format!("{}/b", "/**/a".repeat(60)), &"/a".repeat(64)));
        assert!(!path_matches(
            &format!("/{}b", "*a".repeat(120)),
            &format!("/{}", "a".repeat(500))
        ));
        assert_eq!(
            builtin_endpoint(&format!("{}v1/messages", "/x".repeat(100) + "/")),
            Endpoint::AnthropicMessages
        );
    }

    #[test]
    fn patterns_are_normalised_and_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for (pattern, _) in builtin_routes() {
            assert_eq!(pattern, pattern.to_ascii_lowercase());
            assert!(seen.insert(pattern), "{pattern} is in the table twice");
        }
    }

    /// Returns the endpoint of the first route whose pattern matches, by a scan of the table.
    fn naive_endpoint(path: &str) -> Endpoint {
        let mut routes = builtin_routes();
        routes
            .find(|(pattern, _)| path_matches(pattern, path))
            .map_or(Endpoint::Unknown, |(_, endpoint)| endpoint)
    }

    /// Returns whether segments match, by trying every number of segments for each `**`.
    fn naive_segments_match(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => {
                (0..=path.len()).any(|count| naive_segments_match(rest, &path[count..]))
            }
            (Some((pattern_segment, rest)), Some((segment, path))) => {
                naive_wildcard_matches(pattern_segment.as_bytes(), segment.as_bytes())
                    && naive_segments_match(rest, path)
            }
            _ => false,
        }
    }

    fn naive_wildcard_matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                (0..=text.len()).any(|count| naive_wildcard_matches(rest, &text[count..]))
            }
            (Some((expected, rest)), Some((byte, text))) => {
                expected == byte && naive_wildcard_matches(rest, text)
            }
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn wildcards_match_like_a_search_of_all_possibilities(
            pattern in proptest::collection::vec("[ab*]{1,5}|\\*\\*", 0..6),
            path in proptest::collection::vec("[ab]{1,5}", 0..7),
        ) {
            let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(
                segments_match(&pattern, &path),
                naive_segments_match(&pattern, &path),
                "{:?} {:?}", pattern, path
            );
        }

        /// Paths are made of segments of the table, so that many of them match several routes.
        #[test]
        fn the_index_equals_a_scan_of_the_table(
            segments in proptest::collection::vec(table_segment(), 0..7),
        ) {
            let path = format!("/{}", segments.join("/"));
            proptest::prop_assert_eq!(builtin_endpoint(&path), naive_endpoint(&path), "{}", path);
        }

        #[test]
        fn an_instance_of_each_pattern_has_the_endpoint_of_a_scan(
            route in proptest::prelude::any::<proptest::sample::Index>(),
            base in proptest::sample::select(&["", "/base", "/a/b"]),
        ) {
            let routes: Vec<_> = builtin_routes().collect();
            let (pattern, _) = routes[route.index(routes.len())];
            let path = format!("{base}/{}", pattern.replace("**/", "x/y/").replace('*', "z"));
            proptest::prop_assert_eq!(builtin_endpoint(&path), naive_endpoint(&path), "{}", path);
        }
    }

    /// Returns segments of the table's patterns, with wildcards filled in.
    fn table_segment() -> impl proptest::strategy::Strategy<Value = String> {
        let segments: std::collections::BTreeSet<String> = builtin_routes()
            .flat_map(|(pattern, _)| pattern_segments(pattern))
            .map(|segment| segment.replace('*', "x"))
            .collect();
        proptest::sample::select(segments.into_iter().collect::<Vec<_>>())
    }
}
