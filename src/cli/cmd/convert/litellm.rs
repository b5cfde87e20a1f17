//! LiteLLM: JSON lines of the StandardLoggingPayload
//! (https://docs.litellm.ai/docs/proxy/logging_spec).
//!
//! The payload has the messages and the parameters of a call, but neither its path nor its body, so
//! both are built again.

use serde_json::{Map, Value, json};

use super::log_entry::LogEntry;
use super::replay_record::{Converted, ReplayRecord};

/// Converts a payload. Calls without a text prompt, such as images, are skipped.
pub fn convert(members: &Map<String, Value>) -> Converted {
    let mut entry = LogEntry::new(members);
    let call_type = entry.text(&["call_type"]).unwrap_or_else(|| "completion".to_owned());
    let Some((path, prompt_key)) = endpoint(&call_type) else {
        return Converted::Skipped(format!("call_type {call_type}"));
    };
    let remedy = "log the StandardLoggingPayload, or correct --from";
    let model = entry.required_text(&["model_group", "model"], remedy);
    let mut record = ReplayRecord {
        time: entry.time(&["startTime"]),
        method: "POST".to_owned(),
        path: path.replace("{model}", &model),
        status: status(&mut entry),
        unknown: vec!["headers", "client"],
        ..ReplayRecord::default()
    };
    if let Some(metadata) = entry.object("metadata") {
        let mut metadata = LogEntry::new(metadata);
        record.account = metadata.text(&[
            "user_api_key_hash",
            "user_api_key",
            "user_api_key_alias",
            "user_api_key_user_id",
        ]);
        record.tenant = metadata.text(&["user_api_key_team_id", "user_api_key_org_id"]);
    }
    if let Some(agent) = user_agent(&entry) {
        record.add_header("user-agent", &agent);
    }
    match entry.find(&["messages"]) {
        Some((_, messages)) if !is_redacted(messages) => {
            record.body = Some(body(&entry, &model, prompt_key, messages));
        }
        _ => record.mark_missing_body(),
    }
    entry.finish(record)
}

/// Returns the path of a call, and the member of its body that holds the prompt; `None` for a call
/// without a text prompt. Names that begin with `a` are those of asynchronous calls.
fn endpoint(call_type: &str) -> Option<(&'static str, &'static str)> {
    Some(match call_type {
        "completion" | "acompletion" => ("/v1/chat/completions", "messages"),
        "text_completion" | "atext_completion" => ("/v1/completions", "prompt"),
        "embedding" | "aembedding" => ("/v1/embeddings", "input"),
        "responses" | "aresponses" => ("/v1/responses", "input"),
        "anthropic_messages" => ("/v1/messages", "messages"),
        "generate_content" | "agenerate_content" => {
            ("/v1beta/models/{model}:generateContent", "contents")
        }
        "generate_content_stream" | "agenerate_content_stream" => {
            ("/v1beta/models/{model}:streamGenerateContent", "contents")
        }
        _ => return None,
    })
}

/// Builds the body of a call from its model, its parameters and its messages.
fn body(entry: &LogEntry<'_>, model: &str, prompt_key: &str, messages: &Value) -> Value {
    let mut body = Map::new();
    if let Some(parameters) = entry.object("model_parameters") {
        body.extend(parameters.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    body.insert("model".to_owned(), json!(model));
    let prompt = match messages {
        Value::String(text) if prompt_key == "messages" => {
            json!([{ "role": "user", "content": text }])
        }
        messages => messages.clone(),
    };
    body.insert(prompt_key.to_owned(), prompt);
    Value::Object(body)
}

/// Returns whether LiteLLM has replaced the messages (`turn_off_message_logging`).
fn is_redacted(messages: &Value) -> bool {
    match messages {
        Value::String(text) => text == REDACTED,
        Value::Array(messages) => !messages.is_empty() && messages.iter().all(is_redacted_message),
        _ => false,
    }
}

fn is_redacted_message(message: &Value) -> bool {
    message.get("content").and_then(Value::as_str) == Some(REDACTED)
}

/// Returns the user agent. LiteLLM adds it to the tags of a request, without and with
/// the version, so the longest counts.
fn user_agent(entry: &LogEntry<'_>) -> Option<String> {
    let (_, tags) = entry.find(&["request_tags"])?;
    let tags = tags.as_array()?.iter().filter_map(Value::as_str);
    let agents = tags.filter_map(|tag| tag.strip_prefix("User-Agent: "));
    agents.max_by_key(|agent| agent.len()).map(str::to_owned)
}

/// Returns the status of the response: that of an error, if the payload names it, or 200 for a
/// success.
fn status(entry: &mut LogEntry<'_>) -> Option<u16> {
    let error = entry.object("error_information").map(LogEntry::new);
    let code = error.and_then(|mut error| error.text(&["error_code"]));
    let is_success = entry.text(&["status"]).is_some_and(|status| status == "success");
    let code: Option<u16> = code.and_then(|code| code.parse().ok());
    code.filter(|code| (100..=999_u16).contains(code)).or(is_success.then_some(200))
}

/// The text by which LiteLLM replaces messages.
const REDACTED: &str = "redacted-by-litellm";
