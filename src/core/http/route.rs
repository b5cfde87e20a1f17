//! Routes: the path of a request decides whether it is an LLM call, and the format of its body.

use serde::{Deserialize, Serialize};

/// An endpoint of an LLM API, which decides the format of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// OpenAI chat completions.
    #[serde(rename = "openai.chat")]
    OpenaiChat,
    /// OpenAI responses.
    #[serde(rename = "openai.responses")]
    OpenaiResponses,
    /// OpenAI completions, also under `/engines/<model>/`.
    #[serde(rename = "openai.completions")]
    OpenaiCompletions,
    /// OpenAI embeddings.
    #[serde(rename = "openai.embeddings")]
    OpenaiEmbeddings,
    /// Events of an OpenAI WebSocket: Realtime, or Responses.
    #[serde(rename = "openai.realtime")]
    OpenaiRealtime,
    /// OpenAI file upload; an LLM call if its purpose is `batch`.
    #[serde(rename = "openai.files")]
    OpenaiFiles,
    /// The start of an OpenAI batch over an uploaded file.
    #[serde(rename = "openai.batches")]
    OpenaiBatches,
    /// Anthropic messages.
    #[serde(rename = "anthropic.messages")]
    AnthropicMessages,
    /// Anthropic token counting.
    #[serde(rename = "anthropic.count_tokens")]
    AnthropicCountTokens,
    /// Anthropic message batches.
    #[serde(rename = "anthropic.batches")]
    AnthropicBatches,
    /// Gemini generateContent and streamGenerateContent.
    #[serde(rename = "gemini.generate")]
    GeminiGenerate,
    /// Gemini countTokens.
    #[serde(rename = "gemini.count_tokens")]
    GeminiCountTokens,
    /// Gemini embedContent.
    #[serde(rename = "gemini.embed")]
    GeminiEmbed,
    /// Gemini batchEmbedContents.
    #[serde(rename = "gemini.embed_batch")]
    GeminiEmbedBatch,
    /// Gemini batchGenerateContent.
    #[serde(rename = "gemini.batches")]
    GeminiBatches,
    /// Messages of a Gemini Live WebSocket.
    #[serde(rename = "gemini.live")]
    GeminiLive,
    /// Any other LLM call.
    #[serde(rename = "generic")]
    Generic,
    /// A path that is not a known endpoint. It is an LLM call if its body holds a prompt.
    #[serde(rename = "unknown")]
    Unknown,
    /// Not an LLM call: forwarded unchanged and not counted.
    #[serde(rename = "none")]
    None,
}

/// The wire format of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI and compatible servers.
    Openai,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini API and Vertex AI.
    Gemini,
    /// Unknown: strings under well-known keys are read.
    Generic,
}

impl Endpoint {
    /// Returns the dialect of the endpoint's bodies.
    pub fn dialect(self) -> Dialect {
        use Endpoint::*;
        match self {
            OpenaiChat | OpenaiResponses | OpenaiCompletions | OpenaiEmbeddings
            | OpenaiRealtime | OpenaiFiles | OpenaiBatches => Dialect::Openai,
            AnthropicMessages | AnthropicCountTokens | AnthropicBatches => Dialect::Anthropic,
            GeminiGenerate | GeminiCountTokens | GeminiEmbed | GeminiEmbedBatch | GeminiBatches
            | GeminiLive => Dialect::Gemini,
            Generic | Unknown | None => Dialect::Generic,
        }
    }

    /// Returns OpenTelemetry's `gen_ai.operation.name`; `count_tokens` and `batch` are additions.
    pub fn operation(self) -> &'static str {
        use Endpoint::*;
        match self {
            OpenaiChat | OpenaiResponses | OpenaiRealtime | AnthropicMessages | Generic
            | Unknown | None => "chat",
            OpenaiCompletions => "text_completion",
            OpenaiEmbeddings | GeminiEmbed | GeminiEmbedBatch => "embeddings",
            AnthropicCountTokens | GeminiCountTokens => "count_tokens",
            OpenaiFiles | OpenaiBatches | AnthropicBatches | GeminiBatches => "batch",
            GeminiGenerate | GeminiLive => "generate_content",
        }
    }
}

