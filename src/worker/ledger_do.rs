//! The ledger: Durable Objects that add up what isolates report. Each keeps the last minute in memory
//! as it comes, and writes whole minutes to SQLite, which become hours later: a write a minute for each
//! key, however many requests there are.
//!
//! The platform takes an object's memory when it has been idle for ten seconds. An alarm comes before
//! that, and writes what is not written yet; one that crashes loses at most a minute.
//!
//! | kept | for |
//! |---|---|
//! | slices of five seconds | a minute |
//! | minutes | two days |
//! | hours | 31 days |
//! | the last two thousand decisions | a week |
//!
//! Whoever watches holds a WebSocket, which is told whenever a report has come; it costs nothing while
//! the object sleeps.

pub mod counters;
pub mod series;

mod decisions;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use serde::Deserialize;
use worker::{
    DurableObject, Env, Error, Method, Request, Response, ResponseBuilder, SqlStorage,
    SqlStorageValue, State, WebSocket, WebSocketIncomingMessage, WebSocketPair, durable_object,
};

pub use self::decisions::{DecisionMatches, MAX_DECISIONS, MAX_PAGE};
use self::decisions::{Decisions, RETENTION_SECONDS, has_stored_decisions, prune};
use crate::ledger_do::counters::{CounterKey, Counters, Report};
use crate::ledger_do::series::{SERIES_KINDS, Series, TimeBuckets};
use crate::platform::clock::now_ms;
use crate::platform::sql::integer;
use crate::platform::{clock, log, panic};

/// The protocol that a browser has to be answered.
pub const WEBSOCKET_PROTOCOL: &str = "hedgerow.v1";

/// Seconds of a slice.
const SLICE_SECONDS: u64 = 5;

/// Seconds that `traffic` covers unless more is asked for.
pub const RECENT_SECONDS: u64 = 60;

/// Seconds between two alarms, while reports come: less than the ten after which memory is taken.
const ALARM_INTERVAL_SECONDS: u64 = 7;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// Seconds that minutes are kept.
const MINUTE_RETENTION_SECONDS: u64 = 48 * HOUR;

/// Seconds that hours are kept.
const HOUR_RETENTION_SECONDS: u64 = 31 * 24 * HOUR;

/// WebSockets that are held at most.
const MAX_WATCHERS: usize = 64;

