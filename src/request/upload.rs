//! Many requests in one body: batch files (multipart, one JSON line a request) and message batches.

use memchr::memmem;

use super::{Body, Envelope, Key, Request, Trouble};
use crate::field::Name;
use crate::json::{Reader, Token};
use crate::route::{Dialect, Endpoint, endpoint_of};

/// Tells one entry; false when no more are wanted.
type Tell<'t, 'a> = &'t mut dyn FnMut(&mut Request<'a>) -> bool;

/// Reads a file upload; `None` where its purpose is not `batch`.
pub fn read<'a>(
    request: &mut Request<'a>,
    envelope: &Envelope<'a>,
    body: &'a Body<'_>,
    tell: Tell<'_, 'a>,
) -> Option<()> {
    let content_type = envelope.headers.iter().find(|(name, _)| name == "content-type");
    let content_type = content_type.map(|(_, value)| value.as_str());
    let Some(form) = form(body.bytes(), content_type) else {
        request.trouble.add(Trouble::MULTIPART);
        tell(request);
        return Some(());
    };
    if !form.purposes.is_empty() && !form.purposes.contains(&&b"batch"[..]) {
        return None;
    }
    if form.files.is_empty() {
        request.trouble.add(Trouble::MULTIPART);
        tell(request);
    }
    for (file, base) in form.files {
        lines(request, file, base, envelope.unscanned > 0, tell);
    }
    Some(())
}

/// The lines of a batch file's upload, each with its place in the body; `None` where `content_type`
/// says that the body is something else.
pub fn batch_lines<'a>(
    body: &'a [u8],
    content_type: Option<&str>,
) -> Option<Vec<(&'a [u8], usize)>> {
    let form = form(body, content_type)?;
    Some(form.files.into_iter().flat_map(|(file, base)| filled_lines(file, base)).collect())
}

/// Reads a JSON body that holds its entries under `requests`: Anthropic's as `params`, Gemini's as
/// `request` or bare.
pub fn entries<'a>(
    request: &mut Request<'a>,
    body: &'a Body<'_>,
    endpoint: Endpoint,
    tell: Tell<'_, 'a>,
) {
    let mut reader = Reader::new(body.bytes(), 0);
    let mut found = false;
    nested(request, &mut reader, endpoint, 0, &mut found, tell);
    if !found {
        let mut reader = Reader::new(body.bytes(), 0);
        request.object(&mut reader, endpoint, 0);
        request.trouble.note(reader.broken(), false);
        tell(request);
    }
}

/// Looks for `requests` here and, for Gemini, further in (`batch.input_config.requests.requests`).
fn nested<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
    depth: u8,
    found: &mut bool,
    tell: Tell<'_, 'a>,
) {
    match reader.token() {
        Token::Object if depth <= 4 => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "requests" | "batch" | "inputconfig" => {
                        nested(request, reader, endpoint, depth.saturating_add(1), found, tell);
                    }
                    _ => reader.skip(),
                }
            }
        }
        Token::Array if depth > 0 => {
            array(request, reader, endpoint, !*found, tell);
            *found = true;
        }
        token => super::drop_value(token, reader),
    }
}

fn array<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    endpoint: Endpoint,
    is_first: bool,
    tell: Tell<'_, 'a>,
) {
    // Broken JSON may seem to hold any number of lists; only the first is counted beforehand.
    let size = if is_first { count(reader.clone()) } else { 0 };
    while reader.element() {
        entry(request, reader, endpoint);
        if is_first {
            request.number(Name::BatchSize, f64::from(size));
        }
        request.trouble.note(reader.take_broken(), false);
        if !tell(request) {
            return;
        }
    }
}

/// How many elements an array has.
fn count(mut reader: Reader<'_>) -> u32 {
    let mut size = 0_u32;
    while reader.element() {
        reader.skip();
        size = size.saturating_add(1);
    }
    size
}

fn entry<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>, endpoint: Endpoint) {
    if endpoint.dialect() == Dialect::Gemini {
        return request.object(reader, endpoint, 0);
    }
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "params" => request.object(reader, endpoint, 0),
                    _ => reader.skip(),
                }
            }
        }
        token => super::drop_value(token, reader),
    }
}

