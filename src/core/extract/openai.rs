//! OpenAI requests: chat completions, responses, completions, embeddings.

use super::content;
use super::lenient_value::{for_each_token, parse_flag, parse_number, skip_rest_of_value};
use super::member_name::MemberName;
use super::request::Request;
use crate::extract::lenient_json::{Reader, Token};
use crate::field::{FieldId, Section};
use crate::http::route::Endpoint;
use crate::keyed_hash::{fmix64, hash_bytes};

/// Reads the value of the body member `key` (normalised by [`MemberName`]).
///
/// `endpoint` decides whether a bare `input` string counts as a turn. Returns false, with the value
/// unread, if OpenAI's API has no such member.
pub fn read_member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
) -> bool {
    match key {
        "model" => request.read_keyword(FieldId::RequestModel, reader),
        "messages" => content::read_messages(request, reader),
        "prompt" => read_prompt(request, reader, false),
        "input" | "items" => read_prompt(request, reader, endpoint == Endpoint::OpenaiResponses),
        "suffix" => read_text(request, reader, Section::User),
        "instructions" => read_text(request, reader, Section::System),
        "maxtokens" | "maxcompletiontokens" | "maxoutputtokens" => {
            request.read_number(FieldId::MaxTokens, reader)
        }
        "temperature" => request.read_number(FieldId::Temperature, reader),
        "topp" => request.read_number(FieldId::TopP, reader),
        "topk" => request.read_number(FieldId::TopK, reader),
        "n" => request.read_number(FieldId::ChoiceCount, reader),
        "seed" => request.read_number(FieldId::Seed, reader),
        "bestof" => request.read_number(FieldId::BestOf, reader),
        "frequencypenalty" => request.read_number(FieldId::FrequencyPenalty, reader),
        "presencepenalty" => request.read_number(FieldId::PresencePenalty, reader),
        "stop" => request.read_keyword(FieldId::StopSequences, reader),
        "stream" => request.read_flag(FieldId::Stream, reader),
        "echo" => request.read_flag(FieldId::Echo, reader),
        // `prompt_logprobs` is vLLM's, for the tokens of the prompt.
        "logprobs" | "promptlogprobs" => read_logprobs(request, reader),
        "toplogprobs" => request.read_number(FieldId::TopLogprobs, reader),
        "logitbias" => read_logit_bias(request, reader),
        "include" => read_include(request, reader),
        "tools" | "functions" => content::read_tools(request, reader),
        "responseformat" | "text" => read_response_format(request, reader, 0),
        "reasoning" => read_reasoning(request, reader),
        "reasoningeffort" => request.read_keyword(FieldId::ReasoningEffort, reader),
        "previousresponseid" | "conversation" => read_stored_conversation(request, reader),
        _ => false,
    }
}

/// Reads the id of a stored conversation that the request continues, or an object with this id.
fn read_stored_conversation<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    let token = reader.next_token();
    request.continues_stored |= matches!(token, Token::String(_) | Token::Object);
    skip_rest_of_value(token, reader);
    true
}

fn read_text<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, section: Section) -> bool {
    content::read_content(request, reader, section, 0);
    true
}

/// Reads `prompt` or `input`: a string, a reference to a stored prompt, or a list of strings, token
/// ids, lists of token ids, or messages. `is_turn` says whether a bare string counts as a turn.
fn read_prompt<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, is_turn: bool) -> bool {
    match reader.next_token() {
        Token::String(raw) => {
            request.push_text(Section::User, raw, false);
            if is_turn {
                request.add_count(FieldId::Turns, 1);
            }
        }
        Token::Array => {
            while reader.next_element() {
                read_prompt_element(request, reader);
            }
        }
        Token::Object => read_stored_prompt(request, reader),
        _ => {}
    }
    true
}

