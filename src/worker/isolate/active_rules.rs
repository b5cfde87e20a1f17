//! The isolate's rules: those it was built with, then those of the last good release.
//!
//! A release is read from KV while a request waits for nothing: after its answer, at most every
//! REFRESH_SECONDS. What does not verify is refused, told once, and tried again ever more seldom, unless
//! it changes; what is in force stays. Only an isolate's first request waits for a release, and not for
//! long.
//!
//! Compiling waits for the first request, too: at start-up it would count against the platform's
//! limit for module start, and a peer's users saw that fail now and then (cloudflare/workers-sdk#11140).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use hedgerow_core::Ruleset;
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::{MAX_BUNDLE_BYTES, Release, digest, short_digest};
use serde::Serialize;
use worker::{Context, Delay};

use crate::isolate::telemetry;
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::kv::{ConfigKv, SignedValue};
use crate::platform::log::RulesEvent;
use crate::platform::settings::Settings;
use crate::request::response::catch_panic;

/// What build.rs made of `rules/`.
static EMBEDDED_BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bundle.json"));

/// The rules by which requests are decided.
#[derive(Clone)]
pub struct ActiveRules {
    /// The release, unless the embedded rules serve for want of one.
    release: Option<Rc<Release>>,
    active: Rc<Ruleset>,
    canary: Option<Rc<Ruleset>>,
    shadow: Option<Rc<Ruleset>>,
}

/// Why a ruleset decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RulesetRole {
    /// There is no release.
    Embedded,
    /// It is the release's.
    Active,
    /// It is the release's for this account.
    Canary,
}

impl RulesetRole {
    /// The name in logs and counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Active => "active",
            Self::Canary => "canary",
        }
    }
}

impl ActiveRules {
    /// The ruleset for everybody but some.
    pub fn active(&self) -> &Rc<Ruleset> {
        &self.active
    }

    /// The ruleset for an account.
    pub fn ruleset_for_account(&self, account: Option<&str>) -> (&Rc<Ruleset>, RulesetRole) {
        match (&self.release, &self.canary) {
            (None, _) => (&self.active, RulesetRole::Embedded),
            (Some(release), Some(canary)) if release.is_in_canary(account) => {
                (canary, RulesetRole::Canary)
            }
            (Some(_), _) => (&self.active, RulesetRole::Active),
        }
    }

    /// The ruleset that is only watched.
    pub fn shadow(&self) -> Option<&Rc<Ruleset>> {
        self.shadow.as_ref()
    }

    /// The release's serial.
    pub fn serial(&self) -> Option<u64> {
        self.release.as_ref().map(|release| release.serial)
    }
}

#[derive(Default)]
struct RulesState {
    embedded: Option<Rc<Ruleset>>,
    released: Option<ActiveRules>,
    /// The manifest in force, as it was read.
    manifest: Vec<u8>,
    /// The highest serial that was believed.
    max_serial: u64,
    /// Whether a request has been served.
    is_started: bool,
    /// When KV may be read again, and until when somebody is reading; milliseconds since the epoch.
    next_poll_at: f64,
    polling_until: f64,
    /// How many times in a row KV could not be read.
    kv_failures: u32,
    /// What is wrong with what was read last, so that it is told once.
    problem: Option<String>,
    /// The manifest that was refused.
    backoff: Option<Backoff>,
    is_expiry_logged: bool,
    /// Whether it was looked for a release at all.
    has_polled: bool,
}

/// A manifest that was refused: it is not looked at again too soon.
struct Backoff {
    manifest: SignedValue,
    retry_at: f64,
    failures: u32,
}

/// What is wrong.
enum LoadError {
    /// With KV: nothing was read.
    KvUnavailable(String),
    /// With the manifest.
    Rejected(SignedValue, String),
    /// With a manifest whose bundles may yet come: KV brings keys in any order.
    BundleMissing(SignedValue, String),
}

thread_local! {
    static STATE: RefCell<RulesState> = RefCell::default();
}

/// The rules in force; what is wrong with the embedded ones where they do not load. A failure is not
/// kept: the next request tries again.
pub fn current() -> Result<ActiveRules, String> {
    if let Some(released) = STATE.with_borrow(|state| state.released.clone()) {
        let release = released.release.as_ref();
        if !release.is_some_and(|release| release.is_expired(now_seconds())) {
            return Ok(released);
        }
        if !STATE.with_borrow_mut(|state| std::mem::replace(&mut state.is_expiry_logged, true)) {
            let serial = released.serial();
            let error = Some("the release has expired: the embedded rules serve");
            RulesEvent { event: "expired", serial, ruleset: None, error }.write();
            telemetry::count_error("rules: the release in force has expired");
        }
    }
    Ok(ActiveRules { release: None, active: embedded_ruleset()?, canary: None, shadow: None })
}

