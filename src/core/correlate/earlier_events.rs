//! The history of an account that was the only account of its group until now.

/// The earlier events of the only account of a key, for one aggregation.
#[derive(Clone, Copy, Debug)]
pub struct EarlierEvents {
    /// Time since which the account has the key, in seconds since the epoch.
    pub first_seen: u32,
    /// Number of events, the latest included.
    pub event_count: u16,
}
