//! Anthropic: messages and token counting.

use super::{Key, Request, drop_value, part};
use crate::field::{Name, Place};
use crate::json::{Reader, Token};

/// Takes a member of the body if `key` is known here.
pub fn member<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) -> bool {
    match key {
        "model" => request.take_keyword(Name::RequestModel, reader),
        "system" => {
            part::message_parts(request, reader, Place::System);
            true
        }
        "messages" => part::messages(request, reader),
        // The text completions of old.
        "prompt" => {
            part::message_parts(request, reader, Place::User);
            true
        }
        "maxtokens" | "maxtokenstosample" => request.take_number(Name::MaxTokens, reader),
        "temperature" => request.take_number(Name::Temperature, reader),
        "topp" => request.take_number(Name::TopP, reader),
        "topk" => request.take_number(Name::TopK, reader),
        "stopsequences" => request.take_keyword(Name::StopSequences, reader),
        "stream" => request.take_flag(Name::Stream, reader),
        "tools" => part::tools(request, reader),
        "thinking" => thinking(request, reader),
        "outputformat" | "outputconfig" => output(request, reader, 0),
        _ => false,
    }
}

fn thinking<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "budgettokens" => {
                        request.take_number(Name::ThinkingBudget, reader);
                    }
                    _ => reader.skip(),
                }
            }
        }
        token => drop_value(token, reader),
    }
    true
}

/// Takes `output_format`, or `output_config` which wraps it in `format`.
fn output<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) -> bool {
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "format" if depth == 0 => {
                        output(request, reader, 1);
                    }
                    "effort" => {
                        request.take_keyword(Name::ReasoningEffort, reader);
                    }
                    "schema" => {
                        request.keywords.push((Name::OutputType, "json".into()));
                        part::schema(request, reader, Place::Schema, 0);
                    }
                    _ => reader.skip(),
                }
            }
        }
        token => drop_value(token, reader),
    }
    true
}
