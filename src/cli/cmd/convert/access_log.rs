//! Access logs: nginx, Envoy and Cloudflare Logpush. They rarely contain bodies.

use serde_json::{Map, Value, json};

use super::log_entry::LogEntry;
use super::replay_record::{Converted, ReplayRecord};

/// Converts a line of nginx in JSON. The operator chooses the names of the members; these are the
/// names of the variables (https://nginx.org/en/docs/varindex.html). `http_NAME` is a header.
pub fn convert_nginx(members: &Map<String, Value>) -> Converted {
    let mut entry = LogEntry::new(members);
    let mut record = new_record(&mut entry, TIMES_OF_NGINX, &["status"]);
    match entry.text(&["request"]).filter(|_| entry.find(PATHS_OF_NGINX).is_none()) {
        Some(request_line) => set_request_line(&mut record, &request_line),
        None => {
            let remedy = "add `request_method` and `request_uri` to the `log_format`";
            record.method = entry.required_text(&["request_method", "method"], remedy);
            record.path = entry.required_text(PATHS_OF_NGINX, remedy);
        }
    }
    record.http_version = entry.text(&["server_protocol"]).or(record.http_version);
    record.account = entry.text(&["account", "api_key_hash", "remote_user"]);
    add_headers_of_variables(&mut record, members);
    if let Some(body) = entry.text(&["request_body"]) {
        record.set_body_text(&body);
    }
    record.mark_missing_body();
    entry.finish(record)
}

/// Converts a line in the combined format: `$remote_addr - $remote_user [$time_local] "$request"
/// $status $body_bytes_sent "$http_referer" "$http_user_agent"`
/// (https://nginx.org/en/docs/http/ngx_http_log_module.html).
pub fn convert_combined(line: &str) -> Converted {
    let Some(members) = parse_combined(line) else {
        return Converted::Problems(
            "the line is invalid: expected JSON, or the combined format of nginx; correct the \
             `log_format`, or --from"
                .to_owned(),
        );
    };
    convert_nginx(&members)
}

/// Converts a line of Envoy in JSON. The names are those of the default format
/// (https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage).
pub fn convert_envoy(members: &Map<String, Value>) -> Converted {
    let mut entry = LogEntry::new(members);
    let mut record =
        new_record(&mut entry, &["start_time", "timestamp", "time"], &["response_code", "status"]);
    let remedy = "add `method` (%REQ(:METHOD)%) and `path` (%REQ(:PATH)%) to the `json_format`";
    record.method = entry.required_text(&["method", ":method"], remedy);
    record.path = entry.required_text(&["x_envoy_original_path", "path", ":path"], remedy);
    record.http_version = entry.text(&["protocol"]);
    record.account = entry.text(&["account", "api_key_hash"]);
    add_header(&mut record, &mut entry, "host", &["authority", ":authority"]);
    add_header(&mut record, &mut entry, "user-agent", &["user_agent", "user-agent"]);
    add_header(&mut record, &mut entry, "authorization", &["authorization"]);
    add_header(&mut record, &mut entry, "x-api-key", &["x_api_key", "x-api-key"]);
    if let Some(body) = entry.text(&["request_body"]) {
        record.set_body_text(&body);
    }
    record.mark_missing_body();
    entry.finish(record)
}

/// Converts a line of the data set `http_requests` of Cloudflare Logpush
/// (https://developers.cloudflare.com/logs/logpush/logpush-job/datasets/zone/http_requests/).
/// `RequestHeaders` has the headers that a custom field of the job names.
pub fn convert_logpush(members: &Map<String, Value>) -> Converted {
    let mut entry = LogEntry::new(members);
    let mut record = new_record(
        &mut entry,
        &["EdgeStartTimestamp", "EdgeEndTimestamp"],
        &["EdgeResponseStatus", "OriginResponseStatus"],
    );
    let remedy = "add the field to the Logpush job";
    record.method = entry.required_text(&["ClientRequestMethod"], remedy);
    record.path = entry.required_text(&["ClientRequestURI", "ClientRequestPath"], remedy);
    record.http_version = entry.text(&["ClientRequestProtocol"]);
    add_header(&mut record, &mut entry, "host", &["ClientRequestHost"]);
    add_header(&mut record, &mut entry, "user-agent", &["ClientRequestUserAgent"]);
    for (name, value) in entry.object("RequestHeaders").into_iter().flatten() {
        let is_known = record.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if let Some(value) = value.as_str().filter(|_| !is_known) {
            record.add_header(name, value);
        }
    }
    record.mark_missing_body();
    entry.finish(record)
}

/// Returns a record with the time and the status of an entry.
fn new_record(
    entry: &mut LogEntry<'_>,
    times: &[&'static str],
    statuses: &[&'static str],
) -> ReplayRecord {
    ReplayRecord {
        time: entry.time(times),
        status: entry.status(statuses),
        unknown: vec!["headers", "client"],
        ..ReplayRecord::default()
    }
}

/// Adds the header `name` if one of `keys` has a value.
fn add_header(
    record: &mut ReplayRecord,
    entry: &mut LogEntry<'_>,
    name: &str,
    keys: &[&'static str],
) {
    if let Some(value) = entry.text(keys) {
        record.add_header(name, &value);
    }
}

/// Adds the headers in variables of nginx: `http_NAME`, `content_type` and `host`.
fn add_headers_of_variables(record: &mut ReplayRecord, members: &Map<String, Value>) {
    for (variable, value) in members {
        let name = match variable.as_str() {
            "content_type" => "content-type".to_owned(),
            "host" if !members.contains_key("http_host") => "host".to_owned(),
            _ => match variable.strip_prefix("http_") {
                Some(name) => name.replace('_', "-"),
                None => continue,
            },
        };
        if let Some(value) = value.as_str().filter(|value| !value.is_empty() && *value != "-") {
            record.add_header(&name, value);
        }
    }
}

/// Sets method, path and version from a request line: `POST /v1/messages HTTP/1.1`.
fn set_request_line(record: &mut ReplayRecord, request_line: &str) {
    let mut words = request_line.split(' ').map(str::to_owned);
    record.method = words.next().unwrap_or_default();
    record.path = words.next().unwrap_or_default();
    record.http_version = words.next();
}

/// Parses a line in the combined format, and returns it as the members of the JSON format; `None`
/// if the line has another form.
fn parse_combined(line: &str) -> Option<Map<String, Value>> {
    let (client, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request_line, rest) = rest.split_once("\" ")?;
    let (method, target) = request_line.split_once(' ')?;
    let (uri, version) = target.split_once(' ').unwrap_or((target, ""));
    let user = client.split(' ').nth(2)?;
    let status = rest.split(' ').next()?;
    // The referrer and the user agent are missing in the common format.
    let agent = rest.split('"').nth(3).unwrap_or_default();
    let members = json!({
        "remote_user": user, "time_local": time, "request_method": method, "request_uri": uri,
        "server_protocol": version, "status": status, "http_user_agent": agent,
    });
    members.as_object().cloned()
}

const PATHS_OF_NGINX: &[&str] = &["request_uri", "uri", "path"];

const TIMES_OF_NGINX: &[&str] =
    &["msec", "time_iso8601", "time_local", "timestamp", "@timestamp", "time"];
