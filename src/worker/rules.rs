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
use hedgerow::Ruleset;
use hedgerow::ruleset::release::EMBEDDED;
use hedgerow::ruleset::{MAX_BYTES, Release, digest, short};
use hedgerow::trust::Keys;
use serde::Serialize;
use worker::{Context, Delay};

use crate::clock::{in_time, millis, seconds};
use crate::error::caught;
use crate::log::RulesEvent;
use crate::outbox;
use crate::settings::Settings;
use crate::store::{Store, Stored};

/// What build.rs made of `rules/`.
static BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bundle.json"));

/// The rules by which requests are decided.
#[derive(Clone)]
pub struct InForce {
    /// The release, unless the embedded rules serve for want of one.
    release: Option<Rc<Release>>,
    active: Rc<Ruleset>,
    canary: Option<Rc<Ruleset>>,
    shadow: Option<Rc<Ruleset>>,
}

/// Why a ruleset decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// There is no release.
    Embedded,
    /// It is the release's.
    Active,
    /// It is the release's for this account.
    Canary,
}

impl Role {
    /// The name in logs and counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Active => "active",
            Self::Canary => "canary",
        }
    }
}

impl InForce {
    /// The ruleset for everybody but some.
    pub fn active(&self) -> &Rc<Ruleset> {
        &self.active
    }

