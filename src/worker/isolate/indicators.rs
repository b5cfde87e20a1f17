//! The isolate's indicators: published indicators, and newer indicators that correlators sent to
//! it.
//!
//! An indicator is a key for which a correlation fired; it raises the score of later requests with
//! that key. Published indicators are read from KV in the background, at most every
//! REFRESH_SECONDS. Without authentication, anyone who can write to KV could have any account
//! blocked. So the value carries a MAC, whose key is derived from ACCOUNT_SECRET. A value with a
//! wrong MAC is rejected and logged once; the last valid indicators stay in force.
//!
//! A correlator answers a batch with new indicators, which KV may not have yet. The isolate adds
//! such a *local* indicator to the published ones for at least three minutes, and for as long as KV
//! has only a value from before the arrival of the indicator: the daily budget of KV writes may
//! delay the next value for hours. The number of local indicators is limited. Indicators of a
//! single account are dropped before those of several accounts, and older ones before newer ones.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::correlate::indicator::{Indicator, Indicators, MAX_INDICATORS};
use hedgerow_core::hash_purpose::HashPurpose;
use worker::Context;

use crate::correlator_do::firing_report::decode_answer;
use crate::isolate::kv_poll::{KV_TIMEOUT, KvPoll, PollTicket, run_in_background};
use crate::isolate::{active_rules, telemetry};
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::kv::{ConfigKv, SignedValue};
use crate::platform::settings::Settings;
use crate::platform::{hmac_sha256, log};

/// Minimum milliseconds for which an indicator from a correlator stays in force without KV. After
/// that time, it is dropped as soon as KV has a value from after its arrival.
const LOCAL_TTL_MS: f64 = 180_000.0;

/// Maximum number of indicators from correlators. If it is exceeded, indicators are dropped until
/// three quarters of the maximum are left.
const MAX_LOCAL_INDICATORS: usize = 20_000;

/// Minimum milliseconds between two removals of expired indicators.
const PRUNE_INTERVAL_MS: f64 = 60_000.0;

#[derive(Default)]
struct IndicatorsState {
    /// Indicators in force: published and local indicators.
    indicators: Rc<Indicators>,
    /// Indicators that correlators sent and KV may not have yet, oldest first; at most
    /// [`MAX_LOCAL_INDICATORS`].
    local_indicators: Vec<LocalIndicator>,
    /// The value that was last adopted from KV.
    last_published: Option<SignedValue>,
    /// Number of the value in `last_published`. A value with a lower number is not adopted.
    last_number: u64,
    /// The schedule by which the value is read from KV.
    poll: KvPoll,
    /// Error of the last poll. It is kept so that the same error is logged only once.
    problem: Option<String>,
    /// Milliseconds since the epoch of the last removal of expired indicators.
    pruned_at: f64,
}

/// An indicator that a correlator sent.
struct LocalIndicator {
    /// Name of the correlation that fired.
    correlation: String,
    /// Keyed hash of the group's values.
    key: u64,
    /// Time at which the indicator expires, in seconds since the epoch.
    expires: u32,
    /// Id of the indicator's cluster; 0 if it has none.
    cluster: u32,
    /// Whether several accounts took part.
    is_shared: bool,
    /// Time of its arrival, in milliseconds since the epoch.
    received_at: f64,
}

/// Published indicators, verified.
struct Published {
    /// The value in KV.
    signed: SignedValue,
    /// Number of the publication. It grows with each publication.
    number: u64,
    indicators: Indicators,
}

thread_local! {
    static STATE: RefCell<IndicatorsState> = RefCell::default();
}

/// Returns the indicators in force. Drop the result before an `await`: while it is shared, adding
/// an indicator copies all indicators.
pub fn current() -> Rc<Indicators> {
    STATE.with_borrow(|state| Rc::clone(&state.indicators))
}

/// Adds the indicators of a correlator's answer. A malformed answer is counted as an error. An
/// answer has no MAC, because it comes from one of the deployment's own Durable Objects.
pub fn apply_answer(answer: &[u8]) {
    let Some((shared, single)) = decode_answer(answer) else {
        telemetry::count_error("correlate: the answer of a correlator cannot be parsed");
        return;
    };
    if shared.is_empty() && single.is_empty() {
        return;
    }
    let received_at = now_ms();
    STATE.with_borrow_mut(|state| {
        let is_received = |local: &LocalIndicator| {
            let parts = [&shared, &single];
            parts.iter().any(|part| part.find(&local.correlation, local.key).is_some())
        };
        state.local_indicators.retain(|local| !is_received(local));
        state.prune_expired(received_at);
        for (part, is_shared) in [(&shared, true), (&single, false)] {
            for Indicator { correlation, key, expires, cluster } in part.iter() {
                let correlation = correlation.to_owned();
                let local =
                    LocalIndicator { correlation, key, expires, cluster, is_shared, received_at };
                local.overlay(Rc::make_mut(&mut state.indicators));
                state.local_indicators.push(local);
            }
        }
        if state.local_indicators.len() > MAX_LOCAL_INDICATORS {
            drop_weakest(&mut state.local_indicators, MAX_LOCAL_INDICATORS / 4 * 3);
            state.rebuild();
        }
    });
}

