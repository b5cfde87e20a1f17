//! Keeps an invocation alive, so that its memory is freed.

use js_sys::{Promise, PromiseWithResolvers};
use wasm_bindgen::JsValue;
use worker::Context;

/// Keeps the invocation alive until the returned guard is dropped.
///
/// The platform stops an invocation when its client disconnects, without running destructors: its
/// memory in Wasm would leak. An invocation that is kept alive runs on, gets an error from the body
/// or, by the client's abort signal, from the origin, and frees its memory.
pub fn keep_alive(context: &Context) -> Option<KeepAlive> {
    let completion: PromiseWithResolvers = Promise::with_resolvers();
    context.as_ref().wait_until(&completion.promise()).ok()?;
    Some(KeepAlive(completion))
}

/// Guard: keeps the invocation alive (`waitUntil`) until dropped.
pub struct KeepAlive(PromiseWithResolvers);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        let _ = self.0.resolve().call0(&JsValue::UNDEFINED);
    }
}
