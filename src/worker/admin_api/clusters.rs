//! `/_hedgerow/v1/clusters…`: clusters, from the registry; and what traffic sees of them, from all objects
//! of the ledger.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use web_sys::Response;

use crate::admin_api;
use crate::admin_api::{ApiError, status};
use crate::ledger_do::counters::Counters;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::json_response;

/// Minutes that are counted unless others are asked for: a day.
const DEFAULT_MINUTES: u64 = 1_440;

/// Requests of one cluster.
#[derive(Default)]
struct ClusterTraffic {
    requests: u64,
    by_band: BTreeMap<String, u64>,
    by_model: BTreeMap<String, u64>,
}

/// Answers.
pub async fn handle(
    request: &ClientRequest,
    settings: &Settings,
    path: &str,
    caller: &Value,
) -> Result<Response, ApiError> {
    let minutes = status::parse_minutes(request)?.unwrap_or(DEFAULT_MINUTES);
    let target = format!("/?minutes={minutes}&kind=cluster");
    let registry_response = admin_api::query_registry(settings, path, caller);
    let (response, counters) =
        futures_util::join!(registry_response, status::fetch_counters(settings, &target));
    let mut response = response?;
    if let Some(error) = response.get("error") {
        let is_not_found = error.get("code").is_some_and(|code| code == "not_found");
        return Ok(json_response(if is_not_found { 404 } else { 503 }, &response));
    }
    let traffic = counters.map(|counters| traffic_by_cluster(&counters));
    match response.get_mut("clusters").and_then(Value::as_array_mut) {
        Some(clusters) => {
            clusters.iter_mut().for_each(|cluster| add_traffic(cluster, traffic.as_ref(), minutes))
        }
        None => add_traffic(&mut response, traffic.as_ref(), minutes),
    }
    Ok(json_response(200, &response))
}

fn traffic_by_cluster(counters: &Counters) -> BTreeMap<String, ClusterTraffic> {
    let mut by_id: BTreeMap<String, ClusterTraffic> = BTreeMap::new();
    for (key, count) in counters.iter() {
        let [kind, id, value] = key else { continue };
        let traffic = by_id.entry(id.clone()).or_default();
        match kind.as_str() {
            "cluster" => {
                traffic.requests += count;
                *traffic.by_band.entry(value.clone()).or_default() += count;
            }
            "cluster_model" => *traffic.by_model.entry(value.clone()).or_default() += count,
            _ => {}
        }
    }
    by_id
}

/// Adds its traffic to a cluster; null where it is not known.
fn add_traffic(
    cluster: &mut Value,
    by_id: Option<&BTreeMap<String, ClusterTraffic>>,
    minutes: u64,
) {
    let no_traffic = ClusterTraffic::default();
    let id = cluster.get("id").and_then(Value::as_str).unwrap_or_default();
    let traffic = by_id.map(|by_id| by_id.get(id).unwrap_or(&no_traffic)).map(|traffic| {
        let ClusterTraffic { requests, by_band, by_model } = traffic;
        json!({ "minutes": minutes, "requests": requests, "by_band": by_band, "by_model": by_model })
    });
    if let Some(members) = cluster.as_object_mut() {
        members.insert("traffic".to_owned(), json!(traffic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_its_own_traffic() {
        let mut counters = Counters::default();
        counters.increment(["cluster", "5b0f3a91", "suspect"]);
        counters.increment(["cluster", "5b0f3a91", "suspect"]);
        counters.increment(["cluster_model", "5b0f3a91", "demo"]);
        counters.increment(["cluster", "00000001", "notice"]);
        counters.increment(["request", "3", "d"]);
        let by_id = traffic_by_cluster(&counters);
        let traffic_of = |id: &str, by_id| {
            let mut cluster = json!({ "id": id });
            add_traffic(&mut cluster, by_id, 60);
            cluster["traffic"].clone()
        };
        let (by_band, by_model) = (json!({ "suspect": 2 }), json!({ "demo": 1 }));
        let expected =
            json!({ "minutes": 60, "requests": 2, "by_band": by_band, "by_model": by_model });
        assert_eq!(traffic_of("5b0f3a91", Some(&by_id)), expected);
        assert_eq!(traffic_of("ffffffff", Some(&by_id))["requests"], 0);
        assert_eq!(traffic_of("5b0f3a91", None), Value::Null);
    }
}
