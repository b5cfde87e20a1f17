//! The newest sampled decisions of an object, in two ring buffers: one for the band `clear` and one
//! for all other decisions, so that clear decisions never evict the others.
//!
//! The alarm saves new decisions every few seconds. The first query after a restart reads the saved
//! ones. If the read fails, a later query reads them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use hedgerow_core::rules::policy::pattern_matches;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use worker::SqlStorage;

use crate::ledger_do::period::Period;
use crate::platform::clock::now_seconds;
use crate::platform::lease::Backoff;
use crate::platform::sql::integer;

/// Limits of the two rings: clear decisions, and all other decisions.
const CLEAR_LIMITS: RingLimits = RingLimits { max_decisions: 500, max_bytes: 1 << 20 };
const OTHER_LIMITS: RingLimits = RingLimits { max_decisions: 1_500, max_bytes: 4 << 20 };

/// Maximum number of decisions of an object.
pub const MAX_DECISIONS: usize = CLEAR_LIMITS.max_decisions + OTHER_LIMITS.max_decisions;

/// Seconds for which a decision is kept: a week.
pub const RETENTION_SECONDS: u64 = 7 * 86_400;

/// Maximum number of decisions in one answer.
pub const MAX_PAGE: usize = 500;

/// Maximum bytes of the decisions in one row, counted as in [`StoredDecision::heap_bytes`]; a
/// larger decision gets a row of its own. A row of a Durable Object's SQLite has at most two
/// megabytes.
const ROW_BYTES: usize = 512 << 10;

/// Number of new rows after which old and surplus rows are deleted.
const PRUNE_EVERY_ROWS: u32 = 128;

/// The first and the longest pause after a failed read of the saved decisions.
const MIN_BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The table of decisions, which the head of `ledger_do.rs` describes.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS decision_chunk (
    id INTEGER PRIMARY KEY, clear INTEGER NOT NULL, at INTEGER NOT NULL, count INTEGER NOT NULL,
    records TEXT NOT NULL);
";

/// The answer to a query.
#[derive(Default, Serialize, Deserialize)]
pub struct DecisionMatches {
    /// For each decision, its time in milliseconds since the epoch and its JSON; newest first.
    pub decisions: Vec<(f64, Box<RawValue>)>,
    /// Number of stored decisions, including those that do not match.
    pub stored: usize,
    /// Number of stored decisions in the period of the query.
    pub kept: u64,
    /// Number of decisions that were counted in this period.
    pub counted: u64,
    /// Time in milliseconds since the epoch: older decisions were not searched. `None` if all were.
    pub searched_to: Option<f64>,
}

/// Limits of a ring. Bytes are counted as in [`StoredDecision::heap_bytes`].
#[derive(Clone, Copy)]
struct RingLimits {
    max_decisions: usize,
    max_bytes: usize,
}

/// The decisions of an object.
pub struct Decisions {
    /// The ring of other decisions and the ring of clear decisions. The index of a ring is the
    /// value of the column `clear`.
    rings: [Ring; 2],
    /// Whether the rows of earlier instances of the object were read.
    is_restored: bool,
    /// The pause after a failed read of these rows.
    restore_backoff: Backoff,
    /// Id of the first row that this instance wrote. Rows before it are from earlier instances.
    first_row: Option<u64>,
    /// Number of rows written since surplus rows were last deleted.
    rows_since_prune: u32,
}

/// Decisions from the oldest to the newest. If a limit is exceeded, the oldest decisions are
/// removed.
struct Ring {
    limits: RingLimits,
    decisions: VecDeque<StoredDecision>,
    /// Approximate bytes of all decisions in memory.
    bytes: usize,
    /// Number of decisions at the end of the ring that are not saved yet.
    unsaved_count: usize,
}

/// A decision: its JSON, and the members that queries filter by.
pub struct StoredDecision {
    /// The JSON of the decision.
    pub text: Box<RawValue>,
    /// Its members that queries filter by.
    pub index: Index,
}

