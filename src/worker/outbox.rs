//! What the isolate counted since it last reported. Requests only count; one of them, some seconds
//! after its answer, sends all counts to the ledger in one call. A report of which it is not known whether
//! it arrived is sent again: counts may be too high after an outage, never too low.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hedgerow::Decision;
use hedgerow::policy::Band;
use sha2::{Digest, Sha256};
use worker::{Context, Delay, Method, ObjectNamespace, Request, RequestInit};

use crate::clock::{in_time, millis};
use crate::intake;
use crate::log::Line;
use crate::recent::Recent;
use crate::rules::Role;
use crate::settings::Settings;
use crate::shadow::Shadowed;
use crate::tally::{Report, Tally};

#[derive(Default)]
struct Outbox {
    tally: Tally,
    recent: Recent,
    /// Until when somebody is about to report; milliseconds since the epoch.
    led: f64,
    /// When the next report may go out, after failures.
    due: f64,
    failures: u32,
    /// Which of the objects this isolate reports to.
    shard: Option<u32>,
}

thread_local! {
    static OUTBOX: RefCell<Outbox> = RefCell::default();
}

/// By which rules a request was decided, and where.
pub struct Place<'a> {
    /// The release's serial, where there is one.
    pub serial: Option<u64>,
    /// Why this ruleset decided.
    pub role: Role,
    /// The data centre.
    pub colo: &'a str,
}

/// Counts a decision, and keeps it if there is room.
pub fn decided(
    request_id: &str,
    place: &Place<'_>,
    decision: &Decision,
    model: Option<&str>,
    shadowed: Option<&Shadowed>,
) {
    OUTBOX.with_borrow_mut(|outbox| {
        outbox.recent.decided(request_id, place, decision, model);
        let tally = &mut outbox.tally;
        let serial = place.serial.unwrap_or(0).to_string();
        let (band, ruleset) = (decision.band.name(), decision.ruleset.as_str());
        let (action, mode) = (decision.action.name(), decision.mode.name());
        let role = place.role.name();
        tally.count(["request", &serial, ruleset, role, band, action, mode]);
        tally.count(["colo", place.colo]);
        tally.count(["score", STEPS.get((decision.score / 5.0) as usize).unwrap_or(&"95")]);
        for hit in &decision.hits {
            tally.count(["signature", ruleset, &hit.name]);
        }
        let Some(shadowed) = shadowed else { return };
        tally.count(["shadow", &shadowed.ruleset, band, shadowed.band.name()]);
        for name in &shadowed.only_active {
            tally.count(["shadow_signature", &shadowed.ruleset, name, "active"]);
        }
        for name in &shadowed.only_shadow {
            tally.count(["shadow_signature", &shadowed.ruleset, name, "shadow"]);
        }
    });
}

/// Counts a request of a cluster. Clients choose what they call a model: only some names that look like
/// one are told apart.
pub fn clustered(cluster: &str, band: Band, model: Option<&str>) {
    OUTBOX.with_borrow_mut(|outbox| {
        let tally = &mut outbox.tally;
        tally.count(["cluster", cluster, band.name()]);
        let model = model_name(model).unwrap_or(OTHER);
        let (mut count, mut is_known) = (0, false);
        for (key, _) in tally.below(["cluster_model", cluster]) {
            count += 1;
            is_known |= key.last().is_some_and(|known| known == model);
        }
        let model = if is_known || count < MAX_MODELS { model } else { OTHER };
        tally.count(["cluster_model", cluster, model]);
    });
}

/// Scores in steps of five, by where they begin.
const STEPS: [&str; 20] = [
    "0", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50", "55", "60", "65", "70", "75",
    "80", "85", "90", "95",
];

/// What clients call a model, where that may be kept.
pub fn model_name(model: Option<&str>) -> Option<&str> {
    model.filter(|model| is_model(model))
}

/// Keeps a request that could not be scored.
pub fn unscored(place: &Place<'_>, line: &Line<'_>, error: &str) {
    OUTBOX.with_borrow_mut(|outbox| outbox.recent.unscored(place, line, error));
}

/// Whether it looks like a model's name, and not like something that nobody may keep: an address of any
/// kind, or a credential, of which one would be sent by a client that mixes up its settings.
fn is_model(name: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@".contains(&byte);
    let has_sound_signs = (1..=MAX_MODEL).contains(&name.len()) && name.bytes().all(is_sign);
    let longest = name.split(|sign: char| !sign.is_ascii_alphanumeric()).map(str::len).max();
    let is_key = longest.is_some_and(|longest| longest >= LONG_WORD) || name.starts_with("sk-");
    // `model@20240620` is a version; all else behind that sign is an address.
    let mut behind = name.split('@').skip(1).flat_map(str::bytes);
    let is_address = behind.any(|byte| !byte.is_ascii_digit()) || name.parse::<IpAddr>().is_ok();
    has_sound_signs && !is_key && !is_address
}

