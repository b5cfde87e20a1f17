//! The setting ORIGIN: the server to which requests are forwarded.

use hedgerow_core::api::ConfigProblem;
use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Request, Url, WorkerGlobalScope};
use worker::worker_sys::Fetcher;

/// The server to which requests are forwarded.
#[derive(Debug)]
pub enum Origin {
    /// A base URL without a final slash. Path and query of the request are appended to it. The
    /// fetcher, if there is one, shows the Worker's client certificate to the server (ORIGIN_MTLS).
    Url(String, Option<Fetcher>),
    /// The word `zone`: the Worker runs on a route of a zone. It fetches the request's own URL,
    /// which the platform sends to the server of the zone.
    Zone,
    /// A service binding to another Worker.
    Service(Fetcher),
}

impl Origin {
    /// Parses the variable or binding `ORIGIN`: a URL, the word `zone`, or a service binding.
    /// `certificate` is the binding `ORIGIN_MTLS`, which is used only with a URL.
    ///
    /// # Errors
    /// If the value is missing, an empty text, a text that is neither `zone` nor a base URL, or an
    /// object without a method `fetch`.
    pub fn from_bindings(value: JsValue, certificate: JsValue) -> Result<Self, ConfigProblem> {
        let problem = |message: &str| Err(ConfigProblem::new(message, REMEDY));
        let Some(text) = value.as_string() else {
            return match fetcher(value) {
                Some(service) => Ok(Self::Service(service)),
                None => problem("ORIGIN is missing: requests cannot be forwarded"),
            };
        };
        match text.trim() {
            "" => problem("ORIGIN is empty: requests cannot be forwarded"),
            "zone" => Ok(Self::Zone),
            url if is_base_url(url) => {
                Ok(Self::Url(url.trim_end_matches('/').to_owned(), fetcher(certificate)))
            }
            _ => problem(
                "ORIGIN is not a base URL: expected http(s) without query, fragment and password",
            ),
        }
    }

    /// Returns whether the Worker shows a client certificate to the server.
    pub fn has_certificate(&self) -> bool {
        matches!(self, Self::Url(_, Some(_)))
    }

    /// Sends a request to the origin. The promise resolves to the `Response` of the origin.
    ///
    /// # Errors
    /// If the binding rejects the call at once.
    pub fn fetch(&self, request: &Request) -> Result<Promise, JsValue> {
        match self {
            Self::Service(service) | Self::Url(_, Some(service)) => service.fetch(request),
            Self::Url(_, None) | Self::Zone => Ok(js_sys::global()
                .unchecked_into::<WorkerGlobalScope>()
                .fetch_with_request(request)),
        }
    }
}

/// Returns a binding of another Worker or of a client certificate: an object with a method `fetch`.
/// Returns `None` for other values.
fn fetcher(value: JsValue) -> Option<Fetcher> {
    let fetch = Reflect::get(&value, &JsValue::from_str("fetch"));
    let is_fetcher = fetch.is_ok_and(|fetch| fetch.is_instance_of::<Function>());
    is_fetcher.then(|| value.unchecked_into())
}

/// Returns whether `url` is an HTTP(S) URL to which paths can be appended. A URL with a user name
/// or password is rejected, because `fetch` rejects it.
fn is_base_url(url: &str) -> bool {
    Url::new(url).is_ok_and(|parsed| {
        matches!(parsed.protocol().as_str(), "http:" | "https:")
            && !url.contains(['?', '#'])
            && parsed.username().is_empty()
            && parsed.password().is_empty()
    })
}

const REMEDY: &str = "set ORIGIN in wrangler.toml to a URL such as https://api.example.com, to \
    `zone` if the Worker runs on a route, or bind a service of that name";
