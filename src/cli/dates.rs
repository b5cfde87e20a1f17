//! The clock, and times as people write and read them.

use hedgerow_core::rules::policy;

use crate::{Error, Result};

/// Seconds since the epoch: dates in the policy are held against today.
#[allow(clippy::disallowed_methods, reason = "the command line is a host: it has a clock")]
pub fn now() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |duration| duration.as_secs())
}

/// When a release is to end: so long from now (`7d`, `72h`, `2w`), or with a day (`2027-01-31`).
pub fn parse_expiry(text: &str, now: u64) -> Result<u64> {
    let end =
        policy::end_of_day_utc(text).filter(|_| text.len() == 10).or_else(|| time_after(text, now));
    let end = end.ok_or_else(|| {
        Error::Io(format!(
            "--expires {text}: this is no time; give 7d, 72h or 2w, or a date such as 2027-01-31"
        ))
    })?;
    if end < now.saturating_add(MIN_EXPIRY) {
        return Err(Error::Rejected(format!(
            "--expires {text}: that is less than two days away (clocks may be wrong by a day, and \
             the edge forgives one); give 2d or more, or leave it out and release again when it \
             is to end"
        )));
    }
    Ok(end)
}

/// When something of ours is to end: so long from now (`12h`, `7d`), or with a day (`2027-01-31`).
pub fn parse_until(text: &str, now: u64) -> Result<u64> {
    let end =
        policy::end_of_day_utc(text).filter(|_| text.len() == 10).or_else(|| time_after(text, now));
    end.filter(|end| *end > now).ok_or_else(|| {
        Error::Io(format!(
            "--until {text}: this is no time to come; give 12h, 7d or 2w, or a date such as 2027-01-31"
        ))
    })
}

fn time_after(text: &str, now: u64) -> Option<u64> {
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        'h' => HOUR_SECONDS,
        'd' => DAY_SECONDS,
        'w' => 7 * DAY_SECONDS,
        _ => return None,
    };
    now.checked_add(count.checked_mul(seconds)?)
}

/// A time as a date, in UTC: `2026-11-25 03:04`.
pub fn format_utc(seconds: u64) -> String {
    let (days, second_of_day) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    // Days are counted from 1 March of year 0, so that leap days end a year (Hinnant's algorithm).
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}",
        second_of_day / HOUR_SECONDS,
        second_of_day % HOUR_SECONDS / 60
    )
}

/// How long ago something was, in one unit.
pub fn format_age(time: u64, now: u64) -> String {
    match now.saturating_sub(time) {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 2 * HOUR_SECONDS => format!("{} min", seconds / 60),
        seconds if seconds < 2 * DAY_SECONDS => format!("{} h", seconds / HOUR_SECONDS),
        seconds => format!("{} days", seconds / DAY_SECONDS),
    }
}

const HOUR_SECONDS: u64 = 3_600;
const DAY_SECONDS: u64 = 86_400;

/// How far away the end of a release is at least.
const MIN_EXPIRY: u64 = 2 * DAY_SECONDS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_expiries_and_formats_times() {
        let now = 1_800_000_000;
        let rows = [("7d", 604_800), ("48h", 172_800), ("2w", 1_209_600)];
        for (text, expected) in rows {
            assert_eq!(parse_expiry(text, now).unwrap(), now + expected, "{text}");
        }
        assert_eq!(parse_expiry("2027-01-31", now).unwrap(), 1_801_440_000);
        for text in ["soon", "7", "d", "7m", "2027-02-30", "99999999999999999999d", ""] {
            assert!(matches!(parse_expiry(text, now), Err(Error::Io(_))), "{text}");
        }
        for text in ["1d", "47h", "2026-01-01"] {
            assert!(matches!(parse_expiry(text, now), Err(Error::Rejected(_))), "{text}");
        }
        let rows = [
            (0, "1970-01-01 00:00"),
            (951_826_920, "2000-02-29 12:22"),
            (1_800_000_000, "2027-01-15 08:00"),
            (4_102_444_799, "2099-12-31 23:59"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(format_utc(seconds), expected);
        }
        assert_eq!(
            [format_age(5, 10), format_age(0, 7_199), format_age(0, 86_400)],
            ["5 s", "119 min", "24 h"]
        );
    }
}
