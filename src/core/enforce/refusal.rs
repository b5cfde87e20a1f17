//! Error responses in the caller's own dialect, so that SDKs raise their usual typed errors.
//!
//! [`ErrorKind`] lists the errors with which Hedgerow itself answers; it gives the status, the type
//! names and the shape of the body in each dialect. [`Refusal`] lists the reasons why the policy or
//! a limit refuses a request; each reason has a kind of error. `worded_refusal.rs` adds the words.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::route::Dialect;

/// A kind of error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The client's request cannot be read or forwarded.
    InvalidRequest,
    /// The policy does not allow the request.
    Forbidden,
    /// No endpoint has this path.
    NotFound,
    /// The client did not send the request in time.
    Timeout,
    /// The request exceeds a limit.
    TooLarge,
    /// The request is in a format that Hedgerow does not read.
    Unsupported,
    /// The client must slow down.
    RateLimited,
    /// The origin did not answer.
    BadGateway,
    /// Hedgerow cannot forward the request, or must not forward it without a score.
    Unavailable,
    /// The policy refuses WebSockets: the client must use HTTP.
    UpgradeRequired,
}

/// The names that SDKs map to their exception types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ErrorTypes {
    /// OpenAI's `error.type` and `error.code`.
    openai: &'static str,
    /// Anthropic's `error.type`.
    anthropic: &'static str,
    /// Google's `error.status`.
    google: &'static str,
}

impl ErrorKind {
    /// Returns the HTTP status.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// Returns the JSON body of the response. In the generic dialect, the body has OpenAI's shape,
    /// and the message also in a top-level member `message`. The body contains the request id,
    /// unless it is empty.
    pub fn body(self, dialect: Dialect, message: &str, request_id: &str) -> Value {
        let (status, types) = self.row();
        match dialect {
            Dialect::Anthropic => json!({
                "type": "error",
                "error": { "type": types.anthropic, "message": message },
                "request_id": request_id,
            }),
            Dialect::Gemini => {
                let mut error =
                    json!({ "code": status, "message": message, "status": types.google });
                if let Some(members) = error.as_object_mut().filter(|_| !request_id.is_empty()) {
                    let info = json!({ "@type": REQUEST_INFO, "requestId": request_id });
                    members.insert("details".to_owned(), json!([info]));
                }
                json!({ "error": error })
            }
            Dialect::Openai => openai_body(types, message, request_id),
            Dialect::Generic => {
                // Clients of Bedrock, Cohere, Mistral and others read the text from a member
                // `message`.
                let mut body = openai_body(types, message, request_id);
                if let Some(members) = body.as_object_mut() {
                    members.insert("message".to_owned(), message.into());
                }
                body
            }
        }
    }

    fn row(self) -> (u16, ErrorTypes) {
        let (status, openai, anthropic, google) = match self {
            Self::InvalidRequest => {
                (400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT")
            }
            Self::Forbidden => (403, "permission_denied", "permission_error", "PERMISSION_DENIED"),
            Self::NotFound => (404, "not_found", "not_found_error", "NOT_FOUND"),
            Self::Timeout => (408, "request_timeout", "timeout_error", "DEADLINE_EXCEEDED"),
            Self::TooLarge => {
                (413, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT")
            }
            Self::Unsupported => {
                (415, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT")
            }
            Self::RateLimited => {
                (429, "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED")
            }
            Self::BadGateway => (502, "bad_gateway", "api_error", "UNAVAILABLE"),
            Self::Unavailable => (503, "service_unavailable", "api_error", "UNAVAILABLE"),
            Self::UpgradeRequired => {
                (426, "invalid_request_error", "invalid_request_error", "FAILED_PRECONDITION")
            }
        };
        (status, ErrorTypes { openai, anthropic, google })
    }
}

/// Returns the body of an error in OpenAI's shape. OpenAI itself sends the request id only as a
/// header, which many clients do not log.
fn openai_body(types: ErrorTypes, message: &str, request_id: &str) -> Value {
    let code = types.openai;
    let mut error = json!({ "message": message, "type": code, "param": null, "code": code });
    if let Some(members) = error.as_object_mut().filter(|_| !request_id.is_empty()) {
        members.insert("request_id".to_owned(), request_id.into());
    }
    json!({ "error": error })
}

/// Type of the error detail with a request id, from `google/rpc/error_details.proto`.
const REQUEST_INFO: &str = "type.googleapis.com/google.rpc.RequestInfo";

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The action is `throttle`: status 429.
    Throttle,
    /// The action is `block`: status 403.
    Block,
    /// The policy fails closed and the request could not be scored, or the isolate held too many
    /// bytes of other requests: status 503.
    Unavailable,
    /// The client did not send the request in time: status 408.
    Late,
    /// The request exceeds a limit: status 413.
    TooLarge,
    /// The request is in an encoding or a format that Hedgerow does not read: status 415.
    Unsupported,
}

impl Refusal {
    /// Returns the refusal of a request of which a part was not scored. `reason` is the name of the
    /// reason. For `unknown_path`, `websocket` and unknown names, the refusal is
    /// [`Refusal::Block`].
    pub fn of_incomplete(reason: &str) -> Self {
        match reason {
            "late" => Self::Late,
            "crowded" => Self::Unavailable,
            "window" | "costly" => Self::TooLarge,
            "encoding" | "opaque" | "attachment" => Self::Unsupported,
            _ => Self::Block,
        }
    }

    /// Returns the HTTP status.
    pub fn status(self) -> u16 {
        self.kind().status()
    }

    /// Returns the WebSocket close code that is sent after the refusal of a message (RFC 6455 and
    /// its registry of codes):
    ///
    /// - 1003: the message is not readable.
    /// - 1008: the message violates the policy or is late.
    /// - 1009: the message is too large.
    /// - 1013: the message could not be scored.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Throttle | Self::Block | Self::Late => 1008,
            Self::TooLarge => 1009,
            Self::Unsupported => 1003,
            Self::Unavailable => 1013,
        }
    }

