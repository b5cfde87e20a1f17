//! Keyed hashes: HMAC-SHA256 under the deployment's secrets.

use std::cell::RefCell;

use hedgerow_core::hash_purpose::HashPurpose;
use hedgerow_core::keyed_hash::HashKey;
use hmac::{Hmac, Mac};
use js_sys::Uint8Array;
use sha2::Sha256;
use wasm_bindgen::JsValue;

use crate::platform::web_crypto;

type HmacState = Hmac<Sha256>;

/// Bytes of an HMAC-SHA256.
const MAC_BYTES: usize = 32;

/// Number of keyed states that are kept when a new one is added. They are enough for
/// ACCOUNT_SECRET, two values of TAG_SECRET and a derived key.
const MAX_RETAINED_STATES: usize = 4;

thread_local! {
    /// Keyed states by secret. They are cached because the setup for a key takes two SHA-256
    /// compressions, as long as hashing a short message, and the secrets of an isolate do not
    /// change.
    static HMAC_STATES: RefCell<Vec<(String, HmacState)>> = const { RefCell::new(Vec::new()) };
    /// The key of the hashes that correlations count, with the secret from which it is derived.
    static HASH_KEY: RefCell<Option<(String, HashKey)>> = const { RefCell::new(None) };
}

/// Returns the first `length` bytes of an HMAC-SHA256, as lower-case hex. The input is the prefix
/// of the purpose and then `message`, so that no MAC of one purpose is valid for another. Returns
/// `None` if `length` is above 32.
pub fn hmac_hex(
    secret: &str,
    purpose: HashPurpose,
    message: &[u8],
    length: usize,
) -> Option<String> {
    hmac_parts(secret, &[purpose.prefix(), message], length)
}

/// Returns the HMAC-SHA256 of `message` as lower-case hex, without the prefix of a purpose. `key`
/// must have only one purpose, as TAG_SECRET and derived keys have.
pub fn hmac_hex_of_single_purpose_key(key: &str, message: &[u8]) -> Option<String> {
    hmac_parts(key, &[message], MAC_BYTES)
}

/// Derives the key of a purpose from a secret, as 64 hex digits. Never returns `None`, because HMAC
/// accepts secrets of any length.
pub fn derive_key(secret: &str, purpose: HashPurpose) -> Option<String> {
    hmac_hex(secret, purpose, b"", MAC_BYTES)
}

fn hmac_parts(key: &str, parts: &[&[u8]], length: usize) -> Option<String> {
    let mut mac = hmac_state(key)?;
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().get(..length).map(hex::encode)
}

/// Returns whether `mac` is the untruncated HMAC of `message` in hex. Returns false if `mac` is
/// malformed.
///
/// Uses WebCrypto, because Wasm is slower: for a megabyte, WebCrypto takes a tenth of the time, and
/// in a new isolate, whose Wasm is not optimised yet, a thirtieth.
///
/// # Errors
/// If WebCrypto fails.
pub async fn verify_webcrypto(secret: &str, message: &[u8], mac: &str) -> Result<bool, JsValue> {
    let Some(mac) = decode_mac(mac) else { return Ok(false) };
    let key = Uint8Array::from(secret.as_bytes());
    let key = web_crypto::import_key("raw", &key, "HMAC").await?;
    web_crypto::verify("HMAC", &key, &mac, message).await
}

/// Decodes an untruncated MAC from hex; `None` if the text is not 64 hex digits.
fn decode_mac(text: &str) -> Option<[u8; MAC_BYTES]> {
    let mut mac = [0; MAC_BYTES];
    hex::decode_to_slice(text, &mut mac).ok()?;
    Some(mac)
}

/// Derives the key of the hashes that correlations count from `secret`, which is ACCOUNT_SECRET.
pub fn hash_key(secret: &str) -> HashKey {
    HASH_KEY.with_borrow_mut(|cached| match cached {
        Some((cached_secret, key)) if cached_secret == secret => *key,
        _ => cached.insert((secret.to_owned(), HashKey::derive(secret.as_bytes()))).1,
    })
}

/// Returns a copy of the HMAC state for `secret`. The state itself is kept for later calls.
fn hmac_state(secret: &str) -> Option<HmacState> {
    HMAC_STATES.with_borrow_mut(|states| {
        if let Some((_, state)) = states.iter().find(|(cached_secret, _)| cached_secret == secret) {
            return Some(state.clone());
        }
        let state = HmacState::new_from_slice(secret.as_bytes()).ok()?;
        states.truncate(MAX_RETAINED_STATES);
        states.push((secret.to_owned(), state.clone()));
        Some(state)
    })
}

#[cfg(test)]
mod tests {
    use hedgerow_core::identity::kind::AccountKind;

    use super::*;

    #[test]
    fn hmac_matches_rfc_4231_and_invalid_hex_is_rejected() {
        // RFC 4231, test case 2.
        let hash = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let message = b"what do ya want for nothing?";
        assert_eq!(hmac_hex_of_single_purpose_key("Jefe", message).as_deref(), Some(hash));
        assert_eq!(hmac_parts("Jefe", &[message], 16).as_deref(), hash.get(..32));
        let parts = [message.get(..4).unwrap(), message.get(4..).unwrap()];
        assert_eq!(hmac_parts("Jefe", &parts, 32).as_deref(), Some(hash));
        assert_eq!(decode_mac(hash).map(|bytes| bytes[..2].to_vec()), Some(vec![0x5b, 0xdc]));
        for invalid in ["", &hash[..62], &hash.replace('5', "g"), &hash.replace("5b", "é")] {
            assert_eq!(decode_mac(invalid), None);
        }
    }

    #[test]
    fn cached_states_do_not_mix_up_secrets() {
        let macs = |secrets: [&str; 7]| secrets.map(|secret| hmac_parts(secret, &[], 32));
        let [a, .., again] = macs(["a", "b", "c", "d", "e", "f", "a"]);
        assert_eq!(a, again);
        assert_ne!(a, hmac_parts("b", &[], 32));
    }

    /// An attacker could otherwise obtain the MAC of another purpose: the query parameter `key`,
    /// which is a credential, may contain zero bytes, and account ids are public.
    #[test]
    fn no_credential_has_the_hash_of_another_purpose() {
        let key = derive_key("secret", HashPurpose::IndicatorsKey).unwrap();
        for credential in ["key\0indicators.v1", "", "\0", "hedgerow.indicators-key.v1\0"] {
            let purpose = HashPurpose::Account(AccountKind::Key);
            let account = hmac_hex("secret", purpose, credential.as_bytes(), 16);
            assert!(!key.starts_with(&account.unwrap()), "{credential:?}");
        }
    }
}
