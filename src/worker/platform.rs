//! The platform: storage, time, keyed hashes, settings and the log.

pub mod clock;
pub mod hmac_sha256;
pub mod kv;
pub mod log;
pub mod settings;
pub mod sql;
