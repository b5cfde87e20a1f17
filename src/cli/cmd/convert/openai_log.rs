//! Requests in the format of OpenAI, one JSON object a line, in the forms of usual logs:
//! `{"request": …, "response": …}`, `{"body": …}`, the input of the Batch API (`{"custom_id",
//! "method", "url", "body"}`, https://platform.openai.com/docs/guides/batch), or a body alone.

use serde_json::{Map, Value};

use super::log_entry::LogEntry;
use super::replay_record::{Converted, ReplayRecord};

/// Converts a line.
pub fn convert(members: &Map<String, Value>) -> Converted {
    let mut entry = LogEntry::new(members);
    let request = entry.object("request");
    // The object with the members `body`, `url`, `method` and `headers`; `None` for a body alone.
    let mut candidates = [request, Some(members)].into_iter().flatten();
    let envelope = candidates.find(|object| object.contains_key("body"));
    let mut record = ReplayRecord {
        time: time(&mut entry),
        method: "POST".to_owned(),
        status: status(&mut entry),
        account: entry.text(ACCOUNT_KEYS),
        unknown: vec!["client"],
        ..ReplayRecord::default()
    };
    let mut envelope_entry = LogEntry::new(envelope.unwrap_or(members));
    if let Some(method) = envelope_entry.text(&["method"]) {
        record.method = method;
    }
    let path = envelope_entry.text(PATH_KEYS).or_else(|| entry.text(PATH_KEYS));
    match envelope.and_then(|envelope| envelope.get("headers")) {
        Some(headers) => add_headers(&mut record, headers),
        None => record.unknown.push("headers"),
    }
    match envelope.map(|envelope| envelope.get("body")) {
        Some(Some(Value::String(text))) => record.set_body_text(text),
        Some(body) => record.body = body.filter(|body| !body.is_null()).cloned(),
        None => record.body = Some(body_alone(request.unwrap_or(members))),
    }
    record.mark_missing_body();
    match path.or_else(|| record.body.as_ref().and_then(path_of_body)) {
        Some(path) => record.path = path,
        None => {
            let remedy = "write the path into `url`, or correct --from";
            record.path = entry.required_text(&["url", "messages", "input", "prompt"], remedy);
        }
    }
    entry.finish(record)
}

/// Returns a body that is not in a member `body`, without the members that are those of a log or of
/// a response.
fn body_alone(members: &Map<String, Value>) -> Value {
    let is_of_log = |name: &str| LOG_MEMBERS.contains(&name) || ACCOUNT_KEYS.contains(&name);
    let of_request = members.iter().filter(|(name, _)| !is_of_log(name));
    Value::Object(of_request.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn time(entry: &mut LogEntry<'_>) -> Option<f64> {
    let response = entry.object("response").map(LogEntry::new);
    entry
        .time(&["t", "timestamp", "time", "created_at", "created", "start_time"])
        .or_else(|| response.and_then(|mut response| response.time(&["created", "created_at"])))
}

fn status(entry: &mut LogEntry<'_>) -> Option<u16> {
    let response = entry.object("response").map(LogEntry::new);
    let of_response = response.and_then(|mut response| response.status(&["status_code"]));
    of_response.or_else(|| entry.status(&["status_code", "response_code"]))
}

/// Adds headers, which are an object or a list of pairs. The headers are unknown if they have
/// another form.
fn add_headers(record: &mut ReplayRecord, headers: &Value) {
    match headers {
        Value::Object(headers) => {
            for (name, value) in headers {
                record.add_header(name, value.as_str().unwrap_or_default());
            }
        }
        Value::Array(pairs) => {
            let text = |pair: &Value, index: usize| {
                pair.get(index).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            for pair in pairs {
                record.add_header(&text(pair, 0), &text(pair, 1));
            }
        }
        _ => record.unknown.push("headers"),
    }
}

/// Returns the path to which a body is sent; `None` if the body has no prompt.
fn path_of_body(body: &Value) -> Option<String> {
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let has = |key: &str| body.get(key).is_some();
    let path = if has("messages") {
        // In the API of OpenAI, the system prompt is a message.
        let is_anthropic = has("system") || model.starts_with("claude");
        if is_anthropic { "/v1/messages" } else { "/v1/chat/completions" }
    } else if has("input") {
        if model.contains("embed") { "/v1/embeddings" } else { "/v1/responses" }
    } else if has("prompt") {
        "/v1/completions"
    } else {
        return None;
    };
    Some(path.to_owned())
}

/// Members that are not parts of the body of a request.
const LOG_MEMBERS: [&str; 18] = [
    "t",
    "timestamp",
    "time",
    "created_at",
    "created",
    "start_time",
    "id",
    "object",
    "choices",
    "usage",
    "system_fingerprint",
    "request_id",
    "response",
    "status_code",
    "response_code",
    "url",
    "path",
    "endpoint",
];

const PATH_KEYS: &[&str] = &["url", "path", "endpoint"];

const ACCOUNT_KEYS: &[&str] =
    &["account", "account_id", "user_api_key_hash", "api_key_hash", "api_key_id", "api_key"];
