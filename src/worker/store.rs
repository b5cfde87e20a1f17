//! KV: how what was published reaches isolates. One key for the release, one for each bundle, one for all
//! indicators; a value
//! is the bytes that were signed, its signature beside it as metadata, so that both change at once.
//!
//! Whoever can write there may have written anything. Nothing is copied into Wasm's memory, which never
//! shrinks, before its size is known.

use hedgerow::indicator;
use hedgerow::ruleset::{self, release};
use js_sys::futures::JsFuture;
use js_sys::{ArrayBuffer, Object, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::settings::Settings;

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
async fn settled(called: Result<JsValue, JsValue>) -> Result<JsValue, JsValue> {
    JsFuture::from(Promise::resolve(&called?)).await
}

/// Signed bytes.
#[derive(PartialEq, Eq)]
pub struct Stored {
    /// What was signed.
    pub bytes: Vec<u8>,
    /// The minisign signature; of indicators the MAC.
    pub signature: String,
}

/// The namespace bound as RULES.
pub struct Store(Kv);

/// Seconds for which a colo may answer from its cache: the platform's least.
const CACHE_SECONDS: u32 = 30;

const RELEASE: &str = "release";
const INDICATORS: &str = "indicators";

impl Store {
    /// The namespace, where it is bound.
    pub fn of(settings: &Settings) -> Option<Self> {
        settings.rules().map(|binding| Self(binding.unchecked_into()))
    }

    /// The release; `None` where none was published yet.
    pub async fn release(&self) -> Result<Option<Stored>, String> {
        self.read(RELEASE, release::MAX_BYTES).await
    }

    /// A bundle.
    pub async fn bundle(&self, digest: &str) -> Result<Option<Stored>, String> {
        self.read(&bundle_key(digest), ruleset::MAX_BYTES).await
    }

    /// The indicators; `None` where none were published yet.
    pub async fn indicators(&self) -> Result<Option<Stored>, String> {
        self.read(INDICATORS, indicator::MAX_BYTES).await
    }

    /// Publishes indicators.
    pub async fn put_indicators(&self, sealed: &Stored) -> Result<(), String> {
        self.write(INDICATORS, &sealed.bytes, &sealed.signature).await
    }

    /// Publishes a release.
    pub async fn put_release(&self, bytes: &[u8], signature: &str) -> Result<(), String> {
        self.write(RELEASE, bytes, signature).await
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
    pub async fn forget_bundle(&self, digest: &str) -> Result<(), String> {
        settled(self.0.delete(&bundle_key(digest)))
            .await
            .map(drop)
            .map_err(|_| UNWRITABLE.to_owned())
    }

    async fn read(&self, key: &str, most: usize) -> Result<Option<Stored>, String> {
        let options = [("type", "arrayBuffer".into()), ("cacheTtl", CACHE_SECONDS.into())];
        let found = settled(self.0.get_with_metadata(key, &object(&options))).await;
        let found = found.map_err(|_| UNREADABLE)?;
        let Ok(value) = member(&found, "value").dyn_into::<ArrayBuffer>() else { return Ok(None) };
        let size = value.byte_length() as usize;
        if size > most {
            let most = most >> 10;
            return Err(format!("'{}' in KV has {size} bytes, more than {most} KiB", short(key)));
        }
        let signature = member(&member(&found, "metadata"), "signature").as_string();
        let signature =
            signature.ok_or_else(|| format!("'{}' in KV has no signature", short(key)))?;
        Ok(Some(Stored { bytes: Uint8Array::new(&value).to_vec(), signature }))
    }

    async fn write(&self, key: &str, bytes: &[u8], signature: &str) -> Result<(), String> {
        let metadata = object(&[("signature", signature.into())]);
        let options = object(&[("metadata", metadata.into())]);
        let value = Uint8Array::from(bytes).buffer();
        settled(self.0.put(key, &value, &options))
            .await
            .map(drop)
            .map_err(|_| UNWRITABLE.to_owned())
    }
}

/// What is said where KV does not answer: what is there is not known.
pub const UNREADABLE: &str = "KV cannot be read";

const UNWRITABLE: &str = "KV cannot be written";

fn bundle_key(digest: &str) -> String {
    format!("bundle/{digest}")
}

/// As much of a key as people need.
fn short(key: &str) -> &str {
    key.get(..19).unwrap_or(key)
}

fn object(members: &[(&str, JsValue)]) -> Object {
    let object = Object::new();
    for (name, value) in members {
        // A plain object takes any member.
        let _ = Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object
}

/// A member; undefined where there is none.
fn member(value: &JsValue, name: &str) -> JsValue {
    Reflect::get(value, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
}
