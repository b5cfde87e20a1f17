//! An HTTP request as the host received it, and what the edge knows of its client.

use crate::correlate::indicator::Indicators;
use crate::keyed_hash::HashKey;

/// An HTTP request as the host received it: what goes around one or more requests.
#[derive(Clone, Debug, Default)]
pub struct Envelope<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Path of the URL, without the query.
    pub path: &'a str,
    /// Names in lower case, values as text, in the order in which they came.
    pub headers: &'a [(String, String)],
    /// The body's first bytes, up to the scan window, as they came.
    pub body: &'a [u8],
    /// Bytes of the whole body, as far as known.
    pub body_size: Option<u64>,
    /// Bytes behind the scan window: at least one where its size is not known.
    pub unscanned_bytes: u64,
    /// What the edge knows of the client.
    pub client: Client<'a>,
    /// Keyed hash of the credential, where there is one.
    pub account: Option<&'a str>,
    /// Seconds since the epoch.
    pub now: u64,
    /// What values are hashed with, where they are counted.
    pub hash_key: HashKey,
    /// Keys that have become suspicious, where they are known.
    pub indicators: Option<&'a Indicators>,
}

/// What the edge knows of the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client<'a> {
    /// The client's address.
    pub address: Option<&'a str>,
    /// Autonomous system.
    pub as_number: Option<u32>,
    /// The system's holder.
    pub as_organization: Option<&'a str>,
    /// ISO country code.
    pub country: Option<&'a str>,
    /// HTTP version.
    pub http_version: Option<&'a str>,
    /// TLS version.
    pub tls_version: Option<&'a str>,
    /// Hash over the TLS client hello.
    pub tls_fingerprint: Option<&'a str>,
}
