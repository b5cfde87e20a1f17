//! The ledger: Durable Objects that add up the counters that isolates report.
//!
//! There are LEDGER_SHARDS objects, named `ledger-<index>`. An isolate reports to one of them; a
//! query asks all of them. A counter is stored under the minute in which its report arrives. A
//! *watcher* is a console that has opened the WebSocket `/live`.
//!
//! # Routes
//!
//! | route | answer |
//! |---|---|
//! | `POST /report` | 204; the body is a [`Report`] |
//! | `GET /` | [`Counters`] of the last 60 seconds |
//! | `GET /?minutes=&until=&kind=` | [`Counters`] of minutes, of kinds that begin with `kind` |
//! | `GET /totals` | [`Counters`] since the ledger began to count, with the keys of `totals.rs` |
//! | `GET /series?from=&step=&count=` | [`Series`] |
//! | `GET /decisions?limit=&band=&…` | [`DecisionMatches`](decisions::DecisionMatches) |
//! | `GET /decisions?enforced=true&before=&…` | the same, of the enforced decisions |
//! | `POST /senders`: `{"ids":[…]}` | pairs of request id and account, from sampled decisions |
//! | `GET /live` | 101: a WebSocket that gets `{"new":true}` after reports |
//!
//! Reports also contain names that the origin gave accounts. The alarm forwards them to the
//! registry.
//!
//! Errors are 400 (the body or the query is invalid), 413 (the body is above 4 MiB) and 503 (64
//! WebSockets are already open).
//!
//! # Stored shapes
//!
//! - `rollup (seconds INTEGER, start INTEGER, key TEXT, count INTEGER)`: counters of the minute
//!   (`seconds` is 60; kept for two days) or hour (3600; kept for 31 days) that begins at `start`.
//!   `key` is a [`CounterKey`](counters::CounterKey) as JSON.
//! - `rolled_up (hour INTEGER)`: hours, by their start. All minutes up to the end of the newest one
//!   have been added up.
//! - `total (key TEXT, count INTEGER)`: totals of all hours that are added up, by the key of
//!   `totals.rs` as JSON. They are never deleted.
//! - `slice (start INTEGER, counters TEXT)`: the last 60 seconds in slices of five; `counters` is
//!   [`Counters`] as JSON. Written only when the object becomes idle.
//! - `decision_chunk (id INTEGER, clear INTEGER, at INTEGER, count INTEGER, records TEXT)`: a JSON
//!   array of `count` decisions, stored at `at`. `clear` is 1 if they are in the band `clear`. A
//!   row is deleted after a week, or if newer rows have 500 clear or 1,500 other decisions.
//! - `enforced_chunk (id INTEGER, first_at INTEGER, last_at INTEGER, count INTEGER, bytes INTEGER,
//!   records TEXT)`: all enforced decisions. `records` has the JSON of `count` decisions, each
//!   followed by a line feed, in `bytes` bytes. They were made from `first_at` to `last_at`. `id`
//!   is the time at which the row was begun; these three times are in milliseconds. A row is
//!   deleted when all its decisions are older than `keep_days`, or if it is the oldest one and the
//!   rows need more than `max_bytes`.
//! - `enforced_setting (id INTEGER, keep_days INTEGER, max_bytes INTEGER)`: at most one row, the
//!   settings in the last report, unless they have always been the defaults.
//!
//! All other times are in seconds since the epoch.
//!
//! # Invariants
//!
//! - A count is either in memory or in `rollup`, never in both: it is removed from memory when its
//!   row is written.
//! - An hour is added up once, after its last minute is written. So a minute costs one write per
//!   key, regardless of the number of requests.
//! - While reports arrive, an alarm runs every seven seconds: the platform removes an object from
//!   memory after ten idle seconds. When an object becomes idle, the alarm writes everything.
//! - Only the newest row of `enforced_chunk` grows, up to 256 KiB. So a row has no decision that
//!   was made after the id of the next row, and a decision is found by the time in its request id.
//! - A decision that `max_bytes` deletes is counted as `enforced_evicted`.
//!
//! # Crashes
//!
//! A crash loses the counters of the current minute, the slices, the decisions (sampled or
//! enforced) that arrived after the last alarm, and the names that the registry does not have yet.
//! The isolates send only the names again. If a crash makes a report fail, the isolate sends the
//! counters and enforced decisions of this report again; the ledger may then have them twice.

