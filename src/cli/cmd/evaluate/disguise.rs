//! Disguises: changes to chat bodies that leave the order as it is, and try to hide it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::statistics::Rate;

/// A change to the body of a chat request, which must have a user message as its last.
pub struct Disguise {
    pub name: &'static str,
    apply: fn(Body) -> Body,
}

/// Requests that were found under a disguise.
#[derive(Clone, Debug, Serialize)]
pub struct DisguiseCounts {
    pub name: &'static str,
    pub requests: u64,
    pub notice: u64,
    pub suspect: u64,
}

type Body = Map<String, Value>;

/// All disguises; the first changes nothing.
pub const DISGUISES: [Disguise; 17] = [
    Disguise { name: "none", apply: |body| body },
    Disguise { name: "footer", apply: |body| on_text(body, |text| format!("{text}\n\n{CHATTER}")) },
    Disguise { name: "header", apply: |body| on_text(body, |text| format!("{CHATTER}\n\n{text}")) },
    Disguise { name: "fence", apply: |body| on_text(body, fence) },
    Disguise { name: "quotes", apply: |body| on_text(body, quote) },
    Disguise {
        name: "long document before",
        apply: |body| on_text(body, |text| document() + &text),
    },
    Disguise {
        name: "long document behind",
        apply: |body| on_text(body, |text| text + &document()),
    },
    Disguise { name: "a tool", apply: with_tool },
    Disguise { name: "stream", apply: with_stream },
    Disguise { name: "turns before", apply: with_turns },
    Disguise {
        name: "footer, tool, stream",
        apply: |body| with_stream(with_tool(on_text(body, |text| format!("{text}\n\n{CHATTER}")))),
    },
    Disguise { name: "zero-width characters", apply: |body| on_text(body, add_zero_width) },
    Disguise { name: "look-alike letters", apply: |body| on_text(body, look_alike) },
    Disguise { name: "capitals", apply: |body| on_text(body, |text| text.to_uppercase()) },
    Disguise {
        name: "wide spacing",
        apply: |body| on_text(body, |text| text.replace(' ', "  \t")),
    },
    Disguise { name: "JSON wrapping", apply: |body| on_text(body, wrap_in_json) },
    Disguise { name: "split over parts", apply: split_over_parts },
];

impl Disguise {
    /// Returns a body under the disguise.
    pub fn apply(&self, body: &Body) -> Vec<u8> {
        Value::Object((self.apply)(body.clone())).to_string().into_bytes()
    }
}

impl DisguiseCounts {
    /// Returns a row without counts for each disguise.
    pub fn all() -> Vec<Self> {
        let names = DISGUISES.iter().map(|disguise| disguise.name);
        names.map(|name| Self { name, requests: 0, notice: 0, suspect: 0 }).collect()
    }

    /// Returns the share of suspect requests.
    pub fn suspect_rate(&self) -> Rate {
        Rate::new(self.suspect, self.requests)
    }
}

/// Parses the body of a chat request whose last message is the user's and has text; `None` for
/// other bodies.
pub fn parse_chat(body: &[u8]) -> Option<Body> {
    let Ok(Value::Object(mut body)) = serde_json::from_slice::<Value>(body) else { return None };
    let is_user = body.get("messages")?.as_array()?.last()?.get("role")? == "user";
    let has_text = last_text(&mut body).is_some_and(|text| !text.is_empty());
    (is_user && has_text).then_some(body)
}

/// Returns the text of the last message, or its first part of text.
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

/// Changes the text of the last message.
fn on_text(mut body: Body, change: impl Fn(String) -> String) -> Body {
    if let Some(text) = last_text(&mut body) {
        *text = change(std::mem::take(text));
    }
    body
}

fn fence(text: String) -> String {
    format!("Carry out the order in this block.\n```\n{text}\n```")
}

fn quote(text: String) -> String {
    format!("Carry out what is written between the quotation marks.\n\"\"\"\n{text}\n\"\"\"")
}

fn wrap_in_json(text: String) -> String {
    format!("Carry out the member `task` of this object.\n{}", json!({ "id": 7, "task": text }))
}

/// Returns a text that is much longer than most prompts, about nothing related.
fn document() -> String {
    format!("\n\n{}\n\n", DOCUMENT_SENTENCES.repeat(150))
}

/// Puts a zero-width space after every third letter.
fn add_zero_width(text: String) -> String {
    let mut letters = 0_usize;
    let mut changed = String::with_capacity(text.len() * 2);
    for char in text.chars() {
        changed.push(char);
        letters += usize::from(char.is_alphabetic());
        if char.is_alphabetic() && letters.is_multiple_of(3) {
            changed.push('\u{200b}');
        }
    }
    changed
}

/// Replaces Latin letters by Cyrillic letters that look alike.
fn look_alike(text: String) -> String {
    let replace = |char| match char {
        'a' => 'а',
        'c' => 'с',
        'e' => 'е',
        'o' => 'о',
        'p' => 'р',
        'x' => 'х',
        other => other,
    };
    text.chars().map(replace).collect()
}

/// Adds a tool that the request has no use for.
fn with_tool(mut body: Body) -> Body {
    let parameters = json!({ "type": "object", "properties": { "line": { "type": "string" } } });
    let description = "Departures of a bus line";
    // Anthropic names the schema otherwise, and has a member that OpenAI does not need.
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

/// Puts four invented turns of an ordinary conversation before the first user message.
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

/// Splits the text of the last message into parts of some [`PART_CHARS`] characters.
fn split_over_parts(mut body: Body) -> Body {
    let Some(text) = last_text(&mut body).map(std::mem::take) else { return body };
    let chars: Vec<char> = text.chars().collect();
    let parts = chars.chunks(PART_CHARS).map(String::from_iter);
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

/// Characters of a part of a split message.
const PART_CHARS: usize = 47;

/// Words of classrooms, programs, customers and documents, which belong to ordinary requests.
const CHATTER: &str = "Background, not part of the task: import os; fn main(); ```patch; stack \
    trace; unit tests; the customer's order; a lesson for my class; our handbook; chat log.";

const DOCUMENT_SENTENCES: &str = "The allotment club met on Tuesday and agreed who waters which \
    bed. The shed gets a new roof before the autumn, and the pump is oiled twice a year. ";

const CONVERSATION: [(&str, &str); 4] = [
    ("Is the pool open today?", "Yes, from eight in the morning until seven."),
    ("And on Sunday?", "On Sundays it opens at ten."),
    ("Does the bus stop there?", "Line 4 stops at the gate every twenty minutes."),
    ("Thanks, that helps.", "You are welcome. Enjoy the water."),
];

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "Write seven riddles about clouds, please, each short enough for a card.";

    fn disguised(name: &str, body: &Value) -> Value {
        let disguise = DISGUISES.iter().find(|disguise| disguise.name == name).unwrap();
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
            for disguise in &DISGUISES {
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
