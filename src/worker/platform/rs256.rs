//! Verification of RSA signatures (RS256) of JSON Web Tokens, by WebCrypto.

use js_sys::JSON;
use serde::Deserialize;
use serde_json::json;
use wasm_bindgen::JsValue;

use crate::platform::web_crypto;

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
    /// Imports a key; returns `None` if it is not a valid RSA key.
    pub async fn import(key: JsonWebKey) -> Option<Self> {
        let JsonWebKey { kid, kty, n, e } = key;
        let text = json!({ "kty": kty, "n": n, "e": e, "alg": "RS256", "ext": true }).to_string();
        let jwk = JSON::parse(&text).ok()?;
        let key = web_crypto::import_key("jwk", &jwk, ALGORITHM).await.ok()?;
        Some(Self { id: kid, key })
    }

    /// Returns whether `signature` is this key's signature of `text`. Returns false if WebCrypto
    /// fails.
    pub async fn verifies(&self, signature: &[u8], text: &str) -> bool {
        let verified = web_crypto::verify(ALGORITHM, &self.key, signature, text.as_bytes());
        verified.await.unwrap_or(false)
    }
}
