//! Panics: they are caught around hostile input, and logged without their message.
//!
//! In a build with `--panic-unwind` a panic fails only the work that [`catch_panic`] runs. In any
//! other build it fails all requests of the isolate that are in flight.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::pin::Pin;
use std::sync::Once;

use crate::platform::log;

/// Runs code that reads hostile input. Returns `None` if it panicked. In a build without
/// `--panic-unwind` a panic cannot be caught: it restarts the isolate's module.
// Not inlined: LLVM 22 crashes on some Wasm functions in which one catch follows another.
#[inline(never)]
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Unwind safety: the closure's borrows are read only, or dropped with it.
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Boxes a future, so that its code is a function of its own. LLVM 22 emits invalid Wasm for a
/// function in which one catch follows another.
pub fn box_future<'a, T>(
    future: impl Future<Output = T> + 'a,
) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(future)
}

/// Replaces the panic hooks that print the panic's message, which may quote a request. Call it in
/// every event handler: `worker`'s start function, which installs a hook, has run by then.
pub fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        set_hook(Box::new(|info| {
            let location = info.location().map_or_else(String::new, |location| {
                format!("{}:{}", location.file(), location.line())
            });
            log::panicked(&location);
            #[cfg(not(panic = "unwind"))]
            restart_module();
        }));
    });
}

/// Asks worker-build's shim to restart the module with the next request, as the hook that
/// [`install_hook`] replaces would have. Without unwinding a panic leaves Wasm's memory as it is.
#[cfg(not(panic = "unwind"))]
fn restart_module() {
    use wasm_bindgen::JsValue;

    let state = js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("__worker_init_state"));
    if let Ok(state) = state {
        let _ = js_sys::Reflect::set(&state, &JsValue::from_str("criticalError"), &JsValue::TRUE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_caught() {
        assert_eq!(catch_panic(|| 1), Some(1));
        assert_eq!(catch_panic(|| -> u8 { panic!("injected") }), None);
    }
}
