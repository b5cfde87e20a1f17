//! Reads every LLM call of a body: one, or the entries of a batch.

use super::batch;
use super::lenient_json::Reader;
use super::request::Request;
use crate::http::body::Body;
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::rules::policy::Limits;

/// Reads every LLM request in `envelope`, whose body has been made readable as `body`. Tells each,
/// in order; the same buffers are used for all. Returns how many there were, or `None` where the
/// body shows that this is no LLM call after all.
pub fn for_each_request<'a>(
    envelope: &Envelope<'a>,
    endpoint: Endpoint,
    body: &'a Body<'_>,
    limits: &Limits,
    on_request: &mut dyn FnMut(&Request<'a>),
) -> Option<usize> {
    let mut request = Request {
        text: String::with_capacity(body.bytes().len()),
        segments: Vec::with_capacity(16),
        keywords: Vec::with_capacity(32),
        numbers: Vec::with_capacity(32),
        lookahead_budget: body.bytes().len().saturating_mul(2),
        ..Request::default()
    };
    let mut entry_count = 0_usize;
    let mut on_entry = |request: &mut Request<'a>| {
        if entry_count < limits.max_entries {
            request.issues.insert(body.issues);
            request.add_envelope(envelope, endpoint, body);
            request.finish();
            on_request(request);
        }
        entry_count = entry_count.saturating_add(1);
        request.clear();
        entry_count < limits.max_entries
    };
    match endpoint {
        Endpoint::None => return None,
        Endpoint::OpenaiFiles => batch::read_upload(&mut request, envelope, body, &mut on_entry)?,
        Endpoint::AnthropicBatches => {
            batch::read_inline_requests(
                &mut request,
                body,
                Endpoint::AnthropicMessages,
                &mut on_entry,
            );
        }
        Endpoint::GeminiBatches => {
            batch::read_inline_requests(
                &mut request,
                body,
                Endpoint::GeminiGenerate,
                &mut on_entry,
            );
        }
        Endpoint::GeminiEmbedBatch => {
            batch::read_inline_requests(&mut request, body, Endpoint::GeminiEmbed, &mut on_entry);
        }
        _ => {
            let mut reader = Reader::new(body.bytes(), 0);
            request.read_object(&mut reader, endpoint, 0);
            request.issues.record_json_errors(reader.errors(), envelope.unscanned_bytes > 0);
            on_entry(&mut request);
        }
    }
    Some(entry_count)
}
