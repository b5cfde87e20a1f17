//! `/series`: counts over time, from all objects of the ledger.

use web_sys::Response;

use crate::admin_api::error::ApiError;
use crate::admin_api::params;
use crate::ledger_do::client::query_all_shards;
use crate::ledger_do::series::{Series, TimeBuckets};
use crate::platform::clock;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::json_response;

/// Minutes that a query without `minutes` covers.
const DEFAULT_MINUTES: u64 = 60;

/// Answers with the counts of bands, actions, scores, signatures, errors and rulesets in the last
/// `minutes`, or in the `minutes` before `until`.
///
/// # Errors
/// `invalid`, if `minutes` or `until` is invalid; `unavailable`, if an object of the ledger does
/// not answer.
pub async fn handle(request: &ClientRequest, settings: &Settings) -> Result<Response, ApiError> {
    let minutes = params::parse_minutes(request)?.unwrap_or(DEFAULT_MINUTES);
    let now = clock::now_seconds();
    let buckets = match params::parse_until(request)? {
        Some(until) => TimeBuckets::before(until, minutes, now),
        None => TimeBuckets::from_last_minutes(minutes, now),
    };
    let target = format!("/series?{}", buckets.to_query());
    let shards = query_all_shards::<Series>(settings, &target).await;
    let mut merged = Series::default();
    for series in shards.ok_or_else(ApiError::ledger_unavailable)? {
        merged.merge(series);
    }
    Ok(json_response(200, &merged.to_api(&buckets, minutes)))
}