impl Dialect {
    /// Returns OpenTelemetry's `gen_ai.provider.name`; `generic` is an addition.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Gemini => "gcp.gemini",
            _ => self.name(),
        }
    }

    /// Returns the name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Generic => "generic",
        }
    }
}

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
    let Some(last_segment) = path.last() else { return Endpoint::Unknown };
    let matches_path = |pattern: &str| {
        // The last segment rules out almost every route.
        pattern
            .rsplit('/')
            .next()
            .is_some_and(|pattern_segment| segment_matches(pattern_segment, last_segment))
            && {
                let pattern_segments: Vec<&str> =
                    pattern.split('/').filter(|segment| !segment.is_empty()).collect();
                segments_match(&pattern_segments, &path)
            }
    };
    let route = BUILTIN_ROUTES.iter().find(|(pattern, _)| matches_path(pattern));
    route.map_or(Endpoint::Unknown, |(_, endpoint)| *endpoint)
}

/// Returns whether a path matches a pattern: `**` matches any number of segments, `*` any part of
/// one.
///
/// The path is normalised as lenient servers do, so that spelling is not a bypass: percent-encoding
/// is decoded, dot segments are resolved, backslashes are slashes, matrix parameters and outer
/// spaces are removed, and case, repeated slashes and trailing slashes are ignored.
pub fn path_matches(pattern: &str, path: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let pattern: Vec<&str> = pattern.split('/').filter(|segment| !segment.is_empty()).collect();
    let path = canonical_segments(path);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    segments_match(&pattern, &path)
}

/// Returns the last [`MAX_SEGMENTS`] segments of a path, normalised as lenient servers do.
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

/// Compares segments from the last to the first, where most patterns differ.
fn segments_match(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_last(), path.split_last()) {
        (None, None) => true,
        (Some((&"**", pattern)), None) => segments_match(pattern, path),
        (Some((&"**", shorter_pattern)), Some((_, shorter_path))) => {
            segments_match(shorter_pattern, path) || segments_match(pattern, shorter_path)
        }
        (Some((pattern_segment, pattern)), Some((segment, path))) => {
            segment_matches(pattern_segment, segment) && segments_match(pattern, path)
        }
        _ => false,
    }
}

/// Returns whether a path segment matches a pattern segment, in which `*` matches any part.
fn segment_matches(pattern: &str, segment: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == segment };
    let Some(remaining) = segment.strip_prefix(head) else { return false };
    if !tail.contains('*') {
        return remaining.ends_with(tail);
    }
    let mut starts = remaining.char_indices().map(|(index, _)| index).chain([remaining.len()]);
    starts.any(|start| remaining.get(start..).is_some_and(|suffix| segment_matches(tail, suffix)))
}

/// Maximum number of segments that are compared: the last segments of a path identify the endpoint.
const MAX_SEGMENTS: usize = 64;

