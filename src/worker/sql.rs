//! SQLite of Durable Objects: what `worker` leaves open.

use worker::SqlStorageValue;

/// SQLite's integers are signed, and JavaScript has no more than 53 bits of them; no number of ours
/// needs more.
pub fn integer(number: u64) -> SqlStorageValue {
    SqlStorageValue::Integer(number.min(MAX) as i64)
}

const MAX: u64 = (1 << 53) - 1;
