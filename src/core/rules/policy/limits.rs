//! Limits of what is read and scored of a request.

use serde::{Deserialize, Serialize};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a body that are scored; the rest streams on unread.
    #[serde(rename = "window")]
    pub scan_window: usize,
    /// Bytes that a compressed body may grow to for scoring.
    pub max_decompressed: usize,
    /// Entries of an upload that are scored.
    pub max_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 2 MiB hold a context of about half a million tokens; Wasm memory holds a few of them.
        Self { scan_window: 2 << 20, max_decompressed: 4 << 20, max_entries: 10_000 }
    }
}
