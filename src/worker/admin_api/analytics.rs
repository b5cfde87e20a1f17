//! `/_hedgerow/v1/series`, `…/decisions` and `…/live`: what traffic does, over time and request by request;
//! from all objects of the ledger.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use web_sys::{Headers, Request, RequestInit, Response, UrlSearchParams};

use crate::admin_api::{ApiError, health, status};
use crate::isolate::telemetry::shard_name;
use crate::ledger_do::WEBSOCKET_PROTOCOL;
use crate::ledger_do::series::{Series, TimeBuckets};
use crate::ledger_do::{DecisionMatches, MAX_DECISIONS, MAX_PAGE};
use crate::platform::clock::with_timeout;
use crate::platform::settings::Settings;
use crate::platform::{clock, hmac_sha256};
use crate::request::client_request::ClientRequest;
use crate::request::response::{json_response, json_text_response};
use crate::request::tag;

/// Minutes that are told unless others are asked for.
const DEFAULT_MINUTES: u64 = 60;

/// Counts over time.
pub async fn handle_series(
    request: &ClientRequest,
    settings: &Settings,
) -> Result<Response, ApiError> {
    let minutes = status::parse_minutes(request)?.unwrap_or(DEFAULT_MINUTES);
    let buckets = TimeBuckets::from_last_minutes(minutes, clock::now_seconds());
    let target = format!("/series?{}", buckets.to_query());
    let mut merged = Series::default();
    for series in status::query_all_shards::<Series>(settings, &target)
        .await
        .ok_or_else(ledger_unavailable)?
    {
        merged.merge(series);
    }
    Ok(json_response(200, &merged.to_json(&buckets, minutes)))
}

/// The last decisions, newest first.
pub async fn handle_decisions(
    request: &ClientRequest,
    settings: &Settings,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct DecisionsResponse {
        decisions: Vec<Box<RawValue>>,
        stored: usize,
        capacity: usize,
    }
    let (limit, target) = parse_query(request)?;
    let mut decisions: Vec<(f64, Box<RawValue>)> = Vec::new();
    let (mut stored, mut capacity) = (0, 0);
    for shard in status::query_all_shards::<DecisionMatches>(settings, &target)
        .await
        .ok_or_else(ledger_unavailable)?
    {
        stored += shard.stored;
        capacity += MAX_DECISIONS;
        decisions.extend(shard.decisions);
    }
    decisions.sort_by(|a, b| b.0.total_cmp(&a.0));
    decisions.truncate(limit);
    let response = DecisionsResponse {
        decisions: decisions.into_iter().map(|(_, text)| text).collect(),
        stored,
        capacity,
    };
    Ok(json_text_response(200, &serde_json::to_string(&response).unwrap_or_default()))
}

/// What is asked for, made anew: each parameter once, as it was checked.
fn parse_query(request: &ClientRequest) -> Result<(usize, String), ApiError> {
    let (_, query) = request.target().split_once('?').unwrap_or_default();
    let params = UrlSearchParams::new_with_str(query).map_err(|_| ledger_unavailable())?;
    let limit = params.get("limit").map_or(Some(DEFAULT_LIMIT), |limit| limit.parse().ok());
    let limit = limit.filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
        let remedy = format!("give a whole number from 1 to {MAX_PAGE}, or leave it out");
        ApiError::new(400, "invalid", "'limit' is no number of decisions", remedy)
    })?;
    let forwarded = UrlSearchParams::new().map_err(|_| ledger_unavailable())?;
    forwarded.append("limit", &limit.to_string());
    for name in FILTERS {
        if let Some(value) = params.get(name) {
            forwarded.append(name, &value);
        }
    }
    Ok((limit, format!("/decisions?{}", String::from(forwarded.to_string()))))
}

const FILTERS: [&str; 10] =
    ["band", "action", "signature", "account", "cluster", "model", "colo", "id", "since", "until"];

/// Decisions that are told at once, unless others are asked for.
const DEFAULT_LIMIT: usize = 100;

/// What lets a browser's WebSocket in, which cannot set `Authorization`: it stands among the protocols,
/// where logs may show it, and so is good for little, and not for long.
pub fn issue_ticket(secret: &str) -> Option<Value> {
    let expires = clock::now_seconds() + TICKET_TTL_SECONDS;
    Some(json!({ "ticket": sign_ticket(secret, expires)?, "expires": expires }))
}

/// Whether a ticket is one of ours, and still good.
pub fn is_valid_ticket(secret: &str, ticket: &str) -> bool {
    let expires = ticket.split_once('.').and_then(|(expires, _)| expires.parse::<u64>().ok());
    let is_in_range = |expires: &u64| {
        (clock::now_seconds()..=clock::now_seconds() + TICKET_TTL_SECONDS).contains(expires)
    };
    let expected = expires.filter(is_in_range).and_then(|expires| sign_ticket(secret, expires));
    expected.is_some_and(|expected| bool::from(expected.as_bytes().ct_eq(ticket.as_bytes())))
}

fn sign_ticket(secret: &str, expires: u64) -> Option<String> {
    let mac = hmac_sha256::hmac_hex(secret, format!("live\0{expires}").as_bytes(), 16)?;
    Some(format!("{expires}.{mac}"))
}

/// Seconds for which a ticket is good.
const TICKET_TTL_SECONDS: u64 = 30;

/// A WebSocket that says whenever there is something new: that of the first object, which is the only
/// one unless LEDGER_SHARDS says otherwise.
pub async fn handle_live(
    request: &ClientRequest,
    settings: &Settings,
) -> Result<Response, ApiError> {
    if !request.header("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        let remedy = "connect by WebSocket; a browser with the protocols `hedgerow.v1` and `ticket.` and what /live/ticket gave";
        return Err(ApiError::new(426, "upgrade", "this path is a WebSocket's", remedy));
    }
    let ledger = settings.ledger().ok_or_else(ledger_unavailable)?;
    let stub = ledger.get_by_name(&shard_name(0)).map_err(|_| ledger_unavailable())?;
    let upgrade_request = Headers::new().and_then(|headers| {
        tag::set_header(&headers, "upgrade", "websocket");
        if request.header("sec-websocket-protocol").is_some() {
            tag::set_header(&headers, "sec-websocket-protocol", WEBSOCKET_PROTOCOL);
        }
        let init = RequestInit::new();
        init.set_headers(&headers);
        Request::new_with_str_and_init("https://ledger/live", &init)
    });
    let upgrade_request = upgrade_request.map_err(|_| ledger_unavailable())?;
    let response =
        with_timeout(stub.fetch_with_request(upgrade_request.into()), health::RPC_TIMEOUT).await;
    let response = response.and_then(Result::ok).filter(|response| response.status_code() == 101);
    response.map(Response::from).ok_or_else(ledger_unavailable)
}

fn ledger_unavailable() -> ApiError {
    let remedy =
        "try again; traffic is decided and counted all the same, and reported when it answers";
    ApiError::new(503, "unavailable", "the ledger does not answer", remedy)
}
