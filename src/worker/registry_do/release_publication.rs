//! Publishes releases to KV: first the bundles of a release, then the release.
//!
//! KV accepts one write per second and key. The alarm retries a failed publication, with
//! exponential backoff. If the platform fails to set the alarm, the maintenance retries the
//! publication. Until the publication succeeds, KV has the previous release.

use std::cell::Cell;
use std::time::Duration;

use hedgerow_core::ruleset::short_digest;
use worker::Delay;

use super::Registry;
use super::tables::StoredRelease;
use crate::admin_api::error::ApiError;
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::kv::{ConfigKv, READ_ERROR, SignedValue};
use crate::platform::lease::backoff_delay;
use crate::platform::log;

/// The actor of publications in the audit log.
const AUDIT_ACTOR: (&str, Option<&str>) = ("registry", None);

/// Milliseconds for which a publication is retried while the caller waits for the response.
const RETRY_FOR_MS: f64 = 5_000.0;

/// Milliseconds for which a publication waits for another publication to end.
const WAIT_FOR_LOCK_MS: f64 = 8_000.0;

/// Seconds after which every data centre reads a value that was written to KV.
const KV_PROPAGATION_SECONDS: u64 = 120;

/// Time after which another event may publish, if the platform ended the publishing event.
const WRITE_LEASE: Duration = Duration::from_secs(60);

/// Minimum milliseconds between two writes of a key.
const KV_WRITE_INTERVAL_MS: f64 = 1_100.0;

/// Timeout of one read or write of KV.
const KV_TIMEOUT: Duration = Duration::from_secs(4);

/// Milliseconds by which the platform may run an alarm too early.
const ALARM_JITTER_MS: f64 = 20.0;

/// Milliseconds by which an alarm may be late. After that, it counts as lost.
const MAX_ALARM_DELAY_MS: f64 = 10_000.0;

/// Pause after the first failed publication.
const MIN_BACKOFF: Duration = Duration::from_secs(2);

/// Longest pause after a failed publication.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

impl Registry {
    /// Sets `due_at`, one of the times at which the alarm has to run, to the current time plus
    /// `delay`. The object has a single alarm for all these times.
    pub(super) async fn schedule(&self, due_at: &Cell<f64>, delay: Duration) {
        due_at.set(now_ms() + delay.as_millis() as f64);
        self.set_alarm().await;
    }

    /// Clears `due_at`, one of the times at which the alarm has to run.
    async fn unschedule(&self, due_at: &Cell<f64>) {
        due_at.set(f64::INFINITY);
        self.set_alarm().await;
    }

    /// Sets the alarm to the earliest time. Errors are ignored. The maintenance, which runs every
    /// minute, publishes even without an alarm.
    async fn set_alarm(&self) {
        let next = self.next_publication();
        let storage = self.state.storage();
        let _ = if next.is_infinite() {
            storage.delete_alarm().await
        } else {
            storage.set_alarm((next - now_ms()).max(0.0) as i64).await
        };
    }

    /// Returns the earliest time of the alarm, in milliseconds since the epoch; infinite if no
    /// publication is due.
    fn next_publication(&self) -> f64 {
        let times = [
            &self.release_publish_at,
            &self.stop_publish_at,
            &self.indicators_publish_at,
            &self.names_publish_at,
        ];
        times.map(Cell::get).into_iter().fold(f64::INFINITY, f64::min)
    }

    /// Publishes the stop, the release, the indicators and the names, each only if its publication
    /// is due. A new instance of the object does not know these times, and publishes all four.
    pub(super) async fn on_alarm(&self) {
        let has_no_schedule = self.next_publication().is_infinite();
        let is_due = |due_at: &Cell<f64>| {
            let is_due = has_no_schedule || due_at.get() <= now_ms() + ALARM_JITTER_MS;
            if is_due {
                due_at.set(f64::INFINITY);
            }
            is_due
        };
        let is_release_due = is_due(&self.release_publish_at);
        let is_stop_due = is_due(&self.stop_publish_at);
        let are_indicators_due = is_due(&self.indicators_publish_at);
        let are_names_due = is_due(&self.names_publish_at);
        if is_stop_due {
            // `publish_stop` logs the problem, and sets the alarm to try again.
            let _ = self.publish_stop().await;
        }
        if is_release_due {
            let problem = self.publish_release().await.err();
            log::registry_event("publish", problem.as_deref());
        }
        if are_indicators_due {
            self.publish_indicators().await;
        }
        if are_names_due {
            self.publish_names().await;
        }
        self.set_alarm().await;
    }

