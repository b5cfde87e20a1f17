//! `/_hedgerow/v1/series`, `…/decisions` and `…/live`: what traffic does, over time and request by request;
//! from all objects of the ledger.

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use web_sys::{Headers, Request, RequestInit, Response};
use worker::ObjectNamespace;

use crate::admin;
use crate::api::ApiError;
use crate::clock::{self, in_time};
use crate::error::json_response;
use crate::intake::Arrival;
use crate::ledger::{Found, MAX_KEPT};
use crate::outbox::shard_name;
use crate::series::{Series, Steps};
use crate::settings::Settings;
use crate::status;
use crate::tag;

/// Minutes that are told unless others are asked for.
const MINUTES: u64 = 60;

/// The protocol that a browser has to be answered.
pub const PROTOCOL: &str = "hedgerow.v1";

/// Counts over time.
pub async fn series(arrival: &Arrival, settings: &Settings) -> Result<Response, ApiError> {
    let minutes = status::minutes(arrival)?.unwrap_or(MINUTES);
    let steps = Steps::of_last(minutes, clock::seconds());
    let target = format!("/series?{}", steps.query());
    let mut sum = Series::default();
    for one in ask_all::<Series>(settings, &target).await? {
        sum.gather(one);
    }
    Ok(json_response(200, &sum.json(&steps, minutes)))
}

/// The last decisions, newest first.
pub async fn decisions(arrival: &Arrival, settings: &Settings) -> Result<Response, ApiError> {
    let (_, query) = arrival.target().split_once('?').unwrap_or_default();
    let limit = limit(query)?;
    let mut all: Vec<(f64, Box<RawValue>)> = Vec::new();
    let (mut kept, mut objects) = (0, 0);
    for one in ask_all::<Found>(settings, &format!("/decisions?{query}")).await? {
        kept += one.kept;
        objects += 1;
        all.extend(one.decisions);
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.truncate(limit);
    let decisions: Vec<Box<RawValue>> = all.into_iter().map(|(_, text)| text).collect();
    let told = json!({ "decisions": decisions, "kept": kept, "most": MAX_KEPT * objects });
    Ok(json_response(200, &told))
}

/// How many are asked for.
fn limit(query: &str) -> Result<usize, ApiError> {
    let given = url_value(query, "limit");
    let Some(given) = given else { return Ok(DEFAULT_LIMIT) };
    given.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
        let remedy = format!("give a whole number from 1 to {MAX_LIMIT}, or leave it out");
        ApiError::new(400, "invalid", "'limit' is no number of decisions", remedy)
    })
}

/// Decisions that are told at once.
const DEFAULT_LIMIT: usize = 100;
pub const MAX_LIMIT: usize = 500;

fn url_value(query: &str, name: &str) -> Option<String> {
    web_sys::UrlSearchParams::new_with_str(query).ok()?.get(name)
}

/// A WebSocket that says whenever there is something new: that of the first object, which is the only
/// one unless LEDGER_SHARDS says otherwise.
pub async fn live(arrival: &Arrival, settings: &Settings) -> Result<Response, ApiError> {
    if !arrival.header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket")) {
        let remedy =
            "connect by WebSocket, with the protocols `hedgerow.v1` and `bearer.` and the token";
        return Err(ApiError::new(426, "upgrade", "this path is a WebSocket's", remedy));
    }
    let ledger = settings.ledger().ok_or_else(silent)?;
    let stub = ledger.get_by_name(&shard_name(0)).map_err(|_| silent())?;
    let request = Headers::new().and_then(|headers| {
        tag::set(&headers, "upgrade", "websocket");
        let init = RequestInit::new();
        init.set_headers(&headers);
        Request::new_with_str_and_init("https://ledger/live", &init)
    });
    let request = request.map_err(|_| silent())?;
    let answer = in_time(stub.fetch_with_request(request.into()), admin::PATIENCE).await;
    answer.and_then(Result::ok).map(Response::from).ok_or_else(silent)
}

/// What all objects answer; a part would look like less traffic.
async fn ask_all<T: DeserializeOwned>(
    settings: &Settings,
    target: &str,
) -> Result<Vec<T>, ApiError> {
    let ledger = settings.ledger().ok_or_else(silent)?;
    let shards = (0..settings.shards()).map(|shard| ask::<T>(&ledger, shard, target));
    join_all(shards).await.into_iter().collect::<Option<_>>().ok_or_else(silent)
}

async fn ask<T: DeserializeOwned>(ledger: &ObjectNamespace, shard: u32, target: &str) -> Option<T> {
    let stub = ledger.get_by_name(&shard_name(shard)).ok()?;
    let request = admin::internal("https://ledger", "GET", target, &Value::Null, None).ok()?;
    let answer = in_time(stub.fetch_with_request(request.into()), admin::PATIENCE).await?;
    let text = answer.ok()?.text().await.ok()?;
    serde_json::from_str(&text).ok()
}

fn silent() -> ApiError {
    let remedy =
        "try again; traffic is decided and counted all the same, and reported when it answers";
    ApiError::new(503, "unavailable", "the ledger does not answer", remedy)
}