pub mod client;
pub mod counters;
pub mod decisions;
pub mod enforced_page;
pub mod series;

mod decision_query;
mod enforced;
mod period;
mod queued_account_names;
mod rollup;
mod totals;

use std::cell::{Cell, RefCell};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use hedgerow_core::rules::policy::DecisionSettings;
use serde::Deserialize;
use worker::{
    DurableObject, Env, Error, Method, Request, Response, ResponseBuilder, SqlStorage, State,
    WebSocket, WebSocketIncomingMessage, WebSocketPair, durable_object,
};

use crate::ledger_do::client::WEBSOCKET_PROTOCOL;
use crate::ledger_do::counters::{Counters, ENFORCED_EVICTED, Report};
use crate::ledger_do::decisions::{Decisions, RETENTION_SECONDS, has_stored_decisions};
use crate::ledger_do::enforced::EnforcedDecisions;
use crate::ledger_do::period::Period;
use crate::ledger_do::series::{Series, TimeBuckets};
use crate::platform::clock::now_ms;
use crate::platform::rpc::query_parameters;
use crate::platform::settings::Settings;
use crate::platform::sql::integer;
use crate::platform::{clock, log, panic};
use crate::registry_do::principals::NamesReport;

/// Length of a slice in seconds.
const SLICE_SECONDS: u64 = 5;

/// Seconds that a query without `minutes` covers.
pub const RECENT_SECONDS: u64 = 60;

/// Seconds between two alarms while reports arrive. The platform removes an object from memory
/// after ten idle seconds.
const ALARM_INTERVAL_SECONDS: u64 = 7;

/// A minute in seconds.
const MINUTE: u64 = 60;

/// An hour in seconds.
const HOUR: u64 = 3_600;

/// Maximum number of watchers: open WebSockets.
const MAX_WATCHERS: usize = 64;

/// Minimum milliseconds between two notifications of the watchers.
const NOTIFY_INTERVAL_MS: f64 = 1_000.0;

/// Maximum bytes of a report.
const MAX_REPORT_BYTES: usize = 4 << 20;

