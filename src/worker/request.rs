//! The life of one request, from its head to the origin's response.

pub mod classify;
pub mod client_request;
pub mod edit_body;
pub mod filter;
pub mod llm_call;
pub mod request_body;
pub mod response;
pub mod shadow;
pub mod tag;
pub mod upstream;
