//! The enforced decisions of an object: requests that were refused or degraded. All of them are
//! kept, in rows of many decisions, until they are too old or the rows need too many bytes.
//!
//! A row is found by time. Its id is the time at which its first decision was written, so a row has
//! only decisions that were made before the id of the next row. A request id is a UUID of version 7
//! and begins with the time of the request. So a lookup by id reads only the rows that were written
//! soon after this time.

use std::collections::HashMap;

use hedgerow_core::rules::policy::DecisionSettings;
use serde::Deserialize;
use serde_json::value::RawValue;
use worker::{SqlStorage, SqlStorageValue};

use crate::ledger_do::decisions::StoredDecision;
use crate::ledger_do::enforced_page::{self, Page, parse_records};
use crate::ledger_do::period::Period;
use crate::platform::sql::integer;

/// The tables of enforced decisions, which the head of `ledger_do.rs` describes. `records` is the
/// last column, so that queries of the other columns do not read it.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS enforced_chunk (
    id INTEGER PRIMARY KEY, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
    count INTEGER NOT NULL, bytes INTEGER NOT NULL, records TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS enforced_setting (
    id INTEGER PRIMARY KEY, keep_days INTEGER NOT NULL, max_bytes INTEGER NOT NULL);
";

/// Maximum bytes of a row; a larger decision gets a row of its own.
const ROW_BYTES: usize = 256 << 10;

/// Bytes of unsaved decisions at which they are written without waiting for the alarm.
const MAX_UNSAVED_BYTES: usize = 2 << 20;

/// Maximum number of rows that are deleted at once because of the quota.
const MAX_DELETED_ROWS: u64 = 1_024;

/// Maximum number of rows that a lookup by id searches.
const MAX_SEARCHED_ROWS: u64 = 1_024;

/// Maximum number of rows at the ends of a period whose decisions are counted one by one.
const MAX_COUNTED_ROWS: u64 = 64;

/// Tolerance of a lookup by id, in milliseconds: clocks differ, and reports are late.
const TOLERANCE_MS: u64 = 120_000;

/// Milliseconds for which a request may be uploaded before its decision.
const MAX_UPLOAD_MS: u64 = 3_600_000;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// The enforced decisions of an object.
#[derive(Default)]
pub struct EnforcedDecisions {
    /// Decisions that are not written yet, the oldest first.
    unsaved: Vec<StoredDecision>,
    /// Bytes of their JSON.
    unsaved_bytes: usize,
    /// Settings of the last report; `None` until they are read or reported.
    settings: Option<DecisionSettings>,
    /// Bytes of all rows; `None` until they are read.
    stored_bytes: Option<u64>,
}

/// The decisions of a row, or those that are appended to a row.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chunk {
    /// Times of the oldest and the newest decision, in milliseconds since the epoch.
    first: u64,
    last: u64,
    count: u64,
    /// The JSON of each decision, followed by a line feed.
    records: String,
}

/// Size of a row.
#[derive(Clone, Copy, Debug, Deserialize)]
struct RowSize {
    id: u64,
    count: u64,
    bytes: u64,
}

impl RowSize {
    /// Returns the bytes that may be appended to the row at `now`, in milliseconds since the epoch.
    /// A row ends after a day, because a row is deleted as a whole.
    fn room(&self, now: u64) -> usize {
        let is_open = now.saturating_sub(self.id) < DAY * 1_000;
        let room = (ROW_BYTES as u64).saturating_sub(self.bytes);
        if is_open { room as usize } else { 0 }
    }
}

impl EnforcedDecisions {
    /// Adds decisions that an isolate reported. Malformed decisions are left out.
    pub fn record(&mut self, decisions: Vec<Box<RawValue>>) {
        for decision in decisions.into_iter().filter_map(StoredDecision::parse) {
            // A line feed would end the decision in its row.
            if !decision.text.get().contains('\n') {
                self.unsaved_bytes += decision.text.get().len();
                self.unsaved.push(decision);
            }
        }
    }

