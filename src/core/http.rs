//! The HTTP request around an LLM call: envelope, route and body.

pub mod body;
mod compression;
pub mod endpoint;
pub mod envelope;
mod head_and_tail;
pub mod language;
pub mod path_shape;
pub mod route;
pub mod routes;
pub mod unknown_parts;
pub mod upload_memory;
pub mod websocket;
