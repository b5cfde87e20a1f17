//! A WebSocket on an LLM path: forwards the messages of both ends, and scores the client's prompts.
//!
//! Each message of the client that contains a prompt is treated like a request. Each such message
//! has a request id, a decision, a log line and an observation. The rules that are in force when
//! the message arrives decide. A refused message does not reach the origin: the client gets an
//! error event, and both ends are closed.
//!
//! Scoring is synchronous. So messages keep their order without a queue, and at most one message is
//! in Wasm's memory. If a message is larger than 32 MiB, even in fragments, the platform closes the
//! WebSocket with code 1009.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hedgerow_core::Envelope;
use hedgerow_core::completeness::UnscoredReasons;
use hedgerow_core::enforce::worded_refusal::WordedRefusal;
use hedgerow_core::extract::conversation::{Conversation, KeptMessage};
use hedgerow_core::extract::realtime::{MessageEffect, message_effect};
use hedgerow_core::http::body::Body;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::{Mode, Policy, WebSocketPolicy};
use js_sys::{JsString, Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::Response;
use worker::Context;

use crate::isolate::active_rules::ActiveRules;
use crate::isolate::{active_rules, indicators, observation_queue, published_names, telemetry};
use crate::platform::clock::{now_ms, now_seconds};
use crate::platform::panic::catch_panic;
use crate::platform::settings::Settings;
use crate::request::client_request;
use crate::request::client_request::ClientRequest;
use crate::request::keep_alive::{KeepAlive, keep_alive};
use crate::request::llm_call::LlmCall;
use crate::request::llm_call::message::MessageOutcome;
use crate::request::mode::effective_mode;
use crate::request::origin_headers::OriginHeaders;
use crate::request::request_body::RequestBody;
use crate::request::response::RequestError;
use crate::request::sender::Sender;
use crate::request::unread_bytes::UnreadBytes;
use crate::request::upstream::{SWITCHING_PROTOCOLS, Upstream, handshake_response};

#[wasm_bindgen]
extern "C" {
    /// One end of a WebSocket. The wrapper of `worker` is not used, because it panics if certain
    /// calls fail.
    type Socket;

    #[wasm_bindgen(method, catch)]
    fn accept(this: &Socket) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    fn send(this: &Socket, data: &JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    fn close(this: &Socket) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = close)]
    fn close_with(this: &Socket, code: u16, reason: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = addEventListener)]
    fn listen(this: &Socket, event: &str, listener: &JsValue) -> Result<(), JsValue>;

    /// The two ends of a WebSocket, as members `0` and `1`.
    #[wasm_bindgen(extends = Object)]
    type WebSocketPair;

    #[wasm_bindgen(constructor, catch)]
    fn new() -> Result<WebSocketPair, JsValue>;

    /// An event of a [`Socket`].
    type SocketEvent;

    #[wasm_bindgen(method, getter)]
    fn data(this: &SocketEvent) -> JsValue;

    #[wasm_bindgen(method, getter)]
    fn code(this: &SocketEvent) -> JsValue;

    #[wasm_bindgen(method, getter)]
    fn reason(this: &SocketEvent) -> JsValue;

    /// The platform's UTF-8 encoder. It writes at most as many bytes as the buffer has.
    type TextEncoder;

    #[wasm_bindgen(constructor, catch)]
    fn new() -> Result<TextEncoder, JsValue>;

    #[wasm_bindgen(method, catch, js_name = encodeInto)]
    fn encode_into(this: &TextEncoder, text: &JsString, to: &Uint8Array)
    -> Result<Object, JsValue>;
}

