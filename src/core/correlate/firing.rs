//! The firing: a report that a correlation holds for a group.

/// The sender of the request at which a correlation held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Hash of the account; 0 if the request has none.
    pub account: u64,
    /// Hash of the tenant; 0 if it is unknown.
    pub tenant: u64,
    /// Hash of the network of the client's address; 0 if it is unknown.
    pub network: u64,
}

/// A report that a correlation holds for a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// Index of the correlation in [`Plan::correlations`](super::Plan::correlations).
    pub correlation: usize,
    /// Key of the indicator: the hash over `values`.
    pub key: u64,
    /// Values of the group, one hash per field that the correlation groups by. If the indicators of
    /// the correlation are for accounts, only the hash of the account.
    pub values: Vec<u64>,
    /// Time of the event that made the correlation hold, in seconds since the epoch.
    pub at: u32,
    /// Measured number, which meets the thresholds of the correlation.
    pub value: f64,
    /// Hashes of accounts in the group. If the correlation counts accounts: all accounts of a small
    /// group, or a sample of a large group. If its indicators are for accounts: the account of the
    /// event, and at most eight others. For other correlations: only the account of the event, if
    /// there is one.
    pub accounts: Vec<u64>,
    /// Sender of the request at which the correlation held.
    pub cause: Cause,
    /// Whether this firing repeats an earlier firing whose indicator has not expired.
    pub is_repeated: bool,
}
