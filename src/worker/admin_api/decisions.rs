//! `/decisions`: the newest sampled decisions, from all objects of the ledger.

use hedgerow_core::api::DecisionList;
use serde_json::Value;
use serde_json::value::RawValue;
use web_sys::{Response, UrlSearchParams};

use crate::admin_api::error::ApiError;
use crate::admin_api::{params, principals};
use crate::ledger_do::client::query_all_shards;
use crate::ledger_do::decisions::{DecisionMatches, MAX_DECISIONS, MAX_PAGE};
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::json_response;

/// Number of decisions that a query without `limit` returns.
const DEFAULT_LIMIT: usize = 100;

/// Parameters that the ledger's objects filter by.
const FILTERS: [&str; 10] =
    ["band", "action", "signature", "account", "cluster", "model", "colo", "id", "since", "until"];

/// Answers with the newest decisions that match the query.
///
/// # Errors
/// `invalid`, if `limit` is invalid; `unavailable`, if an object of the ledger does not answer.
pub async fn handle(
    request: &ClientRequest,
    settings: &Settings,
    caller: &Value,
) -> Result<Response, ApiError> {
    let (limit, target) = parse_query(request)?;
    let shards = query_all_shards::<DecisionMatches>(settings, &target).await;
    let mut decisions: Vec<(f64, Box<RawValue>)> = Vec::new();
    let (mut stored, mut capacity) = (0, 0);
    for shard in shards.ok_or_else(ApiError::ledger_unavailable)? {
        stored += shard.stored as u64;
        capacity += MAX_DECISIONS as u64;
        decisions.extend(shard.decisions);
    }
    decisions.sort_by(|a, b| b.0.total_cmp(&a.0));
    decisions.truncate(limit);
    let parse = |(_, text): (f64, Box<RawValue>)| serde_json::from_str(text.get()).ok();
    let mut decisions: Vec<Value> = decisions.into_iter().filter_map(parse).collect();
    principals::add_labels(&mut decisions, settings, caller).await;
    Ok(json_response(200, &DecisionList::<Value> { decisions, stored, capacity }))
}

/// Returns two values: the limit, and the path and query of the call to the ledger. The query has
/// only known parameters, each at most once.
fn parse_query(request: &ClientRequest) -> Result<(usize, String), ApiError> {
    let unavailable = |_| ApiError::ledger_unavailable();
    let params = UrlSearchParams::new_with_str(params::query_of(request)).map_err(unavailable)?;
    let limit = params.get("limit").map_or(Some(DEFAULT_LIMIT), |limit| limit.parse().ok());
    let limit = limit.filter(|limit| (1..=MAX_PAGE).contains(limit));
    let limit = limit.ok_or_else(|| params::invalid_number("limit", MAX_PAGE as u64))?;
    let forwarded = UrlSearchParams::new().map_err(unavailable)?;
    forwarded.append("limit", &limit.to_string());
    for name in FILTERS {
        if let Some(value) = params.get(name) {
            forwarded.append(name, &value);
        }
    }
    Ok((limit, format!("/decisions?{}", String::from(forwarded.to_string()))))
}
