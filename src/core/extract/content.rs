//! Structures that all dialects (API formats) share: messages, content parts, tools, answer
//! schemas.
//!
//! Public functions that return `bool` always return true, which means that the member was read. A
//! value of an unexpected type is skipped, and its member also counts as read.

use super::attachment::{self, Attachment};
use super::lenient_value::skip_rest_of_value;
use super::member_name::MemberName;
use super::raw_string::RawString;
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
        token => skip_rest_of_value(token, reader),
    }
}

/// Reads a message whose opening brace has been read.
///
/// The section of a text depends on the role. If the text comes before the role, the reader looks
/// ahead for the role, once per message.
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
                    // If a message has two roles, the origin decides which one it uses. The text
                    // may then come from the user, so it counts as user text.
                    request.move_to_section(start..request.segments.len(), first, Section::User);
                    section = Some(Section::User);
                }
                section = section.or(next);
            }
            "content" | "parts" => {
                let section =
                    *section.get_or_insert_with(|| lookahead_section(request, reader, is_output));
                read_content(request, reader, section, 0);
            }
            "reasoningcontent" | "reasoning" | "summary" => {
                read_content(request, reader, Section::Assistant, 0)
            }
            // Arguments of a custom tool of the responses API.
            "input" => read_strings(request, reader, Section::Assistant, 0),
            "output" => {
                is_output = true;
                read_content(request, reader, Section::Tool, 0);
            }
            "encryptedcontent" => read_reasoning_token(request, reader),
            "toolcalls" | "functioncall" | "arguments" => read_tool_calls(request, reader, 0),
            // Ollama sends `images` next to the text; the responses API sends the `result` of a
            // tool.
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

/// Returns the section of a message. `reader` is at a value of the message; the members after this
/// value decide the section, and `is_output` says whether a member `output` came before. If the
/// search budget is spent, the section is that of the user.
///
/// In malformed JSON a message may extend to the end of the body. Looking ahead is therefore
/// charged to the search budget, so that many such messages still take linear time.
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

/// Skips the value at the reader's position. Returns the section of the first role after that
/// value. Without a role, returns the section of tools if the message has an `output`, and
/// otherwise the section of the user.
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
            skip_rest_of_value(token, reader);
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
        Token::Array | Token::Object if depth > MAX_DEPTH => request.skip_too_deep(reader),
        Token::Array => {
            while reader.next_element() {
                read_content(request, reader, section, depth.saturating_add(1));
            }
        }
        Token::Object => read_part(request, reader, section, depth),
        _ => {}
    }
}

/// The meaning of a part's member `content`, which depends on the part's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartKind {
    /// Text of the message.
    Text,
    /// The result of a tool.
    ToolResult,
    /// A document, or a search result.
    Document,
}

impl PartKind {
    fn from_type(name: &str) -> Self {
        match name {
            "document" | "search_result" | "file" | "input_file" => Self::Document,
            "tool-result" | "function_call_output" => Self::ToolResult,
            name if name.ends_with("tool_result") => Self::ToolResult,
            _ => Self::Text,
        }
    }

    /// Returns the section of the part's content if the message belongs to `section`.
    fn section(self, section: Section) -> Section {
        match self {
            Self::Text => section,
            Self::ToolResult => Section::Tool,
            Self::Document => Section::Attachment,
        }
    }
}

/// Reads a content part whose opening brace has been read.
///
/// The type decides the section of the content, even if the type comes after the content. If a part
/// has two types, the origin decides which one it uses, so the part counts as text of the message.
/// If such text has the role of the user or the system, it counts as an instruction in any message.
fn read_part<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, section: Section, depth: u8) {
    let deeper = depth.saturating_add(1);
    let part_start = request.segments.len();
    let (mut kind, mut role) = (None, None);
    let mut content = 0..0;
    let mut attachment = Attachment::default();
    let mut data = None;
    let mut is_redacted = false;
    while let Some(key) = reader.next_key() {
        match MemberName::new(key).as_str() {
            "type" => {
                if let Token::String(raw) = read_scalar(reader) {
                    is_redacted |= raw.text() == "redacted_thinking";
                    let next = PartKind::from_type(&raw.text());
                    let is_conflict = kind.is_some_and(|kind| kind != next);
                    kind = Some(if is_conflict { PartKind::Text } else { next });
                }
            }
            "content" => {
                let start = request.segments.len();
                read_content(request, reader, section, deeper);
                content = start..request.segments.len();
            }
            "role" => role = read_role(reader).or(role),
            "filedata" => attachment.read_data(reader),
            "data" => data = Some(read_scalar(reader)),
            key => {
                if !read_part_member(request, key, reader, section, deeper)
                    && !attachment.read_hint(key, reader)
                {
                    reader.skip();
                }
            }
        }
    }
    if let Some(Token::String(raw)) = data.filter(|_| is_redacted) {
        push_reasoning_token(request, raw);
    }
    let kind = kind.unwrap_or(PartKind::Text);
    match role {
        Some(role @ (Section::User | Section::System)) if kind == PartKind::Text => {
            request.move_to_section(part_start..request.segments.len(), section, role);
        }
        _ => request.move_to_section(content, section, kind.section(section)),
    }
    if attachment.has_data() {
        attachment.finish(request);
    }
}

