//! The correlators: Durable Objects that count observations over all isolates.
//!
//! There are `correlate.shards` objects, named `correlator-<index>`. Each counts the groups of its
//! shard: a group is all observations with the same values in some fields. Each object reads the
//! rules in force from KV, as isolates do.
//!
//! If a correlation holds for a group, it *fires*: the correlator sends a firing to the registry,
//! which makes an indicator of it. A *session* is the counts in memory, and the rules by which they
//! are counted.
//!
//! # Routes
//!
//! | route | body | answer |
//! |---|---|---|
//! | `POST /<shard index>` | a [`Batch`] | 200: its indicators ([`encode_answer`]) |
//!
//! Errors are 400 (the batch cannot be decoded), 413 (the batch is above 4 MiB) and 503 (the batch
//! was not counted, so the sender must send it again).
//!
//! # Stored shapes
//!
//! - `snapshot_part (number INTEGER, chunk INTEGER, bytes BLOB)`: the snapshot of the partition
//!   `number`, in chunks of 1 MiB. A partition is a part of the groups.
//! - `sequences (id INTEGER, bytes BLOB)`: one row with id 0: the [`SequenceTracker`], which knows
//!   the batches that were counted.
//! - `firing (id INTEGER, text TEXT)`: the queue of firings for the registry; `text` is a
//!   [`FiringReport`] as JSON.
//!
//! The counts since the last snapshot and the pauses after failed calls are only in memory.
//!
//! # Invariants
//!
//! - A batch that arrives twice is counted once: the sender numbers its batches, so that the second
//!   one is recognised.
//! - Firings are in the table before the batch is answered. The table has at most 5,000. A firing
//!   is deleted when the registry has answered 200 or 4xx, or when the table is full. Firings
//!   beyond a quota (in `correlate` of the policy) are not stored. Such a correlation fires again
//!   from the next minute on, or as soon as the group has more accounts.
//! - Partitions and sequence numbers are written together or not at all.
//! - One session is in memory at a time. If the rules change, a snapshot carries the counts from
//!   the old session to the new one.
//!
//! # Crashes
//!
//! A crash loses the counts since the last snapshot: by default, of at most 15 seconds
//! (`correlate.snapshot_interval`). Groups that fired since then may fire again; the registry then
//! extends the existing indicator. A panic while counting is handled as a crash: the next batch
//! restores the snapshot.
//!
//! [`FiringReport`]: firing_report::FiringReport

mod firing_queue;
pub mod firing_report;
mod snapshot;

use std::cell::{Cell, RefCell};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hedgerow_core::correlate;
use hedgerow_core::correlate::batch::{Batch, SequenceTracker};
use hedgerow_core::correlate::indicator::quota::QuotaCounter;
use hedgerow_core::correlate::{Plan, Shard};
use hedgerow_core::rules::policy::CorrelationSettings;
use serde::Deserialize;
use worker::{
    DurableObject, Env, Request, Response, SqlStorage, SqlStorageValue, State, durable_object,
};

use crate::correlator_do::firing_report::{FiringReport, encode_answer};
use crate::isolate::active_rules;
use crate::platform::clock::now_seconds;
use crate::platform::lease::{Backoff, Lease};
use crate::platform::log;
use crate::platform::panic;
use crate::platform::panic::{box_future, catch_panic};
use crate::platform::settings::Settings;

/// The class of the correlators' objects.
#[durable_object]
pub struct Correlator {
    state: State,
    settings: Rc<Settings>,
    /// The counts; `None` before the first batch, and after a panic.
    session: RefCell<Option<Session>>,
    /// Whether an alarm is set.
    alarm_set: Cell<bool>,
    /// Whether a batch has arrived since the last alarm.
    had_batch: Cell<bool>,
    /// Time of the last snapshot, in seconds since the epoch.
    last_snapshot: Cell<u64>,
    /// The lease of the event that posts firings to the registry: only one event posts at a time.
    posting: RefCell<Lease>,
    /// The time until which the registry is not called, because earlier calls failed.
    posting_backoff: RefCell<Backoff>,
    /// Index of the shard, as the URL of the last batch gave it.
    shard_index: Cell<u32>,
    /// Number of firings refused by a quota that were not reported to the registry yet.
    refused_by_quota: Cell<u64>,
    /// Largest number of observations that waited at an isolate, since the last page was posted to
    /// the registry.
    queued_observations: Cell<u32>,
}

// A panic drops the session, which is then restored from the snapshot. `worker` requires these
// traits in builds that unwind.
impl UnwindSafe for Correlator {}
impl RefUnwindSafe for Correlator {}

