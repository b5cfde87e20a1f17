//! Keyed hashes: HMAC-SHA256 under the deployment's secrets.

use std::cell::RefCell;

use hedgerow::hash::HashKey;
use hmac::{Hmac, Mac};
use js_sys::futures::JsFuture;
use js_sys::{Array, Object, Promise, Uint8Array};
use sha2::Sha256;
use wasm_bindgen::prelude::*;

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

/// Whether two texts are the same, in a time that depends on their lengths only.
pub fn is_same(one: &str, other: &str) -> bool {
    let differs = one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && differs == 0
}

/// A key of its own for a purpose. No credential has a zero byte, so that nobody can have it made.
pub fn derived(secret: &str, purpose: &str) -> Option<String> {
    hex(secret, format!("key\0{purpose}").as_bytes(), 32)
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
pub async fn verifies_much(secret: &str, message: &[u8], mac: &str) -> Result<bool, JsValue> {
    let Some(mac) = bytes(mac) else { return Ok(false) };
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
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let is_whole = hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    let pairs = (0..hex.len()).step_by(2).map_while(|at| hex.get(at..at.saturating_add(2)));
    let bytes = pairs.map_while(|pair| u8::from_str_radix(pair, 16).ok());
    is_whole.then(|| bytes.collect())
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
        assert_eq!(bytes(hash).map(|bytes| bytes[..2].to_vec()), Some(vec![0x5b, 0xdc]));
        for wrong in ["", &hash[..62], &hash.replace('5', "g"), &hash.replace("5b", "é")] {
            assert_eq!(bytes(wrong), None);
        }
        for secret in ["a", "b", "c", "d", "a"] {
            assert_eq!(hex(secret, b"", 32), hex(secret, b"", 32));
        }
    }
}
