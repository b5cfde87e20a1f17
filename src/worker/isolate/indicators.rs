//! The isolate's indicators: those that were published, and over them those that correlators answered
//! this isolate with and KV need not have yet.
//!
//! They are read from KV like rules: after an answer, at most every REFRESH_SECONDS. Whoever writes to
//! KV could otherwise have anybody blocked, so a value is authenticated under a key that is derived from
//! ACCOUNT_SECRET. What does not verify is refused and told once; the last good ones stay.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use hedgerow_core::correlate::indicator::{Indicator, Indicators, MAX_INDICATORS};
use worker::Context;

use crate::isolate::{active_rules, telemetry};
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::kv::{ConfigKv, SignedValue};
use crate::platform::settings::Settings;
use crate::platform::{hmac_sha256, log};

#[derive(Default)]
struct IndicatorsState {
    indicators: Rc<Indicators>,
    /// What correlators answered this isolate with, of late.
    local_indicators: Vec<LocalIndicator>,
    /// What was taken from KV last, and its number.
    last_published: Option<SignedValue>,
    last_number: u64,
    /// Whether a request has been served.
    is_started: bool,
    /// When KV may be read again, and until when somebody is reading; milliseconds since the epoch.
    next_poll_at: f64,
    polling_until: f64,
    failures: u32,
    /// What is wrong with what was read last, so that it is told once.
    problem: Option<String>,
    /// When expired ones were last looked for, in milliseconds since the epoch.
    pruned_at: f64,
}

/// An indicator of a correlator's answer.
struct LocalIndicator {
    correlation: String,
    key: u64,
    expires: u32,
    cluster: u32,
    /// When it was told, in milliseconds since the epoch.
    received_at: f64,
}

thread_local! {
    static STATE: RefCell<IndicatorsState> = RefCell::default();
}

/// The indicators in force. To be given back before anything is waited for: whoever adds one copies
/// them all as long as they are held.
pub fn current() -> Rc<Indicators> {
    STATE.with_borrow(|state| Rc::clone(&state.indicators))
}

/// Takes in what a correlator answered.
pub fn apply_answer(answer: &[u8]) {
    let Ok(received) = Indicators::decode(answer) else {
        telemetry::count_error("correlate: a correlator's answer cannot be read");
        return;
    };
    let received_at = now_ms();
    STATE.with_borrow_mut(|state| {
        state.local_indicators.retain(|local| {
            received_at - local.received_at < LOCAL_TTL_MS
                && received.find(&local.correlation, local.key).is_none()
        });
        state.prune_expired(received_at);
        for Indicator { correlation, key, expires, cluster } in received.iter() {
            let correlation = correlation.to_owned();
            let local = LocalIndicator { correlation, key, expires, cluster, received_at };
            local.overlay(Rc::make_mut(&mut state.indicators));
            state.local_indicators.push(local);
        }
    });
}

/// Looks for newer ones if it is time to, after this request is answered. The first request of an
/// isolate waits for it, for a moment.
pub async fn refresh(settings: &Rc<Settings>, context: &Context) {
    let now = now_ms();
    let is_first_poll = STATE.with_borrow_mut(|state| {
        let can_read = settings.rules_kv().is_some() && settings.account_secret.is_some();
        if now < state.next_poll_at || now < state.polling_until || !can_read {
            return None;
        }
        let is_first_poll = !std::mem::replace(&mut state.is_started, true);
        if !is_first_poll && !active_rules::has_correlations() {
            state.next_poll_at = now + settings.refresh_interval().as_millis() as f64;
            return None;
        }
        state.polling_until = now + POLL_LEASE_MS;
        Some(is_first_poll)
    });
    let Some(is_first_poll) = is_first_poll else { return };
    let (done_tx, done_rx) = oneshot::channel();
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        let outcome = read_published(&settings).await;
        apply_outcome(outcome, settings.refresh_interval().as_millis() as f64);
        let _: Result<(), ()> = done_tx.send(());
    });
    if is_first_poll {
        with_timeout(done_rx, active_rules::FIRST_REQUEST_WAIT).await;
    }
}

/// Reads what was published; `None` where there is nothing, or nothing new.
async fn read_published(
    settings: &Settings,
) -> Result<Option<(SignedValue, u64, Indicators)>, String> {
    let kv = ConfigKv::from_settings(settings).ok_or("the binding RULES is missing")?;
    let secret = settings.account_secret.as_deref().ok_or("ACCOUNT_SECRET is missing")?;
    let response = with_timeout(kv.read_indicators(), KV_TIMEOUT).await;
    let Some(signed) = response.ok_or("KV does not answer")?? else { return Ok(None) };
    if STATE.with_borrow(|state| state.last_published.as_ref() == Some(&signed)) {
        return Ok(None);
    }
    let (number, indicators) = verify(&signed, secret).await?;
    let last_number = STATE.with_borrow(|state| state.last_number);
    match number < last_number {
        true => Err("what is published is older than what was seen".to_owned()),
        false => Ok(Some((signed, number, indicators))),
    }
}

/// The form that is published: a number that only grows, and the indicators. The signature is a MAC.
pub fn sign(number: u64, indicators: &Indicators, secret: &str) -> Option<SignedValue> {
    let bytes = [number.to_le_bytes().as_slice(), &indicators.encode()].concat();
    let signature =
        hmac_sha256::hmac_hex(&hmac_sha256::derive_key(secret, KEY_PURPOSE)?, &bytes, 32)?;
    Some(SignedValue { bytes, signature })
}

