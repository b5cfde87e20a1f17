//! The period of a query for decisions, in which decisions are kept and counted.

use std::collections::HashMap;

/// A minute in seconds.
const MINUTE: u64 = 60;

/// A period of whole minutes: from `from` to before `to`, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Start of the first minute.
    pub from: u64,
    /// End of the last minute.
    pub to: u64,
}

impl Period {
    /// Returns the period of a query: from `since` to `until`, both rounded to whole minutes so
    /// that the period contains them. The period begins at most `max_age` seconds before `now`, and
    /// ends at most one minute after it. `now` is in seconds since the epoch.
    pub fn of_query(query: &HashMap<String, String>, now: u64, max_age: u64) -> Self {
        let since = milliseconds(query, "since").map_or(0, |since| (since / 1_000.0) as u64);
        let until = milliseconds(query, "until");
        let until = until.map_or(u64::MAX, |until| (until / 1_000.0).ceil() as u64);
        let from = since.max(now.saturating_sub(max_age));
        let to = until.min(now.saturating_add(MINUTE));
        Self { from: from - from % MINUTE, to: to.div_ceil(MINUTE).saturating_mul(MINUTE) }
    }

    /// Returns whether the period contains `at`, in milliseconds since the epoch.
    pub fn contains(&self, at: f64) -> bool {
        at >= self.from as f64 * 1_000.0 && at < self.to as f64 * 1_000.0
    }
}

/// Returns a time of a query, in milliseconds since the epoch; `None` if it is missing or not a
/// number of at least 0.
fn milliseconds(query: &HashMap<String, String>, name: &str) -> Option<f64> {
    let time: f64 = query.get(name)?.parse().ok()?;
    Some(time).filter(|time| *time >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_whole_minutes() {
        let rows: [(&[(&str, &str)], u64, u64); 6] = [
            (&[], 600, 1_080),
            (&[("since", "700000")], 660, 1_080),
            (&[("since", "0"), ("until", "720000")], 600, 720),
            (&[("until", "720001")], 600, 780),
            (&[("since", "x"), ("until", "1e300")], 600, 1_080),
            (&[("since", "-1"), ("until", "NaN")], 600, 1_080),
        ];
        for (parts, from, to) in rows {
            let query =
                parts.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            assert_eq!(Period::of_query(&query, 1_010, 400), Period { from, to }, "{parts:?}");
        }
        let period = Period { from: 60, to: 120 };
        for (at, expected) in [(59_999.0, false), (60_000.0, true), (120_000.0, false)] {
            assert_eq!(period.contains(at), expected, "{at}");
        }
    }
}
