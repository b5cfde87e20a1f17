//! Anthropic requests: messages, token counting and the legacy text completions.

use super::content;
use super::lenient_value::skip_rest_of_value;
use super::member_name::MemberName;
use super::request::Request;
use crate::extract::lenient_json::{Reader, Token};
use crate::field::{FieldId, Section};

/// Reads the value of the body member `key` (normalised by [`MemberName`]).
///
/// Returns false, with the value unread, if Anthropic's API has no such member.
pub fn read_member<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) -> bool {
    match key {
        "model" => request.read_keyword(FieldId::RequestModel, reader),
        "system" => {
            content::read_message_content(request, reader, Section::System);
            true
        }
        "messages" => content::read_messages(request, reader),
        // Legacy text completions.
        "prompt" => {
            content::read_message_content(request, reader, Section::User);
            true
        }
        "maxtokens" | "maxtokenstosample" => request.read_number(FieldId::MaxTokens, reader),
        "temperature" => request.read_number(FieldId::Temperature, reader),
        "topp" => request.read_number(FieldId::TopP, reader),
        "topk" => request.read_number(FieldId::TopK, reader),
        "stopsequences" => request.read_keyword(FieldId::StopSequences, reader),
        "stream" => request.read_flag(FieldId::Stream, reader),
        "tools" => content::read_tools(request, reader),
        "thinking" => read_thinking(request, reader),
        "outputformat" | "outputconfig" => read_output_format(request, reader, 0),
        _ => false,
    }
}

fn read_thinking<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "budgettokens" => {
                        request.read_number(FieldId::ThinkingBudget, reader);
                    }
                    _ => reader.skip(),
                }
            }
        }
        token => skip_rest_of_value(token, reader),
    }
    true
}

/// Reads the value of `output_format`, or of `output_config`, which wraps the format in `format`.
/// `depth` is 1 inside `format`, and otherwise 0.
fn read_output_format<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) -> bool {
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "format" if depth == 0 => {
                        read_output_format(request, reader, 1);
                    }
                    "effort" => {
                        request.read_keyword(FieldId::ReasoningEffort, reader);
                    }
                    "schema" => {
                        request.keywords.push((FieldId::OutputType, "json".into()));
                        content::read_schema(request, reader, Section::Schema, 0);
                    }
                    _ => reader.skip(),
                }
            }
        }
        token => skip_rest_of_value(token, reader),
    }
    true
}
