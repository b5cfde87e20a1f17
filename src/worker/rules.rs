//! The isolate's ruleset: embedded at build time, compiled once, shared by all requests.
//!
//! Compiling waits for the first request: at start-up it would count against the platform's limit
//! for module start, and a peer's users saw that fail now and then (cloudflare/workers-sdk#11140).

use hedgerow::Ruleset;
use once_cell::sync::OnceCell;

use crate::error::caught;

/// What build.rs made of `rules/`.
static BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bundle.json"));

static RULESET: OnceCell<Ruleset> = OnceCell::new();

/// The ruleset; what is wrong with it if it does not load. A failure is not kept: the next request
/// tries again.
pub fn ruleset() -> Result<&'static Ruleset, String> {
    RULESET.get_or_try_init(|| {
        let loaded = caught(|| Ruleset::load(BUNDLE)).ok_or("it panicked")?;
        loaded.map_err(|error| error.problem().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers rebuilt their matchers with every request, at milliseconds each (arcjet-js#6063).
    #[test]
    fn the_ruleset_is_compiled_once() {
        let (first, second) = (ruleset(), ruleset());
        assert!(matches!((first, second), (Ok(first), Ok(second)) if std::ptr::eq(first, second)));
    }
}
