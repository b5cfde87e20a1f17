//! From the registry to KV: bundles first, then the release that names them.
//!
//! KV takes one write a second for each key. What fails is tried again, by alarm, ever more seldom;
//! until it succeeds KV has the release before.

use std::time::Duration;

use futures_util::future::{Either, select};
use worker::Delay;

use super::tables::StoredRelease;
use super::{Registry, short};
use crate::store::Store;

/// Who publishes, in the audit log.
const REGISTRY: (&str, Option<&str>) = ("registry", None);

/// Attempts while somebody waits for the answer.
const ATTEMPTS: u32 = 3;

/// Milliseconds for which nobody else writes, should who does never come back.
const LEASE: f64 = 60_000.0;

/// Milliseconds between two writes of a key.
const PAUSE: f64 = 1_100.0;

/// For how long one write may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// The longest time between two attempts by alarm.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

impl Registry {
    /// Publishes the newest release, if KV does not have it.
    pub async fn publish(&self) -> Result<(), String> {
        while js_sys::Date::now() < self.publishing.get() {
            Delay::from(Duration::from_millis(50)).await;
        }
        self.publishing.set(js_sys::Date::now() + LEASE);
        // Should this object end before it is done, the alarm goes on.
        let _ = self.state.storage().set_alarm(Duration::from_millis(LEASE as u64)).await;
        let published = self.try_to_publish().await;
        if published.is_ok() {
            let _ = self.state.storage().delete_alarm().await;
        }
        self.publishing.set(0.0);
        published
    }

    async fn try_to_publish(&self) -> Result<(), String> {
        let tables = self.tables().map_err(|error| error.message)?;
        let told = |error: crate::api::ApiError| error.message;
        let mut problem = String::new();
        for _ in 0..ATTEMPTS {
            // A newer one may have come meanwhile: only that is worth publishing.
            let newest = tables.newest_release().map_err(told)?;
            let Some(newest) = newest.filter(|newest| newest.published.is_none()) else {
                return Ok(());
            };
            match self.write(&newest).await {
                Ok(()) => {
                    if tables.meta("publish.problem").is_some() {
                        let serial = newest.serial.to_string();
                        tables.note(REGISTRY, "kv", &serial, "", "ok").map_err(told)?;
                    }
                    tables.set_published(newest.serial).map_err(told)?;
                    tables.set_meta("publish.problem", None).map_err(told)?;
                    tables.set_meta("publish.attempts", None).map_err(told)?;
                    self.forget().await;
                    return Ok(());
                }
                Err(error) => problem = error,
            }
        }
        if tables.meta("publish.problem").as_deref() != Some(&problem) {
            tables.note(REGISTRY, "kv", "", "", &problem).map_err(told)?;
        }
        let attempts = tables.meta_number("publish.attempts").unwrap_or(0).saturating_add(1);
        tables.set_meta("publish.attempts", Some(&attempts.to_string())).map_err(told)?;
        tables.set_meta("publish.problem", Some(&problem)).map_err(told)?;
        let factor = 2_u32.saturating_pow(attempts.min(16) as u32);
        let backoff = Duration::from_secs(1).saturating_mul(factor).min(MAX_BACKOFF);
        let _ = self.state.storage().set_alarm(backoff).await;
        Err(problem)
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
            in_time(store.put_bundle(digest, text.as_bytes(), &signature)).await?;
        }
        self.pace("release").await;
        in_time(store.put_release(newest.text.as_bytes(), &newest.signature)).await
    }

    /// Takes bundles out of KV that the registry has forgotten. What fails stays there, and harms nobody.
    async fn forget(&self) {
        let forgotten = self.tables().and_then(|tables| tables.take_forgotten());
        let (Ok(forgotten), Some(store)) = (forgotten, Store::of(&self.settings)) else { return };
        for digest in forgotten {
            let _ = in_time(store.forget_bundle(&digest)).await;
        }
    }

    /// Waits until a key may be written again.
    async fn pace(&self, key: &str) {
        let now = js_sys::Date::now();
        let last = self.written.borrow().get(key).copied().unwrap_or(0.0);
        let wait = (last + PAUSE - now).clamp(0.0, PAUSE);
        if wait > 0.0 {
            Delay::from(Duration::from_millis(wait as u64)).await;
        }
        let now = js_sys::Date::now();
        let mut written = self.written.borrow_mut();
        written.retain(|_, last| now - *last < PAUSE);
        written.insert(key.to_owned(), now);
    }
}

async fn in_time(write: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let write = std::pin::pin!(write);
    match select(write, Delay::from(PATIENCE)).await {
        Either::Left((written, _)) => written,
        Either::Right(_) => Err("KV does not answer".to_owned()),
    }
}
