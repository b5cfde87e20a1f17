//! Calls of the admin API to the ledger. A query goes to all objects of the ledger.

use std::collections::HashMap;

use futures_util::future::join_all;
use hedgerow_core::api::LabelQuery;
use serde::de::DeserializeOwned;
use serde_json::Value;
use web_sys::{Headers, Request, RequestInit, Response};
use worker::ObjectNamespace;

use crate::isolate::telemetry::shard_name;
use crate::ledger_do::counters::Counters;
use crate::platform::clock::with_timeout;
use crate::platform::rpc;
use crate::platform::rpc::RPC_TIMEOUT;
use crate::platform::settings::Settings;

/// The WebSocket protocol that the ledger accepts. A browser that offers protocols expects one of
/// them in the response.
pub const WEBSOCKET_PROTOCOL: &str = "hedgerow.v1";

/// Sends the query `target` (path and query) to all objects of the ledger and returns their
/// answers. Returns `None` if the binding LEDGER is missing. Also returns `None` if one object
/// gives no valid answer, because the sum of the others would look like less traffic.
pub async fn query_all_shards<T: DeserializeOwned>(
    settings: &Settings,
    target: &str,
) -> Option<Vec<T>> {
    let ledger = settings.ledger()?;
    let queries = (0..settings.ledger_shards()).map(|shard| query_shard(&ledger, shard, target));
    join_all(queries).await.into_iter().collect()
}

async fn query_shard<T: DeserializeOwned>(
    ledger: &ObjectNamespace,
    shard: u32,
    target: &str,
) -> Option<T> {
    let stub = ledger.get_by_name(&shard_name(shard)).ok()?;
    let request = rpc::request("https://ledger", "GET", target, &Value::Null, None).ok()?;
    let response = with_timeout(stub.fetch_with_request(request.into()), RPC_TIMEOUT).await?;
    let text = response.ok()?.text().await.ok()?;
    serde_json::from_str(&text).ok()
}

/// Returns the accounts of those requests in `ids` whose decision is in an object's sample, by
/// request id. An account is `None` if the request had none. Returns `None` if the binding LEDGER
/// is missing, or if an object gives no valid answer.
pub async fn fetch_senders(
    settings: &Settings,
    ids: Vec<String>,
) -> Option<HashMap<String, Option<String>>> {
    if ids.is_empty() {
        return Some(HashMap::new());
    }
    let ledger = settings.ledger()?;
    let body = serde_json::to_string(&LabelQuery { ids }).ok()?;
    let queries = (0..settings.ledger_shards()).map(|shard| post_senders(&ledger, shard, &body));
    let found: Option<Vec<_>> = join_all(queries).await.into_iter().collect();
    Some(found?.into_iter().flatten().collect())
}

async fn post_senders(
    ledger: &ObjectNamespace,
    shard: u32,
    body: &str,
) -> Option<Vec<(String, Option<String>)>> {
    let stub = ledger.get_by_name(&shard_name(shard)).ok()?;
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_body(&body.into());
    let request = Request::new_with_str_and_init("https://ledger/senders", &init).ok()?;
    let response = with_timeout(stub.fetch_with_request(request.into()), RPC_TIMEOUT).await?;
    response.ok()?.json().await.ok()
}

/// Sends the query `target` to all objects and returns the sum of their counters; `None` if one
/// object gives no valid answer.
pub async fn fetch_counters(settings: &Settings, target: &str) -> Option<Counters> {
    let mut merged = Counters::default();
    for counters in query_all_shards(settings, target).await? {
        merged.merge_unbounded(counters);
    }
    Some(merged)
}

/// Opens a WebSocket to the ledger's first object and returns the response with status 101; `None`
/// if the object does not accept the WebSocket. `selects_protocol` is whether the client offered
/// protocols.
pub async fn open_websocket(settings: &Settings, selects_protocol: bool) -> Option<Response> {
    let stub = settings.ledger()?.get_by_name(&shard_name(0)).ok()?;
    let request = websocket_request(selects_protocol)?;
    let response = with_timeout(stub.fetch_with_request(request.into()), RPC_TIMEOUT).await;
    let response = response?.ok().filter(|response| response.status_code() == 101);
    response.map(Response::from)
}

fn websocket_request(selects_protocol: bool) -> Option<Request> {
    let headers = Headers::new().ok()?;
    headers.set("upgrade", "websocket").ok()?;
    if selects_protocol {
        headers.set("sec-websocket-protocol", WEBSOCKET_PROTOCOL).ok()?;
    }
    let init = RequestInit::new();
    init.set_headers(&headers);
    Request::new_with_str_and_init("https://ledger/live", &init).ok()
}