    /// Publishes the newest release if KV does not have it. Returns the problem if that fails; the
    /// alarm then tries again.
    pub(super) async fn publish_release(&self) -> Result<(), String> {
        // If the object ends before the publication is done, the alarm continues it.
        self.schedule(&self.release_publish_at, WRITE_LEASE).await;
        let deadline = now_ms() + WAIT_FOR_LOCK_MS;
        while !self.publishing.borrow_mut().try_acquire(now_ms(), WRITE_LEASE) {
            if now_ms() > deadline {
                return Err("an earlier publication has not ended yet".to_owned());
            }
            Delay::from(Duration::from_millis(50)).await;
        }
        let result = self.try_publish_release().await;
        self.publishing.borrow_mut().release();
        result
    }

    /// Tries to publish the newest release for at most five seconds, until KV has it.
    async fn try_publish_release(&self) -> Result<(), String> {
        let tables = self.tables().map_err(to_message)?;
        let mut problem = String::new();
        let deadline = now_ms() + RETRY_FOR_MS;
        while now_ms() < deadline {
            // A newer release may have been stored meanwhile: publish the newest release.
            let newest = tables.newest_release().map_err(to_message)?;
            let Some(newest) = newest.filter(|newest| newest.published.is_none()) else {
                self.unschedule(&self.release_publish_at).await;
                return Ok(());
            };
            match self.write_release(&newest).await {
                Ok(()) => self.mark_published(&newest).await?,
                Err(error) => {
                    problem = error;
                    // The pause also lets the clock advance: the platform advances the clock only
                    // at I/O.
                    Delay::from(Duration::from_millis(KV_WRITE_INTERVAL_MS as u64)).await;
                }
            }
        }
        self.record_failure(&problem).await?;
        Err(problem)
    }

    /// Records that KV has a release, and deletes from KV the bundles that were deleted from the
    /// tables.
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

    /// Records why KV does not have a release, and sets the alarm for the next attempt. The pause
    /// doubles with each attempt, from 2 to 300 seconds.
    async fn record_failure(&self, problem: &str) -> Result<(), String> {
        let tables = self.tables().map_err(to_message)?;
        if tables.meta("publish.problem").as_deref() != Some(problem) {
            tables.audit(AUDIT_ACTOR, "kv", "", "", problem);
        }
        let failures = tables.meta_number("publish.attempts").unwrap_or(0);
        let attempts = failures.saturating_add(1).to_string();
        tables.set_meta("publish.attempts", Some(&attempts)).map_err(to_message)?;
        tables.set_meta("publish.problem", Some(problem)).map_err(to_message)?;
        let failures = u32::try_from(failures).unwrap_or(u32::MAX);
        let delay = backoff_delay(MIN_BACKOFF, failures, MAX_BACKOFF);
        self.schedule(&self.release_publish_at, delay).await;
        Ok(())
    }

    /// Publishes the newest release if KV does not have it and no alarm is expected to publish it.
    pub(super) async fn publish_unscheduled_release(&self) -> Result<(), ApiError> {
        let newest = self.tables()?.newest_release()?;
        let is_pending = newest.is_some_and(|newest| newest.published.is_none());
        if is_pending && !is_scheduled(&self.release_publish_at) {
            let problem = self.publish_release().await.err();
            log::registry_event("publish", problem.as_deref());
        }
        Ok(())
    }

