//! `GET /live/ticket`: tickets for the WebSocket that notifies the console of new data.

use serde::{Deserialize, Serialize};

/// The response of `GET /live/ticket`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct LiveTicket {
    /// Ticket that the client sends in `Sec-WebSocket-Protocol` instead of a token.
    pub ticket: String,
    /// Time after which the ticket is invalid.
    pub expires: u64,
}
