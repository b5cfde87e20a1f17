//! What the dialects share: messages, content parts, tool definitions and answer schemas.

use super::{DEPTH, Key, Request, Trouble, drop_value};
use crate::field::{Name, Place};
use crate::json::{Reader, Token};

/// Takes a list of messages, one message, or a bare string.
pub fn messages<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::Array => {
            while reader.element() {
                item(request, reader, 0);
            }
        }
        Token::Object => message(request, reader),
        Token::String(raw) => {
            request.push_text(Place::User, raw, false);
            request.count(Name::Turns, 1);
        }
        _ => {}
    }
    true
}

fn item<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.token() {
        Token::Object => message(request, reader),
        Token::String(raw) => {
            request.push_text(Place::User, raw, false);
            request.count(Name::Turns, 1);
        }
        // vLLM takes a list of conversations.
        Token::Array if depth == 0 => {
            while reader.element() {
                item(request, reader, 1);
            }
        }
        token => drop_value(token, reader),
    }
}

/// Takes a message whose opening brace has been taken. Text cannot be placed before the role is
/// known; where it comes first, the role is looked up ahead, once a message.
pub fn message<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    let mut place = None;
    let mut is_output = false;
    let start = request.segments.len();
    request.after_space = false;
    let mut seen = 0;
    while let Some(key) = reader.key() {
        let key = Key::of(key);
        request.note_twice(&mut seen, &["role", "content", "parts"], key.as_str());
        match key.as_str() {
            "role" => {
                let next = role(reader);
                if let (Some(first), Some(next)) = (place, next)
                    && first != next
                {
                    // Which of two roles counts is the origin's choice: the text may be the user's.
                    request.assign(start, first, Place::User);
                    place = Some(Place::User);
                }
                place = place.or(next);
            }
            "content" | "parts" => {
                let place = *place.get_or_insert_with(|| place_ahead(request, reader, is_output));
                parts(request, reader, place, 0);
            }
            "reasoningcontent" | "reasoning" => parts(request, reader, Place::Assistant, 0),
            "output" => {
                is_output = true;
                parts(request, reader, Place::Tool, 0);
            }
            "encryptedcontent" => token(request, reader),
            "toolcalls" | "functioncall" | "arguments" => calls(request, reader, 0),
            // Ollama has pictures beside the text, the responses API results of tools.
            "images" | "result" => attachment(request, reader),
            _ => reader.skip(),
        }
    }
    request.sew(start);
    if place != Some(Place::System) {
        request.count(Name::Turns, 1);
    }
}

/// Takes what one message says: a string, or parts.
pub fn message_parts<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place) {
    let start = request.segments.len();
    parts(request, reader, place, 0);
    request.sew(start);
}

/// The place of a message by the members behind the value at which `reader` stands.
///
/// In broken JSON a message may seem to go on to the end of the body; looking ahead is bounded over
/// all messages, so that many of those take no more than linear time.
fn place_ahead(request: &mut Request<'_>, reader: &Reader<'_>, is_output: bool) -> Place {
    if request.ahead == 0 {
        return Place::User;
    }
    let mut ahead = reader.clone();
    let place = role_ahead(&mut ahead, is_output);
    request.ahead =
        request.ahead.saturating_sub(ahead.position().saturating_sub(reader.position()));
    place
}

fn role_ahead(ahead: &mut Reader<'_>, mut is_output: bool) -> Place {
    ahead.skip();
    while let Some(key) = ahead.key() {
        match Key::of(key).as_str() {
            "role" => {
                if let Some(place) = role(ahead) {
                    return place;
                }
            }
            key => {
                is_output |= key == "output";
                ahead.skip();
            }
        }
    }
    if is_output { Place::Tool } else { Place::User }
}

fn role(reader: &mut Reader<'_>) -> Option<Place> {
    match reader.token() {
        Token::String(raw) => Some(match raw.text().as_ref() {
            "system" | "developer" => Place::System,
            "assistant" | "model" => Place::Assistant,
            "tool" | "function" => Place::Tool,
            _ => Place::User,
        }),
        token => {
            drop_value(token, reader);
            None
        }
    }
}

/// Takes content: a string, a part, or a list of either.
pub fn parts<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place, depth: u8) {
    match reader.token() {
        Token::String(raw) => request.push_text(place, raw, false),
        Token::Array | Token::Object if depth > DEPTH => too_deep(request, reader),
        Token::Array => {
            while reader.element() {
                parts(request, reader, place, depth.saturating_add(1));
            }
        }
        Token::Object => part(request, reader, place, depth),
        _ => {}
    }
}