/// The built-in routes, in lower case; the first match counts.
pub const BUILTIN_ROUTES: &[(&str, Endpoint)] = &[
    ("**/threads/*/messages", Endpoint::None),
    ("**/chat/completions", Endpoint::OpenaiChat),
    ("**/chat/completions/batch", Endpoint::OpenaiChat),
    ("**/completions", Endpoint::OpenaiCompletions),
    ("**/responses", Endpoint::OpenaiResponses),
    ("**/embeddings", Endpoint::OpenaiEmbeddings),
    ("**/v1/files", Endpoint::OpenaiFiles),
    ("**/openai/files", Endpoint::OpenaiFiles),
    ("**/v1/uploads/*/parts", Endpoint::OpenaiFiles),
    ("**/openai/uploads/*/parts", Endpoint::OpenaiFiles),
    ("**/v1/conversations", Endpoint::OpenaiResponses),
    ("**/v1/conversations/*/items", Endpoint::OpenaiResponses),
    ("**/messages/batches", Endpoint::AnthropicBatches),
    ("**/v1/batches", Endpoint::OpenaiBatches),
    ("**/openai/batches", Endpoint::OpenaiBatches),
    ("**/messages", Endpoint::AnthropicMessages),
    ("**/messages/count_tokens", Endpoint::AnthropicCountTokens),
    ("**/anthropic/models/*:rawpredict", Endpoint::AnthropicMessages),
    ("**/anthropic/models/*:streamrawpredict", Endpoint::AnthropicMessages),
    ("**/models/*:generatecontent", Endpoint::GeminiGenerate),
    ("**/models/*:streamgeneratecontent", Endpoint::GeminiGenerate),
    ("**/models/*:counttokens", Endpoint::GeminiCountTokens),
    ("**/models/*:embedcontent", Endpoint::GeminiEmbed),
    ("**/models/*:batchembedcontents", Endpoint::GeminiEmbedBatch),
    ("**/models/*:batchgeneratecontent", Endpoint::GeminiBatches),
    ("**/tunedmodels/*:generatecontent", Endpoint::GeminiGenerate),
    ("**/tunedmodels/*:streamgeneratecontent", Endpoint::GeminiGenerate),
    ("**/dynamic/*:generatecontent", Endpoint::GeminiGenerate),
    ("**/dynamic/*:streamgeneratecontent", Endpoint::GeminiGenerate),
    ("**/endpoints/*:generatecontent", Endpoint::GeminiGenerate),
    ("**/endpoints/*:streamgeneratecontent", Endpoint::GeminiGenerate),
    // Vertex AI: models of other publishers have formats of their own.
    ("**/models/*:rawpredict", Endpoint::Generic),
    ("**/models/*:streamrawpredict", Endpoint::Generic),
    // Bedrock: names of inference profiles contain percent-encoded slashes.
    ("/model/**/invoke", Endpoint::Generic),
    ("/model/**/invoke-with-response-stream", Endpoint::Generic),
    ("/model/**/converse", Endpoint::Generic),
    ("/model/**/converse-stream", Endpoint::Generic),
    // SageMaker, vLLM, llama.cpp, text-generation-inference.
    ("/invocations", Endpoint::Generic),
    ("/inference/v1/generate", Endpoint::Generic),
    ("/completion", Endpoint::OpenaiCompletions),
    ("/generate", Endpoint::Generic),
    ("/generate_stream", Endpoint::Generic),
    ("**/api/chat", Endpoint::Generic),
    ("**/api/generate", Endpoint::Generic),
    ("**/v1/chat", Endpoint::Generic),
    ("**/v2/chat", Endpoint::Generic),
    ("**/v1/complete", Endpoint::Generic),
];

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
            ("/files", Endpoint::Unknown),
            ("/v1/batches", Endpoint::OpenaiBatches),
            ("/v1/messages", Endpoint::AnthropicMessages),
            ("/v1/messages/count_tokens", Endpoint::AnthropicCountTokens),
            ("/v1/messages/batches", Endpoint::AnthropicBatches),
            ("/v1/messages/batches/b1/results", Endpoint::Unknown),
            ("/v1/threads/t1/messages", Endpoint::None),
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
            ("/v1/projects/p/publishers/mistralai/models/m:rawPredict", Endpoint::Generic),
            (
                "/v1/projects/p/publishers/anthropic/models/m:rawPredict",
                Endpoint::AnthropicMessages,
            ),
            ("/generate", Endpoint::Generic),
            ("/reports/generate", Endpoint::Unknown),
            ("/", Endpoint::Unknown),
            ("", Endpoint::Unknown),
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
        assert_eq!(
            builtin_endpoint(&format!("{}v1/messages", "/x".repeat(100) + "/")),
            Endpoint::AnthropicMessages
        );
    }
}
