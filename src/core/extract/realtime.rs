//! Messages of a WebSocket: OpenAI's client events (Realtime, Responses), and Gemini Live.
//!
//! | dialect | message | prompt |
//! |---|---|---|
//! | OpenAI Realtime | `session.update` | `session.instructions`, `session.tools` |
//! | | `conversation.item.create` | `item` |
//! | | `response.create` | `response.instructions`, `response.input`, `response.tools` |
//! | OpenAI Responses | `response.create`, `response.inject` | the members of a request |
//! | Gemini Live | `setup` | `systemInstruction`, `tools` |
//! | | `clientContent` | `turns` |
//! | | `realtimeInput` | `text` |
//! | | `toolResponse` | the results of tools |

use super::lenient_json::{Reader, Token};
use super::lenient_value::skip_rest_of_value;
use super::member_name::MemberName;
use super::request::{Request, TEXT_KEYS};
use super::{content, gemini, openai};
use crate::field::Section;
use crate::http::route::Endpoint;

/// Returns whether the bodies of an endpoint are messages of a WebSocket.
pub fn is_event(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::OpenaiRealtime | Endpoint::GeminiLive)
}

/// The effect that a message of the client may have, judged by the members of the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageEffect {
    /// Whether the message may carry a prompt. A message without a prompt need not be scored alone.
    pub carries_prompt: bool,
    /// Whether the message makes the model generate an answer.
    pub generation: Generation,
    /// Whether the text of the message applies to the whole session and replaces the session's
    /// earlier text.
    pub is_session: bool,
}

/// Whether a message makes the model generate from the conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// The message does not make the model generate: it adds to the conversation, or controls the
    /// connection.
    #[default]
    None,
    /// The message may make the model generate, because the origin may detect the end of a turn, or
    /// because no API defines the message.
    Possible,
    /// The message makes the model generate from the conversation.
    Asked,
    /// The message makes the model generate, but not from the conversation: a Responses request
    /// that refers to no earlier conversation.
    StandaloneRequest,
}

/// Returns the effect of a client's message.
///
/// A message that the client's API does not define, or that is not valid JSON, counts as a message
/// that may carry a prompt, because an origin may read it. Bytes that do not begin like an object
/// or an array have no effect, unless the endpoint is [`Endpoint::Generic`].
pub fn message_effect(message: &[u8], endpoint: Endpoint) -> MessageEffect {
    const UNKNOWN: MessageEffect =
        MessageEffect { carries_prompt: true, generation: Generation::Possible, is_session: false };
    let mut reader = Reader::new(message, 0);
    let effect = match reader.next_token() {
        Token::Object => match endpoint {
            Endpoint::OpenaiRealtime => openai_effect(&mut reader),
            Endpoint::GeminiLive => gemini_effect(&mut reader),
            _ => UNKNOWN,
        },
        Token::Array => UNKNOWN,
        _ if endpoint == Endpoint::Generic && !message.is_empty() => return UNKNOWN,
        _ => return MessageEffect::default(),
    };
    if !reader.at_end() || reader.errors().syntax || reader.errors().truncated {
        return UNKNOWN;
    }
    effect
}

/// The members of an OpenAI event that decide its effect.
#[derive(Default)]
struct OpenaiMembers {
    types: Vec<EventKind>,
    has_content: bool,
    has_input: bool,
    /// Whether the event has a `response`, or continues an earlier response or a conversation.
    continues_conversation: bool,
}

/// The kinds of OpenAI's client events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventKind {
    /// Control events, and events that only refer to earlier items.
    Control,
    /// Audio, which may end a turn.
    Audio,
    /// The settings of the session.
    Session,
    /// An item of the conversation.
    Item,
    /// A request for a response.
    Response,
    /// An event that is not known.
    Other,
}

impl EventKind {
    fn from_type(name: &str) -> Self {
        match name {
            "input_audio_buffer.append"
            | "input_audio_buffer.commit"
            | "session.input_audio_buffer.append" => Self::Audio,
            "input_audio_buffer.clear"
            | "output_audio_buffer.clear"
            | "session.close"
            | "conversation.item.delete"
            | "conversation.item.retrieve"
            | "conversation.item.truncate"
            | "response.cancel" => Self::Control,
            "session.update" | "transcription_session.update" => Self::Session,
            "conversation.item.create" => Self::Item,
            "response.create" => Self::Response,
            _ => Self::Other,
        }
    }
}

