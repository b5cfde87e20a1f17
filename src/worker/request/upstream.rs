//! Forwards a request to the origin, and streams the response back unread.
//!
//! Method, path, query, headers and body stay as the client sent them, with these exceptions:
//! - `prepare_headers` removes `x-hedgerow-*` headers, the headers that only a gateway may send,
//!   and, from requests other than GET, `upgrade`. It sets the headers of `origin_headers.rs`. A
//!   handshake whose messages are read does not offer compression.
//! - An LLM call gets its request id; a scored request also gets tags.
//! - A degraded request has an edited body, without the headers that described the original body.
//!
//! Responses stay as the origin sent them, without the `x-hedgerow-*` headers. These headers are
//! removed from a response to an unread request only if they name the sender or show ORIGIN_SECRET.
//! docs/origin.md lists all headers for operators of origins.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::futures::JsFuture;
use js_sys::{Array, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    AbortController, AbortSignal, Headers, Request, RequestInit, RequestRedirect, Response,
    ResponseInit,
};
use worker::Context;

use crate::isolate::telemetry;
use crate::platform::log;
use crate::platform::settings::Origin;
use crate::request::client_request::ClientRequest;
use crate::request::header_list::{header_names, remove_header};
use crate::request::origin_headers::{ORIGIN_SECRET_HEADER, OriginHeaders};
use crate::request::request_body::UpstreamBody;
use crate::request::response::RequestError;
use crate::request::sender::{ACCOUNT_HEADER, TENANT_HEADER};
use crate::request::tag;
use crate::request::tag::REQUEST_ID_HEADER;

/// A request that is to be forwarded.
pub struct Upstream<'a> {
    /// The server to which the request is sent.
    pub origin: &'a Origin,
    /// The client's request.
    pub request: &'a ClientRequest,
    /// Id of the request. It is in the log, and in a header for the client and the origin.
    pub request_id: &'a str,
    /// The context of the invocation, which keeps it alive while a body is streamed.
    pub context: &'a Context,
    /// Names of further headers that must not reach the origin.
    pub private_headers: &'a [String],
    /// Headers that Hedgerow sets.
    pub origin_headers: &'a OriginHeaders,
    /// Whether a trusted gateway sent the request, so that its identity headers are used.
    pub is_trusted: bool,
}

/// The origin's answer to a scored request.
pub struct Answer {
    /// The response for the client.
    pub response: Response,
    /// The headers that the origin sent, including reserved ones.
    pub origin_headers: Headers,
}

/// A request that was sent to the origin. While the origin works on it, Wasm's memory does not
/// contain its body.
pub struct InFlight {
    /// Resolves to the origin's `Response`.
    response: JsFuture,
    /// Whether the client's upload ended early after the request was sent.
    upload_aborted: Rc<Cell<bool>>,
}

