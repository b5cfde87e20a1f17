//! `/_hedgerow/v1/status`: what is published, from the registry; and what traffic sees of it, from all
//! objects of the ledger.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use web_sys::{Response, UrlSearchParams};
use worker::ObjectNamespace;

use crate::admin_api;
use crate::admin_api::{ApiError, health};
use crate::isolate::telemetry::shard_name;
use crate::ledger_do::RECENT_SECONDS;
use crate::ledger_do::counters::Counters;
use crate::platform::clock::with_timeout;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::json_response;

/// Minutes that may be asked for: as many as the ledger keeps.
const MAX_MINUTES: u64 = 43_200;

/// Signatures that are listed.
const MAX_SIGNATURES: usize = 50;

/// Answers.
pub async fn handle(
    request: &ClientRequest,
    settings: &Settings,
    caller: &Value,
) -> Result<Response, ApiError> {
    let minutes = parse_minutes(request)?;
    let registry_status = admin_api::query_registry(settings, "/status", caller);
    let target = counters_target(minutes);
    let (status, counters) =
        futures_util::join!(registry_status, fetch_counters(settings, &target));
    let mut status = status?;
    let seconds = minutes.map_or(RECENT_SECONDS, |minutes| minutes.saturating_mul(60));
    let Some(members) = status.as_object_mut() else { return Ok(json_response(200, &status)) };
    if members.contains_key("error") {
        return Ok(json_response(503, &status));
    }
    members.insert("ledger".to_owned(), json!({ "reachable": counters.is_some() }));
    members.insert("traffic".to_owned(), traffic_json(&counters.unwrap_or_default(), seconds));
    Ok(json_response(200, &status))
}

/// The minutes that a request asks for.
pub fn parse_minutes(request: &ClientRequest) -> Result<Option<u64>, ApiError> {
    let (_, query) = request.target().split_once('?').unwrap_or_default();
    let minutes = UrlSearchParams::new_with_str(query).ok().and_then(|query| query.get("minutes"));
    let Some(minutes) = minutes else { return Ok(None) };
    let minutes = minutes.parse().ok().filter(|minutes| (1..=MAX_MINUTES).contains(minutes));
    minutes.map(Some).ok_or_else(|| {
        let remedy = format!("give a whole number from 1 to {MAX_MINUTES}, or leave it out");
        ApiError::new(400, "invalid", "'minutes' is none that the ledger keeps", remedy)
    })
}

/// Where an object of the ledger has the counts of some minutes; of the last one, if none are asked for.
fn counters_target(minutes: Option<u64>) -> String {
    minutes.map_or("/".to_owned(), |minutes| format!("/?minutes={minutes}"))
}

/// The counts that all objects have there.
pub async fn fetch_counters(settings: &Settings, target: &str) -> Option<Counters> {
    let mut merged = Counters::default();
    for counters in query_all_shards(settings, target).await? {
        merged.merge_unbounded(counters);
    }
    Some(merged)
}

/// What all objects of the ledger answer; `None` where one cannot be reached: a part would look like less
/// traffic.
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
    let request = health::rpc_request("https://ledger", "GET", target, &Value::Null, None).ok()?;
    let response =
        with_timeout(stub.fetch_with_request(request.into()), health::RPC_TIMEOUT).await?;
    let text = response.ok()?.text().await.ok()?;
    serde_json::from_str(&text).ok()
}

type NameCounts = BTreeMap<String, u64>;

