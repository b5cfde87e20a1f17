//! The life of one request, from its head to the origin's response.
//!
//! | file | content |
//! |---|---|
//! | `filter.rs` | the steps, and requests that are not LLM calls |
//! | `client_request.rs` | the head: method, target, headers, client, account |
//! | `classify.rs` | the LLM call that the request is, if any |
//! | `llm_call.rs` | scoring, logging and enforcing one LLM call |
//! | `request_body.rs` | the body: read up to the scan window, then streamed |
//! | `shadow.rs` | the decision of a shadow ruleset, compared |
//! | `edit_body.rs` | the body of a request that is to be degraded |
//! | `tag.rs` | headers that show the decision to the origin |
//! | `upstream.rs` | forwarding to the origin |
//! | `response.rs` | Hedgerow's own responses, such as errors |
//! | `cors.rs` | headers with which web pages can read own responses |
//! | `service_worker.rs` | service workers of pages that share their host with the console |

pub mod classify;
pub mod client_request;
pub mod cors;
pub mod edit_body;
pub mod filter;
pub mod llm_call;
pub mod request_body;
pub mod response;
pub mod service_worker;
pub mod shadow;
pub mod tag;
pub mod upstream;