    /// The ruleset for an account.
    pub fn choose(&self, account: Option<&str>) -> (&Rc<Ruleset>, Role) {
        match (&self.release, &self.canary) {
            (None, _) => (&self.active, Role::Embedded),
            (Some(release), Some(canary)) if release.in_canary(account) => (canary, Role::Canary),
            (Some(_), _) => (&self.active, Role::Active),
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
struct State {
    embedded: Option<Rc<Ruleset>>,
    released: Option<InForce>,
    /// The manifest in force, as it was read.
    manifest: Vec<u8>,
    /// The highest serial that was believed.
    seen: u64,
    /// Whether a request has been served.
    begun: bool,
    /// When KV may be read again, and until when somebody is reading; milliseconds since the epoch.
    due: f64,
    busy: f64,
    /// How many times in a row KV could not be read.
    unread: u32,
    /// What is wrong with what was read last, so that it is told once.
    problem: Option<String>,
    /// The manifest that was refused.
    refused: Option<Refused>,
    expiry_told: bool,
    /// Whether it was looked for a release at all.
    looked: bool,
}

/// A manifest that was refused: it is not looked at again too soon.
struct Refused {
    manifest: Stored,
    due: f64,
    failures: u32,
}

/// What is wrong.
enum Trouble {
    /// With KV: nothing was read.
    Unread(String),
    /// With the manifest.
    Refused(Stored, String),
    /// With a manifest whose bundles may yet come: KV brings keys in any order.
    Early(Stored, String),
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// The rules in force; what is wrong with the embedded ones where they do not load. A failure is not
/// kept: the next request tries again.
pub fn in_force() -> Result<InForce, String> {
    if let Some(released) = STATE.with_borrow(|state| state.released.clone()) {
        let release = released.release.as_ref();
        if !release.is_some_and(|release| release.is_expired(seconds())) {
            return Ok(released);
        }
        if !STATE.with_borrow_mut(|state| std::mem::replace(&mut state.expiry_told, true)) {
            let serial = released.serial();
            let error = Some("the release has expired: the embedded rules serve");
            RulesEvent { event: "expired", serial, ruleset: None, error }.write();
            outbox::error("rules: the release in force has expired");
        }
    }
    Ok(InForce { release: None, active: embedded()?, canary: None, shadow: None })
}

/// The embedded ruleset. It is compiled while nothing is borrowed: an invocation that the platform ends
/// in the middle would keep it so.
pub fn embedded() -> Result<Rc<Ruleset>, String> {
    if let Some(ruleset) = STATE.with_borrow(|state| state.embedded.clone()) {
        return Ok(ruleset);
    }
    let loaded = caught(|| Ruleset::load(BUNDLE)).ok_or("it panicked")?;
    let ruleset = Rc::new(loaded.map_err(|error| error.problem().to_owned())?);
    STATE.with_borrow_mut(|state| state.embedded = Some(Rc::clone(&ruleset)));
    Ok(ruleset)
}

/// The embedded bundle.
pub fn embedded_bundle() -> &'static [u8] {
    BUNDLE
}

/// Whether there is anything that indicators could weigh for.
pub fn correlate() -> bool {
    let rulesets = |rules: InForce| {
        let plans = [Some(&rules.active), rules.canary.as_ref(), rules.shadow.as_ref()];
        plans.into_iter().flatten().any(|ruleset| !ruleset.plan().is_empty())
    };
    in_force().is_ok_and(rulesets)
}

/// What is wrong with what was read last.
pub fn refused() -> Option<String> {
    STATE.with_borrow(|state| state.problem.clone())
}

/// Looks for a newer release if it is time to, after this request is answered. The first request of
/// an isolate waits for it, for a moment.
pub async fn refresh(settings: &Rc<Settings>, context: &Context) {
    let Some(is_first) = claim(settings) else { return };
    let (done, waiting) = oneshot::channel();
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        let unchecked = look(&settings).await;
        let _: Result<(), ()> = done.send(());
        if let Some((in_force, manifest)) = unchecked {
            recheck(in_force, manifest, &settings).await;
        }
    });
    if is_first {
        in_time(waiting, FIRST).await;
    }
}

/// The same for an object of ours, which can wait: it is to count by the release from its first batch on.
pub async fn renew(settings: &Settings) {
    if claim(settings).is_some() {
        if let Some((in_force, manifest)) = look(settings).await {
            recheck(in_force, manifest, settings).await;
        }
        return;
    }
    let patience = millis() + PATIENCE.as_millis() as f64;
    let is_beginning = |state: &State| !state.looked && millis() < state.busy;
    while STATE.with_borrow(is_beginning) && millis() < patience {
        Delay::from(POLL).await;
    }
}

/// Whether it was looked for a release, and whatever there was taken.
pub fn has_looked() -> bool {
    STATE.with_borrow(|state| state.looked)
}

/// Takes it on to look for a newer release, if it is time to and nobody does; whether it is the first time.
fn claim(settings: &Settings) -> Option<bool> {
    let now = millis();
    STATE.with_borrow_mut(|state| {
        if now < state.due || now < state.busy {
            return None;
        }
        if !settings.has_keys() {
            state.due = now + settings.refresh().as_millis() as f64;
            return None;
        }
        state.busy = now + LEASE.as_millis() as f64;
        Some(!std::mem::replace(&mut state.begun, true))
    })
}

/// Looks for a newer release. What is to be checked yet is handed back.
async fn look(settings: &Settings) -> Option<(InForce, Stored)> {
    let outcome = read(settings).await;
    settle(outcome, settings)
}

/// How often it is looked whether somebody else is done.
const POLL: Duration = Duration::from_millis(20);

/// For how long the first request of an isolate waits.
pub const FIRST: Duration = Duration::from_millis(50);

/// For how long nobody else reads, should a reader never come back.
const LEASE: Duration = Duration::from_secs(30);

/// For how long KV may take over one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause before a manifest that was refused is looked at again, one whose bundles are not
/// there yet, and a KV that cannot be read; milliseconds.
const MAX_PAUSE: f64 = 300_000.0;
const EARLY_PAUSE: f64 = 15_000.0;
const UNREAD_PAUSE: f64 = 60_000.0;

/// What KV has.
enum Found {
    /// No release, or one that was refused of late.
    Nothing,
    /// The release in force.
    Known,
    /// A newer one, and whether its regexes were checked.
    New(InForce, Stored, bool),
}

/// Reads the release.
async fn read(settings: &Settings) -> Result<Found, Trouble> {
    let unread = |error: &str| Trouble::Unread(error.to_owned());
    let store = Store::of(settings).ok_or_else(|| unread("the binding RULES is missing"))?;
    let read = in_time(store.release(), PATIENCE).await;
    let read = read.ok_or_else(|| unread("KV does not answer"))?;
    let Some(stored) = read.map_err(Trouble::Unread)? else { return Ok(Found::Nothing) };
    if STATE.with_borrow(|state| state.manifest == stored.bytes) {
        return Ok(Found::Known);
    }
    if STATE.with_borrow(|state| state.has_refused(&stored)) {
        return Ok(Found::Nothing);
    }
    // One that was refused before is checked first.
    let is_checked =
        STATE.with_borrow(|state| state.released.is_some() || state.is_refused(&stored));
    match take(&store, &stored, settings, is_checked).await {
        Ok(in_force) => Ok(Found::New(in_force, stored, is_checked)),
        Err(Flaw::Wrong(error)) => Err(Trouble::Refused(stored, error)),
        Err(Flaw::Missing(error)) => Err(Trouble::Early(stored, error)),
    }
}

/// What is wrong with a release: it is, or a bundle is missing.
enum Flaw {
    Wrong(String),
    Missing(String),
}

impl From<String> for Flaw {
    fn from(error: String) -> Self {
        Self::Wrong(error)
    }
}

/// Verifies a release and loads what it names.
async fn take(
    store: &Store,
    stored: &Stored,
    settings: &Settings,
    is_checked: bool,
) -> Result<InForce, Flaw> {
    let keys = settings.keys().map_err(|problem| problem.what)?;
    let release = Rc::new(verify_release(stored, &keys, settings.min_serial())?);
    let mut loader = Loader { store, keys: &keys, bytes: 0, is_checked };
    let active = loader.load(&release.active).await?;
    let canary = match &release.canary {
        Some(canary) => Some(loader.load(&canary.digest).await?),
        None => None,
    };
    let shadow = match &release.shadow {
        Some(shadow) => Some(loader.load(&shadow.digest).await?),
        None => None,
    };
    Ok(InForce { release: Some(release), active, canary, shadow })
}

fn verify_release(stored: &Stored, keys: &Keys, least: u64) -> Result<Release, String> {
    let told = |error: hedgerow::Error| format!("release: {}", error.problem());
    keys.verify(&stored.bytes, &stored.signature).map_err(told)?;
    let release = Release::parse(&stored.bytes).map_err(told)?;
    let (seen, serial) = (STATE.with_borrow(|state| state.seen), release.serial);
    if serial < least {
        return Err(format!("release {serial} is older than {least}, which MIN_SERIAL asks for"));
    }
    if serial < seen {
        return Err(format!("release {serial} is older than {seen}, which was seen"));
    }
    if serial == seen {
        return Err(format!("another release {serial} was seen"));
    }
    if release.is_expired(seconds()) {
        return Err(format!("release {serial} has expired"));
    }
    Ok(release)
}

/// Loads the rulesets of one release.
struct Loader<'a> {
    store: &'a Store,
    keys: &'a Keys,
    /// Bytes of its bundles so far.
    bytes: usize,
    /// Whether regexes are checked. An isolate without a release takes its first one at once, and checks
    /// it afterwards.
    is_checked: bool,
}