#[derive(Default)]
struct TrafficSummary {
    requests: u64,
    by_attribute: [(&'static str, NameCounts); 6],
    by_colo: NameCounts,
    signatures: NameCounts,
    errors: NameCounts,
    /// By the shadow's digest.
    shadows: BTreeMap<String, ShadowTraffic>,
}

#[derive(Default)]
struct ShadowTraffic {
    requests: u64,
    bands: BTreeMap<(String, String), u64>,
    /// Hits of only the active, and only the shadow.
    signatures: BTreeMap<String, (u64, u64)>,
}

/// Where each part of a `request` key goes.
const REQUEST_ATTRIBUTES: [&str; 6] =
    ["by_serial", "by_ruleset", "by_role", "by_band", "by_action", "by_mode"];

fn traffic_json(counters: &Counters, seconds: u64) -> Value {
    let mut traffic = TrafficSummary {
        by_attribute: REQUEST_ATTRIBUTES.map(|attribute| (attribute, NameCounts::new())),
        ..TrafficSummary::default()
    };
    counters.iter().for_each(|(key, count)| traffic.add(key, count));
    traffic.into_json(seconds)
}

impl TrafficSummary {
    fn add(&mut self, key: &[String], count: u64) {
        let add = |counts: &mut NameCounts, name: &String| {
            *counts.entry(name.clone()).or_default() += count;
        };
        let Some((kind, parts)) = key.split_first() else { return };
        match (kind.as_str(), parts) {
            ("request", parts) => {
                self.requests += count;
                for ((_, counts), value) in self.by_attribute.iter_mut().zip(parts) {
                    add(counts, value);
                }
            }
            ("colo", [colo]) => add(&mut self.by_colo, colo),
            ("signature", [_, name]) => add(&mut self.signatures, name),
            ("error", [message]) => add(&mut self.errors, message),
            // Clusters have a page of their own; scores are for the console's series.
            ("cluster" | "cluster_model" | "score", _) => {}
            ("shadow", [ruleset, from, to]) => {
                let shadow = self.shadows.entry(ruleset.clone()).or_default();
                shadow.requests += count;
                *shadow.bands.entry((from.clone(), to.clone())).or_default() += count;
            }
            ("shadow_signature", [ruleset, name, side]) => {
                let shadow = self.shadows.entry(ruleset.clone()).or_default();
                let hits = shadow.signatures.entry(name.clone()).or_default();
                match side.as_str() {
                    "active" => hits.0 += count,
                    _ => hits.1 += count,
                }
            }
            // What came beyond the bounds of a tally.
            _ => {
                *self.errors.entry("counts beyond what is kept apart".to_owned()).or_default() +=
                    count
            }
        }
    }

    fn into_json(self, seconds: u64) -> Value {
        let mut members = Map::new();
        members.insert("seconds".to_owned(), json!(seconds));
        members.insert("requests".to_owned(), json!(self.requests));
        for (name, counts) in self.by_attribute {
            members.insert(name.to_owned(), json!(counts));
        }
        members.insert("by_colo".to_owned(), json!(self.by_colo));
        let mut signatures: Vec<(String, u64)> = self.signatures.into_iter().collect();
        signatures.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let signatures = signatures.into_iter().take(MAX_SIGNATURES);
        let signatures = signatures.map(|(name, hits)| json!({ "name": name, "hits": hits }));
        members.insert("signatures".to_owned(), signatures.collect());
        let errors = self.errors.into_iter();
        let errors = errors.map(|(message, count)| json!({ "what": message, "count": count }));
        members.insert("errors".to_owned(), errors.collect());
        // Within a short time there is one; over a longer one, the one that was scored most counts.
        let shadow = self.shadows.into_iter().max_by_key(|(_, shadow)| shadow.requests);
        let shadow = shadow.map(|(ruleset, shadow)| shadow.into_json(&ruleset));
        members.insert("shadow".to_owned(), json!(shadow));
        Value::Object(members)
    }
}

impl ShadowTraffic {
    fn into_json(self, ruleset: &str) -> Value {
        let bands = self.bands.into_iter();
        let bands =
            bands.map(|((from, to), count)| json!({ "from": from, "to": to, "count": count }));
        let signatures = self.signatures.into_iter().map(|(name, (active, shadow))| {
            json!({ "name": name, "only_active": active, "only_shadow": shadow })
        });
        json!({
            "ruleset": ruleset,
            "requests": self.requests,
            "bands": bands.collect::<Value>(),
            "signatures": signatures.collect::<Value>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_traffic() {
        let mut counters = Counters::default();
        let request = |band, action| ["request", "3", "d", "active", band, action, "shadow"];
        counters.increment(request("clear", "allow"));
        counters.increment(request("clear", "allow"));
        counters.increment(request("hostile", "block"));
        for _ in 0..3 {
            counters.increment(["colo", "FRA"]);
        }
        counters.increment(["signature", "d", "a"]);
        counters.increment(["signature", "d", "b"]);
        counters.increment(["signature", "e", "b"]);
        counters.increment(["shadow", "s", "clear", "suspect"]);
        counters.increment(["shadow_signature", "s", "b", "shadow"]);
        counters.increment(["error", "rules: it failed"]);
        let traffic = traffic_json(&counters, 60);
        assert_eq!(traffic["requests"], 3);
        assert_eq!(traffic["by_serial"], json!({ "3": 3 }));
        assert_eq!(traffic["by_band"], json!({ "clear": 2, "hostile": 1 }));
        assert_eq!(traffic["by_action"], json!({ "allow": 2, "block": 1 }));
        assert_eq!(traffic["by_colo"], json!({ "FRA": 3 }));
        let names = json!([{ "name": "b", "hits": 2 }, { "name": "a", "hits": 1 }]);
        assert_eq!(traffic["signatures"], names);
        assert_eq!(traffic["errors"], json!([{ "what": "rules: it failed", "count": 1 }]));
        let shadow = json!({
            "ruleset": "s", "requests": 1,
            "bands": [{ "from": "clear", "to": "suspect", "count": 1 }],
            "signatures": [{ "name": "b", "only_active": 0, "only_shadow": 1 }],
        });
        assert_eq!(traffic["shadow"], shadow);
    }
}
