//! `/_hedgerow/v1/clusters…`: clusters, from the registry; and what traffic sees of them, from all objects
//! of the ledger.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use web_sys::Response;

use crate::api::{self, ApiError};
use crate::error::json_response;
use crate::intake::Arrival;
use crate::settings::Settings;
use crate::status;
use crate::tally::Tally;

/// Minutes that are counted unless others are asked for: a day.
const MINUTES: u64 = 1_440;

/// Requests of one cluster.
#[derive(Default)]
struct Traffic {
    requests: u64,
    by_band: BTreeMap<String, u64>,
    by_model: BTreeMap<String, u64>,
}

/// Answers.
pub async fn answer(
    arrival: &Arrival,
    settings: &Settings,
    path: &str,
    caller: &Value,
) -> Result<Response, ApiError> {
    let minutes = status::minutes(arrival)?.unwrap_or(MINUTES);
    let target = format!("/?minutes={minutes}&kind=cluster");
    let registry = api::ask_json(settings, path, caller);
    let (found, counts) = futures_util::join!(registry, status::counts(settings, &target));
    let mut found = found?;
    if let Some(error) = found.get("error") {
        let is_unknown = error.get("code").is_some_and(|code| code == "not_found");
        return Ok(json_response(if is_unknown { 404 } else { 503 }, &found));
    }
    let traffic = counts.map(|counts| by_cluster(&counts));
    match found.get_mut("clusters").and_then(Value::as_array_mut) {
        Some(clusters) => clusters.iter_mut().for_each(|own| add(own, traffic.as_ref(), minutes)),
        None => add(&mut found, traffic.as_ref(), minutes),
    }
    Ok(json_response(200, &found))
}

fn by_cluster(counts: &Tally) -> BTreeMap<String, Traffic> {
    let mut all: BTreeMap<String, Traffic> = BTreeMap::new();
    for (key, count) in counts.iter() {
        let [kind, id, part] = key else { continue };
        let traffic = all.entry(id.clone()).or_default();
        match kind.as_str() {
            "cluster" => {
                traffic.requests += count;
                *traffic.by_band.entry(part.clone()).or_default() += count;
            }
            "cluster_model" => *traffic.by_model.entry(part.clone()).or_default() += count,
            _ => {}
        }
    }
    all
}

/// Adds its traffic to a cluster; null where it is not known.
fn add(cluster: &mut Value, all: Option<&BTreeMap<String, Traffic>>, minutes: u64) {
    let none = Traffic::default();
    let id = cluster.get("id").and_then(Value::as_str).unwrap_or_default();
    let traffic = all.map(|all| all.get(id).unwrap_or(&none)).map(|own| {
        let Traffic { requests, by_band, by_model } = own;
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
        let mut tally = Tally::default();
        tally.count(["cluster", "5b0f3a91", "suspect"]);
        tally.count(["cluster", "5b0f3a91", "suspect"]);
        tally.count(["cluster_model", "5b0f3a91", "demo"]);
        tally.count(["cluster", "00000001", "notice"]);
        tally.count(["request", "3", "d"]);
        let all = by_cluster(&tally);
        let of = |id: &str, all| {
            let mut cluster = json!({ "id": id });
            add(&mut cluster, all, 60);
            cluster["traffic"].clone()
        };
        let (by_band, by_model) = (json!({ "suspect": 2 }), json!({ "demo": 1 }));
        let expected =
            json!({ "minutes": 60, "requests": 2, "by_band": by_band, "by_model": by_model });
        assert_eq!(of("5b0f3a91", Some(&all)), expected);
        assert_eq!(of("ffffffff", Some(&all))["requests"], 0);
        assert_eq!(of("5b0f3a91", None), Value::Null);
    }
}
