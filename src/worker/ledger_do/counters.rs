//! Counters and their keys, as isolates report them and the ledger stores them.
//!
//! | key | counts |
//! |---|---|
//! | `request`, serial, ruleset, role, band, action, mode | decided requests |
//! | `colo`, colo | decided requests by data centre |
//! | `score`, lower bound | decided requests by score, in buckets of five |
//! | `exemption`, name | decided requests by exemption; if several applied, by the first one |
//! | `signature`, ruleset, name | hits |
//! | `unscored`, reason or `any` | decided requests of which a part was not scored |
//! | `forwarded_unread`, method, path shape | POST, PUT, PATCH and WebSockets, forwarded unread |
//! | `memory`, MiB | reports by the isolate's Wasm memory, rounded up to a multiple of 16 |
//! | `error`, message | faults in Hedgerow |
//! | `scoring_failed` | requests that could not be scored |
//! | `enforced` | requests that were refused or degraded |
//! | `enforced_dropped` | of these, those that an isolate could not send to the ledger |
//! | `enforced_evicted` | of these, those that the ledger deleted because of `max_bytes` |
//! | `cluster`, id, band | requests whose indicators named a cluster |
//! | `cluster_model`, id, model | requests of a cluster by model |
//! | `shadow`, shadow ruleset, band, band by the shadow | requests scored by both rulesets |
//! | `shadow_signature`, shadow ruleset, name, `active` or `shadow` | hits in only one ruleset |
//! | `overflow` | counts of further keys if there are too many, and of keys that are too long |
//!
//! The key `unscored` with the reason `websocket` also counts WebSockets and their messages that
//! were forwarded without a decision. The keys `shadow` and `shadow_signature` compare two
//! rulesets: the ruleset that decided (`active`) and the shadow.

use std::collections::BTreeMap;

use hedgerow_core::identity::mapping::NamedAccount;
use hedgerow_core::rules::policy::DecisionSettings;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Counts by key. As JSON, an array of pairs, such as `[[["colo","FRA"],3]]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(CounterKey, u64)>", into = "Vec<(CounterKey, u64)>")]
pub struct Counters(BTreeMap<CounterKey, u64>);

/// A report of an isolate to the ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Counts since the last report.
    pub counters: Counters,
    /// A sample of the decisions since the last report, as JSON objects.
    #[serde(default)]
    pub decisions: Vec<Box<RawValue>>,
    /// All enforced decisions since the last report, as JSON objects.
    #[serde(default)]
    pub enforced: Vec<Box<RawValue>>,
    /// Settings of the stored decisions; `None` if the isolate has made no decision.
    #[serde(default)]
    pub settings: Option<DecisionSettings>,
    /// Names that the origin gave accounts since the last report.
    #[serde(default)]
    pub names: Vec<NamedAccount>,
    /// Whether the policy has `labels`.
    #[serde(default)]
    pub labels: bool,
}

impl Report {
    /// Parses the JSON of a report; `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Kind and parts of a counter, as in the table at the head of this file.
pub type CounterKey = Vec<String>;

/// Maximum number of keys while counts are collected. Counts of further keys are added to
/// [`OVERFLOW`]. Regular traffic has some hundreds of keys: data centres, signatures and rulesets.
pub const MAX_KEYS: usize = 4096;

/// Maximum bytes of a key. Counts of longer keys are added to [`OVERFLOW`].
const MAX_KEY_BYTES: usize = 512;

/// The reason `any` in the key `unscored`. It counts each decided request with one or more reasons
/// once.
pub const ANY_REASON: &str = "any";

/// The kinds of requests that could not be scored, and of enforced decisions.
pub const SCORING_FAILED: &str = "scoring_failed";
pub const ENFORCED: &str = "enforced";
pub const ENFORCED_DROPPED: &str = "enforced_dropped";
pub const ENFORCED_EVICTED: &str = "enforced_evicted";

/// The key of all counts that exceed a limit.
const OVERFLOW: &str = "overflow";

impl Counters {
    /// Adds `count` to the count of `key`. If `key` exceeds a limit, adds it to `overflow` instead.
    pub fn add(&mut self, key: CounterKey, count: u64) {
        let is_long = key.iter().map(String::len).sum::<usize>() > MAX_KEY_BYTES;
        let is_over_limit = is_long || (self.0.len() >= MAX_KEYS && !self.0.contains_key(&key));
        let key = if is_over_limit { vec![OVERFLOW.to_owned()] } else { key };
        self.add_unbounded(key, count);
    }

    /// Adds 1 to a count, within the limits.
    pub fn increment<const PARTS: usize>(&mut self, parts: [&str; PARTS]) {
        self.add(parts.map(str::to_owned).to_vec(), 1);
    }

    /// Adds all counts of `other`, without limits, so that stored counts do not turn into
    /// `overflow`.
    pub fn merge_unbounded(&mut self, other: Self) {
        other.0.into_iter().for_each(|(key, count)| self.add_unbounded(key, count));
    }

    /// Adds `count` to the count of `key`, without limits.
    pub fn add_unbounded(&mut self, key: CounterKey, count: u64) {
        let total = self.0.entry(key).or_default();
        *total = total.saturating_add(count);
    }

    /// Adds all counts of `other`, within the limits.
    pub fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(key, count)| self.add(key, count));
    }

    /// Returns the first count in the order of keys; `None` if there are no counts.
    pub fn first(&self) -> Option<(CounterKey, u64)> {
        self.0.first_key_value().map(|(key, count)| (key.clone(), *count))
    }

    /// Returns the counts whose keys begin with `parts`, in the order of keys.
    pub fn with_prefix<const PARTS: usize>(
        &self,
        parts: [&str; PARTS],
    ) -> impl Iterator<Item = (&[String], u64)> {
        let prefix: CounterKey = parts.iter().map(|part| (*part).to_owned()).collect();
        let candidates =
            self.0.range(prefix.clone()..).map(|(key, count)| (key.as_slice(), *count));
        candidates.take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// Returns whether there is a count of exactly this key.
    pub fn contains<const PARTS: usize>(&self, parts: [&str; PARTS]) -> bool {
        self.0.contains_key(parts.map(str::to_owned).as_slice())
    }

    /// Removes a count.
    pub fn remove(&mut self, key: &CounterKey) {
        self.0.remove(key);
    }

    /// Returns whether there are no counts.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all counts, in the order of keys.
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
    fn reports_may_lack_decisions() {
        let counts = r#"[[["colo","FRA"],3]]"#;
        for text in [
            format!(r#"{{"counters":{counts}}}"#),
            format!(r#"{{"counters":{counts},"decisions":[{{}}]}}"#),
        ] {
            let report = Report::parse(&text).unwrap();
            assert_eq!(report.counters.iter().map(|(_, count)| count).sum::<u64>(), 3, "{text}");
        }
        assert!(Report::parse("{}").is_none());
        assert!(Report::parse(counts).is_none());
    }

    #[test]
    fn counts_add_up_within_the_limits() {
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