    /// Returns whether the unsaved decisions are so large that they must be written now.
    pub fn must_save(&self) -> bool {
        self.unsaved_bytes >= MAX_UNSAVED_BYTES
    }

    /// Uses the settings of a report. Writes them if they differ from the stored ones.
    pub fn apply_settings(
        &mut self,
        sql: &SqlStorage,
        settings: DecisionSettings,
    ) -> worker::Result<()> {
        if self.settings(sql)? == settings {
            return Ok(());
        }
        self.settings = Some(settings);
        let query = "INSERT OR REPLACE INTO enforced_setting (id, keep_days, max_bytes)
            VALUES (0, ?, ?)";
        let values = [settings.keep_days, settings.max_bytes].map(integer).to_vec();
        sql.exec(query, values).map(drop)
    }

    /// Returns the settings of the last report, or the defaults before the first report.
    fn settings(&mut self, sql: &SqlStorage) -> worker::Result<DecisionSettings> {
        if let Some(settings) = self.settings {
            return Ok(settings);
        }
        let query = "SELECT keep_days, max_bytes FROM enforced_setting";
        let rows: Vec<DecisionSettings> = sql.exec(query, None)?.to_array()?;
        Ok(*self.settings.insert(rows.first().copied().unwrap_or_default()))
    }

    /// Returns the seconds for which decisions are kept.
    pub fn retention_seconds(&mut self, sql: &SqlStorage) -> worker::Result<u64> {
        Ok(self.settings(sql)?.keep_days.saturating_mul(DAY))
    }

    /// Writes the unsaved decisions: appends them to the newest row until it is full, and adds rows
    /// for the others. Then deletes the oldest rows that exceed the quota, and returns the number
    /// of their decisions. `now` is in milliseconds since the epoch.
    pub fn save(&mut self, sql: &SqlStorage, now: f64) -> worker::Result<u64> {
        if self.unsaved.is_empty() {
            return Ok(0);
        }
        let query = "SELECT id, count, bytes FROM enforced_chunk ORDER BY id DESC LIMIT 1";
        let newest: Vec<RowSize> = sql.exec(query, None)?.to_array()?;
        let newest = newest.first().copied();
        let mut id = now.max(0.0) as u64;
        let room = newest.map_or(0, |row| row.room(id));
        let (appended, chunks) = divide(&self.unsaved, room);
        let stored_bytes = self.stored_bytes(sql)?;
        if let Some(row) = newest {
            id = id.max(row.id.saturating_add(1));
            append(sql, row.id, &appended)?;
        }
        for chunk in &chunks {
            insert(sql, id, chunk)?;
            id += 1;
        }
        let written = chunks.iter().chain([&appended]).map(|chunk| chunk.records.len() as u64);
        self.stored_bytes = Some(stored_bytes.saturating_add(written.sum()));
        self.unsaved.clear();
        self.unsaved_bytes = 0;
        self.delete_surplus(sql)
    }

    /// Returns the bytes of all rows.
    fn stored_bytes(&mut self, sql: &SqlStorage) -> worker::Result<u64> {
        if let Some(bytes) = self.stored_bytes {
            return Ok(bytes);
        }
        let query = "SELECT IFNULL(SUM(bytes), 0) AS number FROM enforced_chunk";
        Ok(*self.stored_bytes.insert(read_number(sql, query, Vec::new())?))
    }

    /// Deletes the oldest rows until the others are within the quota. Returns the number of deleted
    /// decisions.
    fn delete_surplus(&mut self, sql: &SqlStorage) -> worker::Result<u64> {
        let max_bytes = self.settings(sql)?.max_bytes;
        let stored_bytes = self.stored_bytes(sql)?;
        if stored_bytes <= max_bytes {
            return Ok(0);
        }
        let query = "SELECT id, count, bytes FROM enforced_chunk ORDER BY id LIMIT ?";
        let oldest: Vec<RowSize> = sql.exec(query, vec![integer(MAX_DELETED_ROWS)])?.to_array()?;
        let Some(surplus) = surplus(&oldest, stored_bytes - max_bytes) else { return Ok(0) };
        sql.exec("DELETE FROM enforced_chunk WHERE id <= ?", vec![integer(surplus.id)])?;
        self.stored_bytes = Some(stored_bytes.saturating_sub(surplus.bytes));
        Ok(surplus.count)
    }

