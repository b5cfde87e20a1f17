//! Edits the body of a request that is to be degraded, and the headers that described the old body.

use hedgerow_core::enforce::degrade::{Degradation, degrade};
use hedgerow_core::http::body::Body;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::Limits;
use web_sys::Headers;

use crate::platform::panic::catch_panic;
use crate::request::client_request::ClientRequest;
use crate::request::header_list::remove_header;
use crate::request::request_body::RequestBody;
use crate::request::tag;

/// Headers that describe only the old body. An edited body is not compressed, and has another
/// length and digest.
const BODY_HEADERS: [&str; 6] = [
    "content-encoding",
    "content-length",
    "content-md5",
    "content-digest",
    "repr-digest",
    "digest",
];

/// Degrades a body.
///
/// The body is not editable if it was not read to its end, if decompression stopped early, or if
/// editing panics.
pub fn degrade_body(
    request: &ClientRequest,
    body: &RequestBody,
    endpoint: Endpoint,
    limits: &Limits,
) -> Degradation {
    let Some(full_body) = body.complete_bytes() else { return Degradation::NotEditable };
    let degradation = catch_panic(|| {
        let decoded = Body::new(full_body, request.header("content-encoding"), limits);
        // If decompression stopped early, an edited body would lack the rest. If a body does not
        // have the encoding that its header declares, it is edited without decoding: an origin that
        // accepts such a body ignores the header, too.
        if decoded.issues.is_empty() || decoded.is_unmodified() {
            degrade(decoded.bytes(), endpoint, request.header("content-type"))
        } else {
            Degradation::NotEditable
        }
    });
    degradation.unwrap_or(Degradation::NotEditable)
}

/// Changes the headers so that they describe an edited body: uncompressed JSON in UTF-8.
/// `content_type` is the type of the original body.
pub fn fix_body_headers(headers: &Headers, content_type: Option<&str>) {
    BODY_HEADERS.iter().for_each(|name| remove_header(headers, name));
    if content_type.is_some_and(is_utf16_or_utf32) {
        tag::set_header(headers, "content-type", "application/json; charset=utf-8");
    }
}

/// Returns whether a content type declares UTF-16 or UTF-32. An edited body is always in UTF-8.
fn is_utf16_or_utf32(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    content_type.contains("utf-16") || content_type.contains("utf-32")
}
