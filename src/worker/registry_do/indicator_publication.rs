//! The publication of indicators: the registry writes all of them to KV as one value, which
//! isolates read.
//!
//! The number of KV writes is limited. Indicators wait while a release is to be published, and the
//! pause between two publications grows so that the day's budget suffices. The isolate whose
//! observation made a correlation fire does not wait: it gets the indicator from the correlator.

use std::time::Duration;

use hedgerow_core::correlate::indicator::{FORMAT_VERSION, Indicator, Indicators};

use super::Registry;
use super::release_publication::{is_scheduled, put_with_timeout};
use super::tables::Tables;
use crate::admin_api::error::ApiError;
use crate::isolate::indicators::sign;
use crate::platform::clock::{now_ms, now_seconds};
use crate::platform::kv::ConfigKv;
use crate::platform::log;
use crate::platform::write_budget::DayWrites;

/// Pause after the first failed publication.
const MIN_BACKOFF: Duration = Duration::from_secs(2);

/// Longest pause after a failed publication.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Pause before the next attempt while a release is being written or about to be written.
const RELEASE_PAUSE: Duration = Duration::from_millis(1_100);

/// Milliseconds for which no indicators are written before the next attempt to write a release.
const RELEASE_MARGIN_MS: f64 = 5_000.0;

/// The problem that the status shows when the budget of the day is used up.
const BUDGET_SPENT: &str = "the day's KV writes for indicators are spent; the next one is \
    at 00:00 UTC, or with a revocation";

/// Name in `meta` of the number of changes of the indicators.
const META_CHANGED: &str = "indicators.changed";

/// Name in `meta` of the number of changes at the last urgent change, which is a revocation or a
/// split of a cluster.
const META_URGENT: &str = "indicators.urgent";

/// Name in `meta` of the number of changes when the indicators were last published.
const META_PUBLISHED: &str = "indicators.published";

/// Name in `meta` of the format version of the indicators that were last published.
const META_FORMAT: &str = "indicators.format";

/// Name in `meta` of the number of the last publication.
const META_NUMBER: &str = "indicators.number";

/// Name in `meta` of the reason why KV does not have the latest indicators.
const META_PROBLEM: &str = "indicators.problem";

/// Name in `meta` of the writes of the day, in the form of [`DayWrites::to_text`].
const META_WRITES: &str = "indicators.writes";

/// The state of the publication.
pub(super) struct PublicationState {
    /// Whether KV does not have the latest indicators yet.
    pub is_pending: bool,
    /// Reason why the last write failed, or why the next write has to wait.
    pub problem: Option<String>,
    /// Number of writes on this UTC day.
    pub writes_today: u64,
}

/// The changes of the indicators in the tables, and the state of the indicators in KV.
#[derive(Clone, Copy, Default)]
struct Changes {
    /// Number of changes in total.
    all: u64,
    /// Number of changes at the last urgent change; 0 if no change was urgent.
    urgent: u64,
    /// Number of changes at the last publication; `None` if nothing was published.
    published: Option<u64>,
    /// Format version of the indicators in KV; `None` if it was not stored.
    format: Option<u64>,
}

impl Changes {
    fn read(tables: &Tables) -> Self {
        Self {
            all: tables.meta_number(META_CHANGED).unwrap_or(0),
            urgent: tables.meta_number(META_URGENT).unwrap_or(0),
            published: tables.meta_number(META_PUBLISHED),
            format: tables.meta_number(META_FORMAT),
        }
    }

    /// Returns whether KV lacks a change, or has the indicators in a format that isolates do not
    /// read.
    fn is_pending(self) -> bool {
        self.all != self.published.unwrap_or(0) || self.is_unreadable()
    }

    /// Returns whether KV lacks an urgent change, for which an operator waits, or has the
    /// indicators in a format that isolates do not read.
    fn is_urgent(self) -> bool {
        self.urgent > self.published.unwrap_or(0) || self.is_unreadable()
    }

