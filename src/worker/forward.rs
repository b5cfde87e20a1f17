//! The origin, and what reaches it: method, path, query, headers and bytes as they came, but for what
//! only we may say (`x-hedgerow-*`). The response comes back unread.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::futures::JsFuture;
use js_sys::{Array, Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{
    AbortController, AbortSignal, Headers, Request, RequestInit, RequestRedirect, Response,
    ResponseInit,
};
use web_sys::{Url, WorkerGlobalScope};
use worker::Context;
use worker::worker_sys::Fetcher;

use crate::body::Outbound;
use crate::error::Failure;
use crate::intake::Arrival;
use crate::log;
use crate::settings::Problem;
use crate::tag::{self, REQUEST_ID};

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
    pub fn bound(value: JsValue) -> Result<Self, Problem> {
        let Some(text) = value.as_string() else {
            // A service binding is an object that can fetch.
            let fetch = Reflect::get(&value, &JsValue::from_str("fetch"));
            return match fetch.is_ok_and(|fetch| fetch.is_instance_of::<Function>()) {
                true => Ok(Self::Service(value.unchecked_into())),
                false => {
                    Err(Problem::new("ORIGIN is missing: requests have nowhere to go", REMEDY))
                }
            };
        };
        match text.trim() {
            "" => Err(Problem::new("ORIGIN is empty: requests have nowhere to go", REMEDY)),
            "zone" => Ok(Self::Zone),
            url if is_base(url) => Ok(Self::Url(url.trim_end_matches('/').to_owned())),
            _ => Err(Problem::new(
                "ORIGIN is no http(s) URL without query, fragment and password",
                REMEDY,
            )),
        }
    }

    fn url(&self, arrival: &Arrival) -> String {
        match self {
            Self::Url(base) => format!("{base}{}", arrival.target()),
            Self::Zone | Self::Service(_) => arrival.request.url(),
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
pub struct Route<'a> {
    /// Where to.
    pub origin: &'a Origin,
    /// What came.
    pub arrival: &'a Arrival,
    /// What it is called in logs.
    pub request_id: &'a str,
    /// What keeps the invocation alive while a body is moved.
    pub context: &'a Context,
}

/// A request that is on its way. It holds no more than this while the origin thinks, however large
/// the request was.
struct Sent {
    answer: Promise,
    /// Whether the client's upload broke off since.
    broken_off: Rc<Cell<bool>>,
}

impl Route<'_> {
    /// Forwards a request whose body nobody has looked at. The platform's own response is handed on,
    /// so that WebSockets pass, too.
    pub async fn pass(&self) -> Result<Response, Failure> {
        let sent = self.depart_unread()?;
        self.answer(sent).await
    }

    /// Forwards a request whose body was read, at least in part.
    pub async fn send(&self, headers: Headers, body: Outbound) -> Result<Response, Failure> {
        let sent = self.depart(&headers, body)?;
        drop(headers);
        Ok(self.labelled(self.answer(sent).await?))
    }

    /// The headers as they came, without forgeries; to be tagged.
    pub fn headers(&self) -> Result<Headers, Failure> {
        let headers = Headers::new_with_headers(&self.arrival.request.headers());
        let headers = headers.map_err(|_| Failure::Unsendable)?;
        self.cleanse(&headers);
        Ok(headers)
    }

    /// Removes what only we may say, and what would make the platform send something else: `fetch`
    /// turns any request with `Upgrade: websocket` into a handshake, which is GET and has no body.
    fn cleanse(&self, headers: &Headers) {
        self.arrival.forged().for_each(|name| remove(headers, name));
        if self.arrival.method() != "GET" {
            remove(headers, "upgrade");
        }
    }

    fn depart_unread(&self) -> Result<Sent, Failure> {
        // The client's signal comes along (`request_signal_passthrough`).
        let init: &RequestInit = self.arrival.request.unchecked_ref();
        let request = Request::new_with_str_and_init(&self.origin.url(self.arrival), init);
        let request = request.map_err(|_| Failure::Unsendable)?;
        self.cleanse(&request.headers());
        let answer = self.origin.fetch(&request).map_err(|error| self.unreachable(&error))?;
        Ok(Sent { answer, broken_off: Rc::default() })
    }

    fn depart(&self, headers: &Headers, body: Outbound) -> Result<Sent, Failure> {
        let unsendable = |_| Failure::Unsendable;
        let inbound = &self.arrival.request;
        let init = RequestInit::new();
        init.set_method(self.arrival.method());
        init.set_headers(headers);
        init.set_redirect(RequestRedirect::Manual);
        // Who is gone needs no answer: the origin is told to stop.
        init.set_signal(Some(&inbound.signal()));
        if let Origin::Service(_) = self.origin {
            // Another Worker wants to know what the edge knows of the client.
            let name = JsValue::from_str("cf");
            let cf = Reflect::get(inbound, &name).unwrap_or(JsValue::UNDEFINED);
            let _ = Reflect::set(&init, &name, &cf);
        }
        let broken_off = Rc::new(Cell::new(false));
        match body {
            Outbound::None => {}
            Outbound::Whole(bytes) => init.set_body(&bytes),
            Outbound::Stream(stream, pump) => {
                let abort = AbortController::new().map_err(unsendable)?;
                let signals = Array::of2(&abort.signal(), &inbound.signal());
                init.set_signal(Some(&AbortSignal::any(&signals)));
                init.set_body(&stream);
                let broken_off = Rc::clone(&broken_off);
                self.context.wait_until(async move {
                    // A stream that ends early looks complete to the origin where no length was
                    // promised. Only the abort tells it.
                    if pump.run().await.is_err() {
                        broken_off.set(true);
                        abort.abort();
                    }
                });
            }
        }
        let request = Request::new_with_str_and_init(&self.origin.url(self.arrival), &init)
            .map_err(unsendable)?;
        let answer = self.origin.fetch(&request).map_err(|error| self.unreachable(&error))?;
        Ok(Sent { answer, broken_off })
    }

    async fn answer(&self, sent: Sent) -> Result<Response, Failure> {
        let Sent { answer, broken_off } = sent;
        let answer = JsFuture::from(answer).await.and_then(JsCast::dyn_into);
        answer.map_err(|error| {
            let gone = broken_off.get() || self.arrival.request.signal().aborted();
            if gone { Failure::BrokenOff } else { self.unreachable(&error) }
        })
    }

    /// The origin's response under our request id, without what else an origin may echo of the tags.
    /// Body and encoding are the platform's to pass on: bytes that are not read are not recoded.
    fn labelled(&self, response: Response) -> Response {
        if response.status() == SWITCHING_PROTOCOLS {
            return response;
        }
        let init: &ResponseInit = response.unchecked_ref();
        let Ok(labelled) =
            Response::new_with_opt_readable_stream_and_init(response.body().as_ref(), init)
        else {
            return response;
        };
        let headers = labelled.headers();
        for name in names(&headers).iter().filter(|name| tag::is_ours(name)) {
            remove(&headers, name);
        }
        tag::set(&headers, REQUEST_ID, self.request_id);
        labelled
    }

    fn unreachable(&self, error: &JsValue) -> Failure {
        log::origin(self.request_id, error);
        Failure::Unreachable
    }
}

/// Removes a header; one that is not there, or has no name that the platform knows, is gone already.
pub fn remove(headers: &Headers, name: &str) {
    let _ = headers.delete(name);
}

fn names(headers: &Headers) -> Vec<String> {
    let joined = String::from(Array::from(&headers.keys()).join("\n"));
    joined.split('\n').map(str::to_owned).collect()
}

/// Whether paths can be appended to `url`. `fetch` takes no password in a URL.
fn is_base(url: &str) -> bool {
    Url::new(url).is_ok_and(|parsed| {
        matches!(parsed.protocol().as_str(), "http:" | "https:")
            && !url.contains(['?', '#'])
            && parsed.username().is_empty()
            && parsed.password().is_empty()
    })
}

/// A WebSocket hangs on such a response; a copy would lose it.
const SWITCHING_PROTOCOLS: u16 = 101;

const REMEDY: &str = "set ORIGIN in wrangler.toml to a URL such as https://api.example.com, to `zone` where \
    the Worker runs on a route, or bind a service of that name";
