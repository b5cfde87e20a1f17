//! Limits of event times: how late or how far ahead an event may be, and whether it is within a
//! window.

/// Seconds by which the clock of an event may be ahead of the current time.
const MAX_CLOCK_AHEAD: u32 = 60;

/// Seconds by which an event may arrive late and still find its group.
pub const ALLOWED_LATENESS: u32 = 60;

/// Returns whether a time is so far ahead of the current time that it must be wrong, for example
/// because a clock jumped. Groups and keys with a wrong time are treated as expired. Otherwise,
/// they would be kept until that time.
pub fn is_from_future(at: u32, now: u32) -> bool {
    at > now.saturating_add(MAX_CLOCK_AHEAD)
}

/// Returns the time of an event, or the current time if the event's time is too far ahead.
pub fn plausible_time(at: u32, now: u32) -> u32 {
    if is_from_future(at, now) { now } else { at }
}

/// Returns whether a time is within the window of `window` seconds that ends with the newest event.
pub fn is_within(at: u32, newest: u32, window: u32) -> bool {
    newest.saturating_sub(at) < window
}
