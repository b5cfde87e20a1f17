//! The life of one request, from its head to the origin's response.
//!
//! | file | content |
//! |---|---|
//! | `filter.rs` | the steps of filtering, and requests that are not LLM calls |
//! | `client_request.rs` | the head: method, target, headers, client |
//! | `sender.rs` | account and tenant of a request |
//! | `classify.rs` | whether a request is an LLM call, and which one |
//! | `websocket.rs` | a WebSocket: each message with a prompt is treated like a request |
//! | `unread_bytes.rs` | the bytes that one side of a WebSocket has not read yet |
//! | `mode.rs` | the mode in which a request is treated |
//! | `llm_call.rs` | scoring, logging and enforcing one LLM call |
//! | `request_body.rs` | the body: read up to a limit, then streamed |
//! | `body_chunk.rs` | the chunks in which the platform delivers a body |
//! | `body_memory.rs` | the memory of an isolate that bodies may take |
//! | `upload_pace.rs` | decides whether to wait for a slow upload |
//! | `upload_gate.rs` | holds back the end of a large body until it is scored |
//! | `shadow.rs` | compares the decision with that of a shadow ruleset |
//! | `edit_body.rs` | the body of a request that is to be degraded |
//! | `tag.rs` | headers that show the decision to the origin |
//! | `keep_alive.rs` | keeps an invocation alive until its memory is freed |
//! | `header_list.rs` | calls on the platform's lists of headers |
//! | `origin_headers.rs` | headers that Hedgerow sets on every request to the origin |
//! | `upstream.rs` | forwarding to the origin |
//! | `response.rs` | Hedgerow's own responses, such as errors |
//! | `cors.rs` | headers that let web pages read Hedgerow's own responses |
//! | `service_worker.rs` | service workers of pages that share their host with the console |

pub mod body_chunk;
pub mod body_memory;
pub mod classify;
pub mod client_request;
pub mod cors;
pub mod edit_body;
pub mod filter;
pub mod header_list;
pub mod keep_alive;
pub mod llm_call;
pub mod mode;
pub mod origin_headers;
pub mod request_body;
pub mod response;
pub mod sender;
pub mod service_worker;
pub mod shadow;
pub mod tag;
pub mod unread_bytes;
pub mod upload_gate;
pub mod upload_pace;
pub mod upstream;
pub mod websocket;
