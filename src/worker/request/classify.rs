//! Decides whether a request is an LLM call, and which one.

use hedgerow_core::Ruleset;
use hedgerow_core::http::route::{Endpoint, builtin_endpoint, has_prompt_method};
use hedgerow_core::http::websocket;

use crate::platform::panic::catch_panic;
use crate::request::client_request::ClientRequest;

/// The result of classifying a request.
#[derive(Clone, Copy)]
pub struct Classified {
    /// The endpoint of the LLM call; `None` if the request is not an LLM call.
    pub endpoint: Option<Endpoint>,
    /// Fault in Hedgerow while the request was classified. Such a request cannot be scored.
    pub error: Option<&'static str>,
}

/// Classifies a request by the routes of `ruleset`, or by the built-in routes if there is no
/// ruleset. A request to an unknown endpoint counts as an LLM call only if its body has a declared
/// length within the limit.
///
/// If that panics, the built-in routes decide. If they panic, too, the request counts as an LLM
/// call of unknown dialect: a panic must not bypass `fail_closed`.
pub fn classify(ruleset: Option<&Ruleset>, request: &ClientRequest) -> Classified {
    let endpoint_by_path = || {
        if request.is_websocket_handshake() {
            return websocket::builtin_endpoint(request.path());
        }
        let endpoint = builtin_endpoint(request.path());
        let is_llm_call = !matches!(endpoint, Endpoint::None | Endpoint::Unknown);
        (has_prompt_method(request.method()) && is_llm_call).then_some(endpoint)
    };
    let classified = catch_panic(|| {
        #[cfg(feature = "fault-injection")]
        inject_panic(request, "route");
        ruleset.map_or_else(endpoint_by_path, |ruleset| ruleset.endpoint(&request.envelope()))
    });
    let is_read =
        |endpoint: &Endpoint| *endpoint != Endpoint::Unknown || has_known_size(ruleset, request);
    match classified {
        Some(endpoint) => Classified { endpoint: endpoint.filter(is_read), error: None },
        None => {
            let endpoint = catch_panic(endpoint_by_path).unwrap_or(Some(Endpoint::Generic));
            Classified { endpoint, error: Some("routing panicked") }
        }
    }
}

/// Returns whether the body has a declared length, which is within the limit up to which bodies are
/// read. Other bodies of unknown endpoints are not read. Otherwise, a stream of JSON lines to an
/// endpoint without a model would reach the origin only after the stream has ended.
fn has_known_size(ruleset: Option<&Ruleset>, request: &ClientRequest) -> bool {
    let limit = ruleset.map_or(0, |ruleset| ruleset.policy().scan.max_body as u64);
    request.content_length().is_some_and(|length| length <= limit)
}

/// Panics if the request's header `x-hedgerow-inject-panic` names this stage: `route`, `message`
/// for reading a message of a WebSocket, or `1` for scoring. For test builds only.
#[cfg(feature = "fault-injection")]
#[expect(clippy::panic, reason = "tests need a panic while requests are handled")]
pub fn inject_panic(request: &ClientRequest, stage: &str) {
    if request.override_header("x-hedgerow-inject-panic") == Some(stage) {
        panic!("injected: {}", request.path());
    }
}