async fn verify(signed: &SignedValue, secret: &str) -> Result<(u64, Indicators), String> {
    let key = hmac_sha256::derive_key(secret, KEY_PURPOSE).unwrap_or_default();
    match hmac_sha256::verify_webcrypto(&key, &signed.bytes, &signed.signature).await {
        Ok(true) => decode(&signed.bytes),
        Ok(false) => Err("they were not published by this deployment's registry".to_owned()),
        Err(_) => Err("the platform's HMAC fails".to_owned()),
    }
}

fn decode(bytes: &[u8]) -> Result<(u64, Indicators), String> {
    let (number, indicators) = bytes.split_first_chunk::<8>().ok_or("these are no indicators")?;
    let indicators = Indicators::decode(indicators).map_err(|error| error.problem().to_owned())?;
    Ok((u64::from_le_bytes(*number), indicators))
}

/// What the key of the MAC is for.
const KEY_PURPOSE: &str = "indicators.v1";

fn apply_outcome(
    outcome: Result<Option<(SignedValue, u64, Indicators)>, String>,
    interval_ms: f64,
) {
    let now = now_ms();
    let problem = STATE.with_borrow_mut(|state| {
        state.polling_until = 0.0;
        state.next_poll_at = now + interval_ms;
        match outcome {
            Err(problem) => {
                state.next_poll_at =
                    now + active_rules::backoff_ms(interval_ms, state.failures, MAX_BACKOFF_MS);
                state.failures = state.failures.saturating_add(1);
                let is_new_problem = state.problem.as_ref() != Some(&problem);
                state.problem = Some(problem.clone());
                is_new_problem.then_some(problem)
            }
            Ok(published) => {
                (state.failures, state.problem) = (0, None);
                if let Some((signed, number, indicators)) = published {
                    state.adopt(signed, number, indicators, now);
                }
                None
            }
        }
    });
    if let Some(problem) = problem {
        log::indicators_error("refused", &problem);
        telemetry::count_error(&format!("indicators: {problem}"));
    }
}

impl IndicatorsState {
    /// Forgets what has expired, where there is much and nothing newer comes from KV.
    fn prune_expired(&mut self, now: f64) {
        if self.indicators.len() < MAX_INDICATORS / 2 || now < self.pruned_at + PRUNE_INTERVAL_MS {
            return;
        }
        self.pruned_at = now;
        let is_active = |indicator: &Indicator<'_>| {
            indicator.expires == 0 || u64::from(indicator.expires) > now_seconds()
        };
        self.indicators = Rc::new(self.indicators.filtered(is_active));
    }

    fn adopt(&mut self, signed: SignedValue, number: u64, mut indicators: Indicators, now: f64) {
        self.local_indicators.retain(|local| {
            now - local.received_at < LOCAL_TTL_MS && u64::from(local.expires) > now_seconds()
        });
        self.local_indicators.iter().for_each(|local| local.overlay(&mut indicators));
        self.indicators = Rc::new(indicators);
        (self.last_published, self.last_number) = (Some(signed), number);
    }
}

impl LocalIndicator {
    /// Adds it, unless it was revoked: such a one is published as expired from the beginning.
    fn overlay(&self, indicators: &mut Indicators) {
        let Self { correlation, key, expires, cluster, .. } = self;
        let existing = indicators.find(correlation, *key);
        if existing.is_none_or(|existing| existing.expires > 0) {
            let (key, expires, cluster) = (*key, *expires, *cluster);
            indicators.add(Indicator { correlation, key, expires, cluster });
        }
    }
}

/// Milliseconds after which KV has what the registry was told; then only KV counts.
const LOCAL_TTL_MS: f64 = 180_000.0;

/// Milliseconds between two looks for expired ones.
const PRUNE_INTERVAL_MS: f64 = 60_000.0;

/// Milliseconds for which nobody else reads, should a reader never come back.
const POLL_LEASE_MS: f64 = 30_000.0;

/// For how long KV may take.
const KV_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest pause after failures, in milliseconds.
const MAX_BACKOFF_MS: f64 = 60_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn indicators(expires: u32) -> Indicators {
        let mut indicators = Indicators::default();
        indicators.add(Indicator { correlation: "cluster_one", key: 7, expires, cluster: 3 });
        indicators
    }

    #[test]
    fn signed_indicators_decode_and_their_mac_covers_every_input() {
        let signed = sign(5, &indicators(100), "secret").unwrap();
        let (number, decoded) = decode(&signed.bytes).unwrap();
        assert_eq!((number, decoded.len()), (5, 1));
        let others = [(5, 100, "another"), (6, 100, "secret"), (5, 101, "secret")];
        for (number, expires, secret) in others {
            let other = sign(number, &indicators(expires), secret).unwrap();
            assert_ne!(other.signature, signed.signature);
        }
        assert!(decode(&signed.bytes[..7]).is_err());
    }

    #[test]
    fn a_revoked_indicator_is_not_overlaid() {
        let local = LocalIndicator {
            correlation: "cluster_one".into(),
            key: 7,
            expires: 900,
            cluster: 0,
            received_at: 0.0,
        };
        let rows = [(0, 0), (100, 900)];
        for (published, expected) in rows {
            let mut published_indicators = indicators(published);
            local.overlay(&mut published_indicators);
            assert_eq!(
                published_indicators.find("cluster_one", 7).map(|indicator| indicator.expires),
                Some(expected)
            );
        }
    }
}
