//! The correlators: Durable Objects that count observations over all isolates, each the groups that
//! fall to it. They go by the released rules, as isolates do, and write down every few seconds what has
//! changed, so that a crash loses no more than that.
//!
//! What holds is kept until the registry has it, and is told in the batch's answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hedgerow_core::correlate::batch::{Batch, SequenceTracker};
use hedgerow_core::correlate::indicator::{Indicator, Indicators};
use hedgerow_core::correlate::{Correlator as Counter, Firing, PARTITIONS, Plan, Shard};
use hedgerow_core::rules::policy::CorrelationSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worker::{
    DurableObject, Env, Method, Request, RequestInit, Response, SqlStorage, SqlStorageValue, State,
    durable_object,
};

use crate::admin_api;
use crate::isolate::active_rules;
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::log;
use crate::platform::panic;
use crate::platform::panic::{box_future, catch_panic};
use crate::platform::settings::Settings;
use crate::platform::sql::integer;

/// One of the objects.
#[durable_object]
pub struct Correlator {
    state: State,
    settings: Rc<Settings>,
    session: RefCell<Option<Session>>,
    /// Whether an alarm is set, and whether a batch came since the last one.
    alarm_set: Cell<bool>,
    had_batch: Cell<bool>,
    /// When what is counted was last written down, in seconds since the epoch.
    last_snapshot: Cell<u64>,
    /// Until when the registry is being told; when it may be told again, after failures. Milliseconds.
    posting_until: Cell<f64>,
    due: Cell<f64>,
    failures: Cell<u32>,
}

// A panic within ends in what was last written down being read again. `worker` asks for this where
// panics unwind.
impl UnwindSafe for Correlator {}
impl RefUnwindSafe for Correlator {}

/// What is being counted, and by which rules.
struct Session {
    plan: Arc<Plan>,
    shard: Shard,
    policy: CorrelationSettings,
    correlator: Counter,
    sequences: SequenceTracker,
}

/// A correlation that holds for a group, as the registry is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FiringReport {
    /// The correlation.
    pub correlation: String,
    /// The group's key, in hex: JSON's numbers are too short.
    pub key: String,
    /// When, in seconds since the epoch.
    pub at: u32,
    /// Until when it counts.
    pub expires: u32,
    /// What was measured.
    pub measured: f64,
    /// What has to be so, in words.
    pub threshold: String,
    /// Whether it links accounts to a cluster.
    pub links_accounts: bool,
    /// Accounts of the group, in hex; a sample where there are many.
    pub accounts: Vec<String>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS part (number INTEGER NOT NULL, chunk INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (number, chunk));
