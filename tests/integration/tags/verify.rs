use std::collections::HashMap;

use hmac::{Hmac, Mac};
use sha2::Sha256;

const TAGS: [&str; 5] = [
    "x-hedgerow-band",
    "x-hedgerow-hits",
    "x-hedgerow-request-id",
    "x-hedgerow-ruleset",
    "x-hedgerow-score",
];
const MACS: [&str; 2] = ["x-hedgerow-mac", "x-hedgerow-mac-next"];
const MAX_AGE: u64 = 600; // seconds

/// Returns whether Hedgerow set the tags of a request. The names of `headers` are in lower case,
/// and `now` is in seconds since the epoch.
pub fn verify_tags(headers: &HashMap<String, String>, secrets: &[&str], now: i64) -> bool {
    let mut text = String::new();
    for name in TAGS {
        let Some(value) = headers.get(name) else { return false };
        text += &format!("{name}:{value}\n");
    }
    let is_recent = headers
        .get("x-hedgerow-request-id")
        .and_then(|id| time_of(id))
        .is_some_and(|time| now.abs_diff(time) <= MAX_AGE);
    is_recent && secrets.iter().any(|secret| has_mac(headers, secret, text.as_bytes()))
}

/// Returns the time in a request id, a UUID of version 7, in seconds since the epoch.
fn time_of(id: &str) -> Option<i64> {
    let bytes = id.as_bytes();
    if bytes.len() != 36 || bytes[8] != b'-' || bytes[13..15] != *b"-7" {
        return None;
    }
    let digits = [id.get(..8)?, id.get(9..13)?].concat();
    Some(i64::from_str_radix(&digits, 16).ok()? / 1000)
}

/// Returns whether one of the MACs is right. `verify_slice` compares in constant time.
fn has_mac(headers: &HashMap<String, String>, secret: &str, text: &[u8]) -> bool {
    MACS.iter().filter_map(|name| hex::decode(headers.get(*name)?).ok()).any(|given| {
        Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .is_ok_and(|mac| mac.chain_update(text).verify_slice(&given).is_ok())
    })
}
