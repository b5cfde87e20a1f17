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

use hedgerow::correlate::batch::{Batch, Receipts};
use hedgerow::correlate::{Correlator as Counter, Firing, PARTS, Plan, Shard};
use hedgerow::indicator::{Indicator, Indicators};
use hedgerow::policy::Correlating;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worker::{
    DurableObject, Env, Method, Request, RequestInit, Response, SqlStorage, SqlStorageValue, State,
    durable_object,
};

use crate::clock::{in_time, millis, seconds};
use crate::error::{boxed, caught};
use crate::settings::Settings;
use crate::sql::integer;
use crate::{api, log, rules};

/// One of the objects.
#[durable_object]
pub struct Correlator {
    state: State,
    settings: Rc<Settings>,
    counting: RefCell<Option<Counting>>,
    /// Whether an alarm is set, and whether a batch came since the last one.
    armed: Cell<bool>,
    fed: Cell<bool>,
    /// When what is counted was last written down, in seconds since the epoch.
    written: Cell<u64>,
    /// Until when the registry is being told; when it may be told again, after failures. Milliseconds.
    telling: Cell<f64>,
    due: Cell<f64>,
    failures: Cell<u32>,
}

// A panic within ends in what was last written down being read again. `worker` asks for this where
// panics unwind.
impl UnwindSafe for Correlator {}
impl RefUnwindSafe for Correlator {}

/// What is being counted, and by which rules.
struct Counting {
    plan: Arc<Plan>,
    shard: Shard,
    policy: Correlating,
    counter: Counter,
    receipts: Receipts,
}

/// A correlation that holds for a group, as the registry is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fired {
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
    pub links: bool,
    /// Accounts of the group, in hex; a sample where there are many.
    pub accounts: Vec<String>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS part (number INTEGER NOT NULL, chunk INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (number, chunk));
