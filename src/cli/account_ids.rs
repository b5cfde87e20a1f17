//! Account and tenant ids, as the edge computes them from credentials.

use std::collections::HashMap;

use hedgerow_core::Envelope;
use hedgerow_core::hash_purpose::HashPurpose;
use hedgerow_core::http::route::Dialect;
use hedgerow_core::identity::kind::AccountKind;
use hedgerow_core::identity::principal::{ACCOUNT_ID_BYTES, Account, Principal, SenderEvidence};
use hedgerow_core::rules::policy::Policy;
use hedgerow_sigma::recorded::RecordedRequest;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::secret_file::env_var;

/// Assigns account ids to credentials. With `ACCOUNT_SECRET`, the ids are the same as at the edge.
/// Otherwise they are numbers in the order of first appearance (`credential 1`). Credentials are
/// never printed.
#[derive(Default)]
pub struct AccountIds {
    secret: Option<String>,
    numbers: HashMap<Account, usize>,
}

/// The sender of a recorded request.
#[derive(Default)]
pub struct RecordedPrincipal {
    account: Option<String>,
    kind: Option<AccountKind>,
    tenant: Option<String>,
    credential_count: u32,
}

impl AccountIds {
    /// Reads `ACCOUNT_SECRET` from the environment, if it is set.
    pub fn new() -> Self {
        Self { secret: env_var("ACCOUNT_SECRET"), ..Self::default() }
    }

    /// Returns the sender of a request. An account or tenant that the recording names takes
    /// precedence over the one that the policy finds in the request. Identity headers of a
    /// recording are trusted without a proof.
    pub fn principal(
        &mut self,
        recorded: &RecordedRequest,
        dialect: Dialect,
        policy: &Policy,
    ) -> RecordedPrincipal {
        let principal = find_principal(recorded, dialect, policy);
        let kind = principal.account.as_ref().map(|account| account.kind);
        let account = recorded.account.clone();
        RecordedPrincipal {
            kind: kind.filter(|_| account.is_none()),
            account: account.or_else(|| Some(self.id(principal.account?))),
            tenant: recorded.tenant.clone().or(principal.tenant),
            credential_count: principal.credential_count,
        }
    }

    fn id(&mut self, account: Account) -> String {
        if let Some(secret) = &self.secret {
            return account_id(secret, &account).unwrap_or_default();
        }
        let next = self.numbers.len().saturating_add(1);
        let number = self.numbers.entry(account).or_insert(next);
        format!("credential {number}")
    }
}

impl RecordedPrincipal {
    /// Adds the principal to an envelope.
    pub fn envelope<'e>(&'e self, envelope: Envelope<'e>) -> Envelope<'e> {
        Envelope {
            account: self.account.as_deref(),
            account_kind: self.kind,
            tenant: self.tenant.as_deref(),
            credential_count: self.credential_count,
            ..envelope
        }
    }
}

/// Finds the sender of a request, as the identity settings of a policy define it. `dialect` is the
/// dialect of the request's endpoint. The caller passes it, because finding the endpoint again
/// costs as much as finding the principal.
pub fn find_principal(recorded: &RecordedRequest, dialect: Dialect, policy: &Policy) -> Principal {
    let evidence = SenderEvidence {
        headers: &recorded.headers,
        path: &recorded.path,
        query: &recorded.query,
        dialect,
        certificate: None,
        is_trusted: true,
    };
    Principal::find(&evidence, &policy.identity)
}

/// Returns the account id that the edge computes. The result is never `None`, because HMAC accepts
/// secrets of any length.
pub fn account_id(secret: &str, account: &Account) -> Option<String> {
    keyed_id(secret, HashPurpose::Account(account.kind), &account.text)
}

/// Returns the tenant id that the edge computes. The result is never `None`.
pub fn tenant_id(secret: &str, tenant: &str) -> Option<String> {
    keyed_id(secret, HashPurpose::Tenant, tenant)
}

/// Returns the first [`ACCOUNT_ID_BYTES`] bytes of an HMAC-SHA256, in hex. The key is `secret`, and
/// the message is the prefix of `purpose` followed by `text`.
fn keyed_id(secret: &str, purpose: HashPurpose, text: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(purpose.prefix());
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().get(..ACCOUNT_ID_BYTES).map(hex::encode)
}
