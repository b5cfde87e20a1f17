//! Verification of signatures by the platform's WebCrypto.

use js_sys::futures::JsFuture;
use js_sys::{Array, Object, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = importKey, catch)]
    fn subtle_import_key(
        format: &str,
        key: &JsValue,
        algorithm: &Object,
        extractable: bool,
        usages: &Array,
    ) -> Result<Promise, JsValue>;
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = verify, catch)]
    fn subtle_verify(
        algorithm: &str,
        key: &JsValue,
        signature: &Uint8Array,
        data: &Uint8Array,
    ) -> Result<Promise, JsValue>;
}

/// Imports `key`, which is encoded in the WebCrypto format `format`. Returns a `CryptoKey` that
/// verifies signatures of `algorithm` with SHA-256.
///
/// # Errors
/// If WebCrypto rejects the key.
pub async fn import_key(format: &str, key: &JsValue, algorithm: &str) -> Result<JsValue, JsValue> {
    let entry = |name: &str, value: &str| Array::of2(&name.into(), &value.into());
    let parameters = Array::of2(&entry("name", algorithm), &entry("hash", "SHA-256"));
    let parameters = Object::from_entries(&parameters)?;
    let usages = Array::of1(&"verify".into());
    JsFuture::from(subtle_import_key(format, key, &parameters, false, &usages)?).await
}

/// Returns whether `signature` is a valid signature of `data`. `key` is a `CryptoKey` from
/// [`import_key`], and `algorithm` is the algorithm of this key.
///
/// # Errors
/// If WebCrypto fails.
pub async fn verify(
    algorithm: &str,
    key: &JsValue,
    signature: &[u8],
    data: &[u8],
) -> Result<bool, JsValue> {
    let (signature, data) = (Uint8Array::from(signature), Uint8Array::from(data));
    let verified = subtle_verify(algorithm, key, &signature, &data)?;
    Ok(JsFuture::from(verified).await?.is_truthy())
}
