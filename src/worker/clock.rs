//! Time, and the end of patience. The platform's clock stands still while code runs, and goes on with
//! I/O.

use std::time::Duration;

use futures_util::future::{Either, select};
use worker::Delay;

/// Seconds since the epoch.
pub fn seconds() -> u64 {
    (js_sys::Date::now() / 1_000.0) as u64
}

/// Milliseconds since the epoch.
pub fn millis() -> f64 {
    js_sys::Date::now()
}

/// What some work comes to, if it does in time.
pub async fn in_time<T>(work: impl Future<Output = T>, patience: Duration) -> Option<T> {
    let work = std::pin::pin!(work);
    match select(work, Delay::from(patience)).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(_) => None,
    }
}
