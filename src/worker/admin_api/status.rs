//! `/status`: the registry's status, and recent traffic from all objects of the ledger.

use std::collections::BTreeMap;

use hedgerow_core::api::{
    BandChange, Counts, ErrorCount, LedgerStatus, PathCount, ShadowTraffic, SignatureDifference,
    SignatureHits, TrafficSummary,
};
use hedgerow_core::rules::policy::Band;
use serde_json::{Value, json};
use web_sys::Response;

use crate::admin_api::error::ApiError;
use crate::admin_api::params;
use crate::ledger_do::RECENT_SECONDS;
use crate::ledger_do::client::fetch_counters;
use crate::ledger_do::counters::{
    ANY_REASON, Counters, ENFORCED, ENFORCED_DROPPED, ENFORCED_EVICTED, SCORING_FAILED,
};
use crate::platform::settings::Settings;
use crate::registry_do::client;
use crate::request::client_request::ClientRequest;
use crate::request::response::json_response;

/// Maximum number of signatures that are listed. Signatures with the most hits are kept.
const MAX_SIGNATURES: usize = 50;

/// Maximum number of paths that are listed. Paths with the most requests are kept.
const MAX_PATHS: usize = 50;

/// Answers with the registry's status, and with the traffic of the last `minutes`, of the `minutes`
/// before `until`, or of the last 60 seconds if `minutes` is missing. If the ledger does not
/// answer, the traffic is empty and `ledger.reachable` is false. An error of the registry is passed
/// on with status 503.
///
/// # Errors
/// `invalid`, if `minutes` or `until` is invalid; `unavailable`, if the registry does not answer.
pub async fn handle(
    request: &ClientRequest,
    settings: &Settings,
    caller: &Value,
) -> Result<Response, ApiError> {
    let minutes = params::parse_minutes(request)?;
    let registry_status = client::query(settings, "/status", caller);
    let until = params::parse_until(request)?.map(|until| format!("&until={until}"));
    let target = minutes.map_or("/".to_owned(), |minutes| {
        format!("/?minutes={minutes}{}", until.unwrap_or_default())
    });
    let (status, counters) =
        futures_util::join!(registry_status, fetch_counters(settings, &target));
    let seconds = minutes.map_or(RECENT_SECONDS, |minutes| minutes.saturating_mul(60));
    match status? {
        Ok(mut status) => {
            // These members of `api::DeploymentStatus` come from the ledger; the registry wrote the
            // others.
            if let Some(members) = status.as_object_mut() {
                let ledger = LedgerStatus { reachable: counters.is_some() };
                members.insert("ledger".to_owned(), json!(ledger));
                let traffic = summarize(&counters.unwrap_or_default(), seconds);
                members.insert("traffic".to_owned(), json!(traffic));
            }
            Ok(json_response(200, &status))
        }
        Err(body) => Ok(json_response(503, &body)),
    }
}

/// Sums of counters, from which the summary of a period is made.
#[derive(Default)]
struct TrafficTotals {
    /// The summary. Only members that are plain sums are filled here; `into_summary` fills the
    /// others.
    summary: TrafficSummary,
    /// Hits by signature, of all rulesets.
    signatures: Counts,
    errors: Counts,
    /// Totals by digest of the shadow ruleset.
    shadows: BTreeMap<String, ShadowTotals>,
}

/// Counts of the requests that were scored by a shadow ruleset and by the ruleset that decided.
#[derive(Default)]
struct ShadowTotals {
    requests: u64,
    /// Requests by two bands: of the ruleset that decided, and of the shadow ruleset.
    bands: BTreeMap<(String, String), u64>,
    signatures: BTreeMap<String, HitDifference>,
}

/// Numbers of requests in which a signature hit in only one of the two rulesets.
#[derive(Default)]
struct HitDifference {
    only_active: u64,
    only_shadow: u64,
}