impl Upstream<'_> {
    /// Forwards a request whose body was not read. Returns the platform's response unchanged if
    /// possible, so that WebSockets work.
    ///
    /// # Errors
    /// If the platform cannot send the request, if the client has disconnected, or if the origin
    /// does not answer. Any status of the origin is a response, not an error.
    pub async fn forward_unread(&self) -> Result<Response, RequestError> {
        let in_flight = self.start_unread()?;
        let response = self.await_response(in_flight).await?;
        // Few responses have reserved headers, and a copy costs time: copy only if the origin names
        // the sender, or echoes its secret.
        let headers = response.headers();
        let has_private_header = [ACCOUNT_HEADER, TENANT_HEADER, ORIGIN_SECRET_HEADER]
            .iter()
            .any(|name| headers.has(name).unwrap_or_default());
        Ok(if has_private_header { self.without_reserved_headers(response) } else { response })
    }

    /// Forwards a request whose body was read completely or in part. The response gets the request
    /// id.
    ///
    /// # Errors
    /// As for [`forward_unread`](Self::forward_unread), and if the upload ends early.
    pub async fn forward(
        &self,
        headers: Headers,
        body: UpstreamBody,
    ) -> Result<Answer, RequestError> {
        let in_flight = self.start(&headers, body)?;
        drop(headers);
        self.finish(in_flight).await
    }

    /// Waits for the response to a request that [`start`](Self::start) sent.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub async fn finish(&self, in_flight: InFlight) -> Result<Answer, RequestError> {
        let response = self.await_response(in_flight).await?;
        let origin_headers = response.headers();
        Ok(Answer { response: self.with_request_id(response), origin_headers })
    }

    /// Returns the headers for the origin: the client's headers without those that must not reach
    /// the origin, and the headers that Hedgerow sets. The caller may add tags.
    pub fn headers(&self) -> Result<Headers, RequestError> {
        let headers = Headers::new_with_headers(&self.request.raw.headers());
        let headers = headers.map_err(|_| RequestError::InvalidRequest)?;
        self.prepare_headers(&headers);
        Ok(headers)
    }

    /// Removes reserved and private headers, and `upgrade` from requests other than GET. `fetch`
    /// would turn any request with `Upgrade: websocket` into a handshake, which is a GET request
    /// without a body. Then sets the headers that Hedgerow sets on every request.
    fn prepare_headers(&self, headers: &Headers) {
        self.request.reserved_header_names().for_each(|name| remove_header(headers, name));
        self.private_headers.iter().for_each(|name| remove_header(headers, name));
        if self.request.method() != "GET" {
            remove_header(headers, "upgrade");
        }
        self.origin_headers.apply(headers);
    }

    /// Sends the handshake of a WebSocket whose messages are read. Returns the origin's response:
    /// status 101 with a WebSocket, or a refusal.
    ///
    /// The handshake does not offer compression, so that a small message cannot become a large one
    /// here.
    ///
    /// # Errors
    /// As for [`forward_unread`](Self::forward_unread).
    pub async fn open_websocket(&self) -> Result<Response, RequestError> {
        let request = self.copy_of_request()?;
        remove_header(&request.headers(), "sec-websocket-extensions");
        self.await_response(self.send(&request)?).await
    }

    /// Sends a copy of the client's request. The platform streams the body.
    fn start_unread(&self) -> Result<InFlight, RequestError> {
        self.send(&self.copy_of_request()?)
    }

    /// Returns a copy of the client's request for the origin.
    fn copy_of_request(&self) -> Result<Request, RequestError> {
        // The copy has the client's abort signal (flag `request_signal_passthrough`).
        let init: &RequestInit = self.request.raw.unchecked_ref();
        let request = Request::new_with_str_and_init(&self.url(), init);
        let request = request.map_err(|_| RequestError::InvalidRequest)?;
        self.prepare_headers(&request.headers());
        Ok(request)
    }

    fn send(&self, request: &Request) -> Result<InFlight, RequestError> {
        let response =
            self.origin.fetch(request).map_err(|error| self.origin_unreachable(&error))?;
        Ok(InFlight { response: response.into(), upload_aborted: Rc::default() })
    }

    /// Sends a request with the given headers and body. A streamed body is copied in the
    /// background.
    pub fn start(&self, headers: &Headers, body: UpstreamBody) -> Result<InFlight, RequestError> {
        let invalid_request = |_| RequestError::InvalidRequest;
        let original = &self.request.raw;
        let init = RequestInit::new();
        init.set_method(self.request.method());
        init.set_headers(headers);
        init.set_redirect(RequestRedirect::Manual);
        // If the client disconnects, the request to the origin is aborted.
        init.set_signal(Some(&original.signal()));
        if let Origin::Service(_) = self.origin {
            // Another Worker may need the metadata of the client.
            let cf_key = JsValue::from_str("cf");
            let cf = Reflect::get(original, &cf_key).unwrap_or(JsValue::UNDEFINED);
            let _ = Reflect::set(&init, &cf_key, &cf);
        }
        let upload_aborted = Rc::new(Cell::new(false));
        match body {
            UpstreamBody::None => {}
            UpstreamBody::Buffered(bytes) => init.set_body(&bytes),
            UpstreamBody::Stream(stream, pump) => {
                let abort = AbortController::new().map_err(invalid_request)?;
                let signals = Array::of2(&abort.signal(), &original.signal());
                init.set_signal(Some(&AbortSignal::any(&signals)));
                init.set_body(&stream);
                let upload_aborted = Rc::clone(&upload_aborted);
                self.context.wait_until(async move {
                    // If no length is declared, a stream that ends early looks complete to the
                    // origin. Only an abort shows that it is not.
                    if pump.run().await.is_err() {
                        upload_aborted.set(true);
                        abort.abort();
                    }
                });
            }
        }
        let request =
            Request::new_with_str_and_init(&self.url(), &init).map_err(invalid_request)?;
        let response =
            self.origin.fetch(&request).map_err(|error| self.origin_unreachable(&error))?;
        Ok(InFlight { response: response.into(), upload_aborted })
    }

    async fn await_response(&self, in_flight: InFlight) -> Result<Response, RequestError> {
        let InFlight { response, upload_aborted } = in_flight;
        let response = response.await.and_then(JsCast::dyn_into);
        response.map_err(|error| {
            let is_aborted = upload_aborted.get() || self.request.raw.signal().aborted();
            if is_aborted { RequestError::UploadAborted } else { self.origin_unreachable(&error) }
        })
    }

    /// Returns the origin's response with the request id, and without reserved headers. A response
    /// with a WebSocket gets no request id. The body is passed on in its encoding, because it is
    /// not read.
    pub fn with_request_id(&self, response: Response) -> Response {
        let response = self.without_reserved_headers(response);
        if response.status() != SWITCHING_PROTOCOLS {
            tag::set_header(&response.headers(), REQUEST_ID_HEADER, self.request_id);
        }
        response
    }

    /// Returns a copy of the origin's response without reserved headers. The origin may have echoed
    /// tags, or named the sender in reserved headers.
    ///
    /// The platform rejects the copy if the status is outside 200–599, for example. Then the
    /// response is returned unchanged, because the client must not lose the answer. This is logged
    /// and counted.
    fn without_reserved_headers(&self, response: Response) -> Response {
        copy_without_reserved_headers(&response).unwrap_or_else(|error| {
            log::origin_error(self.request_id, &error);
            telemetry::count_error(NOT_COPIED);
            response
        })
    }

    /// Returns the URL at the origin. For the origin `zone` and for a service binding, it is the
    /// URL of the client's request.
    fn url(&self) -> String {
        match self.origin {
            Origin::Url(base, _) => format!("{base}{}", self.request.target()),
            Origin::Zone | Origin::Service(_) => self.request.raw.url(),
        }
    }

    /// Logs the platform's error, and returns an error without its text, which the client must not
    /// see.
    fn origin_unreachable(&self, error: &JsValue) -> RequestError {
        log::origin_error(self.request_id, error);
        RequestError::Unreachable
    }
}

