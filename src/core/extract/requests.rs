//! Entry point of extraction: reads every LLM call of a body, which is one call or a batch of
//! calls.

use super::batch;
use super::form::{self, BodyFormat};
use super::issues::ReadIssues;
use super::lenient_json::Reader;
use super::realtime;
use super::request::Request;
use crate::http::body::Body;
use crate::http::envelope::Envelope;
use crate::http::route::{Dialect, Endpoint};
use crate::rules::policy::Limits;

/// Reads every LLM request of a body and calls `on_request` for each, in order.
///
/// `body` is the decompressed body of `envelope`. All entries of a batch share the buffers of one
/// [`Request`]; at most `limits.max_entries` are reported. Returns the number of entries read, or
/// `None` if the endpoint or the body shows that this is not an LLM call.
pub fn for_each_request<'a>(
    envelope: &Envelope<'a>,
    endpoint: Endpoint,
    body: &'a Body<'_>,
    limits: &Limits,
    on_request: &mut dyn FnMut(&mut Request<'a>),
) -> Option<usize> {
    let mut request = new_request(envelope, body);
    let mut entry_count = 0_usize;
    let mut on_entry = |request: &mut Request<'a>| {
        if entry_count < limits.max_entries {
            request.issues.insert(body.issues);
            // A WebSocket message continues a conversation that the request does not hold, so the
            // text to which its turn points may be missing.
            if !realtime::is_event(endpoint) {
                request.mark_pointed_text();
            }
            request.join_earlier();
            request.add_envelope(envelope, endpoint, body);
            request.finish(envelope, endpoint, limits.scan_window);
            on_request(request);
        }
        entry_count = entry_count.saturating_add(1);
        request.clear();
        entry_count < limits.max_entries
    };
    let exceeds_window = envelope.unscanned_bytes > 0;
    match endpoint {
        Endpoint::None => return None,
        Endpoint::OpenaiFiles => {
            batch::read_upload(&mut request, envelope, body, &mut on_entry)?;
            return Some(entry_count);
        }
        _ => {}
    }
    match BodyFormat::detect(envelope, body) {
        BodyFormat::Json => {}
        // A body in another format is a prompt only at an endpoint that expects prompts.
        _ if endpoint == Endpoint::Unknown => return None,
        format => {
            read_other_format(&mut request, format, body.bytes(), exceeds_window);
            on_entry(&mut request);
            return Some(entry_count);
        }
    }
    read_json(&mut request, envelope, endpoint, body, &mut on_entry);
    Some(entry_count)
}

/// Returns a request without content, except for the earlier texts of its conversation.
fn new_request<'a>(envelope: &Envelope<'a>, body: &'a Body<'_>) -> Request<'a> {
    let mut request = Request {
        text: String::with_capacity(text_capacity(body)),
        segments: Vec::with_capacity(16),
        keywords: Vec::with_capacity(32),
        numbers: Vec::with_capacity(32),
        work: body.work().clone(),
        ..Request::default()
    };
    if let Some(earlier) = envelope.earlier {
        let message_bytes = body.bytes().len();
        request.work.add_text(earlier.text_bytes(message_bytes));
        request.push_earlier(earlier, message_bytes);
    }
    request
}

/// Reads a JSON body: a batch of requests, or one request.
fn read_json<'a>(
    request: &mut Request<'a>,
    envelope: &Envelope<'a>,
    endpoint: Endpoint,
    body: &'a Body<'_>,
    on_entry: &mut dyn FnMut(&mut Request<'a>) -> bool,
) {
    match endpoint {
        Endpoint::AnthropicBatches => {
            batch::read_inline_requests(request, body, Endpoint::AnthropicMessages, on_entry);
        }
        Endpoint::GeminiBatches => {
            batch::read_inline_requests(request, body, Endpoint::GeminiGenerate, on_entry);
        }
        Endpoint::GeminiEmbedBatch => {
            batch::read_inline_requests(request, body, Endpoint::GeminiEmbed, on_entry);
        }
        _ => {
            let mut reader = Reader::new(body.bytes(), 0);
            let exceeds_window = envelope.unscanned_bytes > 0;
            request.read_object(&mut reader, endpoint, 0);
            if endpoint.body_dialect() == Dialect::Generic {
                // The body may consist of JSON lines.
                request.read_further_texts(&mut reader);
            } else if !exceeds_window && !reader.at_end() {
                // An extra closing bracket must not hide the text after it.
                reader.record_syntax_error();
                request.read_further_texts(&mut reader);
            }
            request.issues.record_json_errors(reader.errors(), exceeds_window);
            on_entry(request);
        }
    }
}

/// Reads a body that is not JSON as one request.
fn read_other_format<'a>(
    request: &mut Request<'a>,
    format: BodyFormat<'_>,
    body: &'a [u8],
    exceeds_window: bool,
) {
    match format {
        BodyFormat::Json => {}
        BodyFormat::UrlEncoded => form::read_url_encoded(request, body),
        BodyFormat::Multipart(content_type) => {
            form::read_multipart(request, body, content_type, exceeds_window)
        }
        BodyFormat::Opaque => request.issues.insert(ReadIssues::OPAQUE),
    }
}

/// Returns the bytes to allocate for the text of a body.
///
/// Text is rarely longer than its body. The buffer of a large body gets its maximum size at once,
/// because a buffer that grows takes the memory of the old and the new buffer.
fn text_capacity(body: &Body<'_>) -> usize {
    match body.bytes().len() {
        length @ ..LARGE_BODY_BYTES => length,
        // Normalisation may exceed its limit by the characters that it composes in one step.
        _ => body.work().max_text().saturating_add(4 << 10),
    }
}

/// Minimum bytes of a body whose text buffer is allocated at its maximum size.
const LARGE_BODY_BYTES: usize = 1 << 20;