/// Answers the handshake of a WebSocket whose messages may contain prompts, according to the
/// policy. If the policy refuses WebSockets, but is in Shadow mode, the handshake is forwarded, and
/// the messages are scored.
///
/// # Errors
/// If the policy refuses WebSockets, or as for [`Upstream::forward_unread`].
pub async fn handle(
    upstream: Upstream<'_>,
    settings: &Rc<Settings>,
    active_rules: &ActiveRules,
    endpoint: Endpoint,
    account_secret: &str,
) -> Result<Response, RequestError> {
    let request = upstream.request;
    let identity = &active_rules.active().policy().identity;
    let is_trusted = upstream.is_trusted;
    let sender = Sender::find(request, endpoint.dialect(), identity, is_trusted, account_secret);
    let (ruleset, _) = active_rules.ruleset_for_account(sender.account.as_deref());
    match ruleset.policy().websocket {
        WebSocketPolicy::Pass => {
            telemetry::count_unscored(UnscoredReasons::WEBSOCKET);
            telemetry::count_forwarded_unread(telemetry::WEBSOCKET_METHOD, request.path());
            return upstream.forward_unread().await;
        }
        WebSocketPolicy::Refuse
            if mode(request, settings, active_rules, ruleset.policy(), &sender)
                == Mode::Enforce =>
        {
            return Err(RequestError::WebSocketRefused);
        }
        WebSocketPolicy::Refuse | WebSocketPolicy::Score => {}
    }
    let response = upstream.open_websocket().await?;
    match origin_socket(&response) {
        Some(origin) => Connection::open(&upstream, settings, endpoint, origin, &response)
            .map_err(|_| RequestError::InvalidRequest),
        // The origin refused the handshake. The client gets the origin's response.
        None => Ok(upstream.with_request_id(response)),
    }
}

/// Returns the mode for a handshake.
fn mode(
    request: &ClientRequest,
    settings: &Settings,
    active_rules: &ActiveRules,
    policy: &Policy,
    sender: &Sender,
) -> Mode {
    let envelope = Envelope { now: now_seconds(), ..sender.envelope(request.envelope()) };
    let model = request.query_model();
    let policy_mode = policy.disposition(&envelope.attributes(model.as_deref())).mode;
    effective_mode(request, settings, active_rules, policy_mode)
}

/// Returns the origin's WebSocket, if its response has one.
fn origin_socket(response: &Response) -> Option<Socket> {
    if response.status() != SWITCHING_PROTOCOLS {
        return None;
    }
    let socket = Reflect::get(response, &JsValue::from_str("webSocket")).ok()?;
    socket.is_object().then(|| socket.unchecked_into())
}

/// An open connection: a WebSocket to the client, a WebSocket to the origin, and the head of the
/// handshake.
struct Connection {
    client: Socket,
    origin: Socket,
    /// The head that is used for each message, from the client's handshake.
    request: ClientRequest,
    endpoint: Endpoint,
    /// Whether a trusted gateway sent the handshake.
    is_trusted: bool,
    /// Texts of the client's earlier messages, with which later messages are scored.
    conversation: RefCell<Conversation>,
    to_client: UnreadBytes,
    to_origin: UnreadBytes,
    /// Time at which the client sent its last message, in milliseconds since the epoch.
    last_message_ms: Cell<f64>,
    settings: Rc<Settings>,
    context: Context,
    /// Keeps the invocation alive until the connection is freed. Otherwise the platform would end
    /// the invocation as soon as the client disconnects.
    _keep_alive: Option<KeepAlive>,
}

/// A connection that listeners share. The first close sets it to `None`, which frees the
/// connection. Otherwise the listeners in JavaScript and the connection in Wasm would keep each
/// other alive forever.
type Shared = Rc<RefCell<Option<Rc<Connection>>>>;

/// The end of a connection from which an event comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Client,
    Origin,
}

impl Connection {
    /// Connects a new WebSocket for the client with the WebSocket of the origin. Returns the
    /// response for the client, with the headers of the origin's response.
    fn open(
        upstream: &Upstream<'_>,
        settings: &Rc<Settings>,
        endpoint: Endpoint,
        origin: Socket,
        response: &Response,
    ) -> Result<Response, JsValue> {
        let pair = WebSocketPair::new()?;
        let client_end = Reflect::get_u32(&pair, 0)?;
        let client: Socket = Reflect::get_u32(&pair, 1)?.unchecked_into();
        let context = upstream.context;
        let connection = Rc::new(Self {
            client,
            origin,
            request: upstream.request.head_of_messages(),
            endpoint,
            is_trusted: upstream.is_trusted,
            conversation: RefCell::default(),
            to_client: UnreadBytes::of_client(),
            to_origin: UnreadBytes::of_origin(),
            last_message_ms: Cell::new(now_ms()),
            settings: Rc::clone(settings),
            context: share(context),
            _keep_alive: keep_alive(context),
        });
        let shared: Shared = Rc::new(RefCell::new(Some(Rc::clone(&connection))));
        for end in [End::Client, End::Origin] {
            let socket = connection.socket(end);
            // Binary messages then arrive as an `ArrayBuffer`, whose bytes are available at once.
            // Reading a `Blob` needs a promise.
            Reflect::set(socket, &"binaryType".into(), &"arraybuffer".into())?;
            add_listeners(socket, end, &shared)?;
            socket.accept()?;
        }
        handshake_response(&client_end, &response.headers())
    }

