//! Query parameters of the admin API.

use web_sys::UrlSearchParams;

use crate::admin_api::error::ApiError;
use crate::request::client_request::ClientRequest;

/// The longest period that a query may cover, in minutes: 30 days. The ledger keeps the counts of
/// hours for 31 days.
const MAX_MINUTES: u64 = 43_200;

/// Returns the query of a request, without the question mark.
pub fn query_of(request: &ClientRequest) -> &str {
    request.target().split_once('?').map_or("", |(_, query)| query)
}

/// Returns the parameter `minutes`; `None` if it is missing.
///
/// # Errors
/// `invalid`, if it is not a whole number from 1 to 43,200.
pub fn parse_minutes(request: &ClientRequest) -> Result<Option<u64>, ApiError> {
    let query = UrlSearchParams::new_with_str(query_of(request)).ok();
    let Some(minutes) = query.and_then(|query| query.get("minutes")) else { return Ok(None) };
    let minutes = minutes.parse().ok().filter(|minutes| (1..=MAX_MINUTES).contains(minutes));
    minutes.map(Some).ok_or_else(|| invalid_number("minutes", MAX_MINUTES))
}

/// Returns the error for a parameter that is not a whole number from 1 to `max`.
pub fn invalid_number(name: &str, max: u64) -> ApiError {
    let message = format!("invalid '{name}': expected a whole number from 1 to {max}");
    ApiError::new(400, "invalid", message, "correct the parameter, or leave it out")
}
