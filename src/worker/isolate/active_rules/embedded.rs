//! The rules that the Worker was built with.
//!
//! The first request compiles them. Compiling at start-up would count against the platform's limit
//! for module start, which another project sometimes exceeded (cloudflare/workers-sdk#11140).

use std::borrow::Cow;
use std::io::Read;
use std::rc::Rc;

use brotli_decompressor::Decompressor;
use hedgerow_core::Ruleset;
use hedgerow_core::error::Error;
use hedgerow_core::ruleset::content_digest;
use once_cell::unsync::OnceCell;

use crate::platform::panic::catch_panic;

/// The bundle that build.rs selects. It is compressed for a deployment: an isolate reads it once at
/// most, and brotli saves 60 KiB of the gzipped Worker and 1.1 MiB of the Wasm module's data.
static BUNDLE: &[u8] = include_bytes!(env!("EMBEDDED_BUNDLE"));

/// Content encoding of [`BUNDLE`]: `br`, or empty for plain JSON.
const ENCODING: &str = env!("EMBEDDED_ENCODING");

thread_local! {
    static CONTENT: OnceCell<String> = const { OnceCell::new() };
    // Not a `RefCell`: if the platform ended the invocation that compiles, a `RefCell` would stay
    // borrowed.
    static RULESET: OnceCell<Rc<Ruleset>> = const { OnceCell::new() };
}

/// Returns the embedded bundle, as JSON. Fails if the build compressed it wrongly.
pub fn bundle() -> Result<Cow<'static, [u8]>, Error> {
    if ENCODING.is_empty() {
        return Ok(Cow::Borrowed(BUNDLE));
    }
    let mut json = Vec::new();
    let read = Decompressor::new(BUNDLE, 0).read_to_end(&mut json);
    read.map_err(|error| {
        Error::new(format!("the embedded bundle is not brotli: {error}"), "build the Worker again")
    })?;
    Ok(Cow::Owned(json))
}

/// Returns the content digest of the embedded bundle, computed once per isolate; empty if the build
/// compressed the bundle wrongly.
pub fn content() -> String {
    let compute = || bundle().map(|json| content_digest(&json)).unwrap_or_default();
    CONTENT.with(|cell| cell.get_or_init(compute).clone())
}

/// Returns the embedded ruleset, compiled once per isolate. The error says why it does not load,
/// and is not cached.
pub fn ruleset() -> Result<Rc<Ruleset>, String> {
    RULESET.with(|cell| cell.get_or_try_init(compile).cloned())
}

fn compile() -> Result<Rc<Ruleset>, String> {
    let loaded = catch_panic(|| Ruleset::load(&bundle()?)).ok_or("loading panicked")?;
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
