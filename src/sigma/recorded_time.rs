//! Reads the times of recorded requests, in the forms that logs use.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Reads a time, in seconds: since the epoch if the time is at least [`MIN_EPOCH_SECONDS`], else
/// since the start of the recording.
///
/// A number may be in seconds, milliseconds, microseconds or nanoseconds since the epoch: its size
/// decides. A text is a number, a time of RFC 3339, or a date and a time in UTC. Returns `None` for
/// any other value, and for a time before the year 2000, unless it can count from the start of a
/// recording.
pub fn read_time(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64().and_then(scale),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().map_or_else(|| parse_date_and_time(text), scale)
        }
        _ => None,
    }
}

/// Converts a number of any unit to seconds.
fn scale(number: f64) -> Option<f64> {
    if (0.0..=MAX_RECORDING_SECONDS).contains(&number) {
        return Some(number);
    }
    let units_per_second = match number {
        number if number < 1e11 => 1.0,
        number if number < 1e14 => 1e3,
        number if number < 1e17 => 1e6,
        _ => 1e9,
    };
    let seconds = number / units_per_second;
    (MIN_EPOCH_SECONDS..=MAX_EPOCH_SECONDS).contains(&seconds).then_some(seconds)
}

fn parse_date_and_time(text: &str) -> Option<f64> {
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    let in_utc = || {
        let time: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    };
    let time: Timestamp = text.parse().ok().or_else(in_utc)?;
    let seconds = time.as_microsecond() as f64 / 1e6;
    (MIN_EPOCH_SECONDS..=MAX_EPOCH_SECONDS).contains(&seconds).then_some(seconds)
}

/// Forms of a time, for messages.
pub const TIME_FORMS: &str = "seconds, milliseconds, microseconds or nanoseconds since the epoch, \
                              from the year 2000 on, or a time such as 2026-11-28T12:00:00Z";

/// Times from this value on are seconds since the epoch: the start of the year 2000.
pub const MIN_EPOCH_SECONDS: f64 = 946_684_800.0;

/// The end of the year 9999.
const MAX_EPOCH_SECONDS: f64 = 253_402_300_799.0;

/// Maximum number of seconds since the start of a recording: ten years.
const MAX_RECORDING_SECONDS: f64 = 315_576_000.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_the_forms_of_a_time() {
        let rows = [
            (json!(0), Some(0.0)),
            (json!(12.5), Some(12.5)),
            (json!(1_795_867_200), Some(1_795_867_200.0)),
            (json!(1_795_867_200.25), Some(1_795_867_200.25)),
            (json!(1_795_867_200_250_u64), Some(1_795_867_200.25)),
            (json!(1_795_867_200_250_000_u64), Some(1_795_867_200.25)),
            (json!(1_795_867_200_500_000_000_u64), Some(1_795_867_200.5)),
            (json!("1795867200250"), Some(1_795_867_200.25)),
            (json!("2026-11-28T12:00:00Z"), Some(1_795_867_200.0)),
            (json!("2026-11-28T13:00:00.25+01:00"), Some(1_795_867_200.25)),
            (json!("2026-11-28 12:00:00"), Some(1_795_867_200.0)),
            (json!("2026-11-28 12:00:00 UTC"), Some(1_795_867_200.0)),
            (json!(-1), None),
            (json!(915_148_800), None),
            (json!(915_148_800_000_u64), None),
            (json!("1999-12-31T23:59:59Z"), None),
            (json!("noon"), None),
            (json!("NaN"), None),
            (json!([]), None),
        ];
        for (value, expected) in rows {
            assert_eq!(read_time(&value), expected, "{value}");
        }
    }
}