/// The embedded ruleset. It is compiled while nothing is borrowed: an invocation that the platform ends
/// in the middle would keep it so.
pub fn embedded_ruleset() -> Result<Rc<Ruleset>, String> {
    if let Some(ruleset) = STATE.with_borrow(|state| state.embedded.clone()) {
        return Ok(ruleset);
    }
    let loaded = catch_panic(|| Ruleset::load(EMBEDDED_BUNDLE)).ok_or("it panicked")?;
    let ruleset = Rc::new(loaded.map_err(|error| error.problem().to_owned())?);
    STATE.with_borrow_mut(|state| state.embedded = Some(Rc::clone(&ruleset)));
    Ok(ruleset)
}

/// The embedded bundle.
pub fn embedded_bundle() -> &'static [u8] {
    EMBEDDED_BUNDLE
}

/// Whether there is anything that indicators could weigh for.
pub fn has_correlations() -> bool {
    let any_has_plan = |active_rules: ActiveRules| {
        let rulesets = [
            Some(&active_rules.active),
            active_rules.canary.as_ref(),
            active_rules.shadow.as_ref(),
        ];
        rulesets.into_iter().flatten().any(|ruleset| !ruleset.plan().is_empty())
    };
    current().is_ok_and(any_has_plan)
}

/// What is wrong with what was read last.
pub fn last_problem() -> Option<String> {
    STATE.with_borrow(|state| state.problem.clone())
}

/// Looks for a newer release if it is time to, after this request is answered. The first request of
/// an isolate waits for it, for a moment.
pub async fn refresh(settings: &Rc<Settings>, context: &Context) {
    let Some(is_first_poll) = try_lease(settings) else { return };
    let (done_tx, done_rx) = oneshot::channel();
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        let unverified = poll(&settings).await;
        let _: Result<(), ()> = done_tx.send(());
        if let Some((active_rules, manifest)) = unverified {
            verify_regexes(active_rules, manifest, &settings).await;
        }
    });
    if is_first_poll {
        with_timeout(done_rx, FIRST_REQUEST_WAIT).await;
    }
}

/// The same for an object of ours, which can wait: it is to count by the release from its first batch on.
pub async fn refresh_blocking(settings: &Settings) {
    if try_lease(settings).is_some() {
        if let Some((active_rules, manifest)) = poll(settings).await {
            verify_regexes(active_rules, manifest, settings).await;
        }
        return;
    }
    let deadline = now_ms() + KV_TIMEOUT.as_millis() as f64;
    let is_first_poll_running =
        |state: &RulesState| !state.has_polled && now_ms() < state.polling_until;
    while STATE.with_borrow(is_first_poll_running) && now_ms() < deadline {
        Delay::from(LEASE_POLL_INTERVAL).await;
    }
}

/// Whether it was looked for a release, and whatever there was taken.
pub fn has_polled() -> bool {
    STATE.with_borrow(|state| state.has_polled)
}

/// Takes it on to look for a newer release, if it is time to and nobody does; whether it is the first time.
fn try_lease(settings: &Settings) -> Option<bool> {
    let now = now_ms();
    STATE.with_borrow_mut(|state| {
        if now < state.next_poll_at || now < state.polling_until {
            return None;
        }
        if !settings.has_trusted_keys() {
            state.next_poll_at = now + settings.refresh_interval().as_millis() as f64;
            return None;
        }
        state.polling_until = now + POLL_LEASE.as_millis() as f64;
        Some(!std::mem::replace(&mut state.is_started, true))
    })
}

/// Looks for a newer release. What is to be checked yet is handed back.
async fn poll(settings: &Settings) -> Option<(ActiveRules, SignedValue)> {
    let outcome = read_release(settings).await;
    apply_outcome(outcome, settings)
}

/// How often it is looked whether somebody else is done.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// For how long the first request of an isolate waits.
pub const FIRST_REQUEST_WAIT: Duration = Duration::from_millis(50);

/// For how long nobody else reads, should a reader never come back.
const POLL_LEASE: Duration = Duration::from_secs(30);

