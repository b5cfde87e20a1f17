//! The history of an account that was the only account of its group until now.

/// The earlier events of the only account of a key, for one aggregation.
#[derive(Clone, Copy, Debug)]
pub struct EarlierEvents {
    /// Time of the account's first event with the key, in seconds since the epoch; the time of its
    /// latest event if the account counts as new again after each gap between its events.
    pub first_seen: u32,
    /// Number of events, including the latest event.
    pub event_count: u16,
}
