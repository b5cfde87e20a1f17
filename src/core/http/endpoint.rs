//! Endpoints of LLM APIs, and the wire formats of their providers.

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
    /// OpenAI file upload; an LLM call if a file holds requests, training data or text for a model.
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
    /// Events of an OpenAI WebSocket: Realtime, or Responses.
    #[serde(rename = "openai.realtime")]
    OpenaiRealtime,
    /// Any other call of OpenAI's API with a prompt: assistants, threads, images, speech, graders.
    #[serde(rename = "openai.other")]
    OpenaiOther,
    /// Any other call of Anthropic's API with a prompt: files, agents, sessions.
    #[serde(rename = "anthropic.other")]
    AnthropicOther,
    /// Messages of a Gemini Live WebSocket.
    #[serde(rename = "gemini.live")]
    GeminiLive,
    /// Any other call of Google's APIs with a prompt: predictions, interactions, files.
    #[serde(rename = "gemini.other")]
    GeminiOther,
    /// Embeddings of another API.
    #[serde(rename = "generic.embeddings")]
    GenericEmbeddings,
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
    /// Returns the dialect of the caller, which decides the format of errors.
    pub fn dialect(self) -> Dialect {
        use Endpoint::*;
        match self {
            OpenaiChat | OpenaiResponses | OpenaiCompletions | OpenaiEmbeddings | OpenaiFiles
            | OpenaiBatches | OpenaiOther | OpenaiRealtime => Dialect::Openai,
            AnthropicMessages | AnthropicCountTokens | AnthropicBatches | AnthropicOther => {
                Dialect::Anthropic
            }
            GeminiGenerate | GeminiCountTokens | GeminiEmbed | GeminiEmbedBatch | GeminiBatches
            | GeminiOther | GeminiLive => Dialect::Gemini,
            Generic | GenericEmbeddings | Unknown | None => Dialect::Generic,
        }
    }

    /// Returns the dialect of the body, which selects the reader. The result is
    /// [`Dialect::Generic`] for calls that have a body format of their own, such as
    /// [`Endpoint::OpenaiOther`].
    pub fn body_dialect(self) -> Dialect {
        match self {
            Self::OpenaiOther | Self::AnthropicOther | Self::GeminiOther => Dialect::Generic,
            endpoint => endpoint.dialect(),
        }
    }

    /// Returns OpenTelemetry's `gen_ai.operation.name`, or one of Hedgerow's additions:
    /// `count_tokens` and `batch`.
    pub fn operation(self) -> &'static str {
        use Endpoint::*;
        match self {
            OpenaiChat | OpenaiResponses | OpenaiOther | OpenaiRealtime | AnthropicMessages
            | AnthropicOther | GeminiOther | Generic | Unknown | None => "chat",
            OpenaiCompletions => "text_completion",
            OpenaiEmbeddings | GeminiEmbed | GeminiEmbedBatch | GenericEmbeddings => "embeddings",
            AnthropicCountTokens | GeminiCountTokens => "count_tokens",
            OpenaiFiles | OpenaiBatches | AnthropicBatches | GeminiBatches => "batch",
            GeminiGenerate | GeminiLive => "generate_content",
        }
    }
}

impl Dialect {
    /// Returns OpenTelemetry's `gen_ai.provider.name`, or Hedgerow's addition `generic`.
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
