//! Converts days in TOML files, such as the last day of an exemption, to seconds since the epoch.
//!
//! The bundle contains seconds only, so the core at the edge needs no calendar.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use crate::toml::{TomlDiagnostics, entries, unsigned_integer, value};

/// Returns the ends of the days under `key` in the tables of the array `kind`, as decimal text in
/// seconds since the epoch. The keys of the result are the byte offsets of the days in the file.
/// Integers are skipped, because they are already seconds.
///
/// Adds a finding for each value that is neither a day nor an integer.
pub fn check_days(
    document: &DeTable<'_>,
    kind: &str,
    key: &str,
    diagnostics: &mut TomlDiagnostics<'_>,
) -> BTreeMap<usize, String> {
    let mut days = BTreeMap::new();
    for (_, entry) in entries(document, kind) {
        let Some((offset, value)) = value(entry, key) else { continue };
        if value.is_integer() {
            continue;
        }
        match end_of_day_utc(value) {
            Some(seconds) => drop(days.insert(offset, seconds.to_string())),
            None => {
                let problem = format!("'{key}' is invalid: expected a day such as 2027-01-31");
                diagnostics.add(offset, problem, "write YYYY-MM-DD, from 1970 on");
            }
        }
    }
    days
}

/// Replaces days by their ends. `days` is the result of [`check_days`] for the same document.
pub fn replace_days<'d>(
    mut document: DeTable<'d>,
    kind: &str,
    key: &str,
    days: &'d BTreeMap<usize, String>,
) -> DeTable<'d> {
    let Some(DeValue::Array(entries)) = document.get_mut(kind).map(|entries| entries.get_mut())
    else {
        return document;
    };
    for entry in entries.iter_mut() {
        let DeValue::Table(entry) = entry.get_mut() else { continue };
        let Some(value) = entry.get_mut(key) else { continue };
        let seconds = days.get(&value.span().start).and_then(|text| DeValue::parse(text).ok());
        if let Some(seconds) = seconds {
            *value.get_mut() = seconds.into_inner();
        }
    }
    document
}

/// Returns the end that a table has under `key`, in seconds since the epoch, and the byte offset of
/// its value: an integer, or a day, which means its end. Returns `None` if the value is missing or
/// invalid.
pub fn end_of(entry: &DeTable<'_>, key: &str) -> Option<(usize, u64)> {
    unsigned_integer(entry, key).or_else(|| {
        let (offset, value) = value(entry, key)?;
        Some((offset, end_of_day_utc(value)?))
    })
}

/// Formats the day of a time, in seconds since the epoch, in UTC: `2027-01-31`. Times after the
/// year 9999 are shown as the last day of that year.
pub fn format_day(seconds: u64) -> String {
    let since_epoch = Duration::from_secs(seconds - seconds % DAY_SECONDS);
    let day = Date::constant(1970, 1, 1).checked_add(since_epoch);
    day.unwrap_or(Date::MAX).to_string()
}

/// Returns the end of a day in UTC, in seconds since the epoch. Returns `None` if the value is not
/// a day, or is before 1970. The value may be a TOML date, a TOML time with a date, or a string
/// that begins with a day.
fn end_of_day_utc(value: &DeValue<'_>) -> Option<u64> {
    let time = match value {
        DeValue::Datetime(time) => *time,
        DeValue::String(text) => text.get(..DAY_LEN)?.parse::<Datetime>().ok()?,
        _ => return None,
    };
    let toml::value::Date { year, month, day } = time.date?;
    let (year, month, day) =
        (i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    let epoch = Date::constant(1970, 1, 1);
    let day = Date::new(year, month, day).ok().filter(|day| *day >= epoch)?;
    u64::try_from(day.duration_since(epoch).as_secs()).ok()?.checked_add(DAY_SECONDS)
}

/// Length of a day in the form `2027-01-31`, in bytes.
const DAY_LEN: usize = 10;

const DAY_SECONDS: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_means_its_end_in_utc() {
        let rows = [
            ("1970-01-01", Some(86_400)),
            ("2000-02-29", Some(951_868_800)),
            ("2026-11-23", Some(1_795_478_400)),
            ("9999-12-31", Some(253_402_300_800)),
            ("'2026-11-23'", Some(1_795_478_400)),
            ("2026-11-23T12:30:00Z", Some(1_795_478_400)),
            ("'2026-11-23, a Monday'", Some(1_795_478_400)),
            ("1969-12-31", None),
            ("'2027-02-29'", None),
            ("'2027-13-01'", None),
            ("12:30:00", None),
            ("'soon'", None),
            ("true", None),
        ];
        for (text, expected) in rows {
            let value = DeValue::parse(text).unwrap().into_inner();
            assert_eq!(end_of_day_utc(&value), expected, "{text}");
        }
    }

    #[test]
    fn the_end_of_an_entry_is_a_day_or_seconds() {
        let rows = [
            ("until = 2026-11-23", Some((8, 1_795_478_400))),
            ("until = 1795478400", Some((8, 1_795_478_400))),
            ("until = 'soon'", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let document = DeTable::parse(text).unwrap().into_inner();
            assert_eq!(end_of(&document, "until"), expected, "{text}");
        }
        let rows = [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_868_799, "2000-02-29"),
            (1_795_478_400, "2026-11-24"),
            (253_402_300_799, "9999-12-31"),
            (253_402_300_800, "9999-12-31"),
            (u64::MAX, "9999-12-31"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(format_day(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn days_are_replaced_and_other_values_are_findings() {
        let text = "[[entry]]\nuntil = 2026-11-23\n[[entry]]\nuntil = 5\n[[entry]]\n\
                    until = 'soon'\n[[entry]]\n";
        let file = crate::RuleFile { path: "lists/a.toml".into(), text: text.into() };
        let mut findings = Vec::new();
        let mut diagnostics = TomlDiagnostics { file: &file, findings: &mut findings, help: "" };
        let document = DeTable::parse(text).unwrap().into_inner();
        let days = check_days(&document, "entry", "until", &mut diagnostics);
        let document = replace_days(document, "entry", "until", &days);
        let number = |(_, entry): (usize, &DeTable<'_>)| {
            crate::toml::unsigned_integer(entry, "until").map(|(_, number)| number)
        };
        let numbers: Vec<_> = entries(&document, "entry").map(number).collect();
        assert_eq!(numbers, [Some(1_795_478_400), Some(5), None, None]);
        let positions: Vec<_> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(positions, [6]);
    }
}
