//! Gemini requests: generateContent, streamGenerateContent, countTokens, embedContent.

use super::content;
use super::lenient_value::skip_rest_of_value;
use super::member_name::MemberName;
use super::request::Request;
use crate::extract::lenient_json::{Reader, Token};
use crate::field::{FieldId, Section};

/// Reads the value of the body member `key` (normalised by [`MemberName`]).
///
/// Returns false, with the value unread, if Gemini's API has no such member.
pub fn read_member<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) -> bool {
    match key {
        "model" => request.read_keyword(FieldId::RequestModel, reader),
        "contents" => content::read_messages(request, reader),
        "content" => {
            content::read_message_content(request, reader, Section::User);
            true
        }
        "systeminstruction" => {
            content::read_message_content(request, reader, Section::System);
            true
        }
        "tools" => content::read_tools(request, reader),
        "generationconfig" => read_generation_config(request, reader),
        // countTokens and batch entries wrap the request.
        "generatecontentrequest" | "request" => {
            read_wrapped_request(request, reader);
            true
        }
        _ => false,
    }
}

/// Reads a request that is wrapped in a member of the body. A request that is wrapped in the
/// wrapped request is skipped.
fn read_wrapped_request<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "generatecontentrequest" | "request" => reader.skip(),
                    key => {
                        if !read_member(request, key, reader) {
                            reader.skip();
                        }
                    }
                }
            }
        }
        token => skip_rest_of_value(token, reader),
    }
}

fn read_generation_config<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                read_setting(request, MemberName::new(key).as_str(), reader);
            }
        }
        token => skip_rest_of_value(token, reader),
    }
    true
}

/// Reads a member of `generationConfig`.
fn read_setting<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) {
    match key {
        "temperature" => request.read_number(FieldId::Temperature, reader),
        "topp" => request.read_number(FieldId::TopP, reader),
        "topk" => request.read_number(FieldId::TopK, reader),
        "maxoutputtokens" => request.read_number(FieldId::MaxTokens, reader),
        "candidatecount" => request.read_number(FieldId::ChoiceCount, reader),
        "seed" => request.read_number(FieldId::Seed, reader),
        "frequencypenalty" => request.read_number(FieldId::FrequencyPenalty, reader),
        "presencepenalty" => request.read_number(FieldId::PresencePenalty, reader),
        "stopsequences" => request.read_keyword(FieldId::StopSequences, reader),
        "responselogprobs" => request.read_flag(FieldId::Logprobs, reader),
        "logprobs" => request.read_number(FieldId::TopLogprobs, reader),
        "responsemimetype" => read_mime_type(request, reader),
        "responseschema" | "responsejsonschema" => {
            content::read_schema(request, reader, Section::Schema, 0);
            true
        }
        "thinkingconfig" => read_thinking_config(request, reader),
        _ => {
            reader.skip();
            true
        }
    };
}

/// Reads `responseMimeType` as the output type: `json` or `text`.
fn read_mime_type<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.next_token() {
        Token::String(raw) => {
            let output_type = if raw.text() == "application/json" { "json" } else { "text" };
            request.keywords.push((FieldId::OutputType, output_type.into()));
        }
        token => skip_rest_of_value(token, reader),
    }
    true
}

fn read_thinking_config<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) -> bool {
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "thinkingbudget" => {
                        request.read_number(FieldId::ThinkingBudget, reader);
                    }
                    "thinkinglevel" => {
                        request.read_keyword(FieldId::ReasoningEffort, reader);
                    }
                    _ => reader.skip(),
                }
            }
        }
        token => skip_rest_of_value(token, reader),
    }
    true
}
