//! Fields of forms, multipart or URL-encoded, and bodies that are not text.

use super::attachment;
use super::coding::Coding;
use super::issues::ReadIssues;
use super::lenient_json::Reader;
use super::member_name::MemberName;
use super::multipart::{Form, Part, parse_form};
use super::raw_string::RawString;
use super::request::Request;
use crate::field::{FieldId, Section};
use crate::http::body::Body;
use crate::http::endpoint::Endpoint;
use crate::http::envelope::Envelope;

/// The format of a body.
#[derive(Debug)]
pub(super) enum BodyFormat<'a> {
    /// JSON, or text that should be JSON.
    Json,
    /// `application/x-www-form-urlencoded`.
    UrlEncoded,
    /// `multipart/*`, with its content type.
    Multipart(&'a str),
    /// A binary format, such as MessagePack or protobuf.
    Opaque,
}

impl<'a> BodyFormat<'a> {
    /// Returns the format of a body by its first bytes and its content type.
    ///
    /// A body that is empty or begins like JSON is read as JSON, whatever its content type, because
    /// `curl -d` declares every body as a form.
    pub(super) fn detect(envelope: &Envelope<'a>, body: &Body<'_>) -> Self {
        let bytes = body.bytes();
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
        if matches!(text, [] | [b'{' | b'[' | b'"', ..]) {
            return Self::Json;
        }
        let content_type = envelope.content_type().unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let media_type = media_type.to_ascii_lowercase();
        let is_undecoded = body.issues.intersects(ReadIssues::ENCODING | ReadIssues::INFLATE);
        let prefix = bytes.get(..bytes.len().min(SNIFFED_BYTES)).unwrap_or_default();
        match media_type.as_str() {
            "application/x-www-form-urlencoded" => Self::UrlEncoded,
            media_type if media_type.starts_with("multipart/") => Self::Multipart(content_type),
            // The text of such a body was not read for another reason, which `body.issues` records.
            _ if is_undecoded => Self::Json,
            media_type if is_binary(media_type) || !attachment::is_text(prefix) => Self::Opaque,
            _ => Self::Json,
        }
    }
}

/// Returns whether bodies of a media type are not text.
fn is_binary(media_type: &str) -> bool {
    ["msgpack", "protobuf", "grpc", "+proto", "cbor", "octet-stream", "eventstream", "avro"]
        .iter()
        .any(|name| media_type.contains(name))
}

/// Reads a URL-encoded form.
pub(super) fn read_url_encoded<'a>(request: &mut Request<'a>, body: &'a [u8]) {
    let mut offset = 0_usize;
    for pair in body.split(|byte| *byte == b'&') {
        let name_len = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let value = pair.get(name_len.saturating_add(1)..).unwrap_or_default();
        let name = RawString::new(pair.get(..name_len).unwrap_or_default(), offset);
        let value = RawString::new(value, offset.saturating_add(name_len).saturating_add(1));
        read_field(request, &Coding::Form.decode(name), value, Coding::Form);
        offset = offset.saturating_add(pair.len()).saturating_add(1);
    }
}

/// Reads a multipart body of an endpoint other than file uploads.
pub(super) fn read_multipart<'a>(
    request: &mut Request<'a>,
    body: &'a [u8],
    content_type: &str,
    exceeds_window: bool,
) {
    let Some(form) = parse_form(body, Some(content_type)) else {
        return request.issues.insert(ReadIssues::MULTIPART);
    };
    // Parts of `multipart/related` and `multipart/mixed` have no name.
    let is_form = content_type.to_ascii_lowercase().contains("form-data");
    let Form { parts, is_ambiguous, .. } = form;
    if parts.is_empty() || is_form && is_ambiguous {
        request.issues.insert(ReadIssues::MULTIPART);
    }
    for part in parts {
        read_part(request, &part, exceeds_window);
    }
}

/// Reads a part: JSON texts, a field, or a file.
fn read_part<'a>(request: &mut Request<'a>, part: &Part<'a>, exceeds_window: bool) {
    let raw = RawString::new(part.content, part.offset);
    let raw = if part.name.is_none() { without_http_head(raw) } else { raw };
    if matches!(raw.bytes().trim_ascii_start(), [b'{' | b'[', ..]) {
        return read_json_texts(request, raw, exceeds_window);
    }
    match &part.name {
        Some(name) if !part.is_file => read_field(request, name, raw, Coding::Plain),
        _ => {
            if !attachment::push_file(request, raw) {
                attachment::count(request);
            }
        }
    }
}

/// Returns a part without the head of an HTTP request. A part that does not begin with such a head
/// is returned unchanged.
fn without_http_head<'a>(raw: RawString<'a>) -> RawString<'a> {
    let is_request = [&b"POST "[..], b"PUT ", b"PATCH "]
        .iter()
        .any(|method| raw.bytes().trim_ascii_start().starts_with(method));
    let blank_line = |pattern: &[u8]| {
        let position = memchr::memmem::find(raw.bytes(), pattern)?;
        Some(position.saturating_add(pattern.len()))
    };
    let head_len = blank_line(b"\r\n\r\n").or_else(|| blank_line(b"\n\n"));
    match head_len.filter(|_| is_request) {
        Some(head_len) => raw.slice(raw.range().start.saturating_add(head_len)..raw.range().end),
        None => raw,
    }
}

/// Reads one JSON text, or JSON lines, as one request.
fn read_json_texts<'a>(request: &mut Request<'a>, raw: RawString<'a>, exceeds_window: bool) {
    let mut reader = Reader::new(raw.bytes(), raw.range().start);
    request.read_object(&mut reader, Endpoint::Generic, 0);
    request.read_further_texts(&mut reader);
    request.issues.record_json_errors(reader.errors(), exceeds_window);
}

/// Reads a form field if its name is a key that LLM APIs use. Brackets in a name express nesting,
/// as in `messages[0][content]`; the last key of the name counts.
fn read_field<'a>(request: &mut Request<'a>, name: &str, value: RawString<'a>, coding: Coding) {
    let is_index = |part: &&str| part.is_empty() || part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = name.split(['[', ']', '.']).filter(|part| !is_index(part));
    let name = parts.next_back().unwrap_or_default();
    let section = match MemberName::new(RawString::new(name.as_bytes(), 0)).as_str() {
        "model" => {
            let model = coding.decode(value).trim().to_owned();
            if model.len() <= MAX_MODEL_BYTES {
                request.keywords.push((FieldId::RequestModel, model.into()));
            }
            return;
        }
        "prompt" | "input" | "inputs" | "text" | "query" | "question" | "message" | "messages"
        | "content" | "instruction" | "userinput" | "inputtext" | "textinput" | "task" => {
            Section::User
        }
        "system" | "systemprompt" | "preamble" | "instructions" => Section::System,
        _ => return,
    };
    request.push_decoded(section, value, coding);
}

/// Number of bytes at the start of a body that are checked to decide whether it is text.
const SNIFFED_BYTES: usize = 256;

/// Maximum bytes of a model's name.
const MAX_MODEL_BYTES: usize = 512;
