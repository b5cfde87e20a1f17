//! Counts over time, as the console draws them: each object of the ledger adds up its own, and what they
//! have is added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Steps into which a time is cut, and where it begins; all in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// When the first begins.
    pub from: u64,
    /// How long one is.
    pub step: u64,
    /// How many there are.
    pub count: usize,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

impl Steps {
    /// The steps of the last minutes: few enough to draw, and no finer than what is kept so long.
    pub fn of_last(minutes: u64, now: u64) -> Self {
        let step = match minutes {
            0..=90 => MINUTE,
            91..=360 => 5 * MINUTE,
            361..=2_880 => 15 * MINUTE,
            2_881..=10_080 => 2 * HOUR,
            _ => 8 * HOUR,
        };
        let count = (minutes * MINUTE).div_ceil(step);
        // The last one is not over yet.
        let end = now - now % step + step;
        Self { from: end.saturating_sub(count * step), step, count: count as usize }
    }

    /// The steps that a query names.
    pub fn parse(from: &str, step: &str, count: &str) -> Option<Self> {
        let (from, step, count) = (from.parse().ok()?, step.parse().ok()?, count.parse().ok()?);
        let is_sound = step >= MINUTE && step % MINUTE == 0 && (1..=MAX_STEPS).contains(&count);
        is_sound.then_some(Self { from, step, count })
    }

    /// The same as a query.
    pub fn query(&self) -> String {
        format!("from={}&step={}&count={}", self.from, self.step, self.count)
    }

    /// When the last one ends.
    pub fn end(&self) -> u64 {
        self.from.saturating_add(self.step.saturating_mul(self.count as u64))
    }

    /// In which of them a time is.
    pub fn place(&self, at: u64) -> Option<usize> {
        let place = at.checked_sub(self.from)? / self.step;
        usize::try_from(place).ok().filter(|place| *place < self.count)
    }
}

const MAX_STEPS: usize = 200;

/// Counts of one thing, one a step.
type Points = Vec<u64>;

/// Counts over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    bands: BTreeMap<String, Points>,
    actions: BTreeMap<String, Points>,
    signatures: BTreeMap<String, Points>,
    errors: BTreeMap<String, Points>,
    /// Requests by where their score's step of five begins.
    scores: BTreeMap<String, u64>,
    /// Requests by serial, ruleset and role, and then by band.
    rulesets: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The kinds of counts that are in it.
pub const KINDS: [&str; 4] = ["request", "signature", "score", "error"];

