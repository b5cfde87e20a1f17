//! Errors that several files of the registry return.

use hedgerow_core::ruleset::short_digest;

use crate::admin_api::error::ApiError;
use crate::platform::log;

/// Logs an error of the registry's storage, and returns an error without details, because the
/// caller can only try again.
pub fn internal_error(error: impl ToString) -> ApiError {
    log::registry_event("failed", Some(&error.to_string()));
    ApiError::new(503, "unavailable", "the registry cannot read or write its tables", "try again")
}

/// Returns a function that converts errors of the core to errors with status 422 and `code`.
pub fn rejected(code: &'static str) -> impl Fn(hedgerow_core::Error) -> ApiError {
    move |error| ApiError::new(422, code, error.problem().to_owned(), error.remedy().to_owned())
}

/// Returns the error for a bundle that is not stored.
pub fn unknown_bundle(digest: &str) -> ApiError {
    let message = format!("unknown bundle '{}'", short_digest(digest));
    let remedy = "GET /_hedgerow/v1/bundles lists the stored bundles";
    ApiError::new(404, "not_found", message, remedy)
}
