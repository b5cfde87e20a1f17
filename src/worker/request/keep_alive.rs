//! Keeps an invocation alive, so that its memory is freed.

use js_sys::{Promise, PromiseWithResolvers};
use wasm_bindgen::JsValue;
use worker::Context;

/// Keeps the invocation alive until the returned guard is dropped. Returns `None` if the platform
/// rejects that.
///
/// When a client disconnects, the platform stops the invocation without running destructors, so
/// that its memory in Wasm would leak. An invocation that is kept alive continues: reading the body
/// fails, or the client's abort signal makes the request to the origin fail. Then the invocation
/// frees its memory.
pub fn keep_alive(context: &Context) -> Option<KeepAlive> {
    let completion: PromiseWithResolvers = Promise::with_resolvers();
    context.as_ref().wait_until(&completion.promise()).ok()?;
    Some(KeepAlive(completion))
}

/// A guard that keeps the invocation alive, by `waitUntil`, until the guard is dropped.
pub struct KeepAlive(PromiseWithResolvers);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        let _ = self.0.resolve().call0(&JsValue::UNDEFINED);
    }
}
