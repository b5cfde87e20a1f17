//! Batches, many requests in one body: multipart uploads of JSON lines, and inline `requests`.

use memchr::memmem;

use super::issues::ReadIssues;
use super::lenient_value::skip_mistyped;
use super::member_name::MemberName;
use super::request::Request;
use crate::extract::lenient_json::{Reader, Token};
use crate::field::FieldId;
use crate::http::body::Body;
use crate::http::envelope::Envelope;
use crate::http::route::{Dialect, Endpoint, builtin_endpoint};

/// A callback for each entry of a batch; it returns false to stop.
type OnEntry<'t, 'a> = &'t mut dyn FnMut(&mut Request<'a>) -> bool;

/// Reads a file upload and calls `on_entry` for each line; `None` if it is not a batch file.
pub fn read_upload<'a>(
    request: &mut Request<'a>,
    envelope: &Envelope<'a>,
    body: &'a Body<'_>,
    on_entry: OnEntry<'_, 'a>,
) -> Option<()> {
    let content_type = envelope.headers.iter().find(|(name, _)| name == "content-type");
    let content_type = content_type.map(|(_, value)| value.as_str());
    let Some(form) = parse_form(body.bytes(), content_type) else {
        request.issues.insert(ReadIssues::MULTIPART);
        on_entry(request);
        return Some(());
    };
    if form.is_not_batch() {
        return None;
    }
    if form.files.is_empty() || form.is_ambiguous {
        request.issues.insert(ReadIssues::MULTIPART);
    }
    if form.files.is_empty() {
        on_entry(request);
    }
    for (file, base) in form.files {
        read_lines(request, file, base, envelope.unscanned_bytes > 0, on_entry);
    }
    Some(())
}

/// Returns the lines of an uploaded batch file, each with its byte offset in the body.
///
/// Returns `None` if the body is not a form with a file, or if servers may read it differently.
pub fn batch_lines<'a>(
    body: &'a [u8],
    content_type: Option<&str>,
) -> Option<Vec<(&'a [u8], usize)>> {
    let form = parse_form(body, content_type)
        .filter(|form| !form.is_ambiguous && !form.files.is_empty())?;
    Some(form.files.into_iter().flat_map(|(file, base)| non_blank_lines(file, base)).collect())
}

/// Reads a JSON body whose entries are elements of `requests`, and calls `on_entry` for each.
///
/// Anthropic nests the request in `params`, Gemini in `request` or not at all. A body without
/// `requests` is read as one request.
pub fn read_inline_requests<'a>(
    request: &mut Request<'a>,
    body: &'a Body<'_>,
    endpoint: Endpoint,
    on_entry: OnEntry<'_, 'a>,
) {
    let mut reader = Reader::new(body.bytes(), 0);
    let mut found_requests = false;
    find_requests(request, &mut reader, endpoint, 0, &mut found_requests, on_entry);
    if !found_requests {
        let mut reader = Reader::new(body.bytes(), 0);
        request.read_object(&mut reader, endpoint, 0);
        request.issues.record_json_errors(reader.errors(), false);
        on_entry(request);
    }
}

/// Finds `requests`, also in Gemini's nesting (`batch.input_config.requests.requests`).
fn find_requests<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
    depth: u8,
    found_requests: &mut bool,
    on_entry: OnEntry<'_, 'a>,
) {
    match reader.next_token() {
        Token::Object if depth <= 4 => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "requests" | "batch" | "inputconfig" => {
                        find_requests(
                            request,
                            reader,
                            endpoint,
                            depth.saturating_add(1),
                            found_requests,
                            on_entry,
                        );
                    }
                    _ => reader.skip(),
                }
            }
        }
        Token::Array if depth > 0 => {
            read_requests(request, reader, endpoint, !*found_requests, on_entry);
            *found_requests = true;
        }
        token => skip_mistyped(token, reader),
    }
}