    fn socket(&self, end: End) -> &Socket {
        match end {
            End::Client => &self.client,
            End::Origin => &self.origin,
        }
    }

    /// Sends a message to one end. Returns false, and sends nothing, if that end reads too slowly.
    fn send(&self, end: End, message: &JsValue) -> bool {
        let unread = match end {
            End::Client => &self.to_client,
            End::Origin => &self.to_origin,
        };
        let fits = unread.add(message_size(message));
        if fits {
            // Sending fails if the peer has closed its end. That is not an error: its close event
            // will arrive.
            let _ = self.socket(end).send(message);
        }
        fits
    }

    /// Assumes that both ends have been reading since the client's last message. This is counted
    /// only when the client sends a message, because a client that has disconnected does not read.
    fn drain_unread_estimates(&self) {
        let now = now_ms();
        let elapsed = now - self.last_message_ms.replace(now);
        self.to_client.drain(elapsed);
        self.to_origin.drain(elapsed);
    }

    /// Closes both ends because one of them reads too slowly.
    fn close_slow(&self) {
        telemetry::count_error("a peer of a WebSocket reads too slowly");
        close(&self.client, TRY_AGAIN_LATER, "messages are read too slowly: try again later");
        close(&self.origin, GOING_AWAY, "");
    }

    /// Decides about a message of the client. Returns the outcome and the message's request id,
    /// which is empty if the message was not scored. Most messages are audio: they are forwarded
    /// after a check of their JSON members.
    fn decide(&self, message: &JsValue) -> (MessageOutcome, String) {
        let forward = (MessageOutcome::Forward, String::new());
        let settings = self.settings.as_ref();
        let (Ok(rules), Some(secret), Ok(origin)) =
            (active_rules::current(), settings.account_secret.as_deref(), settings.origin.as_ref())
        else {
            telemetry::count_unscored(UnscoredReasons::WEBSOCKET);
            return forward;
        };
        let policy = rules.active().policy();
        let Some((bytes, left_out_bytes)) = read_message(message, policy.scan.max_body) else {
            return forward;
        };
        let is_text = message.is_string();
        let read = catch_panic(|| self.effect(&bytes, is_text, policy));
        // A panic must not bypass `fail_closed`.
        let error = read.is_none().then_some("reading a message of a WebSocket panicked");
        let effect = read.unwrap_or_default();
        // Take the conversation out of the cell instead of borrowing it: if another listener ran
        // meanwhile, its borrow would panic instead of waiting.
        let mut conversation = self.conversation.take();
        if error.is_none() && !effect.carries_prompt && !conversation.is_scored_with(effect) {
            conversation.add(KeptMessage::default(), effect, None);
            self.conversation.replace(conversation);
            return forward;
        }
        let request_id = client_request::new_request_id();
        let upstream = Upstream {
            origin,
            request: &self.request,
            request_id: &request_id,
            context: &self.context,
            // The head is not sent to the origin again.
            private_headers: &[],
            origin_headers: &OriginHeaders::default(),
            is_trusted: self.is_trusted,
        };
        let body = RequestBody::of_message(bytes, left_out_bytes, policy);
        let outcome = LlmCall::new(upstream, settings, &rules, self.endpoint, error, secret)
            .map_or(MessageOutcome::Forward, |call| {
                call.filter_message(&body, effect, &mut conversation)
            });
        self.conversation.replace(conversation);
        (outcome, request_id)
    }

