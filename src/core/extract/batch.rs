//! Batches: many requests in one body, as an upload of JSON lines or as an inline list `requests`.

use super::attachment;
use super::issues::ReadIssues;
use super::lenient_value::skip_rest_of_value;
use super::member_name::MemberName;
use super::multipart::{Form, parse_form};
use super::raw_string::RawString;
use super::request::Request;
use crate::extract::lenient_json::{Reader, Token};
use crate::field::FieldId;
use crate::http::body::Body;
use crate::http::envelope::Envelope;
use crate::http::route::{Dialect, Endpoint, builtin_endpoint};

/// A callback for each entry (one request) of a batch; the callback returns false to stop the
/// reading.
type OnEntry<'t, 'a> = &'t mut dyn FnMut(&mut Request<'a>) -> bool;

/// Reads a file upload and calls `on_entry` for each line or file. Returns `None` if the upload is
/// certainly not a batch, and either is not for a model or holds no text.
pub fn read_upload<'a>(
    request: &mut Request<'a>,
    envelope: &Envelope<'a>,
    body: &'a Body<'_>,
    on_entry: OnEntry<'_, 'a>,
) -> Option<()> {
    let Some(form) = parse_form(body.bytes(), envelope.content_type()) else {
        request.issues.insert(ReadIssues::MULTIPART);
        on_entry(request);
        return Some(());
    };
    let exceeds_window = envelope.unscanned_bytes > 0;
    if form.is_not_batch() {
        return read_stored_files(request, envelope, &form, exceeds_window, on_entry);
    }
    if form.files.is_empty() || form.is_ambiguous {
        request.issues.insert(ReadIssues::MULTIPART);
    }
    if form.files.is_empty() {
        on_entry(request);
    }
    for (file, base) in form.files {
        read_lines(request, file, base, exceeds_window, on_entry);
    }
    Some(())
}

/// Reads uploaded files that later requests refer to. Each line of training data or of an
/// evaluation becomes an entry; any other text file becomes one entry. Returns `None` if the upload
/// is not for a model, or if no file is text.
fn read_stored_files<'a>(
    request: &mut Request<'a>,
    envelope: &Envelope<'a>,
    form: &Form<'a>,
    exceeds_window: bool,
    on_entry: OnEntry<'_, 'a>,
) -> Option<()> {
    let is_for_model = |purpose: &&[u8]| matches!(*purpose, b"fine-tune" | b"evals");
    let has_lines = form.purposes.iter().any(is_for_model);
    // Anthropic's uploads have no purpose. Any other upload without a purpose is not for a model.
    let is_anthropic = envelope.headers.iter().any(|(name, _)| name == "anthropic-version");
    if form.purposes.is_empty() && !is_anthropic {
        return None;
    }
    let mut found_text = None;
    for (file, base) in &form.files {
        if has_lines {
            found_text = Some(());
            for (line, start) in non_blank_lines(file, *base) {
                let mut reader = Reader::new(line, start);
                request.read_object(&mut reader, Endpoint::OpenaiOther, 0);
                request.issues.record_json_errors(reader.errors(), exceeds_window);
                if !on_entry(request) {
                    return found_text;
                }
            }
        } else if attachment::push_file(request, RawString::new(file, *base)) {
            found_text = Some(());
            if !on_entry(request) {
                return found_text;
            }
        }
    }
    found_text
}

/// Returns the lines of an uploaded batch file, each with its byte offset in the body.
///
/// Returns `None` if the body is not a form with a file, or if servers may parse the form
/// differently.
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
/// Anthropic nests each request in `params`; Gemini nests it in `request`, or not at all. A body
/// without `requests` is read as one request.
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

/// Finds the list `requests` and reads its elements. Gemini nests this list
/// (`batch.input_config.requests.requests`). Sets `found_requests` if there is such a list. `depth`
/// is the number of objects around the value.
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
        token => skip_rest_of_value(token, reader),
    }
}

/// Reads the array `requests`, which has been entered, and calls `on_entry` for each element.
/// `is_first` is true for the first such array of the body.
fn read_requests<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
    is_first: bool,
    on_entry: OnEntry<'_, 'a>,
) {
    // Malformed JSON may contain any number of arrays. Only the elements of the first array are
    // counted, so that the time stays linear in the size of the body.
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
        token => skip_rest_of_value(token, reader),
    }
}

/// Reads the JSON lines of OpenAI's batch API. A malformed line counts as an entry, too.
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

/// Reads a line: an object with `custom_id`, `method`, `url` and `body`. The URL decides the
/// dialect (the API format) of the body, even if the URL comes after the body.
///
/// A line should hold one JSON text with one body. If a line holds several bodies, the origin
/// decides which one it uses, so all of them are read.
fn read_line<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    let mut endpoint = None;
    let mut bodies = Vec::new();
    let start = reader.position();
    while !reader.at_end() {
        if !bodies.is_empty() {
            reader.record_syntax_error();
        }
        let value_start = reader.position();
        match reader.next_token() {
            Token::Object => read_line_members(request, reader, &mut endpoint, &mut bodies),
            token => {
                reader.record_syntax_error();
                skip_rest_of_value(token, reader);
            }
        }
        // Stray punctuation, such as the comma after an element of an array, starts no token and is
        // skipped here.
        if reader.position() == value_start {
            reader.skip_byte();
        }
    }
    if bodies.is_empty() {
        read_wrapped_line(request, reader, start);
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

/// Reads a line without `body`: Gemini wraps a request in `request`, Anthropic in `params`, Bedrock
/// in `modelInput`. Records a syntax error if the line holds no text.
fn read_wrapped_line<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, start: usize) {
    let segments_before = request.segments.len();
    request.read_object(&mut reader.fork_at(start), Endpoint::Generic, 0);
    if request.segments.len() == segments_before {
        reader.record_syntax_error();
    }
}

/// Reads the members of a line. Records in `endpoint` the endpoint of the URL
/// ([`Endpoint::Generic`] if several URLs differ), and in `bodies` the position of each body.
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
