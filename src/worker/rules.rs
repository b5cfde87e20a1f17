//! The isolate's rules: those it was built with, then those of the last good release.
//!
//! A release is read from KV while a request waits for nothing: after its answer, at most every
//! REFRESH_SECONDS. What does not verify is refused, told once, and tried again ever more seldom; what
//! is in force stays. Only an isolate's first request waits for a release, and not for long.
//!
//! Compiling waits for the first request, too: at start-up it would count against the platform's
//! limit for module start, and a peer's users saw that fail now and then (cloudflare/workers-sdk#11140).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use hedgerow::Ruleset;
use hedgerow::ruleset::release::EMBEDDED;
use hedgerow::ruleset::{Release, digest};
use hedgerow::trust::Keys;
use serde::Serialize;
use worker::{Context, Delay};

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
    /// When it may be read again, and until when somebody is reading; milliseconds since the epoch.
    due: f64,
    busy: f64,
    failures: u32,
    /// What was refused last, so that it is told once.
    refused: Option<String>,
    expiry_told: bool,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// The rules in force; what is wrong with the embedded ones where they do not load. A failure is not
/// kept: the next request tries again.
pub fn in_force() -> Result<InForce, String> {
    let now = js_sys::Date::now() / 1_000.0;
    STATE.with_borrow_mut(|state| {
        if let Some(released) = &state.released {
            let expired =
                released.release.as_ref().is_some_and(|release| release.is_expired(now as u64));
            if !expired {
                return Ok(released.clone());
            }
            if !std::mem::replace(&mut state.expiry_told, true) {
                let serial = released.serial();
                let error = Some("the release has expired: the embedded rules serve");
                RulesEvent { event: "expired", serial, ruleset: None, error }.write();
                outbox::error("rules: the release in force has expired");
            }
        }
        let active = state.embedded()?;
        Ok(InForce { release: None, active, canary: None, shadow: None })
    })
}

/// The embedded ruleset.
pub fn embedded() -> Result<Rc<Ruleset>, String> {
    STATE.with_borrow_mut(State::embedded)
}

/// The embedded bundle.
pub fn embedded_bundle() -> &'static [u8] {
    BUNDLE
}

/// What was refused last, if nothing was believed since.
pub fn refused() -> Option<String> {
    STATE.with_borrow(|state| state.refused.clone())
}

/// Looks for a newer release if it is time to, after this request is answered. The first request of
/// an isolate waits for it, for a moment.
pub async fn refresh(settings: &Rc<Settings>, context: &Context) {
    let now = js_sys::Date::now();
    let is_first = STATE.with_borrow_mut(|state| {
        if !settings.has_keys() || now < state.due || now < state.busy {
            return None;
        }
        state.busy = now + LEASE.as_millis() as f64;
        Some(!std::mem::replace(&mut state.begun, true))
    });
    let Some(is_first) = is_first else { return };
    let (done, waiting) = oneshot::channel();
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        let outcome = read(&settings).await;
        settle(outcome, &settings);
        let _: Result<(), ()> = done.send(());
    });
    if is_first {
        select(waiting, Delay::from(FIRST)).await;
    }
}

/// For how long the first request of an isolate waits.
const FIRST: Duration = Duration::from_millis(50);

/// For how long nobody else reads, should a reader never come back.
const LEASE: Duration = Duration::from_secs(30);

/// For how long KV may take over one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause after failures.
const MAX_PAUSE: f64 = 300_000.0;

/// Reads the release; `None` where there is nothing new.
async fn read(settings: &Settings) -> Result<Option<(InForce, Vec<u8>)>, String> {
    let store = Store::of(settings).ok_or("the binding RULES is missing")?;
    let Some(stored) = in_time(store.release()).await? else { return Ok(None) };
    let known = STATE.with_borrow(|state| state.manifest == stored.bytes);
    if known {
        return Ok(None);
    }
    let keys = settings.keys().map_err(|problem| problem.what)?;
    let release = Rc::new(verify_release(&stored, &keys, settings.min_serial())?);
    let active = ruleset(&store, &release.active, &keys).await?;
    let canary = match &release.canary {
        Some(canary) => Some(ruleset(&store, &canary.digest, &keys).await?),
        None => None,
    };
    let shadow = match &release.shadow {
        Some(shadow) => Some(ruleset(&store, &shadow.digest, &keys).await?),
        None => None,
    };
    Ok(Some((InForce { release: Some(release), active, canary, shadow }, stored.bytes)))
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
    if release.is_expired((js_sys::Date::now() / 1_000.0) as u64) {
        return Err(format!("release {serial} has expired"));
    }
    Ok(release)
}