/// Reads the members of an event. Every `type` counts, because a parser may use either of two
/// types.
fn openai_effect(reader: &mut Reader<'_>) -> MessageEffect {
    let mut members = OpenaiMembers::default();
    while let Some(key) = reader.next_key() {
        match MemberName::new(key).as_str() {
            "type" => {
                let kind = match reader.next_token() {
                    Token::String(raw) => EventKind::from_type(&raw.text()),
                    token => {
                        skip_rest_of_value(token, reader);
                        EventKind::Other
                    }
                };
                if !members.types.contains(&kind) {
                    members.types.push(kind);
                }
            }
            "eventid" | "streamid" | "responseid" => reader.skip(),
            "previousresponseid" | "conversation" | "response" => {
                members.has_content = true;
                let token = reader.next_token();
                members.continues_conversation |= token != Token::Null;
                skip_rest_of_value(token, reader);
            }
            key => {
                members.has_content = true;
                members.has_input |= key == "input";
                reader.skip();
            }
        }
    }
    members.effect()
}

impl OpenaiMembers {
    fn effect(&self) -> MessageEffect {
        let (kind, is_unambiguous) = match self.types.as_slice() {
            [kind] => (*kind, true),
            _ => (EventKind::Other, false),
        };
        let is_alone = self.has_input && !self.continues_conversation;
        MessageEffect {
            carries_prompt: self.has_content
                && !matches!(kind, EventKind::Control | EventKind::Audio),
            generation: match kind {
                EventKind::Control | EventKind::Session | EventKind::Item => Generation::None,
                EventKind::Response if is_alone => Generation::StandaloneRequest,
                EventKind::Response => Generation::Asked,
                EventKind::Audio | EventKind::Other => Generation::Possible,
            },
            is_session: is_unambiguous && kind == EventKind::Session,
        }
    }
}

/// Reads the members of a message of Gemini Live, which should have exactly one member.
fn gemini_effect(reader: &mut Reader<'_>) -> MessageEffect {
    let mut effect = MessageEffect::default();
    let (mut count, mut has_setup) = (0_usize, false);
    while let Some(key) = reader.next_key() {
        count = count.saturating_add(1);
        let (carries_prompt, generation) = match MemberName::new(key).as_str() {
            "realtimeinput" => (realtime_input_may_carry(reader), Generation::Possible),
            "clientcontent" => (true, client_content_generation(reader)),
            "setup" => {
                has_setup = true;
                reader.skip();
                (true, Generation::None)
            }
            _ => {
                reader.skip();
                (true, Generation::Possible)
            }
        };
        effect.carries_prompt |= carries_prompt;
        effect.generation = effect.generation.max(generation);
    }
    effect.is_session = has_setup && count == 1;
    effect
}

/// Reads `clientContent`. The model generates if the value says that the turn is complete. A
/// malformed value may make the model generate.
fn client_content_generation(reader: &mut Reader<'_>) -> Generation {
    let token = reader.next_token();
    if token != Token::Object {
        skip_rest_of_value(token, reader);
        return Generation::Possible;
    }
    let mut generation = Generation::None;
    while let Some(key) = reader.next_key() {
        if MemberName::new(key).as_str() != "turncomplete" {
            reader.skip();
            continue;
        }
        let next = match reader.next_token() {
            Token::Bool(false) | Token::Null => Generation::None,
            Token::Bool(true) => Generation::Asked,
            token => {
                skip_rest_of_value(token, reader);
                Generation::Possible
            }
        };
        generation = generation.max(next);
    }
    generation
}

