//! The origin, and what reaches it: method, path, query, headers and bytes as they came, but for what
//! only we may say (`x-hedgerow-*`). The response comes back unread.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::futures::JsFuture;
use js_sys::{Array, Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    AbortController, AbortSignal, Headers, Request, RequestInit, RequestRedirect, Response,
    ResponseInit, Url, WorkerGlobalScope,
};
use worker::Context;
use worker::worker_sys::Fetcher;

use crate::platform::log;
use crate::platform::settings::ConfigProblem;
use crate::request::client_request::ClientRequest;
use crate::request::request_body::UpstreamBody;
use crate::request::response::RequestError;
use crate::request::tag;
use crate::request::tag::REQUEST_ID_HEADER;

/// Where requests go.
#[derive(Debug)]
pub enum Origin {
    /// A base URL without a slash at its end: path and query are appended.
    Url(String),
    /// The Worker runs on a route: the same URL is fetched, and the platform knows the server behind.
    Zone,
    /// Another Worker.
    Service(Fetcher),
}

impl Origin {
    /// Reads the variable or binding `ORIGIN`.
    pub fn from_binding(value: JsValue) -> Result<Self, ConfigProblem> {
        let Some(text) = value.as_string() else {
            // A service binding is an object that can fetch.
            let fetch = Reflect::get(&value, &JsValue::from_str("fetch"));
            return match fetch.is_ok_and(|fetch| fetch.is_instance_of::<Function>()) {
                true => Ok(Self::Service(value.unchecked_into())),
                false => Err(ConfigProblem::new(
                    "ORIGIN is missing: requests have nowhere to go",
                    ORIGIN_REMEDY,
                )),
            };
        };
        match text.trim() {
            "" => Err(ConfigProblem::new(
                "ORIGIN is empty: requests have nowhere to go",
                ORIGIN_REMEDY,
            )),
            "zone" => Ok(Self::Zone),
            url if is_base_url(url) => Ok(Self::Url(url.trim_end_matches('/').to_owned())),
            _ => Err(ConfigProblem::new(
                "ORIGIN is no http(s) URL without query, fragment and password",
                ORIGIN_REMEDY,
            )),
        }
    }

    fn url(&self, request: &ClientRequest) -> String {
        match self {
            Self::Url(base) => format!("{base}{}", request.target()),
            Self::Zone | Self::Service(_) => request.raw.url(),
        }
    }

    fn fetch(&self, request: &Request) -> Result<Promise, JsValue> {
        match self {
            Self::Service(service) => service.fetch(request),
            Self::Url(_) | Self::Zone => Ok(js_sys::global()
                .unchecked_into::<WorkerGlobalScope>()
                .fetch_with_request(request)),
        }
    }
}

/// One request's way to the origin.
pub struct Upstream<'a> {
    /// Where to.
    pub origin: &'a Origin,
    /// What came.
    pub request: &'a ClientRequest,
    /// What it is called in logs.
    pub request_id: &'a str,
    /// What keeps the invocation alive while a body is moved.
    pub context: &'a Context,
}

/// A request that is on its way. It holds no more than this while the origin thinks, however large
/// the request was.
struct InFlight {
    response: Promise,
    /// Whether the client's upload broke off since.
    upload_aborted: Rc<Cell<bool>>,
}