/// Bytes that a report has at most.
const MAX_REPORT_BYTES: usize = 4 << 20;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rollup (seconds INTEGER NOT NULL, start INTEGER NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (seconds, start, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rolled (hour INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS slice (start INTEGER PRIMARY KEY, counters TEXT NOT NULL);
";

/// One of the objects.
#[durable_object]
pub struct Ledger {
    state: State,
    /// Slices by their start, in seconds since the epoch.
    recent: RefCell<Vec<(u64, Counters)>>,
    /// The minute that is being counted, by its start.
    current_minute: RefCell<(u64, Counters)>,
    /// The last decisions.
    decisions: RefCell<Decisions>,
    /// What was read of the tables, until they change.
    cache: RefCell<QueryCache>,
    /// When those who watch were told last, in milliseconds since the epoch; and whether there is more.
    last_notify: Cell<f64>,
    notify_pending: Cell<bool>,
    /// Whether an alarm is set, and whether a report came since the last one.
    alarm_set: Cell<bool>,
    had_report: Cell<bool>,
    /// The hour before which minutes were looked at.
    rolled_up_hour: Cell<u64>,
}

// A panic within leaves tables as they were, for each statement is whole by itself, and counters at worst
// too low. `worker` asks for this where panics unwind.
impl UnwindSafe for Ledger {}
impl RefUnwindSafe for Ledger {}

impl DurableObject for Ledger {
    fn new(state: State, _env: Env) -> Self {
        let sql = state.storage().sql();
        let schema = [SCHEMA, decisions::SCHEMA].concat();
        let recent = sql.exec(&schema, None).and_then(|_| read_slices(&sql));
        if let Err(error) = &recent {
            log::registry_event("ledger", Some(&error.to_string()));
        }
        Self {
            state,
            recent: RefCell::new(recent.unwrap_or_default()),
            decisions: RefCell::default(),
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
                return Response::error("too large", 413);
            }
            let Some(Report { counters, decisions }) = Report::parse(&text) else {
                return Response::error("no report", 400);
            };
            self.record_counters(counters)?;
            self.decisions.borrow_mut().record(decisions);
            self.notify_watchers();
            // Counted is counted: that no alarm can be set is no reason to have it sent again.
            if let Err(error) = self.ensure_alarm().await {
                log::registry_event("ledger", Some(&error.to_string()));
            }
            return Ok(ResponseBuilder::new().with_status(204).empty());
        }
        let url = request.url()?;
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let param = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        match url.path() {
            "/live" => self.accept_watcher(&request),
            "/series" => match TimeBuckets::parse(param("from"), param("step"), param("count")) {
                Some(steps) => Response::from_json(&self.series(&steps)?),
                None => Response::error("no steps", 400),
            },
            "/decisions" => {
                let mut decisions = self.decisions.borrow_mut();
                decisions.restore(&self.sql())?;
                Response::from_json(&decisions.find(&query, now_ms()))
            }
            _ => Response::from_json(&match param("minutes").parse() {
                Ok(minutes) => self.last_minutes(minutes, param("kind"))?,
                Err(_) => self.last_minute(),
            }),
        }
    }

    /// Nothing that comes from who watches means anything.
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
        // The platform answers for us, or has done so.
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
        if is_idle {
            self.flush()?;
            self.save_recent()?;
            // What is kept for a week is to go after it, even if nothing comes any more.
            if has_stored_decisions(&self.sql())? {
                self.state.storage().set_alarm(Duration::from_secs(RETENTION_SECONDS)).await?;
            }
        } else {
            self.ensure_alarm().await?;
        }
        self.roll_up()?;
        Response::empty()
    }
}

impl Ledger {
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

    async fn ensure_alarm(&self) -> worker::Result<()> {
        if self.alarm_set.replace(true) {
            return Ok(());
        }
        let result =
            self.state.storage().set_alarm(Duration::from_secs(ALARM_INTERVAL_SECONDS)).await;
        // The alarm may have come meanwhile, and disarmed: only a failure is ours to note.
        if result.is_err() {
            self.alarm_set.set(false);
        }
        result
    }

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

    /// The counts of the last minutes: of hours, where minutes are not kept so long. Of those that are
    /// stored, only keys whose first part begins like `kind`.
    fn last_minutes(&self, minutes: u64, kind: &str) -> worker::Result<Counters> {
        let query = (minutes, kind.to_owned());
        let mut totals =
            self.cached(|cache| &mut cache.counters, &query, || self.read_counters(minutes, kind))?;
        totals.merge_unbounded(self.current_minute.borrow().1.clone());
        Ok(totals)
    }

    fn read_counters(&self, minutes: u64, kind: &str) -> worker::Result<Counters> {
        let mut totals = Counters::default();
        for (seconds, from, to) in windows(clock::now_seconds(), minutes) {
            let query = "SELECT key, SUM(count) AS count FROM rollup
                WHERE seconds = ? AND start >= ? AND start < ? AND substr(key, 3, length(?)) = ? GROUP BY key";
            let mut values = [seconds, from, to].map(integer).to_vec();
            values.extend([kind, kind].map(SqlStorageValue::from));
            let rows: Vec<CounterRow> = self.sql().exec(query, values)?.to_array()?;
            for row in rows {
                let key: CounterKey = serde_json::from_str(&row.key).unwrap_or_default();
                totals.add_unbounded(key, row.count);
            }
        }
        Ok(totals)
    }

    /// The same over time.
    fn series(&self, buckets: &TimeBuckets) -> worker::Result<Series> {
        let mut series =
            self.cached(|cache| &mut cache.series, buckets, || self.read_series(buckets))?;
        let (start, minute) = &*self.current_minute.borrow();
        minute.iter().for_each(|(key, count)| series.add(buckets, *start, key, count));
        Ok(series)
    }

    fn read_series(&self, buckets: &TimeBuckets) -> worker::Result<Series> {
        let mut series = Series::default();
        let now = clock::now_seconds();
        let minutes = now.saturating_sub(buckets.start).div_ceil(MINUTE);
        let kinds = SERIES_KINDS
            .map(|kind| format!("substr(key, 3, {}) = '{kind}'", kind.len()))
            .join(" OR ");
        for (seconds, from, to) in windows(now, minutes) {
            // Steps are whole hours where minutes are not kept so long.
            let (from, to) = (from.max(buckets.start), to.min(buckets.end()));
            let query = format!(
                "SELECT start - (start - ?) % ? AS at, key, SUM(count) AS count FROM rollup
                WHERE seconds = ? AND start >= ? AND start < ? AND ({kinds}) GROUP BY at, key"
            );
            let values = [buckets.start, buckets.step, seconds, from, to].map(integer).to_vec();
            let rows: Vec<SeriesRow> = self.sql().exec(&query, values)?.to_array()?;
            for row in rows {
                let key: CounterKey = serde_json::from_str(&row.key).unwrap_or_default();
                series.add(buckets, row.at, &key, row.count);
            }
        }
        Ok(series)
    }

    /// What was read of the tables for a question, or is now: those who watch ask the same again and again,
    /// and tables change once a minute.
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

    /// Lets somebody watch.
    fn accept_watcher(&self, request: &Request) -> worker::Result<Response> {
        if self.state.get_websockets().len() >= MAX_WATCHERS {
            return Response::error("too many watch already", 503);
        }
        let pair = WebSocketPair::new()?;
        self.state.accept_web_socket(&pair.server);
        let response = Response::from_websocket(pair.client)?;
        // Who offers none may be answered none.
        if request.headers().get("sec-websocket-protocol")?.is_some() {
            response.headers().set("sec-websocket-protocol", WEBSOCKET_PROTOCOL)?;
        }
        Ok(response)
    }

    /// Tells all who watch that there is something new, at most once a second.
    fn notify_watchers(&self) {
        let now = now_ms();
        if now < self.last_notify.get() + 1_000.0 {
            self.notify_pending.set(true);
            return;
        }
        self.last_notify.set(now);
        for socket in self.state.get_websockets() {
            // One that has gone is closed by the platform.
            let _ = socket.send_with_str("{\"new\":true}");
        }
    }

    /// Writes the minute that was counted, if it is over.
    fn flush_if_over(&self, now: u64) -> worker::Result<()> {
        let is_over = self.current_minute.borrow().0 != now - now % MINUTE;
        if is_over { self.flush() } else { Ok(()) }
    }

    /// Writes the minute that was counted. What cannot be written stays.
    fn flush(&self) -> worker::Result<()> {
        let mut minute = self.current_minute.borrow_mut();
        let (start, counters) = &mut *minute;
        let sql = self.sql();
        if !counters.is_empty() {
            *self.cache.borrow_mut() = QueryCache::default();
        }
        while let Some((key, count)) = counters.first() {
            let key_json = serde_json::to_string(&key).unwrap_or_default();
            let query = "INSERT INTO rollup (seconds, start, key, count) VALUES (?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET count = count + excluded.count";
            let values = vec![integer(MINUTE), integer(*start), key_json.into(), integer(count)];
            sql.exec(query, values)?;
            counters.remove(&key);
        }
        Ok(())
    }

    /// Writes the slices of the last minute, for an object that will have lost its memory.
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

    /// Makes hours of the minutes of hours that are over, and forgets what is old.
    fn roll_up(&self) -> worker::Result<()> {
        let now = clock::now_seconds();
        let this_hour = now - now % HOUR;
        if self.rolled_up_hour.replace(this_hour) == this_hour {
            return Ok(());
        }
        // The last minute of an hour belongs to it.
        self.flush_if_over(now)?;
        let sql = self.sql();
        // Hours are made in order: only what came after the last one is looked at.
        let query = "INSERT OR REPLACE INTO rollup (seconds, start, key, count)
            SELECT ?, start - start % ?, key, SUM(count) FROM rollup
            WHERE seconds = ? AND start < ? AND start >= (SELECT IFNULL(MAX(hour) + ?, 0) FROM rolled)
            GROUP BY start - start % ?, key";
        let values = [HOUR, HOUR, MINUTE, this_hour, HOUR, HOUR].map(integer).to_vec();
        sql.exec(query, values)?;
        #[derive(Deserialize)]
        struct RolledUpHour {}
        let query = "INSERT OR IGNORE INTO rolled (hour) VALUES (?) RETURNING hour";
        let newly_rolled_up: Vec<RolledUpHour> =
            sql.exec(query, vec![integer(this_hour - HOUR)])?.to_array()?;
        // An object that wakes each minute does so once an hour, too.
        if !newly_rolled_up.is_empty() {
            prune(&sql)?;
        }
        for (seconds, retention) in
            [(MINUTE, MINUTE_RETENTION_SECONDS), (HOUR, HOUR_RETENTION_SECONDS)]
        {
            let values = [seconds, now.saturating_sub(retention)].map(integer).to_vec();
            sql.exec("DELETE FROM rollup WHERE seconds = ? AND start < ?", values)?;
        }
        let cutoff = vec![integer(now.saturating_sub(HOUR_RETENTION_SECONDS))];
        sql.exec("DELETE FROM rolled WHERE hour < ?", cutoff).map(drop)
    }

    fn sql(&self) -> SqlStorage {
        self.state.storage().sql()
    }
}

/// The slices that were written.
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

/// What was read of the tables within a minute, by what was asked.
#[derive(Default)]
struct QueryCache {
    minute: u64,
    counters: Vec<((u64, String), Counters)>,
    series: Vec<(TimeBuckets, Series)>,
}

/// Questions whose answers are held.
const MAX_CACHED_QUERIES: usize = 8;

/// A count at a time.
#[derive(Deserialize)]
struct SeriesRow {
    at: u64,
    key: String,
    count: u64,
}

#[derive(Deserialize)]
struct CounterRow {
    key: String,
    count: u64,
}

/// The parts of the table that hold the last minutes, each as the length of its rows, from and to when
/// they begin: minutes as far back as they are kept, hours before that.
fn windows(now: u64, minutes: u64) -> [(u64, u64, u64); 2] {
    let from = now.saturating_sub(minutes.saturating_mul(MINUTE));
    let oldest_minute = now.saturating_sub(MINUTE_RETENTION_SECONDS);
    // Where hours end minutes go on; an hour of which minutes are gone is told by the hour.
    let minutes_from =
        if from >= oldest_minute { from } else { oldest_minute - oldest_minute % HOUR + HOUR };
    [(MINUTE, minutes_from, now + MINUTE), (HOUR, from, minutes_from.max(from))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_hours_meet_without_a_gap() {
        let now = 1_800_000_000 + 1_234;
        for minutes in [1, 10, 60, 2_879, 2_880, 2_881, 3_000, 10_000, 43_200] {
            let [(_, minutes_from, to), (_, hours_from, hours_to)] = windows(now, minutes);
            assert_eq!(to, now + MINUTE, "the minute that is being counted is in");
            assert_eq!(hours_to, minutes_from, "{minutes}: they meet");
            let from = now - minutes * MINUTE;
            if from >= now - MINUTE_RETENTION_SECONDS {
                assert_eq!((minutes_from, hours_from), (from, hours_to), "{minutes}: no hours");
            } else {
                assert_eq!(hours_from, from);
                assert_eq!(minutes_from % HOUR, 0, "{minutes}: hours are whole");
                assert!(
                    minutes_from >= now - MINUTE_RETENTION_SECONDS,
                    "{minutes}: minutes are there yet"
                );
                assert!(minutes_from <= now - MINUTE_RETENTION_SECONDS + HOUR);
            }
        }
    }
}
