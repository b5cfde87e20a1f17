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
    parse_number(request, "minutes", MAX_MINUTES)
}

/// The largest time that a query may name, in milliseconds since the epoch.
const MAX_TIME: u64 = 8_640_000_000_000_000;

/// Returns the parameter `until`, the end of a period, in seconds since the epoch, rounded up;
/// `None` if it is missing. Clients send milliseconds, as in a query for decisions.
///
/// # Errors
/// `invalid`, if it is not a whole number of milliseconds since the epoch.
pub fn parse_until(request: &ClientRequest) -> Result<Option<u64>, ApiError> {
    Ok(parse_number(request, "until", MAX_TIME)?.map(|until| until.div_ceil(1_000)))
}

/// Returns a parameter; `None` if it is missing.
fn parse_number(request: &ClientRequest, name: &str, max: u64) -> Result<Option<u64>, ApiError> {
    let query = UrlSearchParams::new_with_str(query_of(request)).ok();
    let Some(number) = query.and_then(|query| query.get(name)) else { return Ok(None) };
    let number = number.parse().ok().filter(|number| (1..=max).contains(number));
    number.map(Some).ok_or_else(|| invalid_number(name, max))
}

/// Returns the error for a parameter that is not a whole number from 1 to `max`.
pub fn invalid_number(name: &str, max: u64) -> ApiError {
    let message = format!("invalid '{name}': expected a whole number from 1 to {max}");
    ApiError::new(400, "invalid", message, "correct the parameter, or leave it out")
}