/// Maximum number of cached queries of each kind.
const MAX_CACHED_QUERIES: usize = 8;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rollup (
    seconds INTEGER NOT NULL, start INTEGER NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (seconds, start, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rolled_up (hour INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS total (key TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slice (start INTEGER PRIMARY KEY, counters TEXT NOT NULL);
";

/// The class of the ledger's objects.
#[durable_object]
pub struct Ledger {
    state: State,
    /// Slices of the last minute by their start, in seconds since the epoch.
    recent: RefCell<Vec<(u64, Counters)>>,
    /// The minute that is being counted: its start, in seconds since the epoch, and its counters.
    current_minute: RefCell<(u64, Counters)>,
    /// The last decisions.
    decisions: RefCell<Decisions>,
    /// The enforced decisions.
    enforced: RefCell<EnforcedDecisions>,
    /// Names of accounts that the registry does not have yet.
    names: RefCell<NamesReport>,
    settings: Settings,
    /// Results of queries, until the tables change.
    cache: RefCell<QueryCache>,
    /// Time of the last notification of the watchers, in milliseconds since the epoch.
    last_notify: Cell<f64>,
    /// Whether a notification was skipped because the last one was less than a second before.
    notify_pending: Cell<bool>,
    /// Whether an alarm is set.
    alarm_set: Cell<bool>,
    /// Whether a report has arrived since the last alarm.
    had_report: Cell<bool>,
    /// Start of the hour in which `roll_up` last ran, in seconds since the epoch.
    rolled_up_hour: Cell<u64>,
}

// A panic leaves each table consistent, because every statement is atomic. At worst, counters are
// too low. `worker` requires these traits in builds that unwind.
impl UnwindSafe for Ledger {}
impl RefUnwindSafe for Ledger {}

/// Results of queries of the tables, by query. They are valid until the end of the minute in which
/// they were read.
#[derive(Default)]
struct QueryCache {
    /// Minutes since the epoch.
    minute: u64,
    /// Counters by number of minutes, end and kind, the newest result first.
    counters: Vec<((u64, Option<u64>, String), Counters)>,
    /// Time series, the newest first.
    series: Vec<(TimeBuckets, Series)>,
    /// Sums of counters by period and kinds, the newest first.
    sums: Vec<((Period, &'static [&'static str]), u64)>,
}

impl DurableObject for Ledger {
    fn new(state: State, env: Env) -> Self {
        let sql = state.storage().sql();
        let schema = [SCHEMA, decisions::SCHEMA, enforced::SCHEMA].concat();
        let recent = sql.exec(&schema, None).and_then(|_| read_slices(&sql));
        if let Err(error) = &recent {
            log::registry_event("ledger", Some(&error.to_string()));
        }
        Self {
            state,
            recent: RefCell::new(recent.unwrap_or_default()),
            decisions: RefCell::default(),
            enforced: RefCell::default(),
            names: RefCell::default(),
            settings: Settings::from_env(&env),
            cache: RefCell::default(),
            last_notify: Cell::new(0.0),
            notify_pending: Cell::new(false),
            current_minute: RefCell::default(),
            alarm_set: Cell::new(false),
            had_report: Cell::new(false),
            rolled_up_hour: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        panic::install_hook();
        if request.method() == Method::Post {
            let text = request.text().await?;
            if text.len() > MAX_REPORT_BYTES {
                return Response::error("the report is too large: expected at most 4 MiB", 413);
            }
            if request.path() == "/senders" {
                return self.senders(&text);
            }
            return self.record_report(&text).await;
        }
        let query = query_parameters(&request);
        let param = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        match request.path().as_str() {
            "/live" => self.accept_watcher(&request),
            "/series" => match TimeBuckets::parse(param("from"), param("step"), param("count")) {
                Some(buckets) => Response::from_json(&self.series(&buckets)?),
                None => Response::error("invalid `from`, `step` or `count`", 400),
            },
            "/totals" => Response::from_json(&self.totals()?),
            "/decisions" => Response::from_json(&self.find_decisions(&query)?),
            _ => Response::from_json(&match param("minutes").parse() {
                Ok(minutes) => {
                    self.sum_minutes(minutes, param("until").parse().ok(), param("kind"))?
                }
                Err(_) => self.last_minute(),
            }),
        }
    }

    /// Ignores messages of watchers.
    async fn websocket_message(
        &self,
        _socket: WebSocket,
        _message: WebSocketIncomingMessage,
    ) -> worker::Result<()> {
        Ok(())
    }

    async fn websocket_close(
        &self,
        socket: WebSocket,
        _code: usize,
        _reason: String,
        _was_clean: bool,
    ) -> worker::Result<()> {
        // The platform may have closed the WebSocket already, so errors are ignored.
        let _ = socket.close(Some(1000), Some("bye"));
        Ok(())
    }

    async fn websocket_error(&self, _socket: WebSocket, _error: Error) -> worker::Result<()> {
        Ok(())
    }

    async fn alarm(&self) -> worker::Result<Response> {
        panic::install_hook();
        self.alarm_set.set(false);
        let is_idle = !self.had_report.take();
        if self.notify_pending.take() {
            self.notify_watchers();
        }
        self.decisions.borrow_mut().save(&self.sql())?;
        self.save_enforced()?;
        self.send_names().await;
        if is_idle {
            self.flush()?;
            self.save_recent()?;
        }
        self.roll_up()?;
        if is_idle {
            // This alarm deletes old decisions if no report arrives before.
            if let Some(seconds) = self.seconds_until_expiry()? {
                self.state.storage().set_alarm(Duration::from_secs(seconds)).await?;
            }
        } else {
            self.ensure_alarm().await?;
        }
        Response::empty()
    }
}

impl Ledger {
    /// Records a report, and sets the alarm. Answers 204, or 400 if the report is malformed.
    async fn record_report(&self, text: &str) -> worker::Result<Response> {
        let Some(report) = Report::parse(text) else {
            return Response::error("invalid report: expected counters and decisions", 400);
        };
        let Report { counters, decisions, enforced, settings, names, labels } = report;
        self.record_counters(counters)?;
        self.decisions.borrow_mut().record(decisions);
        self.enforced.borrow_mut().record(enforced);
        self.queue_names(names, labels);
        self.notify_watchers();
        // The report is recorded. Do not fail the call if the settings cannot be stored or the
        // alarm cannot be set: the isolate would send the report again.
        let stored = self.apply_settings(settings);
        for result in [stored, self.ensure_alarm().await] {
            if let Err(error) = result {
                log::registry_event("ledger", Some(&error.to_string()));
            }
        }
        Ok(ResponseBuilder::new().with_status(204).empty())
    }

    /// Uses the settings of a report, and writes the enforced decisions if they are too large to
    /// wait for the alarm.
    fn apply_settings(&self, settings: Option<DecisionSettings>) -> worker::Result<()> {
        if let Some(settings) = settings {
            self.enforced.borrow_mut().apply_settings(&self.sql(), settings)?;
        }
        if self.enforced.borrow().must_save() { self.save_enforced() } else { Ok(()) }
    }

    /// Writes the enforced decisions that are not written yet, and counts those that the quota
    /// deletes.
    fn save_enforced(&self) -> worker::Result<()> {
        let deleted = self.enforced.borrow_mut().save(&self.sql(), now_ms())?;
        if deleted == 0 {
            return Ok(());
        }
        let mut counters = Counters::default();
        counters.add(vec![ENFORCED_EVICTED.to_owned()], deleted);
        self.record_counters(counters)
    }

    /// Returns the seconds after which stored decisions expire, at least an hour, because old ones
    /// are deleted once an hour; `None` if no decisions are stored.
    fn seconds_until_expiry(&self) -> worker::Result<Option<u64>> {
        let sql = self.sql();
        let sampled = has_stored_decisions(&sql)?.then_some(RETENTION_SECONDS);
        let now = clock::now_seconds();
        let enforced = self.enforced.borrow_mut().seconds_until_expiry(&sql, now)?;
        Ok(sampled.into_iter().chain(enforced).min().map(|seconds| seconds.max(HOUR)))
    }

    /// Adds reported counters to the current minute and slice.
    fn record_counters(&self, counters: Counters) -> worker::Result<()> {
        let now = clock::now_seconds();
        self.flush_if_over(now)?;
        self.had_report.set(true);
        {
            let mut minute = self.current_minute.borrow_mut();
            minute.0 = now - now % MINUTE;
            minute.1.merge(counters.clone());
        }
        let mut recent = self.recent.borrow_mut();
        recent.retain(|(start, _)| start + RECENT_SECONDS + SLICE_SECONDS > now);
        let slice = now - now % SLICE_SECONDS;
        match recent.iter_mut().find(|(start, _)| *start == slice) {
            Some((_, existing)) => existing.merge(counters),
            None => recent.push((slice, counters)),
        }
        Ok(())
    }

    /// Sets the alarm, unless it is set.
    async fn ensure_alarm(&self) -> worker::Result<()> {
        if self.alarm_set.replace(true) {
            return Ok(());
        }
        let result =
            self.state.storage().set_alarm(Duration::from_secs(ALARM_INTERVAL_SECONDS)).await;
        // Reset the flag only after a failure: during the await, the alarm may have run and been
        // set again.
        if result.is_err() {
            self.alarm_set.set(false);
        }
        result
    }

    /// Returns the counters of the last 60 seconds.
    fn last_minute(&self) -> Counters {
        let now = clock::now_seconds();
        let mut merged = Counters::default();
        for (start, counters) in self.recent.borrow().iter() {
            if start + RECENT_SECONDS > now {
                merged.merge(counters.clone());
            }
        }
        merged
    }

    /// Returns the counters of the last `minutes`, or of the `minutes` before `until` in seconds
    /// since the epoch. Beyond two days, the period is rounded to hours. `kind` selects stored
    /// counters whose kind begins with it; the counters of the current minute, which are in memory,
    /// are all included if the minute is in the period.
    fn sum_minutes(
        &self,
        minutes: u64,
        until: Option<u64>,
        kind: &str,
    ) -> worker::Result<Counters> {
        let query = (minutes, until, kind.to_owned());
        let load = || self.read_counters(minutes, until, kind);
        let mut totals = self.cached(|cache| &mut cache.counters, &query, load)?;
        let (start, counters) = &*self.current_minute.borrow();
        if until.is_none_or(|until| until > *start) {
            totals.merge_unbounded(counters.clone());
        }
        Ok(totals)
    }

    /// Returns the time series for `buckets`, including the counters of the current minute.
    fn series(&self, buckets: &TimeBuckets) -> worker::Result<Series> {
        let mut series =
            self.cached(|cache| &mut cache.series, buckets, || self.read_series(buckets))?;
        let (start, minute) = &*self.current_minute.borrow();
        minute.iter().for_each(|(key, count)| series.add(buckets, *start, key, count));
        Ok(series)
    }

    /// Returns the result of `query` from the list of the cache that `select` returns. If the list
    /// does not have it, calls `load` and caches the result. Watchers repeat their queries, but the
    /// tables change only once a minute.
    fn cached<K: PartialEq + Clone, V: Clone>(
        &self,
        select: fn(&mut QueryCache) -> &mut Vec<(K, V)>,
        query: &K,
        load: impl FnOnce() -> worker::Result<V>,
    ) -> worker::Result<V> {
        let minute = clock::now_seconds() / MINUTE;
        let mut cache = self.cache.borrow_mut();
        if cache.minute != minute {
            *cache = QueryCache { minute, ..QueryCache::default() };
        }
        if let Some((_, value)) = select(&mut cache).iter().find(|(key, _)| key == query) {
            return Ok(value.clone());
        }
        let value = load()?;
        let entries = select(&mut cache);
        entries.truncate(MAX_CACHED_QUERIES - 1);
        entries.insert(0, (query.clone(), value.clone()));
        Ok(value)
    }

    /// Opens a WebSocket for a watcher.
    fn accept_watcher(&self, request: &Request) -> worker::Result<Response> {
        if self.state.get_websockets().len() >= MAX_WATCHERS {
            return Response::error("too many WebSockets are open", 503);
        }
        let pair = WebSocketPair::new()?;
        self.state.accept_web_socket(&pair.server);
        let response = Response::from_websocket(pair.client)?;
        // A client that offers no protocol must not get a protocol in the response.
        if request.headers().get("sec-websocket-protocol")?.is_some() {
            response.headers().set("sec-websocket-protocol", WEBSOCKET_PROTOCOL)?;
        }
        Ok(response)
    }

    /// Sends `{"new":true}` to all watchers, at most once a second. If the last notification is
    /// less than a second old, the alarm sends this one later.
    fn notify_watchers(&self) {
        let now = now_ms();
        if now < self.last_notify.get() + NOTIFY_INTERVAL_MS {
            self.notify_pending.set(true);
            return;
        }
        self.last_notify.set(now);
        for socket in self.state.get_websockets() {
            // Errors are ignored: the platform closes the WebSockets of watchers that have
            // disconnected.
            let _ = socket.send_with_str("{\"new\":true}");
        }
    }

    /// Writes the slices of the last minute to the table `slice`, because the platform removes an
    /// idle object from memory.
    fn save_recent(&self) -> worker::Result<()> {
        let sql = self.sql();
        sql.exec("DELETE FROM slice", None)?;
        let oldest = clock::now_seconds().saturating_sub(RECENT_SECONDS);
        for (start, counters) in self.recent.borrow().iter().filter(|(start, _)| *start >= oldest) {
            let json = serde_json::to_string(counters).unwrap_or_default();
            let query = "INSERT OR REPLACE INTO slice (start, counters) VALUES (?, ?)";
            sql.exec(query, vec![integer(*start), json.into()])?;
        }
        Ok(())
    }

    fn sql(&self) -> SqlStorage {
        self.state.storage().sql()
    }
}

/// Reads the slices that an object wrote when it became idle.
fn read_slices(sql: &SqlStorage) -> worker::Result<Vec<(u64, Counters)>> {
    #[derive(Deserialize)]
    struct Slice {
        start: u64,
        counters: String,
    }
    let rows: Vec<Slice> =
        sql.exec("SELECT start, counters FROM slice ORDER BY start", None)?.to_array()?;
    let parse = |row: Slice| Some((row.start, serde_json::from_str(&row.counters).ok()?));
    Ok(rows.into_iter().filter_map(parse).collect())
}
