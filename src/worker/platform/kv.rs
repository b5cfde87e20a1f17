//! KV: how what was published reaches isolates. One key for the release, one for each bundle, one for all
//! indicators; a value
//! is the bytes that were signed, its signature beside it as metadata, so that both change at once.
//!
//! Whoever can write there may have written anything. Nothing is copied into Wasm's memory, which never
//! shrinks, before its size is known.

use hedgerow_core::correlate::indicator;
use hedgerow_core::rules::release;
use hedgerow_core::ruleset;
use js_sys::futures::JsFuture;
use js_sys::{ArrayBuffer, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::platform::settings::Settings;

#[wasm_bindgen]
extern "C" {
    /// A KV namespace. `worker` wraps one, but copies values whatever their size.
    type Kv;

    #[wasm_bindgen(method, catch, js_name = getWithMetadata)]
    fn get_with_metadata(this: &Kv, key: &str, options: &Object) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn put(this: &Kv, key: &str, value: &ArrayBuffer, options: &Object)
    -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn delete(this: &Kv, key: &str) -> Result<JsValue, JsValue>;
}

/// What a call of the platform's comes to.
async fn await_js(call: Result<JsValue, JsValue>) -> Result<JsValue, JsValue> {
    JsFuture::from(Promise::resolve(&call?)).await
}

/// Signed bytes.
#[derive(PartialEq, Eq)]
pub struct SignedValue {
    /// What was signed.
    pub bytes: Vec<u8>,
    /// The minisign signature; of indicators the MAC.
    pub signature: String,
}

/// The namespace bound as RULES.
pub struct ConfigKv(Kv);

/// Seconds for which a colo may answer from its cache: the platform's least.
const CACHE_TTL_SECONDS: u32 = 30;

const RELEASE_KEY: &str = "release";
const INDICATORS_KEY: &str = "indicators";

impl ConfigKv {
    /// The namespace, where it is bound.
    pub fn from_settings(settings: &Settings) -> Option<Self> {
        settings.rules_kv().map(|binding| Self(binding.unchecked_into()))
    }

    /// The release; `None` where none was published yet.
    pub async fn read_release(&self) -> Result<Option<SignedValue>, String> {
        self.read(RELEASE_KEY, release::MAX_RELEASE_BYTES).await
    }

    /// A bundle.
    pub async fn read_bundle(&self, digest: &str) -> Result<Option<SignedValue>, String> {
        self.read(&bundle_key(digest), ruleset::MAX_BUNDLE_BYTES).await
    }

    /// The indicators; `None` where none were published yet.
    pub async fn read_indicators(&self) -> Result<Option<SignedValue>, String> {
        self.read(INDICATORS_KEY, indicator::MAX_PACKED_BYTES).await
    }

    /// Publishes indicators.
    pub async fn put_indicators(&self, signed: &SignedValue) -> Result<(), String> {
        self.write(INDICATORS_KEY, &signed.bytes, &signed.signature).await
    }

    /// Publishes a release.
    pub async fn put_release(&self, bytes: &[u8], signature: &str) -> Result<(), String> {
        self.write(RELEASE_KEY, bytes, signature).await
    }

    /// Stores a bundle.
    pub async fn put_bundle(
        &self,
        digest: &str,
        bytes: &[u8],
        signature: &str,
    ) -> Result<(), String> {
        self.write(&bundle_key(digest), bytes, signature).await
    }

    /// Takes a bundle out.
    pub async fn delete_bundle(&self, digest: &str) -> Result<(), String> {
        await_js(self.0.delete(&bundle_key(digest)))
            .await
            .map(drop)
            .map_err(|_| WRITE_ERROR.to_owned())
    }

    async fn read(&self, key: &str, max_bytes: usize) -> Result<Option<SignedValue>, String> {
        let options = [("type", "arrayBuffer".into()), ("cacheTtl", CACHE_TTL_SECONDS.into())];
        let entry = await_js(self.0.get_with_metadata(key, &js_object(&options))).await;
        let entry = entry.map_err(|_| READ_ERROR)?;
        let Ok(value) = js_get(&entry, "value").dyn_into::<ArrayBuffer>() else { return Ok(None) };
        let size = value.byte_length() as usize;
        if size > max_bytes {
            let max_kib = max_bytes >> 10;
            return Err(format!(
                "'{}' in KV has {size} bytes, more than {max_kib} KiB",
                short_key(key)
            ));
        }
        let signature = js_get(&js_get(&entry, "metadata"), "signature").as_string();
        let signature =
            signature.ok_or_else(|| format!("'{}' in KV has no signature", short_key(key)))?;
        Ok(Some(SignedValue { bytes: Uint8Array::new(&value).to_vec(), signature }))
    }

    async fn write(&self, key: &str, bytes: &[u8], signature: &str) -> Result<(), String> {
        let metadata = js_object(&[("signature", signature.into())]);
        let options = js_object(&[("metadata", metadata.into())]);
        let value = Uint8Array::from(bytes).buffer();
        await_js(self.0.put(key, &value, &options))
            .await
            .map(drop)
            .map_err(|_| WRITE_ERROR.to_owned())
    }
}

/// What is said where KV does not answer: what is there is not known.
pub const READ_ERROR: &str = "KV cannot be read";

const WRITE_ERROR: &str = "KV cannot be written";

fn bundle_key(digest: &str) -> String {
    format!("bundle/{digest}")
}

/// As much of a key as people need.
fn short_key(key: &str) -> &str {
    key.get(..19).unwrap_or(key)
}

fn js_object(members: &[(&str, JsValue)]) -> Object {
    let object = Object::new();
    for (name, value) in members {
        // A plain object takes any member.
        let _ = Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object
}

/// A member; undefined where there is none.
fn js_get(value: &JsValue, name: &str) -> JsValue {
    Reflect::get(value, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
}
