//! Arrival times of requests. People send fewer requests at night, programs run at all hours, and
//! campaigns spread their load evenly.

use super::rng::Rng;

/// The distribution of the arrival times of one source's accounts.
#[derive(Clone, Copy, Debug)]
pub struct ArrivalProcess {
    /// Mean number of requests per account and day.
    pub requests_per_day: f64,
    /// Spread of `requests_per_day` over accounts: σ of a log-normal distribution.
    pub sigma: f64,
    /// Mean number of requests per burst.
    pub burst_len: f64,
    /// Mean seconds between requests of a burst.
    pub gap_seconds: f64,
    /// Hours and weekdays at which bursts begin.
    pub daily_profile: DailyProfile,
}

/// The intensity of traffic over the day and the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DailyProfile {
    /// When people are awake, with less traffic on weekends.
    Awake,
    /// Mainly in working hours, from Monday to Friday.
    Office,
    /// Around the clock, with a peak by day.
    DaytimePeak,
    /// Around the clock, at one rate.
    Flat,
    /// Once a night, always at the same hour: all requests of a day in one burst.
    Nightly,
}

/// The arrival times of one account, in milliseconds from the start of the scenario.
#[derive(Clone, Copy, Debug)]
pub struct AccountArrivals {
    /// Mean number of requests per day of this account.
    pub requests_per_day: f64,
    pub burst_len: f64,
    pub gap_seconds: f64,
    pub daily_profile: DailyProfile,
    /// Hours ahead of UTC.
    pub utc_offset_hours: i8,
    /// Local hour at which the burst of [`DailyProfile::Nightly`] begins, from 0.
    pub nightly_hour: u8,
    /// Number of requests that are left in the current burst.
    pub left_in_burst: u32,
}

/// The next request of an account.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at_ms: u64,
    /// Whether the request is the first of a burst.
    pub starts_burst: bool,
}

/// The weekday on which the scenario starts: 0 for Monday.
#[derive(Clone, Copy, Debug)]
pub struct Weekday(pub u32);

impl ArrivalProcess {
    /// Draws the rate, the time zone and the nightly hour of an account.
    pub fn for_account(&self, rng: &mut Rng) -> AccountArrivals {
        let rate_factor = rng.log_normal(self.sigma).clamp(0.02, MAX_RATE_FACTOR);
        AccountArrivals {
            requests_per_day: self.requests_per_day * rate_factor,
            burst_len: self.burst_len,
            gap_seconds: self.gap_seconds,
            daily_profile: self.daily_profile,
            utc_offset_hours: rng.pick(UTC_OFFSETS),
            nightly_hour: rng.below(5) as u8,
            left_in_burst: 0,
        }
    }
}

impl AccountArrivals {
    /// Returns the next request after `now`. Returns `None` if the search for the next burst
    /// reaches `end`. The time of the request can be later than `end`.
    pub fn next_arrival(
        &mut self,
        now: u64,
        end: u64,
        first_weekday: Weekday,
        rng: &mut Rng,
    ) -> Option<Arrival> {
        if self.left_in_burst > 0 {
            self.left_in_burst -= 1;
            let gap = self.gap_seconds * (0.25 + 0.75 * rng.exponential(1.0)).min(10.0);
            return Some(Arrival { at_ms: now + millis(gap), starts_burst: false });
        }
        let at_ms = match self.daily_profile {
            DailyProfile::Nightly => self.next_night(now, rng),
            _ => self.next_burst(now, end, first_weekday, rng)?,
        };
        self.left_in_burst = match self.daily_profile {
            DailyProfile::Nightly => (self.requests_per_day * (0.9 + 0.2 * rng.uniform())) as u32,
            _ => rng.geometric(self.burst_len) - 1,
        };
        Some(Arrival { at_ms, starts_burst: true })
    }

    /// Returns the start of the next burst in milliseconds, or `None` if the search reaches `end`.
    /// The returned start can be later than `end`. The starts are a Poisson process, thinned by the
    /// intensity of the hour.
    fn next_burst(&self, now: u64, end: u64, first_weekday: Weekday, rng: &mut Rng) -> Option<u64> {
        let peak_rate = self.requests_per_day / self.burst_len / mean_intensity(self.daily_profile);
        let mut at = now;
        while at < end {
            at += millis(rng.exponential(DAY_SECONDS / peak_rate.max(1e-9))).max(1);
            if rng.chance(self.intensity(at, first_weekday)) {
                return Some(at);
            }
        }
        None
    }

    /// Spreads the requests evenly over day and night, without bursts.
    pub fn spread_over_the_clock(&mut self) {
        self.daily_profile = DailyProfile::Flat;
        self.burst_len = 1.0;
    }

    /// Returns the intensity at a time, from 0 to 1.
    fn intensity(&self, at: u64, first_weekday: Weekday) -> f64 {
        let hours = at as f64 / HOUR_MS + f64::from(self.utc_offset_hours) + 24.0;
        let hour = hours as usize;
        // `hours` includes 24 additional hours, so that it is not negative in time zones behind
        // UTC. The `+ 6` subtracts this day again, modulo 7.
        let weekday = (first_weekday.0 as usize + hour / 24 + 6) % 7;
        let intensity = hourly_intensity(self.daily_profile).get(hour % 24).copied().unwrap_or(1.0);
        intensity * if weekday >= 5 { weekend_factor(self.daily_profile) } else { 1.0 }
    }

    /// Returns the start of the next nightly burst in milliseconds: the nightly hour, plus up to
    /// ten minutes.
    fn next_night(&self, now: u64, rng: &mut Rng) -> u64 {
        let hour =
            (i64::from(self.nightly_hour) - i64::from(self.utc_offset_hours)).rem_euclid(24) as f64;
        let day = HOUR_MS * 24.0;
        let mut start = (now as f64 / day).floor() * day + hour * HOUR_MS;
        if start <= now as f64 {
            start += day;
        }
        start as u64 + rng.below(600_000) as u64
    }
}

