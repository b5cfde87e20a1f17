//! The state of the isolate's rules: which release is in force, which one was rejected, and when KV
//! is read again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::Ruleset;

use super::rulesets::ActiveRules;
use crate::isolate::kv_poll::{KvPoll, PollTicket};
use crate::isolate::telemetry;
use crate::platform::clock::now_ms;
use crate::platform::kv::SignedValue;
use crate::platform::lease::Backoff;
use crate::platform::log::RulesEvent;
use crate::platform::settings::Settings;

/// The longest pause before a rejected manifest is tried again.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// The longest pause before a manifest whose bundle is missing is tried again. KV propagates keys
/// in any order, so the bundle may arrive soon.
const MAX_MISSING_BUNDLE_BACKOFF: Duration = Duration::from_secs(15);

/// The result of a poll.
pub enum KvState {
    /// KV has no release, or only a release that was rejected and is not due for another attempt.
    NoRelease,
    /// KV has the release that is in force.
    Unchanged,
    /// KV has another release, and it is valid.
    New {
        rules: ActiveRules,
        manifest: SignedValue,
        /// Whether its regexes are compiled.
        is_checked: bool,
    },
}

/// The failure of a poll.
pub enum LoadError {
    /// KV cannot be read, for the given reason.
    KvUnavailable(String),
    /// The manifest or one of its bundles is invalid. Contains the manifest and the reason.
    Rejected(SignedValue, String),
    /// A bundle of the manifest is missing or cannot be read; KV may deliver it later. Contains the
    /// manifest and the reason.
    BundleMissing(SignedValue, String),
}

/// A release that was put in force before its regexes were compiled.
pub struct UncheckedRelease {
    pub rules: ActiveRules,
    pub manifest: SignedValue,
}

/// A manifest that was rejected, and the pause before it is tried again.
struct RejectedManifest {
    manifest: SignedValue,
    backoff: Backoff,
}

/// The state of the isolate's rules.
#[derive(Default)]
pub struct RulesState {
    /// The schedule by which the release is read from KV.
    pub poll: KvPoll,
    /// Rulesets of the last adopted release; `None` if none was adopted.
    released: Option<ActiveRules>,
    /// Bytes of the manifest in force.
    manifest: Vec<u8>,
    /// The highest serial that was adopted; 0 if none was, or after a release was withdrawn.
    max_serial: u64,
    /// Error of the last poll. It is kept so that the same error is logged only once.
    problem: Option<String>,
    /// The manifest that was rejected last; `None` once a poll has found a valid release.
    rejected: Option<RejectedManifest>,
    /// Whether it was logged that the release in force has expired.
    is_expiry_logged: bool,
    /// Whether the deployment trusts no key that could sign a release, so that the isolate never
    /// polls. False until the first poll is due.
    has_no_keys: bool,
}

thread_local! {
    static STATE: RefCell<RulesState> = RefCell::default();
}

/// Runs `work` on the isolate's state. `work` must not call back into this module, and must be
/// short: if the platform ended the invocation inside `work`, the state would stay borrowed for the
/// rest of the isolate's life.
pub fn with<T>(work: impl FnOnce(&mut RulesState) -> T) -> T {
    STATE.with_borrow_mut(work)
}

impl RulesState {
    /// Returns the rulesets of the last adopted release, even if it has expired; `None` if none was
    /// adopted.
    pub fn released(&self) -> Option<ActiveRules> {
        self.released.clone()
    }

    /// Returns the error of the last poll; `None` if the poll succeeded.
    pub fn problem(&self) -> Option<String> {
        self.problem.clone()
    }

    /// Returns the highest serial that was adopted; 0 if none was, or after a release was
    /// withdrawn.
    pub fn max_serial(&self) -> u64 {
        self.max_serial
    }

    /// Returns true only at the first call per adopted release. The caller then logs that the
    /// release has expired.
    pub fn is_first_expiry(&mut self) -> bool {
        !std::mem::replace(&mut self.is_expiry_logged, true)
    }

    /// Starts a poll. Returns `None` if no poll is due, if another request polls, or if the
    /// deployment trusts no key that could sign a release.
    pub fn start_poll(&mut self, settings: &Settings) -> Option<PollTicket> {
        let now = now_ms();
        if !self.poll.is_due(now) {
            return None;
        }
        if !settings.has_trusted_keys() {
            self.has_no_keys = true;
            self.poll.postpone(now, settings.refresh_interval());
            return None;
        }
        Some(self.poll.start(now))
    }

    /// Returns whether the rules in force at `now`, in seconds since the epoch, are the rules that
    /// the deployment should use. If a release was adopted, it must not have expired. Otherwise,
    /// the embedded rules are the right ones if the last poll found no release, or if the isolate
    /// never polls.
    pub fn uses_deployed_rules(&self, now: u64) -> bool {
        match &self.released {
            Some(released) => !released.is_expired(now),
            None => self.has_no_keys || (self.poll.has_finished() && self.problem.is_none()),
        }
    }

    /// Returns whether the manifest is the manifest in force.
    pub fn is_in_force(&self, manifest: &SignedValue) -> bool {
        self.manifest == manifest.bytes
    }

    /// Returns whether the manifest was rejected, and the pause before the next attempt is not
    /// over.
    pub fn is_backing_off(&self, manifest: &SignedValue) -> bool {
        self.rejection(manifest).is_some_and(|rejected| !rejected.backoff.is_due(now_ms()))
    }

