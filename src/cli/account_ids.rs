//! Account ids for recorded requests without account ids, derived from their credentials.

use std::collections::HashMap;

use hedgerow_core::http::credential;
use hedgerow_core::http::route::builtin_endpoint;
use hedgerow_core::mac_domain::MacDomain;
use hedgerow_sigma::recorded::RecordedRequest;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::secret_file::env_var;

/// The account ids of requests: with `ACCOUNT_SECRET` the same ids as at the edge, otherwise
/// numbers in the order of appearance. Credentials are never printed.
#[derive(Default)]
pub struct AccountIds {
    secret: Option<String>,
    numbers: HashMap<String, usize>,
}

impl AccountIds {
    /// Reads `ACCOUNT_SECRET` from the environment, if it is set.
    pub fn new() -> Self {
        Self { secret: env_var("ACCOUNT_SECRET"), numbers: HashMap::new() }
    }

    /// Sets the account of a request that has a credential and does not name its account.
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
            credential::find_credential(dialect, header, || recorded.query_key.clone()).found();
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

/// Returns the account id of the edge: the first bytes of HMAC-SHA256 of the domain's prefix and
/// the credential, in hex.
fn account_hash(secret: &str, credential: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(MacDomain::Account.prefix());
    mac.update(credential.as_bytes());
    mac.finalize().into_bytes().get(..credential::ACCOUNT_ID_BYTES).map(hex::encode)
}