/// Returns the member `traffic` for counters of the last `seconds`.
fn summarize(counters: &Counters, seconds: u64) -> TrafficSummary {
    let mut totals = TrafficTotals::default();
    totals.summary.seconds = seconds;
    counters.iter().for_each(|(key, count)| totals.add(key, count));
    totals.into_summary()
}

impl TrafficTotals {
    /// Adds one counter. `counters.rs` of the ledger describes the keys.
    fn add(&mut self, key: &[String], count: u64) {
        let Some((kind, parts)) = key.split_first() else { return };
        let add = |counts: &mut Counts, name: &str| add_count(counts, name, count);
        match (kind.as_str(), parts) {
            ("request", attributes) => self.add_requests(attributes, count),
            ("colo", [colo]) => add(&mut self.summary.by_colo, colo),
            ("exemption", [name]) => add(&mut self.summary.by_exemption, name),
            ("signature", [_, name]) => add(&mut self.signatures, name),
            ("unscored", [reason]) if reason == ANY_REASON => self.summary.incomplete += count,
            ("unscored", [reason]) => add(&mut self.summary.by_unscored, reason),
            ("forwarded_unread", [method, path]) => {
                let (method, path) = (method.clone(), path.clone());
                self.summary.forwarded_unread.push(PathCount { method, path, count });
            }
            ("memory", [mib]) => add(&mut self.summary.memory_mib, mib),
            ("error", [message]) => add(&mut self.errors, message),
            (ENFORCED_DROPPED | ENFORCED_EVICTED, []) => self.summary.enforced_not_kept += count,
            // `/clusters`, `/series` and `/decisions` show these counters.
            ("cluster" | "cluster_model" | "score" | ENFORCED | SCORING_FAILED, _) => {}
            ("shadow", [ruleset, from, to]) => {
                let shadow = self.shadows.entry(ruleset.clone()).or_default();
                shadow.requests += count;
                *shadow.bands.entry((from.clone(), to.clone())).or_default() += count;
            }
            ("shadow_signature", [ruleset, name, side]) => {
                let shadow = self.shadows.entry(ruleset.clone()).or_default();
                let hits = shadow.signatures.entry(name.clone()).or_default();
                match side.as_str() {
                    "active" => hits.only_active += count,
                    _ => hits.only_shadow += count,
                }
            }
            // The key `overflow` has the counts of all keys that exceed a limit of the ledger.
            _ => add(&mut self.errors, "counts over the limit of keys"),
        }
    }

    /// Adds requests with the same attributes: release, ruleset, role, band, action and mode.
    fn add_requests(&mut self, attributes: &[String], count: u64) {
        let TrafficSummary {
            requests,
            by_serial,
            by_ruleset,
            by_role,
            by_band,
            by_action,
            by_mode,
            ..
        } = &mut self.summary;
        *requests += count;
        let counts = [by_serial, by_ruleset, by_role, by_band, by_action, by_mode];
        for (counts, value) in counts.into_iter().zip(attributes) {
            add_count(counts, value, count);
        }
    }

    /// Returns the summary as the API shows it.
    fn into_summary(self) -> TrafficSummary {
        let signatures = self.signatures.into_iter();
        let mut signatures: Vec<SignatureHits> =
            signatures.map(|(name, hits)| SignatureHits { name, hits }).collect();
        signatures.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.name.cmp(&b.name)));
        signatures.truncate(MAX_SIGNATURES);
        let mut forwarded_unread = self.summary.forwarded_unread;
        forwarded_unread.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.path.cmp(&b.path)));
        forwarded_unread.truncate(MAX_PATHS);
        let errors = self.errors.into_iter();
        // A long period may have several shadow rulesets. Show only the one with the most requests.
        let shadow = self.shadows.into_iter().max_by_key(|(_, shadow)| shadow.requests);
        TrafficSummary {
            signatures,
            forwarded_unread,
            errors: errors.map(|(message, count)| ErrorCount { message, count }).collect(),
            shadow: shadow.map(|(ruleset, shadow)| shadow.into_traffic(ruleset)),
            ..self.summary
        }
    }
}

