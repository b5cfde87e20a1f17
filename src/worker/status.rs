//! `/_hedgerow/v1/status`: what is published, from the registry; and what traffic sees of it, from all
//! objects of the ledger.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use web_sys::{Response, UrlSearchParams};
use worker::ObjectNamespace;

use crate::admin;
use crate::api::{self, ApiError};
use crate::clock::in_time;
use crate::error::json_response;
use crate::intake::Arrival;
use crate::ledger::RECENT;
use crate::outbox::shard_name;
use crate::settings::Settings;
use crate::tally::Tally;

/// Minutes that may be asked for: as many as the ledger keeps.
const MAX_MINUTES: u64 = 43_200;

/// Signatures that are listed.
const TOP: usize = 50;

/// Answers.
pub async fn answer(
    arrival: &Arrival,
    settings: &Settings,
    caller: &Value,
) -> Result<Response, ApiError> {
    let minutes = minutes(arrival)?;
    let registry = api::ask_json(settings, "/status", caller);
    let target = target(minutes);
    let (status, counts) = futures_util::join!(registry, counts(settings, &target));
    let mut status = status?;
    let seconds = minutes.map_or(RECENT, |minutes| minutes.saturating_mul(60));
    let Some(members) = status.as_object_mut() else { return Ok(json_response(200, &status)) };
    if members.contains_key("error") {
        return Ok(json_response(503, &status));
    }
    members.insert("ledger".to_owned(), json!({ "reachable": counts.is_some() }));
    members.insert("traffic".to_owned(), traffic(&counts.unwrap_or_default(), seconds));
    Ok(json_response(200, &status))
}

/// The minutes that a request asks for.
pub fn minutes(arrival: &Arrival) -> Result<Option<u64>, ApiError> {
    let (_, query) = arrival.target().split_once('?').unwrap_or_default();
    let minutes = UrlSearchParams::new_with_str(query).ok().and_then(|query| query.get("minutes"));
    let Some(minutes) = minutes else { return Ok(None) };
    let minutes = minutes.parse().ok().filter(|minutes| (1..=MAX_MINUTES).contains(minutes));
    minutes.map(Some).ok_or_else(|| {
        let remedy = format!("give a whole number from 1 to {MAX_MINUTES}, or leave it out");
        ApiError::new(400, "invalid", "'minutes' is none that the ledger keeps", remedy)
    })
}

/// Where an object of the ledger has the counts of some minutes; of the last one, if none are asked for.
fn target(minutes: Option<u64>) -> String {
    minutes.map_or("/".to_owned(), |minutes| format!("/?minutes={minutes}"))
}

/// The counts that all objects have there.
pub async fn counts(settings: &Settings, target: &str) -> Option<Tally> {
    let mut sum = Tally::default();
    for tally in ask_all(settings, target).await? {
        sum.gather(tally);
    }
    Some(sum)
}

/// What all objects of the ledger answer; `None` where one cannot be reached: a part would look like less
/// traffic.
pub async fn ask_all<T: DeserializeOwned>(settings: &Settings, target: &str) -> Option<Vec<T>> {
    let ledger = settings.ledger()?;
    let shards = (0..settings.shards()).map(|shard| ask(&ledger, shard, target));
    join_all(shards).await.into_iter().collect()
}

async fn ask<T: DeserializeOwned>(ledger: &ObjectNamespace, shard: u32, target: &str) -> Option<T> {
    let stub = ledger.get_by_name(&shard_name(shard)).ok()?;
    let request = admin::internal("https://ledger", "GET", target, &Value::Null, None).ok()?;
    let answer = in_time(stub.fetch_with_request(request.into()), admin::PATIENCE).await?;
    let text = answer.ok()?.text().await.ok()?;
    serde_json::from_str(&text).ok()
}

type Counts = BTreeMap<String, u64>;