CREATE TABLE IF NOT EXISTS receipts (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS firing (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL);
";

/// Drops so many firings of the correlation that has most of them.
const DROP: &str = "
DELETE FROM firing WHERE id IN (
    SELECT id FROM firing WHERE json_extract(text, '$.correlation') = (
        SELECT json_extract(text, '$.correlation') AS own FROM firing
        GROUP BY own ORDER BY COUNT(*) DESC LIMIT 1
    ) ORDER BY id LIMIT ?
) RETURNING text";

/// Bytes of a row: SQLite's have at most two megabytes here.
const CHUNK: usize = 1 << 20;

/// Bytes that a batch has at most.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Seconds between two alarms, while batches come: less than the ten after which memory is taken.
const ALARM: u64 = 7;

/// Firings that wait for the registry at most, and that it is told at once.
const MAX_WAITING: u64 = 5_000;
const AT_ONCE: u64 = 100;

/// For how long the registry may take while an isolate waits for its answer.
const PATIENCE: Duration = Duration::from_secs(3);

impl DurableObject for Correlator {
    fn new(state: State, env: Env) -> Self {
        if let Err(error) = state.storage().sql().exec(SCHEMA, None) {
            log::correlator("tables", &error.to_string());
        }
        Self {
            settings: Rc::new(Settings::of(&env)),
            state,
            counting: RefCell::default(),
            armed: Cell::new(false),
            fed: Cell::new(false),
            written: Cell::new(0),
            telling: Cell::new(0.0),
            due: Cell::new(0.0),
            failures: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        log::quiet_panics();
        let shard = request.path().trim_start_matches('/').parse().unwrap_or(0);
        let bytes = request.bytes().await?;
        if bytes.len() > MAX_BATCH_BYTES {
            return Response::error("too large", 413);
        }
        let batch = match Batch::parse(&bytes) {
            Ok(batch) => batch,
            Err(error) => return Response::error(error.problem().to_owned(), 400),
        };
        self.renew().await;
        let fired = match self.take(&batch, shard) {
            Ok(fired) => fired,
            Err(error) => {
                log::correlator("count", &error);
                return Response::error("it cannot count", 503);
            }
        };
        // What is counted is counted: that no alarm can be set is no reason to have it sent again.
        if let Err(error) = self.arm().await {
            log::correlator("alarm", &error.to_string());
        }
        // An isolate waits for this: the rest is told by alarm.
        let clusters = boxed(self.tell(1)).await;
        Response::from_bytes(answer(&fired, &clusters))
    }

    async fn alarm(&self) -> worker::Result<Response> {
        log::quiet_panics();
        self.armed.set(false);
        let is_idle = !self.fed.take();
        let snapshot = self.counting.borrow().as_ref().map_or(0, |own| own.policy.snapshot.into());
        if is_idle || seconds() >= self.written.get().saturating_add(snapshot) {
            self.snapshot()?;
        }
        boxed(self.tell(usize::MAX)).await;
        if !is_idle || self.has_waiting() {
            self.arm().await?;
        }
        Response::empty()
    }
}

impl Correlator {
    /// Looks for newer rules. Only who counts for the first time waits for them: they are to be the
    /// released ones.
    async fn renew(&self) {
        let settings = Rc::clone(&self.settings);
        let renewal = boxed(async move { rules::renew(&settings).await });
        match rules::has_looked() {
            true => self.state.wait_until(renewal),
            false => renewal.await,
        }
    }

    /// Counts a batch, and keeps what holds by it until the registry has it.
    #[inline(never)]
    fn take(&self, batch: &Batch, shard: u32) -> Result<Vec<Fired>, String> {
        self.prepare(shard)?;
        let counted = caught(|| {
            let mut counting = self.counting.borrow_mut();
            counting.as_mut().map(|counting| counting.count(batch)).unwrap_or_default()
        });
        let Some(fired) = counted else {
            *self.counting.borrow_mut() = None;
            return Err("counting panicked".to_owned());
        };
        self.fed.set(true);
        let kept = self.keep(&fired);
        if kept.is_err() {
            // They would not be told again: it is counted anew from what was written down.
            *self.counting.borrow_mut() = None;
        }
        kept.map(|()| fired)
    }

    /// Keeps firings until the registry has them. Where there are too many, the oldest go of whichever
    /// correlation has most: they are told when they hold again.
    fn keep(&self, fired: &[Fired]) -> Result<(), String> {
        for fired in fired {
            let text = serde_json::to_string(fired).unwrap_or_default();
            self.exec("INSERT INTO firing (text) VALUES (?)", vec![text.into()])?;
        }
        let mut dropped = 0_usize;
        while !fired.is_empty() {
            let too_many = self.waiting_count()?.saturating_sub(MAX_WAITING);
            let texts = match too_many {
                0 => Vec::new(),
                many => self.texts(DROP, vec![integer(many)])?,
            };
            if texts.is_empty() {
                break;
            }
            dropped = dropped.saturating_add(texts.len());
            let mut counting = self.counting.borrow_mut();
            let Some(counting) = counting.as_mut() else { break };
            for own in texts.iter().filter_map(|text| serde_json::from_str::<Fired>(text).ok()) {
                let key = u64::from_str_radix(&own.key, 16).unwrap_or_default();
                counting.counter.untell(&own.correlation, key);
            }
        }
        if dropped > 0 {
            log::correlator("firings", &format!("{dropped} could not wait for the registry"));
        }
        Ok(())
    }

    fn waiting_count(&self) -> Result<u64, String> {
        #[derive(Deserialize)]
        struct Row {
            count: u64,
        }
        let rows = self.sql().exec("SELECT COUNT(*) AS count FROM firing", None);
        let rows =
            rows.and_then(|rows| rows.to_array::<Row>()).map_err(|error| error.to_string())?;
        Ok(rows.first().map_or(0, |row| row.count))
    }

    fn texts(&self, query: &str, values: Vec<SqlStorageValue>) -> Result<Vec<String>, String> {
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
    fn prepare(&self, number: u32) -> Result<(), String> {
        let rules = rules::in_force()?;
        let (plan, policy) = (rules.active().plan(), rules.active().policy().correlate);
        let shard = Shard { number, of: policy.shards };
        let is_right = |own: &Counting| {
            Arc::ptr_eq(&own.plan, plan) && (own.shard, own.policy) == (shard, policy)
        };
        if self.counting.borrow().as_ref().is_some_and(is_right) {
            return Ok(());
        }
        self.snapshot().map_err(|error| error.to_string())?;
        *self.counting.borrow_mut() = None;
        let counting = self.restore(Counting {
            plan: Arc::clone(plan),
            shard,
            policy,
            counter: Counter::new(Arc::clone(plan), shard, policy.memory),
            receipts: Receipts::default(),
        })?;
        self.written.set(seconds());
        *self.counting.borrow_mut() = Some(counting);
        Ok(())
    }

    /// Reads what was written down.
    #[inline(never)]
    fn restore(&self, mut counting: Counting) -> Result<Counting, String> {
        for number in 0..PARTS {
            let query = "SELECT bytes FROM part WHERE number = ? ORDER BY chunk";
            let part = self.bytes(query, vec![integer(number as u64)])?;
            if part.is_empty() {
                continue;
            }
            let taken = caught(|| counting.counter.take(&part, now()));
            if !matches!(taken, Some(Ok(()))) {
                log::correlator("restore", "a part of what was written down cannot be read");
            }
        }
        let receipts = self.bytes("SELECT bytes FROM receipts", Vec::new())?;
        counting.receipts = Receipts::parse(&receipts).unwrap_or_default();
        Ok(counting)
    }

    /// Writes down the parts that have changed, and what came so far. Nothing waits in between, so that
    /// all of it is stored or nothing.
    fn snapshot(&self) -> worker::Result<()> {
        let mut counting = self.counting.borrow_mut();
        let Some(counting) = counting.as_mut() else { return Ok(()) };
        let sql = self.sql();
        while let Some((number, bytes)) = counting.counter.first_changed() {
            let place = || integer(number as u64);
            let chunks = bytes.chunks(CHUNK);
            let beyond = vec![place(), integer(chunks.len() as u64)];
            sql.exec("DELETE FROM part WHERE number = ? AND chunk >= ?", beyond)?;
            for (chunk, bytes) in chunks.enumerate() {
                let query = "INSERT OR REPLACE INTO part (number, chunk, bytes) VALUES (?, ?, ?)";
                let values = vec![place(), integer(chunk as u64), bytes.to_vec().into()];
                sql.exec(query, values)?;
            }
            counting.counter.written(number);
        }
        let receipts = counting.receipts.bytes().into();
        sql.exec("INSERT OR REPLACE INTO receipts (id, bytes) VALUES (0, ?)", vec![receipts])?;
        self.written.set(seconds());
        Ok(())
    }

    /// Tells the registry what waits for it, up to so many pages; the clusters by key that it answers
    /// with. What cannot be told now is told by alarm.
    async fn tell(&self, pages: usize) -> BTreeMap<String, String> {
        let mut clusters = BTreeMap::new();
        let now = millis();
        if now < self.telling.get() || now < self.due.get() {
            return clusters;
        }
        let told = self.tell_pages(pages, &mut clusters).await;
        self.telling.set(0.0);
        match told {
            Ok(()) => self.failures.set(0),
            Err(error) => {
                let factor = f64::from(2_u32.saturating_pow(self.failures.get().min(6)));
                self.due.set(millis() + 1_000.0 * factor);
                if self.failures.replace(self.failures.get().saturating_add(1)) == 0 {
                    log::correlator("registry", &error);
                }
            }
        }
        clusters
    }

    async fn tell_pages(
        &self,
        pages: usize,
        clusters: &mut BTreeMap<String, String>,
    ) -> Result<(), String> {
        for _ in 0..pages {
            // Nobody else tells meanwhile.
            self.telling.set(millis() + 2.0 * PATIENCE.as_millis() as f64);
            let waiting = self.waiting()?;
            let Some(last) = waiting.last().map(|waiting| waiting.id) else { return Ok(()) };
            let fired: Vec<Value> =
                waiting.iter().filter_map(|it| serde_json::from_str(&it.text).ok()).collect();
            let told = in_time(self.post(&json!({ "firings": fired })), PATIENCE).await;
            clusters.extend(told.ok_or("the registry does not answer")??);
            self.exec("DELETE FROM firing WHERE id <= ?", vec![integer(last)])?;
        }
        Ok(())
    }

    async fn post(&self, body: &Value) -> Result<BTreeMap<String, String>, String> {
        #[derive(Deserialize)]
        struct Answer {
            clusters: BTreeMap<String, String>,
        }
        let failed = |_| "the registry does not answer".to_owned();
        let stub = api::registry(&self.settings).map_err(|error| error.message)?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post).with_body(Some(body.to_string().into()));
        let request = Request::new_with_init("https://registry/firings", &init).map_err(failed)?;
        let mut response = stub.fetch_with_request(request).await.map_err(failed)?;
        match response.status_code() {
            200 => response.json().await.map(|answer: Answer| answer.clusters).map_err(failed),
            // It never will: they are given up, so that others are told.
            status @ 400..=499 => {
                log::correlator("registry", &format!("it refused firings: {status}"));
                Ok(BTreeMap::new())
            }
            status => Err(format!("the registry answered {status}")),
        }
    }

    fn waiting(&self) -> Result<Vec<Waiting>, String> {
        let query = "SELECT id, text FROM firing ORDER BY id LIMIT ?";
        let rows = self.sql().exec(query, vec![integer(AT_ONCE)]);
        rows.and_then(|rows| rows.to_array()).map_err(|error| error.to_string())
    }

    fn has_waiting(&self) -> bool {
        self.waiting().is_ok_and(|waiting| !waiting.is_empty())
    }

    async fn arm(&self) -> worker::Result<()> {
        if self.armed.replace(true) {
            return Ok(());
        }
        let snapshot = self.counting.borrow().as_ref().map(|own| u64::from(own.policy.snapshot));
        let due = self.written.get().saturating_add(snapshot.unwrap_or(ALARM));
        let pause = Duration::from_secs(due.saturating_sub(seconds()).clamp(1, ALARM));
        let set = self.state.storage().set_alarm(pause).await;
        // The alarm may have come meanwhile, and disarmed: only a failure is ours to note.
        if set.is_err() {
            self.armed.set(false);
        }
        set
    }

    /// The bytes in all rows of a query, one behind the other.
    fn bytes(&self, query: &str, values: Vec<SqlStorageValue>) -> Result<Vec<u8>, String> {
        let rows = self.sql().exec(query, values).map_err(|error| error.to_string())?;
        let mut all = Vec::new();
        for row in rows.raw() {
            for value in row.map_err(|error| error.to_string())? {
                if let SqlStorageValue::Blob(bytes) = value {
                    all.extend(bytes);
                }
            }
        }
        Ok(all)
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
struct Waiting {
    id: u64,
    text: String,
}

impl Counting {
    /// Counts a batch, if it has not come before; what holds by it.
    fn count(&mut self, batch: &Batch) -> Vec<Fired> {
        let now = now();
        if !self.receipts.note(batch, now) {
            return Vec::new();
        }
        let mut firings = Vec::new();
        for observation in batch.observations(&self.plan) {
            self.counter.observe(&observation, now, &mut firings);
        }
        firings.iter().filter_map(|firing| Fired::of(firing, &self.plan)).collect()
    }
}

impl Fired {
    fn of(firing: &Firing, plan: &Plan) -> Option<Self> {
        let correlation = plan.correlations().get(firing.correlation)?;
        let hex = |hash: &u64| format!("{hash:016x}");
        Some(Self {
            correlation: correlation.name.clone(),
            key: hex(&firing.key),
            at: firing.at,
            expires: firing.at.saturating_add(correlation.lasts),
            measured: firing.measured,
            threshold: correlation.words(),
            links: correlation.links(),
            accounts: firing.accounts.iter().filter(|account| **account != 0).map(hex).collect(),
        })
    }
}

/// What an isolate is answered: indicators in their compact form.
fn answer(fired: &[Fired], clusters: &BTreeMap<String, String>) -> Vec<u8> {
    let mut indicators = Indicators::default();
    for Fired { correlation, key, expires, .. } in fired {
        let cluster = clusters.get(key).and_then(|id| u32::from_str_radix(id, 16).ok());
        let (cluster, expires) = (cluster.unwrap_or(0), *expires);
        if let Ok(key) = u64::from_str_radix(key, 16) {
            indicators.add(Indicator { correlation, key, expires, cluster });
        }
    }
    indicators.bytes()
}

fn now() -> u32 {
    u32::try_from(seconds()).unwrap_or(u32::MAX)
}