/// Returns the intensity of each local hour, from 0 to 1.
fn hourly_intensity(daily_profile: DailyProfile) -> &'static [f64; 24] {
    match daily_profile {
        DailyProfile::Awake => &[
            0.15, 0.08, 0.04, 0.03, 0.03, 0.05, 0.12, 0.3, 0.55, 0.8, 0.95, 1.0, 0.85, 0.9, 1.0,
            0.95, 0.9, 0.8, 0.7, 0.7, 0.75, 0.7, 0.5, 0.3,
        ],
        DailyProfile::Office => &[
            0.01, 0.01, 0.01, 0.01, 0.01, 0.02, 0.05, 0.2, 0.6, 0.95, 1.0, 1.0, 0.6, 0.9, 1.0, 1.0,
            0.9, 0.6, 0.25, 0.1, 0.06, 0.04, 0.02, 0.01,
        ],
        DailyProfile::DaytimePeak => &[
            0.25, 0.2, 0.18, 0.17, 0.18, 0.22, 0.3, 0.45, 0.65, 0.85, 0.95, 1.0, 0.9, 0.9, 0.95,
            0.95, 0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.4, 0.3,
        ],
        DailyProfile::Flat | DailyProfile::Nightly => &[1.0; 24],
    }
}

/// Returns the factor by which the intensity is multiplied on weekends.
fn weekend_factor(daily_profile: DailyProfile) -> f64 {
    match daily_profile {
        DailyProfile::Awake => 0.7,
        DailyProfile::Office => 0.05,
        DailyProfile::DaytimePeak => 0.8,
        DailyProfile::Flat | DailyProfile::Nightly => 1.0,
    }
}

/// Returns the mean intensity over a week.
fn mean_intensity(daily_profile: DailyProfile) -> f64 {
    let weekday_mean = hourly_intensity(daily_profile).iter().sum::<f64>() / 24.0;
    weekday_mean * (5.0 + 2.0 * weekend_factor(daily_profile)) / 7.0
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

/// Time zones in hours ahead of UTC. Each one is repeated in proportion to its share of users.
const UTC_OFFSETS: &[i8] =
    &[-8, -7, -6, -5, -5, -5, -3, -3, 0, 0, 1, 1, 1, 1, 2, 2, 3, 5, 5, 7, 8, 8, 8, 9, 10];

/// Maximum ratio of an account's rate to the mean rate of its source.
const MAX_RATE_FACTOR: f64 = 60.0;

const DAY_SECONDS: f64 = 86_400.0;
const HOUR_MS: f64 = 3_600_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of requests in each hour of two weeks that begin on a Monday, sent by 40
    /// accounts in UTC.
    fn requests_by_hour(daily_profile: DailyProfile, burst_len: f64) -> Vec<u32> {
        let process = ArrivalProcess {
            requests_per_day: 50.0,
            sigma: 0.0,
            burst_len,
            gap_seconds: 10.0,
            daily_profile,
        };
        let mut rng = Rng::new(1, 1);
        let mut hours = vec![0; 14 * 24];
        for _ in 0..40 {
            let mut arrivals = AccountArrivals {
                utc_offset_hours: 0,
                nightly_hour: 2,
                ..process.for_account(&mut rng)
            };
            let end = 14 * 86_400_000;
            let mut now = 0;
            while let Some(arrival) = arrivals.next_arrival(now, end, Weekday(0), &mut rng) {
                now = arrival.at_ms;
                if now >= end {
                    break;
                }
                hours[(now / 3_600_000) as usize] += 1;
            }
        }
        hours
    }

    #[test]
    fn each_daily_profile_has_its_volume_and_quiet_hours() {
        for (daily_profile, burst_len) in [
            (DailyProfile::Awake, 3.0),
            (DailyProfile::Office, 20.0),
            (DailyProfile::DaytimePeak, 1.0),
            (DailyProfile::Flat, 1.0),
            (DailyProfile::Nightly, 50.0),
        ] {
            let hours = requests_by_hour(daily_profile, burst_len);
            let total = f64::from(hours.iter().sum::<u32>());
            assert!((total / 28_000.0 - 1.0).abs() < 0.15, "{daily_profile:?} {total}");
            let requests_at_hour =
                |hour: usize| f64::from((0..14).map(|day| hours[day * 24 + hour]).sum::<u32>());
            let has_profile_shape = match daily_profile {
                DailyProfile::Flat => requests_at_hour(3) > 0.8 * requests_at_hour(11),
                DailyProfile::Nightly => requests_at_hour(2) + requests_at_hour(3) > 0.9 * total,
                DailyProfile::DaytimePeak => requests_at_hour(3) < 0.4 * requests_at_hour(11),
                _ => requests_at_hour(3) < 0.15 * requests_at_hour(11),
            };
            assert!(has_profile_shape, "{daily_profile:?} {hours:?}");
            let weekend_requests: u32 =
                [5, 6].iter().map(|day| hours[day * 24..][..24].iter().sum::<u32>()).sum();
            let weekday_requests: u32 =
                [1, 2].iter().map(|day| hours[day * 24..][..24].iter().sum::<u32>()).sum();
            let has_quiet_weekend = f64::from(weekend_requests) < 0.9 * f64::from(weekday_requests);
            assert_eq!(
                has_quiet_weekend,
                !matches!(daily_profile, DailyProfile::Flat | DailyProfile::Nightly),
                "{daily_profile:?}"
            );
        }
    }
}
