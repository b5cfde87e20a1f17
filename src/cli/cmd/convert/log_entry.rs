//! An entry of a log: reads its members, and collects their problems.

use hedgerow_sigma::recorded_line::describe_value;
use hedgerow_sigma::recorded_time::{MIN_EPOCH_SECONDS, TIME_FORMS, read_time};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::replay_record::{Converted, ReplayRecord};

/// The members of an entry, and the problems that were found so far.
pub struct LogEntry<'e> {
    members: &'e Map<String, Value>,
    problems: Vec<String>,
}

impl<'e> LogEntry<'e> {
    pub fn new(members: &'e Map<String, Value>) -> Self {
        Self { members, problems: Vec::new() }
    }

    /// Returns the first of `keys` that has a value. Null, an empty text and `-` do not count.
    pub fn find(&self, keys: &[&'static str]) -> Option<(&'static str, &'e Value)> {
        let is_value = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty() && text != "-",
            _ => true,
        };
        let members = self.members;
        let mut found = keys.iter().filter_map(|key| Some((*key, members.get(*key)?)));
        found.find(|(_, value)| is_value(value))
    }

    /// Returns the object in a member; `None` if the member is missing or is not an object.
    pub fn object(&self, key: &str) -> Option<&'e Map<String, Value>> {
        self.members.get(key).and_then(Value::as_object)
    }

    /// Returns the text of the first of `keys` that has a value. A number counts as its text.
    pub fn text(&mut self, keys: &[&'static str]) -> Option<String> {
        let (key, value) = self.find(keys)?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.report(key, value, "text", "write it in quotation marks");
                None
            }
        }
    }

    /// Returns a text that every entry has. A missing text is a problem.
    pub fn required_text(&mut self, keys: &[&'static str], remedy: &str) -> String {
        if self.find(keys).is_none() {
            let names: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            self.problems
                .push(format!("key {} is missing: expected text; {remedy}", names.join(" or ")));
        }
        self.text(keys).unwrap_or_default()
    }

    /// Returns the time of the first of `keys` that has a value, in seconds since the epoch.
    pub fn time(&mut self, keys: &[&'static str]) -> Option<f64> {
        let (key, value) = self.find(keys)?;
        let time = read_time(value)
            .filter(|time| *time >= MIN_EPOCH_SECONDS)
            .or_else(|| value.as_str().and_then(parse_log_time));
        if time.is_none() {
            self.report(key, value, TIME_FORMS, "correct the format of the log");
        }
        time
    }

    /// Returns the status of the first of `keys` that has a value. The status is missing if it is
    /// 0, because the log then has no response.
    pub fn status(&mut self, keys: &[&'static str]) -> Option<u16> {
        let (key, value) = self.find(keys)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let status: Option<u16> = text.parse().ok();
        match status {
            Some(0) => None,
            Some(100..=999) => status,
            _ => {
                self.report(key, value, "a status of HTTP", "correct the format of the log");
                None
            }
        }
    }

    /// Adds the problem of a member.
    pub fn report(&mut self, key: &str, value: &Value, expected: &str, remedy: &str) {
        let is_shown = !super::secrets::is_credential_header(key);
        let value = describe_value(&value.to_string(), is_shown);
        self.problems
            .push(format!("key `{key}` has the value {value}: expected {expected}; {remedy}"));
    }

    /// Adds the problems of another part of the entry.
    pub fn take_problems_of(&mut self, other: LogEntry<'_>) {
        self.problems.extend(other.problems);
    }

    /// Completes the record, or returns the problems of the entry.
    pub fn finish(self, record: ReplayRecord) -> Converted {
        if self.problems.is_empty() {
            return record.finish();
        }
        Converted::Problems(self.problems.join("\n"))
    }
}

/// Parses a time as in the combined format: `28/Nov/2026:12:00:00 +0000`. Returns seconds since the
/// epoch.
fn parse_log_time(text: &str) -> Option<f64> {
    let time = Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", text).ok()?;
    Some(time.as_microsecond() as f64 / 1e6).filter(|time| *time >= MIN_EPOCH_SECONDS)
}
