//! The last decisions: a ring that is bounded whatever comes, clear requests apart from all others, so
//! that these are not pushed out by them.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::insight::MAX_LIMIT;

/// Decisions that an object keeps at most: clear ones, and all others.
const CLEAR: usize = 500;
const OTHERS: usize = 1_500;

/// Both together.
pub const MAX_KEPT: usize = CLEAR + OTHERS;

/// Milliseconds for which a decision is kept.
pub const KEPT: f64 = 7.0 * 86_400_000.0;

/// Bytes of a decision that is kept: some two kilobytes are usual.
const MAX_BYTES: usize = 32 << 10;

/// What a question finds, newest first.
#[derive(Default, Serialize, Deserialize)]
pub struct Found {
    /// The decisions by their time.
    pub decisions: Vec<(f64, Box<RawValue>)>,
    /// How many are kept.
    pub kept: usize,
}

/// The decisions.
#[derive(Default)]
pub struct Decisions {
    clear: VecDeque<Kept>,
    others: VecDeque<Kept>,
    /// Those that are not stored yet.
    fresh: Vec<Box<RawValue>>,
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

impl Decisions {
    /// Keeps decisions that an isolate reported; what is none is left out.
    pub fn report(&mut self, decisions: Vec<Box<RawValue>>) {
        for text in decisions {
            if self.keep(text.clone()) {
                self.fresh.push(text);
            }
        }
        // What nobody stores meanwhile is lost with the memory, oldest first.
        let surplus = self.fresh.len().saturating_sub(MAX_KEPT);
        self.fresh.drain(..surplus);
    }

    /// Keeps one that was stored, or comes new.
    pub fn keep(&mut self, text: Box<RawValue>) -> bool {
        if text.get().len() > MAX_BYTES {
            return false;
        }
        let Ok(facts) = serde_json::from_str::<Facts>(text.get()) else { return false };
        let (ring, most) = match facts.band.as_deref() == Some("clear") {
            true => (&mut self.clear, CLEAR),
            false => (&mut self.others, OTHERS),
        };
        if ring.len() >= most {
            ring.pop_front();
        }
        ring.push_back(Kept { text, facts });
        true
    }

    /// Takes out what is not stored yet, in parts of some size.
    pub fn take_fresh(&mut self) -> Vec<Vec<Box<RawValue>>> {
        let mut parts: Vec<Vec<Box<RawValue>>> = Vec::new();
        let mut size = usize::MAX;
        for text in self.fresh.drain(..) {
            if size.saturating_add(text.get().len()) > PART {
                parts.push(Vec::new());
                size = 0;
            }
            size = size.saturating_add(text.get().len());
            if let Some(part) = parts.last_mut() {
                part.push(text);
            }
        }
        parts
    }

    /// Those that a query asks for.
    pub fn find(&self, query: &HashMap<String, String>, now: f64) -> Found {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(MAX_LIMIT);
        let is_asked = |kept: &&Kept| kept.facts.at + KEPT > now && kept.facts.fits(query);
        let both = self.clear.iter().rev().filter(is_asked).take(limit);
        let both = both.chain(self.others.iter().rev().filter(is_asked).take(limit));
        let mut decisions: Vec<_> = both.map(|own| (own.facts.at, own.text.clone())).collect();
        decisions.sort_by(|a, b| b.0.total_cmp(&a.0));
        decisions.truncate(limit);
        Found { decisions, kept: self.clear.len() + self.others.len() }
    }
}

/// Bytes that are stored in one row.
const PART: usize = 512 << 10;

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
        is("band", Some(self.band.as_deref().unwrap_or("unscored")))
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

    #[test]
    fn clear_ones_do_not_push_out_the_others() {
        let mut all = Decisions::default();
        all.report(vec![decision(0, "hostile")]);
        all.report((1..=5_000).map(|number| decision(number, "clear")).collect());
        let found = all.find(&query(&[]), 0.0);
        assert_eq!(found.kept, CLEAR + 1);
        assert_eq!(ids(&found)[0], "id-5000");
        assert_eq!(ids(&all.find(&query(&[("band", "hostile")]), 0.0)), ["id-0"]);
        all.report((0..5_000).map(|number| decision(number, "suspect")).collect());
        assert_eq!(all.find(&query(&[]), 0.0).kept, MAX_KEPT);
        assert!(all.take_fresh().iter().map(Vec::len).sum::<usize>() <= MAX_KEPT);
        assert!(all.take_fresh().is_empty());
    }

    #[test]
    fn what_is_asked_for_is_found() {
        let mut all = Decisions::default();
        all.report((0..10).map(|number| decision(number, "notice")).collect());
        let rows: [(&[(&str, &str)], usize); 12] = [
            (&[], 10),
            (&[("limit", "3")], 3),
            (&[("signature", "hit_1")], 5),
            (&[("signature", "quiet")], 10),
            (&[("signature", "hit")], 0),
            (&[("id", "id-7")], 1),
            (&[("account", "0000000000000000000000000000000")], 10),
            (&[("account", &format!("{:032x}", 3))], 1),
            (&[("colo", "FRA"), ("model", "m"), ("action", "tag")], 10),
            (&[("cluster", "5b0f3a91")], 0),
            (&[("band", "clear")], 0),
            (&[("band", "unscored")], 0),
        ];
        for (asked, expected) in rows {
            assert_eq!(all.find(&query(asked), 0.0).decisions.len(), expected, "{asked:?}");
        }
        assert_eq!(ids(&all.find(&query(&[("limit", "2")]), 0.0)), ["id-9", "id-8"]);
        assert!(all.find(&query(&[]), KEPT + 100.0).decisions.is_empty(), "they are too old");
    }

    #[test]
    fn what_is_no_decision_is_left_out() {
        let mut all = Decisions::default();
        let texts = ["null", "{}", "[1]", "\"x\""];
        all.report(texts.map(|text| RawValue::from_string(text.into()).unwrap()).to_vec());
        let long = json!({ "request_id": "x".repeat(MAX_BYTES) }).to_string();
        all.report(vec![RawValue::from_string(long).unwrap()]);
        assert_eq!(all.find(&query(&[]), 0.0).kept, 0);
        assert!(all.take_fresh().is_empty());
    }
}
