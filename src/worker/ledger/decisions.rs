//! The last decisions: rings that are bounded whatever comes, clear requests apart from all others, so
//! that these are not pushed out by them. What an object's memory has is stored some seconds later, and
//! read again only when somebody asks.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use worker::SqlStorage;

use crate::clock::seconds;
use crate::sql::integer;

/// Decisions that an object keeps at most: clear ones, and all others; and how many bytes of either.
const CLEAR: Bounds = Bounds { decisions: 500, bytes: 1 << 20 };
const OTHERS: Bounds = Bounds { decisions: 1_500, bytes: 4 << 20 };

/// Both together.
pub const MOST: usize = CLEAR.decisions + OTHERS.decisions;

/// Seconds for which a decision is kept.
pub const LIFE: u64 = 7 * 86_400;

/// Decisions that are told at once, at most.
pub const MOST_TOLD: usize = 500;

/// Bytes that are stored in one row.
const ROW: usize = 512 << 10;

/// Rows between two prunings.
const PRUNED: u32 = 128;

pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS decided (id INTEGER PRIMARY KEY, clear INTEGER NOT NULL, at INTEGER NOT NULL, count INTEGER NOT NULL,
    records TEXT NOT NULL);
";

/// What a question finds, newest first.
#[derive(Default, Serialize, Deserialize)]
pub struct Found {
    /// The decisions by their time.
    pub decisions: Vec<(f64, Box<RawValue>)>,
    /// How many are kept.
    pub kept: usize,
}

#[derive(Clone, Copy)]
struct Bounds {
    decisions: usize,
    bytes: usize,
}

/// The decisions.
pub struct Decisions {
    rings: [Ring; 2],
    /// Whether those that were stored before this object was made are here, too.
    is_restored: bool,
    /// The first row that this object stored.
    first: Option<u64>,
    rows: u32,
}

struct Ring {
    bounds: Bounds,
    kept: VecDeque<Kept>,
    bytes: usize,
    /// How many of the last ones are not stored yet.
    unsaved: usize,
}

struct Kept {
    text: Box<RawValue>,
    facts: Facts,
}

/// What is asked for.
#[derive(Deserialize)]
struct Facts {
    request_id: String,
    at: f64,
    colo: String,
    model: Option<String>,
    account: Option<String>,
    cluster: Option<String>,
    band: Option<String>,
    action: String,
    hits: Vec<Named>,
    shadow_hits: Vec<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Default for Decisions {
    fn default() -> Self {
        let rings = [OTHERS, CLEAR].map(|bounds| Ring {
            bounds,
            kept: VecDeque::new(),
            bytes: 0,
            unsaved: 0,
        });
        Self { rings, is_restored: false, first: None, rows: 0 }
    }
}

impl Decisions {
    /// Keeps decisions that an isolate reported; what is none is left out.
    pub fn report(&mut self, decisions: Vec<Box<RawValue>>) {
        for kept in decisions.into_iter().filter_map(Kept::read) {
            let [others, clear] = &mut self.rings;
            if kept.is_clear() { clear.push(kept) } else { others.push(kept) }
        }
    }

    /// Those that a query asks for; `now` is in milliseconds.
    pub fn find(&self, query: &HashMap<String, String>, now: f64) -> Found {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(MOST_TOLD);
        let limit = limit.min(MOST_TOLD);
        let is_young = |own: &&Kept| own.facts.at + LIFE as f64 * 1_000.0 > now;
        let mut decisions: Vec<(f64, &Kept)> = Vec::new();
        let mut kept = 0;
        for ring in &self.rings {
            kept += ring.kept.iter().filter(is_young).count();
            let young = ring.kept.iter().rev().filter(is_young);
            let found = young.filter(|own| own.facts.fits(query)).take(limit);
            decisions.extend(found.map(|own| (own.facts.at, own)));
        }
        decisions.sort_by(|a, b| b.0.total_cmp(&a.0));
        decisions.truncate(limit);
        let told = decisions.into_iter().map(|(at, own)| (at, own.text.clone()));
        Found { decisions: told.collect(), kept }
    }

    /// Stores what came since the last time.
    pub fn save(&mut self, sql: &SqlStorage) -> worker::Result<()> {
        for (place, ring) in self.rings.iter_mut().enumerate() {
            for part in ring.unsaved() {
                #[derive(Deserialize)]
                struct Made {
                    id: u64,
                }
                let records = serde_json::to_string(&part).unwrap_or_default();
                let query = "INSERT INTO decided (clear, at, count, records) VALUES (?, ?, ?, ?) RETURNING id";
                let numbers = [place as u64, seconds(), part.len() as u64].map(integer);
                let values = numbers.into_iter().chain([records.into()]).collect::<Vec<_>>();
                let made: Made = sql.exec(query, values)?.one()?;
                self.first.get_or_insert(made.id);
                self.rows += 1;
            }
            ring.unsaved = 0;
        }
        if self.rows >= PRUNED {
            self.rows = 0;
            prune(sql)?;
        }
        Ok(())
    }

