//! Parses recorded requests: raw HTTP, and lines of recorded traffic (NDJSON).

use hedgerow_core::http::envelope::Client;
use hedgerow_core::http::envelope::Envelope;
use hedgerow_core::http::unknown_parts::UnknownParts;

use crate::recorded_line::LineMembers;

/// A request from a recording, with the data that the edge would get from Cloudflare, and with
/// labels for evaluations.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// HTTP method.
    pub method: String,
    /// Host in the target of a raw request, with its port; `None` if the target has only a path.
    pub host: Option<String>,
    /// Path without the query.
    pub path: String,
    /// Headers as pairs of a name, in lower case, and a value.
    pub headers: Vec<(String, String)>,
    /// Body as sent.
    pub body: Vec<u8>,
    /// HTTP version without `HTTP/`, if recorded.
    pub http_version: Option<String>,
    /// Account id, if recorded.
    pub account: Option<String>,
    /// Tenant, if recorded.
    pub tenant: Option<String>,
    /// Query as sent, without the question mark.
    pub query: String,
    /// Label of the traffic, such as `benign` or `harvest`, if recorded.
    pub label: Option<String>,
    /// Program that sent the request, if recorded.
    pub tool: Option<String>,
    /// Job for which the program sent the request, if recorded.
    pub task: Option<String>,
    /// Time of the request in seconds, if recorded: since the epoch if it is at least
    /// [`MIN_EPOCH_SECONDS`](crate::recorded_time::MIN_EPOCH_SECONDS), else since the start of the
    /// recording.
    pub time: Option<f64>,
    /// Status of the response, if recorded.
    pub response_status: Option<u16>,
    /// Parts that the recording does not contain.
    pub unknown: UnknownParts,
}

impl RecordedRequest {
    /// Parses a recorded request. Text that begins with a brace is parsed as a line of recorded
    /// traffic, and any other text as raw HTTP. The error is a description of the problem.
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

    /// Parses a line of recorded traffic, which is a JSON object (docs/replay.md). The error
    /// describes every problem, one a line, without confidential content.
    pub fn from_line(line: &str) -> std::result::Result<Self, String> {
        let line = LineMembers::parse(line)?;
        let (host, target) = split_target(&line.path);
        Ok(Self {
            method: line.method.unwrap_or_else(|| "POST".to_owned()),
            host: host.map(str::to_owned),
            path: strip_query(target),
            query: query_of(target),
            headers: line.headers,
            body: line.body,
            http_version: line
                .http_version
                .map(|version| version.trim_start_matches("HTTP/").to_owned()),
            account: line.account,
            tenant: line.tenant,
            label: line.label,
            tool: line.tool,
            task: line.task,
            time: line.time,
            response_status: line.status,
            unknown: line.unknown,
        })
    }

    /// Parses a raw HTTP request: request line, headers, an empty line, and the body. The error
    /// describes a malformed line, with the number of the line but without its content.
    ///
    /// Lines end in CRLF or LF. Any HTTP version is accepted, and the version may be missing. The
    /// empty line may be missing if the request has no body.
    pub fn from_http(bytes: &[u8]) -> std::result::Result<Self, String> {
        let line_end =
            bytes.iter().position(|byte| *byte == b'\n').map(|end| end.saturating_add(1));
        let (request_line, rest) = bytes.split_at(line_end.unwrap_or(bytes.len()));
        let request_line = String::from_utf8_lossy(request_line);
        // The request line is parsed here, because `httparse` accepts only HTTP/1.0 and HTTP/1.1,
        // and recordings also contain HTTP/2.
        let mut words = request_line.split_whitespace();
        let (Some(method), Some(target), version) = (words.next(), words.next(), words.next())
        else {
            return Err("line 1 is not a request line: expected for example \
                        `POST /v1/messages HTTP/1.1`"
                .to_owned());
        };
        let (headers, body) = parse_headers(rest)?;
        let (host, target) = split_target(target);
        Ok(Self {
            method: method.to_owned(),
            host: host.map(str::to_owned),
            path: strip_query(target),
            account: None,
            tenant: None,
            query: query_of(target),
            headers,
            body: body.to_vec(),
            http_version: version.map(|version| version.trim_start_matches("HTTP/").to_owned()),
            label: None,
            tool: None,
            task: None,
            time: None,
            response_status: None,
            unknown: UnknownParts::default(),
        })
    }