/// For how long KV may take over one answer.
const KV_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest pause before a manifest that was refused is looked at again, one whose bundles are not
/// there yet, and a KV that cannot be read; milliseconds.
const MAX_BACKOFF_MS: f64 = 300_000.0;
const MAX_MISSING_BUNDLE_BACKOFF_MS: f64 = 15_000.0;
const MAX_KV_BACKOFF_MS: f64 = 60_000.0;

/// What KV has.
enum KvState {
    /// No release, or one that was refused of late.
    NoRelease,
    /// The release in force.
    Unchanged,
    /// A newer one, and whether its regexes were checked.
    New(ActiveRules, SignedValue, bool),
}

/// Reads the release.
async fn read_release(settings: &Settings) -> Result<KvState, LoadError> {
    let kv_unavailable = |error: &str| LoadError::KvUnavailable(error.to_owned());
    let kv = ConfigKv::from_settings(settings)
        .ok_or_else(|| kv_unavailable("the binding RULES is missing"))?;
    let response = with_timeout(kv.read_release(), KV_TIMEOUT).await;
    let response = response.ok_or_else(|| kv_unavailable("KV does not answer"))?;
    let Some(manifest) = response.map_err(LoadError::KvUnavailable)? else {
        return Ok(KvState::NoRelease);
    };
    if STATE.with_borrow(|state| state.manifest == manifest.bytes) {
        return Ok(KvState::Unchanged);
    }
    if STATE.with_borrow(|state| state.is_backing_off(&manifest)) {
        return Ok(KvState::NoRelease);
    }
    // One that was refused before is checked first.
    let verifies_regexes =
        STATE.with_borrow(|state| state.released.is_some() || state.is_last_rejected(&manifest));
    match load_release(&kv, &manifest, settings, verifies_regexes).await {
        Ok(active_rules) => Ok(KvState::New(active_rules, manifest, verifies_regexes)),
        Err(ReleaseError::Invalid(error)) => Err(LoadError::Rejected(manifest, error)),
        Err(ReleaseError::BundleMissing(error)) => Err(LoadError::BundleMissing(manifest, error)),
    }
}

/// What is wrong with a release: it is, or a bundle is missing.
enum ReleaseError {
    Invalid(String),
    BundleMissing(String),
}

impl From<String> for ReleaseError {
    fn from(error: String) -> Self {
        Self::Invalid(error)
    }
}

/// Verifies a release and loads what it names.
async fn load_release(
    kv: &ConfigKv,
    manifest: &SignedValue,
    settings: &Settings,
    verifies_regexes: bool,
) -> Result<ActiveRules, ReleaseError> {
    let keys = settings.trusted_keys().map_err(|problem| problem.message)?;
    let release = Rc::new(verify_release(manifest, &keys, settings.min_serial())?);
    let mut loader = Loader { kv, keys: &keys, total_bytes: 0, verifies_regexes };
    let active = loader.load(&release.active).await?;
    let canary = match &release.canary {
        Some(canary) => Some(loader.load(&canary.digest).await?),
        None => None,
    };
    let shadow = match &release.shadow {
        Some(shadow) => Some(loader.load(&shadow.digest).await?),
        None => None,
    };
    Ok(ActiveRules { release: Some(release), active, canary, shadow })
}

fn verify_release(
    manifest: &SignedValue,
    keys: &TrustedKeys,
    min_serial: u64,
) -> Result<Release, String> {
    let to_message = |error: hedgerow_core::Error| format!("release: {}", error.problem());
    keys.verify(&manifest.bytes, &manifest.signature).map_err(to_message)?;
    let release = Release::parse(&manifest.bytes).map_err(to_message)?;
    let (max_serial, serial) = (STATE.with_borrow(|state| state.max_serial), release.serial);
    if serial < min_serial {
        return Err(format!(
            "release {serial} is older than {min_serial}, which MIN_SERIAL asks for"
        ));
    }
    if serial < max_serial {
        return Err(format!("release {serial} is older than {max_serial}, which was seen"));
    }
    if serial == max_serial {
        return Err(format!("another release {serial} was seen"));
    }
    if release.is_expired(now_seconds()) {
        return Err(format!("release {serial} has expired"));
    }
    Ok(release)
}

/// Loads the rulesets of one release.
struct Loader<'a> {
    kv: &'a ConfigKv,
    keys: &'a TrustedKeys,
    /// Bytes of its bundles so far.
    total_bytes: usize,
    /// Whether regexes are checked. An isolate without a release takes its first one at once, and checks
    /// it afterwards.
    verifies_regexes: bool,
}

