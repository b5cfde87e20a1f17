//! Requests as text: raw HTTP, lines of recorded traffic, NDJSON. The edge never reads these.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hedgerow_core::http::envelope::Client;
use hedgerow_core::http::envelope::Envelope;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A request that was read from text.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// HTTP method.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// HTTP version, where it is told.
    pub http_version: Option<String>,
    /// The account that is told.
    pub account: Option<String>,
    /// The credential in the query, where there is one.
    pub query_key: Option<String>,
    /// What the traffic is known to be.
    pub label: Option<String>,
    /// When it came, in seconds since the epoch or since the recording began.
    pub time: Option<f64>,
    /// How it was answered.
    pub response_status: Option<u16>,
}

impl RecordedRequest {
    /// Reads either form: text that begins with a brace is a line, all else raw HTTP.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let text =
            std::str::from_utf8(bytes).ok().filter(|text| text.trim_start().starts_with('{'));
        match text {
            Some(text) => Self::from_line(
                text.lines().next().filter(|line| line.ends_with('}')).unwrap_or(text),
            ),
            None => Self::from_http(bytes),
        }
    }

    /// Reads a line of recorded traffic: one JSON object.
    pub fn from_line(line: &str) -> std::result::Result<Self, String> {
        let line: NdjsonRecord<'_> =
            serde_json::from_str(line).map_err(|error| describe_error(&error))?;
        let body = match line.body.map(RawValue::get) {
            None | Some("null") => Vec::new(),
            Some(text) if text.starts_with('"') => {
                let text: String =
                    serde_json::from_str(text).map_err(|error| describe_error(&error))?;
                match line.body_b64 {
                    true => STANDARD.decode(text).map_err(|error| error.to_string())?,
                    false => text.into_bytes(),
                }
            }
            Some(json) => json.as_bytes().to_vec(),
        };
        let headers = line.headers.0;
        Ok(Self {
            account: line.account,
            query_key: query_key(&line.path),
            method: line.method,
            path: strip_query(&line.path),
            headers,
            body,
            http_version: line
                .http_version
                .map(|version| version.trim_start_matches("HTTP/").to_owned()),
            label: line.label,
            time: line
                .time
                .map(|time| time * line.time_scale.unwrap_or(1.0))
                .filter(|time| time.is_finite()),
            response_status: line.status,
        })
    }

    /// Reads a raw HTTP request: request line, headers, an empty line, the body.
    pub fn from_http(bytes: &[u8]) -> std::result::Result<Self, String> {
        let splits = [&b"\r\n\r\n"[..], b"\n\n"].into_iter().filter_map(|separator| {
            let position = bytes.windows(separator.len()).position(|window| window == separator)?;
            Some((bytes.get(..position)?, bytes.get(position.saturating_add(separator.len())..)?))
        });
        let (head, body) = splits.min_by_key(|(head, _)| head.len()).unwrap_or((bytes, b""));
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let request_line = lines.next().unwrap_or_default();
        let mut parts = request_line.split_whitespace();
        let (Some(method), Some(target), version) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(
                "the first line is no request line such as `POST /v1/messages HTTP/1.1`".to_owned()
            );
        };
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let target = target.split_once("://").map_or(target, |(_, after_scheme)| {
            after_scheme.find('/').map_or("/", |slash| &after_scheme[slash..])
        });
        Ok(Self {
            method: method.to_owned(),
            path: strip_query(target),
            account: None,
            query_key: query_key(target),
            headers,
            body: body.to_vec(),
            http_version: version.map(|version| version.trim_start_matches("HTTP/").to_owned()),
            label: None,
            time: None,
            response_status: None,
        })
    }

    /// The request as the filter sees it: its body up to the scan window.
    pub fn envelope(&self, window: usize, now: u64) -> Envelope<'_> {
        let scanned_len = self.body.len().min(window);
        Envelope {
            method: &self.method,
            path: &self.path,
            headers: &self.headers,
            body: self.body.get(..scanned_len).unwrap_or_default(),
            body_size: Some(self.body.len() as u64),
            unscanned_bytes: (self.body.len() - scanned_len) as u64,
            client: Client { http_version: self.http_version.as_deref(), ..Default::default() },
            account: self.account.as_deref(),
            now,
            ..Envelope::default()
        }
    }
}

#[derive(Deserialize)]
struct NdjsonRecord<'a> {
    #[serde(default = "default_method")]
    method: String,
    path: String,
    #[serde(default)]
    headers: Headers,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    body_b64: bool,
    http_version: Option<String>,
    account: Option<String>,
    label: Option<String>,
    #[serde(rename = "t")]
    time: Option<f64>,
    /// By how much time was compressed when it was recorded.
    time_scale: Option<f64>,
    status: Option<u16>,
}

/// Headers as pairs, or as an object.
#[derive(Default)]
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

/// What is wrong with a line. Not in the parser's words: those repeat what stands in the line.
fn describe_error(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "not a request {method, path, headers, body}",
        _ => "not JSON",
    };
    format!("{kind}, at column {}", error.column())
}

fn default_method() -> String {
    "POST".to_owned()
}

fn strip_query(target: &str) -> String {
    target.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// The parameter `key` of a target's query, which Gemini takes as credential.
fn query_key(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let key = query.split('&').find_map(|parameter| parameter.strip_prefix("key="))?;
    Some(key.to_owned()).filter(|key| !key.is_empty())
}
