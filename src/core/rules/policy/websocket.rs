//! WebSockets on LLM paths: whether their messages are scored.

use serde::{Deserialize, Serialize};

/// The treatment of WebSockets on LLM paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebSocketPolicy {
    /// Score each message of the client that carries a prompt, like a request.
    #[default]
    Score,
    /// Answer the handshake with 426. Clients then use HTTP instead.
    Refuse,
    /// Forward all messages unread, and count the connection as not scored.
    Pass,
}

impl WebSocketPolicy {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
