//! Time, and the end of patience. The platform's clock stands still while code runs, and goes on with
//! I/O.

use std::time::Duration;

use futures_util::future::{Either, select};
use worker::Delay;

/// Seconds since the epoch.
pub fn now_seconds() -> u64 {
    (js_sys::Date::now() / 1_000.0) as u64
}

/// Milliseconds since the epoch.
pub fn now_ms() -> f64 {
    js_sys::Date::now()
}

/// What some work comes to, if it does in time.
pub async fn with_timeout<T>(future: impl Future<Output = T>, timeout: Duration) -> Option<T> {
    let future = std::pin::pin!(future);
    match select(future, Delay::from(timeout)).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(_) => None,
    }
}
