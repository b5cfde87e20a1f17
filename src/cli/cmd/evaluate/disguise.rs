//! Disguises: changes to the body of a chat request. They try to hide the user's instruction from
//! the rules without changing its meaning.

use hedgerow_sigma::disguise::{CONVERSATION, TEXT_DISGUISES, TextDisguise, chunks, with_footer};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::statistics::Rate;

/// A change to the body of a chat request whose last message is from the user.
pub struct Disguise {
    pub name: &'static str,
    apply: Change,
}

#[derive(Clone, Copy)]
enum Change {
    Text(fn(&str) -> String),
    Body(fn(Body) -> Body),
}

/// The number of requests that were scored under a disguise, and the numbers of these requests that
/// reach the bands notice and suspect.
#[derive(Clone, Debug, Serialize)]
pub struct DisguiseCounts {
    pub name: &'static str,
    pub requests: u64,
    pub notice: u64,
    pub suspect: u64,
}

type Body = Map<String, Value>;

/// Returns all disguises. The first one (`none`) leaves the body unchanged, for comparison.
pub fn disguises() -> impl Iterator<Item = Disguise> {
    let text = |disguise: TextDisguise| Disguise {
        name: disguise.name,
        apply: Change::Text(disguise.apply),
    };
    let bodies: [(&str, fn(Body) -> Body); 6] = [
        ("none", |body| body),
        ("a tool", with_tool),
        ("stream", with_stream),
        ("turns before", with_turns),
        ("footer, tool, stream", |body| with_stream(with_tool(on_text(body, with_footer)))),
        ("split over parts", split_over_parts),
    ];
    let bodies = bodies.into_iter();
    let bodies = bodies.map(|(name, apply)| Disguise { name, apply: Change::Body(apply) });
    bodies.chain(TEXT_DISGUISES.into_iter().map(text))
}

impl Disguise {
    /// Applies the disguise to a body, and returns the result as JSON text.
    pub fn apply(&self, body: &Body) -> Vec<u8> {
        let body = body.clone();
        let changed = match self.apply {
            Change::Text(change) => on_text(body, change),
            Change::Body(change) => change(body),
        };
        Value::Object(changed).to_string().into_bytes()
    }
}

impl DisguiseCounts {
    /// Returns one row with counts of 0 for each disguise.
    pub fn all() -> Vec<Self> {
        let row =
            |disguise: Disguise| Self { name: disguise.name, requests: 0, notice: 0, suspect: 0 };
        disguises().map(row).collect()
    }

    /// Returns the share of suspect requests.
    pub fn suspect_rate(&self) -> Rate {
        Rate::new(self.suspect, self.requests)
    }
}

/// Parses the body of a chat request whose last message is from the user and contains text. Returns
/// `None` for other bodies.
pub fn parse_chat(body: &[u8]) -> Option<Body> {
    let Ok(Value::Object(mut body)) = serde_json::from_slice::<Value>(body) else { return None };
    let is_user = body.get("messages")?.as_array()?.last()?.get("role")? == "user";
    let has_text = last_text(&mut body).is_some_and(|text| !text.is_empty());
    (is_user && has_text).then_some(body)
}

/// Returns the text of the last message. If its content is an array of parts, returns the text of
/// the first part that has one. Returns `None` if the message has no text.
fn last_text(body: &mut Body) -> Option<&mut String> {
    match last_content(body)? {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts.iter_mut().find_map(|part| match part.get_mut("text") {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }),
        _ => None,
    }
}

fn last_content(body: &mut Body) -> Option<&mut Value> {
    body.get_mut("messages")?.as_array_mut()?.last_mut()?.get_mut("content")
}

/// Replaces the text of the last message by the result of `change` for this text.
fn on_text(mut body: Body, change: impl Fn(&str) -> String) -> Body {
    if let Some(text) = last_text(&mut body) {
        *text = change(text);
    }
    body
}

/// Adds a tool that is unrelated to the request, unless the body already has `tools`.
fn with_tool(mut body: Body) -> Body {
    let parameters = json!({ "type": "object", "properties": { "line": { "type": "string" } } });
    let description = "Departures of a bus line";
    // Anthropic's member for the schema is `input_schema`. A body with `max_tokens` and `system` at
    // the top level is taken for an Anthropic request.
    let tool = match body.contains_key("max_tokens") && body.contains_key("system") {
        true => json!({
            "name": "departures", "description": description, "input_schema": parameters,
        }),
        false => json!({ "type": "function", "function": {
            "name": "departures", "description": description, "parameters": parameters,
        } }),
    };
    body.entry("tools").or_insert_with(|| json!([tool]));
    body
}

