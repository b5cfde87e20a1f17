//! Compiles the regexes of a ruleset in steps, so that requests are served in between.

use std::time::Duration;

use hedgerow_core::{Error, Ruleset};
use worker::Delay;

use crate::platform::panic::catch_panic;

/// Regexes per step, which take about two milliseconds.
const REGEXES_PER_STEP: usize = 4;

/// Compiles all regexes. Between two steps the isolate serves other requests.
///
/// # Errors
/// If a regex does not compile, or if compiling panics. The function returns at the first error.
pub async fn compile_stepwise(ruleset: &Ruleset) -> Result<(), Error> {
    let mut results = ruleset.compile_regexes_stepwise().fuse();
    loop {
        let step = catch_panic(|| results.by_ref().take(REGEXES_PER_STEP).collect::<Vec<_>>());
        let step =
            step.ok_or_else(|| Error::new("compiling a regex panicked", "report this bundle"))?;
        if step.is_empty() {
            return Ok(());
        }
        step.into_iter().collect::<Result<(), _>>()?;
        Delay::from(Duration::ZERO).await;
    }
}
