//! The sender of a request: the ids of its account and its tenant, and whether the origin has
//! accepted its credential or a trusted gateway has sent it. docs/accounts.md describes the rules.

use hedgerow_core::correlate::Observation;
use hedgerow_core::field::FieldId;
use hedgerow_core::hash_purpose::HashPurpose;
use hedgerow_core::http::route::Dialect;
use hedgerow_core::identity::access::ACCESS_HEADER;
use hedgerow_core::identity::kind::AccountKind;
use hedgerow_core::identity::mapping::label_of;
use hedgerow_core::identity::principal::{ACCOUNT_ID_BYTES, Account, Principal, valid};
use hedgerow_core::keyed_hash::HashKey;
use hedgerow_core::rules::policy::{IdentityPolicy, Trust, UntrustedHeaders};
use hedgerow_core::{Client, Envelope};
use js_sys::Reflect;
use wasm_bindgen::JsValue;
use web_sys::Headers;
use worker::Context;

use crate::isolate::access_keys;
use crate::isolate::active_rules;
use crate::isolate::principals;
use crate::isolate::principals::OriginNames;
use crate::isolate::telemetry;
use crate::platform::hmac_sha256;
use crate::platform::panic::catch_panic;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;

/// The sender of a request. Ids are keyed hashes in hex.
#[derive(Default)]
pub struct Sender {
    /// The account that the origin or the operator named. If neither named one, the account that
    /// the request names.
    pub account: Option<String>,
    /// The kind of source from which the account was determined.
    pub kind: Option<AccountKind>,
    /// The tenant, if it is known.
    pub tenant: Option<String>,
    /// Label of the account; `None` unless the policy has `labels`.
    pub account_label: Option<String>,
    /// Label of the tenant; `None` unless the policy has `labels`.
    pub tenant_label: Option<String>,
    /// Hash of the account that the credential alone would determine; 0 without a credential.
    pub credential_account_hash: u64,
    /// Number of different credentials in the request.
    pub credential_count: u32,
    /// Whether the credential is ignored because it contains control bytes.
    pub is_credential_malformed: bool,
    /// The account as the request names it. Names from the origin are stored under this id.
    requested_account: Option<String>,
    /// Whether the account is a claim, such as a token's subject, which anybody can forge until the
    /// origin has verified it.
    is_claim: bool,
    /// Hash under which the isolate remembers that the origin has accepted the credential; 0 if the
    /// request names no account.
    proof: u64,
    /// Hash of the credential that determines the account; 0 without one.
    credential_hash: u64,
    /// Hashes of other credentials, in places that some API reads instead of the place of the first
    /// credential.
    alternatives: Vec<u64>,
    /// Hashes of other credentials, in places that no API reads instead of the place of the first
    /// credential.
    unrelated_credentials: Vec<u64>,
    /// Whether the account is an unproven claim in a request with another credential. The origin
    /// may have accepted the other credential, and the claim may be forged.
    is_ambiguous_claim: bool,
    /// The peer of the connection. The client's address and its TLS properties describe this peer.
    peer: Peer,
}

/// The peer of a connection.
#[derive(Default)]
enum Peer {
    /// The client itself.
    #[default]
    Client,
    /// A gateway. `client_address` is the address that the gateway sent in the header that the
    /// policy sets; `None` without a valid address.
    Gateway { client_address: Option<String> },
}

impl Peer {
    /// Returns the peer of a request. The peer is a gateway if a trusted gateway sent the request
    /// (`is_trusted`) and the policy replaces the client's address.
    fn of(request: &ClientRequest, policy: &IdentityPolicy, is_trusted: bool) -> Self {
        if is_trusted && policy.replaces_client_address() {
            let header = policy.client_address.as_ref();
            let address = header.and_then(|header| request.header(header.name()));
            Self::Gateway { client_address: address.and_then(valid).map(str::to_owned) }
        } else {
            Self::Client
        }
    }
}