    /// Deletes the rows whose decisions are all older than `keep_days`. `now` is in seconds since
    /// the epoch.
    pub fn prune(&mut self, sql: &SqlStorage, now: u64) -> worker::Result<()> {
        let oldest = now.saturating_sub(self.retention_seconds(sql)?).saturating_mul(1_000);
        self.stored_bytes = None;
        sql.exec("DELETE FROM enforced_chunk WHERE last_at < ?", vec![integer(oldest)]).map(drop)
    }

    /// Returns the decision with this request id, a UUID of version 7; `None` if it is not stored,
    /// if it is older than `keep_days`, or if the id is another text. `now` is in milliseconds
    /// since the epoch.
    pub fn find_by_id(
        &mut self,
        sql: &SqlStorage,
        id: &str,
        now: f64,
    ) -> worker::Result<Option<StoredDecision>> {
        let Some(time) = time_of_id(id) else { return Ok(None) };
        if let Some(unsaved) = self.unsaved.iter().find(|unsaved| unsaved.index.request_id == id) {
            return Ok(StoredDecision::parse(unsaved.text.clone()));
        }
        let latest = time.saturating_add(MAX_UPLOAD_MS + TOLERANCE_MS);
        let earliest = time.saturating_sub(TOLERANCE_MS);
        // The first row is the newest one that was begun before the request.
        let by_begin = "id <= ?1 AND id >=
            (SELECT IFNULL(MAX(id), 0) FROM enforced_chunk WHERE id <= ?2)";
        // A report that arrived much later, because the ledger was not reachable.
        let by_content = "first_at <= ?1 AND last_at >= ?2";
        let oldest = now - self.retention_seconds(sql)? as f64 * 1_000.0;
        for rows in [by_begin, by_content] {
            let found = find_in_rows(sql, rows, latest, earliest, id)?;
            if let Some(found) = found {
                return Ok(Some(found).filter(|decision| decision.index.at >= oldest));
            }
        }
        Ok(None)
    }

    /// Adds the decisions that match `query` to a page, the newest first, and returns the page.
    /// `now` is in milliseconds since the epoch.
    pub fn find(
        &mut self,
        sql: &SqlStorage,
        query: &HashMap<String, String>,
        now: f64,
    ) -> worker::Result<Page> {
        let oldest = now - self.retention_seconds(sql)? as f64 * 1_000.0;
        let mut page = Page::new(query, oldest);
        self.unsaved.iter().for_each(|decision| page.add(&decision.text));
        page.read_rows(|below, first| {
            let query = "SELECT id, records FROM enforced_chunk
                WHERE id < ? AND first_at <= ? ORDER BY id DESC LIMIT 1";
            let values = [below, first].map(integer).to_vec();
            let mut rows: Vec<enforced_page::Row> = sql.exec(query, values)?.to_array()?;
            Ok(rows.pop())
        })?;
        Ok(page)
    }

