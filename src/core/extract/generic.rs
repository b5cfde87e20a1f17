//! Requests of unknown dialect: strings under the keys that LLM APIs use.

use super::lenient_value::skip_mistyped;
use super::member_name::MemberName;
use super::request::Request;
use super::{anthropic, content, gemini, openai};
use crate::extract::lenient_json::{Reader, Token};
use crate::field::{FieldId, Section};
use crate::http::route::Endpoint;

/// Reads the value of the body member `key` if any dialect or another LLM API has such a member.
///
/// Returns false, with the value unread, if no API has such a member.
pub fn read_member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
) -> bool {
    match key {
        "inputs" | "inputtext" | "text" | "query" | "question" | "message" | "userinput"
        | "texts" | "documents" => read_text(request, reader, Section::User),
        "systemprompt" | "preamble" => read_text(request, reader, Section::System),
        "chathistory" | "history" | "conversation" => content::read_messages(request, reader),
        "images" | "image" | "audio" => {
            content::count_attachment(request, reader);
            true
        }
        // Hugging Face, Ollama and Bedrock nest their settings one level deeper.
        "parameters" | "options" | "inferenceconfig" | "textgenerationconfig" => {
            read_settings(request, reader)
        }
        _ => {
            openai::read_member(request, key, reader, endpoint)
                || anthropic::read_member(request, key, reader)
                || gemini::read_member(request, key, reader)
        }
    }
}

fn read_text<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, section: Section) -> bool {
    content::read_content(request, reader, section, 0);
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
        token => skip_mistyped(token, reader),
    }
    true
}
