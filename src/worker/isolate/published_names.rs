//! Reads from KV the names of accounts that the registry has published. The pause between two reads
//! is six times REFRESH_SECONDS, because names are not urgent. Reads run in the background. The
//! value carries a MAC, whose key is derived from ACCOUNT_SECRET. A value with a wrong MAC is
//! rejected and logged once; the last valid names stay in force.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::hash_purpose::HashPurpose;
use hedgerow_core::identity::mapping::Mappings;
use worker::Context;

use crate::isolate::kv_poll::{KV_TIMEOUT, KvPoll, run_in_background};
use crate::isolate::{principals, telemetry};
use crate::platform::clock::{now_ms, with_timeout};
use crate::platform::kv::{ConfigKv, SignedValue};
use crate::platform::settings::Settings;
use crate::platform::{hmac_sha256, log};

/// Pause between two reads, as a multiple of REFRESH_SECONDS.
const INTERVAL_FACTOR: u32 = 6;

/// The state of reading names.
#[derive(Default)]
struct NamesPoll {
    /// The value that was last adopted.
    last: Option<SignedValue>,
    /// Number of the value in `last`. A value with a lower number is not adopted.
    last_number: u64,
    poll: KvPoll,
    /// Error of the last poll. It is kept so that the same error is logged only once.
    problem: Option<String>,
}

/// A value that was verified.
struct VerifiedNames {
    signed: SignedValue,
    number: u64,
    mappings: Mappings,
}

thread_local! {
    static STATE: RefCell<NamesPoll> = RefCell::default();
}

/// Polls KV for newer names in the background, if a poll is due. The first request of an isolate
/// waits for the result, at most 50 ms.
pub async fn refresh(settings: &Rc<Settings>, context: &Context) {
    let can_read = settings.rules_kv().is_some() && settings.account_secret.is_some();
    let now = now_ms();
    let ticket = STATE.with_borrow_mut(|state| {
        (can_read && state.poll.is_due(now)).then(|| state.poll.start(now))
    });
    let Some(ticket) = ticket else { return };
    let settings = Rc::clone(settings);
    run_in_background(context, ticket, |done| async move {
        let outcome = read_newer(&settings).await;
        apply(outcome, settings.refresh_interval().saturating_mul(INTERVAL_FACTOR));
        let _: Result<(), ()> = done.send(());
    })
    .await;
}

/// Reads and verifies the names. Returns `None` if KV has no names, or the same value that was last
/// adopted.
///
/// # Errors
/// If the binding RULES is missing, if KV cannot be read within [`KV_TIMEOUT`], if the MAC is
/// wrong, if the value is malformed, or if its number is below `last_number`.
async fn read_newer(settings: &Settings) -> Result<Option<VerifiedNames>, String> {
    let kv = ConfigKv::from_settings(settings).ok_or("the binding RULES is missing")?;
    let secret = settings.account_secret.as_deref().unwrap_or_default();
    let response = with_timeout(kv.read_names(), KV_TIMEOUT).await;
    let Some(signed) = response.ok_or("KV does not answer")?? else { return Ok(None) };
    if STATE.with_borrow(|state| state.last.as_ref() == Some(&signed)) {
        return Ok(None);
    }
    let key = hmac_sha256::derive_key(secret, HashPurpose::NamesKey).unwrap_or_default();
    match hmac_sha256::verify_webcrypto(&key, &signed.bytes, &signed.signature).await {
        Ok(true) => {}
        Ok(false) => {
            return Err("the value in KV was not published by this deployment's registry".into());
        }
        Err(_) => return Err("the platform's HMAC fails".to_owned()),
    }
    let decoded = Mappings::decode(&signed.bytes);
    let (number, mappings) = decoded.map_err(|error| error.problem().to_owned())?;
    if number < STATE.with_borrow(|state| state.last_number) {
        return Err("the published names are older than those in force".to_owned());
    }
    Ok(Some(VerifiedNames { signed, number, mappings }))
}

/// Ends a poll: adopts new names. An error is logged and counted if it differs from the error of
/// the last poll. `interval` is the pause until the next poll, or the first pause after failures.
fn apply(outcome: Result<Option<VerifiedNames>, String>, interval: Duration) {
    let now = now_ms();
    let problem = STATE.with_borrow_mut(|state| match outcome {
        Err(problem) => {
            state.poll.finish_failed(now, interval);
            let is_new = state.problem.as_ref() != Some(&problem);
            state.problem = Some(problem.clone());
            is_new.then_some(problem)
        }
        Ok(verified) => {
            state.poll.finish(now, interval);
            state.problem = None;
            if let Some(VerifiedNames { signed, number, mappings }) = verified {
                principals::adopt(mappings);
                state.last = Some(signed);
                state.last_number = number;
            }
            None
        }
    });
    if let Some(problem) = problem {
        log::registry_event("names", Some(&problem));
        telemetry::count_error(&format!("names: {problem}"));
    }
}