/// Reads the array `requests`, which has been entered, and calls `on_entry` for each element.
fn read_requests<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
    is_first: bool,
    on_entry: OnEntry<'_, 'a>,
) {
    // Malformed JSON may contain any number of arrays. Counting only the first keeps this linear.
    let size = if is_first { count_elements(reader.clone()) } else { 0 };
    while reader.next_element() {
        read_entry(request, reader, endpoint);
        if is_first {
            request.push_number(FieldId::BatchSize, f64::from(size));
        }
        request.issues.record_json_errors(reader.take_errors(), false);
        if !on_entry(request) {
            return;
        }
    }
}

/// Counts the elements of an array that has been entered.
fn count_elements(mut reader: Reader<'_>) -> u32 {
    let mut count = 0_u32;
    while reader.next_element() {
        reader.skip();
        count = count.saturating_add(1);
    }
    count
}

/// Reads an element of `requests`: a request wrapped in `params`, or a Gemini request.
fn read_entry<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, endpoint: Endpoint) {
    if endpoint.dialect() == Dialect::Gemini {
        return request.read_object(reader, endpoint, 0);
    }
    match reader.next_token() {
        Token::Object => {
            while let Some(key) = reader.next_key() {
                match MemberName::new(key).as_str() {
                    "params" => request.read_object(reader, endpoint, 0),
                    _ => reader.skip(),
                }
            }
        }
        token => skip_mistyped(token, reader),
    }
}

/// Reads the JSON lines of OpenAI's batch API. A malformed line is an entry, too.
fn read_lines<'a>(
    request: &mut Request<'a>,
    file: &'a [u8],
    base: usize,
    exceeds_window: bool,
    on_entry: OnEntry<'_, 'a>,
) {
    let size = non_blank_lines(file, base).count();
    for (line, start) in non_blank_lines(file, base) {
        let mut reader = Reader::new(line, start);
        read_line(request, &mut reader);
        request.push_number(FieldId::BatchSize, size as f64);
        request.issues.record_json_errors(reader.errors(), exceeds_window);
        if !on_entry(request) {
            return;
        }
    }
}

/// Returns the lines that are not blank, each with its byte offset in the body.
fn non_blank_lines(file: &[u8], base: usize) -> impl Iterator<Item = (&[u8], usize)> {
    let lines = file.split(|byte| *byte == b'\n').scan(base, |offset, line| {
        let start = *offset;
        *offset = offset.saturating_add(line.len()).saturating_add(1);
        Some((line, start))
    });
    lines.filter(|(line, _)| !line.iter().all(u8::is_ascii_whitespace))
}

/// Reads `{"custom_id", "method", "url", "body"}`. The URL decides the dialect of the body, in any
/// order of the members.
///
/// A line should hold one JSON text with one body. If it holds several, the origin decides which
/// one counts, so all are read.
fn read_line<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    let mut endpoint = None;
    let mut bodies = Vec::new();
    while !reader.at_end() {
        if !bodies.is_empty() {
            reader.record_syntax_error();
        }
        let start = reader.position();
        match reader.next_token() {
            Token::Object => read_line_members(request, reader, &mut endpoint, &mut bodies),
            token => {
                reader.record_syntax_error();
                skip_mistyped(token, reader);
            }
        }
        // No token starts with stray punctuation, such as the comma after an element of an array.
        if reader.position() == start {
            reader.skip_byte();
        }
    }
    if bodies.is_empty() {
        reader.record_syntax_error();
    }
    let endpoint = match endpoint {
        None => Endpoint::OpenaiChat,
        Some(Endpoint::None | Endpoint::Unknown) => Endpoint::Generic,
        Some(endpoint) => endpoint,
    };
    for position in bodies {
        request.read_object(&mut reader.fork_at(position), endpoint, 0);
    }
}

/// Reads the members of a line: records the endpoint of its URL and the positions of bodies.
fn read_line_members<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    endpoint: &mut Option<Endpoint>,
    bodies: &mut Vec<usize>,
) {
    let mut seen_keys = 0;
    while let Some(key) = reader.next_key() {
        let key = MemberName::new(key);
        request.record_duplicate_key(&mut seen_keys, &["url", "body"], key.as_str());
        match key.as_str() {
            "url" => {
                if let Token::String(url) = reader.next_token() {
                    let url_endpoint = builtin_endpoint(&url.text());
                    *endpoint = Some(match *endpoint {
                        Some(previous) if previous != url_endpoint => Endpoint::Generic,
                        _ => url_endpoint,
                    });
                }
            }
            "body" => {
                bodies.push(reader.position());
                reader.skip();
            }
            _ => reader.skip(),
        }
    }
}