CREATE TABLE IF NOT EXISTS receipts (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS firing (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL);
";

/// Drops so many firings of the correlation that has most of them.
const SQL_DROP_FIRINGS: &str = "
DELETE FROM firing WHERE id IN (
    SELECT id FROM firing WHERE json_extract(text, '$.correlation') = (
        SELECT json_extract(text, '$.correlation') AS own FROM firing
        GROUP BY own ORDER BY COUNT(*) DESC LIMIT 1
    ) ORDER BY id LIMIT ?
) RETURNING text";

/// Bytes of a row: SQLite's have at most two megabytes here.
const CHUNK_BYTES: usize = 1 << 20;

/// Bytes that a batch has at most.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Seconds between two alarms, while batches come: less than the ten after which memory is taken.
const ALARM_INTERVAL_SECONDS: u64 = 7;

/// Firings that wait for the registry at most, and that it is told at once.
const MAX_QUEUED_FIRINGS: u64 = 5_000;
const PAGE: u64 = 100;

/// For how long the registry may take while an isolate waits for its answer.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(3);

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
            posting_until: Cell::new(0.0),
            due: Cell::new(0.0),
            failures: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        panic::install_hook();
        let shard_index = request.path().trim_start_matches('/').parse().unwrap_or(0);
        let bytes = request.bytes().await?;
        if bytes.len() > MAX_BATCH_BYTES {
            return Response::error("too large", 413);
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
                return Response::error("it cannot count", 503);
            }
        };
        // What is counted is counted: that no alarm can be set is no reason to have it sent again.
        if let Err(error) = self.ensure_alarm().await {
            log::correlator_error("alarm", &error.to_string());
        }
        // An isolate waits for this: the rest is told by alarm.
        let clusters = box_future(self.post_firings(1)).await;
        Response::from_bytes(encode_indicators(&firings, &clusters))
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
    /// Looks for newer rules. Only who counts for the first time waits for them: they are to be the
    /// released ones.
    async fn refresh_rules(&self) {
        let settings = Rc::clone(&self.settings);
        let refresh = box_future(async move { active_rules::refresh_blocking(&settings).await });
        match active_rules::has_polled() {
            true => self.state.wait_until(refresh),
            false => refresh.await,
        }
    }

    /// Counts a batch, and keeps what holds by it until the registry has it.
    #[inline(never)]
    fn process_batch(&self, batch: &Batch, shard_index: u32) -> Result<Vec<FiringReport>, String> {
        self.ensure_session(shard_index)?;
        let result = catch_panic(|| {
            let mut session = self.session.borrow_mut();
            session.as_mut().map(|session| session.count(batch)).unwrap_or_default()
        });
        let Some(firings) = result else {
            *self.session.borrow_mut() = None;
            return Err("counting panicked".to_owned());
        };
        self.had_batch.set(true);
        let enqueued = self.enqueue_firings(&firings);
        if enqueued.is_err() {
            // They would not be told again: it is counted anew from what was written down.
            *self.session.borrow_mut() = None;
        }
        enqueued.map(|()| firings)
    }

    /// Keeps firings until the registry has them. Where there are too many, the oldest go of whichever
    /// correlation has most: they are told when they hold again.
    fn enqueue_firings(&self, firings: &[FiringReport]) -> Result<(), String> {
        for firing in firings {
            let text = serde_json::to_string(firing).unwrap_or_default();
            self.exec("INSERT INTO firing (text) VALUES (?)", vec![text.into()])?;
        }
        let mut dropped = 0_usize;
        while !firings.is_empty() {
            let excess = self.queued_count()?.saturating_sub(MAX_QUEUED_FIRINGS);
            let dropped_firings = match excess {
                0 => Vec::new(),
                count => self.query_texts(SQL_DROP_FIRINGS, vec![integer(count)])?,
            };
            if dropped_firings.is_empty() {
                break;
            }
            dropped = dropped.saturating_add(dropped_firings.len());
            let mut session = self.session.borrow_mut();
            let Some(session) = session.as_mut() else { break };
            for firing in dropped_firings
                .iter()
                .filter_map(|text| serde_json::from_str::<FiringReport>(text).ok())
            {
                let key = u64::from_str_radix(&firing.key, 16).unwrap_or_default();
                session.correlator.forget_firing(&firing.correlation, key);
            }
        }
        if dropped > 0 {
            log::correlator_error("firings", &format!("{dropped} could not wait for the registry"));
        }
        Ok(())
    }

    fn queued_count(&self) -> Result<u64, String> {
        #[derive(Deserialize)]
        struct Row {
            count: u64,
        }
        let rows = self.sql().exec("SELECT COUNT(*) AS count FROM firing", None);
        let rows =
            rows.and_then(|rows| rows.to_array::<Row>()).map_err(|error| error.to_string())?;
        Ok(rows.first().map_or(0, |row| row.count))
    }

    fn query_texts(
        &self,
        query: &str,
        values: Vec<SqlStorageValue>,
    ) -> Result<Vec<String>, String> {
        #[derive(Deserialize)]
        struct Row {
            text: String,
        }
        let rows = self.sql().exec(query, values);
        let rows =
            rows.and_then(|rows| rows.to_array::<Row>()).map_err(|error| error.to_string())?;
        Ok(rows.into_iter().map(|row| row.text).collect())
    }

    /// Sees to it that it counts by the rules in force. What was counted by others is carried over by
    /// way of what is written down: two of them would not fit into memory.
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
            correlator: Counter::new(Arc::clone(plan), shard, policy.memory),
            sequences: SequenceTracker::default(),
        })?;
        self.last_snapshot.set(now_seconds());
        *self.session.borrow_mut() = Some(session);
        Ok(())
    }

    /// Reads what was written down.
    #[inline(never)]
    fn restore(&self, mut session: Session) -> Result<Session, String> {
        for part_number in 0..PARTITIONS {
            let query = "SELECT bytes FROM part WHERE number = ? ORDER BY chunk";
            let part = self.query_blob(query, vec![integer(part_number as u64)])?;
            if part.is_empty() {
                continue;
            }
            let restored = catch_panic(|| session.correlator.merge_partition(&part, now()));
            if !matches!(restored, Some(Ok(()))) {
                log::correlator_error("restore", "a part of what was written down cannot be read");
            }
        }
        let sequences = self.query_blob("SELECT bytes FROM receipts", Vec::new())?;
        session.sequences = SequenceTracker::decode(&sequences).unwrap_or_default();
        Ok(session)
    }

    /// Writes down the parts that have changed, and what came so far. Nothing waits in between, so that
    /// all of it is stored or nothing.
    fn write_snapshot(&self) -> worker::Result<()> {
        let mut session = self.session.borrow_mut();
        let Some(session) = session.as_mut() else { return Ok(()) };
        let sql = self.sql();
        while let Some((part, bytes)) = session.correlator.first_dirty_partition() {
            let part_number = || integer(part as u64);
            let chunks = bytes.chunks(CHUNK_BYTES);
            let stale_chunks = vec![part_number(), integer(chunks.len() as u64)];
            sql.exec("DELETE FROM part WHERE number = ? AND chunk >= ?", stale_chunks)?;
            for (chunk, bytes) in chunks.enumerate() {
                let query = "INSERT OR REPLACE INTO part (number, chunk, bytes) VALUES (?, ?, ?)";
                let values = vec![part_number(), integer(chunk as u64), bytes.to_vec().into()];
                sql.exec(query, values)?;
            }
            session.correlator.mark_written(part);
        }
        let sequences = session.sequences.encode().into();
        sql.exec("INSERT OR REPLACE INTO receipts (id, bytes) VALUES (0, ?)", vec![sequences])?;
        self.last_snapshot.set(now_seconds());
        Ok(())
    }

    /// Tells the registry what waits for it, up to so many pages; the clusters by key that it answers
    /// with. What cannot be told now is told by alarm.
    async fn post_firings(&self, pages: usize) -> BTreeMap<String, String> {
        let mut clusters = BTreeMap::new();
        let now = now_ms();
        if now < self.posting_until.get() || now < self.due.get() {
            return clusters;
        }
        let result = self.post_pages(pages, &mut clusters).await;
        self.posting_until.set(0.0);
        match result {
            Ok(()) => self.failures.set(0),
            Err(error) => {
                let factor = f64::from(2_u32.saturating_pow(self.failures.get().min(6)));
                self.due.set(now_ms() + 1_000.0 * factor);
                if self.failures.replace(self.failures.get().saturating_add(1)) == 0 {
                    log::correlator_error("registry", &error);
                }
            }
        }
        clusters
    }

    async fn post_pages(
        &self,
        pages: usize,
        clusters: &mut BTreeMap<String, String>,
    ) -> Result<(), String> {
        for _ in 0..pages {
            // Nobody else tells meanwhile.
            self.posting_until.set(now_ms() + 2.0 * REGISTRY_TIMEOUT.as_millis() as f64);
            let queued = self.queued_firings()?;
            let Some(last_id) = queued.last().map(|firing| firing.id) else { return Ok(()) };
            let firings: Vec<Value> = queued
                .iter()
                .filter_map(|firing| serde_json::from_str(&firing.text).ok())
                .collect();
            let response =
                with_timeout(self.post_page(&json!({ "firings": firings })), REGISTRY_TIMEOUT)
                    .await;
            clusters.extend(response.ok_or("the registry does not answer")??);
            self.exec("DELETE FROM firing WHERE id <= ?", vec![integer(last_id)])?;
        }
        Ok(())
    }

    async fn post_page(&self, body: &Value) -> Result<BTreeMap<String, String>, String> {
        #[derive(Deserialize)]
        struct FiringsResponse {
            clusters: BTreeMap<String, String>,
        }
        let unavailable = |_| "the registry does not answer".to_owned();
        let stub = admin_api::registry_stub(&self.settings).map_err(|error| error.message)?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post).with_body(Some(body.to_string().into()));
        let request =
            Request::new_with_init("https://registry/firings", &init).map_err(unavailable)?;
        let mut response = stub.fetch_with_request(request).await.map_err(unavailable)?;
        match response.status_code() {
            200 => response
                .json()
                .await
                .map(|parsed: FiringsResponse| parsed.clusters)
                .map_err(unavailable),
            // It never will: they are given up, so that others are told.
            status @ 400..=499 => {
                log::correlator_error("registry", &format!("it refused firings: {status}"));
                Ok(BTreeMap::new())
            }
            status => Err(format!("the registry answered {status}")),
        }
    }

    fn queued_firings(&self) -> Result<Vec<QueuedFiring>, String> {
        let query = "SELECT id, text FROM firing ORDER BY id LIMIT ?";
        let rows = self.sql().exec(query, vec![integer(PAGE)]);
        rows.and_then(|rows| rows.to_array()).map_err(|error| error.to_string())
    }

    fn has_queued_firings(&self) -> bool {
        self.queued_firings().is_ok_and(|firings| !firings.is_empty())
    }

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
        // The alarm may have come meanwhile, and disarmed: only a failure is ours to note.
        if result.is_err() {
            self.alarm_set.set(false);
        }
        result
    }

    /// The bytes in all rows of a query, one behind the other.
    fn query_blob(&self, query: &str, values: Vec<SqlStorageValue>) -> Result<Vec<u8>, String> {
        let rows = self.sql().exec(query, values).map_err(|error| error.to_string())?;
        let mut blob = Vec::new();
        for row in rows.raw() {
            for value in row.map_err(|error| error.to_string())? {
                if let SqlStorageValue::Blob(bytes) = value {
                    blob.extend(bytes);
                }
            }
        }
        Ok(blob)
    }

    fn exec(&self, query: &str, values: Vec<SqlStorageValue>) -> Result<(), String> {
        self.sql().exec(query, values).map(drop).map_err(|error| error.to_string())
    }

    fn sql(&self) -> SqlStorage {
        self.state.storage().sql()
    }
}

