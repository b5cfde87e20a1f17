//! Limits of the part of a request that is read and scored.

use serde::{Deserialize, Serialize};

/// The limits of what is read of a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes at the start of a body that are scored; the rest is forwarded unread.
    #[serde(rename = "window")]
    pub scan_window: usize,
    /// Maximum bytes to which a compressed body is decompressed for scoring. Another limit is in
    /// proportion to the received bytes: [`max_inflated`](crate::http::body::max_inflated).
    pub max_decompressed: usize,
    /// Maximum number of batch entries that are scored.
    pub max_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 2 MiB hold a context of about half a million tokens; Wasm memory holds a few of them.
        Self { scan_window: 2 << 20, max_decompressed: 4 << 20, max_entries: 10_000 }
    }
}
