//! Accounts of requests that name none: the edge's own hashes where its secret is known, else numbers.

use std::collections::HashMap;

use hedgerow_core::http::credential;
use hedgerow_core::http::route::builtin_endpoint;
use hedgerow_sigma::recorded::RecordedRequest;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Names accounts by their credentials, which it keeps to itself.
#[derive(Default)]
pub struct AccountIds {
    secret: Option<String>,
    numbers: HashMap<String, usize>,
}

impl AccountIds {
    /// With `ACCOUNT_SECRET`, if the environment has it.
    pub fn new() -> Self {
        let secret = std::env::var("ACCOUNT_SECRET").ok().filter(|secret| !secret.is_empty());
        Self { secret, numbers: HashMap::new() }
    }

    /// Names the account of a request that names none, and has a credential.
    pub fn assign_account(&mut self, recorded: &mut RecordedRequest) {
        if recorded.account.is_some() {
            return;
        }
        let header = |name: &str| {
            let header = recorded.headers.iter().find(|(header_name, _)| header_name == name);
            header.map(|(_, value)| value.as_str())
        };
        let dialect = builtin_endpoint(&recorded.path).dialect();
        let credential =
            credential::find_credential(dialect, header, || recorded.query_key.clone());
        recorded.account = credential.and_then(|credential| match &self.secret {
            Some(secret) => account_hash(secret, &credential),
            None => {
                let next = self.numbers.len().saturating_add(1);
                let number = self.numbers.entry(credential).or_insert(next);
                Some(format!("credential {number}"))
            }
        });
    }
}

/// The hash by which the edge knows the account.
fn account_hash(secret: &str, credential: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(credential.as_bytes());
    let digest = mac.finalize().into_bytes();
    Some(
        digest
            .iter()
            .take(credential::ACCOUNT_ID_BYTES)
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}