/// A firing that waits for the registry.
#[derive(Deserialize)]
struct QueuedFiring {
    id: u64,
    text: String,
}

impl Session {
    /// Counts a batch, if it has not come before; what holds by it.
    fn count(&mut self, batch: &Batch) -> Vec<FiringReport> {
        let now = now();
        if !self.sequences.accept(batch, now) {
            return Vec::new();
        }
        let mut firings = Vec::new();
        for observation in batch.observations(&self.plan) {
            self.correlator.observe(&observation, now, &mut firings);
        }
        firings.iter().filter_map(|firing| FiringReport::from_firing(firing, &self.plan)).collect()
    }
}

impl FiringReport {
    fn from_firing(firing: &Firing, plan: &Plan) -> Option<Self> {
        let correlation = plan.correlations().get(firing.correlation)?;
        let hex = |hash: &u64| format!("{hash:016x}");
        Some(Self {
            correlation: correlation.name.clone(),
            key: hex(&firing.key),
            at: firing.at,
            expires: firing.at.saturating_add(correlation.ttl),
            measured: firing.value,
            threshold: correlation.describe(),
            links_accounts: correlation.links_accounts(),
            accounts: firing.accounts.iter().filter(|account| **account != 0).map(hex).collect(),
        })
    }
}

/// What an isolate is answered: indicators in their compact form.
fn encode_indicators(firings: &[FiringReport], clusters: &BTreeMap<String, String>) -> Vec<u8> {
    let mut indicators = Indicators::default();
    for FiringReport { correlation, key, expires, .. } in firings {
        let cluster = clusters.get(key).and_then(|id| u32::from_str_radix(id, 16).ok());
        let (cluster, expires) = (cluster.unwrap_or(0), *expires);
        if let Ok(key) = u64::from_str_radix(key, 16) {
            indicators.add(Indicator { correlation, key, expires, cluster });
        }
    }
    indicators.encode()
}

fn now() -> u32 {
    u32::try_from(now_seconds()).unwrap_or(u32::MAX)
}
