//! The life of one request.

pub mod client_request;
pub mod filter;
pub mod request_body;
pub mod response;
pub mod shadow;
pub mod tag;
pub mod upstream;