/// A multipart form: its `purpose` values and files.
#[derive(Default)]
struct Form<'a> {
    purposes: Vec<&'a [u8]>,
    /// Content and byte offset in the body of each file.
    files: Vec<(&'a [u8], usize)>,
    /// Whether the form has a part that servers may read differently.
    is_ambiguous: bool,
}

/// Parses a multipart body, whose last part may be cut off. `None` if the content type is not
/// `multipart/form-data` with a boundary.
fn parse_form<'a>(body: &'a [u8], content_type: Option<&str>) -> Option<Form<'a>> {
    let mut form = Form::default();
    let delimiter = format!("--{}", parse_boundary(content_type?)?);
    let finder = memmem::Finder::new(delimiter.as_bytes());
    // A delimiter counts only at the beginning of a line.
    let begins_line = |position: &usize| {
        *position == 0 || body.get(..*position).is_some_and(|preceding| preceding.ends_with(b"\n"))
    };
    let delimiters = finder.find_iter(body).filter(begins_line);
    let mut starts = delimiters.map(|position| position.saturating_add(delimiter.len())).peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().map_or(body.len(), |next| next.saturating_sub(delimiter.len()));
        form.add_part(body.get(start..end).unwrap_or_default(), start);
    }
    Some(form)
}

impl<'a> Form<'a> {
    /// Returns whether the form certainly is not a batch file: it has another purpose, or it has no
    /// purpose and no line of it can have a `body`.
    fn is_not_batch(&self) -> bool {
        if self.is_ambiguous || self.purposes.contains(&&b"batch"[..]) {
            return false;
        }
        let may_have_body = |file: &[u8]| {
            memmem::find(file, br#""body""#).is_some() || memmem::find(file, br"\u00").is_some()
        };
        !self.purposes.is_empty() || !self.files.iter().any(|(file, _)| may_have_body(file))
    }

    /// Adds the part between two delimiters, which begins at byte `start` of the body.
    fn add_part(&mut self, part: &'a [u8], start: usize) {
        let crlf = memmem::find(part, b"\r\n\r\n");
        let lf = memmem::find(part, b"\n\n");
        let (head_end, content_start) = match (crlf, lf) {
            (Some(crlf), lf) if lf.is_none_or(|lf| crlf < lf) => (crlf, crlf.saturating_add(4)),
            (_, Some(lf)) => (lf, lf.saturating_add(2)),
            // The last delimiter is followed by two hyphens.
            _ => return self.is_ambiguous |= !part.starts_with(b"--"),
        };
        let head = String::from_utf8_lossy(part.get(..head_end).unwrap_or_default());
        let content = part.get(content_start..).unwrap_or_default();
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let content_offset = start.saturating_add(content_start);
        let (name, is_unambiguous) = parse_part_name(&head.to_ascii_lowercase());
        self.is_ambiguous |= !is_unambiguous || crlf != Some(head_end);
        match name.as_deref() {
            Some("purpose") => self.purposes.push(content.trim_ascii()),
            // The uploads API sends a part of a file as `data`.
            Some("file" | "data") => self.files.push((content, content_offset)),
            Some(_) if is_unambiguous => {}
            _ => self.files.push((content, content_offset)),
        }
    }
}

/// Returns the name of a part by its headers, and whether all servers agree on it. They may not if
/// header lines are folded, or if the name or the content is encoded.
fn parse_part_name(head: &str) -> (Option<String>, bool) {
    let lines: Vec<&str> = head.lines().filter(|line| !line.is_empty()).collect();
    let is_folded = lines.iter().any(|line| line.starts_with([' ', '\t']));
    let is_encoded = lines.iter().any(|line| {
        let coding = line.strip_prefix("content-transfer-encoding:").map(str::trim);
        coding.is_some_and(|coding| !matches!(coding, "7bit" | "8bit" | "binary"))
    });
    let disposition = lines.iter().find_map(|line| line.strip_prefix("content-disposition:"));
    let parameters = parse_parameters(disposition.unwrap_or_default());
    let mut names = parameters.iter().filter(|(name, _)| name == "name");
    let name = names.next().map(|(_, value)| value.clone());
    let is_extended = parameters.iter().any(|(name, _)| name.starts_with("name*"));
    let is_unambiguous =
        name.is_some() && names.next().is_none() && !is_folded && !is_encoded && !is_extended;
    (name, is_unambiguous)
}

/// Returns the boundary of a `multipart/form-data` content type; `None` for another type, or a
/// boundary that is missing or longer than 200 bytes.
fn parse_boundary(content_type: &str) -> Option<String> {
    let (media_type, parameter_text) = content_type.split_once(';')?;
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut parameters = parse_parameters(parameter_text).into_iter();
    let (_, boundary) = parameters.find(|(name, _)| name == "boundary")?;
    (!boundary.is_empty() && boundary.len() <= 200).then_some(boundary)
}

/// Returns the parameters of a header value: names in lower case, values without quotes.
fn parse_parameters(value: &str) -> Vec<(String, String)> {
    let mut in_quotes = false;
    let mut is_escaped = false;
    let parts = value.split(|char| {
        let is_separator = char == ';' && !in_quotes;
        in_quotes ^= char == '"' && !is_escaped;
        is_escaped = char == '\\' && in_quotes && !is_escaped;
        is_separator
    });
    let parameters = parts.filter_map(|part| part.split_once('='));
    let unquoted = |value: &str| value.trim().trim_matches('"').to_owned();
    parameters.map(|(name, value)| (name.trim().to_ascii_lowercase(), unquoted(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers parse forms differently. A form that one of them reads as a batch must be scored.
    #[test]
    fn only_unambiguous_non_batch_forms_are_skipped() {
        let line = "{}";
        let part = |disposition: &str, content: &str| {
            format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
        };
        let purpose = |purpose: &str| part("name=\"purpose\"", purpose);
        let file = part("name=\"file\"; filename=\"a;b.jsonl\"", line);
        let plain = "multipart/form-data; boundary=b";
        let rows = [
            ("another purpose", plain, purpose("assistants") + &file, true, 1),
            ("a batch", plain, purpose("batch") + &file, false, 1),
            ("both", plain, purpose("batch") + &purpose("user_data") + &file, false, 1),
            ("no purpose, and no line with a body", plain, file.clone(), true, 1),
            ("no purpose", plain, part("name=\"file\"", r#"{"body":{}}"#), false, 1),
            (
                "a name in extended form",
                plain,
                part("name*=utf-8''purpose", "batch") + &purpose("user_data") + &file,
                false,
                2,
            ),
            (
                "two names",
                plain,
                part("name=\"x\"; name=\"purpose\"", "batch") + &purpose("user_data") + &file,
                false,
                2,
            ),
            (
                "folded headers",
                plain,
                "--b\r\nContent-Disposition:\r\n form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
                    .to_owned()
                    + &purpose("user_data")
                    + &file,
                false,
                2,
            ),
            (
                "bare line ends",
                plain,
                "--b\nContent-Disposition: form-data; name=\"purpose\"\n\nbatch\n".to_owned()
                    + &purpose("user_data")
                    + &file,
                false,
                1,
            ),
            (
                "a boundary in quotes of another parameter",
                "multipart/form-data; x=\"; boundary=fake\"; boundary=b",
                purpose("batch") + &file,
                false,
                1,
            ),
        ];
        for (name, content_type, body, is_not_batch, files) in rows {
            let body = body + "--b--\r\n";
            let form = parse_form(body.as_bytes(), Some(content_type)).unwrap();
            assert_eq!((form.is_not_batch(), form.files.len()), (is_not_batch, files), "{name}");
        }
    }
}
