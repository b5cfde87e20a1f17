//! Counters and decisions (sampled or enforced) of the isolate, and their report to the ledger.
//!
//! A request only changes counters in memory. One request becomes the *leader*: some seconds after
//! its response, it sends all counters to the ledger in one call. If a report may have been lost,
//! its counters and enforced decisions are sent again with the next report, but its sampled
//! decisions are dropped. So a failed report can make counters too high, but not too low.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::Decision;
use hedgerow_core::completeness::UnscoredReasons;
use hedgerow_core::http::path_shape::path_shape;
use hedgerow_core::rules::policy::{Band, DecisionSettings};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use worker::{Context, Delay, Method, ObjectNamespace, Request, RequestInit};

use crate::isolate::attribution::Attribution;
use crate::isolate::decision_sample::{DecisionSample, encode_decision, encode_unscored};
use crate::isolate::enforced_buffer::{Effect, EnforcedBuffer};
use crate::isolate::model_name::storable_model_name;
use crate::isolate::principals;
use crate::ledger_do::counters::{
    ANY_REASON, Counters, ENFORCED, ENFORCED_DROPPED, Report, SCORING_FAILED,
};
use crate::platform::clock::{now_ms, with_timeout};
use crate::platform::lease::{Backoff, Lease};
use crate::platform::log::DecisionLine;
use crate::platform::memory::wasm_memory_bytes;
use crate::platform::settings::Settings;
use crate::request::client_request;
use crate::request::shadow::ShadowDecision;

/// Time after which another request may become the leader, if the platform ended the leader before
/// it reported.
const LEADER_LEASE: Duration = Duration::from_secs(60);

/// Timeout of one report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The first and the longest pause after a failed report.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(64);

/// Maximum number of models that are counted by name for one cluster between two reports.
const MAX_MODELS_PER_CLUSTER: usize = 8;

/// The method in the counter key of WebSockets that are forwarded unread.
pub const WEBSOCKET_METHOD: &str = "WEBSOCKET";

/// Maximum number of path shapes (paths without their ids) that are counted separately between two
/// reports. All others are counted as `OTHER_PATHS`.
const MAX_PATHS: usize = 64;
const OTHER_PATHS: &str = "other";

/// The name under which further models of a cluster are counted.
const OTHER_MODEL: &str = "other";

/// Lower bounds of the score buckets, which have a width of five.
const SCORE_BUCKETS: [&str; 20] = [
    "0", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50", "55", "60", "65", "70", "75",
    "80", "85", "90", "95",
];

#[derive(Default)]
struct Telemetry {
    /// Counts since the last report.
    counters: Counters,
    /// Decisions since the last report.
    sample: DecisionSample,
    /// Enforced decisions since the last report.
    enforced: EnforcedBuffer,
    /// Settings of the stored decisions; `None` before the first decision.
    settings: Option<DecisionSettings>,
    /// The lease of the leader.
    leader: Lease,
    /// The time until which nothing is sent after failed reports.
    backoff: Backoff,
    /// Index of the ledger object that gets this isolate's reports.
    shard: Option<u32>,
}

impl Telemetry {
    /// Adds a decision to the sample, if there is room, and to the enforced decisions if
    /// `is_enforced` is true. `account` is the id of the sender, and `is_clear` whether the band is
    /// `clear`. Calls `encode` only if the record is needed.
    fn add_record(
        &mut self,
        account: Option<&str>,
        is_clear: bool,
        is_enforced: bool,
        encode: impl FnOnce() -> Option<Box<RawValue>>,
    ) {
        let is_sampled = !self.sample.is_full(is_clear);
        if is_enforced {
            self.counters.increment([ENFORCED]);
        }
        if !is_sampled && !is_enforced {
            return;
        }
        let Some(record) = encode() else { return };
        if is_enforced {
            let dropped = self.enforced.push(account.unwrap_or_default(), record.clone());
            self.count_dropped(dropped);
        }
        if is_sampled {
            self.sample.push(is_clear, record);
        }
    }

