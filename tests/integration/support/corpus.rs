//! Generates a corpus from tests/fixtures/corpus: recordings of requests that invented programs
//! could send. The requests are the same on every run.

use std::collections::HashMap;
use std::fs;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::from_root;

/// A job of a program, as harvest.toml and benign.toml describe it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    pub tool: String,
    pub task: String,
    /// `harvest` or `benign`: the name of the file.
    #[serde(skip)]
    pub label: String,
    #[serde(default = "english")]
    pub language: String,
    /// Whether a benign kind resembles harvesting on purpose.
    #[serde(default)]
    pub look_alike: bool,
    #[serde(default = "openai")]
    dialect: String,
    client: String,
    #[serde(default = "one")]
    accounts: usize,
    system: Option<String>,
    /// Prompt templates with slots. Requests use the templates in turn.
    prompts: Vec<String>,
    /// Additional members of the body, such as `temperature`.
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    tools: bool,
    /// Values of the slots in the kind's language.
    #[serde(skip)]
    slots: HashMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct KindFile {
    kind: Vec<Kind>,
}

/// Reads all kinds.
pub fn kinds() -> Vec<Kind> {
    let read =
        |name: &str| fs::read_to_string(from_root("tests/fixtures/corpus").join(name)).unwrap();
    let slots: HashMap<String, HashMap<String, Vec<String>>> =
        toml::from_str(&read("slots.toml")).unwrap();
    let mut kinds = Vec::new();
    for label in ["harvest", "benign"] {
        let file: KindFile = toml::from_str(&read(&format!("{label}.toml"))).unwrap();
        kinds.extend(file.kind.into_iter().map(|kind| Kind {
            label: label.to_owned(),
            slots: slots[&kind.language].clone(),
            ..kind
        }));
    }
    kinds
}

/// Returns the requests of a kind, as recorded lines.
pub fn requests(kind: &Kind) -> Vec<Value> {
    (0..REQUESTS).map(|index| request(kind, index)).collect()
}

/// Number of requests of each kind.
const REQUESTS: usize = 20;

fn request(kind: &Kind, index: usize) -> Value {
    let account = format!("{}-{}-{}", kind.tool, kind.task, index % kind.accounts);
    let system = kind.system.as_ref().map(|text| fill(kind, index, text));
    let prompt = fill(kind, index, &kind.prompts[index % kind.prompts.len()]);
    let (path, mut body) = body(kind, system.as_deref(), &prompt);
    body.extend(kind.parameters.clone());
    if kind.stream {
        body.insert("stream".to_owned(), json!(true));
    }
    if kind.tools {
        let schema = json!({ "type": "object", "properties": { "path": { "type": "string" } } });
        let tool = json!({ "name": "edit_file", "description": "Edits", "input_schema": schema });
        body.insert("tools".to_owned(), json!([tool]));
    }
    // Mean seconds between two requests. Harvesters send the next request at once after an answer,
    // people and services pause.
    let gap = if kind.label == "harvest" { 4.0 } else { 130.0 };
    let start = (hash(&kind.task) % 7_200) as f64;
    json!({
        "t": start + gap * index as f64 + (index * index % 7) as f64 * gap / 10.0,
        "method": "POST", "path": path, "http_version": "HTTP/1.1",
        "headers": headers(&kind.client, &account), "body": Value::Object(body).to_string(),
        "status": 200, "label": kind.label, "tool": kind.tool, "task": kind.task,
        "account": account,
    })
}

/// Returns the path and the body of a request in the dialect of a kind.
fn body(kind: &Kind, system: Option<&str>, prompt: &str) -> (&'static str, Map<String, Value>) {
    let (path, body) = match kind.dialect.as_str() {
        "openai" => {
            let system = system.map(|text| json!({ "role": "system", "content": text }));
            let user = json!({ "role": "user", "content": prompt });
            let messages: Vec<Value> = system.into_iter().chain([user]).collect();
            ("/v1/chat/completions", json!({ "model": "gpt-4o", "messages": messages }))
        }
        "anthropic" => {
            let messages = json!([{ "role": "user", "content": prompt }]);
            let mut body = json!({
                "model": "claude-sonnet-4-5", "max_tokens": 2_048, "messages": messages,
            });
            if let Some(text) = system {
                body["system"] = json!(text);
            }
            ("/v1/messages", body)
        }
        "gemini" => {
            let contents = json!([{ "role": "user", "parts": [{ "text": prompt }] }]);
            ("/v1beta/models/gemini-2.5-pro:generateContent", json!({ "contents": contents }))
        }
        "completions" => ("/v1/completions", json!({ "model": "davinci-002", "prompt": prompt })),
        other => panic!("dialect {other}"),
    };
    (path, body.as_object().unwrap().clone())
}

/// Returns the headers that a client library sends, according to its public documentation.
fn headers(client: &str, account: &str) -> Value {
    let agent: &[(&str, &str)] = match client {
        "openai-python" => &[
            ("user-agent", "OpenAI/Python 2.8.1"),
            ("x-stainless-lang", "python"),
            ("x-stainless-runtime", "CPython"),
        ],
        "anthropic-python" => &[
            ("user-agent", "Anthropic/Python 0.75.0"),
            ("anthropic-version", "2023-06-01"),
            ("x-stainless-lang", "python"),
        ],
        "requests" => &[("user-agent", "python-requests/2.32.5")],
        "httpx" => &[("user-agent", "python-httpx/0.28.1")],
        "vllm" => &[("user-agent", "AsyncOpenAI/Python 2.8.1"), ("x-stainless-lang", "python")],
        "node" => &[("user-agent", "node"), ("accept-language", "*")],
        "gemini" => &[("user-agent", "google-genai-sdk/1.52.0 gl-python/3.12")],
        "curl" => &[("user-agent", "curl/8.17.0")],
        "browser" => &[
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Firefox/145.0"),
            ("origin", "https://app.example"),
            ("accept-language", "en-GB,en;q=0.8"),
        ],
        other => panic!("client {other}"),
    };
    let key = format!("Bearer sk-test-{:016x}", hash(account));
    let common = [("content-type", "application/json"), ("authorization", key.as_str())];
    json!(common.iter().chain(agent).collect::<Vec<_>>())
}

/// Replaces the slots of a text: `{topic}`, `{topic2}` for another value, and `{n}`.
fn fill(kind: &Kind, index: usize, text: &str) -> String {
    let mut filled = text.to_owned();
    // Takes every seventh value, so that values repeat only after all values were used.
    let position = index * 7 + hash(&kind.task) as usize % 97;
    for (name, values) in &kind.slots {
        filled = filled.replace(&format!("{{{name}}}"), &values[position % values.len()]);
        filled = filled.replace(&format!("{{{name}2}}"), &values[(position + 3) % values.len()]);
    }
    filled.replace("{n}", &(3 + position % 8).to_string())
}

/// Returns the FNV-1a hash of a text. The hasher of the standard library could change between
/// versions.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn english() -> String {
    "en".to_owned()
}

fn openai() -> String {
    "openai".to_owned()
}

fn one() -> usize {
    1
}