fn with_stream(mut body: Body) -> Body {
    body.insert("stream".to_owned(), Value::Bool(true));
    body
}

/// Inserts four questions and answers of an invented, ordinary conversation before the first
/// message that is not a system message.
fn with_turns(mut body: Body) -> Body {
    let Some(Value::Array(messages)) = body.get_mut("messages") else { return body };
    let first = messages.iter().position(|message| message["role"] != "system").unwrap_or(0);
    let turns = CONVERSATION.iter().flat_map(|(question, answer)| {
        [
            json!({ "role": "user", "content": question }),
            json!({ "role": "assistant", "content": answer }),
        ]
    });
    messages.splice(first..first, turns);
    body
}

/// Splits the text of the last message into parts.
fn split_over_parts(mut body: Body) -> Body {
    let Some(text) = last_text(&mut body).map(std::mem::take) else { return body };
    let parts = chunks(&text).into_iter();
    let parts: Vec<Value> = parts.map(|part| json!({ "type": "text", "text": part })).collect();
    match last_content(&mut body) {
        Some(Value::Array(old)) => {
            let emptied = old.iter().position(|part| part["text"] == "").unwrap_or(0);
            old.splice(emptied..emptied.saturating_add(1).min(old.len()), parts);
        }
        Some(content) => *content = Value::Array(parts),
        None => {}
    }
    body
}

#[cfg(test)]
mod tests {
    use hedgerow_sigma::disguise::PART_CHARS;

    use super::*;

    const PLAIN: &str = "Write seven riddles about clouds, please, each short enough for a card.";

    fn disguised(name: &str, body: &Value) -> Value {
        let disguise = disguises().find(|disguise| disguise.name == name).unwrap();
        let body = parse_chat(body.to_string().as_bytes()).unwrap();
        serde_json::from_slice(&disguise.apply(&body)).unwrap()
    }

    /// Returns the text of the last message, with its parts joined.
    fn text(body: &Value) -> String {
        let content = &body["messages"].as_array().unwrap().last().unwrap()["content"];
        match content {
            Value::String(text) => text.clone(),
            parts => {
                parts.as_array().unwrap().iter().map(|p| p["text"].as_str().unwrap()).collect()
            }
        }
    }

    #[test]
    fn every_disguise_keeps_the_order_and_changes_the_body() {
        let string = json!({ "messages": [
            { "role": "system", "content": "Be brief." }, { "role": "user", "content": PLAIN },
        ] });
        let parts = json!({ "messages": [
            { "role": "user", "content": [{ "type": "text", "text": PLAIN }] },
        ] });
        for body in [string, parts] {
            for disguise in disguises() {
                let changed = disguised(disguise.name, &body);
                assert_eq!(changed == body, disguise.name == "none", "{}", disguise.name);
                let plain: String = text(&changed)
                    .replace('\u{200b}', "")
                    .replace("  \t", " ")
                    .to_lowercase()
                    .chars()
                    .map(|char| match char {
                        'а' => 'a',
                        'с' => 'c',
                        'е' => 'e',
                        'о' => 'o',
                        'р' => 'p',
                        other => other,
                    })
                    .collect();
                assert!(plain.contains(&PLAIN.to_lowercase()), "{}: {plain}", disguise.name);
            }
        }
    }

    #[test]
    fn parts_that_are_split_keep_their_neighbours() {
        let image = json!({ "type": "image_url", "image_url": { "url": "https://a.example/b" } });
        let body = json!({ "messages": [{ "role": "user", "content": [
            image, { "type": "text", "text": PLAIN.repeat(3) },
        ] }] });
        let changed = disguised("split over parts", &body);
        let parts = changed["messages"][0]["content"].as_array().unwrap();
        assert_eq!(parts[0], image);
        assert_eq!(parts.len(), 1 + (3 * PLAIN.len()).div_ceil(PART_CHARS));
    }

    #[test]
    fn only_chats_that_end_with_text_of_the_user_are_disguised() {
        for body in [
            "{}",
            "[1]",
            "no JSON",
            r#"{"messages":[]}"#,
            r#"{"messages":[{"role":"assistant","content":"a"}]}"#,
            r#"{"messages":[{"role":"user","content":""}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"image"}]}]}"#,
        ] {
            assert_eq!(parse_chat(body.as_bytes()), None, "{body}");
        }
    }
}