fn add_count(counts: &mut Counts, name: &str, count: u64) {
    *counts.entry(name.to_owned()).or_default() += count;
}

impl ShadowTotals {
    fn into_traffic(self, ruleset: String) -> ShadowTraffic {
        let bands = self.bands.into_iter().filter_map(|((from, to), count)| {
            Some(BandChange { from: Band::parse(&from)?, to: Band::parse(&to)?, count })
        });
        let signatures = self.signatures.into_iter().map(|(name, hits)| {
            let HitDifference { only_active, only_shadow } = hits;
            SignatureDifference { name, only_active, only_shadow }
        });
        let (bands, signatures) = (bands.collect(), signatures.collect());
        ShadowTraffic { ruleset, requests: self.requests, bands, signatures }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counters_are_summed_by_attribute_and_name() {
        let mut counters = Counters::default();
        let request = |band, action| ["request", "3", "d", "active", band, action, "shadow"];
        counters.increment(request("clear", "allow"));
        counters.increment(request("clear", "allow"));
        counters.increment(request("hostile", "block"));
        for _ in 0..3 {
            counters.increment(["colo", "FRA"]);
        }
        counters.increment(["exemption", "audit"]);
        counters.increment(["signature", "d", "a"]);
        counters.increment(["signature", "d", "b"]);
        counters.increment(["signature", "e", "b"]);
        counters.increment(["shadow", "s", "clear", "suspect"]);
        counters.increment(["shadow_signature", "s", "b", "shadow"]);
        counters.increment(["error", "rules: it failed"]);
        counters.increment(["unscored", ANY_REASON]);
        counters.increment(["unscored", "late"]);
        counters.increment(["unscored", "attachment"]);
        counters.increment(["forwarded_unread", "POST", "/a/*"]);
        counters.increment(["forwarded_unread", "PUT", "/b"]);
        counters.increment(["forwarded_unread", "PUT", "/b"]);
        counters.increment(["memory", "32"]);
        counters.increment([ENFORCED]);
        counters.increment([SCORING_FAILED]);
        counters.increment([ENFORCED_DROPPED]);
        counters.increment([ENFORCED_EVICTED]);
        let traffic = json!(summarize(&counters, 60));
        assert_eq!(traffic["enforced_not_kept"], 2);
        assert_eq!(traffic["requests"], 3);
        assert_eq!(traffic["by_serial"], json!({ "3": 3 }));
        assert_eq!(traffic["by_band"], json!({ "clear": 2, "hostile": 1 }));
        assert_eq!(traffic["by_action"], json!({ "allow": 2, "block": 1 }));
        assert_eq!(traffic["by_colo"], json!({ "FRA": 3 }));
        assert_eq!(traffic["by_exemption"], json!({ "audit": 1 }));
        let names = json!([{ "name": "b", "hits": 2 }, { "name": "a", "hits": 1 }]);
        assert_eq!(traffic["signatures"], names);
        assert_eq!(traffic["errors"], json!([{ "message": "rules: it failed", "count": 1 }]));
        assert_eq!(traffic["incomplete"], 1);
        assert_eq!(traffic["by_unscored"], json!({ "attachment": 1, "late": 1 }));
        assert_eq!(
            traffic["forwarded_unread"],
            json!([
                { "method": "PUT", "path": "/b", "count": 2 },
                { "method": "POST", "path": "/a/*", "count": 1 },
            ])
        );
        assert_eq!(traffic["memory_mib"], json!({ "32": 1 }));
        let shadow = json!({
            "ruleset": "s", "requests": 1,
            "bands": [{ "from": "clear", "to": "suspect", "count": 1 }],
            "signatures": [{ "name": "b", "only_active": 0, "only_shadow": 1 }],
        });
        assert_eq!(traffic["shadow"], shadow);
    }
}