/// Members of a decision that queries filter by.
#[derive(Deserialize)]
pub struct Index {
    /// Request id.
    pub request_id: String,
    /// Time of the decision, in milliseconds since the epoch.
    pub at: f64,
    colo: String,
    model: Option<String>,
    account: Option<String>,
    cluster: Option<String>,
    #[serde(default)]
    cluster_aliases: Vec<String>,
    #[serde(default)]
    other_clusters: Vec<String>,
    /// `None` for a request that was not scored.
    band: Option<String>,
    action: String,
    hits: Vec<HitName>,
    shadow_hits: Vec<String>,
}

#[derive(Deserialize)]
struct HitName {
    name: String,
}

impl Default for Decisions {
    fn default() -> Self {
        let rings = [OTHER_LIMITS, CLEAR_LIMITS].map(|limits| Ring {
            limits,
            decisions: VecDeque::new(),
            bytes: 0,
            unsaved_count: 0,
        });
        Self {
            rings,
            is_restored: false,
            restore_backoff: Backoff::default(),
            first_row: None,
            rows_since_prune: 0,
        }
    }
}

impl Decisions {
    /// Adds decisions that an isolate reported. Malformed decisions are left out.
    pub fn record(&mut self, decisions: Vec<Box<RawValue>>) {
        for decision in decisions.into_iter().filter_map(StoredDecision::parse) {
            let [others, clear] = &mut self.rings;
            if decision.is_clear() { clear.push(decision) } else { others.push(decision) }
        }
    }

    /// Returns the newest decisions that match every filter of `query`: at most `limit`, a
    /// parameter of the query, and at most [`MAX_PAGE`]. Decisions older than a week are left out.
    /// `now` is in milliseconds since the epoch.
    pub fn find(&self, query: &HashMap<String, String>, now: f64) -> DecisionMatches {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(MAX_PAGE);
        let limit = limit.min(MAX_PAGE);
        let is_retained = |decision: &&StoredDecision| {
            decision.index.at + RETENTION_SECONDS as f64 * 1_000.0 > now
        };
        let mut decisions: Vec<(f64, &StoredDecision)> = Vec::new();
        let mut stored = 0;
        for ring in &self.rings {
            stored += ring.decisions.iter().filter(is_retained).count();
            let retained = ring.decisions.iter().rev().filter(is_retained);
            let matching =
                retained.filter(|decision| decision.index.matches_query(query)).take(limit);
            decisions.extend(matching.map(|decision| (decision.index.at, decision)));
        }
        decisions.sort_by(|a, b| b.0.total_cmp(&a.0));
        decisions.truncate(limit);
        let page = decisions.into_iter().map(|(at, decision)| (at, decision.text.clone()));
        DecisionMatches { decisions: page.collect(), stored, ..DecisionMatches::default() }
    }

    /// Returns the number of decisions in a period.
    pub fn count_in(&self, period: &Period) -> u64 {
        let decisions = self.rings.iter().flat_map(|ring| &ring.decisions);
        decisions.filter(|decision| period.contains(decision.index.at)).count() as u64
    }

    /// Returns pairs of request id and account, for the requests in `ids` that have a stored
    /// decision. The account is `None` if the request had none.
    pub fn senders(&self, ids: &[String]) -> Vec<(String, Option<String>)> {
        let ids: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let indexes = self.rings.iter().flat_map(|ring| &ring.decisions);
        let indexes = indexes.map(|decision| &decision.index);
        let found = indexes.filter(|index| ids.contains(index.request_id.as_str()));
        found.map(|index| (index.request_id.clone(), index.account.clone())).collect()
    }