/// Reads `realtimeInput`. Returns whether the value may carry a prompt. Its media do not count,
/// because they are not scored.
fn realtime_input_may_carry(reader: &mut Reader<'_>) -> bool {
    let token = reader.next_token();
    if token != Token::Object {
        skip_rest_of_value(token, reader);
        return token != Token::Null;
    }
    let mut may_carry = false;
    while let Some(key) = reader.next_key() {
        may_carry |= !MEDIA_INPUTS.contains(&MemberName::new(key).as_str());
        reader.skip();
    }
    may_carry
}

/// Reads the value of a message's member `key` (normalised by [`MemberName`]).
///
/// Returns false, with the value unread, if the dialect's messages have no such member.
pub(super) fn read_member<'a>(
    request: &mut Request<'a>,
    key: &str,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
) -> bool {
    match (endpoint, key) {
        (Endpoint::OpenaiRealtime, "session" | "response") => {
            read_members(request, reader, read_openai_member)
        }
        (Endpoint::OpenaiRealtime, "item") => content::read_messages(request, reader),
        (Endpoint::OpenaiRealtime, _) => read_openai_member(request, key, reader),
        (_, "setup") => read_members(request, reader, gemini::read_member),
        (_, "clientcontent" | "realtimeinput" | "toolresponse") => {
            read_members(request, reader, read_live_member)
        }
        (_, _) => gemini::read_member(request, key, reader),
    }
}

fn read_openai_member<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) -> bool {
    openai::read_member(request, key, reader, Endpoint::OpenaiResponses)
}

/// Reads a member of a message of Gemini Live.
fn read_live_member<'a>(request: &mut Request<'a>, key: &str, reader: &mut Reader<'a>) -> bool {
    match key {
        "turns" => content::read_messages(request, reader),
        "text" => {
            content::read_content(request, reader, Section::User, 0);
            true
        }
        "functionresponses" => {
            content::read_strings(request, reader, Section::Tool, 0);
            true
        }
        _ => false,
    }
}

/// Reads the members of an object with `read`, which returns whether it has read the member. Always
/// returns true, because the object was read.
fn read_members<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    read: fn(&mut Request<'a>, &str, &mut Reader<'a>) -> bool,
) -> bool {
    match reader.next_token() {
        Token::Object => {
            let mut seen_keys = 0_u16;
            while let Some(key) = reader.next_key() {
                let key = MemberName::new(key);
                request.record_duplicate_key(&mut seen_keys, TEXT_KEYS, key.as_str());
                if !read(request, key.as_str(), reader) {
                    reader.skip();
                }
            }
        }
        token => skip_rest_of_value(token, reader),
    }
    true
}