    /// Counts enforced decisions that are not reported.
    fn count_dropped(&mut self, count: u64) {
        if count > 0 {
            self.counters.add(vec![ENFORCED_DROPPED.to_owned()], count);
        }
    }
}

thread_local! {
    static TELEMETRY: RefCell<Telemetry> = RefCell::default();
}

/// Counts a decision, and adds it to the sample if there is room, and to the enforced decisions if
/// it had an `effect`. `model` is the name of the requested model. `shadow_decision` is the
/// comparison with the shadow ruleset; `None` if the call was not compared.
pub fn count_decision(
    request_id: &str,
    attribution: &Attribution<'_>,
    decision: &Decision,
    model: Option<&str>,
    effect: Effect,
    shadow_decision: Option<&ShadowDecision>,
) {
    TELEMETRY.with_borrow_mut(|telemetry| {
        let (account, is_clear) = (decision.account.as_deref(), decision.band == Band::Clear);
        telemetry.add_record(account, is_clear, effect.is_enforced, || {
            encode_decision(request_id, attribution, decision, model, effect)
        });
        let counters = &mut telemetry.counters;
        let serial = attribution.serial.unwrap_or(0).to_string();
        let (band, ruleset) = (decision.band.name(), decision.ruleset.as_str());
        let (action, mode) = (decision.action.name(), decision.mode.name());
        let role = attribution.role.name();
        counters.increment(["request", &serial, ruleset, role, band, action, mode]);
        counters.increment(["colo", attribution.colo]);
        counters.increment(["score", score_bucket(decision.score)]);
        if let Some(name) = &decision.exemption {
            counters.increment(["exemption", name]);
        }
        if !decision.unscored.is_empty() {
            counters.increment(["unscored", ANY_REASON]);
        }
        for reason in &decision.unscored {
            counters.increment(["unscored", reason]);
        }
        for hit in &decision.hits {
            counters.increment(["signature", ruleset, &hit.name]);
        }
        let Some(shadow) = shadow_decision else { return };
        counters.increment(["shadow", &shadow.ruleset, band, shadow.band.name()]);
        for name in &shadow.only_active {
            counters.increment(["shadow_signature", &shadow.ruleset, name, "active"]);
        }
        for name in &shadow.only_shadow {
            counters.increment(["shadow_signature", &shadow.ruleset, name, "shadow"]);
        }
    });
}

/// Returns the lower bound of a score's bucket. The score 100 is in the last bucket.
fn score_bucket(score: f64) -> &'static str {
    SCORE_BUCKETS.get((score / 5.0) as usize).unwrap_or(&"95")
}

/// Counts a request of a cluster. Clients choose the model's name. So only names that may be stored
/// are counted separately, at most eight per cluster between two reports.
pub fn count_cluster(cluster: &str, band: Band, model: Option<&str>) {
    TELEMETRY.with_borrow_mut(|telemetry| {
        let counters = &mut telemetry.counters;
        counters.increment(["cluster", cluster, band.name()]);
        let model = storable_model_name(model).unwrap_or(OTHER_MODEL);
        let (mut count, mut is_counted) = (0, false);
        for (key, _) in counters.with_prefix(["cluster_model", cluster]) {
            count += 1;
            is_counted |= key.last().is_some_and(|name| name == model);
        }
        let model = if is_counted || count < MAX_MODELS_PER_CLUSTER { model } else { OTHER_MODEL };
        counters.increment(["cluster_model", cluster, model]);
    });
}

/// Counts a request that is forwarded unread, although its method can carry a prompt. Clients
/// choose the path, so only 64 shapes are counted separately between two reports.
pub fn count_forwarded_unread(method: &str, path: &str) {
    let shape = path_shape(path);
    TELEMETRY.with_borrow_mut(|telemetry| {
        let counters = &mut telemetry.counters;
        let is_counted = counters.contains(["forwarded_unread", method, &shape]);
        let is_full = || counters.with_prefix(["forwarded_unread"]).count() >= MAX_PATHS;
        let shape = if is_counted || !is_full() { shape.as_str() } else { OTHER_PATHS };
        counters.increment(["forwarded_unread", method, shape]);
    });
}