impl Loader<'_> {
    /// A ruleset: one that is compiled already, or from KV.
    async fn load(&mut self, digest: &str) -> Result<Rc<Ruleset>, Flaw> {
        match digest == EMBEDDED {
            true => Ok(embedded()?),
            false => match STATE.with_borrow(|state| state.ruleset(digest)) {
                Some(ruleset) => {
                    self.weigh(digest, ruleset.bytes())?;
                    Ok(ruleset)
                }
                None => self.fetch(digest).await,
            },
        }
    }

    /// Counts a bundle's bytes: an isolate holds all of a release.
    fn weigh(&mut self, name: &str, bytes: usize) -> Result<(), Flaw> {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.bytes > MAX_BYTES {
            true => Err(Flaw::Wrong(format!(
                "bundle {}: the release's bundles have more than 5 MiB together",
                short(name)
            ))),
            false => Ok(()),
        }
    }

    async fn fetch(&mut self, name: &str) -> Result<Rc<Ruleset>, Flaw> {
        let short = short(name);
        let told = |error: &str| format!("bundle {short}: {error}");
        let read = in_time(self.store.bundle(name), PATIENCE).await;
        let read = read.unwrap_or_else(|| Err("KV does not answer".to_owned()));
        let stored = match read {
            Ok(Some(stored)) => stored,
            Ok(None) => return Err(Flaw::Missing(told("it is not in KV"))),
            Err(error) => return Err(Flaw::Missing(told(&error))),
        };
        if digest(&stored.bytes) != name {
            return Err(told("what is stored under its digest is something else").into());
        }
        self.weigh(name, stored.bytes.len())?;
        let verified = self.keys.verify(&stored.bytes, &stored.signature);
        verified.map_err(|error| told(error.problem()))?;
        let loaded = caught(|| Ruleset::load(&stored.bytes));
        let ruleset = loaded.ok_or_else(|| told("loading panicked"))?;
        let ruleset = ruleset.map_err(|error| told(error.problem()))?;
        drop(stored);
        if self.is_checked {
            check(&ruleset).await.map_err(|error| told(error.problem()))?;
        }
        Ok(Rc::new(ruleset))
    }
}

/// Checks what was taken unchecked, and takes it back where a regex does not compile: until then that
/// one matches nothing.
async fn recheck(in_force: InForce, manifest: Stored, settings: &Settings) {
    let rulesets = [Some(&in_force.active), in_force.canary.as_ref(), in_force.shadow.as_ref()];
    for ruleset in rulesets.into_iter().flatten() {
        let Err(error) = check(ruleset).await else { continue };
        let short = short(ruleset.digest()).to_owned();
        let pause = settings.refresh().as_millis() as f64;
        STATE.with_borrow_mut(|state| {
            if state.manifest == manifest.bytes {
                (state.released, state.seen) = (None, 0);
                state.manifest.clear();
            }
            state.refuse(manifest, pause, MAX_PAUSE);
            state.note(format!("bundle {short}: {}", error.problem()));
        });
        return;
    }
}