impl Loader<'_> {
    /// A ruleset: one that is compiled already, or from KV.
    async fn load(&mut self, digest: &str) -> Result<Rc<Ruleset>, ReleaseError> {
        match digest == EMBEDDED {
            true => Ok(embedded_ruleset()?),
            false => match STATE.with_borrow(|state| state.find_ruleset(digest)) {
                Some(ruleset) => {
                    self.add_bytes(digest, ruleset.bundle_bytes())?;
                    Ok(ruleset)
                }
                None => self.fetch(digest).await,
            },
        }
    }

    /// Counts a bundle's bytes: an isolate holds all of a release.
    fn add_bytes(&mut self, digest: &str, bytes: usize) -> Result<(), ReleaseError> {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        match self.total_bytes > MAX_BUNDLE_BYTES {
            true => Err(ReleaseError::Invalid(format!(
                "bundle {}: the release's bundles have more than 5 MiB together",
                short_digest(digest)
            ))),
            false => Ok(()),
        }
    }

    async fn fetch(&mut self, expected_digest: &str) -> Result<Rc<Ruleset>, ReleaseError> {
        let short_digest = short_digest(expected_digest);
        let to_message = |error: &str| format!("bundle {short_digest}: {error}");
        let response = with_timeout(self.kv.read_bundle(expected_digest), KV_TIMEOUT).await;
        let response = response.unwrap_or_else(|| Err("KV does not answer".to_owned()));
        let signed = match response {
            Ok(Some(signed)) => signed,
            Ok(None) => return Err(ReleaseError::BundleMissing(to_message("it is not in KV"))),
            Err(error) => return Err(ReleaseError::BundleMissing(to_message(&error))),
        };
        if digest(&signed.bytes) != expected_digest {
            return Err(to_message("what is stored under its digest is something else").into());
        }
        self.add_bytes(expected_digest, signed.bytes.len())?;
        let verified = self.keys.verify(&signed.bytes, &signed.signature);
        verified.map_err(|error| to_message(error.problem()))?;
        let loaded = catch_panic(|| Ruleset::load(&signed.bytes));
        let ruleset = loaded.ok_or_else(|| to_message("loading panicked"))?;
        let ruleset = ruleset.map_err(|error| to_message(error.problem()))?;
        drop(signed);
        if self.verifies_regexes {
            compile_stepwise(&ruleset).await.map_err(|error| to_message(error.problem()))?;
        }
        Ok(Rc::new(ruleset))
    }
}

/// Checks what was taken unchecked, and takes it back where a regex does not compile: until then that
/// one matches nothing.
async fn verify_regexes(active_rules: ActiveRules, manifest: SignedValue, settings: &Settings) {
    let rulesets =
        [Some(&active_rules.active), active_rules.canary.as_ref(), active_rules.shadow.as_ref()];
    for ruleset in rulesets.into_iter().flatten() {
        let Err(error) = compile_stepwise(ruleset).await else { continue };
        let short_digest = short_digest(ruleset.digest()).to_owned();
        let interval_ms = settings.refresh_interval().as_millis() as f64;
        STATE.with_borrow_mut(|state| {
            if state.manifest == manifest.bytes {
                (state.released, state.max_serial) = (None, 0);
                state.manifest.clear();
            }
            state.schedule_retry(manifest, interval_ms, MAX_BACKOFF_MS);
            state.report_problem(format!("bundle {short_digest}: {}", error.problem()));
        });
        return;
    }
}

/// Compiles every regex, a few at a time: requests come in between.
async fn compile_stepwise(ruleset: &Ruleset) -> Result<(), hedgerow_core::Error> {
    let mut results = ruleset.compile_regexes_stepwise().fuse();
    loop {
        let batch = catch_panic(|| results.by_ref().take(REGEXES_PER_STEP).collect::<Vec<_>>());
        let panic_error =
            || hedgerow_core::Error::new("compiling a regex panicked", "report this bundle");
        let batch = batch.ok_or_else(panic_error)?;
        if batch.is_empty() {
            return Ok(());
        }
        batch.into_iter().collect::<Result<(), _>>()?;
        Delay::from(Duration::ZERO).await;
    }
}

/// Regexes that are compiled at once: some two milliseconds' worth.
const REGEXES_PER_STEP: usize = 4;