impl Upstream<'_> {
    /// Forwards a request whose body nobody has looked at. The platform's own response is handed on,
    /// so that WebSockets pass, too.
    pub async fn forward_unread(&self) -> Result<Response, RequestError> {
        let in_flight = self.start_unread()?;
        self.await_response(in_flight).await
    }

    /// Forwards a request whose body was read, at least in part.
    pub async fn forward(
        &self,
        headers: Headers,
        body: UpstreamBody,
    ) -> Result<Response, RequestError> {
        let in_flight = self.start(&headers, body)?;
        drop(headers);
        Ok(self.with_request_id(self.await_response(in_flight).await?))
    }

    /// The headers as they came, without forgeries; to be tagged.
    pub fn headers(&self) -> Result<Headers, RequestError> {
        let headers = Headers::new_with_headers(&self.request.raw.headers());
        let headers = headers.map_err(|_| RequestError::InvalidRequest)?;
        self.strip_headers(&headers);
        Ok(headers)
    }

    /// Removes what only we may say, and what would make the platform send something else: `fetch`
    /// turns any request with `Upgrade: websocket` into a handshake, which is GET and has no body.
    fn strip_headers(&self, headers: &Headers) {
        self.request.reserved_header_names().for_each(|name| remove_header(headers, name));
        if self.request.method() != "GET" {
            remove_header(headers, "upgrade");
        }
    }

    fn start_unread(&self) -> Result<InFlight, RequestError> {
        // The client's signal comes along (`request_signal_passthrough`).
        let init: &RequestInit = self.request.raw.unchecked_ref();
        let request = Request::new_with_str_and_init(&self.origin.url(self.request), init);
        let request = request.map_err(|_| RequestError::InvalidRequest)?;
        self.strip_headers(&request.headers());
        let response =
            self.origin.fetch(&request).map_err(|error| self.origin_unreachable(&error))?;
        Ok(InFlight { response, upload_aborted: Rc::default() })
    }

    fn start(&self, headers: &Headers, body: UpstreamBody) -> Result<InFlight, RequestError> {
        let invalid_request = |_| RequestError::InvalidRequest;
        let original = &self.request.raw;
        let init = RequestInit::new();
        init.set_method(self.request.method());
        init.set_headers(headers);
        init.set_redirect(RequestRedirect::Manual);
        // Who is gone needs no answer: the origin is told to stop.
        init.set_signal(Some(&original.signal()));
        if let Origin::Service(_) = self.origin {
            // Another Worker wants to know what the edge knows of the client.
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
                    // A stream that ends early looks complete to the origin where no length was
                    // promised. Only the abort tells it.
                    if pump.run().await.is_err() {
                        upload_aborted.set(true);
                        abort.abort();
                    }
                });
            }
        }
        let request = Request::new_with_str_and_init(&self.origin.url(self.request), &init)
            .map_err(invalid_request)?;
        let response =
            self.origin.fetch(&request).map_err(|error| self.origin_unreachable(&error))?;
        Ok(InFlight { response, upload_aborted })
    }

    async fn await_response(&self, in_flight: InFlight) -> Result<Response, RequestError> {
        let InFlight { response, upload_aborted } = in_flight;
        let response = JsFuture::from(response).await.and_then(JsCast::dyn_into);
        response.map_err(|error| {
            let is_aborted = upload_aborted.get() || self.request.raw.signal().aborted();
            if is_aborted { RequestError::UploadAborted } else { self.origin_unreachable(&error) }
        })
    }

    /// The origin's response under our request id, without what else an origin may echo of the tags.
    /// Body and encoding are the platform's to pass on: bytes that are not read are not recoded.
    fn with_request_id(&self, response: Response) -> Response {
        if response.status() == SWITCHING_PROTOCOLS {
            return response;
        }
        let init: &ResponseInit = response.unchecked_ref();
        let Ok(copy) =
            Response::new_with_opt_readable_stream_and_init(response.body().as_ref(), init)
        else {
            return response;
        };
        let headers = copy.headers();
        for name in header_names(&headers).iter().filter(|name| tag::is_reserved(name)) {
            remove_header(&headers, name);
        }
        tag::set_header(&headers, REQUEST_ID_HEADER, self.request_id);
        copy
    }

    fn origin_unreachable(&self, error: &JsValue) -> RequestError {
        log::origin_error(self.request_id, error);
        RequestError::Unreachable
    }
}

/// Removes a header; one that is not there, or has no name that the platform knows, is gone already.
pub fn remove_header(headers: &Headers, name: &str) {
    let _ = headers.delete(name);
}

fn header_names(headers: &Headers) -> Vec<String> {
    let joined = String::from(Array::from(&headers.keys()).join("\n"));
    joined.split('\n').map(str::to_owned).collect()
}

/// Whether paths can be appended to `url`. `fetch` takes no password in a URL.
fn is_base_url(url: &str) -> bool {
    Url::new(url).is_ok_and(|parsed| {
        matches!(parsed.protocol().as_str(), "http:" | "https:")
            && !url.contains(['?', '#'])
            && parsed.username().is_empty()
            && parsed.password().is_empty()
    })
}

/// A WebSocket hangs on such a response; a copy would lose it.
const SWITCHING_PROTOCOLS: u16 = 101;

const ORIGIN_REMEDY: &str = "set ORIGIN in wrangler.toml to a URL such as https://api.example.com, to `zone` where \
    the Worker runs on a route, or bind a service of that name";
