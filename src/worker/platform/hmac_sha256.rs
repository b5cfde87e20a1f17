//! Keyed hashes: HMAC-SHA256 under the deployment's secrets.

use std::cell::RefCell;

use hedgerow_core::keyed_hash::HashKey;
use hmac::{Hmac, Mac};
use js_sys::futures::JsFuture;
use js_sys::{Array, Object, Promise, Uint8Array};
use sha2::Sha256;
use wasm_bindgen::prelude::*;

type HmacState = Hmac<Sha256>;

thread_local! {
    // Keying costs two compressions of SHA-256, as much as a short message; the isolate's secrets
    // do not change.
    static HMAC_STATES: RefCell<Vec<(String, HmacState)>> = const { RefCell::new(Vec::new()) };
    static HASH_KEY: RefCell<Option<(String, HashKey)>> = const { RefCell::new(None) };
}

/// HMAC-SHA256 of `message`, in hex, cut to `bytes` bytes of the hash.
pub fn hmac_hex(secret: &str, message: &[u8], length: usize) -> Option<String> {
    let mut mac = hmac_state(secret)?;
    mac.update(message);
    let hash = mac.finalize().into_bytes();
    Some(hash.iter().take(length).map(|byte| format!("{byte:02x}")).collect())
}

/// Whether two texts are the same, in a time that depends on their lengths only.
pub fn constant_time_eq(left: &str, right: &str) -> bool {
    let difference = left.bytes().zip(right.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    left.len() == right.len() && difference == 0
}

/// A key of its own for a purpose. No credential has a zero byte, so that nobody can have it made.
pub fn derive_key(secret: &str, purpose: &str) -> Option<String> {
    hmac_hex(secret, format!("key\0{purpose}").as_bytes(), 32)
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = importKey, catch)]
    fn import_key(
        format: &str,
        key: &Uint8Array,
        algorithm: &Object,
        extractable: bool,
        usages: &Array,
    ) -> Result<Promise, JsValue>;
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = verify, catch)]
    fn verify(
        algorithm: &str,
        key: &JsValue,
        signature: &Uint8Array,
        data: &Uint8Array,
    ) -> Result<Promise, JsValue>;
}

/// Whether `mac` is the whole HMAC of a message, by the platform's own code: a megabyte takes it a tenth of
/// the time, and in an isolate that has just begun, whose Wasm is not yet compiled well, a thirtieth.
pub async fn verify_webcrypto(secret: &str, message: &[u8], mac: &str) -> Result<bool, JsValue> {
    let Some(mac) = decode_mac(mac) else { return Ok(false) };
    let entry = |name: &str, value: &str| Array::of2(&name.into(), &value.into());
    let algorithm = Array::of2(&entry("name", "HMAC"), &entry("hash", "SHA-256"));
    let algorithm = Object::from_entries(&algorithm)?;
    let key = Uint8Array::from(secret.as_bytes());
    let key = import_key("raw", &key, &algorithm, false, &Array::of1(&"verify".into()))?;
    let key = JsFuture::from(key).await?;
    let message = Uint8Array::from(message);
    let verified = verify("HMAC", &key, &Uint8Array::from(mac.as_slice()), &message)?;
    Ok(JsFuture::from(verified).await?.is_truthy())
}

/// The bytes of a whole MAC in hex.
fn decode_mac(hex: &str) -> Option<Vec<u8>> {
    let is_valid = hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    let pairs =
        (0..hex.len()).step_by(2).map_while(|start| hex.get(start..start.saturating_add(2)));
    let bytes = pairs.map_while(|pair| u8::from_str_radix(pair, 16).ok());
    is_valid.then(|| bytes.collect())
}

/// The key of what correlation counts.
pub fn hash_key(secret: &str) -> HashKey {
    HASH_KEY.with_borrow_mut(|cached| match cached {
        Some((cached_secret, key)) if cached_secret == secret => *key,
        _ => cached.insert((secret.to_owned(), HashKey::derive(secret.as_bytes()))).1,
    })
}

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

/// Keyed states that are kept beside a new one: of ACCOUNT_SECRET, of TAG_SECRET, and of derived keys.
const MAX_RETAINED_STATES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_matches_rfc_4231_and_invalid_hex_is_rejected() {
        // RFC 4231, test case 2.
        let hash = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hmac_hex("Jefe", b"what do ya want for nothing?", 32).as_deref(), Some(hash));
        assert_eq!(
            hmac_hex("Jefe", b"what do ya want for nothing?", 16).as_deref(),
            hash.get(..32)
        );
        assert_eq!(decode_mac(hash).map(|bytes| bytes[..2].to_vec()), Some(vec![0x5b, 0xdc]));
        for invalid in ["", &hash[..62], &hash.replace('5', "g"), &hash.replace("5b", "é")] {
            assert_eq!(decode_mac(invalid), None);
        }
        for secret in ["a", "b", "c", "d", "a"] {
            assert_eq!(hmac_hex(secret, b"", 32), hmac_hex(secret, b"", 32));
        }
    }
}