/// Reads JSON lines as OpenAI's batch API has them. A line that cannot be read is an entry too.
fn lines<'a>(
    request: &mut Request<'a>,
    file: &'a [u8],
    base: usize,
    windowed: bool,
    tell: Tell<'_, 'a>,
) {
    let size = filled_lines(file, base).count();
    for (line, start) in filled_lines(file, base) {
        let mut reader = Reader::new(line, start);
        batch_line(request, &mut reader);
        request.number(Name::BatchSize, size as f64);
        request.trouble.note(reader.broken(), windowed);
        if !tell(request) {
            return;
        }
    }
}

/// The lines that are not blank, each with its place in the body.
fn filled_lines(file: &[u8], base: usize) -> impl Iterator<Item = (&[u8], usize)> {
    let lines = file.split(|byte| *byte == b'\n').scan(base, |at, line| {
        let start = *at;
        *at = at.saturating_add(line.len()).saturating_add(1);
        Some((line, start))
    });
    lines.filter(|(line, _)| !line.iter().all(u8::is_ascii_whitespace))
}

/// Reads `{"custom_id", "method", "url", "body"}`; the URL says how the body reads, wherever it stands.
fn batch_line<'a>(request: &mut Request<'a>, reader: &mut Reader<'a>) {
    let mut endpoint = Endpoint::OpenaiChat;
    let mut body = None;
    match reader.token() {
        Token::Object => {
            while let Some(key) = reader.key() {
                match Key::of(key).as_str() {
                    "url" => {
                        if let Token::String(url) = reader.token() {
                            endpoint = endpoint_of(&url.text());
                        }
                    }
                    "body" => {
                        body = Some(reader.position());
                        reader.skip();
                    }
                    _ => reader.skip(),
                }
            }
        }
        _ => reader.mark_syntax(),
    }
    match (endpoint, body) {
        (Endpoint::None, Some(position)) => {
            request.object(&mut reader.at(position), Endpoint::Generic, 0)
        }
        (endpoint, Some(position)) => request.object(&mut reader.at(position), endpoint, 0),
        (_, None) => reader.mark_syntax(),
    }
}

/// The parts of a form that matter here.
#[derive(Default)]
struct Form<'a> {
    purposes: Vec<&'a [u8]>,
    files: Vec<(&'a [u8], usize)>,
}

/// Finds `purpose` and `file` in a multipart body. The last part may be cut off. `None` where the
/// content type names no multipart form.
fn form<'a>(body: &'a [u8], content_type: Option<&str>) -> Option<Form<'a>> {
    let mut form = Form::default();
    let delimiter = format!("--{}", boundary(content_type?)?);
    let finder = memmem::Finder::new(delimiter.as_bytes());
    // A delimiter begins a line; elsewhere it is content.
    let begins_line =
        |at: &usize| *at == 0 || body.get(..*at).is_some_and(|before| before.ends_with(b"\n"));
    let found = finder.find_iter(body).filter(begins_line);
    let mut starts = found.map(|at| at.saturating_add(delimiter.len())).peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().map_or(body.len(), |next| next.saturating_sub(delimiter.len()));
        let part = body.get(start..end).unwrap_or_default();
        let Some(head) = memmem::find(part, b"\r\n\r\n") else { continue };
        let content_start = head.saturating_add(4);
        let content = part.get(content_start..).unwrap_or_default();
        let content = content.strip_suffix(b"\r\n").unwrap_or(content);
        let head =
            String::from_utf8_lossy(part.get(..head).unwrap_or_default()).to_ascii_lowercase();
        match form_name(&head) {
            Some("purpose") => form.purposes.push(content.trim_ascii()),
            Some("file") => form.files.push((content, start.saturating_add(content_start))),
            _ => {}
        }
    }
    Some(form)
}

fn form_name(head: &str) -> Option<&str> {
    let line = head.lines().find(|line| line.starts_with("content-disposition:"))?;
    let mut in_quotes = false;
    let parameters = line.split(|char| {
        in_quotes ^= char == '"';
        char == ';' && !in_quotes
    });
    let mut names = parameters.filter_map(|parameter| parameter.trim().strip_prefix("name="));
    names.next().map(|name| name.trim_matches('"'))
}

fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameters.split(';').map(str::trim).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"'))
    })?;
    (!boundary.is_empty() && boundary.len() <= 200).then(|| boundary.to_owned())
}