#[derive(Default)]
struct Traffic {
    requests: u64,
    by: [(&'static str, Counts); 6],
    by_colo: Counts,
    signatures: Counts,
    errors: Counts,
    /// By the shadow's digest.
    shadows: BTreeMap<String, Shadow>,
}

#[derive(Default)]
struct Shadow {
    requests: u64,
    bands: BTreeMap<(String, String), u64>,
    /// Hits of only the active, and only the shadow.
    signatures: BTreeMap<String, (u64, u64)>,
}

/// Where each part of a `request` key goes.
const PARTS: [&str; 6] = ["by_serial", "by_ruleset", "by_role", "by_band", "by_action", "by_mode"];

fn traffic(tally: &Tally, seconds: u64) -> Value {
    let mut traffic = Traffic { by: PARTS.map(|part| (part, Counts::new())), ..Traffic::default() };
    tally.iter().for_each(|(key, count)| traffic.add(key, count));
    traffic.json(seconds)
}

impl Traffic {
    fn add(&mut self, key: &[String], count: u64) {
        let add = |counts: &mut Counts, name: &String| {
            *counts.entry(name.clone()).or_default() += count;
        };
        let Some((kind, parts)) = key.split_first() else { return };
        match (kind.as_str(), parts) {
            ("request", parts) => {
                self.requests += count;
                for ((_, counts), part) in self.by.iter_mut().zip(parts) {
                    add(counts, part);
                }
            }
            ("colo", [colo]) => add(&mut self.by_colo, colo),
            ("signature", [_, name]) => add(&mut self.signatures, name),
            ("error", [what]) => add(&mut self.errors, what),
            // Clusters have a page of their own; scores are for the console's series.
            ("cluster" | "cluster_model" | "score", _) => {}
            ("shadow", [ruleset, from, to]) => {
                let shadow = self.shadows.entry(ruleset.clone()).or_default();
                shadow.requests += count;
                *shadow.bands.entry((from.clone(), to.clone())).or_default() += count;
            }
            ("shadow_signature", [ruleset, name, side]) => {
                let shadow = self.shadows.entry(ruleset.clone()).or_default();
                let both = shadow.signatures.entry(name.clone()).or_default();
                match side.as_str() {
                    "active" => both.0 += count,
                    _ => both.1 += count,
                }
            }
            // What came beyond the bounds of a tally.
            _ => {
                *self.errors.entry("counts beyond what is kept apart".to_owned()).or_default() +=
                    count
            }
        }
    }

    fn json(self, seconds: u64) -> Value {
        let mut members = Map::new();
        members.insert("seconds".to_owned(), json!(seconds));
        members.insert("requests".to_owned(), json!(self.requests));
        for (name, counts) in self.by {
            members.insert(name.to_owned(), json!(counts));
        }
        members.insert("by_colo".to_owned(), json!(self.by_colo));
        let mut signatures: Vec<(String, u64)> = self.signatures.into_iter().collect();
        signatures.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let signatures = signatures.into_iter().take(TOP);
        let signatures = signatures.map(|(name, hits)| json!({ "name": name, "hits": hits }));
        members.insert("signatures".to_owned(), signatures.collect());
        let errors = self.errors.into_iter();
        let errors = errors.map(|(what, count)| json!({ "what": what, "count": count }));
        members.insert("errors".to_owned(), errors.collect());
        // Within a short time there is one; over a longer one, the one that was scored most counts.
        let shadow = self.shadows.into_iter().max_by_key(|(_, shadow)| shadow.requests);
        let shadow = shadow.map(|(ruleset, shadow)| shadow.json(&ruleset));
        members.insert("shadow".to_owned(), json!(shadow));
        Value::Object(members)
    }
}

impl Shadow {
    fn json(self, ruleset: &str) -> Value {
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
        let mut tally = Tally::default();
        let request = |band, action| ["request", "3", "d", "active", band, action, "shadow"];
        tally.count(request("clear", "allow"));
        tally.count(request("clear", "allow"));
        tally.count(request("hostile", "block"));
        for _ in 0..3 {
            tally.count(["colo", "FRA"]);
        }
        tally.count(["signature", "d", "a"]);
        tally.count(["signature", "d", "b"]);
        tally.count(["signature", "e", "b"]);
        tally.count(["shadow", "s", "clear", "suspect"]);
        tally.count(["shadow_signature", "s", "b", "shadow"]);
        tally.count(["error", "rules: it failed"]);
        let traffic = traffic(&tally, 60);
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
