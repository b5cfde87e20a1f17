//! When requests come: people sleep, machines do not, and campaigns spread their load evenly.

use super::rng::Rng;

/// How an account's requests lie in time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests of each a day, on average.
    pub daily: f64,
    /// How much accounts differ in that: σ of a log-normal.
    pub spread: f64,
    /// Requests that follow each other closely, on average.
    pub bout: f64,
    /// Seconds between those, on average.
    pub gap: f64,
    /// When such a bout begins.
    pub when: When,
}

/// When something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While people are awake, weekends less.
    Awake,
    /// In working hours.
    Office,
    /// Around the clock, more by day.
    Busy,
    /// Around the clock, evenly.
    Flat,
    /// Once a night, at the same hour: all that is to be done that day.
    Nightly,
}

/// Where an account is in time. All times are milliseconds from the scenario's start.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Its own number of requests a day.
    pub daily: f64,
    pub bout: f64,
    pub gap: f64,
    pub when: When,
    /// Hours ahead of UTC.
    pub zone: i8,
    /// The local hour of nightly work.
    pub hour: u8,
    /// Requests that are left of the bout.
    pub left: u32,
}

/// The weekday on which the scenario starts, from 0 for Monday.
#[derive(Clone, Copy, Debug)]
pub struct Weekday(pub u32);

impl Pace {
    /// An account's own rhythm.
    pub fn rhythm(&self, rng: &mut Rng) -> Rhythm {
        let factor = rng.factor(self.spread).clamp(0.02, MOST);
        Rhythm {
            daily: self.daily * factor,
            bout: self.bout,
            gap: self.gap,
            when: self.when,
            zone: rng.pick(ZONES),
            hour: rng.below(5) as u8,
            left: 0,
        }
    }
}

impl Rhythm {
    /// When the next request comes, and whether a bout begins with it; nothing comes behind `end`.
    pub fn next(
        &mut self,
        now: u64,
        end: u64,
        first: Weekday,
        rng: &mut Rng,
    ) -> Option<(u64, bool)> {
        if self.left > 0 {
            self.left -= 1;
            let gap = self.gap * (0.25 + 0.75 * rng.wait(1.0)).min(10.0);
            return Some((now + millis(gap), false));
        }
        let at = match self.when {
            When::Nightly => self.night(now, rng),
            _ => self.begin(now, end, first, rng)?,
        };
        self.left = match self.when {
            When::Nightly => (self.daily * (0.9 + 0.2 * rng.share())) as u32,
            _ => rng.run(self.bout) - 1,
        };
        Some((at, true))
    }

    /// When the next bout begins: a Poisson process, thinned out by the hour's share.
    fn begin(&self, now: u64, end: u64, first: Weekday, rng: &mut Rng) -> Option<u64> {
        let busiest = self.daily / self.bout / mean(self.when);
        let mut at = now;
        while at < end {
            at += millis(rng.wait(DAY / busiest.max(1e-9))).max(1);
            if rng.chance(self.share(at, first)) {
                return Some(at);
            }
        }
        None
    }

    /// Spreads nightly work over day and night.
    pub fn around_the_clock(&mut self) {
        (self.when, self.bout) = (When::Flat, 1.0);
    }

    /// How busy a moment is, from 0 to 1.
    fn share(&self, at: u64, first: Weekday) -> f64 {
        let hours = at as f64 / HOUR_MS + f64::from(self.zone) + 24.0;
        let hour = hours as usize;
        // The day before the first is the seventh of the week before.
        let weekday = (first.0 as usize + hour / 24 + 6) % 7;
        let share = table(self.when).get(hour % 24).copied().unwrap_or(1.0);
        share * if weekday >= 5 { weekend(self.when) } else { 1.0 }
    }

    /// The next night's hour, some minutes more or less.
    fn night(&self, now: u64, rng: &mut Rng) -> u64 {
        let hour = (i64::from(self.hour) - i64::from(self.zone)).rem_euclid(24) as f64;
        let day = HOUR_MS * 24.0;
        let mut start = (now as f64 / day).floor() * day + hour * HOUR_MS;
        if start <= now as f64 {
            start += day;
        }
        start as u64 + rng.below(600_000) as u64
    }
}

