//! Keeps an invocation alive, so that its memory is freed.

use js_sys::{Promise, PromiseWithResolvers};
use wasm_bindgen::JsValue;
use worker::Context;

/// Keeps the invocation alive until the returned guard is dropped. The platform drops an invocation
/// whose client is gone, and everything it holds would stay in Wasm's memory for good. An
/// invocation that is kept alive fails instead, at the body or, by the client's abort signal, at
/// the origin's response, and its memory is freed.
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
