//! The history of an account that was alone in its group until now.

/// The events that the only account of a key had, for one aggregation.
#[derive(Clone, Copy, Debug)]
pub struct SoloHistory {
    /// Time since which the account has the key, in seconds since the epoch.
    pub first_seen: u32,
    /// Number of events, the latest included.
    pub event_count: u16,
}