/// Counts traffic that was forwarded without a score and without a decision, such as messages of a
/// WebSocket.
pub fn count_unscored(reason: UnscoredReasons) {
    TELEMETRY.with_borrow_mut(|telemetry| {
        for name in reason.names() {
            telemetry.counters.increment(["unscored", name]);
        }
    });
}

/// Counts a request that could not be scored, and adds it to the sample if there is room, and to
/// the enforced decisions if `is_refused` is true. `line` is the request's log line, and `error`
/// the reason.
pub fn record_unscored(
    attribution: &Attribution<'_>,
    line: &DecisionLine<'_>,
    error: &str,
    is_refused: bool,
) {
    TELEMETRY.with_borrow_mut(|telemetry| {
        telemetry.counters.increment([SCORING_FAILED]);
        telemetry.add_record(line.account, false, is_refused, || {
            encode_unscored(attribution, line, error, is_refused)
        });
    });
}

/// Uses the settings of the stored decisions from the active policy in the next reports.
pub fn set_decision_settings(settings: DecisionSettings) {
    TELEMETRY.with_borrow_mut(|telemetry| telemetry.settings = Some(settings));
}

/// Counts a fault in Hedgerow. `message` is part of the counter's key, and must not contain any
/// part of a request.
pub fn count_error(message: &str) {
    TELEMETRY.with_borrow_mut(|telemetry| telemetry.counters.increment(["error", message]));
}

/// Makes the request the leader if there are counts to report, no other request is the leader, and
/// the pause after a failed report is over. The leader reports after REPORT_SECONDS, in the
/// background.
pub fn schedule_report(settings: &Rc<Settings>, context: &Context) {
    let now = now_ms();
    let is_leader = TELEMETRY.with_borrow_mut(|telemetry| {
        !telemetry.counters.is_empty()
            && telemetry.backoff.is_due(now)
            && telemetry.leader.try_acquire(now, LEADER_LEASE)
    });
    if !is_leader {
        return;
    }
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        Delay::from(settings.report_interval()).await;
        send(&settings).await;
    });
}

/// Sends the report. If the report may have been lost, its counters, enforced decisions and names
/// are kept for the next report, and its sampled decisions are dropped.
async fn send(settings: &Settings) {
    let (report, shard) = TELEMETRY.with_borrow_mut(|telemetry| {
        let shard = *telemetry.shard.get_or_insert_with(|| {
            shard_for_isolate(&client_request::new_request_id(), settings.ledger_shards())
        });
        let mut counters = std::mem::take(&mut telemetry.counters);
        counters.increment(["memory", &memory_bucket(wasm_memory_bytes())]);
        let (names, labels) = principals::take_learned();
        let report = Report {
            counters,
            decisions: telemetry.sample.take(),
            enforced: telemetry.enforced.take(),
            settings: telemetry.settings,
            names,
            labels,
        };
        (report, shard)
    });
    let is_delivered = match settings.ledger() {
        // Without the binding of the ledger, nobody reads the counters.
        None => true,
        Some(ledger) => {
            let response = with_timeout(post(&ledger, shard, &report), REPORT_TIMEOUT).await;
            response.flatten().is_some()
        }
    };
    TELEMETRY.with_borrow_mut(|telemetry| {
        telemetry.leader.release();
        if is_delivered {
            telemetry.backoff.record_success(now_ms(), Duration::ZERO);
        } else {
            telemetry.counters.merge(report.counters);
            let dropped = telemetry.enforced.restore(report.enforced);
            telemetry.count_dropped(dropped);
            principals::restore_learned(report.names);
            telemetry.backoff.record_failure(now_ms(), MIN_BACKOFF, MAX_BACKOFF);
        }
    });
}

/// Returns the bucket of a memory size: its MiB, rounded up to a multiple of 16.
fn memory_bucket(bytes: u64) -> String {
    bytes.div_ceil(16 << 20).saturating_mul(16).to_string()
}

