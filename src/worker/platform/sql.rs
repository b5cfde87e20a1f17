//! Values for the SQLite database of a Durable Object.

use hedgerow_core::ruleset::MAX_SAFE_INTEGER;
use worker::SqlStorageValue;

/// Converts a number to an SQL integer. Numbers above 2⁵³ − 1 are clamped, because JavaScript,
/// which passes the value on, cannot represent them exactly. Hedgerow stores no larger numbers.
pub fn integer(number: u64) -> SqlStorageValue {
    SqlStorageValue::Integer(number.min(MAX_SAFE_INTEGER) as i64)
}
