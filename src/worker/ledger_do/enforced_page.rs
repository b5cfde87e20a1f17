//! A page of the list of enforced decisions, the newest first.
//!
//! Decisions are ordered by time, and decisions of the same millisecond by request id. The rows are
//! read from the newest to the oldest. Rows that are not read have only decisions that were made
//! before the oldest row that was read was begun. So the page is complete down to that time.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ledger_do::decisions::{MAX_PAGE, StoredDecision};

/// Number of rows after which a page ends. Rows that are newer than the page are not counted.
const MAX_ROWS: usize = 32;

/// Maximum number of rows that are read for a page.
const MAX_READ_ROWS: usize = 128;

/// Milliseconds by which the clocks of isolates may be ahead of the ledger's clock.
const CLOCK_SKEW_MS: f64 = 1_000.0;

/// The largest id of a row: 2⁵³ − 1, as in JavaScript.
const MAX_ID: u64 = (1 << 53) - 1;

/// Position in the list: the position of a decision, or between two decisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// Time in milliseconds since the epoch.
    pub at: f64,
    /// Request id; empty for the position after all decisions of the time `at`.
    pub request_id: String,
}

/// A row of the table `enforced_chunk`.
#[derive(Deserialize)]
pub struct Row {
    /// Time at which the row was begun, in milliseconds since the epoch.
    pub id: u64,
    /// The JSON of each decision, on a line of its own.
    pub records: String,
}

/// The page, while it is filled.
pub struct Page {
    query: HashMap<String, String>,
    /// Maximum number of decisions.
    limit: usize,
    /// The page begins after this position.
    before: Option<Position>,
    /// Time in milliseconds since the epoch: older decisions have expired, or do not match.
    oldest: f64,
    decisions: Vec<StoredDecision>,
    /// Time in milliseconds since the epoch: older decisions were not searched. `None` if all were.
    searched_to: Option<f64>,
}

impl Position {
    /// Parses the parameter `before`: a time and a request id, joined by `_`. Returns `None` if it
    /// is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, request_id) = text.split_once('_')?;
        let at: f64 = at.parse().ok()?;
        at.is_finite().then(|| Self { at, request_id: request_id.to_owned() })
    }

    /// Returns the text that [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> String {
        format!("{}_{}", self.at, self.request_id)
    }

    /// Compares the positions of two decisions by age: the newer one is `Less`.
    pub fn compare(a: (f64, &str), b: (f64, &str)) -> Ordering {
        b.0.total_cmp(&a.0).then_with(|| b.1.cmp(a.1))
    }
}

impl Page {
    /// Makes an empty page for a query. Decisions older than `oldest`, in milliseconds since the
    /// epoch, are left out.
    pub fn new(query: &HashMap<String, String>, oldest: f64) -> Self {
        let number = |name: &str| query.get(name).and_then(|value| value.parse::<f64>().ok());
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(MAX_PAGE);
        Self {
            limit: limit.min(MAX_PAGE),
            before: query.get("before").and_then(|before| Position::parse(before)),
            oldest: number("since").map_or(oldest, |since| since.max(oldest)),
            decisions: Vec::new(),
            searched_to: None,
            query: query.clone(),
        }
    }

    /// Adds a decision, if it matches.
    pub fn add(&mut self, text: &RawValue) {
        if let Some(decision) = StoredDecision::parse(text.to_owned()) {
            self.add_parsed(decision);
        }
    }

    fn add_parsed(&mut self, decision: StoredDecision) {
        let index = &decision.index;
        let is_after = self.before.as_ref().is_none_or(|before| {
            let position = (index.at, index.request_id.as_str());
            Position::compare((before.at, before.request_id.as_str()), position) == Ordering::Less
        });
        if is_after && index.at >= self.oldest && index.matches_query(&self.query) {
            self.decisions.push(decision);
        }
    }