    /// Returns whether the manifest's regexes must be compiled before it is put in force: if
    /// another release is in force, or if the manifest was rejected before.
    pub fn must_check_first(&self, manifest: &SignedValue) -> bool {
        self.released.is_some() || self.rejection(manifest).is_some()
    }

    fn rejection(&self, manifest: &SignedValue) -> Option<&RejectedManifest> {
        self.rejected.as_ref().filter(|rejected| rejected.manifest == *manifest)
    }

    /// Returns the compiled ruleset with a digest; `None` if the last adopted release does not have
    /// it.
    pub fn find_ruleset(&self, digest: &str) -> Option<Rc<Ruleset>> {
        let mut rulesets = self.released.iter().flat_map(ActiveRules::rulesets);
        rulesets.find(|ruleset| ruleset.digest() == digest).cloned()
    }

    /// Ends a poll: adopts a new release, or keeps the rules in force. Returns a new release if its
    /// regexes are not compiled yet. `interval` is the pause until the next poll; it doubles with
    /// each consecutive failure to read KV.
    pub fn apply_outcome(
        &mut self,
        outcome: Result<KvState, LoadError>,
        interval: Duration,
    ) -> Option<UncheckedRelease> {
        let now = now_ms();
        if matches!(outcome, Err(LoadError::KvUnavailable(_))) {
            self.poll.finish_failed(now, interval);
        } else {
            self.poll.finish(now, interval);
        }
        match outcome {
            Ok(KvState::NoRelease) if self.rejected.is_some() => {}
            Ok(KvState::NoRelease) => self.problem = None,
            Ok(KvState::Unchanged) => self.clear_error(),
            Ok(KvState::New { rules, manifest, is_checked }) => {
                self.clear_error();
                self.adopt(rules.clone(), &manifest);
                return (!is_checked).then_some(UncheckedRelease { rules, manifest });
            }
            Err(LoadError::KvUnavailable(problem)) => self.report_problem(problem),
            Err(LoadError::Rejected(manifest, problem)) => {
                self.reject(manifest, interval, MAX_BACKOFF);
                self.report_problem(problem);
            }
            Err(LoadError::BundleMissing(manifest, problem)) => {
                self.reject(manifest, interval, MAX_MISSING_BUNDLE_BACKOFF);
                self.report_problem(problem);
            }
        }
        None
    }

    /// Takes a release out of force and rejects its manifest, because a regex does not compile.
    /// Then the embedded rules are in force again, because only the first release of an isolate is
    /// adopted before its regexes are compiled.
    pub fn withdraw(&mut self, manifest: SignedValue, problem: String, interval: Duration) {
        if self.is_in_force(&manifest) {
            self.released = None;
            self.max_serial = 0;
            self.manifest.clear();
        }
        self.reject(manifest, interval, MAX_BACKOFF);
        self.report_problem(problem);
    }

    /// Forgets the error of the last poll, and the rejected manifest.
    fn clear_error(&mut self) {
        self.problem = None;
        self.rejected = None;
    }

    /// Remembers a rejected manifest. It is tried again after `interval`. While KV has the same
    /// manifest, the pause doubles with each rejection, up to `max`.
    fn reject(&mut self, manifest: SignedValue, interval: Duration, max: Duration) {
        let previous = self.rejected.take().filter(|rejected| rejected.manifest == manifest);
        let mut backoff = previous.map(|rejected| rejected.backoff).unwrap_or_default();
        backoff.record_failure(now_ms(), interval, max);
        self.rejected = Some(RejectedManifest { manifest, backoff });
    }

    /// Logs and counts a problem, unless the last poll had the same problem.
    fn report_problem(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            let serial = self.released.as_ref().and_then(ActiveRules::serial);
            let error = Some(problem.as_str());
            RulesEvent { event: "rejected", serial, ruleset: None, error }.write();
            telemetry::count_error(&format!("rules: {problem}"));
        }
        self.problem = Some(problem);
    }

    /// Puts a release in force, unless the isolate has already adopted the same or a newer one. A
    /// newer one may be in force if a slow read finishes late.
    fn adopt(&mut self, rules: ActiveRules, manifest: &SignedValue) {
        let serial = rules.serial();
        if serial <= Some(self.max_serial) {
            return;
        }
        self.max_serial = serial.unwrap_or(self.max_serial);
        let ruleset = Some(rules.active().digest());
        RulesEvent { event: "adopted", serial, ruleset, error: None }.write();
        self.manifest.clone_from(&manifest.bytes);
        self.is_expiry_logged = false;
        self.released = Some(rules);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The embedded rules counted as those of the deployment before the first poll had started.
    #[test]
    fn embedded_rules_are_deployed_only_if_no_release_can_exist_or_the_poll_found_none() {
        let mut state = RulesState::default();
        assert!(!state.uses_deployed_rules(0), "before the first poll");
        state.poll.start(0.0);
        assert!(!state.uses_deployed_rules(0), "during the first poll");
        state.poll.finish(0.0, Duration::ZERO);
        assert!(state.uses_deployed_rules(0), "no release");
        state.problem = Some("KV cannot be read".to_owned());
        assert!(!state.uses_deployed_rules(0), "a failed poll");
        let state = RulesState { has_no_keys: true, ..RulesState::default() };
        assert!(state.uses_deployed_rules(0), "without keys");
    }
}