/// A ruleset that a release names.
async fn ruleset(store: &Store, digest: &str, keys: &Keys) -> Result<Rc<Ruleset>, String> {
    match known_ruleset(digest)? {
        Some(ruleset) => Ok(ruleset),
        None => fetch_ruleset(store, digest, keys).await,
    }
}

/// A ruleset that is compiled already.
fn known_ruleset(digest: &str) -> Result<Option<Rc<Ruleset>>, String> {
    STATE.with_borrow_mut(|state| {
        if digest == EMBEDDED {
            return state.embedded().map(Some);
        }
        let released = state.released.as_ref();
        let rulesets = released.map(|released| {
            [Some(&released.active), released.canary.as_ref(), released.shadow.as_ref()]
        });
        let mut rulesets = rulesets.into_iter().flatten().flatten();
        Ok(rulesets.find(|ruleset| ruleset.digest() == digest).cloned())
    })
}

async fn fetch_ruleset(store: &Store, name: &str, keys: &Keys) -> Result<Rc<Ruleset>, String> {
    let short: String = name.chars().take(12).collect();
    let Some(stored) = in_time(store.bundle(name)).await? else {
        return Err(format!("bundle {short}: it is not in KV"));
    };
    let told = |error: hedgerow::Error| format!("bundle {short}: {}", error.problem());
    if digest(&stored.bytes) != name {
        return Err(format!("bundle {short}: what is stored under its digest is something else"));
    }
    keys.verify(&stored.bytes, &stored.signature).map_err(told)?;
    let loaded = caught(|| Ruleset::load(&stored.bytes));
    let ruleset = loaded.ok_or_else(|| format!("bundle {short}: loading panicked"))?;
    let ruleset = ruleset.map_err(told)?;
    check(&ruleset).await.map_err(told)?;
    Ok(Rc::new(ruleset))
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

/// An answer of KV's, if it comes in time.
async fn in_time<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let answer = std::pin::pin!(answer);
    match select(answer, Delay::from(PATIENCE)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => Err("KV does not answer".to_owned()),
    }
}

/// Swaps in what was read, or keeps what there is.
fn settle(outcome: Result<Option<(InForce, Vec<u8>)>, String>, settings: &Settings) {
    let now = js_sys::Date::now();
    let pause = settings.refresh().as_millis() as f64;
    STATE.with_borrow_mut(|state| {
        state.busy = 0.0;
        match outcome {
            Ok(adopted) => {
                state.failures = 0;
                state.refused = None;
                state.due = now + pause;
                if let Some((in_force, manifest)) = adopted {
                    state.adopt(in_force, manifest);
                }
            }
            Err(error) => {
                let factor = f64::from(2_u32.saturating_pow(state.failures.min(16)));
                state.failures = state.failures.saturating_add(1);
                state.due = now + (pause.max(1_000.0) * factor).min(MAX_PAUSE.max(pause));
                if state.refused.as_ref() != Some(&error) {
                    let serial = state.released.as_ref().and_then(InForce::serial);
                    let error = Some(error.as_str());
                    RulesEvent { event: "refused", serial, ruleset: None, error }.write();
                }
                outbox::error(&format!("rules: {error}"));
                state.refused = Some(error);
            }
        }
    });
}

impl State {
    fn embedded(&mut self) -> Result<Rc<Ruleset>, String> {
        if let Some(ruleset) = &self.embedded {
            return Ok(Rc::clone(ruleset));
        }
        let loaded = caught(|| Ruleset::load(BUNDLE)).ok_or("it panicked")?;
        let ruleset = Rc::new(loaded.map_err(|error| error.problem().to_owned())?);
        Ok(Rc::clone(self.embedded.insert(ruleset)))
    }

    fn adopt(&mut self, in_force: InForce, manifest: Vec<u8>) {
        self.seen = in_force.serial().unwrap_or(self.seen);
        let ruleset = Some(in_force.active.digest());
        let serial = in_force.serial();
        RulesEvent { event: "adopted", serial, ruleset, error: None }.write();
        self.manifest = manifest;
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
