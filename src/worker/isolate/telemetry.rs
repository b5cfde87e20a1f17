//! What the isolate counted since it last reported. Requests only count; one of them, some seconds
//! after its answer, sends all counts to the ledger in one call. A report of which it is not known whether
//! it arrived is sent again: counts may be too high after an outage, never too low.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::Decision;
use hedgerow_core::rules::policy::Band;
use sha2::{Digest, Sha256};
use worker::{Context, Delay, Method, ObjectNamespace, Request, RequestInit};

use crate::isolate::active_rules::RulesetRole;
use crate::isolate::decision_sample::DecisionSample;
use crate::ledger_do::counters::{Counters, Report};
use crate::platform::clock::{now_ms, with_timeout};
use crate::platform::log::DecisionLine;
use crate::platform::settings::Settings;
use crate::request::client_request;
use crate::request::shadow::ShadowDecision;

#[derive(Default)]
struct Telemetry {
    counters: Counters,
    sample: DecisionSample,
    /// Until when somebody is about to report; milliseconds since the epoch.
    leader_until: f64,
    /// When the next report may go out, after failures.
    due: f64,
    failures: u32,
    /// Which of the objects this isolate reports to.
    shard: Option<u32>,
}

thread_local! {
    static TELEMETRY: RefCell<Telemetry> = RefCell::default();
}

/// By which rules a request was decided, and where.
pub struct Attribution<'a> {
    /// The release's serial, where there is one.
    pub serial: Option<u64>,
    /// Why this ruleset decided.
    pub role: RulesetRole,
    /// The data centre.
    pub colo: &'a str,
}

/// Counts a decision, and keeps it if there is room.
pub fn count_decision(
    request_id: &str,
    attribution: &Attribution<'_>,
    decision: &Decision,
    model: Option<&str>,
    shadowed: Option<&ShadowDecision>,
) {
    TELEMETRY.with_borrow_mut(|telemetry| {
        telemetry.sample.record_decision(request_id, attribution, decision, model);
        let counters = &mut telemetry.counters;
        let serial = attribution.serial.unwrap_or(0).to_string();
        let (band, ruleset) = (decision.band.name(), decision.ruleset.as_str());
        let (action, mode) = (decision.action.name(), decision.mode.name());
        let role = attribution.role.name();
        counters.increment(["request", &serial, ruleset, role, band, action, mode]);
        counters.increment(["colo", attribution.colo]);
        counters.increment([
            "score",
            SCORE_BUCKETS.get((decision.score / 5.0) as usize).unwrap_or(&"95"),
        ]);
        for hit in &decision.hits {
            counters.increment(["signature", ruleset, &hit.name]);
        }
        let Some(shadowed) = shadowed else { return };
        counters.increment(["shadow", &shadowed.ruleset, band, shadowed.band.name()]);
        for name in &shadowed.only_active {
            counters.increment(["shadow_signature", &shadowed.ruleset, name, "active"]);
        }
        for name in &shadowed.only_shadow {
            counters.increment(["shadow_signature", &shadowed.ruleset, name, "shadow"]);
        }
    });
}

/// Counts a request of a cluster. Clients choose what they call a model: only some names that look like
/// one are told apart.
pub fn count_cluster(cluster: &str, band: Band, model: Option<&str>) {
    TELEMETRY.with_borrow_mut(|telemetry| {
        let counters = &mut telemetry.counters;
        counters.increment(["cluster", cluster, band.name()]);
        let model = model_name(model).unwrap_or(OTHER_MODEL);
        let (mut count, mut is_counted) = (0, false);
        for (key, _) in counters.with_prefix(["cluster_model", cluster]) {
            count += 1;
            is_counted |= key.last().is_some_and(|name| name == model);
        }
        let model = if is_counted || count < MAX_MODELS_PER_CLUSTER { model } else { OTHER_MODEL };
        counters.increment(["cluster_model", cluster, model]);
    });
}

/// Scores in steps of five, by where they begin.
const SCORE_BUCKETS: [&str; 20] = [
    "0", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50", "55", "60", "65", "70", "75",
    "80", "85", "90", "95",
];

/// What clients call a model, where that may be kept.
pub fn model_name(model: Option<&str>) -> Option<&str> {
    model.filter(|model| is_safe_model_name(model))
}

/// Keeps a request that could not be scored.
pub fn record_unscored(attribution: &Attribution<'_>, line: &DecisionLine<'_>, error: &str) {
    TELEMETRY
        .with_borrow_mut(|telemetry| telemetry.sample.record_unscored(attribution, line, error));
}