/// Drops local indicators until `max` are left. Those of a single account are dropped first, then
/// those of several accounts; the oldest first in each case. `local_indicators` is sorted by age,
/// oldest first.
fn drop_weakest(local_indicators: &mut Vec<LocalIndicator>, max: usize) {
    let mut surplus = local_indicators.len().saturating_sub(max);
    for drops_shared in [false, true] {
        local_indicators.retain(|local| {
            let is_dropped = surplus > 0 && (drops_shared || !local.is_shared);
            surplus -= usize::from(is_dropped);
            !is_dropped
        });
    }
}

/// Polls KV for newer indicators in the background, if a poll is due. The first request of an
/// isolate waits for the result, at most 50 ms.
pub async fn refresh(settings: &Rc<Settings>, context: &Context) {
    let Some(ticket) = start_poll(settings) else { return };
    let settings = Rc::clone(settings);
    run_in_background(context, ticket, |done| async move {
        let outcome = read_published(&settings).await;
        apply_outcome(outcome, settings.refresh_interval());
        let _: Result<(), ()> = done.send(());
    })
    .await;
}

/// Starts a poll; returns `None` if no poll is due, or if its result could not be used. Without
/// ACCOUNT_SECRET, the value could not be verified. Without correlations, no rule uses indicators,
/// so only the first poll starts.
fn start_poll(settings: &Settings) -> Option<PollTicket> {
    let now = now_ms();
    STATE.with_borrow_mut(|state| {
        let can_read = settings.rules_kv().is_some() && settings.account_secret.is_some();
        if !can_read || !state.poll.is_due(now) {
            return None;
        }
        if state.poll.has_started() && !active_rules::has_correlations() {
            state.poll.postpone(now, settings.refresh_interval());
            return None;
        }
        Some(state.poll.start(now))
    })
}

/// Reads and verifies the published indicators. Returns `None` if KV has no indicators, or the same
/// value that was last adopted.
///
/// # Errors
/// If the binding RULES or ACCOUNT_SECRET is missing, if KV cannot be read within [`KV_TIMEOUT`],
/// if the MAC is wrong, if the value is malformed, or if its number is below `last_number`.
async fn read_published(settings: &Settings) -> Result<Option<Published>, String> {
    let kv = ConfigKv::from_settings(settings).ok_or("the binding RULES is missing")?;
    let secret =
        settings.account_secret.as_deref().ok_or("ACCOUNT_SECRET is missing or too short")?;
    let response = with_timeout(kv.read_indicators(), KV_TIMEOUT).await;
    let Some(signed) = response.ok_or("KV does not answer")?? else { return Ok(None) };
    if STATE.with_borrow(|state| state.last_published.as_ref() == Some(&signed)) {
        return Ok(None);
    }
    let (number, indicators) = verify(&signed, secret).await?;
    if number < STATE.with_borrow(|state| state.last_number) {
        return Err("the published indicators are older than those in force".to_owned());
    }
    Ok(Some(Published { signed, number, indicators }))
}

/// Encodes and signs indicators for KV. The value has two parts: `number` as eight little-endian
/// bytes, and the packed indicators. `number` must grow with each publication. The signature is an
/// HMAC-SHA256 in hex, with a key derived from `secret`. Returns `None` if the signature cannot be
/// computed.
pub fn sign(number: u64, indicators: &Indicators, secret: &str) -> Option<SignedValue> {
    let bytes = [number.to_le_bytes().as_slice(), &indicators.encode()].concat();
    let key = hmac_sha256::derive_key(secret, HashPurpose::IndicatorsKey)?;
    let signature = hmac_sha256::hmac_hex_of_single_purpose_key(&key, &bytes)?;
    Some(SignedValue { bytes, signature })
}

