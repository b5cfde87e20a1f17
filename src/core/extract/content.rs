//! Structures that all dialects share: messages, content parts, tool definitions, answer schemas.
//!
//! Functions that return bool return true always: the member has been read, even if its value has
//! an unexpected type, which is skipped.

use super::issues::ReadIssues;
use super::lenient_value::skip_mistyped;
use super::member_name::MemberName;
use super::request::{MAX_DEPTH, MAX_VALUES, Request};
use crate::extract::lenient_json::{Reader, Token};
use crate::field::{FieldId, Section};

/// Reads a list of messages, one message, or a bare string, which is a user message.
pub fn read_messages<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.next_token() {
        Token::Array => {
            while reader.next_element() {
                read_message_item(request, reader, 0);
            }
        }
        Token::Object => read_message(request, reader),
        Token::String(raw) => {
            request.push_text(Section::User, raw, false);
            request.add_count(FieldId::Turns, 1);
        }
        _ => {}
    }
    true
}

/// Reads an element of a list of messages. A `depth` of 0 allows a nested list.
fn read_message_item<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.next_token() {
        Token::Object => read_message(request, reader),
        Token::String(raw) => {
            request.push_text(Section::User, raw, false);
            request.add_count(FieldId::Turns, 1);
        }
        // vLLM accepts a list of conversations.
        Token::Array if depth == 0 => {
            while reader.next_element() {
                read_message_item(request, reader, 1);
            }
        }
        token => skip_mistyped(token, reader),
    }
}

/// Reads a message whose opening brace has been read.
///
/// The section of a text depends on the role. If the text comes before the role, the reader looks
/// ahead, once per message.
pub fn read_message<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    let mut section = None;
    let mut is_output = false;
    let start = request.segments.len();
    request.after_space = false;
    let mut seen_keys = 0;
    while let Some(key) = reader.next_key() {
        let key = MemberName::new(key);
        request.record_duplicate_key(&mut seen_keys, &["role", "content", "parts"], key.as_str());
        match key.as_str() {
            "role" => {
                let next = read_role(reader);
                if let (Some(first), Some(next)) = (section, next)
                    && first != next
                {
                    // The origin decides which of two roles counts: the text may come from the
                    // user.
                    request.move_to_section(start, first, Section::User);
                    section = Some(Section::User);
                }
                section = section.or(next);
            }
            "content" | "parts" => {
                let section =
                    *section.get_or_insert_with(|| lookahead_section(request, reader, is_output));
                read_content(request, reader, section, 0);
            }
            "reasoningcontent" | "reasoning" => {
                read_content(request, reader, Section::Assistant, 0)
            }
            "output" => {
                is_output = true;
                read_content(request, reader, Section::Tool, 0);
            }
            "encryptedcontent" => read_reasoning_token(request, reader),
            "toolcalls" | "functioncall" | "arguments" => read_tool_calls(request, reader, 0),
            // Ollama sends images next to the text, the responses API results of tools.
            "images" | "result" => count_attachment(request, reader),
            _ => reader.skip(),
        }
    }
    request.join_parts(start);
    if section != Some(Section::System) {
        request.add_count(FieldId::Turns, 1);
    }
}

/// Reads the content of one message, a string or parts, and joins the parts.
pub fn read_message_content<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    section: Section,
) {
    let start = request.segments.len();
    read_content(request, reader, section, 0);
    request.join_parts(start);
}

/// Returns the section of a message by the members after the value that `reader` is about to read.
///
/// In malformed JSON a message may extend to the end of the body. Looking ahead spends from the
/// budget of searching, so that many such messages still take linear time.
fn lookahead_section(request: &mut Request<'_>, reader: &Reader<'_>, is_output: bool) -> Section {
    if !request.work.may_search() {
        request.work.exhaust();
        return Section::User;
    }
    let mut lookahead = reader.clone();
    let section = find_section(&mut lookahead, is_output);
    request.work.spend_searching(lookahead.position().saturating_sub(reader.position()));
    section
}

