//! HAR 1.2, the format in which browsers and proxies export requests
//! (http://www.softwareishard.com/blog/har-12-spec/).

use serde_json::{Map, Value};

use super::log_entry::LogEntry;
use super::replay_record::{Converted, ReplayRecord};

/// Returns the entries of a HAR file; `None` if the text is not HAR.
pub fn read_entries(text: &str) -> Option<Vec<Value>> {
    let mut file: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    match file.get_mut("log")?.get_mut("entries")?.take() {
        Value::Array(entries) => Some(entries),
        _ => None,
    }
}

/// Converts an entry.
pub fn convert(entry: &Value) -> Converted {
    let empty = Map::new();
    let mut outer = LogEntry::new(entry.as_object().unwrap_or(&empty));
    let members = outer.object("request").unwrap_or(&empty);
    let mut request = LogEntry::new(members);
    let remedy = "export the file again";
    let mut record = ReplayRecord {
        time: outer.time(&["startedDateTime"]),
        method: request.required_text(&["method"], remedy),
        path: request.required_text(&["url"], remedy),
        http_version: request.text(&["httpVersion"]).filter(|version| is_version(version)),
        unknown: vec!["client"],
        ..ReplayRecord::default()
    };
    if let Some(response) = outer.object("response") {
        record.status = LogEntry::new(response).status(&["status"]);
    }
    add_headers(&mut record, members);
    add_body(&mut record, &request);
    request.take_problems_of(outer);
    request.finish(record)
}

/// Returns whether the version of HTTP has the usual form. Some browsers write `unknown`.
fn is_version(version: &str) -> bool {
    let version = version.trim_start_matches("HTTP/").trim_start_matches("http/");
    version.starts_with(|first: char| first.is_ascii_digit())
}

/// Adds the headers, without the pseudo-headers of HTTP/2. A request of HTTP always has headers, so
/// an empty list shows that they are unknown.
fn add_headers(record: &mut ReplayRecord, request: &Map<String, Value>) {
    let headers = request.get("headers").and_then(Value::as_array).into_iter().flatten();
    for header in headers {
        let text = |key: &str| header.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("name") {
            ":authority" => record.add_header("host", text("value")),
            name if name.starts_with(':') => {}
            name => record.add_header(name, text("value")),
        }
    }
    if record.headers.is_empty() {
        record.unknown.push("headers");
    }
}

/// Adds the body. It is unknown if the export has left it out.
fn add_body(record: &mut ReplayRecord, request: &LogEntry<'_>) {
    let data = request.object("postData").and_then(|data| data.get("text")).and_then(Value::as_str);
    if let Some(text) = data.filter(|text| !text.is_empty()) {
        record.set_body_text(text);
    }
    record.mark_missing_body();
}