/// Compiles every regex, a few at a time: requests come in between.
async fn check(ruleset: &Ruleset) -> Result<(), hedgerow::Error> {
    let mut checks = ruleset.checks().fuse();
    loop {
        let some = caught(|| checks.by_ref().take(AT_ONCE).collect::<Vec<_>>());
        let panicked = || hedgerow::Error::new("compiling a regex panicked", "report this bundle");
        let some = some.ok_or_else(panicked)?;
        if some.is_empty() {
            return Ok(());
        }
        some.into_iter().collect::<Result<(), _>>()?;
        Delay::from(Duration::ZERO).await;
    }
}

/// Regexes that are compiled at once: some two milliseconds' worth.
const AT_ONCE: usize = 4;

/// Swaps in what was read, or keeps what there is. What is to be checked yet is handed back.
fn settle(outcome: Result<Found, Trouble>, settings: &Settings) -> Option<(InForce, Stored)> {
    let pause = settings.refresh().as_millis() as f64;
    STATE.with_borrow_mut(|state| {
        state.looked = true;
        state.busy = 0.0;
        state.due = millis() + pause;
        if !matches!(outcome, Err(Trouble::Unread(_))) {
            state.unread = 0;
        }
        match outcome {
            Ok(Found::Nothing) if state.refused.is_some() => {}
            Ok(Found::Nothing) => state.problem = None,
            Ok(Found::Known) => state.content(),
            Ok(Found::New(in_force, manifest, is_checked)) => {
                state.content();
                state.adopt(in_force.clone(), &manifest);
                return (!is_checked).then_some((in_force, manifest));
            }
            Err(Trouble::Unread(error)) => {
                state.due = millis() + backoff(pause, state.unread, UNREAD_PAUSE);
                state.unread = state.unread.saturating_add(1);
                state.note(error);
            }
            Err(Trouble::Refused(manifest, error)) => {
                state.refuse(manifest, pause, MAX_PAUSE);
                state.note(error);
            }
            Err(Trouble::Early(manifest, error)) => {
                state.refuse(manifest, pause, EARLY_PAUSE);
                state.note(error);
            }
        }
        None
    })
}

/// A pause that doubles with every failure, to a most.
pub fn backoff(pause: f64, failures: u32, most: f64) -> f64 {
    let factor = f64::from(2_u32.saturating_pow(failures.min(16)));
    (pause.max(1_000.0) * factor).min(most.max(pause))
}

impl State {
    /// Whether a manifest is the one that was refused last.
    fn is_refused(&self, manifest: &Stored) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.manifest == *manifest)
    }

    /// Whether it is not to be looked at again yet.
    fn has_refused(&self, manifest: &Stored) -> bool {
        self.is_refused(manifest) && self.refused.as_ref().is_some_and(|it| millis() < it.due)
    }

    /// Nothing is wrong any more.
    fn content(&mut self) {
        self.problem = None;
        self.refused = None;
    }

    /// A released ruleset that is compiled already.
    fn ruleset(&self, digest: &str) -> Option<Rc<Ruleset>> {
        let released = self.released.as_ref()?;
        let rulesets = [Some(&released.active), released.canary.as_ref(), released.shadow.as_ref()];
        rulesets.into_iter().flatten().find(|ruleset| ruleset.digest() == digest).cloned()
    }

    /// Looks at a manifest again after a while, which grows with each time.
    fn refuse(&mut self, manifest: Stored, pause: f64, most: f64) {
        let before = self.refused.take().filter(|refused| refused.manifest == manifest);
        let failures = before.map_or(0, |refused| refused.failures.saturating_add(1));
        let due = millis() + backoff(pause, failures, most);
        self.refused = Some(Refused { manifest, due, failures });
    }

    /// Tells what is wrong, once.
    fn note(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            let serial = self.released.as_ref().and_then(InForce::serial);
            let error = Some(problem.as_str());
            RulesEvent { event: "refused", serial, ruleset: None, error }.write();
            outbox::error(&format!("rules: {problem}"));
        }
        self.problem = Some(problem);
    }

    fn adopt(&mut self, in_force: InForce, manifest: &Stored) {
        let serial = in_force.serial();
        // Who reads slowly may come after somebody who has read a later one.
        if serial <= Some(self.seen) {
            return;
        }
        self.seen = serial.unwrap_or(self.seen);
        let ruleset = Some(in_force.active.digest());
        RulesEvent { event: "adopted", serial, ruleset, error: None }.write();
        self.manifest.clone_from(&manifest.bytes);
        self.expiry_told = false;
        self.released = Some(in_force);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers rebuilt their matchers with every request, at milliseconds each (arcjet-js#6063).
    #[test]
    fn the_ruleset_is_compiled_once() {
        let (first, second) = (embedded(), embedded());
        assert!(matches!((first, second), (Ok(first), Ok(second)) if Rc::ptr_eq(&first, &second)));
    }
}
