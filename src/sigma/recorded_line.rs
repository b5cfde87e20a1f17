//! Reads a line of recorded traffic: checks each member, and reports every problem of the line.
//! docs/replay.md describes the members.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hedgerow_core::http::unknown_parts::UnknownParts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::recorded_time::{TIME_FORMS, read_time};

/// Names of the members that a line may have.
pub const MEMBERS: [&str; 15] = [
    "method",
    "path",
    "headers",
    "body",
    "body_b64",
    "http_version",
    "account",
    "tenant",
    "label",
    "tool",
    "task",
    "t",
    "time_scale",
    "status",
    UNKNOWN_MEMBER,
];

/// Name of the member that lists the parts of the request that are not known.
const UNKNOWN_MEMBER: &str = "unknown";

/// The members of a line, checked.
#[derive(Debug)]
pub(crate) struct LineMembers {
    pub method: Option<String>,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub http_version: Option<String>,
    pub account: Option<String>,
    pub tenant: Option<String>,
    pub label: Option<String>,
    pub tool: Option<String>,
    pub task: Option<String>,
    pub time: Option<f64>,
    pub status: Option<u16>,
    pub unknown: UnknownParts,
}

impl LineMembers {
    /// Reads a line, which is a JSON object. The error lists every problem, one a line. It contains
    /// values of the line only if they cannot be text of a prompt or a credential.
    pub fn parse(line: &str) -> Result<Self, String> {
        let raw: RawMembers<'_> = serde_json::from_str(line).map_err(|error| {
            let expected = match error.classify() {
                serde_json::error::Category::Data => "a request {method, path, headers, body}",
                _ => "JSON",
            };
            format!(
                "the line is invalid at column {}: expected {expected}; write one JSON object a \
                 line (docs/replay.md), or run `hedgerow convert`",
                error.column()
            )
        })?;
        let mut check = MemberCheck::default();
        let members = Self {
            method: check.text("method", raw.method, true),
            path: check.path(raw.path),
            headers: check.headers(raw.headers),
            body: check.body(raw.body, raw.body_b64),
            http_version: check.text("http_version", raw.http_version, true),
            account: check.text("account", raw.account, false),
            tenant: check.text("tenant", raw.tenant, false),
            label: check.text("label", raw.label, true),
            tool: check.text("tool", raw.tool, true),
            task: check.text("task", raw.task, true),
            time: check.time(raw.t, raw.time_scale),
            status: check.status(raw.status),
            unknown: check.unknown(raw.unknown, raw.body.is_some()),
        };
        if check.problems.is_empty() { Ok(members) } else { Err(check.problems.join("\n")) }
    }
}

/// Returns the time of a line as written, for messages; empty if the line has none.
pub fn time_as_written(line: &str) -> String {
    let members = serde_json::from_str::<RawMembers<'_>>(line).ok();
    let time = members.and_then(|members| members.t);
    time.map_or_else(String::new, |time| describe_value(time.get(), true))
}

/// The members of a line as written. A member that is null counts as missing.
#[derive(Deserialize)]
struct RawMembers<'a> {
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
    #[serde(borrow)]
    headers: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    body_b64: Option<&'a RawValue>,
    #[serde(borrow)]
    http_version: Option<&'a RawValue>,
    #[serde(borrow)]
    account: Option<&'a RawValue>,
    #[serde(borrow)]
    tenant: Option<&'a RawValue>,
    #[serde(borrow)]
    label: Option<&'a RawValue>,
    #[serde(borrow)]
    tool: Option<&'a RawValue>,
    #[serde(borrow)]
    task: Option<&'a RawValue>,
    #[serde(borrow)]
    t: Option<&'a RawValue>,
    /// Factor for `t`, if time in the recording is compressed: seconds of traffic per recorded
    /// second.
    #[serde(borrow)]
    time_scale: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    unknown: Option<&'a RawValue>,
}

/// Checks members, and collects the problems.
#[derive(Default)]
struct MemberCheck {
    problems: Vec<String>,
}

