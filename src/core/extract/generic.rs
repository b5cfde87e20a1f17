//! Requests of any dialect: strings under the keys that LLM APIs use, at any place in the body.
//!
//! Many APIs wrap a prompt in their own objects (`input.messages`, `params.message.parts`,
//! `method.reinforcement.grader.input`). So objects under unknown keys are read, but strings under
//! unknown keys do not count as text.

use super::lenient_value::{for_each_token, skip_rest_of_value};
use super::member_name::MemberName;
use super::request::{MAX_DEPTH, Request};
use super::{anthropic, content, gemini, openai};
use crate::extract::lenient_json::{Reader, Token};
use crate::field::{FieldId, Section};
use crate::http::endpoint::Endpoint;

/// The place of a value in the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Section of the text, unless a role says otherwise.
    pub(super) section: Section,
    /// Whether strings under unknown keys are text, as in the variables of a template.
    pub(super) has_variables: bool,
    /// Number of objects and lists around the value.
    pub(super) depth: u8,
}

impl Place {
    /// The place of the body itself.
    pub(super) const BODY: Self = Self { section: Section::User, has_variables: false, depth: 0 };

    /// Returns the place of a value in an object or a list at this place.
    fn inner(self) -> Self {
        Self { has_variables: false, depth: self.depth.saturating_add(1), ..self }
    }
}

/// Reads the members of an object whose opening brace has been read: a message, a request, or an
/// object that wraps either.
///
/// `on_key` is called with each key, normalised by [`MemberName`]. If the object has a role, the
/// role decides the section of the object's text.
pub(super) fn read_object<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    place: Place,
    on_key: &mut dyn FnMut(&mut Request<'a>, &str),
) {
    let start = request.segments.len();
    let mut role = None;
    while let Some(key) = reader.next_key() {
        let key = MemberName::new(key);
        on_key(request, key.as_str());
        match key.as_str() {
            "role" | "author" => {
                let next = read_role(reader);
                // If an object has two roles, the origin decides which one it uses. The text may
                // then come from the user.
                let is_conflict = role.is_some() && next.is_some() && role != next;
                role = if is_conflict { Some(Section::User) } else { role.or(next) };
            }
            "content" | "parts" => {
                let content_start = request.segments.len();
                content::read_content(request, reader, place.section, 0);
                request.join_parts(content_start);
            }
            key => {
                if !read_member(request, key, reader, place) {
                    reader.skip();
                }
            }
        }
    }
    let Some(role) = role else { return };
    request.move_to_section(start..request.segments.len(), place.section, role);
    if role != Section::System {
        request.add_count(FieldId::Turns, 1);
    }
}

/// Reads the value of the member `key` (normalised by [`MemberName`]).
///
/// Returns false, with the value unread, if the value holds no prompt.
fn read_member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    place: Place,
) -> bool {
    let inner = place.inner();
    match key {
        "messages" | "contents" => content::read_messages(request, reader),
        "prompt" | "input" | "items" => read_prompt(request, reader, inner),
        "inputs" | "variables" | "promptvariables" | "statevariables" | "item" => {
            read_value(request, reader, Place { has_variables: true, ..inner })
        }
        "output" => {
            content::read_content(request, reader, Section::Tool, 0);
            true
        }
        "toolcalls" | "functioncall" => {
            content::read_tool_calls(request, reader, 0);
            true
        }
        // Results of tools that a stored run has called.
        "tooloutputs" => {
            request.continues_stored = true;
            read_unknown(request, reader, place)
        }
        "chathistory" | "history" | "conversation" => read_history(request, reader, inner),
        "tokenids" | "inputids" | "prompttokenids" => count_token_ids(request, reader),
        "images" | "image" | "audio" | "imageurl" | "inputaudio" => {
            content::count_attachment(request, reader);
            true
        }
        "inlinedata" | "filedata" | "document" => {
            content::read_file(request, reader, 0);
            true
        }
        // Hugging Face, Ollama and Bedrock nest their settings one level deeper.
        "parameters" | "options" | "inferenceconfig" | "textgenerationconfig" => {
            read_settings(request, reader)
        }
        // KServe sends tensors under this key, as lists. A single string under this key is not
        // text.
        "data" => read_unknown(request, reader, Place { has_variables: is_list(reader), ..place }),
        // `metadata` and `labels` hold notes of the client, `properties` the names in a JSON
        // schema. None of them is a prompt.
        "metadata" | "labels" | "properties" => false,
        "request" | "generatecontentrequest" => read_unknown(request, reader, place),
        _ => match section_of_text(key, place.section) {
            Some(section) => read_value(request, reader, Place { section, ..inner }),
            None => {
                openai::read_member(request, key, reader, Endpoint::Generic)
                    || anthropic::read_member(request, key, reader)
                    || gemini::read_member(request, key, reader)
                    || read_unknown(request, reader, place)
            }
        },
    }
}

/// Returns the section of the text that the member `key` (normalised by [`MemberName`]) holds, or
/// `None` if the member is not read as text. `outer` is the section of the object.
fn section_of_text(key: &str, outer: Section) -> Option<Section> {
    match key {
        "inputtext"
        | "text"
        | "query"
        | "question"
        | "message"
        | "userinput"
        | "userprompt"
        | "texts"
        | "promptstring"
        | "textinput"
        | "inputprefix"
        | "inputsuffix"
        | "text1"
        | "text2"
        | "instruction"
        | "task"
        | "context"
        | "inputstring"
        | "inputvalue"
        | "chatinput"
        | "sentences"
        | "sourcesentence"
        | "queries"
        | "passages"
        | "instances"
        | "textprompttemplate"
        | "prompttemplate"
        | "documentannotationprompt"
        | "bboxannotationprompt" => Some(outer),
        "systemprompt" | "preamble" | "system" | "systeminstruction" | "instructions"
        | "template" => Some(Section::System),
        "documents" => Some(Section::Attachment),
        "modelsample" => Some(Section::Assistant),
        _ => None,
    }
}