impl Sender {
    /// Determines the sender of a request, by the policy and by the names that the origin or the
    /// operator gave. `is_trusted` is whether a trusted gateway sent the request. `secret` is
    /// ACCOUNT_SECRET.
    pub fn find(
        request: &ClientRequest,
        dialect: Dialect,
        policy: &IdentityPolicy,
        is_trusted: bool,
        secret: &str,
    ) -> Self {
        let hash_key = hmac_sha256::hash_key(secret);
        let hash = |text: &String| hash_credential(&hash_key, text);
        let principal = find_principal(request, dialect, policy, is_trusted, &hash_key);
        let sender = Self::of_credentials(&principal, &hash_key);
        let Principal { account, tenant, claimed_by, is_ambiguous, .. } = principal;
        let is_claim = account.as_ref().is_some_and(|account| account.kind.is_claim());
        let kind = account.as_ref().map(|account| account.kind);
        let account_id =
            |account: &Account, text: &String| id(secret, HashPurpose::Account(account.kind), text);
        // If a request has a claim and another credential, the origin may accept the request
        // because of the other credential, and the claim may be forged. Until the origin has
        // accepted the claim alone, such a request counts for a separate account.
        let is_ambiguous_claim = is_claim
            && is_ambiguous
            && !claimed_by.as_ref().is_some_and(|claim| principals::is_proven(hash(claim)));
        let ambiguous_claim = claimed_by.as_ref().filter(|_| is_ambiguous_claim);
        let requested_account = account
            .and_then(|account| account_id(&account, ambiguous_claim.unwrap_or(&account.text)));
        let tenant = tenant.filter(|_| !is_ambiguous_claim);
        let proof = claimed_by.as_ref().or(requested_account.as_ref());
        let proof = proof.map_or(0, hash);
        let known = requested_account.as_deref().and_then(principals::named_by_origin);
        let known = known.unwrap_or_default();
        let account = known.account.clone().or_else(|| requested_account.clone());
        let tenant = known.tenant.or_else(|| id(secret, HashPurpose::Tenant, &tenant?));
        let label = |id: &Option<String>| {
            id.as_deref().filter(|_| policy.labels).and_then(principals::label)
        };
        Self {
            kind: known.account.as_ref().map(|_| AccountKind::Origin).or(kind),
            account_label: label(&account),
            tenant_label: label(&tenant),
            account,
            tenant,
            is_ambiguous_claim,
            requested_account,
            is_claim,
            proof,
            peer: Peer::of(request, policy, is_trusted),
            ..sender
        }
    }

    /// Returns a sender of which only the credentials are set.
    fn of_credentials(principal: &Principal, hash_key: &HashKey) -> Self {
        let hash = |text: &String| hash_credential(hash_key, text);
        let unrelated_hash =
            |text: &String| hash_key.keyed_hash(UNRELATED_CREDENTIAL, text.as_bytes());
        let account_hash =
            |Account { kind, text }: &Account| hash(&format!("{}\0{text}", kind.name()));
        let unrelated_credentials = principal.unrelated_credentials.iter();
        Self {
            credential_account_hash: principal.credential.as_ref().map_or(0, account_hash),
            credential_count: principal.credential_count,
            is_credential_malformed: principal.is_malformed,
            credential_hash: principal.credential_text.as_ref().map_or(0, hash),
            alternatives: principal.alternatives.iter().map(hash).collect(),
            unrelated_credentials: unrelated_credentials.map(unrelated_hash).collect(),
            ..Self::default()
        }
    }

    /// Returns the core's view of a request with the sender added. If the peer is a gateway, the
    /// view contains only the client's address, and not the gateway's TLS properties.
    pub fn envelope<'e>(&'e self, envelope: Envelope<'e>) -> Envelope<'e> {
        let client = match &self.peer {
            Peer::Gateway { client_address } => {
                Client { address: client_address.as_deref(), ..Client::default() }
            }
            Peer::Client => envelope.client,
        };
        Envelope {
            account: self.account.as_deref(),
            account_kind: self.kind,
            tenant: self.tenant.as_deref(),
            credential_count: self.credential_count,
            client,
            ..envelope
        }
    }