/// Members of Gemini's `realtimeInput` that are media or control.
const MEDIA_INPUTS: &[&str] =
    &["audio", "video", "mediachunks", "activitystart", "activityend", "audiostreamend"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::for_each_request;
    use crate::http::body::Body;
    use crate::http::envelope::Envelope;
    use crate::rules::policy::Limits;

    const OPENAI: Endpoint = Endpoint::OpenaiRealtime;
    const GEMINI: Endpoint = Endpoint::GeminiLive;

    #[test]
    fn messages_without_prompts_are_recognized() {
        let rows: &[(Endpoint, &str, bool)] = &[
            (OPENAI, r#"{"type":"input_audio_buffer.append","audio":"UklGRg=="}"#, false),
            (OPENAI, r#"{"audio":"UklGRg==","type":"input_audio_buffer.append"}"#, false),
            (OPENAI, r#"{"type":"input_audio_buffer.commit"}"#, false),
            (OPENAI, r#"{"type":"response.create"}"#, false),
            (OPENAI, r#"{"type":"response.create","event_id":"e"}"#, false),
            (OPENAI, r#"{"type":"conversation.item.truncate","item_id":"i"}"#, false),
            (OPENAI, r#"{"type":"response.create","response":{"instructions":"x"}}"#, true),
            (OPENAI, r#"{"type":"response.create","model":"m","input":"x"}"#, true),
            (OPENAI, r#"{"type":"response.inject","input":[]}"#, true),
            (OPENAI, r#"{"type":"session.update","session":{}}"#, true),
            (OPENAI, r#"{"type":"conversation.item.create","item":{}}"#, true),
            (OPENAI, r#"{"type":"an.event.of.the.future","words":"x"}"#, true),
            (OPENAI, r#"{"item":{}}"#, true),
            // A parser uses the first type or the last.
            (OPENAI, r#"{"type":"response.cancel","item":{},"type":"response.create"}"#, true),
            (OPENAI, r#"{"type":"response.create","item":{},"type":"response.cancel"}"#, true),
            (OPENAI, r#"{"TYPE":"x","item":{},"type":"response.cancel"}"#, true),
            (OPENAI, r#"{"type":["response.cancel"],"item":{}}"#, true),
            (OPENAI, r#"{"type":"response.cancel"}{"item":{}}"#, true),
            (OPENAI, r#"{"type":"input_audio_buffer.append","audio":"cut"#, true),
            (OPENAI, r#"[{"type":"response.cancel"}]"#, true),
            (OPENAI, "ping", false),
            (OPENAI, "", false),
            (OPENAI, "RIFF\u{1}\u{2}", false),
            (GEMINI, r#"{"realtimeInput":{"audio":{"data":"UklGRg=="}}}"#, false),
            (GEMINI, r#"{"realtime_input":{"media_chunks":[{"data":"x"}]}}"#, false),
            (GEMINI, r#"{"realtimeInput":{"activityStart":{}}}"#, false),
            (GEMINI, r#"{"realtimeInput":{"text":"x"}}"#, true),
            (GEMINI, r#"{"realtimeInput":{"audio":{}},"clientContent":{}}"#, true),
            (GEMINI, r#"{"realtimeInput":"x"}"#, true),
            (GEMINI, r#"{"setup":{"model":"m"}}"#, true),
            (GEMINI, r#"{"client_content":{"turns":[]}}"#, true),
            (GEMINI, r#"{"toolResponse":{}}"#, true),
            (Endpoint::Generic, "Hello", true),
            (Endpoint::Generic, r#"{"type":"response.cancel"}"#, true),
            (Endpoint::Generic, "", false),
        ];
        for (endpoint, message, expected) in rows {
            let effect = message_effect(message.as_bytes(), *endpoint);
            assert_eq!(effect.carries_prompt, *expected, "{message}");
        }
    }

    #[test]
    fn messages_that_make_the_model_generate_are_recognized() {
        use Generation::{Asked, None, Possible, StandaloneRequest};
        let rows: &[(Endpoint, &str, Generation)] = &[
            (OPENAI, r#"{"type":"session.update","session":{}}"#, None),
            (OPENAI, r#"{"type":"conversation.item.create","item":{}}"#, None),
            (OPENAI, r#"{"type":"conversation.item.delete","item_id":"i"}"#, None),
            (OPENAI, r#"{"type":"response.create"}"#, Asked),
            (OPENAI, r#"{"type":"response.create","response":{"input":[]}}"#, Asked),
            (OPENAI, r#"{"type":"response.create","input":"x"}"#, StandaloneRequest),
            (
                OPENAI,
                r#"{"type":"response.create","input":"x","conversation":null}"#,
                StandaloneRequest,
            ),
            (OPENAI, r#"{"type":"response.create","input":"x","previous_response_id":"r"}"#, Asked),
            (OPENAI, r#"{"type":"response.create","input":"x","conversation":{"id":"c"}}"#, Asked),
            // The origin may use either type.
            (OPENAI, r#"{"type":"session.update","type":"response.create","input":"x"}"#, Possible),
            // With voice detection, audio alone makes the model generate.
            (OPENAI, r#"{"type":"input_audio_buffer.append","audio":"x"}"#, Possible),
            (OPENAI, r#"{"type":"response.inject","input":[]}"#, Possible),
            (OPENAI, r#"{"type":"an.event.of.the.future","words":"x"}"#, Possible),
            (OPENAI, r#"{"type":"response.cancel"}{"item":{}}"#, Possible),
            (OPENAI, "ping", None),
            (GEMINI, r#"{"setup":{"model":"m"}}"#, None),
            (GEMINI, r#"{"clientContent":{"turns":[]}}"#, None),
            (GEMINI, r#"{"clientContent":{"turns":[],"turnComplete":false}}"#, None),
            (GEMINI, r#"{"client_content":{"turn_complete":true}}"#, Asked),
            (GEMINI, r#"{"clientContent":{"turnComplete":"true"}}"#, Possible),
            (GEMINI, r#"{"clientContent":{"turnComplete":true,"turnComplete":false}}"#, Asked),
            (GEMINI, r#"{"realtimeInput":{"text":"x"}}"#, Possible),
            (GEMINI, r#"{"realtimeInput":{"activityEnd":{}}}"#, Possible),
            (GEMINI, r#"{"toolResponse":{}}"#, Possible),
            (Endpoint::Generic, "Hello", Possible),
        ];
        for (endpoint, message, expected) in rows {
            let effect = message_effect(message.as_bytes(), *endpoint);
            assert_eq!(effect.generation, *expected, "{message}");
        }
    }

    /// Returns the texts of a message with their sections.
    fn texts(endpoint: Endpoint, message: &str) -> Vec<(Section, String)> {
        let body = Body::new(message.as_bytes(), None, &Limits::default());
        let mut texts = Vec::new();
        let envelope = Envelope { method: "GET", body: message.as_bytes(), ..Envelope::default() };
        for_each_request(&envelope, endpoint, &body, &Limits::default(), &mut |request| {
            texts.extend(request.segments().iter().map(|segment| {
                (segment.section, request.text()[segment.range.clone()].to_owned())
            }));
        });
        texts
    }

    #[test]
    fn prompts_are_read_from_messages() {
        use Section::{Definition, System, Tool, User};
        let rows: &[(Endpoint, &str, &[(Section, &str)])] = &[
            (
                OPENAI,
                r#"{"type":"session.update","session":{"type":"realtime","instructions":"be kind",
                    "voice":"alto","tools":[{"name":"tool","description":"adds"}]}}"#,
                &[(System, "be kind"), (Definition, "tool"), (Definition, "adds")],
            ),
            (
                OPENAI,
                r#"{"type":"conversation.item.create","item":{"type":"message","role":"user",
                    "content":[{"type":"input_text","text":"a hedge"}]}}"#,
                &[(User, "a hedge")],
            ),
            (
                OPENAI,
                r#"{"type":"conversation.item.create","item":{"type":"function_call_output",
                    "call_id":"c","output":"12 metres"}}"#,
                &[(Tool, "12 metres")],
            ),
            (
                OPENAI,
                r#"{"type":"response.create","response":{"instructions":"be brief",
                    "input":[{"type":"message","role":"user","content":"a yew"}]}}"#,
                &[(System, "be brief"), (User, "a yew")],
            ),
            (
                OPENAI,
                r#"{"type":"response.create","model":"m","instructions":"be brief","input":"box"}"#,
                &[(System, "be brief"), (User, "box")],
            ),
            (
                GEMINI,
                r#"{"setup":{"model":"models/m","systemInstruction":{"parts":[{"text":"be kind"}]},
                    "tools":[{"functionDeclarations":[{"name":"tool"}]}]}}"#,
                &[(System, "be kind"), (Definition, "tool")],
            ),
            (
                GEMINI,
                r#"{"client_content":{"turns":[{"role":"user","parts":[{"text":"a hedge"}]}],
                    "turn_complete":true}}"#,
                &[(User, "a hedge")],
            ),
            (GEMINI, r#"{"realtimeInput":{"text":"a yew"}}"#, &[(User, "a yew")]),
            (
                GEMINI,
                r#"{"toolResponse":{"functionResponses":[{"response":{"result":"12"}}]}}"#,
                &[(Tool, "12")],
            ),
            // No dialect defines this event, so its text is read as a request of unknown dialect.
            (OPENAI, r#"{"type":"an.event.of.the.future","text":"a hedge"}"#, &[(User, "a hedge")]),
        ];
        for (endpoint, message, expected) in rows {
            let expected: Vec<_> =
                expected.iter().map(|(section, text)| (*section, (*text).to_owned())).collect();
            assert_eq!(texts(*endpoint, message), expected, "{message}");
        }
    }
}
