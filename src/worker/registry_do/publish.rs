//! From the registry to KV: bundles first, then the release that names them.
//!
//! KV takes one write a second for each key. What fails is tried again, by alarm, ever more seldom;
//! until it succeeds KV has the release before.

use std::cell::Cell;
use std::time::Duration;

use hedgerow_core::ruleset::short_digest;
use worker::Delay;

use super::Registry;
use super::tables::StoredRelease;
use crate::admin_api::ApiError;
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::kv::{ConfigKv, READ_ERROR, SignedValue};
use crate::platform::log;

/// Who publishes, in the audit log.
const AUDIT_ACTOR: (&str, Option<&str>) = ("registry", None);

/// Milliseconds for which it is tried while somebody waits for the answer.
const RETRY_FOR_MS: f64 = 5_000.0;

/// Milliseconds to wait for who publishes already.
const WAIT_FOR_LOCK_MS: f64 = 8_000.0;

/// Seconds after which KV shows everywhere what was written.
const KV_PROPAGATION_SECONDS: u64 = 120;

/// Milliseconds for which nobody else writes, should who does never come back.
const WRITE_LEASE_MS: f64 = 60_000.0;

/// Milliseconds between two writes of a key.
const KV_WRITE_INTERVAL_MS: f64 = 1_100.0;

/// For how long one write may take.
const KV_TIMEOUT: Duration = Duration::from_secs(4);

/// Milliseconds by which an alarm may be early.
const ALARM_JITTER_MS: f64 = 20.0;

/// The longest time between two attempts by alarm.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

impl Registry {
    /// Has the alarm ring for something after a while; the object has one alarm for all.
    pub(super) async fn schedule(&self, due_at: &Cell<f64>, delay: Duration) {
        due_at.set(now_ms() + delay.as_millis() as f64);
        self.set_alarm().await;
    }

    /// Has it not ring for something.
    async fn unschedule(&self, due_at: &Cell<f64>) {
        due_at.set(f64::INFINITY);
        self.set_alarm().await;
    }

    /// Sets the alarm to what is due first. That it cannot be set keeps nobody from what they do.
    async fn set_alarm(&self) {
        let next = self.release_publish_at.get().min(self.indicators_publish_at.get());
        let storage = self.state.storage();
        let _ = match next.is_infinite() {
            true => storage.delete_alarm().await,
            false => storage.set_alarm((next - now_ms()).max(0.0) as i64).await,
        };
    }

    /// Does what is due. An object that has begun anew does not know what the alarm was for.
    pub(super) async fn on_alarm(&self) {
        let has_no_schedule =
            self.release_publish_at.get().min(self.indicators_publish_at.get()).is_infinite();
        let is_due = |due_at: &Cell<f64>| {
            let is_due = has_no_schedule || due_at.get() <= now_ms() + ALARM_JITTER_MS;
            if is_due {
                due_at.set(f64::INFINITY);
            }
            is_due
        };
        let (is_release_due, are_indicators_due) =
            (is_due(&self.release_publish_at), is_due(&self.indicators_publish_at));
        if is_release_due {
            let problem = self.publish_release().await.err();
            log::registry_event("publish", problem.as_deref());
        }
        if are_indicators_due {
            self.publish_indicators().await;
        }
        self.set_alarm().await;
    }

    /// Publishes the newest release, if KV does not have it.
    pub async fn publish_release(&self) -> Result<(), String> {
        // Should this object end before it is done, the alarm goes on.
        self.schedule(&self.release_publish_at, Duration::from_millis(WRITE_LEASE_MS as u64)).await;
        let deadline = now_ms() + WAIT_FOR_LOCK_MS;
        while now_ms() < self.publishing_until.get() {
            if now_ms() > deadline {
                return Err("an earlier publication is not done yet".to_owned());
            }
            Delay::from(Duration::from_millis(50)).await;
        }
        self.publishing_until.set(now_ms() + WRITE_LEASE_MS);
        let result = self.try_publish_release().await;
        self.publishing_until.set(0.0);
        result
    }

    async fn try_publish_release(&self) -> Result<(), String> {
        let tables = self.tables().map_err(to_message)?;
        let mut problem = String::new();
        let deadline = now_ms() + RETRY_FOR_MS;
        while now_ms() < deadline {
            // A newer one may have come meanwhile: only that is worth publishing.
            let newest = tables.newest_release().map_err(to_message)?;
            let Some(newest) = newest.filter(|newest| newest.published.is_none()) else {
                self.unschedule(&self.release_publish_at).await;
                return Ok(());
            };
            match self.write_release(&newest).await {
                Ok(()) => self.mark_published(&newest).await?,
                Err(error) => {
                    problem = error;
                    // The clock stands still until something is waited for.
                    Delay::from(Duration::from_millis(KV_WRITE_INTERVAL_MS as u64)).await;
                }
            }
        }
        self.record_failure(&problem).await?;
        Err(problem)
    }

    /// Notes that KV has a release.
    async fn mark_published(&self, newest: &StoredRelease) -> Result<(), String> {
        let tables = self.tables().map_err(to_message)?;
        if tables.meta("publish.problem").is_some() {
            tables.audit(AUDIT_ACTOR, "kv", &newest.serial.to_string(), "", "ok");
        }
        tables.set_published(newest.serial).map_err(to_message)?;
        tables.set_meta("publish.problem", None).map_err(to_message)?;
        tables.set_meta("publish.attempts", None).map_err(to_message)?;
        self.delete_stale_bundles().await;
        Ok(())
    }

