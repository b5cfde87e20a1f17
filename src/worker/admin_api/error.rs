//! The error of the admin API: status, code, message and remedy.

use hedgerow_core::api::{ErrorBody, ErrorDetails};

/// An error that the admin API returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Code for programs. The schema `Error` of docs/openapi.yaml lists all codes.
    pub code: &'static str,
    /// The problem: one sentence, without a full stop.
    pub message: String,
    /// The next step for the operator.
    pub remedy: String,
    /// Serial of the newest release; only in errors with the code `serial` or `precondition`.
    pub serial: Option<u64>,
}

impl ApiError {
    /// Makes an error without a serial.
    pub fn new(
        status: u16,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status, code, message: message.into(), remedy: remedy.into(), serial: None }
    }

    /// Returns the error of a call that fails because an object of the ledger does not answer.
    pub fn ledger_unavailable() -> Self {
        let remedy = "try again; requests are still decided, and counted once the ledger answers";
        Self::new(503, "unavailable", "the ledger does not answer", remedy)
    }

    /// Returns the body of the response.
    pub fn body(&self) -> ErrorBody {
        let error = ErrorDetails {
            code: self.code.to_owned(),
            message: self.message.clone(),
            remedy: self.remedy.clone(),
            serial: self.serial,
        };
        ErrorBody { error }
    }
}
