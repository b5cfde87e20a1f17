//! SQLite of Durable Objects: what `worker` leaves open.

use hedgerow_core::ruleset::MAX_SAFE_INTEGER;
use worker::SqlStorageValue;

/// SQLite's integers are signed, and JavaScript has no more than 53 bits of them; no number of ours
/// needs more.
pub fn integer(number: u64) -> SqlStorageValue {
    SqlStorageValue::Integer(number.min(MAX_SAFE_INTEGER) as i64)
}