/// Reads the value of a part's member whose meaning does not depend on the part's type. Returns
/// false, with the value unread, for any other member.
fn read_part_member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    section: Section,
    depth: u8,
) -> bool {
    match key {
        "text" | "refusal" | "inputtext" | "parts" | "title" | "context" | "guardcontent"
        | "citationscontent" | "stdout" | "stderr" => read_content(request, reader, section, depth),
        "thinking" | "reasoningcontent" | "reasoningtext" | "tooluse" => {
            read_content(request, reader, Section::Assistant, depth)
        }
        "output" | "toolresult" | "codeexecutionresult" => {
            read_content(request, reader, Section::Tool, depth)
        }
        "searchresult" => read_content(request, reader, Section::Attachment, depth),
        "functionresponse" => read_strings(request, reader, Section::Tool, depth),
        "json" => read_strings(request, reader, section, depth),
        "signature" | "thoughtsignature" => read_reasoning_token(request, reader),
        // Arguments of a tool call by the model.
        "input" => read_strings(request, reader, Section::Assistant, depth),
        "functioncall" => read_tool_calls(request, reader, depth),
        "source" => read_source(request, reader, depth),
        "file" | "inlinedata" | "document" => read_file(request, reader, depth),
        "imageurl" | "videourl" | "documenturl" | "inputaudio" | "audio" | "fileid" | "image"
        | "images" | "video" | "result" => count_attachment(request, reader),
        _ => return false,
    }
    true
}

/// Counts an image, a sound or a file, and skips it.
pub fn count_attachment<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    attachment::count(request);
    reader.skip();
}

/// Reads a file: adds its text to the request, or counts the file if it is media.
pub fn read_file<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    attachment::read_member(request, reader, read_content, depth);
}

/// Reads `source`: the file of a part, or the URL of a search result, which is not a file.
fn read_source<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.clone().next_token() {
        Token::String(raw) if !attachment::is_data_url(raw.bytes()) => reader.skip(),
        _ => read_file(request, reader, depth),
    }
}

/// Reads the first token of a value, and skips the rest of an object or a list.
fn read_scalar<'a>(reader: &mut Reader<'a>) -> Token<'a> {
    let token = reader.next_token();
    skip_rest_of_value(token, reader);
    token
}

/// Reads tool calls by the model. OpenAI's `arguments` are a string of JSON; Gemini's `args` are a
/// JSON object.
pub fn read_tool_calls<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.next_token() {
        Token::String(raw) => request.push_text(Section::Assistant, raw, false),
        Token::Array | Token::Object if depth > MAX_DEPTH => request.skip_too_deep(reader),
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

/// Reads and counts a reasoning token: signed or encrypted reasoning of the model.
fn read_reasoning_token<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.next_token() {
        Token::String(raw) => push_reasoning_token(request, raw),
        token => skip_rest_of_value(token, reader),
    }
}

/// Adds and counts a reasoning token, unless it is empty. Tokens beyond [`MAX_VALUES`] are only
/// counted.
fn push_reasoning_token<'a>(request: &mut Request<'a>, raw: RawString<'a>) {
    if raw.bytes().is_empty() {
        return;
    }
    request.add_count(FieldId::ReasoningTokenCount, 1);
    match request.reasoning_tokens.len() {
        ..MAX_VALUES => request.reasoning_tokens.push(raw),
        _ => request.work.exhaust(),
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
        Token::Array | Token::Object if depth > MAX_DEPTH => request.skip_too_deep(reader),
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
        token => skip_rest_of_value(token, reader),
    }
}

/// Reads one tool. A tool of Gemini holds a list of functions, and each function counts as a tool.
fn read_tool<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) {
    match reader.next_token() {
        Token::Object => {}
        token => return skip_rest_of_value(token, reader),
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

/// Reads a JSON schema, or an object that wraps one. Names, titles and descriptions are read as
/// text.
pub fn read_schema<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    section: Section,
    depth: u8,
) {
    match reader.next_token() {
        Token::Array | Token::Object if depth > MAX_DEPTH => request.skip_too_deep(reader),
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

/// Reads a member of a JSON schema. The keys of `properties` are names of parameters, which count
/// as text.
fn read_schema_member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    section: Section,
    depth: u8,
) {
    let deeper = depth.saturating_add(1);
    match key {
        "name" | "title" | "description" | "serverdescription" => match reader.next_token() {
            Token::String(raw) => request.push_text(section, raw, false),
            token => skip_rest_of_value(token, reader),
        },
        "properties" => match reader.next_token() {
            Token::Object if depth > MAX_DEPTH => request.skip_too_deep(reader),
            Token::Object => {
                while let Some(name) = reader.next_key() {
                    request.push_text(section, name, false);
                    read_schema(request, reader, section, deeper);
                }
            }
            token => skip_rest_of_value(token, reader),
        },
        _ => read_schema(request, reader, section, deeper),
    }
}
