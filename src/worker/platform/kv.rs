//! KV: the values that the registry publishes and isolates read. They are the release, its bundles,
//! the stop, the indicators, and the names of accounts.
//!
//! | key | value | metadata |
//! |---|---|---|
//! | `release` | the manifest | its minisign signature |
//! | `bundle/<digest>` | the bundle | its minisign signature |
//! | `stop` | the last stop, as JSON | its MAC |
//! | `indicators` | a number and all indicators | their MAC |
//! | `names` | a number, and names and labels of accounts | their MAC |
//!
//! A signature is stored as the metadata `signature` of the value it covers, so that both change in
//! one write. A value may come from anyone who can write to the namespace. So the size of a value
//! is checked before the value is copied into Wasm's memory, which never shrinks.

use hedgerow_core::correlate::indicator;
use hedgerow_core::identity::mapping;
use hedgerow_core::rules::{release, stop};
use hedgerow_core::ruleset;
use js_sys::futures::JsFuture;
use js_sys::{ArrayBuffer, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::platform::settings::Settings;

#[wasm_bindgen]
extern "C" {
    /// A KV namespace. The wrapper of `worker` is not used, because it copies values of any size.
    type Kv;

    #[wasm_bindgen(method, catch, js_name = getWithMetadata)]
    fn get_with_metadata(this: &Kv, key: &str, options: &Object) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn put(this: &Kv, key: &str, value: &ArrayBuffer, options: &Object)
    -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn delete(this: &Kv, key: &str) -> Result<JsValue, JsValue>;
}

/// Awaits the promise that a call returned.
async fn await_js(call: Result<JsValue, JsValue>) -> Result<JsValue, JsValue> {
    JsFuture::from(Promise::resolve(&call?)).await
}

/// A value of KV with its signature. Neither is verified yet.
#[derive(PartialEq, Eq)]
pub struct SignedValue {
    /// The signed bytes.
    pub bytes: Vec<u8>,
    /// The minisign signature; for the stop, indicators and names, the MAC in hex.
    pub signature: String,
}

/// The namespace bound as RULES.
pub struct ConfigKv(Kv);

/// Seconds for which a data centre may answer from its cache: the minimum that the platform allows.
const CACHE_TTL_SECONDS: u32 = 30;

const RELEASE_KEY: &str = "release";
const STOP_KEY: &str = "stop";
const INDICATORS_KEY: &str = "indicators";
const NAMES_KEY: &str = "names";

impl ConfigKv {
    /// Returns the namespace; `None` if the binding RULES is missing.
    pub fn from_settings(settings: &Settings) -> Option<Self> {
        settings.rules_kv().map(|binding| Self(binding.unchecked_into()))
    }

    /// Reads the release, at most 16 KiB; `None` if none is published.
    pub async fn read_release(&self) -> Result<Option<SignedValue>, String> {
        self.read(RELEASE_KEY, release::MAX_RELEASE_BYTES).await
    }

    /// Reads the bundle with this digest, at most 5 MiB; `None` if KV does not have it.
    pub async fn read_bundle(&self, digest: &str) -> Result<Option<SignedValue>, String> {
        self.read(&bundle_key(digest), ruleset::MAX_BUNDLE_BYTES).await
    }

    /// Reads the stop; `None` if none was published.
    pub async fn read_stop(&self) -> Result<Option<SignedValue>, String> {
        self.read(STOP_KEY, stop::MAX_STOP_BYTES).await
    }

    /// Writes the stop, with its MAC, for all isolates.
    pub async fn put_stop(&self, signed: &SignedValue) -> Result<(), String> {
        self.write(STOP_KEY, &signed.bytes, &signed.signature).await
    }

    /// Reads the indicators; `None` if none are published.
    pub async fn read_indicators(&self) -> Result<Option<SignedValue>, String> {
        self.read(INDICATORS_KEY, indicator::MAX_PACKED_BYTES).await
    }

    /// Writes the indicators, with their MAC, for all isolates.
    pub async fn put_indicators(&self, signed: &SignedValue) -> Result<(), String> {
        self.write(INDICATORS_KEY, &signed.bytes, &signed.signature).await
    }

    /// Reads the names of accounts; `None` if none are published.
    pub async fn read_names(&self) -> Result<Option<SignedValue>, String> {
        self.read(NAMES_KEY, mapping::MAX_MAPPINGS_BYTES).await
    }

    /// Writes the names of accounts, with their MAC, for all isolates.
    pub async fn put_names(&self, signed: &SignedValue) -> Result<(), String> {
        self.write(NAMES_KEY, &signed.bytes, &signed.signature).await
    }

    /// Writes a release and its signature, for all isolates.
    pub async fn put_release(&self, bytes: &[u8], signature: &str) -> Result<(), String> {
        self.write(RELEASE_KEY, bytes, signature).await
    }

    /// Writes a bundle and its signature, under the bundle's digest.
    pub async fn put_bundle(
        &self,
        digest: &str,
        bytes: &[u8],
        signature: &str,
    ) -> Result<(), String> {
        self.write(&bundle_key(digest), bytes, signature).await
    }

    /// Deletes a bundle.
    pub async fn delete_bundle(&self, digest: &str) -> Result<(), String> {
        let deleted = await_js(self.0.delete(&bundle_key(digest))).await;
        deleted.map(drop).map_err(|_| WRITE_ERROR.to_owned())
    }

    /// Reads a value of at most `max_bytes` with its signature; `None` if KV does not have the key.
    ///
    /// # Errors
    /// If KV cannot be read, or if the value is too large or has no signature.
    async fn read(&self, key: &str, max_bytes: usize) -> Result<Option<SignedValue>, String> {
        let options = [("type", "arrayBuffer".into()), ("cacheTtl", CACHE_TTL_SECONDS.into())];
        let entry = await_js(self.0.get_with_metadata(key, &js_object(&options))).await;
        let entry = entry.map_err(|_| READ_ERROR)?;
        let Ok(value) = js_get(&entry, "value").dyn_into::<ArrayBuffer>() else { return Ok(None) };
        let size = value.byte_length() as usize;
        let name = short_key(key);
        if size > max_bytes {
            return Err(format!(
                "'{name}' in KV has {size} bytes, more than {} KiB",
                max_bytes >> 10
            ));
        }
        let signature = js_get(&js_get(&entry, "metadata"), "signature").as_string();
        let signature = signature.ok_or_else(|| format!("'{name}' in KV has no signature"))?;
        Ok(Some(SignedValue { bytes: Uint8Array::new(&value).to_vec(), signature }))
    }

    /// Writes a value with its signature. Isolates may still read the previous value for some time,
    /// because a data centre may answer from its cache.
    async fn write(&self, key: &str, bytes: &[u8], signature: &str) -> Result<(), String> {
        let metadata = js_object(&[("signature", signature.into())]);
        let options = js_object(&[("metadata", metadata.into())]);
        let value = Uint8Array::from(bytes).buffer();
        let written = await_js(self.0.put(key, &value, &options)).await;
        written.map(drop).map_err(|_| WRITE_ERROR.to_owned())
    }
}

/// The error of a read that failed. The caller must not conclude that the value is missing.
pub const READ_ERROR: &str = "KV cannot be read";

const WRITE_ERROR: &str = "KV cannot be written";

fn bundle_key(digest: &str) -> String {
    format!("bundle/{digest}")
}

/// Returns a key as error messages show it, with only the first 12 digits of a bundle's digest.
fn short_key(key: &str) -> &str {
    key.get(..19).unwrap_or(key)
}

fn js_object(members: &[(&str, JsValue)]) -> Object {
    let object = Object::new();
    for (name, value) in members {
        // Setting a member of a plain object cannot fail.
        let _ = Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object
}

/// Returns a member of a JavaScript value; `undefined` if the value has no such member.
fn js_get(value: &JsValue, name: &str) -> JsValue {
    Reflect::get(value, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
}