fn part<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place, depth: u8) {
    let deeper = depth.saturating_add(1);
    while let Some(key) = reader.key() {
        match Key::of(key).as_str() {
            "text" | "refusal" | "inputtext" | "parts" => parts(request, reader, place, deeper),
            "thinking" => parts(request, reader, Place::Assistant, deeper),
            "content" | "output" => parts(request, reader, Place::Tool, deeper),
            "functionresponse" => strings(request, reader, Place::Tool, deeper),
            "signature" | "data" | "thoughtsignature" => token(request, reader),
            "title" | "context" => parts(request, reader, place, deeper),
            // What the model called a tool with.
            "input" => strings(request, reader, Place::Assistant, deeper),
            "functioncall" => calls(request, reader, deeper),
            "source" => source(request, reader, place, deeper),
            "imageurl" | "videourl" | "documenturl" | "inputaudio" | "audio" | "file"
            | "fileid" | "filedata" | "inlinedata" | "image" | "images" | "video" | "document"
            | "result" => attachment(request, reader),
            _ => reader.skip(),
        }
    }
}

/// Counts a picture, a sound or a file.
pub fn attachment<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    request.count(Name::AttachmentsCount, 1);
    reader.skip();
}

/// Takes what a part brings along: a text document is text, all else an attachment.
fn source<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place, depth: u8) {
    let (mut data, mut is_text) = (Vec::new(), false);
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "content" => parts(request, reader, place, depth),
                    "type" => match reader.token() {
                        Token::String(raw) => is_text |= raw.text() == "text",
                        token => drop_value(token, reader),
                    },
                    "data" => match reader.token() {
                        Token::String(raw) => data.push(raw),
                        token => drop_value(token, reader),
                    },
                    _ => reader.skip(),
                }
            }
        }
        token => drop_value(token, reader),
    }
    if data.is_empty() || !is_text {
        return request.count(Name::AttachmentsCount, 1);
    }
    for raw in data {
        request.push_text(place, raw, false);
    }
}

/// Takes what the model called tools with: OpenAI's `arguments` are JSON in a string, Gemini's `args`
/// are JSON.
fn calls<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.token() {
        Token::String(raw) => request.push_text(Place::Assistant, raw, false),
        Token::Array | Token::Object if depth > DEPTH => too_deep(request, reader),
        Token::Array => {
            while reader.element() {
                calls(request, reader, depth.saturating_add(1));
            }
        }
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "function" | "arguments" => calls(request, reader, depth.saturating_add(1)),
                    "args" => strings(request, reader, Place::Assistant, depth.saturating_add(1)),
                    _ => reader.skip(),
                }
            }
        }
        _ => {}
    }
}

/// Takes signed or encrypted reasoning.
fn token<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.token() {
        Token::String(raw) if !raw.bytes().is_empty() => {
            request.count(Name::ReasoningTokenCount, 1);
            request.reasoning.push(raw);
        }
        token => drop_value(token, reader),
    }
}

/// Takes every string in a value.
pub fn strings<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place, depth: u8) {
    match reader.token() {
        Token::String(raw) => request.push_text(place, raw, false),
        Token::Array | Token::Object if depth > DEPTH => too_deep(request, reader),
        Token::Array => {
            while reader.element() {
                strings(request, reader, place, depth.saturating_add(1));
            }
        }
        Token::Object => {
            while reader.key().is_some() {
                strings(request, reader, place, depth.saturating_add(1));
            }
        }
        _ => {}
    }
}

/// Takes a list of tools and counts them.
pub fn tools<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    tool_list(request, reader, 0);
    true
}

fn tool_list<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.token() {
        Token::Array => {
            while reader.element() {
                tool(request, reader, depth);
            }
        }
        token => drop_value(token, reader),
    }
}

/// Takes one tool; Gemini's holds a list of functions.
fn tool<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.token() {
        Token::Object => {}
        token => return drop_value(token, reader),
    }
    let mut nested = false;
    while let Some(key) = reader.key() {
        match Key::of(key).as_str() {
            "functiondeclarations" if depth == 0 => {
                nested = true;
                tool_list(request, reader, 1);
            }
            key => schema_member(request, key, reader, Place::Definition, 0),
        }
    }
    if !nested {
        request.count(Name::ToolsCount, 1);
    }
}

/// Takes a JSON schema, or what wraps one: names and descriptions are text.
pub fn schema<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place, depth: u8) {
    match reader.token() {
        Token::Array | Token::Object if depth > DEPTH => too_deep(request, reader),
        Token::Array => {
            while reader.element() {
                schema(request, reader, place, depth.saturating_add(1));
            }
        }
        Token::Object => {
            while let Some(key) = reader.key() {
                schema_member(request, Key::of(key).as_str(), reader, place, depth);
            }
        }
        _ => {}
    }
}

fn schema_member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    place: Place,
    depth: u8,
) {
    let deeper = depth.saturating_add(1);
    match key {
        "name" | "title" | "description" => match reader.token() {
            Token::String(raw) => request.push_text(place, raw, false),
            token => drop_value(token, reader),
        },
        "properties" => match reader.token() {
            Token::Object if depth > DEPTH => too_deep(request, reader),
            Token::Object => {
                while let Some(name) = reader.key() {
                    request.push_text(place, name, false);
                    schema(request, reader, place, deeper);
                }
            }
            token => drop_value(token, reader),
        },
        _ => schema(request, reader, place, deeper),
    }
}

fn too_deep<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    request.trouble.add(Trouble::DEPTH);
    reader.leave();
}
