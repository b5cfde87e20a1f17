//! The budget of KV writes: computes the pause between two publications of indicators.
//!
//! The platform limits the KV writes of a UTC day. Releases need some of them, so indicators have a
//! separate budget: KV_WRITES_PER_DAY.

use std::time::Duration;

/// Seconds in a day.
const DAY_SECONDS: u64 = 86_400;

/// The part of the budget for bursts is `1 / BURST_DIVISOR`. While it lasts, the pause grows from
/// zero, so that the first indicators of a quiet day are published at once. Afterwards, the
/// remaining writes are spread evenly over the rest of the day.
const BURST_DIVISOR: f64 = 4.0;

/// The writes of a UTC day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayWrites {
    /// The day, as days since the epoch.
    pub day: u64,
    /// Number of writes on that day, including failed ones.
    pub count: u64,
    /// Time of the last write, in milliseconds since the epoch.
    pub last_ms: u64,
}

impl DayWrites {
    /// Parses the text that [`to_text`](Self::to_text) returns. Each missing or malformed number is
    /// read as 0.
    pub fn parse(text: &str) -> Self {
        let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        Self { day: next(), count: next(), last_ms: next() }
    }

    /// Returns the text for storage: day, count and time of the last write, separated by spaces.
    pub fn to_text(self) -> String {
        format!("{} {} {}", self.day, self.count, self.last_ms)
    }

    /// Returns the writes on the day of `now_ms`, which is in milliseconds since the epoch. The
    /// count is 0 if `self` is of another day.
    pub fn on_day_of(self, now_ms: u64) -> Self {
        let day = now_ms / (DAY_SECONDS * 1_000);
        if day == self.day { self } else { Self { day, count: 0, ..self } }
    }

    /// Counts a write at `now_ms`, in milliseconds since the epoch.
    pub fn add(self, now_ms: u64) -> Self {
        let today = self.on_day_of(now_ms);
        Self { count: today.count.saturating_add(1), last_ms: now_ms, ..today }
    }

    /// Returns the time from `now_ms`, in milliseconds since the epoch, until the next write may
    /// begin: zero if the write may begin at once. If the budget of `per_day` writes is used up,
    /// the time is the rest of the day.
    pub fn wait(self, per_day: u64, now_ms: u64) -> Duration {
        let today = self.on_day_of(now_ms);
        let ms_left = (DAY_SECONDS * 1_000).saturating_sub(now_ms % (DAY_SECONDS * 1_000));
        match pause(today.count, per_day, Duration::from_millis(ms_left)) {
            None => Duration::from_millis(ms_left),
            Some(pause) => {
                // If the clock went back, write at once: publications must not stop.
                let elapsed = now_ms.checked_sub(today.last_ms).map(Duration::from_millis);
                elapsed.map_or(Duration::ZERO, |elapsed| pause.saturating_sub(elapsed))
            }
        }
    }
}

/// Returns the pause between two writes, if `used` of `per_day` writes are used and `left` is the
/// rest of the day. Returns `None` if the budget is used up.
///
/// If the remaining writes were spread evenly over the rest of the day, the pause would be `left /
/// (per_day − used)`. Once a quarter of the budget is used, the pause has this length. Before that,
/// the length is multiplied by `p²`, where `p` is the used part of that quarter.
pub fn pause(used: u64, per_day: u64, left: Duration) -> Option<Duration> {
    let writes_left = per_day.checked_sub(used).filter(|writes| *writes > 0)?;
    let even = left.as_secs_f64() / writes_left as f64;
    let part = (used as f64 * BURST_DIVISOR / per_day as f64).min(1.0);
    Some(Duration::from_secs_f64(even * part * part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_the_used_part_of_the_budget() {
        let day = DAY_SECONDS;
        // used, budget, seconds left, pause in whole seconds
        let rows = [
            (0, 800, day, Some(0)),
            (20, 800, day, Some(1)),
            (100, 800, day, Some(30)),
            (200, 800, day, Some(144)),
            (799, 800, 3_600, Some(3_600)),
            (800, 800, day, None),
            (900, 800, day, None),
            (0, 0, day, None),
            (400, 800, 60, Some(0)),
            (100, 20_000, day, Some(0)),
        ];
        for (used, per_day, left, expected) in rows {
            let pause = pause(used, per_day, Duration::from_secs(left));
            assert_eq!(pause.map(|pause| pause.as_secs()), expected, "{used} {per_day} {left}");
        }
    }

    /// Simulates a day in which there is always something to write and each write takes 1.1
    /// seconds.
    #[test]
    fn the_budget_of_a_day_lasts_for_the_day() {
        for per_day in [1, 10, 100, 800, 20_000] {
            let day_ms = DAY_SECONDS * 1_000;
            let start = 20_000 * day_ms;
            let (mut writes, mut now) = (DayWrites::default(), start);
            let mut last_quarter = 0;
            while now < start + day_ms {
                let wait = writes.wait(per_day, now);
                if wait.is_zero() {
                    writes = writes.add(now);
                    last_quarter += u64::from(now > start + day_ms / 4 * 3);
                    now += 1_100;
                } else {
                    now += (wait.as_millis() as u64).max(1);
                }
            }
            assert!(writes.count <= per_day, "{per_day}: {}", writes.count);
            assert!(writes.count >= per_day * 9 / 10, "{per_day}: {}", writes.count);
            assert!(per_day < 10 || last_quarter >= per_day / 10, "{per_day}: {last_quarter}");
            // A new day has a new budget.
            assert_eq!(writes.wait(per_day, start + day_ms + 1), Duration::ZERO);
        }
    }

    #[test]
    fn writes_are_stored_as_text() {
        let writes = DayWrites { day: 20_786, count: 37, last_ms: 1_795_964_400_000 };
        assert_eq!(DayWrites::parse(&writes.to_text()), writes);
        assert_eq!(DayWrites::parse("nonsense"), DayWrites::default());
        assert_eq!(writes.wait(100, 5), Duration::ZERO, "the clock went back");
    }
}
