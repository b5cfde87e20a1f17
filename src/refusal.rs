//! Refusals in the caller's own dialect, so that SDKs raise their usual typed errors.

use serde_json::{Value, json};

use crate::route::Dialect;

/// Why a request gets an answer that is not the origin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 429.
    Throttle,
    /// 403.
    Block,
    /// 503: the filter cannot forward, or must not without a score.
    Unavailable,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Throttle => 429,
            Self::Block => 403,
            Self::Unavailable => 503,
        }
    }

    /// The body, as JSON. It says nothing that would help to tune a request.
    pub fn body(self, dialect: Dialect, request_id: &str) -> Value {
        let message = format!("{} Request id: {request_id}", self.message());
        match dialect {
            Dialect::Anthropic => json!({
                "type": "error",
                "error": { "type": self.words().1, "message": message },
                "request_id": request_id,
            }),
            Dialect::Gemini => json!({
                "error": { "code": self.status(), "message": message, "status": self.words().2 },
            }),
            Dialect::Openai | Dialect::Generic => json!({
                "error": { "message": message, "type": self.words().0, "param": null, "code": self.words().0 },
            }),
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Throttle => "Too many requests; slow down and try again later.",
            Self::Block => "This request is not allowed by the provider's usage policy.",
            Self::Unavailable => "The service is not available right now.",
        }
    }

    /// OpenAI's, Anthropic's and Google's words for it.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Throttle => ("rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"),
            Self::Block => ("permission_denied", "permission_error", "PERMISSION_DENIED"),
            Self::Unavailable => ("service_unavailable", "api_error", "UNAVAILABLE"),
        }
    }
}
