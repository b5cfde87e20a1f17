//! Signatures of JSON Web Tokens by RSA (RS256), verified by WebCrypto.

use js_sys::futures::JsFuture;
use js_sys::{Array, JSON, Object, Promise, Uint8Array};
use serde::Deserialize;
use serde_json::json;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = importKey, catch)]
    fn import_key(
        format: &str,
        key: &JsValue,
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

/// The name of the algorithm in WebCrypto.
const ALGORITHM: &str = "RSASSA-PKCS1-v1_5";

/// A public key with its id.
#[derive(Clone)]
pub struct PublicKey {
    /// Id of the key.
    pub id: String,
    /// The `CryptoKey`.
    key: JsValue,
}

/// A JSON Web Key for RSA (RFC 7517).
#[derive(Deserialize)]
pub struct JsonWebKey {
    kid: String,
    kty: String,
    n: String,
    e: String,
}

impl PublicKey {
    /// Imports a key; `None` if it is not a valid key for RSA.
    pub async fn import(key: JsonWebKey) -> Option<Self> {
        let JsonWebKey { kid, kty, n, e } = key;
        let text = json!({ "kty": kty, "n": n, "e": e, "alg": "RS256", "ext": true }).to_string();
        let jwk = JSON::parse(&text).ok()?;
        let entry = |name: &str, value: &str| Array::of2(&name.into(), &value.into());
        let algorithm = Array::of2(&entry("name", ALGORITHM), &entry("hash", "SHA-256"));
        let algorithm = Object::from_entries(&algorithm).ok()?;
        let usages = Array::of1(&"verify".into());
        let key = import_key("jwk", &jwk, &algorithm, false, &usages).ok()?;
        Some(Self { id: kid, key: JsFuture::from(key).await.ok()? })
    }

    /// Returns whether the key made a signature of a text. False if WebCrypto fails.
    pub async fn verifies(&self, signature: &[u8], text: &str) -> bool {
        let (signature, text) = (Uint8Array::from(signature), Uint8Array::from(text.as_bytes()));
        let Ok(verified) = verify(ALGORITHM, &self.key, &signature, &text) else { return false };
        JsFuture::from(verified).await.is_ok_and(|verified| verified.is_truthy())
    }
}
