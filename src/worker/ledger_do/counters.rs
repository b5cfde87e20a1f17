//! Counts, and what is counted: the form in which isolates report and the ledger keeps them.
//!
//! | key | counts |
//! |---|---|
//! | `request`, serial, ruleset, role, band, action, mode | decided requests |
//! | `colo`, colo | the same by data centre |
//! | `score`, from | the same by score, in steps of five |
//! | `signature`, ruleset, name | hits |
//! | `error`, what | our own failures |
//! | `cluster`, id, band | requests whose indicators named a cluster |
//! | `cluster_model`, id, model | the same by model |
//! | `shadow`, shadow ruleset, band, shadow's band | requests that were scored twice |
//! | `shadow_signature`, shadow ruleset, name, `active` or `shadow` | hits of only one of the two |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Counts by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(CounterKey, u64)>", into = "Vec<(CounterKey, u64)>")]
pub struct Counters(BTreeMap<CounterKey, u64>);

/// What an isolate reports: its counts, and some of its decisions as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The counts.
    pub counters: Counters,
    /// The decisions.
    #[serde(default)]
    pub decisions: Vec<Box<RawValue>>,
}

impl Report {
    /// Reads a report; isolates of an earlier version send nothing but counts.
    pub fn parse(text: &str) -> Option<Self> {
        let counts =
            || Some(Self { counters: serde_json::from_str(text).ok()?, decisions: Vec::new() });
        serde_json::from_str(text).ok().or_else(counts)
    }
}

/// What is counted.
pub type CounterKey = Vec<String>;

/// Keys that are kept apart while counts are collected; what comes beyond them counts as [`OVERFLOW`].
/// Colos, signatures and rulesets are some hundreds.
pub const MAX_KEYS: usize = 4096;

/// Bytes of a key that are kept.
const MAX_KEY_BYTES: usize = 512;

const OVERFLOW: &str = "overflow";

impl Counters {
    /// Adds to a count.
    pub fn add(&mut self, key: CounterKey, count: u64) {
        let is_long = key.iter().map(String::len).sum::<usize>() > MAX_KEY_BYTES;
        let key = match is_long || (self.0.len() >= MAX_KEYS && !self.0.contains_key(&key)) {
            true => vec![OVERFLOW.to_owned()],
            false => key,
        };
        self.add_unbounded(key, count);
    }

    /// Adds one to the count of a key made of these parts.
    pub fn increment<const PARTS: usize>(&mut self, parts: [&str; PARTS]) {
        self.add(parts.map(str::to_owned).to_vec(), 1);
    }

    /// Adds all counts of another, which has its bounds: what was kept is never lost in being read.
    pub fn merge_unbounded(&mut self, other: Self) {
        other.0.into_iter().for_each(|(key, count)| self.add_unbounded(key, count));
    }

    /// Adds to a count, without a bound.
    pub fn add_unbounded(&mut self, key: CounterKey, count: u64) {
        let total = self.0.entry(key).or_default();
        *total = total.saturating_add(count);
    }

    /// Adds all counts of another.
    pub fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(key, count)| self.add(key, count));
    }

    /// The first count, in the order of their keys.
    pub fn first(&self) -> Option<(CounterKey, u64)> {
        self.0.first_key_value().map(|(key, count)| (key.clone(), *count))
    }

    /// The counts whose keys begin with these parts.
    pub fn with_prefix<const PARTS: usize>(
        &self,
        parts: [&str; PARTS],
    ) -> impl Iterator<Item = (&[String], u64)> {
        let prefix: CounterKey = parts.iter().map(|part| (*part).to_owned()).collect();
        let candidates =
            self.0.range(prefix.clone()..).map(|(key, count)| (key.as_slice(), *count));
        candidates.take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// Takes a count out.
    pub fn remove(&mut self, key: &CounterKey) {
        self.0.remove(key);
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All counts, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[String], u64)> {
        self.0.iter().map(|(key, count)| (key.as_slice(), *count))
    }
}

impl From<Vec<(CounterKey, u64)>> for Counters {
    fn from(counts: Vec<(CounterKey, u64)>) -> Self {
        let mut counters = Self::default();
        counts.into_iter().for_each(|(key, count)| counters.add_unbounded(key, count));
        counters
    }
}

impl From<Counters> for Vec<(CounterKey, u64)> {
    fn from(counters: Counters) -> Self {
        counters.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_both_versions_are_read() {
        let counts = r#"[[["colo","FRA"],3]]"#;
        for text in [
            counts.to_owned(),
            format!(r#"{{"counters":{counts}}}"#),
            format!(r#"{{"counters":{counts},"decisions":[{{}}]}}"#),
        ] {
            let report = Report::parse(&text).unwrap();
            assert_eq!(report.counters.iter().map(|(_, count)| count).sum::<u64>(), 3, "{text}");
        }
        assert!(Report::parse("{}").is_none());
    }

    #[test]
    fn counts_add_up_and_stay_bounded() {
        let mut counters = Counters::default();
        counters.increment(["error", "a"]);
        counters.increment(["error", "a"]);
        for number in 0..2 * MAX_KEYS {
            counters.increment(["error", &number.to_string()]);
        }
        counters.increment(["error", &"x".repeat(MAX_KEY_BYTES)]);
        assert_eq!(counters.iter().count(), MAX_KEYS + 1);
        let sum: u64 = counters.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, 2 + 2 * MAX_KEYS as u64 + 1, "nothing is lost");
        let text = serde_json::to_string(&counters).unwrap();
        assert_eq!(serde_json::from_str::<Counters>(&text).unwrap(), counters);
    }
}