    /// Returns the request as the edge would read it: with at most `max_body` bytes of the body.
    /// `now` is the time of the request in seconds since the epoch.
    pub fn envelope(&self, max_body: usize, now: u64) -> Envelope<'_> {
        let scanned_len = self.body.len().min(max_body);
        Envelope {
            method: &self.method,
            host: self.host(),
            path: &self.path,
            headers: &self.headers,
            body: self.body.get(..scanned_len).unwrap_or_default(),
            body_size: Some(self.body.len() as u64),
            unscanned_bytes: (self.body.len() - scanned_len) as u64,
            client: Client { http_version: self.http_version.as_deref(), ..Default::default() },
            account: self.account.as_deref(),
            tenant: self.tenant.as_deref(),
            now,
            unknown: self.unknown,
            ..Envelope::default()
        }
    }

    /// Returns the host of the target or, if the target has only a path, of the headers.
    fn host(&self) -> Option<&str> {
        let header =
            || self.headers.iter().find(|(name, _)| name == "host" || name == ":authority");
        self.host.as_deref().or_else(|| header().map(|(_, host)| host.as_str()))
    }
}

/// Headers as pairs of a name, in lower case, and a value.
type HeaderList = Vec<(String, String)>;

/// Parses header lines up to the empty line. Returns the headers, and the bytes after the empty
/// line as the body.
fn parse_headers(bytes: &[u8]) -> Result<(HeaderList, &[u8]), String> {
    let mut count = 64;
    loop {
        let mut headers = vec![httparse::EMPTY_HEADER; count];
        match httparse::parse_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete((head_len, headers))) => {
                let headers = headers.iter().map(|header| {
                    let value = String::from_utf8_lossy(header.value).into_owned();
                    (header.name.to_ascii_lowercase(), value)
                });
                return Ok((headers.collect(), bytes.get(head_len..).unwrap_or_default()));
            }
            // The empty line is missing, so there is no body.
            Ok(httparse::Status::Partial) => {
                let complete = [bytes, b"\r\n\r\n"].concat();
                return parse_headers(&complete).map(|(headers, _)| (headers, &b""[..]));
            }
            Err(httparse::Error::TooManyHeaders) => count = count.saturating_mul(2),
            Err(error) => return Err(describe_header_error(bytes, error)),
        }
    }
}

/// Describes a malformed header line, with its number in the request, but without its content.
fn describe_header_error(bytes: &[u8], error: httparse::Error) -> String {
    let is_malformed = |line: &[u8]| {
        let head = [line, b"\n\n"].concat();
        httparse::parse_headers(&head, &mut [httparse::EMPTY_HEADER; 1]).is_err()
    };
    let line = bytes.split(|byte| *byte == b'\n').position(is_malformed).unwrap_or_default();
    format!("line {} is malformed: expected `name: value` ({error})", line.saturating_add(2))
}

/// Splits the target of a request into the host, if the target is an absolute URL, and the rest.
fn split_target(target: &str) -> (Option<&str>, &str) {
    let absolute = target.split_once("://").filter(|_| !target.starts_with('/'));
    let Some((_, after_scheme)) = absolute else { return (None, target) };
    let (host, path) = after_scheme.split_at(after_scheme.find('/').unwrap_or(after_scheme.len()));
    (Some(host), if path.is_empty() { "/" } else { path })
}

