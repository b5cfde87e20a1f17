//! Hedgerow's own responses: errors, and JSON of the admin API.
//!
//! An error has the format of the call's API (its dialect), so that the client's SDK raises its
//! typed error. `hedgerow_core::enforce::refusal` has the table of error bodies.

use hedgerow_core::api::ConfigProblem;
use hedgerow_core::enforce::refusal::{ErrorKind, Refusal};
use hedgerow_core::enforce::worded_refusal::WordedRefusal;
use hedgerow_core::http::route::{Dialect, Endpoint};
use serde::Serialize;
use web_sys::{Headers, Response, ResponseInit};

use crate::request::tag;

/// Reason why a request gets a response that is not the origin's.
#[derive(Clone, Debug)]
pub enum RequestError {
    /// ORIGIN is missing or invalid: the operator of Hedgerow must correct it.
    Unconfigured(ConfigProblem),
    /// The origin did not answer: the operator of the origin must act.
    Unreachable,
    /// The client's upload ended early, or the client has disconnected.
    UploadAborted,
    /// The platform cannot send a request with this target or these headers.
    InvalidRequest,
    /// No endpoint of Hedgerow has this path, or the policy refuses unknown paths.
    NotFound,
    /// The request is for the script of a service worker that could control the console.
    ServiceWorker,
    /// The policy refuses WebSockets. The client must use HTTP.
    WebSocketRefused,
    /// The policy refuses the request.
    Refused(Box<WordedRefusal>),
}

impl RequestError {
    /// Returns the response. Its body is in the dialect of `endpoint` if the request is an LLM
    /// call, otherwise in OpenAI's format. The response has the request's id, unless `request_id`
    /// is empty.
    pub fn to_response(&self, endpoint: Option<Endpoint>, request_id: &str) -> Response {
        let dialect = endpoint.map_or(Dialect::Openai, Endpoint::dialect);
        let response = self.render(dialect, request_id);
        let headers = response.headers();
        if let Self::Refused(worded) = self {
            set_refusal_headers(&headers, worded);
        }
        if !request_id.is_empty() {
            tag::set_header(&headers, tag::REQUEST_ID_HEADER, request_id);
            // The SDKs of each dialect read the id from this header, and show it in their errors.
            match dialect {
                Dialect::Anthropic => tag::set_header(&headers, "request-id", request_id),
                Dialect::Openai | Dialect::Generic => {
                    tag::set_header(&headers, "x-request-id", request_id);
                }
                Dialect::Gemini => {}
            }
        }
        response
    }

    /// Returns a response with status and body, but without the headers that depend on the request.
    fn render(&self, dialect: Dialect, request_id: &str) -> Response {
        let (kind, message) = match self {
            Self::Refused(worded) => {
                return json_response(worded.refusal.status(), &worded.body());
            }
            Self::Unconfigured(problem) => {
                let message = format!("{}. {}.", problem.message, problem.remedy);
                return error_response(ErrorKind::Unavailable, dialect, &message, request_id);
            }
            Self::Unreachable => (ErrorKind::BadGateway, "The origin did not answer."),
            Self::UploadAborted => {
                (ErrorKind::InvalidRequest, "The upload of the request body ended early.")
            }
            Self::InvalidRequest => (
                ErrorKind::InvalidRequest,
                "A request with this target or these headers cannot be forwarded.",
            ),
            Self::WebSocketRefused => {
                (ErrorKind::UpgradeRequired, "WebSockets are not available on this path: use HTTP.")
            }
            Self::NotFound => (ErrorKind::NotFound, "There is no such endpoint."),
            Self::ServiceWorker => (
                ErrorKind::Forbidden,
                "A service worker of this path would control the console of Hedgerow, which is on \
                 this host. Move the script into a folder, or set CONSOLE_HOST.",
            ),
        };
        error_response(kind, dialect, message, request_id)
    }
}

/// Sets the headers of a refusal, except those with the request id.
fn set_refusal_headers(headers: &Headers, worded: &WordedRefusal) {
    let WordedRefusal { refusal, retry_after, language, appeal, .. } = worded;
    let retry_after = (*refusal == Refusal::Throttle).then(|| retry_after.to_string());
    let rows = [
        ("retry-after", retry_after.as_deref()),
        (
            "x-should-retry",
            refusal.should_retry().map(|retry| if retry { "true" } else { "false" }),
        ),
        ("content-language", language.as_deref()),
        (tag::APPEAL_HEADER, appeal.as_deref()),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            tag::set_header(headers, name, value);
        }
    }
}

fn error_response(kind: ErrorKind, dialect: Dialect, message: &str, request_id: &str) -> Response {
    json_response(kind.status(), &kind.body(dialect, message, request_id))
}

/// Makes a response with the JSON of `body`. Clients must not cache the response.
pub fn json_response(status: u16, body: &impl Serialize) -> Response {
    // This cannot fail: serde_json rejects only map keys that are not strings, and no body has such
    // keys.
    let text = serde_json::to_string(body).unwrap_or_default();
    text_response(status, "application/json", &text)
}

/// Makes a response with the text `body`. Clients must not cache the response.
pub fn text_response(status: u16, content_type: &str, body: &str) -> Response {
    let response = Headers::new().and_then(|headers| {
        tag::set_header(&headers, "content-type", content_type);
        tag::set_header(&headers, "cache-control", "no-store");
        let init = ResponseInit::new();
        init.set_status(status);
        init.set_headers(&headers);
        Response::new_with_opt_str_and_init(Some(body), &init)
    });
    // The platform rejects only statuses outside 200–599, and all callers pass valid constants.
    response.unwrap_or_else(|_| Response::error())
}