    /// Writes the decisions that are not saved yet.
    pub fn save(&mut self, sql: &SqlStorage) -> worker::Result<()> {
        for (ring_index, ring) in self.rings.iter_mut().enumerate() {
            for chunk in ring.unsaved_chunks() {
                #[derive(Deserialize)]
                struct Inserted {
                    id: u64,
                }
                let records = serde_json::to_string(&chunk).unwrap_or_default();
                let query = "INSERT INTO decision_chunk (clear, at, count, records)
                    VALUES (?, ?, ?, ?) RETURNING id";
                let numbers = [ring_index as u64, now_seconds(), chunk.len() as u64].map(integer);
                let values = numbers.into_iter().chain([records.into()]).collect::<Vec<_>>();
                let inserted: Inserted = sql.exec(query, values)?.one()?;
                self.first_row.get_or_insert(inserted.id);
                self.rows_since_prune += 1;
            }
            ring.unsaved_count = 0;
        }
        if self.rows_since_prune >= PRUNE_EVERY_ROWS {
            self.rows_since_prune = 0;
            prune(sql)?;
        }
        Ok(())
    }

    /// Reads the rows of earlier instances of the object, unless an earlier call has read them.
    /// `now` is in milliseconds since the epoch.
    ///
    /// # Errors
    /// If the rows cannot be read. Calls in the pause after such an error do nothing; the first
    /// call after the pause reads again.
    pub fn restore(&mut self, sql: &SqlStorage, now: f64) -> worker::Result<()> {
        let first_row = self.first_row.unwrap_or(u64::MAX);
        self.restore_from(now, || read_rows(sql, first_row))
    }

    /// Adds the rows that `read` returns, as [`restore`](Self::restore) does.
    fn restore_from(
        &mut self,
        now: f64,
        read: impl FnOnce() -> worker::Result<[Vec<String>; 2]>,
    ) -> worker::Result<()> {
        if self.is_restored || !self.restore_backoff.is_due(now) {
            return Ok(());
        }
        // Read the rows of both rings before any is added: a retry must not add a row again.
        let rows = read().inspect_err(|_| {
            self.restore_backoff.record_failure(now, MIN_BACKOFF, MAX_BACKOFF);
        })?;
        self.is_restored = true;
        for (ring, rows) in self.rings.iter_mut().zip(rows) {
            rows.iter().for_each(|records| ring.push_old_row(records));
        }
        Ok(())
    }
}

/// Reads the rows with ids below `first_row`: for each ring, the column `records` of each row, the
/// newest row first.
fn read_rows(sql: &SqlStorage, first_row: u64) -> worker::Result<[Vec<String>; 2]> {
    #[derive(Deserialize)]
    struct Row {
        records: String,
    }
    let oldest = now_seconds().saturating_sub(RETENTION_SECONDS);
    let read = |ring_index: u64| -> worker::Result<Vec<String>> {
        let query = "SELECT records FROM decision_chunk
            WHERE clear = ? AND id < ? AND at >= ? ORDER BY id DESC";
        let values = [ring_index, first_row, oldest].map(integer).to_vec();
        let rows: Vec<Row> = sql.exec(query, values)?.to_array()?;
        Ok(rows.into_iter().map(|row| row.records).collect())
    };
    Ok([read(0)?, read(1)?])
}

/// Returns whether the table has rows.
pub fn has_stored_decisions(sql: &SqlStorage) -> worker::Result<bool> {
    #[derive(Deserialize)]
    struct Row {}
    Ok(!sql.exec("SELECT id FROM decision_chunk LIMIT 1", None)?.to_array::<Row>()?.is_empty())
}

/// Deletes rows older than a week. Also deletes a row if newer rows of the same ring have the
/// maximum number of decisions.
pub fn prune(sql: &SqlStorage) -> worker::Result<()> {
    #[derive(Deserialize)]
    struct Row {
        id: u64,
        count: u64,
    }
    let oldest = now_seconds().saturating_sub(RETENTION_SECONDS);
    sql.exec("DELETE FROM decision_chunk WHERE at < ?", vec![integer(oldest)])?;
    for (ring_index, limits) in [OTHER_LIMITS, CLEAR_LIMITS].into_iter().enumerate() {
        let query = "SELECT id, count FROM decision_chunk WHERE clear = ? ORDER BY id DESC";
        let rows: Vec<Row> = sql.exec(query, vec![integer(ring_index as u64)])?.to_array()?;
        let mut newer_count = 0;
        let is_surplus = |row: &&Row| {
            let is_needed = newer_count < limits.max_decisions as u64;
            newer_count += row.count;
            !is_needed
        };
        if let Some(surplus) = rows.iter().find(is_surplus) {
            let values = [ring_index as u64, surplus.id].map(integer).to_vec();
            sql.exec("DELETE FROM decision_chunk WHERE clear = ? AND id <= ?", values)?;
        }
    }
    Ok(())
}