/// Skips the value at the reader's position and returns the section by the members after it.
fn find_section(lookahead: &mut Reader<'_>, mut is_output: bool) -> Section {
    lookahead.skip();
    while let Some(key) = lookahead.next_key() {
        match MemberName::new(key).as_str() {
            "role" => {
                if let Some(section) = read_role(lookahead) {
                    return section;
                }
            }
            key => {
                is_output |= key == "output";
                lookahead.skip();
            }
        }
    }
    if is_output { Section::Tool } else { Section::User }
}

/// Reads the value of `role`; `None` if it is not a string.
fn read_role(reader: &mut Reader<'_>) -> Option<Section> {
    match reader.next_token() {
        Token::String(raw) => Some(match raw.text().as_ref() {
            "system" | "developer" => Section::System,
            "assistant" | "model" => Section::Assistant,
            "tool" | "function" => Section::Tool,
            _ => Section::User,
        }),
        token => {
            skip_mistyped(token, reader);
            None
        }
    }
}

/// Reads content: a string, a part, or a list of either.
pub fn read_content<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    section: Section,
    depth: u8,
) {
    match reader.next_token() {
        Token::String(raw) => request.push_text(section, raw, false),
        Token::Array | Token::Object if depth > MAX_DEPTH => skip_too_deep(request, reader),
        Token::Array => {
            while reader.next_element() {
                read_content(request, reader, section, depth.saturating_add(1));
            }
        }
        Token::Object => read_part(request, reader, section, depth),
        _ => {}
    }
}

/// Reads a content part whose opening brace has been read.
fn read_part<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, section: Section, depth: u8) {
    let deeper = depth.saturating_add(1);
    while let Some(key) = reader.next_key() {
        match MemberName::new(key).as_str() {
            "text" | "refusal" | "inputtext" | "parts" => {
                read_content(request, reader, section, deeper)
            }
            "thinking" => read_content(request, reader, Section::Assistant, deeper),
            "content" | "output" => read_content(request, reader, Section::Tool, deeper),
            "functionresponse" => read_strings(request, reader, Section::Tool, deeper),
            "signature" | "data" | "thoughtsignature" => read_reasoning_token(request, reader),
            "title" | "context" => read_content(request, reader, section, deeper),
            // Arguments of a tool call by the model.
            "input" => read_strings(request, reader, Section::Assistant, deeper),
            "functioncall" => read_tool_calls(request, reader, deeper),
            "source" => read_source(request, reader, section, deeper),
            "imageurl" | "videourl" | "documenturl" | "inputaudio" | "audio" | "file"
            | "fileid" | "filedata" | "inlinedata" | "image" | "images" | "video" | "document"
            | "result" => count_attachment(request, reader),
            _ => reader.skip(),
        }
    }
}

/// Counts an image, a sound or a file, and skips it.
pub fn count_attachment<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    request.add_count(FieldId::AttachmentsCount, 1);
    reader.skip();
}

/// Reads the `source` of a part: a text document is text, everything else an attachment.
fn read_source<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    section: Section,
    depth: u8,
) {
    let mut data = Vec::new();
    let mut is_text = false;
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "content" => read_content(request, reader, section, depth),
                    "type" => match reader.next_token() {
                        Token::String(raw) => is_text |= raw.text() == "text",
                        token => skip_mistyped(token, reader),
                    },
                    "data" => match reader.next_token() {
                        Token::String(raw) => data.push(raw),
                        token => skip_mistyped(token, reader),
                    },
                    _ => reader.skip(),
                }
            }
        }
        token => skip_mistyped(token, reader),
    }
    if data.is_empty() || !is_text {
        return request.add_count(FieldId::AttachmentsCount, 1);
    }
    for raw in data {
        request.push_text(section, raw, false);
    }
}

