//! The error for faults of the registry's own storage.

use crate::admin_api::ApiError;
use crate::platform::log;

/// Logs a fault of the registry and returns the error for the caller, who can only try again.
pub fn internal_error(error: impl ToString) -> ApiError {
    log::registry_event("failed", Some(&error.to_string()));
    ApiError::new(503, "unavailable", "the registry cannot read or write its tables", "try again")
}
