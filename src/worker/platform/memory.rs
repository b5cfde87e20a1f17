//! The isolate's memory.

use wasm_bindgen::JsCast;

/// Returns the size of Wasm's memory in bytes. It never shrinks.
pub fn wasm_memory_bytes() -> u64 {
    let buffer = wasm_bindgen::memory().unchecked_into::<js_sys::WebAssembly::Memory>().buffer();
    buffer.unchecked_into::<js_sys::ArrayBuffer>().byte_length().into()
}