    /// Adds the matching decisions of rows, the newest row first, until the page is full or enough
    /// rows were read. `next_row` returns the newest row with an id below its first argument, and
    /// with a decision at or before its second argument, in milliseconds since the epoch.
    ///
    /// # Errors
    /// If `next_row` fails.
    pub fn read_rows(
        &mut self,
        mut next_row: impl FnMut(u64, u64) -> worker::Result<Option<Row>>,
    ) -> worker::Result<()> {
        let until = self.newest();
        let first = if until < MAX_ID as f64 { until.max(0.0) as u64 } else { MAX_ID };
        let (mut id, mut counted_rows) = (MAX_ID, 0);
        for read_rows in 1.. {
            let Some(row) = next_row(id, first)? else { return Ok(()) };
            id = row.id;
            parse_records(&row.records).for_each(|decision| self.add_parsed(decision));
            let searched_to = id as f64 + CLOCK_SKEW_MS;
            if searched_to <= self.oldest {
                return Ok(());
            }
            counted_rows += usize::from(searched_to < until);
            let found = self.decisions.iter().filter(|found| found.index.at >= searched_to);
            let is_full = found.count() >= self.limit;
            if is_full || counted_rows >= MAX_ROWS || read_rows >= MAX_READ_ROWS {
                // Each page must end before the previous one, even if many rows have decisions of
                // the same time.
                self.searched_to = Some(searched_to.min(until - 1.0));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns the time of the newest decision that can be on the page, in milliseconds since the
    /// epoch; infinity if the query does not limit it.
    fn newest(&self) -> f64 {
        let until = self.query.get("until").and_then(|until| until.parse::<f64>().ok());
        let before = self.before.as_ref().map_or(f64::INFINITY, |before| before.at);
        until.unwrap_or(f64::INFINITY).min(before)
    }

    /// Returns the decisions of the page, the newest first, with their times in milliseconds since
    /// the epoch. Also returns the time down to which all rows were searched; `None` if all were.
    pub fn finish(mut self) -> (Vec<(f64, Box<RawValue>)>, Option<f64>) {
        let searched_to = self.searched_to;
        self.decisions.retain(|found| searched_to.is_none_or(|end| found.index.at >= end));
        self.decisions.sort_by(|a, b| {
            let [a, b] = [a, b].map(|found| (found.index.at, found.index.request_id.as_str()));
            Position::compare(a, b)
        });
        // A report that was sent twice is stored twice.
        let mut ids = HashSet::new();
        self.decisions.retain(|found| ids.insert(found.index.request_id.clone()));
        self.decisions.truncate(self.limit);
        let decisions = self.decisions.into_iter().map(|found| (found.index.at, found.text));
        (decisions.collect(), searched_to)
    }
}

/// Parses the decisions of a row. Malformed decisions are left out.
pub fn parse_records(records: &str) -> impl Iterator<Item = StoredDecision> {
    let texts = records.lines().filter_map(|line| serde_json::from_str::<Box<RawValue>>(line).ok());
    texts.filter_map(StoredDecision::parse)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the JSON of a decision at a time in milliseconds.
    fn decision(at: u64, number: u64) -> String {
        let value = json!({
            "request_id": format!("id-{number:05}"), "at": at as f64, "colo": "FRA",
            "model": null, "band": if number.is_multiple_of(2) { "hostile" } else { "suspect" },
            "action": "block", "hits": [], "shadow_hits": [],
        });
        format!("{value}\n")
    }

    /// Returns rows that begin every ten seconds, each with ten decisions from the ten seconds
    /// before.
    fn rows(count: u64) -> Vec<Row> {
        let records =
            |row: u64| (0..10).map(|n| decision(row * 10_000 + n, row * 10 + n)).collect();
        (0..count).map(|row| Row { id: (row + 1) * 10_000, records: records(row) }).collect()
    }

    fn query(parts: &[(&str, &str)]) -> HashMap<String, String> {
        parts.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    /// Reads all pages, and returns the request ids and the number of pages.
    fn read_all(rows: &[Row], parts: &[(&str, &str)]) -> (Vec<String>, usize) {
        let (mut ids, mut before) = (Vec::new(), None);
        for pages in 1..1_000 {
            let mut query = query(parts);
            query.extend(before.take().map(|before| ("before".to_owned(), before)));
            let mut page = Page::new(&query, 0.0);
            let limit = page.limit;
            page.read_rows(|below, first| {
                let is_next = |row: &&Row| {
                    let oldest = parse_records(&row.records)
                        .map(|decision| decision.index.at)
                        .fold(f64::INFINITY, f64::min);
                    row.id < below && oldest <= first as f64
                };
                let row = rows.iter().rev().find(is_next);
                Ok(row.map(|row| Row { id: row.id, records: row.records.clone() }))
            })
            .unwrap();
            let (decisions, searched_to) = page.finish();
            let parsed: Vec<_> = decisions
                .into_iter()
                .map(|(_, text)| StoredDecision::parse(text).unwrap().index)
                .collect();
            ids.extend(parsed.iter().map(|index| index.request_id.clone()));
            let last = parsed.last().filter(|_| parsed.len() == limit);
            let last =
                last.map(|last| Position { at: last.at, request_id: last.request_id.clone() });
            let end = searched_to.map(|at| Position { at, request_id: String::new() });
            match last.or(end) {
                Some(position) => before = Some(position.to_text()),
                None => return (ids, pages),
            }
        }
        panic!("the pages do not end");
    }

    #[test]
    fn pages_contain_each_decision_once_and_in_order() {
        let rows = rows(100);
        let expected: Vec<String> = (0..1_000).rev().map(|n| format!("id-{n:05}")).collect();
        for limit in ["3", "7", "10", "100", "500"] {
            let (ids, _) = read_all(&rows, &[("limit", limit)]);
            assert_eq!(ids, expected, "{limit}");
        }
        let (ids, pages) = read_all(&rows, &[("limit", "100"), ("band", "clear")]);
        assert_eq!((ids.len(), pages), (0, 4), "a page reads a bounded number of rows");
        let (ids, _) = read_all(&rows, &[("since", "500000"), ("until", "600000")]);
        assert_eq!((ids.len(), ids[0].as_str()), (100, "id-00599"));
    }

    /// A cursor of only a time would skip the rest of a burst.
    #[test]
    fn decisions_of_the_same_millisecond_are_on_several_pages() {
        let records = (0..300).map(|number| decision(5_000, number)).collect();
        let (ids, _) = read_all(&[Row { id: 6_000, records }], &[("limit", "100")]);
        assert_eq!(ids, (0..300).rev().map(|n| format!("id-{n:05}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_decision_that_was_reported_twice_is_listed_once() {
        let row = |id| Row { id, records: decision(5_000, 1) };
        assert_eq!(read_all(&[row(6_000), row(7_000)], &[]).0, ["id-00001"]);
    }

    #[test]
    fn positions_are_texts() {
        let position = Position { at: 1_795_600_020_123.0, request_id: "id".to_owned() };
        assert_eq!(position.to_text(), "1795600020123_id");
        assert_eq!(Position::parse(&position.to_text()), Some(position));
        for text in ["", "5", "x_id", "NaN_id", "inf_"] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }
}
