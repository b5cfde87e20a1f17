//! The table of built-in routes: the paths of LLM APIs that make a model generate, embed, rank or
//! grade, or that store prompts which a model will run.
//!
//! `hedgerow docs` generates `docs/routes.md` from this table.

use super::endpoint::Endpoint;
use super::endpoint::Endpoint::*;

/// The routes of one API.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Vendor or server, for docs/routes.md.
    pub name: &'static str,
    /// Pairs of a path pattern in lower case and the endpoint of the matching paths.
    pub routes: &'static [(&'static str, Endpoint)],
}

/// Returns the routes of all APIs; the first match counts.
pub fn builtin_routes() -> impl Iterator<Item = (&'static str, Endpoint)> {
    BUILTIN_APIS.iter().flat_map(|api| api.routes.iter().copied())
}

/// The built-in routes, by API.
pub const BUILTIN_APIS: &[Api] = &[
    Api {
        name: "OpenAI, Azure OpenAI and compatible servers",
        routes: &[
            ("**/chat/completions", OpenaiChat),
            ("**/chat/completions/batch", OpenaiChat),
            ("**/completions", OpenaiCompletions),
            ("**/responses", OpenaiResponses),
            ("**/responses/compact", OpenaiResponses),
            ("**/responses/input_tokens", OpenaiResponses),
            ("**/embeddings", OpenaiEmbeddings),
            ("/files", OpenaiFiles),
            ("**/v*/files", OpenaiFiles),
            ("**/openai/files", OpenaiFiles),
            ("**/uploads/*/parts", OpenaiFiles),
            ("**/v1/batches", OpenaiBatches),
            ("**/openai/batches", OpenaiBatches),
            ("**/conversations", OpenaiResponses),
            ("**/conversations/*/items", OpenaiResponses),
            ("**/assistants", OpenaiOther),
            ("**/assistants/*", OpenaiOther),
            ("**/threads", OpenaiOther),
            ("**/threads/runs", OpenaiOther),
            ("**/threads/*/messages", OpenaiOther),
            ("**/threads/*/runs", OpenaiOther),
            ("**/threads/*/runs/*/submit_tool_outputs", OpenaiOther),
            ("**/realtime/sessions", OpenaiOther),
            ("**/realtime/client_secrets", OpenaiOther),
            ("**/realtime/transcription_sessions", OpenaiOther),
            ("**/realtime/calls", OpenaiOther),
            ("**/realtime/calls/*/accept", OpenaiOther),
            ("**/images/generations", OpenaiOther),
            ("**/images/generations:submit", OpenaiOther),
            ("**/images/edits", OpenaiOther),
            ("**/videos", OpenaiOther),
            ("**/videos/*/remix", OpenaiOther),
            ("**/videos/generations", OpenaiOther),
            ("**/video/generations", OpenaiOther),
            ("**/video/generations/jobs", OpenaiOther),
            ("**/audio/speech", OpenaiOther),
            ("**/audio/transcriptions", OpenaiOther),
            ("**/audio/translations", OpenaiOther),
            ("**/v1/edits", OpenaiOther),
            ("**/evals", OpenaiOther),
            ("**/evals/*/runs", OpenaiOther),
            ("**/graders/run", OpenaiOther),
            ("**/graders/validate", OpenaiOther),
            ("**/fine_tuning/jobs", OpenaiOther),
            ("**/vector_stores/*/search", OpenaiOther),
            ("**/chatkit/sessions", OpenaiOther),
        ],
    },
    Api {
        name: "Anthropic",
        routes: &[
            ("**/messages", AnthropicMessages),
            ("**/messages/count_tokens", AnthropicCountTokens),
            ("**/messages/batches", AnthropicBatches),
            ("**/v1/complete", Generic),
            ("**/v1/agents", AnthropicOther),
            ("**/v1/agents/*", AnthropicOther),
            ("**/v1/sessions/*/events", AnthropicOther),
            ("**/v1/skills", AnthropicOther),
            ("**/v1/skills/*/versions", AnthropicOther),
            ("**/experimental/generate_prompt", AnthropicOther),
            ("**/experimental/improve_prompt", AnthropicOther),
            ("**/experimental/templatize_prompt", AnthropicOther),
        ],
    },
    Api {
        name: "Gemini API and Vertex AI",
        routes: &[
            ("**/*:generatecontent", GeminiGenerate),
            ("**/*:streamgeneratecontent", GeminiGenerate),
            ("**/*:generateanswer", GeminiGenerate),
            ("**/*:counttokens", GeminiCountTokens),
            ("**/*:computetokens", GeminiCountTokens),
            ("**/*:embedcontent", GeminiEmbed),
            ("**/*:batchembedcontents", GeminiEmbedBatch),
            ("**/*:asyncbatchembedcontent", GeminiEmbedBatch),
            ("**/*:batchgeneratecontent", GeminiBatches),
            ("**/interactions", GeminiOther),
            ("**/cachedcontents", GeminiOther),
            ("**/tunedmodels", GeminiOther),
            ("**/tuningjobs", GeminiOther),
            ("**/*:generatetext", GeminiOther),
            ("**/*:generatemessage", GeminiOther),
            ("**/upload/v1beta/files", GeminiOther),
            ("**/batch/v1beta", GeminiOther),
            ("**/anthropic/models/**/*:rawpredict", AnthropicMessages),
            ("**/anthropic/models/**/*:streamrawpredict", AnthropicMessages),
            // Models of other publishers have their own formats.
            ("**/*:rawpredict", GeminiOther),
            ("**/*:streamrawpredict", GeminiOther),
            ("**/*:predict", GeminiOther),
            ("**/*:predictlongrunning", GeminiOther),
            ("**/*:serverstreamingpredict", GeminiOther),
            ("**/*:streamingpredict", GeminiOther),
            ("**/*:directpredict", GeminiOther),
            ("**/*:directrawpredict", GeminiOther),
            ("**/*:evaluateinstances", GeminiOther),
            ("**/*:augmentprompt", GeminiOther),
            ("**/reasoningengines/*:query", GeminiOther),
            ("**/reasoningengines/*:streamquery", GeminiOther),
            ("**/google.ai.generativelanguage.*/*", GeminiOther),
            ("**/google.cloud.aiplatform.*/*", GeminiOther),
        ],
    },
    Api {
        name: "Amazon Bedrock",
        routes: &[
            // Names of inference profiles contain percent-encoded slashes.
            ("**/model/**/invoke", Generic),
            ("**/model/**/invoke-with-response-stream", Generic),
            ("**/model/**/invoke-with-bidirectional-stream", Generic),
            ("**/model/**/converse", Generic),
            ("**/model/**/converse-stream", Generic),
            ("**/model/**/count-tokens", Generic),
            ("**/async-invoke", Generic),
            ("**/retrieveandgenerate", Generic),
            ("**/retrieveandgeneratestream", Generic),
            ("**/knowledgebases/*/retrieve", Generic),
            ("**/agents/*/agentaliases/*/sessions/*/text", Generic),
            ("/agents/*", Generic),
            ("**/flows/*/aliases/*", Generic),
            ("**/optimize-prompt", Generic),
            ("/prompts", Generic),
        ],
    },
    Api {
        name: "Cohere, Jina, Voyage and Together",
        routes: &[
            ("**/v*/chat", Generic),
            ("**/v1/summarize", Generic),
            ("**/embed", GenericEmbeddings),
            ("**/rerank", Generic),
            ("**/classify", Generic),
        ],
    },
    Api {
        name: "Mistral",
        routes: &[
            ("**/v1/conversations/*", Generic),
            ("**/v1/conversations/*/restart", Generic),
            ("**/batch/jobs", Generic),
            ("**/v1/ocr", Generic),
            ("**/classifications", Generic),
        ],
    },
    Api { name: "Ollama", routes: &[("**/api/chat", Generic), ("**/api/create", Generic)] },
    Api {
        name: "Hugging Face: text-generation-inference, embeddings, inference API",
        routes: &[
            ("**/generate", Generic),
            ("**/generate_stream", Generic),
            ("**/embed_all", GenericEmbeddings),
            ("**/embed_sparse", GenericEmbeddings),
            ("/predict", Generic),
            ("/models/**", Generic),
            ("**/hf-inference/models/**", Generic),
            ("**/pipeline/*/**", Generic),
        ],
    },
    Api {
        name: "vLLM and SGLang",
        routes: &[
            ("**/score", Generic),
            ("**/pooling", GenericEmbeddings),
            ("/encode", GenericEmbeddings),
        ],
    },
    Api {
        name: "KServe and Triton",
        routes: &[
            ("**/v2/models/**/infer", Generic),
            ("**/inference.grpcinferenceservice/modelinfer", Generic),
            ("**/inference.grpcinferenceservice/modelstreaminfer", Generic),
        ],
    },
    Api {
        name: "llama.cpp and KoboldCpp",
        routes: &[
            ("**/completion", OpenaiCompletions),
            ("**/infill", Generic),
            ("**/embedding", GenericEmbeddings),
            ("**/api/extra/generate/stream", Generic),
            ("**/sdapi/v1/txt2img", Generic),
            ("**/sdapi/v1/img2img", Generic),
        ],
    },
    Api {
        name: "SageMaker, Databricks and MLflow",
        routes: &[
            ("**/invocations", Generic),
            ("**/invocations-response-stream", Generic),
            ("**/async-invocations", Generic),
        ],
    },
    Api {
        name: "Cloudflare Workers AI",
        routes: &[("**/ai/run", Generic), ("**/ai/run/**", Generic)],
    },
    Api {
        name: "Replicate",
        routes: &[
            ("**/v1/predictions", Generic),
            ("**/v1/models/*/*/predictions", Generic),
            ("**/v1/deployments/*/*/predictions", Generic),
        ],
    },
    Api {
        name: "IBM watsonx",
        routes: &[
            ("**/text/generation", Generic),
            ("**/text/generation_stream", Generic),
            ("**/text/chat", Generic),
            ("**/text/chat_stream", Generic),
        ],
    },
    Api {
        name: "Snowflake Cortex",
        routes: &[
            ("**/cortex/inference:complete", Generic),
            ("**/cortex/inference:embed", GenericEmbeddings),
            ("**/cortex/agent:run", Generic),
            ("**/cortex/analyst/message", Generic),
        ],
    },
    Api {
        name: "DashScope",
        routes: &[
            ("**/services/aigc/**", Generic),
            ("**/services/embeddings/**", GenericEmbeddings),
            ("**/services/rerank/**", Generic),
        ],
    },
    Api {
        name: "MiniMax",
        routes: &[
            ("**/text/chatcompletion", Generic),
            ("**/text/chatcompletion_pro", Generic),
            ("**/text/chatcompletion_v2", Generic),
            ("**/t2a_v2", Generic),
            ("**/image_generation", Generic),
            ("**/video_generation", Generic),
        ],
    },
    Api {
        name: "Baidu, Volcengine and AI21",
        routes: &[
            ("**/wenxinworkshop/**", Generic),
            ("**/contents/generations/tasks", Generic),
            ("**/context/create", Generic),
            ("**/studio/v1/**/complete", Generic),
        ],
    },
    Api {
        name: "Dify",
        routes: &[
            ("**/chat-messages", Generic),
            ("**/completion-messages", Generic),
            ("**/workflows/run", Generic),
            ("**/workflows/*/run", Generic),
        ],
    },
    Api {
        name: "Perplexity, NVIDIA, DeepInfra and ElevenLabs",
        routes: &[
            ("**/v1/agent", Generic),
            ("**/nvcf/pexec/functions/**", Generic),
            ("**/nvcf/exec/functions/**", Generic),
            ("**/v1/inference/**", Generic),
            ("**/text-to-speech/*", Generic),
        ],
    },
    Api {
        name: "Agent2Agent (A2A) and Model Context Protocol",
        routes: &[
            ("**/a2a/**", Generic),
            ("**/message/send", Generic),
            ("**/message/stream", Generic),
            ("**/message:send", Generic),
            ("**/message:stream", Generic),
            ("**/mcp", Generic),
        ],
    },
];