impl Series {
    /// Adds a count of the ledger's.
    pub fn add(&mut self, steps: &Steps, at: u64, key: &[String], count: u64) {
        let Some(place) = steps.place(at) else { return };
        let add = |all: &mut BTreeMap<String, Points>, name: &str| {
            let points = all.entry(name.to_owned()).or_insert_with(|| vec![0; steps.count]);
            if let Some(point) = points.get_mut(place) {
                *point = point.saturating_add(count);
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
            ["error", what] => add(&mut self.errors, what),
            ["score", from] => *self.scores.entry((*from).to_owned()).or_default() += count,
            _ => {}
        }
    }

    /// Adds what another object has.
    pub fn gather(&mut self, other: Self) {
        let sum = |own: &mut BTreeMap<String, Points>, other: BTreeMap<String, Points>| {
            for (name, points) in other {
                let known = own.entry(name).or_insert_with(|| vec![0; points.len()]);
                known.iter_mut().zip(points).for_each(|(known, more)| *known += more);
            }
        };
        sum(&mut self.bands, other.bands);
        sum(&mut self.actions, other.actions);
        sum(&mut self.signatures, other.signatures);
        sum(&mut self.errors, other.errors);
        for (from, count) in other.scores {
            *self.scores.entry(from).or_default() += count;
        }
        for (ruleset, bands) in other.rulesets {
            let known = self.rulesets.entry(ruleset).or_default();
            for (band, count) in bands {
                *known.entry(band).or_default() += count;
            }
        }
    }

    /// As the API tells it.
    pub fn json(&self, steps: &Steps, minutes: u64) -> Value {
        let all = |names: &[&str], counts: &BTreeMap<String, Points>| {
            let none = || vec![0; steps.count];
            let of = |name: &&str| {
                let points = counts.get(*name).cloned().unwrap_or_else(none);
                ((*name).to_owned(), json!(points))
            };
            names.iter().map(of).collect::<serde_json::Map<String, Value>>()
        };
        let at = (0..steps.count as u64).map(|place| steps.from + place * steps.step);
        let score = |place: u64| self.scores.get(&(5 * place).to_string()).copied().unwrap_or(0);
        json!({
            "minutes": minutes,
            "step": steps.step,
            "at": at.collect::<Vec<_>>(),
            "bands": all(&BANDS, &self.bands),
            "actions": all(&ACTIONS, &self.actions),
            "scores": (0..20).map(score).collect::<Vec<_>>(),
            "signatures": ranked(&self.signatures, TOP, "name", "hits"),
            "errors": ranked(&self.errors, TOP, "what", "count"),
            "rulesets": self.rulesets.iter().filter_map(ruleset).collect::<Vec<_>>(),
        })
    }
}

const BANDS: [&str; 4] = ["clear", "notice", "suspect", "hostile"];
const ACTIONS: [&str; 5] = ["allow", "tag", "degrade", "throttle", "block"];

/// Signatures and errors that are listed.
const TOP: usize = 50;

/// What was counted most, first.
fn ranked(all: &BTreeMap<String, Points>, most: usize, name: &str, count: &str) -> Vec<Value> {
    let sum = |points: &Points| points.iter().sum::<u64>();
    let mut rows: Vec<_> = all.iter().map(|(own, points)| (sum(points), own, points)).collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    rows.truncate(most);
    rows.into_iter()
        .map(|(sum, own, points)| json!({ name: own, count: sum, "points": points }))
        .collect()
}

fn ruleset((key, bands): (&String, &BTreeMap<String, u64>)) -> Option<Value> {
    let mut parts = key.splitn(3, ' ');
    let (serial, role, ruleset) = (parts.next()?, parts.next()?, parts.next()?);
    Some(json!({
        "ruleset": ruleset, "serial": serial.parse::<u64>().ok()?, "role": role,
        "requests": bands.values().sum::<u64>(), "bands": bands,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn steps_cover_what_is_asked_for_and_end_with_the_one_that_runs() {
        let now = 1_800_000_000 + 1_234;
        for minutes in [15, 60, 90, 91, 360, 1_440, 2_880, 2_881, 10_080, 43_200] {
            let steps = Steps::of_last(minutes, now);
            assert!(steps.count <= MAX_STEPS, "{minutes}");
            assert!(steps.count as u64 * steps.step >= minutes * 60, "{minutes}");
            assert_eq!(steps.place(now), Some(steps.count - 1), "{minutes}");
            assert_eq!((steps.place(steps.from), steps.place(steps.end())), (Some(0), None));
            assert_eq!(steps.place(steps.from - 1), None);
            // Minutes are kept for two days only.
            assert!(minutes <= 2_880 || steps.step.is_multiple_of(3_600), "{minutes}");
            let parts: Vec<String> =
                steps.query().split('&').map(|own| own.split_once('=').unwrap().1.into()).collect();
            assert_eq!(Steps::parse(&parts[0], &parts[1], &parts[2]), Some(steps));
        }
        for (from, step, count) in [
            ("0", "0", "1"),
            ("0", "61", "1"),
            ("0", "60", "0"),
            ("0", "60", "9999"),
            ("", "60", "1"),
        ] {
            assert_eq!(Steps::parse(from, step, count), None, "{from} {step} {count}");
        }
    }

    #[test]
    fn what_several_objects_counted_adds_up() {
        let steps = Steps { from: 600, step: 60, count: 3 };
        let request = key(&["request", "7", "abc", "active", "suspect", "tag", "shadow"]);
        let mut one = Series::default();
        one.add(&steps, 600, &request, 2);
        one.add(&steps, 659, &request, 1);
        one.add(&steps, 780, &request, 9);
        one.add(&steps, 599, &request, 9);
        one.add(&steps, 720, &key(&["signature", "abc", "a"]), 1);
        one.add(&steps, 720, &key(&["colo", "FRA"]), 1);
        let mut other = Series::default();
        other.add(&steps, 720, &request, 4);
        other.add(&steps, 720, &key(&["signature", "def", "b"]), 3);
        other.add(&steps, 600, &key(&["score", "95"]), 5);
        other.add(&steps, 660, &key(&["error", "it failed"]), 1);
        one.gather(other);
        let told = one.json(&steps, 3);
        assert_eq!(told["at"], json!([600, 660, 720]));
        assert_eq!(told["bands"]["suspect"], json!([3, 0, 4]));
        assert_eq!(told["bands"]["clear"], json!([0, 0, 0]));
        assert_eq!(told["actions"]["tag"], json!([3, 0, 4]));
        assert_eq!(told["scores"][19], 5);
        let signatures = json!([{ "name": "b", "hits": 3, "points": [0, 0, 3] }, { "name": "a", "hits": 1, "points": [0, 0, 1] }]);
        assert_eq!(told["signatures"], signatures);
        assert_eq!(
            told["errors"],
            json!([{ "what": "it failed", "count": 1, "points": [0, 1, 0] }])
        );
        let rulesets = json!([{ "ruleset": "abc", "serial": 7, "role": "active", "requests": 7, "bands": { "suspect": 7 } }]);
        assert_eq!(told["rulesets"], rulesets);
    }
}
