//! Requests from the Worker to its own Durable Objects.

use std::collections::HashMap;
use std::time::Duration;

use hedgerow_core::identity::query::parameters;
use serde_json::Value;
use wasm_bindgen::JsValue;
use web_sys::{Request, RequestInit};

/// The header that names the caller of an internal request, as JSON. The member `actor` is the
/// caller's name. The member `client` is a keyed hash of the client's address; it may be missing or
/// null.
pub const CALLER_HEADER: &str = "x-caller";

/// Timeout of one call. The registry may have to compile a large bundle, or to repeat writes to KV.
pub const RPC_TIMEOUT: Duration = Duration::from_secs(25);

/// Returns the decoded parameters of the query of an internal request. Of several with one name,
/// the last one counts. `worker::Request::url` would add a parser of URLs to the Worker.
pub fn query_parameters(request: &worker::Request) -> HashMap<String, String> {
    let url = request.inner().url();
    let query = url.split_once('?').map_or("", |(_, query)| query);
    parameters(query).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// Makes a request to a Durable Object. `base` can be any origin, because the platform ignores it.
/// `target` is the path and the query. `caller` is sent in [`CALLER_HEADER`]. The body of the
/// request `body` is streamed.
///
/// # Errors
/// If the platform rejects the method, the URL or the header.
pub fn request(
    base: &str,
    method: &str,
    target: &str,
    caller: &Value,
    body: Option<&Request>,
) -> Result<Request, JsValue> {
    let init = RequestInit::new();
    init.set_method(method);
    if let Some(body) = body.and_then(Request::body) {
        init.set_body(&body);
    }
    let request = Request::new_with_str_and_init(&format!("{base}{target}"), &init)?;
    request.headers().set(CALLER_HEADER, &caller.to_string())?;
    Ok(request)
}