impl MemberCheck {
    /// Adds the problem of a member. `remedy` is the last part of the message.
    fn report(&mut self, key: &str, value: &str, expected: &str, remedy: &str) {
        self.problems
            .push(format!("key `{key}` has the value {value}: expected {expected}; {remedy}"));
    }

    /// Reads a value, or reports it. `is_shown` is whether the message may contain a text.
    fn read<T: DeserializeOwned>(
        &mut self,
        key: &str,
        raw: Option<&RawValue>,
        is_shown: bool,
        [expected, remedy]: [&str; 2],
    ) -> Option<T> {
        let raw = raw?;
        let value = serde_json::from_str(raw.get()).ok();
        if value.is_none() {
            self.report(key, &describe_value(raw.get(), is_shown), expected, remedy);
        }
        value
    }

    fn text(&mut self, key: &str, raw: Option<&RawValue>, is_shown: bool) -> Option<String> {
        self.read(key, raw, is_shown, ["text", "write it in quotation marks"])
    }

    fn path(&mut self, raw: Option<&RawValue>) -> String {
        if raw.is_none() {
            self.problems.push(
                "key `path` is missing: expected a path such as \"/v1/chat/completions\"; add it, \
                 or run `hedgerow convert` on the log"
                    .to_owned(),
            );
        }
        self.text("path", raw, false).unwrap_or_default()
    }

    fn headers(&mut self, raw: Option<&RawValue>) -> Vec<(String, String)> {
        let expected = ["[[name, value], …] or {name: value, …}", "write every value as text"];
        self.read("headers", raw, false, expected).map_or_else(Vec::new, |Headers(headers)| headers)
    }

    /// Reads a body. If it is a string, the body is its text or, if `is_base64` is true, the bytes
    /// that it encodes. Another JSON value is the body as written.
    fn body(&mut self, raw: Option<&RawValue>, is_base64: Option<&RawValue>) -> Vec<u8> {
        let expected = ["true or false", "write it without quotation marks"];
        let is_base64 = self.read("body_b64", is_base64, true, expected).unwrap_or(false);
        let Some(raw) = raw else { return Vec::new() };
        if !raw.get().starts_with('"') {
            return raw.get().as_bytes().to_vec();
        }
        let text = self.text("body", Some(raw), false).unwrap_or_default();
        if !is_base64 {
            return text.into_bytes();
        }
        STANDARD.decode(text).unwrap_or_else(|_| {
            self.report(
                "body",
                "a text",
                "base64, because `body_b64` is true",
                "encode the body, or omit `body_b64`",
            );
            Vec::new()
        })
    }

    /// Reads a time, in seconds. `scale` is the factor of a compressed recording.
    fn time(&mut self, raw: Option<&RawValue>, scale: Option<&RawValue>) -> Option<f64> {
        let expected = ["a number", "write the seconds of traffic per recorded second"];
        let scale: Option<f64> = self.read("time_scale", scale, true, expected);
        let value: Value = serde_json::from_str(raw?.get()).ok()?;
        let seconds = match scale {
            Some(scale) => {
                value.as_f64().map(|time| time * scale).filter(|time| (0.0..=1e12).contains(time))
            }
            None => read_time(&value),
        };
        if seconds.is_none() {
            let value = describe_value(raw?.get(), true);
            let expected = format!("{TIME_FORMS}, or seconds since the start of the recording");
            self.report("t", &value, &expected, "correct the time, or omit `t`");
        }
        seconds
    }

    /// Reads a status, which is a number, or a number as text.
    fn status(&mut self, raw: Option<&RawValue>) -> Option<u16> {
        let text = raw?.get();
        let status: Option<u16> = text.trim_matches('"').parse().ok();
        let status = status.filter(|status| STATUSES.contains(status));
        if status.is_none() {
            let value = describe_value(text, true);
            let expected = "a status of HTTP, from 100 to 999";
            self.report("status", &value, expected, "omit `status` if it is not known");
        }
        status
    }

