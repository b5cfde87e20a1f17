//! Time series of counters, for the console's charts. Each object of the ledger makes its own
//! series, and the admin API merges them.

use std::collections::BTreeMap;

use hedgerow_core::api;
use hedgerow_core::rules::policy::{Action, Band};
use hedgerow_core::rules::release::RulesetRole;
use serde::{Deserialize, Serialize};

/// A period, divided into steps of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeBuckets {
    /// Start of the first step, in seconds since the epoch.
    pub start: u64,
    /// Length of a step in seconds.
    pub step: u64,
    /// Number of steps in the period.
    pub count: usize,
}

/// A minute and an hour in seconds.
const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// Seconds for which the ledger keeps the counters of minutes.
pub const MINUTE_RETENTION_SECONDS: u64 = 48 * HOUR;

/// Maximum number of steps.
const MAX_BUCKETS: usize = 200;

impl TimeBuckets {
    /// Returns the steps that cover the last `minutes`, up to and including the current step: at
    /// most 200. Beyond two days, steps are whole hours, because the ledger keeps the counts of
    /// minutes for only two days. `now` is in seconds since the epoch.
    pub fn from_last_minutes(minutes: u64, now: u64) -> Self {
        let step = step_of(minutes);
        let count = (minutes * MINUTE).div_ceil(step);
        // The last step is not over yet.
        let end = now - now % step + step;
        Self { start: end.saturating_sub(count * step), step, count: count as usize }
    }

    /// Returns the steps that cover the `minutes` before `until`, and at most one step more. Steps
    /// are whole hours if the ledger may have deleted the counts of minutes. `until` and `now` are
    /// in seconds since the epoch.
    pub fn before(until: u64, minutes: u64, now: u64) -> Self {
        let from = until.saturating_sub(minutes * MINUTE);
        let kept_from = now.saturating_sub(MINUTE_RETENTION_SECONDS) + MINUTE;
        let mut step = step_of(minutes);
        if from - from % step < kept_from {
            step = step.max(HOUR);
        }
        let start = from - from % step;
        Self { start, step, count: (until - start).div_ceil(step) as usize }
    }

    /// Parses the parameters of a query; `None` if they are invalid.
    pub fn parse(start: &str, step: &str, count: &str) -> Option<Self> {
        let (start, step, count) = (start.parse().ok()?, step.parse().ok()?, count.parse().ok()?);
        let is_valid = step >= MINUTE && step % MINUTE == 0 && (1..=MAX_BUCKETS).contains(&count);
        is_valid.then_some(Self { start, step, count })
    }

    /// Returns the query that [`parse`](Self::parse) reads.
    pub fn to_query(self) -> String {
        format!("from={}&step={}&count={}", self.start, self.step, self.count)
    }

    /// Returns the end of the last step, in seconds since the epoch.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.step.saturating_mul(self.count as u64))
    }

    /// Returns the index of the step that contains `at`, in seconds since the epoch; `None` if `at`
    /// is outside of the period.
    pub fn index_of(&self, at: u64) -> Option<usize> {
        let index = at.checked_sub(self.start)? / self.step;
        usize::try_from(index).ok().filter(|index| *index < self.count)
    }
}

/// Returns the length of a step in seconds.
const fn step_of(minutes: u64) -> u64 {
    match minutes {
        0..=90 => MINUTE,
        91..=360 => 5 * MINUTE,
        361..=2_880 => 15 * MINUTE,
        2_881..=10_080 => 2 * HOUR,
        _ => 8 * HOUR,
    }
}

/// Counts of one name, by step.
type Samples = Vec<u64>;

/// Counts by name and step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    bands: BTreeMap<String, Samples>,
    actions: BTreeMap<String, Samples>,
    signatures: BTreeMap<String, Samples>,
    errors: BTreeMap<String, Samples>,
    /// Requests of the whole period by the lower bound of their score's bucket.
    scores: BTreeMap<String, u64>,
    /// Requests of the whole period by `<serial> <role> <ruleset>`, and then by band.
    rulesets: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The kinds of counters that a series contains.
pub const SERIES_KINDS: [&str; 4] = ["request", "signature", "score", "error"];