/// The share of each local hour.
fn table(when: When) -> &'static [f64; 24] {
    match when {
        When::Awake => &[
            0.15, 0.08, 0.04, 0.03, 0.03, 0.05, 0.12, 0.3, 0.55, 0.8, 0.95, 1.0, 0.85, 0.9, 1.0,
            0.95, 0.9, 0.8, 0.7, 0.7, 0.75, 0.7, 0.5, 0.3,
        ],
        When::Office => &[
            0.01, 0.01, 0.01, 0.01, 0.01, 0.02, 0.05, 0.2, 0.6, 0.95, 1.0, 1.0, 0.6, 0.9, 1.0, 1.0,
            0.9, 0.6, 0.25, 0.1, 0.06, 0.04, 0.02, 0.01,
        ],
        When::Busy => &[
            0.25, 0.2, 0.18, 0.17, 0.18, 0.22, 0.3, 0.45, 0.65, 0.85, 0.95, 1.0, 0.9, 0.9, 0.95,
            0.95, 0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3,
        ],
        When::Flat | When::Nightly => &[1.0; 24],
    }
}

/// What is left of that on weekends.
fn weekend(when: When) -> f64 {
    match when {
        When::Awake => 0.7,
        When::Office => 0.05,
        When::Busy => 0.8,
        When::Flat | When::Nightly => 1.0,
    }
}

/// The share of a moment, on average over a week.
fn mean(when: When) -> f64 {
    let day = table(when).iter().sum::<f64>() / 24.0;
    day * (5.0 + 2.0 * weekend(when)) / 7.0
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

/// Time zones, by how many people live there.
const ZONES: &[i8] =
    &[-8, -7, -6, -5, -5, -5, -3, -3, 0, 0, 1, 1, 1, 1, 2, 2, 3, 5, 5, 7, 8, 8, 8, 9, 10];

/// How many times more than others the busiest account sends.
const MOST: f64 = 60.0;

const DAY: f64 = 86_400.0;
const HOUR_MS: f64 = 3_600_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests by hour over two weeks that begin on a Monday, for people who live in UTC.
    fn hours(when: When, bout: f64) -> Vec<u32> {
        let pace = Pace { daily: 50.0, spread: 0.0, bout, gap: 10.0, when };
        let mut rng = Rng::new(1, 1);
        let mut hours = vec![0; 14 * 24];
        for _ in 0..40 {
            let mut rhythm = Rhythm { zone: 0, hour: 2, ..pace.rhythm(&mut rng) };
            let end = 14 * 86_400_000;
            let mut now = 0;
            while let Some((at, _)) = rhythm.next(now, end, Weekday(0), &mut rng) {
                if at >= end {
                    break;
                }
                hours[(at / 3_600_000) as usize] += 1;
                now = at;
            }
        }
        hours
    }

    #[test]
    fn each_rhythm_has_its_volume_and_its_quiet_hours() {
        for (when, bout) in [
            (When::Awake, 3.0),
            (When::Office, 20.0),
            (When::Busy, 1.0),
            (When::Flat, 1.0),
            (When::Nightly, 50.0),
        ] {
            let hours = hours(when, bout);
            let total = f64::from(hours.iter().sum::<u32>());
            assert!((total / 28_000.0 - 1.0).abs() < 0.15, "{when:?} {total}");
            let at =
                |hour: usize| f64::from((0..14).map(|day| hours[day * 24 + hour]).sum::<u32>());
            let expected = match when {
                When::Flat => at(3) > 0.8 * at(11),
                When::Nightly => at(2) + at(3) > 0.9 * total,
                When::Busy => at(3) < 0.4 * at(11),
                _ => at(3) < 0.15 * at(11),
            };
            assert!(expected, "{when:?} {hours:?}");
            let weekend: u32 =
                [5, 6].iter().map(|day| hours[day * 24..][..24].iter().sum::<u32>()).sum();
            let week: u32 =
                [1, 2].iter().map(|day| hours[day * 24..][..24].iter().sum::<u32>()).sum();
            let is_free = f64::from(weekend) < 0.9 * f64::from(week);
            assert_eq!(is_free, !matches!(when, When::Flat | When::Nightly), "{when:?}");
        }
    }
}