    /// Returns whether the indicators in KV were published in another format, by another version of
    /// Hedgerow.
    fn is_unreadable(self) -> bool {
        self.published.is_some() && self.format != Some(FORMAT_VERSION.into())
    }
}

impl Registry {
    /// Records a change of the indicators, and sets the alarm, which publishes them.
    pub(super) async fn mark_indicators_changed(&self) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let changes = tables.meta_number(META_CHANGED).unwrap_or(0).saturating_add(1);
        tables.set_meta(META_CHANGED, Some(&changes.to_string()))?;
        // After a failure, the alarm is already set to the end of the pause.
        if !is_scheduled(&self.indicators_publish_at) {
            self.schedule(&self.indicators_publish_at, Duration::ZERO).await;
        }
        Ok(())
    }

    /// Records a change for which an operator waits. The budget of writes does not apply to its
    /// publication, even if another publication is running now.
    pub(super) async fn mark_indicators_urgent(&self) -> Result<(), ApiError> {
        self.indicators_publish_at.set(f64::INFINITY);
        let tables = self.tables()?;
        let changes = tables.meta_number(META_CHANGED).unwrap_or(0).saturating_add(1);
        tables.set_meta(META_URGENT, Some(&changes.to_string()))?;
        self.mark_indicators_changed().await
    }

    /// Publishes the indicators if they have changed since the last publication, no release is to
    /// be published, and the budget allows it or a change is urgent. Otherwise, and after a
    /// failure, sets the alarm to try again.
    pub(super) async fn publish_indicators(&self) {
        let Ok(tables) = self.tables() else { return };
        // Read the number of changes before the write: a change during the write may not be in KV.
        let changes = Changes::read(tables);
        if !changes.is_pending() {
            return;
        }
        if let Some(delay) = self.publication_delay(tables, changes) {
            self.schedule(&self.indicators_publish_at, delay).await;
            return;
        }
        match self.publish_indicators_once().await {
            Ok(()) => {
                let _ = tables.set_meta(META_PUBLISHED, Some(&changes.all.to_string()));
                if changes.format != Some(FORMAT_VERSION.into()) {
                    let _ = tables.set_meta(META_FORMAT, Some(&FORMAT_VERSION.to_string()));
                }
                if tables.meta(META_PROBLEM).is_some() {
                    let _ = tables.set_meta(META_PROBLEM, None);
                }
                self.indicators_backoff.borrow_mut().record_success(now_ms(), Duration::ZERO);
            }
            Err(problem) => {
                if tables.meta(META_PROBLEM).as_deref() != Some(problem.as_str()) {
                    log::indicators_error("publish", &problem);
                    let _ = tables.set_meta(META_PROBLEM, Some(&problem));
                }
                let delay = self.indicators_backoff.borrow_mut().record_failure(
                    now_ms(),
                    MIN_BACKOFF,
                    MAX_BACKOFF,
                );
                self.schedule(&self.indicators_publish_at, delay).await;
            }
        }
    }

    /// Returns the time for which the publication must wait because of a release or the budget of
    /// writes. Returns `None` if it may begin.
    fn publication_delay(&self, tables: &Tables, changes: Changes) -> Option<Duration> {
        let now = now_ms();
        let is_release_due = self.publishing.borrow().is_held(now)
            || self.release_publish_at.get() <= now + RELEASE_MARGIN_MS;
        if is_release_due {
            return Some(RELEASE_PAUSE);
        }
        if changes.is_urgent() {
            return None;
        }
        let budget = self.settings.kv_writes_per_day();
        let writes = day_writes(tables).on_day_of(now as u64);
        let wait = writes.wait(budget, now as u64);
        let is_spent = writes.count >= budget;
        if is_spent && tables.meta(META_PROBLEM).as_deref() != Some(BUDGET_SPENT) {
            log::indicators_error("budget", BUDGET_SPENT);
            let _ = tables.set_meta(META_PROBLEM, Some(BUDGET_SPENT));
        }
        (!wait.is_zero()).then_some(wait)
    }

    /// Signs the indicators with a key derived from ACCOUNT_SECRET, and writes them to KV. Returns
    /// the problem if that fails.
    async fn publish_indicators_once(&self) -> Result<(), String> {
        let kv = ConfigKv::from_settings(&self.settings).ok_or("the binding RULES is missing")?;
        let secret = self
            .settings
            .account_secret
            .as_deref()
            .ok_or("ACCOUNT_SECRET is missing or too short")?;
        self.rate_limit("indicators").await;
        let indicators = self.with_cluster_ids().map_err(to_message)?;
        let tables = self.tables().map_err(to_message)?;
        // The number is at least the current time in milliseconds, so that it rises even if the
        // tables are lost.
        let last = tables.meta_number(META_NUMBER).unwrap_or(0);
        let number = last.saturating_add(1).max(now_ms() as u64);
        tables.set_meta(META_NUMBER, Some(&number.to_string())).map_err(to_message)?;
        let signed = sign(number, &indicators, secret).ok_or("the indicators cannot be signed")?;
        // Count the write before it is made: a failed write may still count for the platform.
        let writes = day_writes(tables).add(now_ms() as u64);
        tables.set_meta(META_WRITES, Some(&writes.to_text())).map_err(to_message)?;
        put_with_timeout(kv.put_indicators(&signed)).await
    }

    /// Returns the indicators to publish: active and revoked indicators, with the ids of their
    /// clusters.
    fn with_cluster_ids(&self) -> Result<Indicators, ApiError> {
        let now = now_seconds();
        let mut indicators = self.with_indicators(|stored| {
            self.with_clusters(|clusters| {
                let mut result = Indicators::default();
                // Isolates need the revoked indicators to drop them.
                stored.revoked.iter().for_each(|indicator| result.add(indicator));
                for (correlation, key, entry) in stored.active.iter() {
                    if now < u64::from(entry.expires) {
                        let cluster = clusters.for_key(key).map_or(0, |cluster| cluster.id);
                        let expires = entry.expires;
                        result.add(Indicator { correlation, key, expires, cluster });
                    }
                }
                result
            })
        })??;
        self.add_aliases(&mut indicators)?;
        Ok(indicators)
    }

    /// Returns the state of the publication, for the status.
    pub(super) fn publication_state(&self) -> Result<PublicationState, ApiError> {
        let tables = self.tables()?;
        Ok(PublicationState {
            is_pending: Changes::read(tables).is_pending(),
            problem: tables.meta(META_PROBLEM),
            writes_today: day_writes(tables).on_day_of(now_ms() as u64).count,
        })
    }
}

