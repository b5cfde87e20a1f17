//! The isolate's rules: first the embedded rules, then the rules of the last valid release.
//!
//! A release is read from KV in the background, at most every REFRESH_SECONDS. Only the first
//! request of an isolate waits for the result, at most 50 ms. A release that cannot be verified is
//! rejected and logged once; the rules in force stay. It is tried again with exponential backoff.
//! If KV has another release, that one is tried at once.
//!
//! | file | content |
//! |---|---|
//! | `rulesets.rs` | the rulesets of a release, by role |
//! | `embedded.rs` | the rules that the Worker was built with |
//! | `load.rs` | reads a release and its bundles from KV, and verifies them |
//! | `state.rs` | the rules in force: adoption, rejection, backoff |
//! | `regexes.rs` | compiles regexes in steps |

pub mod embedded;
mod load;
mod regexes;
mod rulesets;
mod state;

use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::ruleset::short_digest;
use worker::{Context, Delay};

pub use self::rulesets::ActiveRules;
use self::state::UncheckedRelease;
use crate::isolate::kv_poll::{KV_TIMEOUT, run_in_background};
use crate::isolate::{stop, telemetry};
use crate::platform::clock::{now_ms, now_seconds};
use crate::platform::log::RulesEvent;
use crate::platform::settings::Settings;

/// Pause between two checks whether another request's poll has finished.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// Returns the rules in force: the rules of the release, or the embedded rules before the first
/// release and after the release has expired. The expiry is logged and counted as an error once.
///
/// # Errors
/// If the embedded rules do not load. The error gives the reason. It is not cached, so the next
/// request tries again.
pub fn current() -> Result<ActiveRules, String> {
    if let Some(released) = state::with(|state| state.released()) {
        if !released.is_expired(now_seconds()) {
            return Ok(released);
        }
        if state::with(|state| state.is_first_expiry()) {
            let error = Some("the release has expired: the embedded rules are in force");
            let serial = released.serial();
            RulesEvent { event: "expired", serial, ruleset: None, error }.write();
            telemetry::count_error("rules: the release in force has expired");
        }
    }
    embedded::ruleset().map(ActiveRules::embedded)
}

/// Returns whether any ruleset in force has correlations. Without correlations, indicators have no
/// effect.
pub fn has_correlations() -> bool {
    current().is_ok_and(|rules| rules.rulesets().any(|ruleset| !ruleset.plan().is_empty()))
}

/// Returns the error of the last poll; `None` if it succeeded.
pub fn last_problem() -> Option<String> {
    state::with(|state| state.problem())
}

/// Returns whether any poll has finished, successfully or not. Before that, [`current`] returns the
/// embedded rules even if KV has a release.
pub fn has_polled() -> bool {
    state::with(|state| state.poll.has_finished())
}

/// Returns the rules in force, if they are the rules that the deployment should use. Returns `None`
/// before the first poll has finished, after a failed poll without a release, and after the release
/// has expired: other rules than the embedded ones may be right then.
pub fn deployed() -> Option<ActiveRules> {
    let uses_deployed = state::with(|state| state.uses_deployed_rules(now_seconds()));
    current().ok().filter(|_| uses_deployed)
}

/// Polls KV for a newer release in the background, if a poll is due. The first request of an
/// isolate waits for the result, at most 50 ms.
pub async fn refresh(settings: &Rc<Settings>, context: &Context) {
    let Some(ticket) = state::with(|state| state.start_poll(settings)) else { return };
    let settings = Rc::clone(settings);
    run_in_background(context, ticket, |done| async move {
        let unchecked = poll(&settings).await;
        let _: Result<(), ()> = done.send(());
        check_regexes(unchecked, &settings).await;
    })
    .await;
}

/// Polls KV for a newer release, if a poll is due, and waits for the result. If another request
/// runs the first poll, waits for that poll, at most [`KV_TIMEOUT`]. A Durable Object calls this,
/// so that it uses the release from its first event on.
pub async fn refresh_blocking(settings: &Settings) {
    if state::with(|state| state.start_poll(settings)).is_some() {
        let unchecked = poll(settings).await;
        check_regexes(unchecked, settings).await;
        return;
    }
    let deadline = now_ms() + KV_TIMEOUT.as_millis() as f64;
    while state::with(|state| state.poll.is_first_running(now_ms())) && now_ms() < deadline {
        Delay::from(WAIT_STEP).await;
    }
}

/// Reads the release and the stop, and applies the outcomes. Returns the release if it is now in
/// force and its regexes are not compiled yet.
async fn poll(settings: &Settings) -> Option<UncheckedRelease> {
    // The stop is read at the same pace, because it must arrive as fast as a release.
    let (outcome, ()) = futures_util::join!(load::read_release(settings), stop::refresh(settings));
    state::with(|state| state.apply_outcome(outcome, settings.refresh_interval()))
}

/// Compiles the regexes of a release that is in force. Withdraws the release if one of the regexes
/// does not compile; until then, that regex matches nothing.
async fn check_regexes(unchecked: Option<UncheckedRelease>, settings: &Settings) {
    let Some(UncheckedRelease { rules, manifest }) = unchecked else { return };
    for ruleset in rules.rulesets() {
        if let Err(error) = regexes::compile_stepwise(ruleset).await {
            let problem = format!("bundle {}: {}", short_digest(ruleset.digest()), error.problem());
            state::with(|state| state.withdraw(manifest, problem, settings.refresh_interval()));
            return;
        }
    }
}