    /// Reads what was stored before this object was made, once.
    pub fn restore(&mut self, sql: &SqlStorage) -> worker::Result<()> {
        #[derive(Deserialize)]
        struct Row {
            records: String,
        }
        if std::mem::replace(&mut self.is_restored, true) {
            return Ok(());
        }
        let before = self.first.unwrap_or(u64::MAX);
        for (place, ring) in self.rings.iter_mut().enumerate() {
            let query = "SELECT records FROM decided WHERE clear = ? AND id < ? AND at >= ? ORDER BY id DESC";
            let oldest = seconds().saturating_sub(LIFE);
            let values = [place as u64, before, oldest].map(integer).to_vec();
            for row in sql.exec(query, values)?.to_array::<Row>()? {
                let records: Vec<Box<RawValue>> =
                    serde_json::from_str(&row.records).unwrap_or_default();
                records.into_iter().rev().filter_map(Kept::read).for_each(|own| ring.unshift(own));
            }
        }
        Ok(())
    }
}

/// Whether any are stored.
pub fn is_any(sql: &SqlStorage) -> worker::Result<bool> {
    #[derive(Deserialize)]
    struct Row {}
    Ok(!sql.exec("SELECT id FROM decided LIMIT 1", None)?.to_array::<Row>()?.is_empty())
}

/// Forgets what is old, or more than is kept.
pub fn prune(sql: &SqlStorage) -> worker::Result<()> {
    #[derive(Deserialize)]
    struct Row {
        id: u64,
        count: u64,
    }
    let oldest = seconds().saturating_sub(LIFE);
    sql.exec("DELETE FROM decided WHERE at < ?", vec![integer(oldest)])?;
    for (place, bounds) in [OTHERS, CLEAR].into_iter().enumerate() {
        let query = "SELECT id, count FROM decided WHERE clear = ? ORDER BY id DESC";
        let rows: Vec<Row> = sql.exec(query, vec![integer(place as u64)])?.to_array()?;
        let mut sum = 0;
        let is_needed = |row: &&Row| {
            let is_needed = sum < bounds.decisions as u64;
            sum += row.count;
            !is_needed
        };
        if let Some(surplus) = rows.iter().find(is_needed) {
            let values = [place as u64, surplus.id].map(integer).to_vec();
            sql.exec("DELETE FROM decided WHERE clear = ? AND id <= ?", values)?;
        }
    }
    Ok(())
}

impl Ring {
    /// Adds a new one; the oldest make place.
    fn push(&mut self, kept: Kept) {
        self.bytes += kept.size();
        self.kept.push_back(kept);
        self.unsaved += 1;
        while self.kept.len() > self.bounds.decisions || self.bytes > self.bounds.bytes {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.size();
        }
        self.unsaved = self.unsaved.min(self.kept.len());
    }

    /// Adds an old one, if there is place.
    fn unshift(&mut self, kept: Kept) {
        let bytes = self.bytes + kept.size();
        if self.kept.len() < self.bounds.decisions && bytes <= self.bounds.bytes {
            self.bytes = bytes;
            self.kept.push_front(kept);
        }
    }

    /// What is not stored yet, in parts of some size.
    fn unsaved(&self) -> Vec<Vec<&RawValue>> {
        let mut parts: Vec<Vec<&RawValue>> = Vec::new();
        let mut size = usize::MAX;
        for own in self.kept.iter().skip(self.kept.len() - self.unsaved) {
            if size.saturating_add(own.size()) > ROW {
                parts.push(Vec::new());
                size = 0;
            }
            size = size.saturating_add(own.size());
            if let Some(part) = parts.last_mut() {
                part.push(&own.text);
            }
        }
        parts
    }
}

impl Kept {
    fn read(text: Box<RawValue>) -> Option<Self> {
        let facts = serde_json::from_str(text.get()).ok()?;
        Some(Self { text, facts })
    }

    fn is_clear(&self) -> bool {
        self.facts.band.as_deref() == Some("clear")
    }

