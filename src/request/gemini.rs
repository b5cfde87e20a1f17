//! Gemini: generateContent, streamGenerateContent, countTokens, embedContent. Keys come in camel
//! case from Google's SDKs and in snake case from others.

use super::{Request, drop_value, part};
use crate::field::{Name, Place};
use crate::json::{Reader, Token};

/// Takes a member of the body if `key` is known here.
pub fn member<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) -> bool {
    match key {
        "model" => request.take_keyword(Name::RequestModel, reader),
        "contents" => part::messages(request, reader),
        "content" => {
            part::parts(request, reader, Place::User, 0);
            true
        }
        "systemInstruction" | "system_instruction" => {
            part::parts(request, reader, Place::System, 0);
            true
        }
        "tools" => part::tools(request, reader),
        "generationConfig" | "generation_config" => generation(request, reader),
        // countTokens wraps the request that it counts.
        "generateContentRequest" | "request" => {
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
                match key.text().as_ref() {
                    "generateContentRequest" | "request" => reader.skip(),
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
                setting(request, &key.text(), reader);
            }
        }
        token => drop_value(token, reader),
    }
    true
}

fn setting<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) {
    match key {
        "temperature" => request.take_number(Name::Temperature, reader),
        "topP" | "top_p" => request.take_number(Name::TopP, reader),
        "topK" | "top_k" => request.take_number(Name::TopK, reader),
        "maxOutputTokens" | "max_output_tokens" => request.take_number(Name::MaxTokens, reader),
        "candidateCount" | "candidate_count" => request.take_number(Name::ChoiceCount, reader),
        "seed" => request.take_number(Name::Seed, reader),
        "frequencyPenalty" | "frequency_penalty" => {
            request.take_number(Name::FrequencyPenalty, reader)
        }
        "presencePenalty" | "presence_penalty" => {
            request.take_number(Name::PresencePenalty, reader)
        }
        "stopSequences" | "stop_sequences" => request.take_keyword(Name::StopSequences, reader),
        "responseLogprobs" | "response_logprobs" => request.take_flag(Name::Logprobs, reader),
        "logprobs" => request.take_number(Name::TopLogprobs, reader),
        "responseMimeType" | "response_mime_type" => mime_type(request, reader),
        "responseSchema" | "response_schema" | "responseJsonSchema" | "response_json_schema" => {
            part::schema(request, reader, Place::Schema, 0);
            true
        }
        "thinkingConfig" | "thinking_config" => thinking(request, reader),
        _ => {
            reader.skip();
            true
        }
    };
}

fn mime_type<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.token() {
        Token::String(raw) => {
            let kind = if raw.bytes() == b"application/json" { "json" } else { "text" };
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
                match key.text().as_ref() {
                    "thinkingBudget" | "thinking_budget" => {
                        request.take_number(Name::ThinkingBudget, reader);
                    }
                    "thinkingLevel" | "thinking_level" => {
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
