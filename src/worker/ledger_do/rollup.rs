//! Minutes and hours: the tables `rollup` and `rolled_up`.
//!
//! A minute is written when it is over. Once an hour, the minutes of past hours are added up to one
//! row per hour and key. The rows of minutes are deleted after two days. A query reads the row of
//! an hour only if minutes of that hour may have been deleted.

use serde::Deserialize;
use worker::SqlStorageValue;

use super::{HOUR, Ledger, MINUTE, QueryCache};
use crate::ledger_do::counters::{CounterKey, Counters};
use crate::ledger_do::decisions::prune;
use crate::ledger_do::period::Period;
use crate::ledger_do::series::{MINUTE_RETENTION_SECONDS, SERIES_KINDS, Series, TimeBuckets};
use crate::platform::clock;
use crate::platform::sql::integer;

/// Seconds for which the counters of hours are kept.
pub(super) const HOUR_RETENTION_SECONDS: u64 = 31 * 24 * HOUR;

impl Ledger {
    /// Writes the counters of the current minute, if it is over. `now` is in seconds since the
    /// epoch.
    pub(super) fn flush_if_over(&self, now: u64) -> worker::Result<()> {
        let is_over = self.current_minute.borrow().0 != now - now % MINUTE;
        if is_over { self.flush() } else { Ok(()) }
    }

    /// Writes the counters of the current minute. Counters that cannot be written stay in memory.
    pub(super) fn flush(&self) -> worker::Result<()> {
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

    /// Adds up the minutes of past hours, and deletes old rows. Does nothing if it has already run
    /// in this hour.
    pub(super) fn roll_up(&self) -> worker::Result<()> {
        let now = clock::now_seconds();
        let this_hour = now - now % HOUR;
        if self.rolled_up_hour.replace(this_hour) == this_hour {
            return Ok(());
        }
        // The last minute of the hour may not be written yet.
        self.flush_if_over(now)?;
        let sql = self.sql();
        self.add_to_totals(this_hour)?;
        // Hours are added up in order, so only minutes after the last hour in `rolled_up` are read.
        let query = "INSERT OR REPLACE INTO rollup (seconds, start, key, count)
            SELECT ?, start - start % ?, key, SUM(count) FROM rollup
            WHERE seconds = ? AND start < ?
                AND start >= (SELECT IFNULL(MAX(hour) + ?, 0) FROM rolled_up)
            GROUP BY start - start % ?, key";
        let values = [HOUR, HOUR, MINUTE, this_hour, HOUR, HOUR].map(integer).to_vec();
        sql.exec(query, values)?;
        #[derive(Deserialize)]
        struct RolledUpHour {}
        let query = "INSERT OR IGNORE INTO rolled_up (hour) VALUES (?) RETURNING hour";
        let newly_rolled_up: Vec<RolledUpHour> =
            sql.exec(query, vec![integer(this_hour - HOUR)])?.to_array()?;
        // An object that is often removed from memory gets here more often than once an hour. So
        // delete old decisions only if the hour is new in `rolled_up`.
        if !newly_rolled_up.is_empty() {
            prune(&sql)?;
            self.enforced.borrow_mut().prune(&sql, now)?;
        }
        for (seconds, retention) in
            [(MINUTE, MINUTE_RETENTION_SECONDS), (HOUR, HOUR_RETENTION_SECONDS)]
        {
            let values = [seconds, now.saturating_sub(retention)].map(integer).to_vec();
            sql.exec("DELETE FROM rollup WHERE seconds = ? AND start < ?", values)?;
        }
        let cutoff = vec![integer(now.saturating_sub(HOUR_RETENTION_SECONDS))];
        sql.exec("DELETE FROM rolled_up WHERE hour < ?", cutoff).map(drop)
    }

    /// Adds up the rows of the last `minutes`, or of the `minutes` before `until` in seconds since
    /// the epoch, for counters whose kind begins with `kind`.
    pub(super) fn read_counters(
        &self,
        minutes: u64,
        until: Option<u64>,
        kind: &str,
    ) -> worker::Result<Counters> {
        let mut totals = Counters::default();
        let now = clock::now_seconds();
        let age = until.map_or(0, |until| now.saturating_sub(until).div_ceil(MINUTE));
        for RollupRange { seconds, from, to } in ranges(now, age.saturating_add(minutes)) {
            let to = to.min(until.unwrap_or(to));
            // A key is JSON, `["kind",…]`: the kind begins at its third character.
            let query = "SELECT key, SUM(count) AS count FROM rollup
                WHERE seconds = ? AND start >= ? AND start < ?
                    AND substr(key, 3, length(?)) = ? GROUP BY key";
            let mut values = [seconds, from, to].map(integer).to_vec();
            values.extend([kind, kind].map(SqlStorageValue::from));
            for row in self.counter_rows(query, values)? {
                totals.add_unbounded(parse_key(&row.key), row.count);
            }
        }
        Ok(totals)
    }

    /// Adds up the rows of a period, for counters whose kind is one of `kinds`. Hours that are only
    /// partly in the period are included.
    pub(super) fn read_sum(&self, period: &Period, kinds: &[&str]) -> worker::Result<u64> {
        let now = clock::now_seconds();
        let minutes = now.saturating_sub(period.from).div_ceil(MINUTE);
        // A key is JSON: `["kind"]` or `["kind",…]`.
        let kinds: Vec<String> = kinds
            .iter()
            .map(|kind| format!("substr(key, 3, {}) = '{kind}\"'", kind.len() + 1))
            .collect();
        let kinds = kinds.join(" OR ");
        let mut sum = 0_u64;
        for RollupRange { seconds, from, to } in ranges(now, minutes) {
            let first = period.from - period.from % seconds;
            // A range of hours that is not empty begins with the hour that contains `from`.
            let is_hours = seconds == HOUR && from < to;
            let from = if is_hours { first } else { from.max(first) };
            let to = to.min(period.to);
            let query = format!(
                "SELECT key, SUM(count) AS count FROM rollup
                WHERE seconds = ? AND start >= ? AND start < ? AND ({kinds}) GROUP BY key"
            );
            let values = [seconds, from, to].map(integer).to_vec();
            let rows = self.counter_rows(&query, values)?;
            sum = rows.iter().fold(sum, |sum, row| sum.saturating_add(row.count));
        }
        Ok(sum)
    }

    /// Runs a query for counters.
    pub(super) fn counter_rows(
        &self,
        query: &str,
        values: Vec<SqlStorageValue>,
    ) -> worker::Result<Vec<CounterRow>> {
        self.sql().exec(query, values)?.to_array()
    }

    /// Reads the rows of a time series, for the kinds in [`SERIES_KINDS`].
    pub(super) fn read_series(&self, buckets: &TimeBuckets) -> worker::Result<Series> {
        let mut series = Series::default();
        let now = clock::now_seconds();
        let minutes = now.saturating_sub(buckets.start).div_ceil(MINUTE);
        let kinds = SERIES_KINDS
            .map(|kind| format!("substr(key, 3, {}) = '{kind}'", kind.len()))
            .join(" OR ");
        for RollupRange { seconds, from, to } in ranges(now, minutes) {
            // In the range of hours, a step is a whole number of hours: see
            // `TimeBuckets::from_last_minutes`.
            let (from, to) = (from.max(buckets.start), to.min(buckets.end()));
            let query = format!(
                "SELECT start - (start - ?) % ? AS at, key, SUM(count) AS count FROM rollup
                WHERE seconds = ? AND start >= ? AND start < ? AND ({kinds}) GROUP BY at, key"
            );
            let values = [buckets.start, buckets.step, seconds, from, to].map(integer).to_vec();
            let rows: Vec<SeriesRow> = self.sql().exec(&query, values)?.to_array()?;
            for row in rows {
                series.add(buckets, row.at, &parse_key(&row.key), row.count);
            }
        }
        Ok(series)
    }
}

/// A counter in a time step.
#[derive(Deserialize)]
struct SeriesRow {
    /// Start of the step, in seconds since the epoch.
    at: u64,
    /// A [`CounterKey`] as JSON.
    key: String,
    count: u64,
}

/// A counter, summed over all rows that a query selects.
#[derive(Deserialize)]
pub(super) struct CounterRow {
    /// A [`CounterKey`] as JSON.
    pub(super) key: String,
    pub(super) count: u64,
}

/// Parses a stored key; empty if it is malformed, which should never happen.
pub(super) fn parse_key(text: &str) -> CounterKey {
    serde_json::from_str(text).unwrap_or_default()
}

/// A range of rows in `rollup`: all rows of one length (a minute or an hour) whose start is in
/// `from..to`. All values are in seconds; `from` and `to` are since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RollupRange {
    seconds: u64,
    from: u64,
    to: u64,
}

