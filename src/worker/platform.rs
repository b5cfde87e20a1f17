//! The platform: storage, time, keyed hashes, settings, leases, panics and the log.

pub mod clock;
pub mod hmac_sha256;
pub mod kv;
pub mod lease;
pub mod log;
pub mod panic;
pub mod settings;
pub mod sql;
