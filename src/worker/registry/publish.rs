//! From the registry to KV: bundles first, then the release that names them.
//!
//! KV takes one write a second for each key. What fails is tried again, by alarm, ever more seldom;
//! until it succeeds KV has the release before.

use std::cell::Cell;
use std::time::Duration;

use hedgerow::ruleset::short;
use worker::Delay;

use super::Registry;
use super::tables::StoredRelease;
use crate::api::ApiError;
use crate::clock::{in_time, millis, seconds};
use crate::log;
use crate::store::{Store, Stored, UNREADABLE};

/// Who publishes, in the audit log.
const REGISTRY: (&str, Option<&str>) = ("registry", None);

/// Milliseconds for which it is tried while somebody waits for the answer.
const PERSEVERANCE: f64 = 5_000.0;

/// Milliseconds to wait for who publishes already.
const QUEUE: f64 = 8_000.0;

/// Seconds after which KV shows everywhere what was written.
const SETTLED: u64 = 120;

/// Milliseconds for which nobody else writes, should who does never come back.
const LEASE: f64 = 60_000.0;

/// Milliseconds between two writes of a key.
const PAUSE: f64 = 1_100.0;

/// For how long one write may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Milliseconds by which an alarm may be early.
const SLACK: f64 = 20.0;

/// The longest time between two attempts by alarm.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

impl Registry {
    /// Has the alarm ring for something after a while; the object has one alarm for all.
    pub(super) async fn wake(&self, what: &Cell<f64>, pause: Duration) {
        what.set(millis() + pause.as_millis() as f64);
        self.set_alarm().await;
    }

    /// Has it not ring for something.
    async fn rest(&self, what: &Cell<f64>) {
        what.set(f64::INFINITY);
        self.set_alarm().await;
    }

    /// Sets the alarm to what is due first. That it cannot be set keeps nobody from what they do.
    async fn set_alarm(&self) {
        let next = self.publish_at.get().min(self.spread_at.get());
        let storage = self.state.storage();
        let _ = match next.is_infinite() {
            true => storage.delete_alarm().await,
            false => storage.set_alarm((next - millis()).max(0.0) as i64).await,
        };
    }

    /// Does what is due. An object that has begun anew does not know what the alarm was for.
    pub(super) async fn ring(&self) {
        let is_forgotten = self.publish_at.get().min(self.spread_at.get()).is_infinite();
        let is_due = |what: &Cell<f64>| {
            let is_due = is_forgotten || what.get() <= millis() + SLACK;
            if is_due {
                what.set(f64::INFINITY);
            }
            is_due
        };
        let (publishes, spreads) = (is_due(&self.publish_at), is_due(&self.spread_at));
        if publishes {
            let problem = self.publish().await.err();
            log::registry("publish", problem.as_deref());
        }
        if spreads {
            self.spread().await;
        }
        self.set_alarm().await;
    }

    /// Publishes the newest release, if KV does not have it.
    pub async fn publish(&self) -> Result<(), String> {
        // Should this object end before it is done, the alarm goes on.
        self.wake(&self.publish_at, Duration::from_millis(LEASE as u64)).await;
        let patience = millis() + QUEUE;
        while millis() < self.publishing.get() {
            if millis() > patience {
                return Err("an earlier publication is not done yet".to_owned());
            }
            Delay::from(Duration::from_millis(50)).await;
        }
        self.publishing.set(millis() + LEASE);
        let published = self.try_to_publish().await;
        self.publishing.set(0.0);
        published
    }

    async fn try_to_publish(&self) -> Result<(), String> {
        let tables = self.tables().map_err(told)?;
        let mut problem = String::new();
        let end = millis() + PERSEVERANCE;
        while millis() < end {
            // A newer one may have come meanwhile: only that is worth publishing.
            let newest = tables.newest_release().map_err(told)?;
            let Some(newest) = newest.filter(|newest| newest.published.is_none()) else {
                self.rest(&self.publish_at).await;
                return Ok(());
            };
            match self.write(&newest).await {
                Ok(()) => self.published(&newest).await?,
                Err(error) => {
                    problem = error;
                    // The clock stands still until something is waited for.
                    Delay::from(Duration::from_millis(PAUSE as u64)).await;
                }
            }
        }
        self.failed(&problem).await?;
        Err(problem)
    }

    /// Notes that KV has a release.
    async fn published(&self, newest: &StoredRelease) -> Result<(), String> {
        let tables = self.tables().map_err(told)?;
        if tables.meta("publish.problem").is_some() {
            tables.note(REGISTRY, "kv", &newest.serial.to_string(), "", "ok");
        }
        tables.set_published(newest.serial).map_err(told)?;
        tables.set_meta("publish.problem", None).map_err(told)?;
        tables.set_meta("publish.attempts", None).map_err(told)?;
        self.forget().await;
        Ok(())
    }