/// Reads a value that holds text: a string, a list of values, or an object. Always returns true,
/// because the member was read.
pub(super) fn read_value<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    place: Place,
) -> bool {
    match reader.next_token() {
        Token::String(raw) => request.push_text(place.section, raw, false),
        Token::Array | Token::Object if place.depth > MAX_DEPTH => request.skip_too_deep(reader),
        Token::Array => {
            while reader.next_element() {
                read_value(request, reader, place.inner());
            }
        }
        Token::Object => read_object(request, reader, place, &mut |_, _| {}),
        _ => {}
    }
    true
}

/// Reads a value under an unknown key. Objects in the value may hold a prompt; strings outside of
/// objects count as text only if `place.has_variables` is set. Always returns true, because the
/// member was read.
fn read_unknown<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place) -> bool {
    match reader.next_token() {
        Token::String(raw) if place.has_variables => request.push_text(place.section, raw, false),
        Token::Array | Token::Object if place.depth > MAX_DEPTH => request.skip_too_deep(reader),
        Token::Array => {
            let inner = Place { depth: place.depth.saturating_add(1), ..place };
            while reader.next_element() {
                read_unknown(request, reader, inner);
            }
        }
        Token::Object => read_object(request, reader, place.inner(), &mut |_, _| {}),
        _ => {}
    }
    true
}

/// Returns whether the next value is a list.
fn is_list(reader: &Reader<'_>) -> bool {
    matches!(reader.clone().next_token(), Token::Array)
}

/// Reads `prompt` or `input`: a string, an object, or a list of strings, token ids or objects.
fn read_prompt<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place) -> bool {
    match reader.next_token() {
        Token::String(raw) => request.push_text(place.section, raw, false),
        Token::Array | Token::Object if place.depth > MAX_DEPTH => request.skip_too_deep(reader),
        Token::Array => {
            while reader.next_element() {
                read_prompt_element(request, reader, place.inner());
            }
        }
        Token::Object => {
            let place = Place { has_variables: true, ..place };
            read_object(request, reader, place, &mut |_, _| {});
        }
        _ => {}
    }
    true
}

/// Reads an element of a list of prompts.
fn read_prompt_element<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place) {
    match reader.next_token() {
        Token::String(raw) => {
            request.push_text(place.section, raw, false);
            request.add_count(FieldId::PromptsCount, 1);
        }
        Token::Number(_) => request.add_count(FieldId::PromptTokenIds, 1),
        Token::Array => {
            request.add_count(FieldId::PromptsCount, 1);
            while reader.next_element() {
                match reader.next_token() {
                    Token::Number(_) => request.add_count(FieldId::PromptTokenIds, 1),
                    Token::String(raw) => request.push_text(place.section, raw, false),
                    token => skip_rest_of_value(token, reader),
                }
            }
        }
        Token::Object => read_object(request, reader, place, &mut |_, _| {}),
        _ => {}
    }
}

/// Reads the earlier turns of a conversation. A bare string is a turn of the user.
fn read_history<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place) -> bool {
    match reader.next_token() {
        Token::String(raw) => {
            request.push_text(place.section, raw, false);
            request.add_count(FieldId::Turns, 1);
        }
        Token::Array | Token::Object if place.depth > MAX_DEPTH => request.skip_too_deep(reader),
        Token::Array => {
            while reader.next_element() {
                read_history(request, reader, place.inner());
            }
        }
        Token::Object => read_object(request, reader, place, &mut |_, _| {}),
        _ => {}
    }
    true
}

/// Counts the numbers of a list of token ids.
fn count_token_ids<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    for_each_token(reader, |token, reader| match token {
        Token::Number(_) => request.add_count(FieldId::PromptTokenIds, 1),
        token => skip_rest_of_value(token, reader),
    });
    true
}

/// Reads an object of settings, which holds no prompt.
fn read_settings<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                let handled = match MemberName::new(key).as_str() {
                    "maxnewtokens" | "numpredict" | "maxtokencount" => {
                        request.read_number(FieldId::MaxTokens, reader)
                    }
                    "stopsequences" => request.read_keyword(FieldId::StopSequences, reader),
                    "messages" | "prompt" | "input" => false,
                    key => openai::read_member(request, key, reader, Endpoint::Generic),
                };
                if !handled {
                    reader.skip();
                }
            }
        }
        token => skip_rest_of_value(token, reader),
    }
    true
}

/// Reads a role in the spelling of any API; `None` if the value is not a string.
fn read_role(reader: &mut Reader<'_>) -> Option<Section> {
    match reader.next_token() {
        Token::String(raw) => Some(match raw.text().to_ascii_lowercase().as_str() {
            "system" | "developer" => Section::System,
            "assistant" | "model" | "chatbot" | "bot" | "ai" => Section::Assistant,
            "tool" | "function" => Section::Tool,
            _ => Section::User,
        }),
        token => {
            skip_rest_of_value(token, reader);
            None
        }
    }
}