/// Counts, and the rules by which they are counted.
struct Session {
    plan: Arc<Plan>,
    shard: Shard,
    policy: CorrelationSettings,
    correlator: correlate::Correlator,
    /// Sequence numbers of the batches that were counted, by sender.
    sequences: SequenceTracker,
    /// Firings of the current minute, by the account, tenant and network that caused them.
    quotas: QuotaCounter,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS snapshot_part (
    number INTEGER NOT NULL, chunk INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (number, chunk));
CREATE TABLE IF NOT EXISTS sequences (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS firing (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL);
";

/// Maximum bytes of a batch.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Maximum seconds between two alarms while batches arrive. The platform removes an object from
/// memory after ten idle seconds, so the alarm must save the counts before that.
const ALARM_INTERVAL_SECONDS: u64 = 7;

impl DurableObject for Correlator {
    fn new(state: State, env: Env) -> Self {
        if let Err(error) = state.storage().sql().exec(SCHEMA, None) {
            log::correlator_error("tables", &error.to_string());
        }
        Self {
            settings: Rc::new(Settings::from_env(&env)),
            state,
            session: RefCell::default(),
            alarm_set: Cell::new(false),
            had_batch: Cell::new(false),
            last_snapshot: Cell::new(0),
            posting: RefCell::default(),
            posting_backoff: RefCell::default(),
            shard_index: Cell::new(0),
            refused_by_quota: Cell::new(0),
            queued_observations: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        panic::install_hook();
        let shard_index = request.path().trim_start_matches('/').parse().unwrap_or(0);
        let bytes = request.bytes().await?;
        if bytes.len() > MAX_BATCH_BYTES {
            return Response::error("the batch is too large: expected at most 4 MiB", 413);
        }
        let batch = match Batch::decode(&bytes) {
            Ok(batch) => batch,
            Err(error) => return Response::error(error.problem().to_owned(), 400),
        };
        self.refresh_rules().await;
        let firings = match self.process_batch(&batch, shard_index) {
            Ok(firings) => firings,
            Err(error) => {
                log::correlator_error("count", &error);
                return Response::error("the batch was not counted", 503);
            }
        };
        // The batch is counted. Do not fail the call if the alarm cannot be set: the isolate would
        // send the batch again.
        if let Err(error) = self.ensure_alarm().await {
            log::correlator_error("alarm", &error.to_string());
        }
        // An isolate waits for the response, so only one page is posted here; the alarm posts
        // further pages.
        let answer = box_future(self.post_firings(1)).await;
        Response::from_bytes(encode_answer(&firings, &answer))
    }

    async fn alarm(&self) -> worker::Result<Response> {
        panic::install_hook();
        self.alarm_set.set(false);
        let is_idle = !self.had_batch.take();
        let snapshot_interval = self
            .session
            .borrow()
            .as_ref()
            .map_or(0, |session| session.policy.snapshot_interval.into());
        if is_idle || now_seconds() >= self.last_snapshot.get().saturating_add(snapshot_interval) {
            self.write_snapshot()?;
        }
        box_future(self.post_firings(usize::MAX)).await;
        if !is_idle || self.has_queued_firings() {
            self.ensure_alarm().await?;
        }
        Response::empty()
    }
}

impl Correlator {
    /// Polls KV for newer rules. Waits for the result only if this isolate has never polled:
    /// without the result, the object would count by the embedded rules.
    async fn refresh_rules(&self) {
        let settings = Rc::clone(&self.settings);
        let refresh = box_future(async move { active_rules::refresh_blocking(&settings).await });
        if active_rules::has_polled() {
            self.state.wait_until(refresh);
        } else {
            refresh.await;
        }
    }

    /// Counts a batch, enqueues its firings for the registry, and returns the firings.
    ///
    /// # Errors
    /// If the session cannot be prepared, if counting panics, or if the firings cannot be stored.
    // Not inlined: see `catch_panic`.
    #[inline(never)]
    fn process_batch(&self, batch: &Batch, shard_index: u32) -> Result<Vec<FiringReport>, String> {
        self.shard_index.set(shard_index);
        self.ensure_session(shard_index)?;
        let result = catch_panic(|| {
            let mut session = self.session.borrow_mut();
            session.as_mut().map(|session| session.count(batch)).unwrap_or_default()
        });
        let Some((firings, refused)) = result else {
            *self.session.borrow_mut() = None;
            return Err("counting panicked".to_owned());
        };
        self.refused_by_quota.update(|count| count.saturating_add(refused));
        self.had_batch.set(true);
        self.queued_observations.update(|queued| queued.max(batch.queued));
        let enqueued = self.enqueue_firings(&firings);
        if enqueued.is_err() {
            // The session would not fire again for these groups. So drop it: the sender repeats the
            // batch, and it is counted on top of the last snapshot.
            *self.session.borrow_mut() = None;
        }
        enqueued.map(|()| firings)
    }

    /// Makes sure that the session counts by the rules in force. If the rules have changed, writes
    /// a snapshot and restores it into a new session, because two sessions would not fit into
    /// memory.
    fn ensure_session(&self, shard_index: u32) -> Result<(), String> {
        let rules = active_rules::current()?;
        let (plan, policy) = (rules.active().plan(), rules.active().policy().correlate);
        let shard = Shard { index: shard_index, count: policy.shards };
        let is_current = |session: &Session| {
            Arc::ptr_eq(&session.plan, plan) && (session.shard, session.policy) == (shard, policy)
        };
        if self.session.borrow().as_ref().is_some_and(is_current) {
            return Ok(());
        }
        self.write_snapshot().map_err(|error| error.to_string())?;
        *self.session.borrow_mut() = None;
        let session = self.restore(Session {
            plan: Arc::clone(plan),
            shard,
            policy,
            correlator: correlate::Correlator::new(Arc::clone(plan), shard, policy.memory),
            sequences: SequenceTracker::default(),
            quotas: QuotaCounter::default(),
        })?;
        self.last_snapshot.set(now_seconds());
        *self.session.borrow_mut() = Some(session);
        Ok(())
    }

    /// Sets the alarm for the time of the next snapshot, but at least one second and at most seven
    /// seconds from now. Does nothing if the alarm is set already.
    async fn ensure_alarm(&self) -> worker::Result<()> {
        if self.alarm_set.replace(true) {
            return Ok(());
        }
        let snapshot_interval = self
            .session
            .borrow()
            .as_ref()
            .map(|session| u64::from(session.policy.snapshot_interval));
        let next_snapshot = self
            .last_snapshot
            .get()
            .saturating_add(snapshot_interval.unwrap_or(ALARM_INTERVAL_SECONDS));
        let delay = Duration::from_secs(
            next_snapshot.saturating_sub(now_seconds()).clamp(1, ALARM_INTERVAL_SECONDS),
        );
        let result = self.state.storage().set_alarm(delay).await;
        // Reset the flag only after a failure: during the await, the alarm may have run and been
        // set again.
        if result.is_err() {
            self.alarm_set.set(false);
        }
        result
    }

    fn rows<T: for<'de> Deserialize<'de>>(
        &self,
        query: &str,
        values: Vec<SqlStorageValue>,
    ) -> Result<Vec<T>, String> {
        let rows = self.sql().exec(query, values).and_then(|rows| rows.to_array());
        rows.map_err(|error| error.to_string())
    }

    fn exec(&self, query: &str, values: Vec<SqlStorageValue>) -> Result<(), String> {
        self.sql().exec(query, values).map(drop).map_err(|error| error.to_string())
    }

    fn sql(&self) -> SqlStorage {
        self.state.storage().sql()
    }
}

impl Session {
    /// Counts a batch, unless it was counted before. Returns its firings, and the number of firings
    /// that a quota refused, which are not returned.
    fn count(&mut self, batch: &Batch) -> (Vec<FiringReport>, u64) {
        let now = now();
        if !self.sequences.accept(batch, now) {
            return (Vec::new(), 0);
        }
        let mut firings = Vec::new();
        for observation in batch.observations(&self.plan) {
            self.correlator.observe(&observation, now, &mut firings);
        }
        let (mut admitted, mut refused) = (Vec::new(), 0_u64);
        for firing in &firings {
            let Some(report) = FiringReport::from_firing(firing, &self.plan) else { continue };
            let (cause, strength) = (report.cause(), report.strength());
            // A repeated firing extends an indicator that exists: the quotas, which limit new
            // indicators, do not apply.
            if firing.is_repeated
                || self.quotas.admit(&cause, &strength, &self.policy, now.into()).is_ok()
            {
                admitted.push(report);
            } else {
                self.refuse_firing(&report.correlation, &report.key, report.accounts.len());
                refused = refused.saturating_add(1);
            }
        }
        (admitted, refused)
    }

    /// Prevents a correlation from firing again for a group at each event, because its firing was
    /// refused. It fires again from the next minute on, when quotas have room again, or as soon as
    /// the group has more than `accounts` accounts. `key` is the group's key in hex.
    fn refuse_firing(&mut self, correlation: &str, key: &str, accounts: usize) {
        let key = u64::from_str_radix(key, 16).unwrap_or_default();
        let next_minute = (now() / 60).saturating_add(1).saturating_mul(60);
        self.correlator.refuse_firing(correlation, key, accounts, next_minute);
    }

    /// Forgets that a correlation fired for a group, so that it fires again at the next event.
    /// `key` is the group's key in hex.
    fn forget_firing(&mut self, correlation: &str, key: &str) {
        let key = u64::from_str_radix(key, 16).unwrap_or_default();
        self.correlator.forget_firing(correlation, key);
    }
}

/// Returns the time in seconds since the epoch.
fn now() -> u32 {
    u32::try_from(now_seconds()).unwrap_or(u32::MAX)
}
