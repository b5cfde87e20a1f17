//! Keyed hashes: HMAC-SHA256 under the deployment's secrets.

use std::cell::RefCell;

use hedgerow::hash::HashKey;
use hmac::{Hmac, Mac};
use sha2::Sha256;

type Keyed = Hmac<Sha256>;

thread_local! {
    // Keying costs two compressions of SHA-256, as much as a short message; the isolate's secrets
    // do not change.
    static KEYED: RefCell<Vec<(String, Keyed)>> = const { RefCell::new(Vec::new()) };
    static COUNTED: RefCell<Option<(String, HashKey)>> = const { RefCell::new(None) };
}

/// HMAC-SHA256 of `message`, in hex, cut to `bytes` bytes of the hash.
pub fn hex(secret: &str, message: &[u8], bytes: usize) -> Option<String> {
    let mut mac = keyed(secret)?;
    mac.update(message);
    let hash = mac.finalize().into_bytes();
    Some(hash.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect())
}

/// A key of its own for a purpose. No credential has a zero byte, so that nobody can have it made.
pub fn derived(secret: &str, purpose: &str) -> Option<String> {
    hex(secret, format!("key\0{purpose}").as_bytes(), 32)
}

/// Whether `mac` is the whole HMAC of a message. Compared to its end: time tells nothing.
pub fn verifies(secret: &str, message: &[u8], mac: &str) -> bool {
    let Some(own) = hex(secret, message, 32) else { return false };
    let differs = own.bytes().zip(mac.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    own.len() == mac.len() && differs == 0
}

/// The key of what correlation counts.
pub fn hash_key(secret: &str) -> HashKey {
    COUNTED.with_borrow_mut(|known| match known {
        Some((own, key)) if own == secret => *key,
        _ => known.insert((secret.to_owned(), HashKey::derive(secret.as_bytes()))).1,
    })
}

fn keyed(secret: &str) -> Option<Keyed> {
    KEYED.with_borrow_mut(|known| {
        if let Some((_, keyed)) = known.iter().find(|(own, _)| own == secret) {
            return Some(keyed.clone());
        }
        let keyed = Keyed::new_from_slice(secret.as_bytes()).ok()?;
        known.truncate(SECRETS);
        known.push((secret.to_owned(), keyed.clone()));
        Some(keyed)
    })
}

/// Keyed states that are kept beside a new one: of ACCOUNT_SECRET, of TAG_SECRET, and of derived keys.
const SECRETS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        // RFC 4231, test case 2.
        let hash = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex("Jefe", b"what do ya want for nothing?", 32).as_deref(), Some(hash));
        assert_eq!(hex("Jefe", b"what do ya want for nothing?", 16).as_deref(), hash.get(..32));
        assert!(verifies("Jefe", b"what do ya want for nothing?", hash));
        for wrong in ["", &hash[..32], &hash.replace('5', "6"), &format!("{hash}0")] {
            assert!(!verifies("Jefe", b"what do ya want for nothing?", wrong));
        }
        for secret in ["a", "b", "c", "d", "a"] {
            assert_eq!(hex(secret, b"", 32), hex(secret, b"", 32));
        }
    }
}