/// Letters and digits in a row that no model's name has, and every credential.
const LONG_WORD: usize = 20;

/// Bytes of a model's name, and names that are told apart for a cluster between two reports.
const MAX_MODEL: usize = 48;
const MAX_MODELS: usize = 8;

/// Any other model.
const OTHER: &str = "other";

/// Counts a failure of ours.
pub fn error(what: &str) {
    OUTBOX.with_borrow_mut(|outbox| outbox.tally.count(["error", what]));
}

/// Sees to it that what was counted is reported: after this request is answered, unless another one
/// does already.
pub fn report(settings: &Rc<Settings>, context: &Context) {
    let now = millis();
    let leads = OUTBOX.with_borrow_mut(|outbox| {
        let leads = !outbox.tally.is_empty() && now >= outbox.led && now >= outbox.due;
        if leads {
            outbox.led = now + LEASE.as_millis() as f64;
        }
        leads
    });
    if !leads {
        return;
    }
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        Delay::from(settings.report()).await;
        send(&settings).await;
    });
}

async fn send(settings: &Settings) {
    let (report, shard) = OUTBOX.with_borrow_mut(|outbox| {
        let shard =
            *outbox.shard.get_or_insert_with(|| shard(&intake::request_id(), settings.shards()));
        let tally = std::mem::take(&mut outbox.tally);
        (Report { tally, decisions: outbox.recent.take() }, shard)
    });
    let sent = match settings.ledger() {
        // Nobody counts: nothing is kept for nobody.
        None => true,
        Some(ledger) => in_time(post(&ledger, shard, &report), PATIENCE).await.flatten().is_some(),
    };
    OUTBOX.with_borrow_mut(|outbox| {
        outbox.led = 0.0;
        match sent {
            true => outbox.failures = 0,
            false => {
                // Counts are kept; single decisions are not worth it.
                outbox.tally.merge(report.tally);
                let factor = f64::from(2_u32.saturating_pow(outbox.failures.min(6)));
                outbox.failures = outbox.failures.saturating_add(1);
                outbox.due = millis() + 1_000.0 * factor;
            }
        }
    });
}

/// The object that an isolate reports to: by the hash of a name that it gives itself.
fn shard(isolate: &str, shards: u32) -> u32 {
    let hash = Sha256::digest(isolate);
    let first = hash.iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    first % shards.max(1)
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
const LEASE: Duration = Duration::from_secs(60);

/// For how long the ledger may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_few_and_look_like_one() {
        for number in 0..20 {
            clustered("5b0f3a91", Band::Suspect, Some(&format!("model-{number}")));
        }
        for odd in [Some("Ignore all of it"), Some(""), None, Some(&*"x".repeat(49))] {
            clustered("5b0f3a91", Band::Suspect, odd);
        }
        let counts = OUTBOX.with_borrow(|outbox| outbox.tally.clone());
        let models: Vec<_> = counts.iter().filter(|(key, _)| key[0] == "cluster_model").collect();
        assert_eq!(models.len(), MAX_MODELS + 1);
        assert_eq!(models.iter().map(|(_, count)| count).sum::<u64>(), 24);
    }

    #[test]
    fn what_looks_like_a_credential_or_an_address_is_no_model() {
        for name in [
            "gpt-4.1-mini",
            "claude-3-5-sonnet@20240620",
            "meta-llama/Llama-3.1-8B",
            "ft:gpt-4o:org:x:a1",
            "models/demo.gemini",
        ] {
            assert_eq!(model_name(Some(name)), Some(name));
        }
        let odd = [
            "sk-live-1",
            "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
            "ana@example.com",
            "203.0.113.7",
            "2001:db8::1",
            "a b",
            "<img>",
            "0123456789abcdef0123",
        ];
        for name in odd {
            assert_eq!(model_name(Some(name)), None, "{name}");
        }
    }

    #[test]
    fn every_shard_gets_its_share() {
        let mut counts = [0; 4];
        for isolate in 0..400 {
            counts[shard(&isolate.to_string(), 4) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (60..=140).contains(count)), "{counts:?}");
        assert_eq!(shard("any", 1), 0);
    }
}
