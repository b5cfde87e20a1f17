//! `/decisions`: the newest decisions, sampled or enforced, from all objects of the ledger.

use hedgerow_core::api::DecisionList;
use serde_json::Value;
use serde_json::value::RawValue;
use web_sys::{Response, UrlSearchParams};

use crate::admin_api::error::ApiError;
use crate::admin_api::{params, principals};
use crate::ledger_do::client::query_all_shards;
use crate::ledger_do::decisions::{DecisionMatches, MAX_DECISIONS, MAX_PAGE};
use crate::ledger_do::enforced_page::Position;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::json_response;

/// Number of decisions that a query without `limit` returns.
const DEFAULT_LIMIT: usize = 100;

/// Parameters that the ledger's objects filter by.
const FILTERS: [&str; 12] = [
    "band",
    "action",
    "signature",
    "account",
    "cluster",
    "model",
    "colo",
    "id",
    "since",
    "until",
    "enforced",
    "before",
];

/// Answers with the newest decisions that match the query.
///
/// # Errors
/// `invalid`, if `limit`, `enforced` or `before` is invalid; `unavailable`, if an object of the
/// ledger does not answer.
pub async fn handle(
    request: &ClientRequest,
    settings: &Settings,
    caller: &Value,
) -> Result<Response, ApiError> {
    let Query { limit, is_enforced, target } = parse_query(request)?;
    let shards = query_all_shards::<DecisionMatches>(settings, &target).await;
    let shards = shards.ok_or_else(ApiError::ledger_unavailable)?;
    let mut list = merge(shards, limit);
    // The sample has only one page.
    list.next = list.next.filter(|_| is_enforced);
    principals::add_labels(&mut list.decisions, settings, caller).await;
    Ok(json_response(200, &list))
}

/// Merges the answers of all objects into a list of at most `limit` decisions.
fn merge(shards: Vec<DecisionMatches>, limit: usize) -> DecisionList<Value> {
    // Older decisions were not searched in every object: the next page has them.
    let searched_to = shards.iter().filter_map(|shard| shard.searched_to).reduce(f64::max);
    let (mut stored, mut kept, mut counted) = (0, 0, 0);
    let capacity = (shards.len() * MAX_DECISIONS) as u64;
    let mut found: Vec<(Position, Value)> = Vec::new();
    for shard in shards {
        stored += shard.stored as u64;
        kept += shard.kept;
        counted += shard.counted;
        let decisions = shard.decisions.into_iter();
        let recent = decisions.filter(|(at, _)| searched_to.is_none_or(|end| *at >= end));
        found.extend(recent.filter_map(|(at, text)| positioned(at, &text)));
    }
    found.sort_by(|(a, _), (b, _)| {
        Position::compare((a.at, a.request_id.as_str()), (b.at, b.request_id.as_str()))
    });
    found.truncate(limit);
    let last = found.last().filter(|_| found.len() == limit).map(|(position, _)| position.clone());
    let end = searched_to.map(|at| Position { at, request_id: String::new() });
    let next = last.or(end).map(|position| position.to_text());
    let decisions = found.into_iter().map(|(_, decision)| decision).collect();
    DecisionList { decisions, stored, capacity, kept, counted, next }
}

/// Parses the JSON of a decision of the time `at`, and returns it with its position.
fn positioned(at: f64, text: &RawValue) -> Option<(Position, Value)> {
    let decision: Value = serde_json::from_str(text.get()).ok()?;
    let request_id = decision.get("request_id")?.as_str()?.to_owned();
    Some((Position { at, request_id }, decision))
}

/// The parameters of a query.
struct Query {
    /// Maximum number of decisions.
    limit: usize,
    /// Whether the query is for the enforced decisions.
    is_enforced: bool,
    /// Path and query of the call to the ledger.
    target: String,
}

/// Parses the query. The target has only known parameters, each at most once.
fn parse_query(request: &ClientRequest) -> Result<Query, ApiError> {
    let unavailable = |_| ApiError::ledger_unavailable();
    let params = UrlSearchParams::new_with_str(params::query_of(request)).map_err(unavailable)?;
    let limit = params.get("limit").map_or(Some(DEFAULT_LIMIT), |limit| limit.parse().ok());
    let limit = limit.filter(|limit| (1..=MAX_PAGE).contains(limit));
    let limit = limit.ok_or_else(|| params::invalid_number("limit", MAX_PAGE as u64))?;
    let enforced = params.get("enforced");
    if enforced.as_ref().is_some_and(|enforced| enforced != "true") {
        return Err(invalid("enforced", "`true`"));
    }
    if params.get("before").is_some_and(|before| Position::parse(&before).is_none()) {
        return Err(invalid("before", "the member `next` of the previous page"));
    }
    let forwarded = UrlSearchParams::new().map_err(unavailable)?;
    forwarded.append("limit", &limit.to_string());
    for name in FILTERS {
        if let Some(value) = params.get(name) {
            forwarded.append(name, &value);
        }
    }
    let target = format!("/decisions?{}", String::from(forwarded.to_string()));
    Ok(Query { limit, is_enforced: enforced.is_some(), target })
}

/// Returns the error for a parameter whose value is not `expected`.
fn invalid(name: &str, expected: &str) -> ApiError {
    let message = format!("invalid '{name}': expected {expected}");
    ApiError::new(400, "invalid", message, "correct the parameter, or leave it out")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the answer of an object with decisions at the given times.
    fn shard(times: &[u64], searched_to: Option<f64>) -> DecisionMatches {
        let decision = |at: &u64| {
            let text = json!({ "request_id": format!("id-{at}") }).to_string();
            (*at as f64, RawValue::from_string(text).unwrap())
        };
        let decisions = times.iter().map(decision).collect();
        DecisionMatches { decisions, stored: 9, kept: 5, counted: 7, searched_to }
    }

    #[test]
    fn a_page_ends_where_the_first_object_stopped_searching() {
        let ids = |list: &DecisionList<Value>| -> Vec<String> {
            list.decisions.iter().map(|found| found["request_id"].to_string()).collect()
        };
        let shards = || vec![shard(&[50, 40, 10], Some(20.0)), shard(&[45, 30], Some(30.0))];
        let list = merge(shards(), 10);
        assert_eq!(ids(&list), ["\"id-50\"", "\"id-45\"", "\"id-40\"", "\"id-30\""]);
        assert_eq!((list.stored, list.kept, list.counted), (18, 10, 14));
        assert_eq!(list.next.as_deref(), Some("30_"));
        let list = merge(shards(), 2);
        assert_eq!(list.next.as_deref(), Some("45_id-45"));
        assert_eq!(merge(vec![shard(&[1], None)], 10).next, None);
    }
}
