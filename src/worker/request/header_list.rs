//! Calls on the platform's lists of headers.

use js_sys::Array;
use web_sys::Headers;

/// Removes a header. Errors are ignored: the platform rejects only invalid names, which no header
/// can have.
pub fn remove_header(headers: &Headers, name: &str) {
    let _ = headers.delete(name);
}

/// Returns the names of all headers, in lower case.
pub fn header_names(headers: &Headers) -> Vec<String> {
    let joined = String::from(Array::from(&headers.keys()).join("\n"));
    joined.split('\n').map(str::to_owned).collect()
}
