//! The rules that the Worker was built with.
//!
//! The first request compiles them. Compiling at start-up would count against the platform's limit
//! for module start, which another project sometimes exceeded (cloudflare/workers-sdk#11140).

use std::rc::Rc;

use hedgerow_core::Ruleset;
use hedgerow_core::ruleset::content_digest;
use once_cell::unsync::OnceCell;

use crate::platform::panic::catch_panic;

/// The bundle that build.rs selects.
static BUNDLE: &[u8] = include_bytes!(env!("EMBEDDED_BUNDLE"));

thread_local! {
    static CONTENT: OnceCell<String> = const { OnceCell::new() };
    // Not a `RefCell`: if the platform ended the invocation that compiles, a `RefCell` would stay
    // borrowed.
    static RULESET: OnceCell<Rc<Ruleset>> = const { OnceCell::new() };
}

/// Returns the embedded bundle, as JSON.
pub fn bundle() -> &'static [u8] {
    BUNDLE
}

/// Returns the content digest of the embedded bundle, computed once per isolate.
pub fn content() -> String {
    CONTENT.with(|cell| cell.get_or_init(|| content_digest(BUNDLE)).clone())
}

/// Returns the embedded ruleset, compiled once per isolate. The error says why it does not load,
/// and is not cached.
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

    /// Guards against a mistake of another filter, which compiled its matchers for every request
    /// and needed milliseconds each time (arcjet-js#6063).
    #[test]
    fn the_ruleset_is_compiled_once() {
        let (first, second) = (ruleset().unwrap(), ruleset().unwrap());
        assert!(Rc::ptr_eq(&first, &second));
    }
}
