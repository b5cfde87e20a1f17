//! `/clusters` and `/clusters/{id}`: the registry's clusters, with their traffic from the ledger.

use std::collections::BTreeMap;

use hedgerow_core::api::{ClusterTraffic, Counts};
use serde_json::{Value, json};
use web_sys::Response;

use crate::admin_api::error::ApiError;
use crate::admin_api::params;
use crate::ledger_do::client::fetch_counters;
use crate::ledger_do::counters::Counters;
use crate::platform::settings::Settings;
use crate::registry_do::client;
use crate::request::client_request::ClientRequest;
use crate::request::response::json_response;

/// Minutes that a query without `minutes` covers: a day.
const DEFAULT_MINUTES: u64 = 1_440;

/// Answers with the registry's response to `path`, and adds the traffic of the last `minutes` to
/// each cluster. The traffic is null if the ledger does not answer. An error of the registry is
/// passed on with status 404 if its code is `not_found`, otherwise with 503.
///
/// # Errors
/// `invalid`, if `minutes` is invalid; `unavailable`, if the registry does not answer.
pub async fn handle(
    request: &ClientRequest,
    settings: &Settings,
    path: &str,
    caller: &Value,
) -> Result<Response, ApiError> {
    let minutes = params::parse_minutes(request)?.unwrap_or(DEFAULT_MINUTES);
    let target = format!("/?minutes={minutes}&kind=cluster");
    let registry_response = client::query(settings, path, caller);
    let (response, counters) =
        futures_util::join!(registry_response, fetch_counters(settings, &target));
    match response? {
        Ok(mut response) => {
            let traffic = TrafficByCluster::new(counters.as_ref(), minutes);
            match response.get_mut("clusters").and_then(Value::as_array_mut) {
                Some(clusters) => clusters.iter_mut().for_each(|cluster| traffic.add_to(cluster)),
                None => traffic.add_to(&mut response),
            }
            Ok(json_response(200, &response))
        }
        Err(body) => {
            let code = body.pointer("/error/code").and_then(Value::as_str);
            let status = if code == Some("not_found") { 404 } else { 503 };
            Ok(json_response(status, &body))
        }
    }
}

/// Counts of the requests of the last `minutes` that had an indicator of a cluster.
struct TrafficByCluster {
    minutes: u64,
    /// Traffic by id of the cluster; `None` if the ledger does not answer.
    by_id: Option<BTreeMap<String, ClusterTraffic>>,
}

impl TrafficByCluster {
    /// Adds up the counters of each cluster.
    fn new(counters: Option<&Counters>, minutes: u64) -> Self {
        let by_id = counters.map(|counters| {
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
        });
        Self { minutes, by_id }
    }

    /// Adds the member `traffic` to the JSON of an `api::ClusterInfo` or `api::ClusterDetails`.
    fn add_to(&self, cluster: &mut Value) {
        let aliases = cluster.get("aliases").and_then(Value::as_array).into_iter().flatten();
        let ids = cluster.get("id").into_iter().chain(aliases).filter_map(Value::as_str);
        let traffic = self.get(ids);
        if let Some(members) = cluster.as_object_mut() {
            members.insert("traffic".to_owned(), json!(traffic));
        }
    }

    /// Returns the sum of the traffic of `ids`: the id of a cluster and its aliases, which are the
    /// ids of clusters that were merged into it. `None` if the ledger does not answer.
    fn get<'i>(&self, ids: impl IntoIterator<Item = &'i str>) -> Option<ClusterTraffic> {
        let by_id = self.by_id.as_ref()?;
        let mut sum = ClusterTraffic { minutes: self.minutes, ..ClusterTraffic::default() };
        for traffic in ids.into_iter().filter_map(|id| by_id.get(id)) {
            sum.requests += traffic.requests;
            add_counts(&mut sum.by_band, &traffic.by_band);
            add_counts(&mut sum.by_model, &traffic.by_model);
        }
        Some(sum)
    }
}

/// Adds each count of `counts` to the count of the same name in `sum`.
fn add_counts(sum: &mut Counts, counts: &Counts) {
    for (name, count) in counts {
        *sum.entry(name.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cluster_gets_its_traffic() {
        let mut counters = Counters::default();
        counters.increment(["cluster", "5b0f3a91", "suspect"]);
        counters.increment(["cluster", "5b0f3a91", "suspect"]);
        counters.increment(["cluster_model", "5b0f3a91", "demo"]);
        counters.increment(["cluster", "00000001", "notice"]);
        counters.increment(["request", "3", "d"]);
        let traffic = TrafficByCluster::new(Some(&counters), 60);
        let (by_band, by_model) = (json!({ "suspect": 2 }), json!({ "demo": 1 }));
        let expected =
            json!({ "minutes": 60, "requests": 2, "by_band": by_band, "by_model": by_model });
        assert_eq!(json!(traffic.get(["5b0f3a91"])), expected);
        let none = traffic.get(["ffffffff"]).unwrap();
        assert_eq!((none.minutes, none.requests), (60, 0));
        assert_eq!(TrafficByCluster::new(None, 60).get(["5b0f3a91"]), None);
        let mut merged = json!({ "id": "00000001", "aliases": ["5b0f3a91", "ffffffff"] });
        traffic.add_to(&mut merged);
        let by_band = json!({ "notice": 1, "suspect": 2 });
        let expected =
            json!({ "minutes": 60, "requests": 3, "by_band": by_band, "by_model": by_model });
        assert_eq!(merged["traffic"], expected);
    }
}