    /// Compares KV with the newest release, and every ten minutes also with the bundles of the
    /// release, which are large. Publishes the release again if KV differs: a write that had timed
    /// out may have overwritten the release later, or another program may have written to KV. Does
    /// nothing until two minutes after the last publication.
    pub(super) async fn reconcile_kv(&self) -> Result<(), ApiError> {
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
            true => Some("KV did not have all bundles of the release"),
        };
        if let Some(problem) = problem {
            tables.audit(AUDIT_ACTOR, "kv", &newest.serial.to_string(), "", problem);
            log::registry_event("reconcile", Some(problem));
            tables.unpublish(newest.serial)?;
            let _ = self.publish_release().await;
        }
        Ok(())
    }

    /// Returns whether KV has the release. Returns true if KV cannot be read.
    async fn has_release(&self, kv: &ConfigKv, newest: &StoredRelease) -> bool {
        let read = with_timeout(kv.read_release(), KV_TIMEOUT).await;
        kv_matches(read, newest.text.as_bytes(), &newest.signature)
    }

    /// Returns whether KV has all bundles of the release that the tables have. Returns true if KV
    /// cannot be read.
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

    /// Writes the bundles of a release to KV, and then the release.
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
        // Do not replace a later release: during an await, another event may have stored one.
        let latest =
            self.tables().and_then(|tables| tables.newest_release()).map_err(to_message)?;
        if latest.is_some_and(|latest| latest.serial > newest.serial) {
            return Err("a later release was stored meanwhile".to_owned());
        }
        put_with_timeout(kv.put_release(newest.text.as_bytes(), &newest.signature)).await
    }

    /// Deletes from KV the bundles that were deleted from the tables. A bundle whose deletion fails
    /// stays in KV unused.
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

    /// Waits until KV accepts another write of `key`, and records the write.
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

/// Returns whether the alarm is expected to run for `due_at`, one of the times at which it has to
/// run. It is not expected if `due_at` has passed without an alarm, because the platform failed to
/// set the alarm. A new instance of the object does not know the alarms of earlier instances.
pub(super) fn is_scheduled(due_at: &Cell<f64>) -> bool {
    is_alarm_expected(due_at.get(), now_ms())
}

/// Returns whether an alarm that is due at `due_at` is still expected at `now`. Both are in
/// milliseconds since the epoch; an infinite `due_at` means that no alarm is due.
fn is_alarm_expected(due_at: f64, now: f64) -> bool {
    due_at.is_finite() && now <= due_at + MAX_ALARM_DELAY_MS
}

/// Returns whether bundles are compared in this minute. This is true in every tenth minute.
fn is_bundle_check_due() -> bool {
    (now_seconds() / 60).is_multiple_of(10)
}

/// The result of a read of KV; `None` after the timeout. The inner `None` means that KV has no
/// value.
type KvRead = Option<Result<Option<SignedValue>, String>>;

/// Returns whether the value in KV consists of `bytes` and `signature`. Returns true if KV could
/// not be read.
fn kv_matches(read: KvRead, bytes: &[u8], signature: &str) -> bool {
    match read {
        Some(Ok(value)) => {
            value.is_some_and(|value| value.bytes == bytes && value.signature == signature)
        }
        Some(Err(problem)) => problem == READ_ERROR,
        None => true,
    }
}

/// Awaits a write to KV, for at most [`KV_TIMEOUT`]. Returns the problem if the write fails or
/// times out.
pub(super) async fn put_with_timeout(
    write: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    with_timeout(write, KV_TIMEOUT).await.unwrap_or_else(|| Err("KV does not answer".to_owned()))
}

fn to_message(error: ApiError) -> String {
    error.message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The platform may fail to set an alarm. Then nothing was published until the next change.
    #[test]
    fn an_alarm_that_has_not_run_in_time_counts_as_lost() {
        let due_at = 60_000.0;
        // name, time of the alarm, now, whether the alarm is expected
        let rows = [
            ("no alarm", f64::INFINITY, 60_000.0, false),
            ("in the future", due_at, 0.0, true),
            ("now", due_at, due_at, true),
            ("late", due_at, due_at + MAX_ALARM_DELAY_MS, true),
            ("lost", due_at, due_at + MAX_ALARM_DELAY_MS + 1.0, false),
        ];
        for (name, due_at, now, expected) in rows {
            assert_eq!(is_alarm_expected(due_at, now), expected, "{name}");
        }
    }
}
