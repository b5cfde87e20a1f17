//! The rules that the Worker was built with.
//!
//! They are compiled by the first request. At start-up compiling would count against the
//! platform's limit for module start, which another project exceeded now and then
//! (cloudflare/workers-sdk#11140).

use std::rc::Rc;

use hedgerow_core::Ruleset;
use once_cell::unsync::OnceCell;

use crate::platform::panic::catch_panic;

/// The bundle that build.rs selects.
static BUNDLE: &[u8] = include_bytes!(env!("EMBEDDED_BUNDLE"));

thread_local! {
    // Not a `RefCell`: it would stay borrowed if the platform ended the invocation that compiles.
    static RULESET: OnceCell<Rc<Ruleset>> = const { OnceCell::new() };
}

/// Returns the embedded bundle, as JSON.
pub fn bundle() -> &'static [u8] {
    BUNDLE
}

/// Returns the embedded ruleset, compiled once per isolate. An error says why it does not load; it
/// is not cached.
pub fn ruleset() -> Result<Rc<Ruleset>, String> {
    RULESET.with(|cell| cell.get_or_try_init(compile).cloned())
}

fn compile() -> Result<Rc<Ruleset>, String> {
    let loaded = catch_panic(|| Ruleset::load(BUNDLE)).ok_or("loading panicked")?;
    loaded.map(Rc::new).map_err(|error| error.problem().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other filters compiled their matchers for every request, at milliseconds each
    /// (arcjet-js#6063).
    #[test]
    fn the_ruleset_is_compiled_once() {
        let (first, second) = (ruleset().unwrap(), ruleset().unwrap());
        assert!(Rc::ptr_eq(&first, &second));
    }
}