/// Reads an element of a list of prompts: a string, token ids, or a message.
fn read_prompt_element<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.next_token() {
        Token::String(raw) => {
            request.push_text(Section::User, raw, false);
            request.add_count(FieldId::PromptsCount, 1);
        }
        Token::Number(_) => request.add_count(FieldId::PromptTokenIds, 1),
        Token::Array => {
            request.add_count(FieldId::PromptsCount, 1);
            while reader.next_element() {
                match reader.next_token() {
                    Token::Number(_) => request.add_count(FieldId::PromptTokenIds, 1),
                    Token::String(raw) => request.push_text(Section::User, raw, false),
                    token => skip_rest_of_value(token, reader),
                }
            }
        }
        Token::Object => content::read_message(request, reader),
        _ => {}
    }
}

/// Reads a reference to a stored prompt. Its variables are the caller's text.
fn read_stored_prompt<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    while let Some(key) = reader.next_key() {
        match MemberName::new(key).as_str() {
            "variables" => content::read_strings(request, reader, Section::User, 0),
            _ => reader.skip(),
        }
    }
}

/// Reads `logprobs`: a flag in chat, a number of alternatives in completions.
fn read_logprobs<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    let token = reader.next_token();
    if let Some(flag) = parse_flag(token) {
        request.push_number(FieldId::Logprobs, f64::from(u8::from(flag)));
    } else if let Some(number) = parse_number(token, reader) {
        request.push_number(FieldId::Logprobs, 1.0);
        request.push_number(FieldId::TopLogprobs, number);
    }
    true
}

/// Reads `logit_bias`: its size, its largest absolute bias, and a hash for correlation.
fn read_logit_bias<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.next_token() {
        Token::Object => {
            let mut size = 0_u32;
            let mut largest = 0.0_f64;
            // The digest is a sum, so that the order of the members does not matter.
            let mut digest = 0_u64;
            while let Some(key) = reader.next_key() {
                size = size.saturating_add(1);
                let bias = parse_number(reader.next_token(), reader).unwrap_or_default();
                largest = largest.max(bias.abs());
                digest =
                    digest.wrapping_add(fmix64(hash_bytes(key.text().as_bytes()) ^ bias.to_bits()));
            }
            request.logit_bias_digest = Some(digest);
            request.push_number(FieldId::LogitBiasSize, f64::from(size));
            request.push_number(FieldId::LogitBiasMax, largest);
        }
        token => skip_rest_of_value(token, reader),
    }
    true
}

/// Reads `include`, which requests logprobs in the responses API.
fn read_include<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    for_each_token(reader, |token, reader| match token {
        Token::String(raw) if raw.text() == "message.output_text.logprobs" => {
            request.push_number(FieldId::Logprobs, 1.0);
        }
        token => skip_rest_of_value(token, reader),
    });
    true
}

/// Reads `response_format` of chat completions, or `text` of the responses API, which wraps the
/// format in `format`. `depth` is 1 inside `format`, and otherwise 0.
fn read_response_format<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, depth: u8) -> bool {
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "format" if depth == 0 => {
                        read_response_format(request, reader, 1);
                    }
                    "type" => read_output_type(request, reader),
                    "jsonschema" | "schema" => {
                        content::read_schema(request, reader, Section::Schema, 0)
                    }
                    "name" | "description" => {
                        content::read_content(request, reader, Section::Schema, 0)
                    }
                    _ => reader.skip(),
                }
            }
        }
        Token::String(raw) => request.push_text(Section::User, raw, false),
        token => skip_rest_of_value(token, reader),
    }
    true
}

/// Reads `type` of a response format as the output type: `json` or `text`.
fn read_output_type<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.next_token() {
        Token::String(raw) => {
            let output_type = if raw.text().starts_with("json") { "json" } else { "text" };
            request.keywords.push((FieldId::OutputType, output_type.into()));
        }
        token => skip_rest_of_value(token, reader),
    }
}

/// Reads `reasoning`: the reasoning effort and the token budget.
fn read_reasoning<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "effort" => {
                        request.read_keyword(FieldId::ReasoningEffort, reader);
                    }
                    "maxtokens" => {
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
