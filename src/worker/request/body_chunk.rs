//! The chunks in which the platform delivers a body.

use js_sys::Uint8Array;
use js_sys::futures::JsFuture;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{ReadableStream, ReadableStreamByobReader, ReadableStreamReadResult};

/// The part of a body that has not been read.
pub struct Unread {
    pub stream: ReadableStream,
    pub reader: ReadableStreamByobReader,
    /// A read that was not complete when reading ended. It must complete before the reader is
    /// released.
    pub pending_read: Option<JsFuture>,
}

/// Error: the client's upload ended early, or the request was refused while the client was sending
/// its body.
#[derive(Debug)]
pub struct UploadAborted;

/// Returns the bytes of a read; `None` at the end of the stream.
pub fn chunk_from_result(result: JsValue) -> Option<Uint8Array> {
    let result: ReadableStreamReadResult = result.unchecked_into();
    if result.get_done().unwrap_or(false) {
        return None;
    }
    result.get_value().dyn_into().ok()
}

/// Maximum bytes per read. Most bodies need only one read.
pub const CHUNK_BYTES: u32 = 64 << 10;