    fn unknown(&mut self, raw: Option<&RawValue>, has_body: bool) -> UnknownParts {
        let (expected, remedy) =
            ("a list of \"headers\", \"body\" and \"client\"", "correct the list");
        let names: Vec<String> =
            self.read(UNKNOWN_MEMBER, raw, true, [expected, remedy]).unwrap_or_default();
        let mut unknown = UnknownParts::default();
        for name in &names {
            match UnknownParts::from_name(name) {
                Some(part) => unknown.insert(part),
                None => {
                    let value = describe_value(&Value::from(name.as_str()).to_string(), true);
                    self.report(UNKNOWN_MEMBER, &value, expected, remedy);
                }
            }
        }
        if has_body && unknown.intersects(UnknownParts::BODY) {
            let remedy = "omit `body`, or remove \"body\" from the list";
            self.report(UNKNOWN_MEMBER, "\"body\"", "a request without `body`", remedy);
        }
        unknown
    }
}

const STATUSES: std::ops::RangeInclusive<u16> = 100..=999;

/// Describes a JSON value for a message. Texts are shortened or, unless `is_shown`, left out,
/// because they may be confidential.
pub fn describe_value(json: &str, is_shown: bool) -> String {
    match json.bytes().next() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "a list".to_owned(),
        Some(b'"') if !is_shown => "a text".to_owned(),
        _ if json.chars().count() > MAX_SHOWN_CHARACTERS => {
            let start: String = json.chars().take(MAX_SHOWN_CHARACTERS).collect();
            format!("{start}…")
        }
        _ => json.to_owned(),
    }
}

/// Maximum number of characters of a value in a message.
const MAX_SHOWN_CHARACTERS: usize = 40;

/// Headers, parsed from pairs or from an object, with names in lower case.
struct Headers(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;

        impl<'de> serde::de::Visitor<'de> for HeadersVisitor {
            type Value = Headers;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("headers as [[name, value], …] or {name: value, …}")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut pairs: A,
            ) -> Result<Headers, A::Error> {
                let mut headers = Headers(Vec::with_capacity(16));
                while let Some((name, value)) = pairs.next_element::<(String, String)>()? {
                    headers.0.push((name.to_ascii_lowercase(), value));
                }
                Ok(headers)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Headers, A::Error> {
                let mut headers = Headers(Vec::with_capacity(16));
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    headers.0.push((name.to_ascii_lowercase(), value));
                }
                Ok(headers)
            }
        }

        deserializer.deserialize_any(HeadersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_line_is_reported_with_key_value_and_remedy() {
        let line = r#"{"path": 1, "t": "soon", "status": "ok", "headers": {"a": 1},
            "account": ["sk-secret"], "body": "?", "body_b64": true, "unknown": ["cookies"]}"#;
        let problems = LineMembers::parse(line).unwrap_err();
        let expected = [
            "key `path` has the value 1: expected text; write it in quotation marks",
            "key `headers` has the value an object: expected [[name, value]",
            "key `body` has the value a text: expected base64",
            "key `account` has the value a list: expected text",
            "key `t` has the value \"soon\": expected seconds, milliseconds",
            "key `status` has the value \"ok\": expected a status of HTTP",
            "key `unknown` has the value \"cookies\": expected a list of",
        ];
        let lines: Vec<&str> = problems.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{problems}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected) && line.contains("; "), "{line}");
        }
        assert!(!problems.contains("secret"), "{problems}");
    }

    #[test]
    fn a_status_may_be_text_and_null_counts_as_missing() {
        let line = r#"{"path": "/", "status": "200", "t": null, "label": null}"#;
        let members = LineMembers::parse(line).unwrap();
        assert_eq!((members.status, members.time, members.label), (Some(200), None, None));
        let problem = LineMembers::parse("{}").unwrap_err();
        assert!(problem.starts_with("key `path` is missing"), "{problem}");
    }

    #[test]
    fn an_unknown_body_excludes_a_body() {
        let line = r#"{"path": "/", "unknown": ["body", "client"]}"#;
        assert!(LineMembers::parse(line).unwrap().unknown.intersects(UnknownParts::CLIENT));
        let line = r#"{"path": "/", "unknown": ["body"], "body": {}}"#;
        let problem = LineMembers::parse(line).unwrap_err();
        assert!(problem.contains("expected a request without `body`"), "{problem}");
    }
}