    /// Returns the value of the header `x-should-retry`, which has priority over all other retry
    /// rules of the SDKs of OpenAI and Anthropic. If the value is `None`, the header is not sent,
    /// and the SDK decides.
    ///
    /// If a refused request is sent again, it is refused again. By default, SDKs repeat a request
    /// twice after a 429: after half a second if they ignore `Retry-After`, or else after a silent
    /// wait. With `false`, they raise an error at once, and the caller decides.
    pub fn should_retry(self) -> Option<bool> {
        match self {
            Self::Throttle | Self::Block | Self::TooLarge | Self::Unsupported => Some(false),
            Self::Unavailable | Self::Late => None,
        }
    }

    /// Returns the kind of error with which the request is answered.
    pub(super) fn kind(self) -> ErrorKind {
        match self {
            Self::Throttle => ErrorKind::RateLimited,
            Self::Block => ErrorKind::Forbidden,
            Self::Unavailable => ErrorKind::Unavailable,
            Self::Late => ErrorKind::Timeout,
            Self::TooLarge => ErrorKind::TooLarge,
            Self::Unsupported => ErrorKind::Unsupported,
        }
    }

    /// Returns the built-in text.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Throttle => "Too many requests; slow down and try again later.",
            Self::Block => "This request is not allowed by the provider's usage policy.",
            Self::Unavailable => "The service is not available right now.",
            Self::Late => "The request was not received in time.",
            Self::TooLarge => "The request is too large.",
            Self::Unsupported => "The encoding or the format of the request is not supported.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_of_each_dialect() {
        let body = |dialect| ErrorKind::BadGateway.body(dialect, "m", "r");
        let openai = json!({
            "error": {
                "message": "m",
                "type": "bad_gateway",
                "param": null,
                "code": "bad_gateway",
                "request_id": "r",
            },
        });
        assert_eq!(body(Dialect::Openai), openai);
        let mut generic = openai;
        generic["message"] = json!("m");
        assert_eq!(body(Dialect::Generic), generic);
        let error = json!({ "type": "api_error", "message": "m" });
        assert_eq!(
            body(Dialect::Anthropic),
            json!({ "type": "error", "error": error, "request_id": "r" })
        );
        let info = json!({ "@type": REQUEST_INFO, "requestId": "r" });
        let error =
            json!({ "code": 502, "message": "m", "status": "UNAVAILABLE", "details": [info] });
        assert_eq!(body(Dialect::Gemini), json!({ "error": error }));
        let without_id = ErrorKind::BadGateway.body(Dialect::Gemini, "m", "");
        assert_eq!(without_id["error"]["details"], Value::Null);
        let without_id = ErrorKind::BadGateway.body(Dialect::Openai, "m", "");
        assert_eq!(without_id["error"].get("request_id"), None);
    }
}
