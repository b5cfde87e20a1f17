//! Limits of the part of a request that is read and scored.

use serde::{Deserialize, Serialize};

/// The limits for reading and scoring a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum bytes of normalised text of a request that are scored. Of a longer text, the
    /// beginning and the end are scored, half of the window each.
    #[serde(rename = "window")]
    pub scan_window: usize,
    /// Bytes at the start of a body that are read; the rest is forwarded unread.
    pub max_body: usize,
    /// Maximum bytes to which a compressed body is decompressed for scoring. Another limit is in
    /// proportion to the received bytes: [`max_inflated`](crate::http::body::max_inflated).
    pub max_decompressed: usize,
    /// Maximum number of batch entries that are scored.
    pub max_entries: usize,
    /// Maximum seconds for which Hedgerow waits for an upload.
    pub max_upload_time: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A context of about half a million tokens.
            scan_window: 2 << 20,
            // The same context with a few pictures. Wasm memory holds a few bodies of this size.
            max_body: 5 << 20,
            max_decompressed: 6 << 20,
            max_entries: 10_000,
            // An upload of 5 MB at 64 kB/s takes 80 seconds.
            max_upload_time: 300,
        }
    }
}
