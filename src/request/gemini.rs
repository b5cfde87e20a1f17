//! Gemini: generateContent, streamGenerateContent, countTokens, embedContent.

use super::{Key, Request, drop_value, part};
use crate::field::{Name, Place};
use crate::json::{Reader, Token};

/// Takes a member of the body if `key` is known here.
pub fn member<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) -> bool {
    match key {
        "model" => request.take_keyword(Name::RequestModel, reader),
        "contents" => part::messages(request, reader),
        "content" => {
            part::message_parts(request, reader, Place::User);
            true
        }
        "systeminstruction" => {
            part::message_parts(request, reader, Place::System);
            true
        }
        "tools" => part::tools(request, reader),
        "generationconfig" => generation(request, reader),
        // countTokens wraps the request that it counts.
        "generatecontentrequest" | "request" => {
            wrapped(request, reader);
            true
        }
        _ => false,
    }
}

fn wrapped<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "generatecontentrequest" | "request" => reader.skip(),
                    key => {
                        if !member(request, key, reader) {
                            reader.skip();
                        }
                    }
                }
            }
        }
        token => drop_value(token, reader),
    }
}

fn generation<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                setting(request, Key::of(key).as_str(), reader);
            }
        }
        token => drop_value(token, reader),
    }
    true
}

fn setting<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) {
    match key {
        "temperature" => request.take_number(Name::Temperature, reader),
        "topp" => request.take_number(Name::TopP, reader),
        "topk" => request.take_number(Name::TopK, reader),
        "maxoutputtokens" => request.take_number(Name::MaxTokens, reader),
        "candidatecount" => request.take_number(Name::ChoiceCount, reader),
        "seed" => request.take_number(Name::Seed, reader),
        "frequencypenalty" => request.take_number(Name::FrequencyPenalty, reader),
        "presencepenalty" => request.take_number(Name::PresencePenalty, reader),
        "stopsequences" => request.take_keyword(Name::StopSequences, reader),
        "responselogprobs" => request.take_flag(Name::Logprobs, reader),
        "logprobs" => request.take_number(Name::TopLogprobs, reader),
        "responsemimetype" => mime_type(request, reader),
        "responseschema" | "responsejsonschema" => {
            part::schema(request, reader, Place::Schema, 0);
            true
        }
        "thinkingconfig" => thinking(request, reader),
        _ => {
            reader.skip();
            true
        }
    };
}

fn mime_type<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::String(raw) => {
            let kind = if raw.text() == "application/json" { "json" } else { "text" };
            request.keywords.push((Name::OutputType, kind.into()));
        }
        token => drop_value(token, reader),
    }
    true
}

fn thinking<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "thinkingbudget" => {
                        request.take_number(Name::ThinkingBudget, reader);
                    }
                    "thinkinglevel" => {
                        request.take_keyword(Name::ReasoningEffort, reader);
                    }
                    _ => reader.skip(),
                }
            }
        }
        token => drop_value(token, reader),
    }
    true
}
