//! The clock, and the parsing and formatting of times. All times are seconds since the epoch.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};

/// Returns the current time.
pub fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or_default()
}

/// Parses the end of a release: a period from `now` (`7d`, `72h`, `2w`), or the last day of the
/// release in UTC (`2027-01-31`).
///
/// Returns `Io` for any other form, and `Rejected` for an end less than [`MIN_EXPIRY`] from now.
pub fn parse_expiry(text: &str, now: u64) -> Result<u64> {
    let end = end_of_day_utc(text).or_else(|| time_after(text, now)).ok_or_else(|| {
        Error::Io(format!(
            "--expires '{text}' is invalid: expected 7d, 72h or 2w, or a day such as 2027-01-31"
        ))
    })?;
    if end < now.saturating_add(MIN_EXPIRY) {
        return Err(Error::Rejected(format!(
            "--expires '{text}' is too early: expected at least two days from now, because clocks \
             may be wrong by a day and the edge tolerates that; give 2d or more, or omit it and \
             release again when the rules are to end"
        )));
    }
    Ok(end)
}

/// Parses the end of a revocation: a period from `now` (`12h`, `7d`), or the last day of the
/// revocation in UTC.
///
/// Returns `Io` for any other form, and for a time that is not in the future.
pub fn parse_until(text: &str, now: u64) -> Result<u64> {
    let end = end_of_day_utc(text).or_else(|| time_after(text, now));
    end.filter(|end| *end > now).ok_or_else(|| {
        Error::Io(format!(
            "--until '{text}' is invalid: expected a time in the future, such as 12h, 7d, 2w or \
             2027-01-31"
        ))
    })
}

/// Parses the end of an entry of the policy, which has a last day in UTC: a period of days or weeks
/// from `now`, or the last day. The day in which the returned time lies is the last one.
///
/// Returns `Io` for any other form, for a time that is not in the future, and for a period in
/// hours: the end of its day can be a day later.
pub fn parse_policy_end(text: &str, now: u64) -> Result<u64> {
    if text.ends_with('h') && time_after(text, now).is_some() {
        return Err(Error::Io(format!(
            "--until '{text}' is invalid: expected days, because an entry of the policy ends with \
             a day in UTC; give 1d, 7d or 2w, or a day such as 2027-01-31"
        )));
    }
    parse_until(text, now)
}

/// Parses a time in the past: a period before `now` (`12h`, `7d`), or a day in UTC, of which the
/// first second is returned. Errors contain `option`, the name of the option.
///
/// Returns `Io` for any other form, and for a time in the future.
pub fn parse_since(option: &str, text: &str, now: u64) -> Result<u64> {
    let period = time_after(text, 0).and_then(|period| now.checked_sub(period));
    let start = start_of_day_utc(text).or(period);
    start.filter(|start| *start <= now).ok_or_else(|| {
        Error::Io(format!(
            "--{option} '{text}' is invalid: expected a time in the past, such as 12h, 7d, 2w or \
             2026-01-31"
        ))
    })
}

/// Parses a period in hours, days or weeks, and adds it to `now`. Returns `None` for any other
/// text, and if the sum overflows.
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

/// Parses a day (`2027-01-31`), and returns its first second in UTC. Days before 1970 are invalid.
pub fn start_of_day_utc(text: &str) -> Option<u64> {
    midnight_utc(parse_day(text)?)
}

/// Parses a day, and returns the first second after it in UTC.
fn end_of_day_utc(text: &str) -> Option<u64> {
    midnight_utc(parse_day(text)?.tomorrow().ok()?)
}

/// Parses a day in the form `2027-01-31`. The length is checked, because `Date` also accepts other
/// forms of ISO 8601.
fn parse_day(text: &str) -> Option<Date> {
    text.parse().ok().filter(|_| text.len() == "2027-01-31".len())
}

fn midnight_utc(day: Date) -> Option<u64> {
    u64::try_from(day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

/// Formats a time as `2026-11-25 03:04`, in UTC. Times after the year 9999 are shown as the end of
/// that year.
pub fn format_utc(seconds: u64) -> String {
    to_timestamp(seconds).strftime("%Y-%m-%d %H:%M").to_string()
}

/// Formats the last day of a period that ends at `end`, such as `2027-01-31`, in UTC.
pub fn format_last_day(end: u64) -> String {
    to_timestamp(end.saturating_sub(1)).strftime("%Y-%m-%d").to_string()
}

/// Converts a time. A time after the year 9999 becomes the end of that year.
fn to_timestamp(seconds: u64) -> Timestamp {
    let time = i64::try_from(seconds).ok().and_then(|time| Timestamp::from_second(time).ok());
    time.unwrap_or(Timestamp::MAX)
}

/// Formats the time from `time` to `now` in one unit: `90 s`, `5 min`, `12 h`, `3 days`.
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

/// Minimum number of seconds from now to the expiry of a release.
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
        assert_eq!(start_of_day_utc("2027-01-31"), Some(1_801_353_600));
        assert_eq!(parse_until("1h", now).unwrap(), now + 3_600);
        let invalid =
            ["soon", "7", "d", "7m", "2027-02-30", "20270131", "99999999999999999999d", ""];
        for text in invalid {
            assert!(matches!(parse_expiry(text, now), Err(Error::Io(_))), "{text}");
            assert!(matches!(parse_until(text, now), Err(Error::Io(_))), "{text}");
            assert!(matches!(parse_since("since", text, now), Err(Error::Io(_))), "{text}");
        }
        assert_eq!(parse_since("since", "2h", now).unwrap(), now - 7_200);
        assert_eq!(parse_since("since", "2027-01-15", now).unwrap(), now - now % 86_400);
        assert!(matches!(parse_since("since", "2027-01-16", now), Err(Error::Io(_))));
        for text in ["1d", "47h", "2026-01-01"] {
            assert!(matches!(parse_expiry(text, now), Err(Error::Rejected(_))), "{text}");
        }
        assert!(matches!(parse_until("2026-01-01", now), Err(Error::Io(_))));
        for text in ["1d", "2w", "2027-01-31"] {
            assert_eq!(parse_policy_end(text, now).unwrap(), parse_until(text, now).unwrap());
        }
        for text in ["12h", "1h", "0h", "72h"] {
            let Err(Error::Io(problem)) = parse_policy_end(text, now) else { panic!("{text}") };
            assert!(problem.contains("expected days"), "{problem}");
        }
        for text in ["0d", "h", "soonh", "7m"] {
            let Err(Error::Io(problem)) = parse_policy_end(text, now) else { panic!("{text}") };
            assert!(problem.contains("expected a time in the future"), "{problem}");
        }
        let rows = [
            (0, "1970-01-01 00:00"),
            (951_826_920, "2000-02-29 12:22"),
            (1_800_000_000, "2027-01-15 08:00"),
            (4_102_444_799, "2099-12-31 23:59"),
            (u64::MAX, "9999-12-30 22:00"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(format_utc(seconds), expected);
        }
        let rows = [(0, "1970-01-01"), (1_801_440_000, "2027-01-31"), (u64::MAX, "9999-12-30")];
        for (end, expected) in rows {
            assert_eq!(format_last_day(end), expected);
        }
        assert_eq!(
            [format_age(5, 10), format_age(0, 7_199), format_age(0, 86_400)],
            ["5 s", "119 min", "24 h"]
        );
    }
}