impl Series {
    /// Adds a counter of the time `at`, in seconds since the epoch. Counters whose kind is not in
    /// [`SERIES_KINDS`] are ignored.
    pub fn add(&mut self, buckets: &TimeBuckets, at: u64, key: &[String], count: u64) {
        let Some(index) = buckets.index_of(at) else { return };
        let add = |by_name: &mut BTreeMap<String, Samples>, name: &str| {
            let samples = by_name.entry(name.to_owned()).or_insert_with(|| vec![0; buckets.count]);
            if let Some(sample) = samples.get_mut(index) {
                *sample = sample.saturating_add(count);
            }
        };
        let parts: Vec<&str> = key.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["request", serial, ruleset, role, band, action, _mode] => {
                add(&mut self.bands, band);
                add(&mut self.actions, action);
                let bands = self.rulesets.entry(format!("{serial} {role} {ruleset}")).or_default();
                *bands.entry((*band).to_owned()).or_default() += count;
            }
            ["signature", _ruleset, name] => add(&mut self.signatures, name),
            ["error", message] => add(&mut self.errors, message),
            ["score", score] => *self.scores.entry((*score).to_owned()).or_default() += count,
            _ => {}
        }
    }

    /// Adds the series of another object, which has the same steps.
    pub fn merge(&mut self, other: Self) {
        let merge_samples = |target: &mut BTreeMap<String, Samples>,
                             source: BTreeMap<String, Samples>| {
            for (name, samples) in source {
                let totals = target.entry(name).or_insert_with(|| vec![0; samples.len()]);
                totals.iter_mut().zip(samples).for_each(|(total, count)| *total += count);
            }
        };
        merge_samples(&mut self.bands, other.bands);
        merge_samples(&mut self.actions, other.actions);
        merge_samples(&mut self.signatures, other.signatures);
        merge_samples(&mut self.errors, other.errors);
        for (score, count) in other.scores {
            *self.scores.entry(score).or_default() += count;
        }
        for (ruleset, bands) in other.rulesets {
            let totals = self.rulesets.entry(ruleset).or_default();
            for (band, count) in bands {
                *totals.entry(band).or_default() += count;
            }
        }
    }

    /// Converts the series to the form of the API. Every band and action is included; if it has no
    /// requests, its counts are 0. `minutes` is the length of the period that the client asked for.
    pub fn to_api(&self, buckets: &TimeBuckets, minutes: u64) -> api::Series {
        let samples = |counts: &BTreeMap<String, Samples>, name: &str| {
            counts.get(name).cloned().unwrap_or_else(|| vec![0; buckets.count])
        };
        let band = |band: Band| samples(&self.bands, band.name());
        let action = |action: Action| samples(&self.actions, action.name());
        let starts = (0..buckets.count as u64).map(|index| buckets.start + index * buckets.step);
        let score = |index: u64| self.scores.get(&(5 * index).to_string()).copied().unwrap_or(0);
        api::Series {
            minutes,
            step: buckets.step,
            at: starts.collect(),
            bands: api::BandSeries {
                clear: band(Band::Clear),
                notice: band(Band::Notice),
                suspect: band(Band::Suspect),
                hostile: band(Band::Hostile),
            },
            actions: api::ActionSeries {
                allow: action(Action::Allow),
                tag: action(Action::Tag),
                degrade: action(Action::Degrade),
                throttle: action(Action::Throttle),
                block: action(Action::Block),
            },
            scores: (0..20).map(score).collect(),
            signatures: ranked(&self.signatures)
                .map(|(hits, name, points)| api::SignatureSeries { name, hits, points })
                .collect(),
            errors: ranked(&self.errors)
                .map(|(count, message, points)| api::ErrorSeries { message, count, points })
                .collect(),
            rulesets: self.rulesets.iter().filter_map(ruleset_traffic).collect(),
        }
    }
}

/// Maximum number of signatures, and of errors, in the response.
const MAX_RANKED: usize = 50;

/// Returns the [`MAX_RANKED`] series with the highest totals, highest first. An item is the total,
/// the name and the counts by step.
fn ranked(series: &BTreeMap<String, Samples>) -> impl Iterator<Item = (u64, String, Samples)> {
    let total = |samples: &Samples| samples.iter().sum::<u64>();
    let mut rows: Vec<_> =
        series.iter().map(|(label, samples)| (total(samples), label, samples)).collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    rows.truncate(MAX_RANKED);
    rows.into_iter().map(|(total, label, samples)| (total, label.clone(), samples.clone()))
}

