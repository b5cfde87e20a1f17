//! What can go wrong with a request, by who must act; and the one table of responses.
//!
//! A client's SDK raises its typed errors from these, so each is in the dialect of the call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use hedgerow_core::enforce::refusal::Refusal;
use hedgerow_core::http::route::{Dialect, Endpoint};
use serde_json::{Value, json};
use web_sys::{Headers, Response, ResponseInit};

use crate::platform::settings::ConfigProblem;
use crate::request::tag;

/// Why a request gets an answer that is not the origin's.
#[derive(Clone, Debug)]
pub enum RequestError {
    /// The operator must act: there is nowhere to forward to.
    Unconfigured(ConfigProblem),
    /// The origin's operator must act: it did not answer.
    Unreachable,
    /// The client's: its upload broke off, or it is gone.
    UploadAborted,
    /// The client's: the platform takes no request with this target or these headers.
    InvalidRequest,
    /// The client's: no endpoint of ours.
    NotFound,
    /// Nobody's: the policy refuses. Throttled clients are told to wait for so many seconds.
    Refused(Refusal, u32),
}

impl RequestError {
    /// The response, in the dialect of the call if it was one, under the request's id if it has one.
    pub fn to_response(&self, endpoint: Option<Endpoint>, request_id: &str) -> Response {
        let response = self.render(endpoint, request_id);
        if !request_id.is_empty() {
            tag::set_header(&response.headers(), tag::REQUEST_ID_HEADER, request_id);
        }
        response
    }

    fn render(&self, endpoint: Option<Endpoint>, request_id: &str) -> Response {
        let dialect = endpoint.map_or(Dialect::Generic, Endpoint::dialect);
        let (status, message, error_types) = match self {
            Self::Refused(refusal, retry_after_seconds) => {
                return refusal_response(*refusal, *retry_after_seconds, dialect, request_id);
            }
            Self::Unconfigured(problem) => (
                503,
                format!("{}. {}.", problem.message, problem.remedy),
                ["service_unavailable", "api_error", "UNAVAILABLE"],
            ),
            Self::Unreachable => (
                502,
                "The origin did not answer.".to_owned(),
                ["bad_gateway", "api_error", "UNAVAILABLE"],
            ),
            Self::UploadAborted => {
                (400, "The request body broke off.".to_owned(), INVALID_REQUEST_TYPES)
            }
            Self::InvalidRequest => (
                400,
                "A request with this target or these headers cannot be forwarded.".to_owned(),
                INVALID_REQUEST_TYPES,
            ),
            Self::NotFound => (
                404,
                "There is no such endpoint.".to_owned(),
                ["not_found", "not_found_error", "NOT_FOUND"],
            ),
        };
        json_response(status, &error_body(dialect, status, &message, error_types, request_id))
    }
}

/// Runs what reads hostile input. `None` means that it panicked: built with `--panic-unwind` that
/// costs nobody anything; built without, the isolate starts anew.
// Not inlined: LLVM 22 crashes on some functions for Wasm in which one catch follows another.
#[inline(never)]
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Unwind safety: what the work borrows is read only, or dropped with it.
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// A future in a box, whose code is a function of its own: where one catch follows another in a function,
/// LLVM 22 makes Wasm that is invalid.
pub fn box_future<'a, T>(
    future: impl Future<Output = T> + 'a,
) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(future)
}

/// A response of ours.
pub fn json_response(status: u16, body: &Value) -> Response {
    json_text_response(status, &body.to_string())
}

/// A response of JSON that is text already.
pub fn json_text_response(status: u16, body: &str) -> Response {
    let response = Headers::new().and_then(|headers| {
        tag::set_header(&headers, "content-type", "application/json");
        tag::set_header(&headers, "cache-control", "no-store");
        let init = ResponseInit::new();
        init.set_status(status);
        init.set_headers(&headers);
        Response::new_with_opt_str_and_init(Some(body), &init)
    });
    // The platform refuses only statuses outside 200–599, and ours are constants.
    response.unwrap_or_else(|_| Response::error())
}

fn refusal_response(
    refusal: Refusal,
    retry_after_seconds: u32,
    dialect: Dialect,
    request_id: &str,
) -> Response {
    let response = json_response(refusal.status(), &refusal.body(dialect, request_id));
    if refusal == Refusal::Throttle {
        tag::set_header(&response.headers(), "retry-after", &retry_after_seconds.to_string());
    }
    response
}

/// The shapes of the dialects, as in `hedgerow_core::enforce::refusal`; `words` are OpenAI's, Anthropic's, Google's.
fn error_body(
    dialect: Dialect,
    status: u16,
    message: &str,
    error_types: [&str; 3],
    request_id: &str,
) -> Value {
    let [openai, anthropic, google] = error_types;
    match dialect {
        Dialect::Anthropic => json!({
            "type": "error",
            "error": { "type": anthropic, "message": message },
            "request_id": request_id,
        }),
        Dialect::Gemini => {
            json!({ "error": { "code": status, "message": message, "status": google } })
        }
        Dialect::Openai | Dialect::Generic => json!({
            "error": { "message": message, "type": openai, "param": null, "code": openai },
        }),
    }
}

const INVALID_REQUEST_TYPES: [&str; 3] =
    ["invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_of_each_dialect() {
        let body = |dialect| error_body(dialect, 502, "m", ["o", "a", "G"], "r").to_string();
        assert_eq!(
            body(Dialect::Openai),
            r#"{"error":{"code":"o","message":"m","param":null,"type":"o"}}"#
        );
        assert_eq!(
            body(Dialect::Anthropic),
            r#"{"error":{"message":"m","type":"a"},"request_id":"r","type":"error"}"#
        );
        assert_eq!(body(Dialect::Gemini), r#"{"error":{"code":502,"message":"m","status":"G"}}"#);
    }

    #[test]
    fn panics_are_caught() {
        assert_eq!(catch_panic(|| 1), Some(1));
        assert_eq!(catch_panic(|| -> u8 { panic!("planted") }), None);
    }
}