/// Returns the path of a request target, without its query.
fn strip_query(target: &str) -> String {
    target.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Returns the query of a request target; empty if it has none.
fn query_of(target: &str) -> String {
    target.split_once('?').map_or(String::new(), |(_, query)| query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: [(&str, &str); 2] = [("host", "a"), ("x-b", "c d")];

    fn headers(request: &RecordedRequest) -> Vec<(&str, &str)> {
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn accepts_all_forms_of_a_head() {
        let rows = [
            ("POST /v1 HTTP/1.1\r\nHost: a\r\nX-B:  c d \r\n\r\n{}", Some("1.1"), "{}"),
            ("POST /v1 HTTP/1.1\nHost: a\nX-B: c d\n\n{}", Some("1.1"), "{}"),
            ("POST /v1 HTTP/1.1\nHost: a\r\nX-B: c d\n\r\n{}", Some("1.1"), "{}"),
            ("POST /v1 HTTP/2\nHost: a\nX-B: c d\n\n{}", Some("2"), "{}"),
            ("POST  /v1\nHost: a\nX-B: c d\n\n{}", None, "{}"),
            ("POST https://b/v1?key= HTTP/1.0\nHost: a\nX-B: c d\n\n", Some("1.0"), ""),
            ("POST /v1 HTTP/1.1\nHost: a\nX-B: c d\n", Some("1.1"), ""),
            ("POST /v1 HTTP/1.1\nHost: a\nX-B: c d", Some("1.1"), ""),
        ];
        for (text, version, body) in rows {
            let request = RecordedRequest::parse(text.as_bytes()).unwrap();
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1"), "{text}");
            assert_eq!(request.http_version.as_deref(), version, "{text}");
            assert_eq!(headers(&request), HEADERS, "{text}");
            assert_eq!(request.body, body.as_bytes(), "{text}");
        }
    }

    /// The URL in a query does not name the host.
    #[test]
    fn the_host_comes_from_the_target_or_the_headers() {
        let rows: [(&[u8], Option<&str>, &str); 6] = [
            (b"POST /v1 HTTP/1.1\nHost: a:80\n\n", Some("a:80"), "/v1"),
            (b"POST https://b/v1?x HTTP/1.1\nHost: a\n\n", Some("b"), "/v1"),
            (b"POST https://b HTTP/1.1\n\n", Some("b"), "/"),
            (b"POST /v1?from=https://c/d HTTP/1.1\n\n", None, "/v1"),
            (br#"{"path": "/v1", "headers": {"Host": "a"}}"#, Some("a"), "/v1"),
            (br#"{"path": "/v1", "headers": [[":authority", "a"]]}"#, Some("a"), "/v1"),
        ];
        for (bytes, host, path) in rows {
            let request = RecordedRequest::parse(bytes).unwrap();
            let envelope = request.envelope(1 << 20, 0);
            let name = String::from_utf8_lossy(bytes);
            assert_eq!((envelope.host, envelope.path), (host, path), "{name}");
        }
    }

    #[test]
    fn accepts_a_head_without_headers_and_one_with_many() {
        let request = RecordedRequest::parse(b"GET /v1/models HTTP/1.1\r\n\r\n").unwrap();
        assert!(request.headers.is_empty() && request.body.is_empty());
        let many = format!("GET / HTTP/1.1\n{}\nbody", "a: b\n".repeat(1_000));
        let request = RecordedRequest::parse(many.as_bytes()).unwrap();
        assert_eq!((request.headers.len(), request.body.as_slice()), (1_000, &b"body"[..]));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        let request = RecordedRequest::parse(b"GET / HTTP/1.1\nx: caf\xe9\n\n\xe9").unwrap();
        assert_eq!(headers(&request), [("x", "caf\u{fffd}")]);
        assert_eq!(request.body, b"\xe9");
    }

    #[test]
    fn a_malformed_head_is_an_error_with_its_line() {
        let rows: [(&str, &[u8], &str); 11] = [
            ("nothing", b"", "line 1 is not a request line"),
            ("only a method", b"POST\n\n{}", "line 1 is not a request line"),
            ("empty first line", b"\nPOST / HTTP/1.1\n\n", "line 1 is not a request line"),
            ("no colon", b"GET / HTTP/1.1\na: b\nsecret\n\n", "line 3 is malformed"),
            ("no name", b"GET / HTTP/1.1\n: secret\n\n", "line 2 is malformed"),
            ("space in a name", b"GET / HTTP/1.1\na b: secret\n\n", "line 2 is malformed"),
            ("space before the colon", b"GET / HTTP/1.1\na : secret\n\n", "line 2 is malformed"),
            ("letter beyond ASCII", b"GET / HTTP/1.1\n\xc3\xa9: b\n\n", "line 2 is malformed"),
            ("folded line", b"GET / HTTP/1.1\na: b\n secret\n\n", "line 3 is malformed"),
            ("control character", b"GET / HTTP/1.1\na: b\nc: \x01\n\n", "line 3 is malformed"),
            ("lone CR", b"GET / HTTP/1.1\na: b\rc: d\n\n", "line 2 is malformed"),
        ];
        for (name, head, expected) in rows {
            let problem = RecordedRequest::parse(head).unwrap_err();
            assert!(problem.starts_with(expected), "{name}: {problem}");
            assert!(!problem.contains("secret"), "{name}: {problem}");
        }
    }

    #[test]
    fn an_invalid_line_is_an_error_with_its_column_or_key() {
        let rows = [
            ("{\"path\": }", "the line is invalid at column 10: expected JSON"),
            ("{\"path\": 1}", "key `path` has the value 1: expected text"),
            ("{\"path\": \"/\", \"body\": \"?\", \"body_b64\": true}", "key `body` has the value"),
        ];
        for (line, expected) in rows {
            let problem = RecordedRequest::parse(line.as_bytes()).unwrap_err();
            assert!(problem.starts_with(expected), "{line}: {problem}");
        }
    }
}