/// Returns the index of the ledger object for an isolate, from a hash of `isolate`, a random name.
fn shard_for_isolate(isolate: &str, shards: u32) -> u32 {
    let hash = Sha256::digest(isolate);
    hash.first_chunk().map_or(0, |prefix| u32::from_be_bytes(*prefix)) % shards.max(1)
}

/// Sends a report. Returns `None` if the ledger may not have stored it.
async fn post(ledger: &ObjectNamespace, shard: u32, report: &Report) -> Option<()> {
    let stub = ledger.get_by_name(&shard_name(shard)).ok()?;
    let mut init = RequestInit::new();
    let body = serde_json::to_string(report).ok()?;
    init.with_method(Method::Post).with_body(Some(body.into()));
    let request = Request::new_with_init("https://ledger/report", &init).ok()?;
    let response = stub.fetch_with_request(request).await.ok()?;
    (response.status_code() == 204).then_some(())
}

/// Returns the name of a ledger object.
pub fn shard_name(shard: u32) -> String {
    format!("ledger-{shard}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enforced_decisions_are_kept_even_if_the_sample_is_full() {
        let mut telemetry = Telemetry::default();
        let record = || RawValue::from_string("{}".to_owned()).ok();
        for _ in 0..1_200 {
            telemetry.add_record(None, false, true, record);
        }
        telemetry.add_record(None, true, false, record);
        let count = |kind: &str| -> u64 {
            telemetry.counters.with_prefix([kind]).map(|(_, count)| count).sum()
        };
        assert_eq!((count(ENFORCED), count(ENFORCED_DROPPED)), (1_200, 200));
        assert_eq!(telemetry.enforced.take().len(), 1_000);
        assert_eq!(telemetry.sample.take().len(), 49);
    }

    #[test]
    fn model_names_per_cluster_are_bounded_and_filtered() {
        for number in 0..20 {
            count_cluster("5b0f3a91", Band::Suspect, Some(&format!("model-{number}")));
        }
        for model in [Some("Ignore all of it"), Some(""), None, Some(&*"x".repeat(49))] {
            count_cluster("5b0f3a91", Band::Suspect, model);
        }
        let counts = TELEMETRY.with_borrow(|telemetry| telemetry.counters.clone());
        let models: Vec<_> = counts.iter().filter(|(key, _)| key[0] == "cluster_model").collect();
        assert_eq!(models.len(), MAX_MODELS_PER_CLUSTER + 1);
        assert_eq!(models.iter().map(|(_, count)| count).sum::<u64>(), 24);
    }

    #[test]
    fn paths_are_bounded() {
        for number in 0..20_000 {
            let letters: String =
                format!("{number:05}").bytes().map(|d| (d - b'0' + b'a') as char).collect();
            count_forwarded_unread("POST", &format!("/v1/{letters}"));
        }
        let counts = TELEMETRY.with_borrow(|telemetry| telemetry.counters.clone());
        let paths: Vec<_> = counts.with_prefix(["forwarded_unread"]).collect();
        assert_eq!(paths.len(), MAX_PATHS + 1);
        assert_eq!(paths.iter().map(|(_, count)| count).sum::<u64>(), 20_000);
    }

    #[test]
    fn memory_counts_in_buckets_of_sixteen() {
        for (bytes, bucket) in [(1, "16"), (16 << 20, "16"), ((16 << 20) + 1, "32")] {
            assert_eq!(memory_bucket(bytes), bucket);
        }
    }

    #[test]
    fn scores_count_in_buckets_of_five() {
        let rows = [(0.0, "0"), (4.99, "0"), (5.0, "5"), (97.5, "95"), (100.0, "95")];
        for (score, expected) in rows {
            assert_eq!(score_bucket(score), expected);
        }
    }

    #[test]
    fn isolates_spread_evenly_over_shards() {
        let mut counts = [0; 4];
        for isolate in 0..400 {
            counts[shard_for_isolate(&isolate.to_string(), 4) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (60..=140).contains(count)), "{counts:?}");
        assert_eq!(shard_for_isolate("any", 1), 0);
    }
}