/// Returns the stored writes of the day of the last write; no writes if none are stored.
fn day_writes(tables: &Tables) -> DayWrites {
    tables.meta(META_WRITES).map_or(DayWrites::default(), |text| DayWrites::parse(&text))
}

fn to_message(error: ApiError) -> String {
    error.message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_is_urgent_until_a_publication_that_began_after_it_has_ended() {
        let format = Some(FORMAT_VERSION.into());
        let changes = |all, urgent, published| Changes { all, urgent, published, format };
        let other = |format| Changes { format, ..changes(6, 0, Some(6)) };
        // name, changes, pending, urgent
        let rows = [
            ("nothing yet", changes(0, 0, None), false, false),
            ("firings", changes(3, 0, None), true, false),
            ("a revocation", changes(4, 4, Some(3)), true, true),
            ("firings after a revocation", changes(6, 4, Some(3)), true, true),
            ("published", changes(6, 4, Some(6)), false, false),
            ("firings after a published revocation", changes(7, 4, Some(6)), true, false),
            ("published in an earlier format", other(None), true, true),
            ("published in a later format", other(Some(99)), true, true),
            ("a revocation during the publication of change 6", changes(7, 7, Some(6)), true, true),
        ];
        for (name, changes, is_pending, is_urgent) in rows {
            assert_eq!(
                (changes.is_pending(), changes.is_urgent()),
                (is_pending, is_urgent),
                "{name}"
            );
        }
    }
}