/// Verifies the MAC of a value from KV, and returns the value's number and indicators.
async fn verify(signed: &SignedValue, secret: &str) -> Result<(u64, Indicators), String> {
    let key = hmac_sha256::derive_key(secret, HashPurpose::IndicatorsKey).unwrap_or_default();
    match hmac_sha256::verify_webcrypto(&key, &signed.bytes, &signed.signature).await {
        Ok(true) => decode(&signed.bytes),
        Ok(false) => {
            Err("the value in KV was not published by this deployment's registry".to_owned())
        }
        Err(_) => Err("the platform's HMAC fails".to_owned()),
    }
}

/// Splits a value from KV into its number and indicators.
fn decode(bytes: &[u8]) -> Result<(u64, Indicators), String> {
    let (number, packed) = bytes.split_first_chunk().ok_or("the value is shorter than 8 bytes")?;
    let indicators = Indicators::decode(packed).map_err(|error| error.problem().to_owned())?;
    Ok((u64::from_le_bytes(*number), indicators))
}

/// Ends a poll: adopts new indicators. An error is logged and counted if it differs from the error
/// of the last poll. `interval` is the pause until the next poll, or the first pause after
/// failures.
fn apply_outcome(outcome: Result<Option<Published>, String>, interval: Duration) {
    let now = now_ms();
    let new_problem = STATE.with_borrow_mut(|state| match outcome {
        Err(problem) => {
            state.poll.finish_failed(now, interval);
            let is_new = state.problem.as_ref() != Some(&problem);
            state.problem = Some(problem.clone());
            is_new.then_some(problem)
        }
        Ok(published) => {
            state.poll.finish(now, interval);
            state.problem = None;
            if let Some(published) = published {
                state.adopt(published, now);
            }
            None
        }
    });
    if let Some(problem) = new_problem {
        log::indicators_error("rejected", &problem);
        telemetry::count_error(&format!("indicators: {problem}"));
    }
}

impl IndicatorsState {
    /// Removes expired indicators, at most once a minute, and only if at least half of
    /// [`MAX_INDICATORS`] are in force. Without this, expired indicators would accumulate while KV
    /// has no newer value. Revoked indicators are kept.
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

    /// Puts published indicators in force, together with the local indicators.
    fn adopt(&mut self, published: Published, now: f64) {
        let Published { signed, number, mut indicators } = published;
        // A publication's number is at least its time in milliseconds: a number of at most
        // `received_at` means that the value was published before the indicator arrived.
        self.local_indicators.retain(|local| {
            let is_recent = now - local.received_at < LOCAL_TTL_MS;
            (is_recent || number as f64 <= local.received_at)
                && u64::from(local.expires) > now_seconds()
        });
        self.local_indicators.iter().for_each(|local| local.overlay(&mut indicators));
        self.indicators = Rc::new(indicators);
        self.last_published = Some(signed);
        self.last_number = number;
    }

    /// Puts the published indicators in force again, together with the remaining local indicators.
    fn rebuild(&mut self) {
        let published = self.last_published.as_ref().and_then(|signed| decode(&signed.bytes).ok());
        let mut indicators = published.map_or_else(Indicators::default, |(_, found)| found);
        self.local_indicators.iter().for_each(|local| local.overlay(&mut indicators));
        self.indicators = Rc::new(indicators);
    }
}

impl LocalIndicator {
    /// Adds the indicator to `indicators`, unless it is revoked there. `expires: 0` marks a revoked
    /// indicator.
    fn overlay(&self, indicators: &mut Indicators) {
        let Self { correlation, key, expires, cluster, .. } = self;
        let existing = indicators.find(correlation, *key);
        if existing.is_none_or(|existing| existing.expires > 0) {
            let (key, expires, cluster) = (*key, *expires, *cluster);
            indicators.add(Indicator { correlation, key, expires, cluster });
        }
    }
}

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
            is_shared: false,
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

    #[test]
    fn indicators_of_a_single_account_are_dropped_first_and_older_ones_before_newer_ones() {
        let local = |key: u64, is_shared: bool| LocalIndicator {
            correlation: "cluster_one".into(),
            key,
            expires: 900,
            cluster: 0,
            is_shared,
            received_at: key as f64,
        };
        let all = || (0..10).map(|key| local(key, key % 3 == 0)).collect::<Vec<_>>();
        let rows: [(usize, &[u64]); 4] = [
            (10, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (6, &[0, 3, 6, 7, 8, 9]),
            (3, &[3, 6, 9]),
            (0, &[]),
        ];
        for (max, expected) in rows {
            let mut indicators = all();
            drop_weakest(&mut indicators, max);
            let keys: Vec<u64> = indicators.iter().map(|local| local.key).collect();
            assert_eq!(keys, expected, "{max}");
        }
    }
}