/// Reads tool calls by the model: OpenAI's `arguments` are JSON in a string, Gemini's `args` JSON.
fn read_tool_calls<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.next_token() {
        Token::String(raw) => request.push_text(Section::Assistant, raw, false),
        Token::Array | Token::Object if depth > MAX_DEPTH => skip_too_deep(request, reader),
        Token::Array => {
            while reader.next_element() {
                read_tool_calls(request, reader, depth.saturating_add(1));
            }
        }
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "function" | "arguments" => {
                        read_tool_calls(request, reader, depth.saturating_add(1))
                    }
                    "args" => {
                        read_strings(request, reader, Section::Assistant, depth.saturating_add(1))
                    }
                    _ => reader.skip(),
                }
            }
        }
        _ => {}
    }
}

/// Reads and counts signed or encrypted reasoning.
fn read_reasoning_token<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.next_token() {
        Token::String(raw) if !raw.bytes().is_empty() => {
            request.add_count(FieldId::ReasoningTokenCount, 1);
            match request.reasoning_tokens.len() {
                ..MAX_VALUES => request.reasoning_tokens.push(raw),
                _ => request.work.exhaust(),
            }
        }
        token => skip_mistyped(token, reader),
    }
}

/// Reads every string in a value as text; the keys of objects are not text.
pub fn read_strings<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    section: Section,
    depth: u8,
) {
    match reader.next_token() {
        Token::String(raw) => request.push_text(section, raw, false),
        Token::Array | Token::Object if depth > MAX_DEPTH => skip_too_deep(request, reader),
        Token::Array => {
            while reader.next_element() {
                read_strings(request, reader, section, depth.saturating_add(1));
            }
        }
        Token::Object => {
            while reader.next_key().is_some() {
                read_strings(request, reader, section, depth.saturating_add(1));
            }
        }
        _ => {}
    }
}

/// Reads and counts a list of tools.
pub fn read_tools<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    read_tool_list(request, reader, 0);
    true
}

fn read_tool_list<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.next_token() {
        Token::Array => {
            while reader.next_element() {
                read_tool(request, reader, depth);
            }
        }
        token => skip_mistyped(token, reader),
    }
}

/// Reads one tool. A tool of Gemini holds a list of functions, and each function counts as a tool.
fn read_tool<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.next_token() {
        Token::Object => {}
        token => return skip_mistyped(token, reader),
    }
    let mut nested = false;
    while let Some(key) = reader.next_key() {
        match MemberName::new(key).as_str() {
            "functiondeclarations" if depth == 0 => {
                nested = true;
                read_tool_list(request, reader, 1);
            }
            key => read_schema_member(request, key, reader, Section::Definition, 0),
        }
    }
    if !nested {
        request.add_count(FieldId::ToolsCount, 1);
    }
}

/// Reads a JSON schema, or an object that wraps one: names, titles and descriptions are text.
pub fn read_schema<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    section: Section,
    depth: u8,
) {
    match reader.next_token() {
        Token::Array | Token::Object if depth > MAX_DEPTH => skip_too_deep(request, reader),
        Token::Array => {
            while reader.next_element() {
                read_schema(request, reader, section, depth.saturating_add(1));
            }
        }
        Token::Object => {
            while let Some(key) = reader.next_key() {
                read_schema_member(request, MemberName::new(key).as_str(), reader, section, depth);
            }
        }
        _ => {}
    }
}

/// Reads a member of a JSON schema. The keys of `properties` are names, and so text.
fn read_schema_member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    section: Section,
    depth: u8,
) {
    let deeper = depth.saturating_add(1);
    match key {
        "name" | "title" | "description" => match reader.next_token() {
            Token::String(raw) => request.push_text(section, raw, false),
            token => skip_mistyped(token, reader),
        },
        "properties" => match reader.next_token() {
            Token::Object if depth > MAX_DEPTH => skip_too_deep(request, reader),
            Token::Object => {
                while let Some(name) = reader.next_key() {
                    request.push_text(section, name, false);
                    read_schema(request, reader, section, deeper);
                }
            }
            token => skip_mistyped(token, reader),
        },
        _ => read_schema(request, reader, section, deeper),
    }
}

/// Skips a container that is nested too deep, and records the issue.
fn skip_too_deep<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    request.issues.insert(ReadIssues::DEPTH);
    reader.skip_rest();
}
