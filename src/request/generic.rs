//! Any other body: strings under the keys that LLM APIs use.

use super::{Key, Request, anthropic, gemini, openai, part};
use crate::field::{Name, Place};
use crate::json::Reader;
use crate::route::Endpoint;

/// Takes a member of the body if `key` is known to any dialect, or to other APIs.
pub fn member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
) -> bool {
    match key {
        "inputs" | "inputtext" | "text" | "query" | "question" | "message" | "userinput"
        | "texts" | "documents" => place(request, reader, Place::User),
        "systemprompt" | "preamble" => place(request, reader, Place::System),
        "chathistory" | "history" | "conversation" => part::messages(request, reader),
        "images" | "image" | "audio" => {
            part::attachment(request, reader);
            true
        }
        // Hugging Face, Ollama and Bedrock keep their settings one level down.
        "parameters" | "options" | "inferenceconfig" | "textgenerationconfig" => {
            settings(request, reader)
        }
        _ => {
            openai::member(request, key, reader, endpoint)
                || anthropic::member(request, key, reader)
                || gemini::member(request, key, reader)
        }
    }
}

fn place<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place) -> bool {
    part::parts(request, reader, place, 0);
    true
}

fn settings<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    use crate::json::Token;
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                let known = match Key::of(key).as_str() {
                    "maxnewtokens" | "numpredict" | "maxtokencount" => {
                        request.take_number(Name::MaxTokens, reader)
                    }
                    "stopsequences" => request.take_keyword(Name::StopSequences, reader),
                    "messages" | "prompt" | "input" => false,
                    key => openai::member(request, key, reader, Endpoint::Generic),
                };
                if !known {
                    reader.skip();
                }
            }
        }
        token => super::drop_value(token, reader),
    }
    true
}