    /// Returns the number of decisions in a period.
    pub fn count_in(&self, sql: &SqlStorage, period: &Period) -> worker::Result<u64> {
        #[derive(Deserialize)]
        struct Records {
            records: String,
        }
        let bounds = [period.from, period.to].map(|at| integer(at.saturating_mul(1_000)));
        let [from, to] = &bounds;
        let query = "SELECT IFNULL(SUM(count), 0) AS number FROM enforced_chunk
            WHERE first_at >= ? AND last_at < ?";
        let whole = read_number(sql, query, bounds.to_vec())?;
        let query = "SELECT records FROM enforced_chunk
            WHERE last_at >= ? AND first_at < ? AND (first_at < ? OR last_at >= ?)
            ORDER BY id DESC LIMIT ?";
        let mut values = vec![from.clone(), to.clone(), from.clone(), to.clone()];
        values.push(integer(MAX_COUNTED_ROWS));
        let rows: Vec<Records> = sql.exec(query, values)?.to_array()?;
        let in_part = rows.iter().map(|row| count_records(&row.records, period)).sum::<u64>();
        let unsaved = self.unsaved.iter().filter(|decision| period.contains(decision.index.at));
        Ok(whole + in_part + unsaved.count() as u64)
    }

    /// Returns the number of stored decisions.
    pub fn stored_count(&self, sql: &SqlStorage) -> worker::Result<u64> {
        let query = "SELECT IFNULL(SUM(count), 0) AS number FROM enforced_chunk";
        Ok(read_number(sql, query, Vec::new())?.saturating_add(self.unsaved.len() as u64))
    }

    /// Returns the seconds after which the first row can be deleted; `None` without rows. `now` is
    /// in seconds since the epoch.
    pub fn seconds_until_expiry(
        &mut self,
        sql: &SqlStorage,
        now: u64,
    ) -> worker::Result<Option<u64>> {
        let query = "SELECT IFNULL(MIN(last_at), 0) AS number FROM enforced_chunk";
        let oldest = read_number(sql, query, Vec::new())? / 1_000;
        let expiry = oldest.saturating_add(self.retention_seconds(sql)?).saturating_add(1);
        Ok((oldest > 0).then(|| expiry.saturating_sub(now)))
    }
}

/// Reads the column `number` of the only row of a query.
fn read_number(sql: &SqlStorage, query: &str, values: Vec<SqlStorageValue>) -> worker::Result<u64> {
    #[derive(Deserialize)]
    struct Row {
        number: u64,
    }
    let row: Row = sql.exec(query, values)?.one()?;
    Ok(row.number)
}

/// Returns the decision with a request id in the rows that fulfil a condition, which has the
/// parameters `latest` (1) and `earliest` (2). The database searches the rows, so that only the row
/// with the id is copied.
fn find_in_rows(
    sql: &SqlStorage,
    condition: &str,
    latest: u64,
    earliest: u64,
    id: &str,
) -> worker::Result<Option<StoredDecision>> {
    #[derive(Deserialize)]
    struct Records {
        records: String,
    }
    let query = format!(
        "SELECT records FROM
            (SELECT records FROM enforced_chunk WHERE {condition} ORDER BY id LIMIT ?3)
        WHERE instr(records, ?4) > 0 LIMIT 1"
    );
    let mut values = [latest, earliest, MAX_SEARCHED_ROWS].map(integer).to_vec();
    values.push(id.into());
    let rows: Vec<Records> = sql.exec(&query, values)?.to_array()?;
    let mut decisions = rows.iter().flat_map(|row| parse_records(&row.records));
    Ok(decisions.find(|decision| decision.index.request_id == id))
}

/// Adds a row.
fn insert(sql: &SqlStorage, id: u64, chunk: &Chunk) -> worker::Result<()> {
    let query = "INSERT INTO enforced_chunk (id, first_at, last_at, count, bytes, records)
        VALUES (?, ?, ?, ?, ?, ?)";
    let bytes = chunk.records.len() as u64;
    let mut values = [id, chunk.first, chunk.last, chunk.count, bytes].map(integer).to_vec();
    values.push(chunk.records.as_str().into());
    sql.exec(query, values).map(drop)
}

