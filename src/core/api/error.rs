//! The body of every response whose status is an error.

use serde::{Deserialize, Serialize};

/// The body of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetails,
}

/// An error with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ErrorDetails {
    /// Code for programs, which is never renamed. The schema `Error` of docs/openapi.yaml lists all
    /// codes.
    pub code: String,
    /// Problem, for people: one sentence without a full stop.
    #[serde(default)]
    pub message: String,
    /// Next step for the operator. It is empty if no token is configured: the API then answers
    /// every request with the code `not_found`.
    #[serde(default)]
    pub remedy: String,
    /// Serial of the newest release; present only with the codes `serial` and `precondition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub serial: Option<u64>,
}