    /// Returns the effect of a message on the conversation. Binary messages may be in UTF-16 or
    /// UTF-32.
    fn effect(&self, bytes: &[u8], is_text: bool, policy: &Policy) -> MessageEffect {
        #[cfg(feature = "fault-injection")]
        crate::request::classify::inject_panic(&self.request, "message");
        if is_text {
            return message_effect(bytes, self.endpoint);
        }
        let body = Body::new(bytes, None, &policy.scan);
        message_effect(body.bytes(), self.endpoint)
    }

    /// Reports counts and observations, and reads newer rules, in the background. The connection
    /// does this because an isolate may get no other request for hours.
    fn schedule_background_work(&self) {
        telemetry::schedule_report(&self.settings, &self.context);
        observation_queue::schedule_send(&self.settings, &self.context);
        let settings = Rc::clone(&self.settings);
        let context = share(&self.context);
        self.context.wait_until(async move {
            futures_util::join!(
                active_rules::refresh(&settings, &context),
                indicators::refresh(&settings, &context),
                published_names::refresh(&settings, &context)
            );
        });
    }

    /// Closes both ends because a message was refused. Sends an error event to the client first, if
    /// the dialect has one.
    fn refuse(&self, worded: &WordedRefusal) {
        if let Some(event) = worded.event() {
            let _ = self.client.send(&JsValue::from_str(&event.to_string()));
        }
        close(&self.client, worded.refusal.close_code(), &worded.close_reason());
        close(&self.origin, NORMAL_CLOSURE, "");
    }
}

/// Returns a second handle to the context of an invocation.
fn share(context: &Context) -> Context {
    let context: &JsValue = context.as_ref().as_ref();
    Context::new(context.clone().unchecked_into())
}

/// Adds the listeners of one end. The garbage collector frees them with the socket.
fn add_listeners(socket: &Socket, end: End, shared: &Shared) -> Result<(), JsValue> {
    let on_message = Rc::clone(shared);
    listen(socket, "message", move |event| match end {
        End::Client => on_client_message(&on_message, &event.data()),
        End::Origin => {
            if let Some(connection) = current(&on_message)
                && !connection.send(End::Client, &event.data())
            {
                on_message.take();
                connection.close_slow();
            }
        }
    })?;
    let on_close = Rc::clone(shared);
    listen(socket, "close", move |event| {
        let code = event.code().as_f64().map_or(ABNORMAL_CLOSURE, |code| code as u16);
        close_other(&on_close, end, code, &event.reason().as_string().unwrap_or_default());
    })?;
    let on_error = Rc::clone(shared);
    listen(socket, "error", move |_| close_other(&on_error, end, ABNORMAL_CLOSURE, ""))
}

/// Adds one listener. A panic in the listener is counted as an error, and closes neither the
/// connection nor the other end.
fn listen(
    socket: &Socket,
    event: &str,
    handle: impl Fn(SocketEvent) + 'static,
) -> Result<(), JsValue> {
    let listener: Box<dyn FnMut(SocketEvent)> = Box::new(move |event| {
        if catch_panic(|| handle(event)).is_none() {
            telemetry::count_error("a listener of a WebSocket panicked");
        }
    });
    let listener = Closure::wrap_assert_unwind_safe(listener);
    socket.listen(event, &listener.into_js_value())
}

/// Returns the connection, unless it was closed.
fn current(shared: &Shared) -> Option<Rc<Connection>> {
    shared.borrow().as_ref().map(Rc::clone)
}

/// Forwards a message of the client, or refuses it.
fn on_client_message(shared: &Shared, message: &JsValue) {
    let Some(connection) = current(shared) else { return };
    connection.drain_unread_estimates();
    let decided = catch_panic(|| connection.decide(message));
    let (outcome, request_id) = decided.unwrap_or_else(|| {
        telemetry::count_error("reading a message of a WebSocket panicked");
        (MessageOutcome::Forward, String::new())
    });
    let forwarded = match outcome {
        MessageOutcome::Forward => Some(message.clone()),
        MessageOutcome::ForwardEdited(bytes) => Some(edited_message(&bytes, message.is_string())),
        MessageOutcome::Refuse(worded) => {
            shared.take();
            connection.refuse(&worded);
            None
        }
    };
    if let Some(message) = forwarded
        && !connection.send(End::Origin, &message)
    {
        shared.take();
        connection.close_slow();
    }
    if !request_id.is_empty() {
        connection.schedule_background_work();
    }
}