    /// Returns the kind of the account for the log.
    pub fn kind_name(&self) -> &'static str {
        self.kind.map_or("none", AccountKind::name)
    }

    /// Returns whether the origin has accepted this credential within the last day.
    pub fn is_proven(&self) -> bool {
        principals::is_proven(self.proof)
    }

    /// Remembers the names that the origin gave the sender in its answer. `accepts` is whether the
    /// status of the answer shows that the origin accepted the credential.
    pub fn record_answer(&self, names: &OriginNames, accepts: bool, policy: &IdentityPolicy) {
        if accepts && self.credential_hash != 0 {
            match self.credential_count {
                1 => principals::remember_only_credential(self.credential_hash),
                // Of two credentials, the origin has accepted at least one. Of three or more, all
                // but one may be forged.
                2 => {
                    principals::remember_several_credentials(
                        self.credential_hash,
                        &self.alternatives,
                    );
                    principals::remember_several_credentials(
                        self.credential_hash,
                        &self.unrelated_credentials,
                    );
                }
                _ => {}
            }
        }
        if let (Some(account), false) = (&self.requested_account, names.is_empty()) {
            // Until the deployment's rules are in force, `labels` is unknown. A report with a wrong
            // value would delete all labels. `policy` is that of the request, and other rules may
            // have come into force before the answer.
            let deployed = active_rules::deployed();
            let is_accepted = (accepts || self.is_proven()) && deployed.is_some();
            let labels =
                deployed.map_or(policy.labels, |rules| rules.active().policy().identity.labels);
            principals::remember_names(account, names, is_accepted, labels);
        }
    }

    /// Assigns an observation to the account and the tenant that the origin named in its answer. If
    /// the account is a claim that the origin has not confirmed, assigns the observation to a
    /// separate account.
    pub fn assign_account(
        &self,
        observation: &mut Observation,
        names: &OriginNames,
        key: &HashKey,
    ) {
        // The origin may have read another credential than the one that determines the account. A
        // client may send a random credential, which changes with each request, in addition to its
        // real key. The random ones must not become proven accounts.
        observation.proven &=
            !principals::had_other_first_credential(&self.alternatives, self.credential_hash);
        // The same applies to an ambiguous claim and an unrelated credential. Claims that change
        // with each request while the credential stays the same are not proven. A constant claim
        // with a credential that changes counts as one account.
        let is_before_others =
            !self.alternatives.is_empty() || !self.unrelated_credentials.is_empty();
        if self.is_ambiguous_claim {
            observation.proven &= is_before_others;
            observation.proven &= !principals::had_other_first_credential(
                &self.unrelated_credentials,
                self.credential_hash,
            );
        }
        // Of three credentials, two may be forged, and `record_answer` does not remember them.
        observation.proven &= !is_before_others || self.credential_count <= 2;
        let is_confirmed = observation.proven && !self.is_ambiguous_claim;
        if is_confirmed {
            principals::remember_proof(self.proof);
        }
        if let Some(account) = &names.account {
            observation
                .set_account(key.keyed_hash(FieldId::Account.spec().name, account.as_bytes()));
        } else if self.is_claim && !is_confirmed && !self.is_ambiguous_claim {
            // `find` has given an ambiguous claim a separate account already.
            observation.replace_unconfirmed_account(key);
        }
        if let Some(tenant) = &names.tenant {
            observation.tenant = key.hash_tenant(tenant);
        }
    }
}

/// Hashes a credential. The isolate remembers by this hash which credentials the origin has
/// accepted.
fn hash_credential(key: &HashKey, credential: &str) -> u64 {
    key.keyed_hash(CREDENTIAL, credential.as_bytes())
}

/// Finds the principal of a request: its account, tenant and credentials. The headers are hostile
/// input: if reading them panics, the request has no account.
fn find_principal(
    request: &ClientRequest,
    dialect: Dialect,
    policy: &IdentityPolicy,
    is_trusted: bool,
    key: &HashKey,
) -> Principal {
    let evidence = request.sender_evidence(dialect, is_trusted);
    let is_accepted_by_origin =
        |credential: &str| principals::is_accepted_by_origin(hash_credential(key, credential));
    let find = || Principal::find_known(&evidence, policy, &is_accepted_by_origin);
    catch_panic(find).unwrap_or_else(|| {
        telemetry::count_error("identity: reading a credential panicked");
        Principal::default()
    })
}

/// Returns the ids and labels of the names in the headers of the origin's answer. Returns none if
/// the policy does not read these headers.
pub fn names_of_origin(headers: &Headers, policy: &IdentityPolicy, secret: &str) -> OriginNames {
    if !policy.origin {
        return OriginNames::default();
    }
    let name = |header: &str| {
        let value = headers.get(header).ok().flatten()?;
        valid(&value).filter(|name| name.len() <= MAX_ORIGIN_NAME_BYTES).map(str::to_owned)
    };
    let (account, tenant) = (name(ACCOUNT_HEADER), name(TENANT_HEADER));
    let label =
        |name: &Option<String>| name.as_deref().filter(|_| policy.labels).and_then(label_of);
    OriginNames {
        account_label: label(&account),
        tenant_label: label(&tenant),
        account: account.and_then(|name| origin_account_id(secret, &name)),
        tenant: tenant.and_then(|name| tenant_id(secret, &name)),
    }
}

/// Returns the id of an account that the origin or the operator calls `name`.
pub fn origin_account_id(secret: &str, name: &str) -> Option<String> {
    id(secret, HashPurpose::Account(AccountKind::Origin), name)
}

/// Returns the id of a tenant that is called `name`.
pub fn tenant_id(secret: &str, name: &str) -> Option<String> {
    id(secret, HashPurpose::Tenant, name)
}

