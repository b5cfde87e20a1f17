//! Panics. They are caught around code that reads hostile input, and are logged without their
//! message.
//!
//! In a build with `--panic-unwind`, a panic fails only the work that [`catch_panic`] runs. In any
//! other build, a panic fails all requests that the isolate is handling.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::pin::Pin;
use std::sync::Once;

use crate::platform::log;

/// Runs code that reads hostile input. Returns `None` if it panicked. In a build without
/// `--panic-unwind` a panic cannot be caught: it restarts the isolate's module.
// Not inlined: LLVM 22 crashes on some Wasm functions in which one catch follows another.
#[inline(never)]
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Unwind safety: the data that the closure borrows is only read, or dropped with the closure.
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Boxes a future, so that its code becomes a separate function. LLVM 22 emits invalid Wasm for a
/// function in which one catch follows another.
pub fn box_future<'a, T>(
    future: impl Future<Output = T> + 'a,
) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(future)
}

/// Replaces the installed panic hook, which prints the panic's message: the message may quote a
/// request. Call this in every event handler, because `worker`'s start function has installed its
/// own hook by then.
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

/// Asks worker-build's shim to restart the module with the next request. The hook that
/// [`install_hook`] replaces would have done this. Without unwinding, a panic leaves Wasm's memory
/// in an inconsistent state.
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
