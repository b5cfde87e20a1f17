//! Service workers of the origin's pages, on a host that they share with the console.
//!
//! A service worker answers all requests in its scope in place of the server. With `/_hedgerow/` in
//! its scope, it could replace the console and read tokens. The widest scope of a script is its
//! folder, or the path in the header `Service-Worker-Allowed` of its response ([Service Workers,
//! section Update](https://w3c.github.io/ServiceWorker/#update-algorithm)). So on such a host:
//!
//! - Requests for scripts in the root folder, or in a folder that begins with `/_hedgerow`, are
//!   refused, because such a folder allows a scope that contains the console.
//! - `Service-Worker-Allowed` is removed from a response if it allows such a scope.
//! - Responses with scripts in such folders get `vary: Service-Worker`. Otherwise a page could load
//!   such a script as an ordinary script, and then register it from the browser's cache.

use wasm_bindgen::JsCast;
use web_sys::{Headers, Response, ResponseInit, Url};

use crate::request::client_request::ClientRequest;
use crate::request::header_list::remove_header;
use crate::request::response::RequestError;
use crate::request::upstream::SWITCHING_PROTOCOLS;

/// Prefix of the console's paths.
const CONSOLE_PREFIX: &str = "/_hedgerow";

/// The request header that a browser sets when it requests the script of a service worker.
const SERVICE_WORKER: &str = "service-worker";

/// The response header with the path that replaces the folder of the script as the limit of the
/// service worker's scope.
const SERVICE_WORKER_ALLOWED: &str = "service-worker-allowed";

/// Returns whether the request is from a browser that loads the script of a service worker.
pub fn is_script_request(request: &ClientRequest) -> bool {
    request.header(SERVICE_WORKER).is_some()
}

/// Rejects the script of a service worker that could control the console.
///
/// # Errors
/// If the folder of the script allows a scope that contains a path of the console.
pub fn check_script(request: &ClientRequest) -> Result<(), RequestError> {
    let is_allowed = !is_script_request(request) || !reaches_console(folder_of(request.path()));
    is_allowed.then_some(()).ok_or(RequestError::ServiceWorker)
}

/// Returns the origin's response to a request that was forwarded unread. Removes
/// `Service-Worker-Allowed` if it would let a service worker control the console. Adds `vary` if
/// the response is a script that could be registered as such a service worker.
///
/// # Errors
/// If the platform rejects the copy with other headers.
pub fn restrict_scope(
    request: &ClientRequest,
    response: Response,
) -> Result<Response, RequestError> {
    if !matches!(request.method(), "GET" | "HEAD") || response.status() == SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let headers = response.headers();
    let allowed = header(&headers, SERVICE_WORKER_ALLOWED);
    let widens = allowed.is_some_and(|allowed| widens_to_console(&allowed, &request.raw.url()));
    let varies = reaches_console(folder_of(request.path()))
        && header(&headers, "content-type").is_some_and(|media_type| is_script(&media_type));
    if !widens && !varies {
        return Ok(response);
    }
    let init: &ResponseInit = response.unchecked_ref();
    let copy = Response::new_with_opt_readable_stream_and_init(response.body().as_ref(), init)
        .map_err(|_| RequestError::ServiceWorker)?;
    if widens {
        remove_header(&copy.headers(), SERVICE_WORKER_ALLOWED);
    }
    if varies {
        // The platform rejects only invalid names and values.
        let _ = copy.headers().append("vary", "Service-Worker");
    }
    Ok(copy)
}

fn header(headers: &Headers, name: &str) -> Option<String> {
    headers.get(name).ok().flatten()
}

/// Returns whether a scope that begins with `start` can contain a path of the console. Browsers
/// compare scopes as text prefixes: the scope `/_hed` contains `/_hedgerow/`.
fn reaches_console(start: &str) -> bool {
    CONSOLE_PREFIX.starts_with(start) || start.starts_with(CONSOLE_PREFIX)
}

/// Returns the folder of a path, with its final slash.
fn folder_of(path: &str) -> &str {
    let end = path.rfind('/').map_or(0, |position| position.saturating_add(1));
    path.get(..end).filter(|folder| !folder.is_empty()).unwrap_or("/")
}

/// Returns whether the value of `Service-Worker-Allowed`, a URL relative to the script, allows a
/// scope that contains a path of the console. Returns true if the value is not a URL.
fn widens_to_console(allowed: &str, script_url: &str) -> bool {
    // The platform joins repeated headers with a comma, so a value with a comma counts as
    // malformed.
    let url = Url::new_with_base(allowed, script_url).ok().filter(|_| !allowed.contains(','));
    url.is_none_or(|url| reaches_console(&url.pathname()))
}

/// Returns whether a media type is a type of JavaScript. All of these types contain one of the
/// words below.
fn is_script(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().to_ascii_lowercase();
    ["javascript", "ecmascript", "jscript", "livescript"].iter().any(|word| essence.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_reach_the_console_are_recognized() {
        let rows = [
            ("/sw.js", true),
            ("/", true),
            ("", true),
            ("/_hedgerow/sw.js", true),
            ("/_hedgerow/assets/sw.js", true),
            ("/app/sw.js", false),
            ("//sw.js", false),
            ("/_hed/sw.js", false),
            ("/app/_hedgerow/sw.js", false),
        ];
        for (path, expected) in rows {
            assert_eq!(reaches_console(folder_of(path)), expected, "{path}");
        }
        // Values of `Service-Worker-Allowed` need not end with a slash.
        for (start, expected) in [("/_hed", true), ("/_hedgerow/x", true), ("/_hedge-row", false)] {
            assert_eq!(reaches_console(start), expected, "{start}");
        }
    }

    #[test]
    fn scripts_are_recognized_by_their_media_type() {
        for media_type in ["text/javascript; charset=utf-8", "application/X-JavaScript"] {
            assert!(is_script(media_type), "{media_type}");
        }
        for media_type in ["", "application/json", "text/html; x=javascript"] {
            assert!(!is_script(media_type), "{media_type}");
        }
    }
}
