//! Time and timeouts. The platform's clock advances only at I/O, not while code runs.

use std::time::Duration;

use futures_util::future::{Either, select};
use worker::Delay;

/// Returns the time in seconds since the epoch.
pub fn now_seconds() -> u64 {
    (js_sys::Date::now() / 1_000.0) as u64
}

/// Returns the time in milliseconds since the epoch.
pub fn now_ms() -> f64 {
    js_sys::Date::now()
}

/// Awaits `future` for at most `timeout`. Returns `None` if the future takes longer. Then the
/// future is dropped, but a platform call that it has started continues.
pub async fn with_timeout<T>(future: impl Future<Output = T>, timeout: Duration) -> Option<T> {
    let future = std::pin::pin!(future);
    match select(future, Delay::from(timeout)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}