/// Returns the ranges of rows that cover the last `minutes`. The first range has rows of minutes,
/// for the time for which they are kept. The second has rows of hours, for the time before, and may
/// be empty. `now` is in seconds since the epoch.
fn ranges(now: u64, minutes: u64) -> [RollupRange; 2] {
    let from = now.saturating_sub(minutes.saturating_mul(MINUTE));
    let oldest_minute = now.saturating_sub(MINUTE_RETENTION_SECONDS);
    // If the period begins before the oldest stored minute, the range of minutes begins with a full
    // hour. The hour before it, whose first minutes are already deleted, is read as a row of an
    // hour.
    let minutes_from =
        if from >= oldest_minute { from } else { oldest_minute - oldest_minute % HOUR + HOUR };
    [
        RollupRange { seconds: MINUTE, from: minutes_from, to: now + MINUTE },
        RollupRange { seconds: HOUR, from, to: minutes_from.max(from) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_follow_hours_without_a_gap() {
        let now = 1_800_000_000 + 1_234;
        for minutes in [1, 10, 60, 2_879, 2_880, 2_881, 3_000, 10_000, 43_200] {
            let [recent, older] = ranges(now, minutes);
            assert_eq!((recent.seconds, older.seconds), (MINUTE, HOUR));
            assert_eq!(recent.to, now + MINUTE, "the current minute is included");
            assert_eq!(older.to, recent.from, "{minutes}");
            let from = now - minutes * MINUTE;
            if from >= now - MINUTE_RETENTION_SECONDS {
                assert_eq!((recent.from, older.from), (from, older.to), "{minutes}: no hours");
            } else {
                let oldest_minute = now - MINUTE_RETENTION_SECONDS;
                assert_eq!(older.from, from);
                assert_eq!(recent.from % HOUR, 0, "{minutes}: hours are whole");
                let retained = oldest_minute..=oldest_minute + HOUR;
                assert!(retained.contains(&recent.from), "{minutes}: minutes are retained");
            }
        }
    }
}
