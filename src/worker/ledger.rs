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

use self::decisions::{Decisions, LIFE, is_any, prune};
use crate::clock::{self, millis};
use crate::insight::PROTOCOL;
use crate::log;
use crate::series::{KINDS, Series, Steps};
use crate::sql::integer;
use crate::tally::{Key, Report, Tally};

pub use self::decisions::{Found, MOST, MOST_TOLD};

/// Seconds of a slice.
const SLICE: u64 = 5;

/// Seconds that `traffic` covers unless more is asked for.
pub const RECENT: u64 = 60;

/// Seconds between two alarms, while reports come: less than the ten after which memory is taken.
const ALARM: u64 = 7;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// Seconds that minutes are kept.
const MINUTES_KEPT: u64 = 48 * HOUR;

/// Seconds that hours are kept.
const HOURS_KEPT: u64 = 31 * 24 * HOUR;

/// WebSockets that are held at most.
const WATCHERS: usize = 64;

/// Bytes that a report has at most.
const MAX_REPORT: usize = 4 << 20;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS rollup (seconds INTEGER NOT NULL, start INTEGER NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (seconds, start, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rolled (hour INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS slice (start INTEGER PRIMARY KEY, tally TEXT NOT NULL);
";

/// One of the objects.
#[durable_object]
pub struct Ledger {
    state: State,
    /// Slices by their start, in seconds since the epoch.
    recent: RefCell<Vec<(u64, Tally)>>,
    /// The minute that is being counted, by its start.
    minute: RefCell<(u64, Tally)>,
    /// The last decisions.
    decisions: RefCell<Decisions>,
    /// What was read of the tables, until they change.
    read: RefCell<Read>,
    /// When those who watch were told last, in milliseconds since the epoch; and whether there is more.
    told: Cell<f64>,
    untold: Cell<bool>,
    /// Whether an alarm is set, and whether a report came since the last one.
    armed: Cell<bool>,
    reported: Cell<bool>,
    /// The hour before which minutes were looked at.
    rolled: Cell<u64>,
}

// A panic within leaves tables as they were, for each statement is whole by itself, and counters at worst
// too low. `worker` asks for this where panics unwind.
impl UnwindSafe for Ledger {}
impl RefUnwindSafe for Ledger {}

impl DurableObject for Ledger {
    fn new(state: State, _env: Env) -> Self {
        let sql = state.storage().sql();
        let schema = [SCHEMA, decisions::SCHEMA].concat();
        let recent = sql.exec(&schema, None).and_then(|_| slices(&sql));
        if let Err(error) = &recent {
            log::registry("ledger", Some(&error.to_string()));
        }
        Self {
            state,
            recent: RefCell::new(recent.unwrap_or_default()),
            decisions: RefCell::default(),
            read: RefCell::default(),
            told: Cell::new(0.0),
            untold: Cell::new(false),
            minute: RefCell::default(),
            armed: Cell::new(false),
            reported: Cell::new(false),
            rolled: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        log::quiet_panics();
        if request.method() == Method::Post {
            let text = request.text().await?;
            if text.len() > MAX_REPORT {
                return Response::error("too large", 413);
            }
            let Some(Report { tally, decisions }) = Report::parse(&text) else {
                return Response::error("no report", 400);
            };
            self.add(tally)?;
            self.decisions.borrow_mut().report(decisions);
            self.tell();
            // Counted is counted: that no alarm can be set is no reason to have it sent again.
            if let Err(error) = self.arm().await {
                log::registry("ledger", Some(&error.to_string()));
            }
            return Ok(ResponseBuilder::new().with_status(204).empty());
        }
        let url = request.url()?;
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let asked = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        match url.path() {
            "/live" => self.watch(&request),
            "/series" => match Steps::parse(asked("from"), asked("step"), asked("count")) {
                Some(steps) => Response::from_json(&self.series(&steps)?),
                None => Response::error("no steps", 400),
            },
            "/decisions" => {
                let mut decisions = self.decisions.borrow_mut();
                decisions.restore(&self.sql())?;
                Response::from_json(&decisions.find(&query, millis()))
            }
            _ => Response::from_json(&match asked("minutes").parse() {
                Ok(minutes) => self.minutes(minutes, asked("kind"))?,
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
        log::quiet_panics();
        self.armed.set(false);
        let is_idle = !self.reported.take();
        if self.untold.take() {
            self.tell();
        }
        self.decisions.borrow_mut().save(&self.sql())?;
        if is_idle {
            self.flush()?;
            self.keep_slices()?;
            // What is kept for a week is to go after it, even if nothing comes any more.
            if is_any(&self.sql())? {
                self.state.storage().set_alarm(Duration::from_secs(LIFE)).await?;
            }
        } else {
            self.arm().await?;
        }
        self.roll_up()?;
        Response::empty()
    }
}

impl Ledger {
    fn add(&self, tally: Tally) -> worker::Result<()> {
        let now = clock::seconds();
        self.flush_if_over(now)?;
        self.reported.set(true);
        {
            let mut minute = self.minute.borrow_mut();
            minute.0 = now - now % MINUTE;
            minute.1.merge(tally.clone());
        }
        let mut recent = self.recent.borrow_mut();
        recent.retain(|(start, _)| start + RECENT + SLICE > now);
        let slice = now - now % SLICE;
        match recent.iter_mut().find(|(start, _)| *start == slice) {
            Some((_, known)) => known.merge(tally),
            None => recent.push((slice, tally)),
        }
        Ok(())
    }

    async fn arm(&self) -> worker::Result<()> {
        if self.armed.replace(true) {
            return Ok(());
        }
        let set = self.state.storage().set_alarm(Duration::from_secs(ALARM)).await;
        // The alarm may have come meanwhile, and disarmed: only a failure is ours to note.
        if set.is_err() {
            self.armed.set(false);
        }
        set
    }

    fn last_minute(&self) -> Tally {
        let now = clock::seconds();
        let mut sum = Tally::default();
        for (start, tally) in self.recent.borrow().iter() {
            if start + RECENT > now {
                sum.merge(tally.clone());
            }
        }
        sum
    }

    /// The counts of the last minutes: of hours, where minutes are not kept so long. Of those that are
    /// stored, only keys whose first part begins like `kind`.
    fn minutes(&self, minutes: u64, kind: &str) -> worker::Result<Tally> {
        let asked = (minutes, kind.to_owned());
        let mut sum = self.known(|read| &mut read.counts, &asked, || self.counts(minutes, kind))?;
        sum.gather(self.minute.borrow().1.clone());
        Ok(sum)
    }

    fn counts(&self, minutes: u64, kind: &str) -> worker::Result<Tally> {
        let mut sum = Tally::default();
        for (seconds, from, to) in windows(clock::seconds(), minutes) {
            let query = "SELECT key, SUM(count) AS count FROM rollup
                WHERE seconds = ? AND start >= ? AND start < ? AND substr(key, 3, length(?)) = ? GROUP BY key";
            let mut values = [seconds, from, to].map(integer).to_vec();
            values.extend([kind, kind].map(SqlStorageValue::from));
            let rows: Vec<Row> = self.sql().exec(query, values)?.to_array()?;
            for row in rows {
                let key: Key = serde_json::from_str(&row.key).unwrap_or_default();
                sum.put(key, row.count);
            }
        }
        Ok(sum)
    }

    /// The same over time.
    fn series(&self, steps: &Steps) -> worker::Result<Series> {
        let mut series = self.known(|read| &mut read.series, steps, || self.points(steps))?;
        let (start, minute) = &*self.minute.borrow();
        minute.iter().for_each(|(key, count)| series.add(steps, *start, key, count));
        Ok(series)
    }

    fn points(&self, steps: &Steps) -> worker::Result<Series> {
        let mut series = Series::default();
        let now = clock::seconds();
        let minutes = now.saturating_sub(steps.from).div_ceil(MINUTE);
        let kinds =
            KINDS.map(|kind| format!("substr(key, 3, {}) = '{kind}'", kind.len())).join(" OR ");
        for (seconds, from, to) in windows(now, minutes) {
            // Steps are whole hours where minutes are not kept so long.
            let (from, to) = (from.max(steps.from), to.min(steps.end()));
            let query = format!(
                "SELECT start - (start - ?) % ? AS at, key, SUM(count) AS count FROM rollup
                WHERE seconds = ? AND start >= ? AND start < ? AND ({kinds}) GROUP BY at, key"
            );
            let values = [steps.from, steps.step, seconds, from, to].map(integer).to_vec();
            let rows: Vec<Point> = self.sql().exec(&query, values)?.to_array()?;
            for row in rows {
                let key: Key = serde_json::from_str(&row.key).unwrap_or_default();
                series.add(steps, row.at, &key, row.count);
            }
        }
        Ok(series)
    }

    /// What was read of the tables for a question, or is now: those who watch ask the same again and again,
    /// and tables change once a minute.
    fn known<K: PartialEq + Clone, V: Clone>(
        &self,
        of: fn(&mut Read) -> &mut Vec<(K, V)>,
        asked: &K,
        read: impl FnOnce() -> worker::Result<V>,
    ) -> worker::Result<V> {
        let minute = clock::seconds() / MINUTE;
        let mut known = self.read.borrow_mut();
        if known.minute != minute {
            *known = Read { minute, ..Read::default() };
        }
        if let Some((_, value)) = of(&mut known).iter().find(|(own, _)| own == asked) {
            return Ok(value.clone());
        }
        let value = read()?;
        let all = of(&mut known);
        all.truncate(QUESTIONS - 1);
        all.insert(0, (asked.clone(), value.clone()));
        Ok(value)
    }

    /// Lets somebody watch.
    fn watch(&self, request: &Request) -> worker::Result<Response> {
        if self.state.get_websockets().len() >= WATCHERS {
            return Response::error("too many watch already", 503);
        }
        let pair = WebSocketPair::new()?;
        self.state.accept_web_socket(&pair.server);
        let response = Response::from_websocket(pair.client)?;
        // Who offers none may be answered none.
        if request.headers().get("sec-websocket-protocol")?.is_some() {
            response.headers().set("sec-websocket-protocol", PROTOCOL)?;
        }
        Ok(response)
    }

    /// Tells all who watch that there is something new, at most once a second.
    fn tell(&self) {
        let now = millis();
        if now < self.told.get() + 1_000.0 {
            self.untold.set(true);
            return;
        }
        self.told.set(now);
        for socket in self.state.get_websockets() {
            // One that has gone is closed by the platform.
            let _ = socket.send_with_str("{\"new\":true}");
        }
    }

    /// Writes the minute that was counted, if it is over.
    fn flush_if_over(&self, now: u64) -> worker::Result<()> {
        let is_over = self.minute.borrow().0 != now - now % MINUTE;
        if is_over { self.flush() } else { Ok(()) }
    }

    /// Writes the minute that was counted. What cannot be written stays.
    fn flush(&self) -> worker::Result<()> {
        let mut minute = self.minute.borrow_mut();
        let (start, tally) = &mut *minute;
        let sql = self.sql();
        if !tally.is_empty() {
            *self.read.borrow_mut() = Read::default();
        }
        while let Some((key, count)) = tally.first() {
            let text = serde_json::to_string(&key).unwrap_or_default();
            let query = "INSERT INTO rollup (seconds, start, key, count) VALUES (?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET count = count + excluded.count";
            let values = vec![integer(MINUTE), integer(*start), text.into(), integer(count)];
            sql.exec(query, values)?;
            tally.remove(&key);
        }
        Ok(())
    }

    /// Writes the slices of the last minute, for an object that will have lost its memory.
    fn keep_slices(&self) -> worker::Result<()> {
        let sql = self.sql();
        sql.exec("DELETE FROM slice", None)?;
        let oldest = clock::seconds().saturating_sub(RECENT);
        for (start, tally) in self.recent.borrow().iter().filter(|(start, _)| *start >= oldest) {
            let tally = serde_json::to_string(tally).unwrap_or_default();
            let query = "INSERT OR REPLACE INTO slice (start, tally) VALUES (?, ?)";
            sql.exec(query, vec![integer(*start), tally.into()])?;
        }
        Ok(())
    }

    /// Makes hours of the minutes of hours that are over, and forgets what is old.
    fn roll_up(&self) -> worker::Result<()> {
        let now = clock::seconds();
        let this_hour = now - now % HOUR;
        if self.rolled.replace(this_hour) == this_hour {
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
        struct Rolled {}
        let query = "INSERT OR IGNORE INTO rolled (hour) VALUES (?) RETURNING hour";
        let rolled: Vec<Rolled> = sql.exec(query, vec![integer(this_hour - HOUR)])?.to_array()?;
        // An object that wakes each minute does so once an hour, too.
        if !rolled.is_empty() {
            prune(&sql)?;
        }
        for (seconds, kept) in [(MINUTE, MINUTES_KEPT), (HOUR, HOURS_KEPT)] {
            let values = [seconds, now.saturating_sub(kept)].map(integer).to_vec();
            sql.exec("DELETE FROM rollup WHERE seconds = ? AND start < ?", values)?;
        }
        let old = vec![integer(now.saturating_sub(HOURS_KEPT))];
        sql.exec("DELETE FROM rolled WHERE hour < ?", old).map(drop)
    }

    fn sql(&self) -> SqlStorage {
        self.state.storage().sql()
    }
}

/// The slices that were written.
fn slices(sql: &SqlStorage) -> worker::Result<Vec<(u64, Tally)>> {
    #[derive(Deserialize)]
    struct Slice {
        start: u64,
        tally: String,
    }
    let rows: Vec<Slice> =
        sql.exec("SELECT start, tally FROM slice ORDER BY start", None)?.to_array()?;
    let read = |row: Slice| Some((row.start, serde_json::from_str(&row.tally).ok()?));
    Ok(rows.into_iter().filter_map(read).collect())
}

/// What was read of the tables within a minute, by what was asked.
#[derive(Default)]
struct Read {
    minute: u64,
    counts: Vec<((u64, String), Tally)>,
    series: Vec<(Steps, Series)>,
}

/// Questions whose answers are held.
const QUESTIONS: usize = 8;

/// A count at a time.
#[derive(Deserialize)]
struct Point {
    at: u64,
    key: String,
    count: u64,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    count: u64,
}

/// The parts of the table that hold the last minutes, each as the length of its rows, from and to when
/// they begin: minutes as far back as they are kept, hours before that.
fn windows(now: u64, minutes: u64) -> [(u64, u64, u64); 2] {
    let from = now.saturating_sub(minutes.saturating_mul(MINUTE));
    let kept = now.saturating_sub(MINUTES_KEPT);
    // Where hours end minutes go on; an hour of which minutes are gone is told by the hour.
    let minutes_from = if from >= kept { from } else { kept - kept % HOUR + HOUR };
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
            if from >= now - MINUTES_KEPT {
                assert_eq!((minutes_from, hours_from), (from, hours_to), "{minutes}: no hours");
            } else {
                assert_eq!(hours_from, from);
                assert_eq!(minutes_from % HOUR, 0, "{minutes}: hours are whole");
                assert!(minutes_from >= now - MINUTES_KEPT, "{minutes}: minutes are there yet");
                assert!(minutes_from <= now - MINUTES_KEPT + HOUR);
            }
        }
    }
}
