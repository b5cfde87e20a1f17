//! The stop that the registry has published in KV. It lowers the mode of the requests that it is
//! for.
//!
//! The isolate reads it together with the release, so that a stop arrives as fast as a release. The
//! value carries a MAC, whose key is derived from ACCOUNT_SECRET. A value with a wrong MAC is
//! rejected and logged once; the last valid stop stays in force.

use std::cell::RefCell;

use hedgerow_core::hash_purpose::HashPurpose;
use hedgerow_core::rules::policy::Mode;
use hedgerow_core::rules::release::Release;
use hedgerow_core::rules::stop::Stop;

use crate::isolate::kv_poll::KV_TIMEOUT;
use crate::isolate::telemetry;
use crate::platform::clock::with_timeout;
use crate::platform::kv::{ConfigKv, SignedValue};
use crate::platform::settings::Settings;
use crate::platform::{hmac_sha256, log};

/// The isolate's stop.
#[derive(Default)]
struct StopState {
    /// The last valid stop, which may have ended.
    stop: Stop,
    /// The value that was last adopted.
    last: Option<SignedValue>,
    /// Error of the last read. It is kept so that the same error is logged only once.
    problem: Option<String>,
}

thread_local! {
    static STATE: RefCell<StopState> = RefCell::default();
}

/// Returns the highest mode that the stop allows for a path. `release` is the release in force;
/// `None` stands for the embedded rules.
pub fn ceiling(release: Option<&Release>, path: &str) -> Mode {
    STATE.with_borrow(|state| {
        if state.stop.is_in_force(release) { state.stop.ceiling(path) } else { Mode::Enforce }
    })
}

/// Reads the stop from KV, and adopts it if it is newer.
pub async fn refresh(settings: &Settings) {
    let outcome = read_newer(settings).await;
    let problem = STATE.with_borrow_mut(|state| state.apply(outcome));
    if let Some(problem) = problem {
        log::registry_event("stop", Some(&problem));
        telemetry::count_error(&format!("stop: {problem}"));
    }
}

/// Reads and verifies the stop. Returns `None` if KV has no stop, or the same value that was last
/// adopted.
///
/// # Errors
/// If the binding RULES or ACCOUNT_SECRET is missing, if KV cannot be read within [`KV_TIMEOUT`],
/// if the MAC is wrong, or if the value is malformed.
async fn read_newer(settings: &Settings) -> Result<Option<(SignedValue, Stop)>, String> {
    let kv = ConfigKv::from_settings(settings).ok_or("the binding RULES is missing")?;
    let response = with_timeout(kv.read_stop(), KV_TIMEOUT).await;
    let Some(signed) = response.ok_or("KV does not answer")?? else { return Ok(None) };
    if STATE.with_borrow(|state| state.last.as_ref() == Some(&signed)) {
        return Ok(None);
    }
    let secret = settings.account_secret.as_deref();
    let secret = secret.ok_or("ACCOUNT_SECRET is missing or too short")?;
    let stop = verify(&signed, secret).await?;
    Ok(Some((signed, stop)))
}

/// Verifies the MAC of a value from KV, and returns its stop. `secret` is ACCOUNT_SECRET.
///
/// # Errors
/// If the MAC is wrong, or if the value is malformed.
pub async fn verify(signed: &SignedValue, secret: &str) -> Result<Stop, String> {
    let key = hmac_sha256::derive_key(secret, HashPurpose::StopKey).unwrap_or_default();
    match hmac_sha256::verify_webcrypto(&key, &signed.bytes, &signed.signature).await {
        Ok(true) => Stop::decode(&signed.bytes).map_err(|error| error.problem().to_owned()),
        Ok(false) => Err("the value in KV was not published by this deployment's registry".into()),
        Err(_) => Err("the platform's HMAC fails".to_owned()),
    }
}

/// Encodes a stop for KV and signs it with a key derived from `secret`. Returns `None` if the MAC
/// cannot be computed.
pub fn sign(stop: &Stop, secret: &str) -> Option<SignedValue> {
    let bytes = stop.encode();
    let key = hmac_sha256::derive_key(secret, HashPurpose::StopKey)?;
    let signature = hmac_sha256::hmac_hex_of_single_purpose_key(&key, &bytes)?;
    Some(SignedValue { bytes, signature })
}

impl StopState {
    /// Adopts the stop of a read, unless a newer one is known. Returns an error if it differs from
    /// the error of the last read.
    fn apply(&mut self, outcome: Result<Option<(SignedValue, Stop)>, String>) -> Option<String> {
        match outcome {
            Ok(None) => self.problem = None,
            Ok(Some((signed, stop))) => {
                self.problem = None;
                // A data centre may answer from its cache, after another has answered with a newer
                // value. An end is newer than its stop.
                let age = |stop: &Stop| (stop.at, stop.ended_by);
                if age(&stop) >= age(&self.stop) {
                    self.stop = stop;
                    self.last = Some(signed);
                }
            }
            Err(problem) => {
                let is_new = self.problem.as_ref() != Some(&problem);
                self.problem = Some(problem.clone());
                return is_new.then_some(problem);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(at: u64, ended_by: Option<u64>) -> Result<Option<(SignedValue, Stop)>, String> {
        let stop = Stop { at, ended_by, ..Stop::default() };
        Ok(Some((sign(&stop, "secret").unwrap(), stop)))
    }

    #[test]
    fn an_older_value_does_not_replace_a_newer_one() {
        let mut state = StopState::default();
        let steps = [
            (read(5, None), (5, None)),
            (read(4, Some(9)), (5, None)),
            (read(5, Some(9)), (5, Some(9))),
            (read(5, None), (5, Some(9))),
            (Ok(None), (5, Some(9))),
            (read(6, None), (6, None)),
        ];
        for (outcome, expected) in steps {
            assert_eq!(state.apply(outcome), None);
            assert_eq!((state.stop.at, state.stop.ended_by), expected);
        }
    }

    #[test]
    fn an_error_keeps_the_stop_and_is_reported_once() {
        let mut state = StopState::default();
        state.apply(read(5, None));
        let error = || Err("KV does not answer".to_owned());
        assert!(state.apply(error()).is_some() && state.apply(error()).is_none());
        assert_eq!(state.stop.at, 5);
        state.apply(Ok(None));
        assert!(state.apply(error()).is_some());
    }

    #[test]
    fn the_mac_covers_the_stop_and_the_secret() {
        let stop = Stop { at: 5, ..Stop::default() };
        let signed = sign(&stop, "secret").unwrap();
        let other = Stop { at: 6, ..Stop::default() };
        assert_ne!(sign(&other, "secret").unwrap().signature, signed.signature);
        assert_ne!(sign(&stop, "another").unwrap().signature, signed.signature);
    }
}