/// Whether it looks like a model's name, and not like something that nobody may keep: an address of any
/// kind, or a credential, of which one would be sent by a client that mixes up its settings.
fn is_safe_model_name(name: &str) -> bool {
    let is_allowed_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@".contains(&byte);
    let has_valid_chars =
        (1..=MAX_MODEL_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_allowed_byte);
    let longest_run = name.split(|c: char| !c.is_ascii_alphanumeric()).map(str::len).max();
    let is_credential =
        longest_run.is_some_and(|run| run >= MIN_CREDENTIAL_RUN_LEN) || name.starts_with("sk-");
    // `model@20240620` is a version; all else behind that sign is an address.
    let mut bytes_after_at = name.split('@').skip(1).flat_map(str::bytes);
    let is_address =
        bytes_after_at.any(|byte| !byte.is_ascii_digit()) || name.parse::<IpAddr>().is_ok();
    has_valid_chars && !is_credential && !is_address
}

/// Letters and digits in a row that no model's name has, and every credential.
const MIN_CREDENTIAL_RUN_LEN: usize = 20;

/// Bytes of a model's name, and names that are told apart for a cluster between two reports.
const MAX_MODEL_NAME_BYTES: usize = 48;
const MAX_MODELS_PER_CLUSTER: usize = 8;

/// Any other model.
const OTHER_MODEL: &str = "other";

/// Counts a failure of ours.
pub fn count_error(message: &str) {
    TELEMETRY.with_borrow_mut(|telemetry| telemetry.counters.increment(["error", message]));
}

/// Sees to it that what was counted is reported: after this request is answered, unless another one
/// does already.
pub fn schedule_report(settings: &Rc<Settings>, context: &Context) {
    let now = now_ms();
    let is_leader = TELEMETRY.with_borrow_mut(|telemetry| {
        let is_leader =
            !telemetry.counters.is_empty() && now >= telemetry.leader_until && now >= telemetry.due;
        if is_leader {
            telemetry.leader_until = now + LEADER_LEASE.as_millis() as f64;
        }
        is_leader
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

async fn send(settings: &Settings) {
    let (report, shard) = TELEMETRY.with_borrow_mut(|telemetry| {
        let shard = *telemetry.shard.get_or_insert_with(|| {
            shard_for_isolate(&client_request::new_request_id(), settings.ledger_shards())
        });
        let counters = std::mem::take(&mut telemetry.counters);
        (Report { counters, decisions: telemetry.sample.take() }, shard)
    });
    let is_delivered = match settings.ledger() {
        // Nobody counts: nothing is kept for nobody.
        None => true,
        Some(ledger) => {
            with_timeout(post(&ledger, shard, &report), REPORT_TIMEOUT).await.flatten().is_some()
        }
    };
    TELEMETRY.with_borrow_mut(|telemetry| {
        telemetry.leader_until = 0.0;
        match is_delivered {
            true => telemetry.failures = 0,
            false => {
                // Counts are kept; single decisions are not worth it.
                telemetry.counters.merge(report.counters);
                let factor = f64::from(2_u32.saturating_pow(telemetry.failures.min(6)));
                telemetry.failures = telemetry.failures.saturating_add(1);
                telemetry.due = now_ms() + 1_000.0 * factor;
            }
        }
    });
}

/// The object that an isolate reports to: by the hash of a name that it gives itself.
fn shard_for_isolate(isolate: &str, shards: u32) -> u32 {
    let hash = Sha256::digest(isolate);
    let prefix = hash.iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    prefix % shards.max(1)
}

async fn post(ledger: &ObjectNamespace, shard: u32, report: &Report) -> Option<()> {
    let stub = ledger.get_by_name(&shard_name(shard)).ok()?;
    let mut init = RequestInit::new();
    let body = serde_json::to_string(report).ok()?;
    init.with_method(Method::Post).with_body(Some(body.into()));
    let request = Request::new_with_init("https://ledger/report", &init).ok()?;
    let response = stub.fetch_with_request(request).await.ok()?;
    (response.status_code() == 204).then_some(())
}

/// The name of one of the ledger's objects.
pub fn shard_name(shard: u32) -> String {
    format!("ledger-{shard}")
}

/// For how long nobody else reports, should who is about to never do it.
const LEADER_LEASE: Duration = Duration::from_secs(60);

/// For how long the ledger may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_per_cluster_are_bounded_and_validated() {
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
    fn credentials_and_addresses_are_not_model_names() {
        for name in [
            "gpt-4.1-mini",
            "claude-3-5-sonnet@20240620",
            "meta-llama/Llama-3.1-8B",
            "ft:gpt-4o:org:x:a1",
            "models/demo.gemini",
        ] {
            assert_eq!(model_name(Some(name)), Some(name));
        }
        let rejected = [
            "sk-live-1",
            "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
            "ana@example.com",
            "203.0.113.7",
            "2001:db8::1",
            "a b",
            "<img>",
            "0123456789abcdef0123",
        ];
        for name in rejected {
            assert_eq!(model_name(Some(name)), None, "{name}");
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