/// Swaps in what was read, or keeps what there is. What is to be checked yet is handed back.
fn apply_outcome(
    outcome: Result<KvState, LoadError>,
    settings: &Settings,
) -> Option<(ActiveRules, SignedValue)> {
    let interval_ms = settings.refresh_interval().as_millis() as f64;
    STATE.with_borrow_mut(|state| {
        state.has_polled = true;
        state.polling_until = 0.0;
        state.next_poll_at = now_ms() + interval_ms;
        if !matches!(outcome, Err(LoadError::KvUnavailable(_))) {
            state.kv_failures = 0;
        }
        match outcome {
            Ok(KvState::NoRelease) if state.backoff.is_some() => {}
            Ok(KvState::NoRelease) => state.problem = None,
            Ok(KvState::Unchanged) => state.clear_error(),
            Ok(KvState::New(active_rules, manifest, is_verified)) => {
                state.clear_error();
                state.adopt(active_rules.clone(), &manifest);
                return (!is_verified).then_some((active_rules, manifest));
            }
            Err(LoadError::KvUnavailable(error)) => {
                state.next_poll_at =
                    now_ms() + backoff_ms(interval_ms, state.kv_failures, MAX_KV_BACKOFF_MS);
                state.kv_failures = state.kv_failures.saturating_add(1);
                state.report_problem(error);
            }
            Err(LoadError::Rejected(manifest, error)) => {
                state.schedule_retry(manifest, interval_ms, MAX_BACKOFF_MS);
                state.report_problem(error);
            }
            Err(LoadError::BundleMissing(manifest, error)) => {
                state.schedule_retry(manifest, interval_ms, MAX_MISSING_BUNDLE_BACKOFF_MS);
                state.report_problem(error);
            }
        }
        None
    })
}

/// A pause that doubles with every failure, to a most.
pub fn backoff_ms(base_ms: f64, failures: u32, max_ms: f64) -> f64 {
    let factor = f64::from(2_u32.saturating_pow(failures.min(16)));
    (base_ms.max(1_000.0) * factor).min(max_ms.max(base_ms))
}

impl RulesState {
    /// Whether a manifest is the one that was refused last.
    fn is_last_rejected(&self, manifest: &SignedValue) -> bool {
        self.backoff.as_ref().is_some_and(|backoff| backoff.manifest == *manifest)
    }

    /// Whether it is not to be looked at again yet.
    fn is_backing_off(&self, manifest: &SignedValue) -> bool {
        self.is_last_rejected(manifest)
            && self.backoff.as_ref().is_some_and(|backoff| now_ms() < backoff.retry_at)
    }

    /// Nothing is wrong any more.
    fn clear_error(&mut self) {
        self.problem = None;
        self.backoff = None;
    }

    /// A released ruleset that is compiled already.
    fn find_ruleset(&self, digest: &str) -> Option<Rc<Ruleset>> {
        let released = self.released.as_ref()?;
        let rulesets = [Some(&released.active), released.canary.as_ref(), released.shadow.as_ref()];
        rulesets.into_iter().flatten().find(|ruleset| ruleset.digest() == digest).cloned()
    }

    /// Looks at a manifest again after a while, which grows with each time.
    fn schedule_retry(&mut self, manifest: SignedValue, base_ms: f64, max_ms: f64) {
        let previous = self.backoff.take().filter(|backoff| backoff.manifest == manifest);
        let failures = previous.map_or(0, |backoff| backoff.failures.saturating_add(1));
        let retry_at = now_ms() + backoff_ms(base_ms, failures, max_ms);
        self.backoff = Some(Backoff { manifest, retry_at, failures });
    }

    /// Tells what is wrong, once.
    fn report_problem(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            let serial = self.released.as_ref().and_then(ActiveRules::serial);
            let error = Some(problem.as_str());
            RulesEvent { event: "refused", serial, ruleset: None, error }.write();
            telemetry::count_error(&format!("rules: {problem}"));
        }
        self.problem = Some(problem);
    }

    fn adopt(&mut self, active_rules: ActiveRules, manifest: &SignedValue) {
        let serial = active_rules.serial();
        // Who reads slowly may come after somebody who has read a later one.
        if serial <= Some(self.max_serial) {
            return;
        }
        self.max_serial = serial.unwrap_or(self.max_serial);
        let ruleset = Some(active_rules.active.digest());
        RulesEvent { event: "adopted", serial, ruleset, error: None }.write();
        self.manifest.clone_from(&manifest.bytes);
        self.is_expiry_logged = false;
        self.released = Some(active_rules);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers rebuilt their matchers with every request, at milliseconds each (arcjet-js#6063).
    #[test]
    fn the_ruleset_is_compiled_once() {
        let (first, second) = (embedded_ruleset(), embedded_ruleset());
        assert!(matches!((first, second), (Ok(first), Ok(second)) if Rc::ptr_eq(&first, &second)));
    }
}