/// Converts an entry of `Series::rulesets` to the form of the API; returns `None` if the key is
/// malformed.
fn ruleset_traffic((key, bands): (&String, &BTreeMap<String, u64>)) -> Option<api::RulesetTraffic> {
    let mut parts = key.splitn(3, ' ');
    let (serial, role, ruleset) = (parts.next()?, parts.next()?, parts.next()?);
    Some(api::RulesetTraffic {
        ruleset: ruleset.to_owned(),
        serial: serial.parse().ok()?,
        role: RulesetRole::parse(role)?,
        requests: bands.values().sum(),
        bands: bands.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn buckets_cover_the_requested_minutes_and_end_with_the_current_one() {
        let now = 1_800_000_000 + 1_234;
        for minutes in [15, 60, 90, 91, 360, 1_440, 2_880, 2_881, 10_080, 43_200] {
            let buckets = TimeBuckets::from_last_minutes(minutes, now);
            assert!(buckets.count <= MAX_BUCKETS, "{minutes}");
            assert!(buckets.count as u64 * buckets.step >= minutes * 60, "{minutes}");
            assert_eq!(buckets.index_of(now), Some(buckets.count - 1), "{minutes}");
            assert_eq!(
                (buckets.index_of(buckets.start), buckets.index_of(buckets.end())),
                (Some(0), None)
            );
            assert_eq!(buckets.index_of(buckets.start - 1), None);
            // The ledger keeps minutes for two days.
            assert!(minutes <= 2_880 || buckets.step.is_multiple_of(3_600), "{minutes}");
            let parts: Vec<String> = buckets
                .to_query()
                .split('&')
                .map(|pair| pair.split_once('=').unwrap().1.into())
                .collect();
            assert_eq!(TimeBuckets::parse(&parts[0], &parts[1], &parts[2]), Some(buckets));
        }
        for (start, step, count) in [
            ("0", "0", "1"),
            ("0", "61", "1"),
            ("0", "60", "0"),
            ("0", "60", "9999"),
            ("", "60", "1"),
        ] {
            assert_eq!(TimeBuckets::parse(start, step, count), None, "{start} {step} {count}");
        }
    }

    #[test]
    fn buckets_cover_the_minutes_before_a_time() {
        let now = 1_800_000_000 + 1_234;
        let day = 24 * HOUR;
        // Seconds from `until` to now, minutes, length of a step.
        let rows = [
            (0, 60, MINUTE),
            (day, 60, MINUTE),
            (day, 360, 5 * MINUTE),
            (day, 1_440, HOUR),
            (7 * day, 60, HOUR),
            (7 * day, 1_440, HOUR),
            (7 * day, 10_080, 2 * HOUR),
            (day, 43_200, 8 * HOUR),
            (now - 1, 60, HOUR),
        ];
        for (age, minutes, step) in rows {
            let until = now - age;
            let buckets = TimeBuckets::before(until, minutes, now);
            assert_eq!(buckets.step, step, "{age} {minutes}");
            let from = until.saturating_sub(minutes * 60);
            assert_eq!(buckets.index_of(from), Some(0), "{age} {minutes}");
            assert!((until..until + step).contains(&buckets.end()), "{age} {minutes}");
            assert!(buckets.count <= MAX_BUCKETS, "{age} {minutes}");
            assert!(buckets.start.is_multiple_of(step), "{age} {minutes}");
        }
    }

    #[test]
    fn series_of_several_shards_are_merged() {
        let buckets = TimeBuckets { start: 600, step: 60, count: 3 };
        let request = key(&["request", "7", "abc", "active", "suspect", "tag", "shadow"]);
        let mut merged = Series::default();
        merged.add(&buckets, 600, &request, 2);
        merged.add(&buckets, 659, &request, 1);
        merged.add(&buckets, 780, &request, 9);
        merged.add(&buckets, 599, &request, 9);
        merged.add(&buckets, 720, &key(&["signature", "abc", "a"]), 1);
        merged.add(&buckets, 720, &key(&["colo", "FRA"]), 1);
        let mut other = Series::default();
        other.add(&buckets, 720, &request, 4);
        other.add(&buckets, 720, &key(&["signature", "def", "b"]), 3);
        other.add(&buckets, 600, &key(&["score", "95"]), 5);
        other.add(&buckets, 660, &key(&["error", "it failed"]), 1);
        merged.merge(other);
        let value = json!(merged.to_api(&buckets, 3));
        assert_eq!(value["at"], json!([600, 660, 720]));
        assert_eq!(value["bands"]["suspect"], json!([3, 0, 4]));
        assert_eq!(value["bands"]["clear"], json!([0, 0, 0]));
        assert_eq!(value["actions"]["tag"], json!([3, 0, 4]));
        assert_eq!(value["scores"][19], 5);
        let signatures = json!([
            { "name": "b", "hits": 3, "points": [0, 0, 3] },
            { "name": "a", "hits": 1, "points": [0, 0, 1] },
        ]);
        assert_eq!(value["signatures"], signatures);
        assert_eq!(
            value["errors"],
            json!([{ "message": "it failed", "count": 1, "points": [0, 1, 0] }])
        );
        let bands = json!({ "suspect": 7 });
        let rulesets = json!([
            { "ruleset": "abc", "serial": 7, "role": "active", "requests": 7, "bands": bands },
        ]);
        assert_eq!(value["rulesets"], rulesets);
    }
}