/// Closes the other end with the code and reason of `end`, and frees the connection.
fn close_other(shared: &Shared, end: End, code: u16, reason: &str) {
    let Some(connection) = shared.take() else { return };
    match (end, code) {
        (_, NO_STATUS) => {
            let _ = connection.socket(end.other()).close();
        }
        // These codes mean that the peer has disconnected. They must not be sent.
        (End::Client, ABNORMAL_CLOSURE | TLS_FAILURE) => close(&connection.origin, GOING_AWAY, ""),
        (End::Origin, ABNORMAL_CLOSURE | TLS_FAILURE) => {
            close(&connection.client, INTERNAL_ERROR, "")
        }
        _ => close(connection.socket(end.other()), code, reason),
    }
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Origin,
            Self::Origin => Self::Client,
        }
    }
}

/// Closes an end. If the platform rejects the code, closes it without a code.
fn close(socket: &Socket, code: u16, reason: &str) {
    if socket.close_with(code, reason).is_err() {
        let _ = socket.close();
    }
}

/// Returns the size of a message: its bytes or, for text, its UTF-16 code units. Text has at least
/// as many bytes in UTF-8 as code units.
fn message_size(message: &JsValue) -> u64 {
    let text_units = message.dyn_ref::<JsString>().map(JsString::length);
    let bytes = || message.dyn_ref::<js_sys::ArrayBuffer>().map(|buffer| buffer.byte_length());
    text_units.or_else(bytes).unwrap_or_default().into()
}

/// Returns at most `max_bytes` bytes of a message, and the number of bytes left out, which for text
/// is a lower bound. Returns `None` if the message is neither text nor binary.
fn read_message(message: &JsValue, max_bytes: usize) -> Option<(Vec<u8>, u64)> {
    if let Some(text) = message.dyn_ref::<JsString>() {
        return read_text(text, max_bytes);
    }
    let bytes = Uint8Array::new(message.dyn_ref::<js_sys::ArrayBuffer>()?);
    let length = bytes.length();
    let read_length = length.min(u32::try_from(max_bytes).unwrap_or(u32::MAX));
    Some((bytes.subarray(0, read_length).to_vec(), u64::from(length.saturating_sub(read_length))))
}

/// Reads text as UTF-8, with the same result as [`read_message`]. Returns `None` if the platform
/// cannot encode the text. The platform encodes long text into a buffer of bounded size. In Wasm,
/// encoding would take memory for three times the text, and Wasm's memory never shrinks.
fn read_text(text: &JsString, max_bytes: usize) -> Option<(Vec<u8>, u64)> {
    let units = text.length();
    if units <= SHORT_TEXT_UNITS {
        return Some((String::from(text).into_bytes(), 0));
    }
    let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX);
    let buffer = Uint8Array::new_with_length(units.saturating_mul(3).min(max_bytes));
    let result = TextEncoder::new().ok()?.encode_into(text, &buffer).ok()?;
    let count = |name: &str| Reflect::get(&result, &JsValue::from_str(name)).ok()?.as_f64();
    let (read, written) = (count("read")? as u32, count("written")? as u32);
    Some((buffer.subarray(0, written).to_vec(), u64::from(units.saturating_sub(read))))
}

/// Returns an edited message as text or binary, like the client's message.
fn edited_message(bytes: &[u8], is_text: bool) -> JsValue {
    if is_text {
        JsValue::from_str(&String::from_utf8_lossy(bytes))
    } else {
        Uint8Array::from(bytes).buffer().into()
    }
}

/// Maximum UTF-16 code units of a text that is copied directly into Wasm's memory.
const SHORT_TEXT_UNITS: u32 = 64 << 10;

// Close codes (RFC 6455, section 7.4.1).
const NORMAL_CLOSURE: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const NO_STATUS: u16 = 1005;
const ABNORMAL_CLOSURE: u16 = 1006;
const INTERNAL_ERROR: u16 = 1011;
const TRY_AGAIN_LATER: u16 = 1013;
const TLS_FAILURE: u16 = 1015;