/// Returns a copy of a response without reserved headers.
///
/// # Errors
/// If the platform rejects the copy.
fn copy_without_reserved_headers(response: &Response) -> Result<Response, JsValue> {
    if response.status() == SWITCHING_PROTOCOLS {
        let socket = Reflect::get(response, &JsValue::from_str(WEBSOCKET))?;
        return handshake_response(&socket, &response.headers());
    }
    let init: &ResponseInit = response.unchecked_ref();
    let body = response.body();
    let copy = Response::new_with_opt_readable_stream_and_init(body.as_ref(), init)?;
    let headers = copy.headers();
    for name in header_names(&headers).iter().filter(|name| tag::is_reserved(name)) {
        remove_header(&headers, name);
    }
    Ok(copy)
}

/// Returns the response that gives the client its end of a WebSocket. `headers` are the headers of
/// the origin's response: the client gets them without reserved headers, and without headers that
/// describe the connection to the origin.
///
/// # Errors
/// If the platform rejects the response.
pub fn handshake_response(client_end: &JsValue, headers: &Headers) -> Result<Response, JsValue> {
    let headers = Headers::new_with_headers(headers)?;
    let names = header_names(&headers);
    for name in names.iter().filter(|name| is_of_connection(name) || tag::is_reserved(name)) {
        remove_header(&headers, name);
    }
    let init = ResponseInit::new();
    init.set_status(SWITCHING_PROTOCOLS);
    init.set_headers(&headers);
    Reflect::set(&init, &JsValue::from_str(WEBSOCKET), client_end)?;
    Response::new_with_opt_str_and_init(None, &init)
}

/// Returns whether a header describes the connection to the origin. The platform sets these headers
/// for the client's connection.
fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection" | "upgrade" | "sec-websocket-accept" | "sec-websocket-extensions" | ""
    )
}

/// The error that is counted if reserved headers stay in a response.
const NOT_COPIED: &str = "response: the platform rejected the copy without reserved headers";

/// Status of a response with a WebSocket. The platform's copy of such a response has no WebSocket.
pub const SWITCHING_PROTOCOLS: u16 = 101;

/// Member of a response, and of its initialiser, that holds the WebSocket.
const WEBSOCKET: &str = "webSocket";