/// Returns whether a trusted gateway sent a request. Only then are the identity headers of the
/// request used.
pub async fn is_trusted(
    request: &ClientRequest,
    policy: &IdentityPolicy,
    settings: &Settings,
    context: &Context,
) -> bool {
    match &policy.trusted {
        Trust::None => false,
        Trust::All => true,
        Trust::Header(name) => {
            request.header(name).is_some_and(|value| settings.is_identity_secret(value))
        }
        Trust::Access { team, audience } => match request.header(ACCESS_HEADER) {
            Some(assertion) => {
                let secret = settings.account_secret.as_deref();
                access_keys::is_valid(assertion, team, audience, secret, context).await
            }
            None => false,
        },
        Trust::Binding => binding_prop(context).as_deref() == Some("identity"),
        Trust::Mtls(fingerprint) => request
            .certificate()
            .is_some_and(|certificate| certificate.fingerprint.eq_ignore_ascii_case(fingerprint)),
    }
}

/// Returns the client's address: of the connection, or of the gateway's client if a trusted gateway
/// sent the request. Returns `None` if it is not known.
pub fn client_address(
    request: &ClientRequest,
    policy: &IdentityPolicy,
    is_trusted: bool,
) -> Option<String> {
    match Peer::of(request, policy, is_trusted) {
        Peer::Gateway { client_address } => client_address,
        Peer::Client => request.envelope().client.address.map(str::to_owned),
    }
}

/// Returns the names of headers that must not reach the origin: the header with the shared secret,
/// and, if the policy removes them, identity headers that are not from the gateway.
pub fn private_headers(
    request: &ClientRequest,
    policy: &IdentityPolicy,
    is_trusted: bool,
) -> Vec<String> {
    let secret = policy.secret_header().map(str::to_owned);
    let mut forged = Vec::new();
    if policy.trusted != Trust::None && !is_trusted {
        let present = policy.gateway_headers().filter(|name| request.header(name).is_some());
        forged = present.map(str::to_owned).collect();
    }
    if !forged.is_empty() {
        telemetry::count_error("identity: headers without proof of the gateway were ignored");
    }
    if policy.untrusted == UntrustedHeaders::Pass {
        forged.clear();
    }
    secret.into_iter().chain(forged).collect()
}

/// Returns the property `hedgerow` of the service binding through which another Worker called this
/// one. Only the configuration of the calling Worker can set it.
fn binding_prop(context: &Context) -> Option<String> {
    let context: &JsValue = context.as_ref().as_ref();
    let props = Reflect::get(context, &JsValue::from_str("props")).ok()?;
    if !props.is_object() {
        return None;
    }
    Reflect::get(&props, &JsValue::from_str("hedgerow")).ok()?.as_string()
}

/// Returns an id: the first [`ACCOUNT_ID_BYTES`] bytes of the HMAC of a text, in hex.
fn id(secret: &str, purpose: HashPurpose, text: &str) -> Option<String> {
    hmac_sha256::hmac_hex(secret, purpose, text.as_bytes(), ACCOUNT_ID_BYTES)
}

/// The response header in which the origin names the account.
pub const ACCOUNT_HEADER: &str = "x-hedgerow-account";

/// The response header in which the origin names the tenant.
pub const TENANT_HEADER: &str = "x-hedgerow-tenant";

/// Maximum bytes of a name in these headers.
const MAX_ORIGIN_NAME_BYTES: usize = 256;

/// Domain of the hashes of credentials that the origin has accepted.
const CREDENTIAL: &str = "hedgerow.credential";

/// Domain of the hashes of `unrelated_credentials`. It differs from the domain of other
/// credentials, so that [`principals::is_accepted_by_origin`] never finds these hashes: such a
/// credential, even if it comes with several others, is not proven to be accepted by the origin.
const UNRELATED_CREDENTIAL: &str = "hedgerow.companion";

#[cfg(test)]
mod tests {
    use super::*;

    /// The isolate compares hashes of credentials from different places of requests.
    #[test]
    fn a_credential_has_one_hash_unless_it_is_unrelated() {
        let key = HashKey::derive(b"secret");
        let credential = "sk-1".to_owned();
        let principal = Principal {
            credential_text: Some(credential.clone()),
            alternatives: vec![credential.clone()],
            unrelated_credentials: vec![credential.clone()],
            ..Principal::default()
        };
        let sender = Sender::of_credentials(&principal, &key);
        let hash = hash_credential(&key, &credential);
        assert_eq!((sender.credential_hash, sender.alternatives), (hash, vec![hash]));
        assert_ne!(sender.unrelated_credentials, [hash]);
    }
}
