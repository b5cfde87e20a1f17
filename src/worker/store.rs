//! KV: how what was published reaches isolates. One key for the release, one for each bundle; a value
//! is the bytes that were signed, its signature beside it as metadata, so that both change at once.

use serde::{Deserialize, Serialize};
use worker::kv::KvStore;

use crate::settings::Settings;

/// Signed bytes.
pub struct Stored {
    /// What was signed.
    pub bytes: Vec<u8>,
    /// The minisign signature.
    pub signature: String,
}

/// The namespace bound as RULES.
pub struct Store(KvStore);

#[derive(Serialize, Deserialize)]
struct Beside {
    signature: String,
}

/// Seconds for which a colo may answer from its cache: the platform's least.
const CACHE_SECONDS: u64 = 30;

const RELEASE: &str = "release";

impl Store {
    /// The namespace, where it is bound.
    pub fn of(settings: &Settings) -> Option<Self> {
        settings.rules().map(Self)
    }

    /// The release; `None` where none was published yet.
    pub async fn release(&self) -> Result<Option<Stored>, String> {
        self.get(RELEASE).await
    }

    /// A bundle.
    pub async fn bundle(&self, digest: &str) -> Result<Option<Stored>, String> {
        self.get(&format!("bundle/{digest}")).await
    }

    /// Publishes a release.
    pub async fn put_release(&self, bytes: &[u8], signature: &str) -> Result<(), String> {
        self.put(RELEASE, bytes, signature).await
    }

    /// Stores a bundle.
    pub async fn put_bundle(
        &self,
        digest: &str,
        bytes: &[u8],
        signature: &str,
    ) -> Result<(), String> {
        self.put(&format!("bundle/{digest}"), bytes, signature).await
    }

    /// Takes a bundle out.
    pub async fn forget_bundle(&self, digest: &str) -> Result<(), String> {
        let deleted = self.0.delete(&format!("bundle/{digest}")).await;
        deleted.map_err(|_| "KV cannot be written".to_owned())
    }

    async fn get(&self, key: &str) -> Result<Option<Stored>, String> {
        let get = self.0.get(key).cache_ttl(CACHE_SECONDS);
        let (bytes, beside) =
            get.bytes_with_metadata::<Beside>().await.map_err(|_| "KV cannot be read")?;
        match (bytes, beside) {
            (None, _) => Ok(None),
            (Some(bytes), Some(beside)) => Ok(Some(Stored { bytes, signature: beside.signature })),
            (Some(_), None) => Err(format!("'{}' in KV has no signature", short(key))),
        }
    }

    async fn put(&self, key: &str, bytes: &[u8], signature: &str) -> Result<(), String> {
        let failed = |_| "KV cannot be written".to_owned();
        let put = self.0.put_bytes(key, bytes).map_err(failed)?;
        let beside = Beside { signature: signature.to_owned() };
        put.metadata(beside).map_err(failed)?.execute().await.map_err(failed)
    }
}

fn short(key: &str) -> &str {
    key.get(..19).unwrap_or(key)
}