/// Appends decisions to a row. Does nothing if the chunk is empty.
fn append(sql: &SqlStorage, id: u64, chunk: &Chunk) -> worker::Result<()> {
    if chunk.count == 0 {
        return Ok(());
    }
    let query = "UPDATE enforced_chunk SET first_at = min(first_at, ?), last_at = max(last_at, ?),
        count = count + ?, bytes = bytes + ?, records = records || ? WHERE id = ?";
    let bytes = chunk.records.len() as u64;
    let mut values = [chunk.first, chunk.last, chunk.count, bytes].map(integer).to_vec();
    values.extend([chunk.records.as_str().into(), integer(id)]);
    sql.exec(query, values).map(drop)
}

/// Divides decisions into a chunk of at most `room` bytes, which may be empty, and chunks of at
/// most [`ROW_BYTES`]. A decision that exceeds both gets a chunk of its own.
fn divide(decisions: &[StoredDecision], room: usize) -> (Chunk, Vec<Chunk>) {
    let (mut appended, mut chunks) = (Chunk::default(), Vec::<Chunk>::new());
    for decision in decisions {
        let fits = |chunk: &Chunk, max| chunk.records.len() + decision.text.get().len() < max;
        match chunks.last_mut() {
            None if fits(&appended, room) => appended.push(decision),
            Some(chunk) if fits(chunk, ROW_BYTES) => chunk.push(decision),
            _ => {
                let mut chunk = Chunk::default();
                chunk.push(decision);
                chunks.push(chunk);
            }
        }
    }
    (appended, chunks)
}

impl Chunk {
    fn push(&mut self, decision: &StoredDecision) {
        let at = decision.index.at.max(0.0) as u64;
        self.first = if self.count == 0 { at } else { self.first.min(at) };
        self.last = self.last.max(at);
        self.count += 1;
        self.records.push_str(decision.text.get());
        self.records.push('\n');
    }
}

/// Returns the sum of the first rows of `oldest` that together have at least `surplus_bytes`, with
/// the id of the last one. If all rows together have less, returns the sum of all. Returns `None`
/// if `oldest` is empty.
fn surplus(oldest: &[RowSize], surplus_bytes: u64) -> Option<RowSize> {
    let mut sum: Option<RowSize> = None;
    for row in oldest {
        let (count, bytes) = sum.map_or((0, 0), |sum| (sum.count, sum.bytes));
        if sum.is_some() && bytes >= surplus_bytes {
            break;
        }
        sum = Some(RowSize { id: row.id, count: count + row.count, bytes: bytes + row.bytes });
    }
    sum
}

/// Returns the number of decisions of a row that are in a period.
fn count_records(records: &str, period: &Period) -> u64 {
    #[derive(Deserialize)]
    struct Time {
        at: f64,
    }
    let times = records.lines().filter_map(|line| serde_json::from_str::<Time>(line).ok());
    times.filter(|time| period.contains(time.at)).count() as u64
}