    /// Bytes of it, nearly: its facts are a part of its text.
    fn size(&self) -> usize {
        2 * self.text.get().len()
    }
}

impl Facts {
    /// Whether it is what a query asks for. What a query does not name may be anything.
    fn fits(&self, query: &HashMap<String, String>) -> bool {
        let is = |name: &str, value: Option<&str>| {
            query.get(name).is_none_or(|asked| value == Some(asked.as_str()))
        };
        let begins = |name: &str, value: Option<&str>| {
            query.get(name).is_none_or(|asked| value.is_some_and(|value| value.starts_with(asked)))
        };
        let has_hit = |asked: &String| {
            self.hits.iter().any(|hit| hit.name == *asked) || self.shadow_hits.contains(asked)
        };
        let time = |name: &str| query.get(name).and_then(|at| at.parse::<f64>().ok());
        let is_in_time = time("since").is_none_or(|since| self.at >= since)
            && time("until").is_none_or(|until| self.at < until);
        is_in_time
            && is("band", Some(self.band.as_deref().unwrap_or("unscored")))
            && is("action", Some(&self.action))
            && is("colo", Some(&self.colo))
            && is("model", self.model.as_deref())
            && is("cluster", self.cluster.as_deref())
            // People copy the first digits.
            && begins("account", self.account.as_deref())
            && begins("id", Some(&self.request_id))
            && query.get("signature").is_none_or(has_hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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

    fn ids(found: &Found) -> Vec<String> {
        let id = |text: &RawValue| serde_json::from_str::<Facts>(text.get()).unwrap().request_id;
        found.decisions.iter().map(|(_, text)| id(text)).collect()
    }

    fn unsaved(all: &Decisions) -> usize {
        all.rings.iter().flat_map(Ring::unsaved).map(|part| part.len()).sum()
    }

    #[test]
    fn clear_ones_do_not_push_out_the_others() {
        let mut all = Decisions::default();
        all.report(vec![decision(0, "hostile")]);
        all.report((1..=5_000).map(|number| decision(number, "clear")).collect());
        let found = all.find(&query(&[]), 0.0);
        assert_eq!(found.kept, CLEAR.decisions + 1);
        assert_eq!(ids(&found)[0], "id-5000");
        assert_eq!(ids(&all.find(&query(&[("band", "hostile")]), 0.0)), ["id-0"]);
        assert_eq!(unsaved(&all), CLEAR.decisions + 1);
        all.report((0..5_000).map(|number| decision(number, "suspect")).collect());
        assert_eq!(all.find(&query(&[]), 0.0).kept, MOST);
        assert_eq!(unsaved(&all), MOST);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut all = Decisions::default();
        let large = |number: usize| {
            let text = decision(number, "suspect")
                .get()
                .replace("\"FRA\"", &format!("\"{}\"", "x".repeat(30_000)));
            RawValue::from_string(text).unwrap()
        };
        all.report((0..500).map(large).collect());
        let [others, _] = &all.rings;
        assert!(others.bytes <= OTHERS.bytes && others.bytes > OTHERS.bytes / 2);
        assert_eq!(others.bytes, others.kept.iter().map(Kept::size).sum::<usize>());
        assert_eq!(ids(&all.find(&query(&[("limit", "1")]), 0.0)), ["id-499"], "the newest stay");
    }

    #[test]
    fn what_was_stored_before_is_older_and_gives_way() {
        let mut all = Decisions::default();
        all.report(vec![decision(7, "notice")]);
        let [others, _] = &mut all.rings;
        (0..7)
            .rev()
            .filter_map(|number| Kept::read(decision(number, "notice")))
            .for_each(|own| others.unshift(own));
        assert_eq!(
            ids(&all.find(&query(&[]), 0.0)),
            (0..8).rev().map(|number| format!("id-{number}")).collect::<Vec<_>>()
        );
        assert_eq!(unsaved(&all), 1);
    }

    #[test]
    fn what_is_asked_for_is_found() {
        let mut all = Decisions::default();
        all.report((0..10).map(|number| decision(number, "notice")).collect());
        let rows: [(&[(&str, &str)], usize); 15] = [
            (&[], 10),
            (&[("limit", "3")], 3),
            (&[("limit", "999999")], 10),
            (&[("signature", "hit_1")], 5),
            (&[("signature", "quiet")], 10),
            (&[("signature", "hit")], 0),
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
        for (asked, expected) in rows {
            assert_eq!(all.find(&query(asked), 0.0).decisions.len(), expected, "{asked:?}");
        }
        assert_eq!(ids(&all.find(&query(&[("limit", "2")]), 0.0)), ["id-9", "id-8"]);
        let later = all.find(&query(&[]), LIFE as f64 * 1_000.0 + 100.0);
        assert_eq!((later.decisions.len(), later.kept), (0, 0), "they are too old");
    }

    #[test]
    fn what_is_no_decision_is_left_out() {
        let mut all = Decisions::default();
        let texts = ["null", "{}", "[1]", "\"x\""];
        all.report(texts.map(|text| RawValue::from_string(text.into()).unwrap()).to_vec());
        assert_eq!((all.find(&query(&[]), 0.0).kept, unsaved(&all)), (0, 0));
    }
}