    /// Notes what keeps a release out of KV, and sets the alarm for the next attempt.
    async fn record_failure(&self, problem: &str) -> Result<(), String> {
        let tables = self.tables().map_err(to_message)?;
        if tables.meta("publish.problem").as_deref() != Some(problem) {
            tables.audit(AUDIT_ACTOR, "kv", "", "", problem);
        }
        let attempts = tables.meta_number("publish.attempts").unwrap_or(0).saturating_add(1);
        tables.set_meta("publish.attempts", Some(&attempts.to_string())).map_err(to_message)?;
        tables.set_meta("publish.problem", Some(problem)).map_err(to_message)?;
        let factor = 2_u32.saturating_pow(attempts.min(16) as u32);
        let backoff = Duration::from_secs(1).saturating_mul(factor).min(MAX_BACKOFF);
        self.schedule(&self.release_publish_at, backoff).await;
        Ok(())
    }

    /// Looks whether KV has the newest release, and each ten minutes its bundles, which are large; some time
    /// after they were written. Writes all of them again if not: a write that was given up may have come
    /// late, and others can write there.
    pub async fn reconcile_kv(&self) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let Some(newest) = tables.newest_release()? else { return Ok(()) };
        let is_propagated = newest
            .published
            .is_some_and(|at| at.saturating_add(KV_PROPAGATION_SECONDS) < now_seconds());
        let Some(kv) = ConfigKv::from_settings(&self.settings).filter(|_| is_propagated) else {
            return Ok(());
        };
        let problem = match self.has_release(&kv, &newest).await {
            false => Some("KV had another release"),
            true if !is_bundle_check_due() || self.has_bundles(&kv, &newest).await? => None,
            true => Some("KV had not all bundles of the release"),
        };
        if let Some(problem) = problem {
            tables.audit(AUDIT_ACTOR, "kv", &newest.serial.to_string(), "", problem);
            log::registry_event("mend", Some(problem));
            tables.unpublish(newest.serial)?;
            let _ = self.publish_release().await;
        }
        Ok(())
    }

    async fn has_release(&self, kv: &ConfigKv, newest: &StoredRelease) -> bool {
        let read = with_timeout(kv.read_release(), KV_TIMEOUT).await;
        kv_matches(read, newest.text.as_bytes(), &newest.signature)
    }

    async fn has_bundles(&self, kv: &ConfigKv, newest: &StoredRelease) -> Result<bool, ApiError> {
        let Some(manifest) = newest.manifest() else { return Ok(true) };
        for digest in manifest.digests() {
            let Some((text, signature)) = self.tables()?.bundle_text(digest)? else { continue };
            let read = with_timeout(kv.read_bundle(digest), KV_TIMEOUT).await;
            if !kv_matches(read, text.as_bytes(), &signature) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn write_release(&self, newest: &StoredRelease) -> Result<(), String> {
        let kv = ConfigKv::from_settings(&self.settings).ok_or("the binding RULES is missing")?;
        let manifest = newest.manifest().ok_or("the stored release is damaged")?;
        for digest in manifest.digests() {
            let stored = self.tables().and_then(|tables| tables.bundle_text(digest));
            let Some((text, signature)) = stored.map_err(|error| error.message)? else {
                return Err(format!("the bundle {} is gone", short_digest(digest)));
            };
            self.rate_limit(digest).await;
            put_with_timeout(kv.put_bundle(digest, text.as_bytes(), &signature)).await?;
        }
        self.rate_limit("release").await;
        // The one that was to be written may be outdated by now; then the next is.
        let latest =
            self.tables().and_then(|tables| tables.newest_release()).map_err(to_message)?;
        if latest.is_some_and(|latest| latest.serial > newest.serial) {
            return Err("a later release came meanwhile".to_owned());
        }
        put_with_timeout(kv.put_release(newest.text.as_bytes(), &newest.signature)).await
    }

    /// Takes bundles out of KV that the registry has forgotten. What fails stays there, and harms nobody.
    async fn delete_stale_bundles(&self) {
        let stale = self.tables().and_then(|tables| tables.take_stale_bundles());
        let (Ok(stale), Some(kv)) = (stale, ConfigKv::from_settings(&self.settings)) else {
            return;
        };
        for digest in stale {
            self.rate_limit(&digest).await;
            let _ = put_with_timeout(kv.delete_bundle(&digest)).await;
        }
    }

    /// Waits until a key may be written again.
    pub(super) async fn rate_limit(&self, key: &str) {
        let now = now_ms();
        let last = self.last_writes.borrow().get(key).copied().unwrap_or(0.0);
        let wait = (last + KV_WRITE_INTERVAL_MS - now).clamp(0.0, KV_WRITE_INTERVAL_MS);
        if wait > 0.0 {
            Delay::from(Duration::from_millis(wait as u64)).await;
        }
        let now = now_ms();
        let mut written = self.last_writes.borrow_mut();
        written.retain(|_, last| now - *last < KV_WRITE_INTERVAL_MS);
        written.insert(key.to_owned(), now);
    }
}

/// Whether this minute is one of those in which bundles are looked at.
fn is_bundle_check_due() -> bool {
    (now_seconds() / 60).is_multiple_of(10)
}

/// What was read of KV within a time.
type KvRead = Option<Result<Option<SignedValue>, String>>;

/// Whether what was read is this; what cannot be read may be.
fn kv_matches(read: KvRead, bytes: &[u8], signature: &str) -> bool {
    match read {
        Some(Ok(value)) => {
            value.is_some_and(|value| value.bytes == bytes && value.signature == signature)
        }
        Some(Err(problem)) => problem == READ_ERROR,
        None => true,
    }
}

pub(super) async fn put_with_timeout(
    write: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    with_timeout(write, KV_TIMEOUT).await.unwrap_or_else(|| Err("KV does not answer".to_owned()))
}

fn to_message(error: ApiError) -> String {
    error.message
}