/// Returns the time of a request id, in milliseconds since the epoch; `None` if the id is not a
/// UUID of version 7.
fn time_of_id(id: &str) -> Option<u64> {
    let is_valid = id.len() == 36
        && id.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'7',
            _ => byte.is_ascii_hexdigit(),
        });
    let (high, low) = (id.get(..8)?, id.get(9..13)?);
    is_valid.then_some(())?;
    u64::from_str_radix(&format!("{high}{low}"), 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decision(at: u64, padding: usize) -> StoredDecision {
        let text = json!({
            "request_id": format!("id-{at}"), "at": at as f64, "colo": "FRA", "model": null,
            "band": "hostile", "action": "block", "hits": [], "shadow_hits": [],
            "padding": "x".repeat(padding),
        });
        StoredDecision::parse(RawValue::from_string(text.to_string()).unwrap()).unwrap()
    }

    fn decisions(times: std::ops::Range<u64>, padding: usize) -> Vec<StoredDecision> {
        times.map(|at| decision(at, padding)).collect()
    }

    #[test]
    fn chunks_fill_the_newest_row_first() {
        let decisions = decisions(100..400, 1_000);
        let (appended, chunks) = divide(&decisions, 0);
        assert_eq!((appended, chunks.len()), (Chunk::default(), 2));
        let (appended, chunks) = divide(&decisions, 50_000);
        assert!(appended.records.len() <= 50_000 && appended.count > 40);
        assert_eq!((appended.first, appended.last), (100, 99 + appended.count));
        assert!(chunks.iter().all(|chunk| chunk.records.len() <= ROW_BYTES));
        let all = chunks.iter().chain([&appended]);
        assert_eq!(all.map(|chunk| chunk.count).sum::<u64>(), 300);
        let (appended, chunks) = divide(&decisions, ROW_BYTES * 2);
        assert_eq!((appended.count, chunks.len()), (300, 0));
        let ids: Vec<String> =
            parse_records(&appended.records).map(|decision| decision.index.request_id).collect();
        assert_eq!((ids.len(), ids[0].as_str(), ids[299].as_str()), (300, "id-100", "id-399"));
    }

    #[test]
    fn a_decision_larger_than_a_row_gets_its_own() {
        let large = [decision(1, 10), decision(2, ROW_BYTES), decision(3, 10)];
        let (appended, chunks) = divide(&large, 1_000);
        assert_eq!((appended.count, chunks.len()), (1, 2));
        assert_eq!((chunks[0].first, chunks[1].first), (2, 3));
    }

    #[test]
    fn the_quota_deletes_the_oldest_rows() {
        let row = |id| RowSize { id, count: 10, bytes: 100 };
        let rows = [row(1), row(2), row(3)];
        for (bytes, expected) in [(1, 1), (100, 1), (101, 2), (250, 3), (1_000, 3)] {
            let sum = surplus(&rows, bytes).unwrap();
            assert_eq!((sum.id, sum.count, sum.bytes), (expected, 10 * expected, 100 * expected));
        }
        assert!(surplus(&[], 1).is_none());
    }

    #[test]
    fn a_row_ends_when_it_is_full_or_a_day_old() {
        let day = DAY * 1_000;
        let rows = [
            (0, 0, ROW_BYTES),
            (100, day - 1, ROW_BYTES - 100),
            (100, day, 0),
            (ROW_BYTES as u64, 0, 0),
            (2 * ROW_BYTES as u64, 0, 0),
        ];
        for (bytes, age, expected) in rows {
            let row = RowSize { id: 7, count: 1, bytes };
            assert_eq!(row.room(7 + age), expected, "{bytes} bytes, {age} ms");
        }
    }

    #[test]
    fn malformed_decisions_are_not_stored() {
        let mut enforced = EnforcedDecisions::default();
        let texts = ["null", "{}", "{\n}"].map(|text| RawValue::from_string(text.into()).unwrap());
        enforced.record(texts.to_vec());
        assert_eq!((enforced.unsaved.len(), enforced.must_save()), (0, false));
        let large = decision(1, MAX_UNSAVED_BYTES);
        enforced.record(vec![large.text]);
        assert_eq!((enforced.unsaved.len(), enforced.must_save()), (1, true));
    }

    #[test]
    fn decisions_of_a_row_are_counted_in_a_period() {
        let (_, chunks) = divide(&decisions(59_990..60_010, 0), 0);
        let period = Period { from: 60, to: 120 };
        assert_eq!(count_records(&chunks[0].records, &period), 10);
    }

    #[test]
    fn request_ids_of_version_7_have_a_time() {
        let rows = [
            ("01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a", Some(0x0199_1b2c_3d4e)),
            ("01991B2C-3D4E-7C9E-9D38-3F2F6A9C8B7A", Some(0x0199_1b2c_3d4e)),
            ("0d1c8a52-6e0b-4c9e-9d38-3f2f6a9c8b7a", None),
            ("01991b2c-3d4e-7c9e-9d38", None),
            ("01991b2c-3d4é-7c9e-9d38-3f2f6a9c8b7", None),
            ("", None),
        ];
        for (id, expected) in rows {
            assert_eq!(time_of_id(id), expected, "{id}");
        }
    }
}