    /// Notes what keeps a release out of KV, and sets the alarm for the next attempt.
    async fn failed(&self, problem: &str) -> Result<(), String> {
        let tables = self.tables().map_err(told)?;
        if tables.meta("publish.problem").as_deref() != Some(problem) {
            tables.note(REGISTRY, "kv", "", "", problem);
        }
        let attempts = tables.meta_number("publish.attempts").unwrap_or(0).saturating_add(1);
        tables.set_meta("publish.attempts", Some(&attempts.to_string())).map_err(told)?;
        tables.set_meta("publish.problem", Some(problem)).map_err(told)?;
        let factor = 2_u32.saturating_pow(attempts.min(16) as u32);
        let backoff = Duration::from_secs(1).saturating_mul(factor).min(MAX_BACKOFF);
        self.wake(&self.publish_at, backoff).await;
        Ok(())
    }

    /// Looks whether KV has the newest release, and each ten minutes its bundles, which are large; some time
    /// after they were written. Writes all of them again if not: a write that was given up may have come
    /// late, and others can write there.
    pub async fn mend(&self) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let Some(newest) = tables.newest_release()? else { return Ok(()) };
        let is_settled = newest.published.is_some_and(|at| at.saturating_add(SETTLED) < seconds());
        let Some(store) = Store::of(&self.settings).filter(|_| is_settled) else { return Ok(()) };
        let problem = match self.has_release(&store, &newest).await {
            false => Some("KV had another release"),
            true if !is_turn_of_bundles() || self.has_bundles(&store, &newest).await? => None,
            true => Some("KV had not all bundles of the release"),
        };
        if let Some(problem) = problem {
            tables.note(REGISTRY, "kv", &newest.serial.to_string(), "", problem);
            log::registry("mend", Some(problem));
            tables.unpublish(newest.serial)?;
            let _ = self.publish().await;
        }
        Ok(())
    }

    async fn has_release(&self, store: &Store, newest: &StoredRelease) -> bool {
        let read = in_time(store.release(), PATIENCE).await;
        is_there(read, newest.text.as_bytes(), &newest.signature)
    }

    async fn has_bundles(&self, store: &Store, newest: &StoredRelease) -> Result<bool, ApiError> {
        let Some(manifest) = newest.manifest() else { return Ok(true) };
        for digest in manifest.digests() {
            let Some((text, signature)) = self.tables()?.bundle_text(digest)? else { continue };
            let read = in_time(store.bundle(digest), PATIENCE).await;
            if !is_there(read, text.as_bytes(), &signature) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn write(&self, newest: &StoredRelease) -> Result<(), String> {
        let store = Store::of(&self.settings).ok_or("the binding RULES is missing")?;
        let manifest = newest.manifest().ok_or("the stored release is damaged")?;
        for digest in manifest.digests() {
            let stored = self.tables().and_then(|tables| tables.bundle_text(digest));
            let Some((text, signature)) = stored.map_err(|error| error.message)? else {
                return Err(format!("the bundle {} is gone", short(digest)));
            };
            self.pace(digest).await;
            put(store.put_bundle(digest, text.as_bytes(), &signature)).await?;
        }
        self.pace("release").await;
        // The one that was to be written may be outdated by now; then the next is.
        let latest = self.tables().and_then(|tables| tables.newest_release()).map_err(told)?;
        if latest.is_some_and(|latest| latest.serial > newest.serial) {
            return Err("a later release came meanwhile".to_owned());
        }
        put(store.put_release(newest.text.as_bytes(), &newest.signature)).await
    }

    /// Takes bundles out of KV that the registry has forgotten. What fails stays there, and harms nobody.
    async fn forget(&self) {
        let forgotten = self.tables().and_then(|tables| tables.take_forgotten());
        let (Ok(forgotten), Some(store)) = (forgotten, Store::of(&self.settings)) else { return };
        for digest in forgotten {
            self.pace(&digest).await;
            let _ = put(store.forget_bundle(&digest)).await;
        }
    }

    /// Waits until a key may be written again.
    pub(super) async fn pace(&self, key: &str) {
        let now = millis();
        let last = self.written.borrow().get(key).copied().unwrap_or(0.0);
        let wait = (last + PAUSE - now).clamp(0.0, PAUSE);
        if wait > 0.0 {
            Delay::from(Duration::from_millis(wait as u64)).await;
        }
        let now = millis();
        let mut written = self.written.borrow_mut();
        written.retain(|_, last| now - *last < PAUSE);
        written.insert(key.to_owned(), now);
    }
}

/// Whether this minute is one of those in which bundles are looked at.
fn is_turn_of_bundles() -> bool {
    (seconds() / 60).is_multiple_of(10)
}

/// What was read of KV within a time.
type Read = Option<Result<Option<Stored>, String>>;

/// Whether what was read is this; what cannot be read may be.
fn is_there(read: Read, bytes: &[u8], signature: &str) -> bool {
    match read {
        Some(Ok(found)) => {
            found.is_some_and(|own| own.bytes == bytes && own.signature == signature)
        }
        Some(Err(problem)) => problem == UNREADABLE,
        None => true,
    }
}

pub(super) async fn put(write: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    in_time(write, PATIENCE).await.unwrap_or_else(|| Err("KV does not answer".to_owned()))
}

fn told(error: ApiError) -> String {
    error.message
}
