//! OpenAI: chat completions, responses, completions, embeddings.

use super::{Key, Request, drop_value, flag_in, number_in, part};
use crate::field::{Name, Place};
use crate::hash::{mix, word};
use crate::json::{Reader, Token};
use crate::route::Endpoint;

/// Takes a member of the body if `key` is known here.
pub fn member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
) -> bool {
    match key {
        "model" => request.take_keyword(Name::RequestModel, reader),
        "messages" => part::messages(request, reader),
        "prompt" => prompt(request, reader, false),
        "input" | "items" => prompt(request, reader, endpoint == Endpoint::OpenaiResponses),
        "suffix" => text(request, reader, Place::User),
        "instructions" => text(request, reader, Place::System),
        "maxtokens" | "maxcompletiontokens" | "maxoutputtokens" => {
            request.take_number(Name::MaxTokens, reader)
        }
        "temperature" => request.take_number(Name::Temperature, reader),
        "topp" => request.take_number(Name::TopP, reader),
        "topk" => request.take_number(Name::TopK, reader),
        "n" => request.take_number(Name::ChoiceCount, reader),
        "seed" => request.take_number(Name::Seed, reader),
        "bestof" => request.take_number(Name::BestOf, reader),
        "frequencypenalty" => request.take_number(Name::FrequencyPenalty, reader),
        "presencepenalty" => request.take_number(Name::PresencePenalty, reader),
        "stop" => request.take_keyword(Name::StopSequences, reader),
        "stream" => request.take_flag(Name::Stream, reader),
        "echo" => request.take_flag(Name::Echo, reader),
        // vLLM has the prompt's own, too.
        "logprobs" | "promptlogprobs" => logprobs(request, reader),
        "toplogprobs" => request.take_number(Name::TopLogprobs, reader),
        "logitbias" => logit_bias(request, reader),
        "include" => include(request, reader),
        "tools" | "functions" => part::tools(request, reader),
        "responseformat" | "text" => format(request, reader, 0),
        "reasoning" => reasoning(request, reader),
        "reasoningeffort" => request.take_keyword(Name::ReasoningEffort, reader),
        _ => false,
    }
}

fn text<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, place: Place) -> bool {
    part::parts(request, reader, place, 0);
    true
}

/// Takes `prompt` or `input`: a string, strings, token ids, lists of token ids, or messages.
fn prompt<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, is_turn: bool) -> bool {
    match reader.token() {
        Token::String(raw) => {
            request.push_text(Place::User, raw, false);
            if is_turn {
                request.count(Name::Turns, 1);
            }
        }
        Token::Array => {
            while reader.element() {
                prompt_element(request, reader);
            }
        }
        Token::Object => stored_prompt(request, reader),
        _ => {}
    }
    true
}

fn prompt_element<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.token() {
        Token::String(raw) => {
            request.push_text(Place::User, raw, false);
            request.count(Name::PromptsCount, 1);
        }
        Token::Number(_) => request.count(Name::PromptTokenIds, 1),
        Token::Array => {
            request.count(Name::PromptsCount, 1);
            while reader.element() {
                match reader.token() {
                    Token::Number(_) => request.count(Name::PromptTokenIds, 1),
                    Token::String(raw) => request.push_text(Place::User, raw, false),
                    token => drop_value(token, reader),
                }
            }
        }
        Token::Object => part::message(request, reader),
        _ => {}
    }
}

/// Takes a reference to a stored prompt: its variables are what the caller says.
fn stored_prompt<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    while let Some(key) = reader.key() {
        match Key::of(key).as_str() {
            "variables" => part::strings(request, reader, Place::User, 0),
            _ => reader.skip(),
        }
    }
}

/// Takes `logprobs`: a flag in chat, a number of alternatives in completions.
fn logprobs<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    let token = reader.token();
    if let Some(flag) = flag_in(token) {
        request.number(Name::Logprobs, f64::from(u8::from(flag)));
    } else if let Some(number) = number_in(token, reader) {
        request.number(Name::Logprobs, 1.0);
        request.number(Name::TopLogprobs, number);
    }
    true
}

fn logit_bias<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::Object => {
            let (mut size, mut largest, mut digest) = (0_u32, 0.0_f64, 0_u64);
            while let Some(key) = reader.key() {
                size = size.saturating_add(1);
                let bias = number_in(reader.token(), reader).unwrap_or_default();
                largest = largest.max(bias.abs());
                digest = digest.wrapping_add(mix(word(key.text().as_bytes()) ^ bias.to_bits()));
            }
            request.bias = Some(digest);
            request.number(Name::LogitBiasSize, f64::from(size));
            request.number(Name::LogitBiasMax, largest);
        }
        token => drop_value(token, reader),
    }
    true
}

/// Takes `include`, by which the responses API is asked for logprobs.
fn include<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::Array => {
            while reader.element() {
                match reader.token() {
                    Token::String(raw) if raw.text() == "message.output_text.logprobs" => {
                        request.number(Name::Logprobs, 1.0);
                    }
                    token => drop_value(token, reader),
                }
            }
        }
        token => drop_value(token, reader),
    }
    true
}

/// Takes `response_format` of chat or `text` of responses, which wraps it in `format`.
fn format<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) -> bool {
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "format" if depth == 0 => {
                        format(request, reader, 1);
                    }
                    "type" => output_type(request, reader),
                    "jsonschema" | "schema" => part::schema(request, reader, Place::Schema, 0),
                    "name" | "description" => part::parts(request, reader, Place::Schema, 0),
                    _ => reader.skip(),
                }
            }
        }
        Token::String(raw) => request.push_text(Place::User, raw, false),
        token => drop_value(token, reader),
    }
    true
}

fn output_type<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.token() {
        Token::String(raw) => {
            let kind = if raw.text().starts_with("json") { "json" } else { "text" };
            request.keywords.push((Name::OutputType, kind.into()));
        }
        token => drop_value(token, reader),
    }
}

fn reasoning<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "effort" => {
                        request.take_keyword(Name::ReasoningEffort, reader);
                    }
                    "maxtokens" => {
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