impl Ring {
    /// Adds a new decision, and removes the oldest decisions that exceed the limits.
    fn push(&mut self, decision: StoredDecision) {
        self.bytes += decision.heap_bytes();
        self.decisions.push_back(decision);
        self.unsaved_count += 1;
        while self.decisions.len() > self.limits.max_decisions || self.bytes > self.limits.max_bytes
        {
            let Some(oldest) = self.decisions.pop_front() else { break };
            self.bytes -= oldest.heap_bytes();
        }
        self.unsaved_count = self.unsaved_count.min(self.decisions.len());
    }

    /// Adds a decision that is older than all others, if there is room. It is saved already.
    fn push_old(&mut self, decision: StoredDecision) {
        let bytes = self.bytes + decision.heap_bytes();
        if self.decisions.len() < self.limits.max_decisions && bytes <= self.limits.max_bytes {
            self.bytes = bytes;
            self.decisions.push_front(decision);
        }
    }

    /// Adds the decisions of a saved row, as [`push_old`](Self::push_old) does. `records` is a JSON
    /// array, the oldest decision first.
    fn push_old_row(&mut self, records: &str) {
        let records: Vec<Box<RawValue>> = serde_json::from_str(records).unwrap_or_default();
        let decisions = records.into_iter().rev().filter_map(StoredDecision::parse);
        decisions.for_each(|decision| self.push_old(decision));
    }

    /// Returns the decisions that are not saved yet, in chunks of about [`ROW_BYTES`].
    fn unsaved_chunks(&self) -> Vec<Vec<&RawValue>> {
        let mut chunks: Vec<Vec<&RawValue>> = Vec::new();
        let mut size = usize::MAX;
        for decision in self.decisions.iter().skip(self.decisions.len() - self.unsaved_count) {
            if size.saturating_add(decision.heap_bytes()) > ROW_BYTES {
                chunks.push(Vec::new());
                size = 0;
            }
            size = size.saturating_add(decision.heap_bytes());
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(&decision.text);
            }
        }
        chunks
    }
}

impl StoredDecision {
    /// Parses the JSON of a decision; `None` if a required member is missing.
    pub fn parse(text: Box<RawValue>) -> Option<Self> {
        let index = serde_json::from_str(text.get()).ok()?;
        Some(Self { text, index })
    }

    fn is_clear(&self) -> bool {
        self.index.band.as_deref() == Some("clear")
    }

    /// Returns the approximate bytes of the decision: twice its text, because the index repeats a
    /// part of the text.
    pub fn heap_bytes(&self) -> usize {
        2 * self.text.get().len()
    }
}

impl Index {
    /// Returns whether the decision matches every filter that the query has.
    pub fn matches_query(&self, query: &HashMap<String, String>) -> bool {
        // `*` matches any part of a value.
        let matches = |name: &str, value: Option<&str>| {
            query
                .get(name)
                .is_none_or(|pattern| value.is_some_and(|value| pattern_matches(pattern, value)))
        };
        let starts_with = |name: &str, value: Option<&str>| {
            query
                .get(name)
                .is_none_or(|prefix| value.is_some_and(|value| value.starts_with(prefix)))
        };
        let has_hit = |signature: &String| {
            let mut names = self.hits.iter().map(|hit| &hit.name).chain(&self.shadow_hits);
            names.any(|name| pattern_matches(signature, name))
        };
        let time = |name: &str| query.get(name).and_then(|at| at.parse::<f64>().ok());
        let is_in_range = time("since").is_none_or(|since| self.at >= since)
            && time("until").is_none_or(|until| self.at < until);
        is_in_range
            && matches("band", Some(self.band.as_deref().unwrap_or("unscored")))
            && matches("action", Some(&self.action))
            && matches("colo", Some(&self.colo))
            && matches("model", self.model.as_deref())
            && query.get("cluster").is_none_or(|ids| self.is_in_cluster(ids))
            // Operators may give only the first digits.
            && starts_with("account", self.account.as_deref())
            && starts_with("id", Some(&self.request_id))
            && query.get("signature").is_none_or(has_hit)
    }

