//! Any other body: strings under the keys that LLM APIs use.

use super::{Request, anthropic, gemini, openai, part};
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
        "inputs" | "inputText" | "text" | "query" | "question" | "message" | "user_input"
        | "texts" | "documents" => place(request, reader, Place::User),
        "system_prompt" | "systemPrompt" | "preamble" => place(request, reader, Place::System),
        "chat_history" | "history" | "conversation" => part::messages(request, reader),
        // Hugging Face, Ollama and Bedrock keep their settings one level down.
        "parameters" | "options" | "inferenceConfig" | "textGenerationConfig" => {
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
                let known = match key.text().as_ref() {
                    "max_new_tokens" | "num_predict" | "maxTokens" | "maxTokenCount" => {
                        request.take_number(Name::MaxTokens, reader)
                    }
                    "topP" => request.take_number(Name::TopP, reader),
                    "stopSequences" => request.take_keyword(Name::StopSequences, reader),
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