    /// Returns whether one of `ids` is the id of a cluster of the request, or a former id of its
    /// main cluster. `ids` are separated by commas; `*` matches any part of an id.
    fn is_in_cluster(&self, ids: &str) -> bool {
        let own = self.cluster.iter().chain(&self.cluster_aliases).chain(&self.other_clusters);
        ids.split(',').any(|id| own.clone().any(|own| pattern_matches(id, own)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decision(number: usize, band: &str) -> Box<RawValue> {
        let text = json!({
            "request_id": format!("id-{number}"), "at": number as f64, "colo": "FRA", "model": "m",
            "account": format!("{number:032x}"), "band": band, "action": "tag",
            "hits": [{ "name": format!("hit_{}", number % 2) }], "shadow_hits": ["quiet"],
        });
        RawValue::from_string(text.to_string()).unwrap()
    }

    fn query(parts: &[(&str, &str)]) -> HashMap<String, String> {
        parts.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn ids(page: &DecisionMatches) -> Vec<String> {
        let id = |text: &RawValue| serde_json::from_str::<Index>(text.get()).unwrap().request_id;
        page.decisions.iter().map(|(_, text)| id(text)).collect()
    }

    fn unsaved_count(decisions: &Decisions) -> usize {
        decisions.rings.iter().flat_map(Ring::unsaved_chunks).map(|chunk| chunk.len()).sum()
    }

    #[test]
    fn clear_decisions_do_not_evict_others() {
        let mut decisions = Decisions::default();
        decisions.record(vec![decision(0, "hostile")]);
        decisions.record((1..=5_000).map(|number| decision(number, "clear")).collect());
        let page = decisions.find(&query(&[]), 0.0);
        assert_eq!(page.stored, CLEAR_LIMITS.max_decisions + 1);
        assert_eq!(ids(&page)[0], "id-5000");
        assert_eq!(ids(&decisions.find(&query(&[("band", "hostile")]), 0.0)), ["id-0"]);
        assert_eq!(unsaved_count(&decisions), CLEAR_LIMITS.max_decisions + 1);
        decisions.record((0..5_000).map(|number| decision(number, "suspect")).collect());
        assert_eq!(decisions.find(&query(&[]), 0.0).stored, MAX_DECISIONS);
        assert_eq!(unsaved_count(&decisions), MAX_DECISIONS);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut decisions = Decisions::default();
        let large = |number: usize| {
            let text = decision(number, "suspect")
                .get()
                .replace("\"FRA\"", &format!("\"{}\"", "x".repeat(30_000)));
            RawValue::from_string(text).unwrap()
        };
        decisions.record((0..500).map(large).collect());
        let [others, _] = &decisions.rings;
        assert!(
            others.bytes <= OTHER_LIMITS.max_bytes && others.bytes > OTHER_LIMITS.max_bytes / 2
        );
        assert_eq!(
            others.bytes,
            others.decisions.iter().map(StoredDecision::heap_bytes).sum::<usize>()
        );
        assert_eq!(
            ids(&decisions.find(&query(&[("limit", "1")]), 0.0)),
            ["id-499"],
            "the newest stay"
        );
    }

    /// Returns the text of a row with decisions of a band.
    fn row(numbers: std::ops::Range<usize>, band: &str) -> String {
        let texts: Vec<_> = numbers.map(|number| decision(number, band)).collect();
        serde_json::to_string(&texts).unwrap()
    }

    #[test]
    fn restored_decisions_are_older_and_already_saved() {
        let mut decisions = Decisions::default();
        decisions.record(vec![decision(7, "notice")]);
        let rows = || Ok([vec![row(4..7, "notice"), row(0..4, "notice")], vec![]]);
        decisions.restore_from(0.0, rows).unwrap();
        decisions.restore_from(0.0, rows).unwrap();
        assert_eq!(
            ids(&decisions.find(&query(&[]), 0.0)),
            (0..8).rev().map(|number| format!("id-{number}")).collect::<Vec<_>>()
        );
        assert_eq!(unsaved_count(&decisions), 1);
    }

    /// A failed read was never repeated, so that queries lacked all saved decisions until the next
    /// restart.
    #[test]
    fn a_failed_read_of_saved_decisions_is_repeated_after_a_pause() {
        let mut decisions = Decisions::default();
        let failed = || Err(worker::Error::RustError("injected".to_owned()));
        assert!(decisions.restore_from(1_000.0, failed).is_err());
        let rows = || Ok([vec![row(0..2, "notice")], vec![row(2..3, "clear")]]);
        decisions.restore_from(5_999.0, rows).unwrap();
        assert_eq!(decisions.find(&query(&[]), 0.0).stored, 0, "the pause is not over");
        decisions.restore_from(6_000.0, rows).unwrap();
        assert_eq!(ids(&decisions.find(&query(&[]), 0.0)), ["id-2", "id-1", "id-0"]);
    }

    #[test]
    fn queries_filter_decisions() {
        let mut decisions = Decisions::default();
        decisions.record((0..10).map(|number| decision(number, "notice")).collect());
        let rows: [(&[(&str, &str)], usize); 19] = [
            (&[], 10),
            (&[("limit", "3")], 3),
            (&[("limit", "999999")], 10),
            (&[("signature", "hit_1")], 5),
            (&[("signature", "quiet")], 10),
            (&[("signature", "hit")], 0),
            (&[("signature", "*IT*")], 10),
            (&[("signature", "*_1")], 5),
            (&[("signature", "*_2")], 0),
            (&[("colo", "f*"), ("model", "*m*")], 10),
            (&[("id", "id-7")], 1),
            (&[("account", "0000000000000000000000000000000")], 10),
            (&[("account", &format!("{:032x}", 3))], 1),
            (&[("colo", "FRA"), ("model", "m"), ("action", "tag")], 10),
            (&[("cluster", "5b0f3a91")], 0),
            (&[("since", "3"), ("until", "7")], 4),
            (&[("since", "7")], 3),
            (&[("band", "clear")], 0),
            (&[("band", "unscored")], 0),
        ];
        for (params, expected) in rows {
            assert_eq!(decisions.find(&query(params), 0.0).decisions.len(), expected, "{params:?}");
        }
        assert_eq!(ids(&decisions.find(&query(&[("limit", "2")]), 0.0)), ["id-9", "id-8"]);
        let senders = decisions.senders(&["id-7".to_owned(), "id-70".to_owned()]);
        assert_eq!(senders, [("id-7".to_owned(), Some(format!("{:032x}", 7)))]);
        let later = decisions.find(&query(&[]), RETENTION_SECONDS as f64 * 1_000.0 + 100.0);
        assert_eq!((later.decisions.len(), later.stored), (0, 0), "they are too old");
    }

    #[test]
    fn invalid_records_are_ignored() {
        let mut decisions = Decisions::default();
        let texts = ["null", "{}", "[1]", "\"x\""];
        decisions.record(texts.map(|text| RawValue::from_string(text.into()).unwrap()).to_vec());
        assert_eq!((decisions.find(&query(&[]), 0.0).stored, unsaved_count(&decisions)), (0, 0));
    }
}
