//! The sender of a request: the ids of its account and its tenant, and whether the origin or a
//! gateway vouches for them.

use hedgerow_core::correlate::Observation;
use hedgerow_core::field::FieldId;
use hedgerow_core::http::route::Dialect;
use hedgerow_core::identity::access::ACCESS_HEADER;
use hedgerow_core::identity::kind::AccountKind;
use hedgerow_core::identity::mapping::label_of;
use hedgerow_core::identity::principal::{ACCOUNT_ID_BYTES, Account, Principal, valid};
use hedgerow_core::keyed_hash::HashKey;
use hedgerow_core::mac_domain::MacDomain;
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
    /// The account: as the origin named it, else as the request does.
    pub account: Option<String>,
    /// How the account was found out.
    pub kind: Option<AccountKind>,
    /// The tenant, if it is known.
    pub tenant: Option<String>,
    /// Label of the account; `None` unless the policy has `labels`.
    pub account_label: Option<String>,
    /// Label of the tenant; `None` unless the policy has `labels`.
    pub tenant_label: Option<String>,
    /// Hash of the account that the credential names by itself; 0 without a credential.
    pub credential: u64,
    /// Number of different credentials in the request.
    pub credential_count: u32,
    /// Whether the credential does not count, because it has control bytes.
    pub is_credential_malformed: bool,
    /// The account as the request names it: the key of what the origin has said about it.
    own_account: Option<String>,
    /// Whether anybody can name the account.
    is_claim: bool,
    /// Hash of the credential, under which the origin's success is remembered.
    proof: u64,
    /// Hash of the credential that counts; 0 without one.
    presented: u64,
    /// Hashes of credentials that the origin may read instead.
    alternatives: Vec<u64>,
    /// Hashes of the other credentials, in places that no API reads in place of the first.
    companions: Vec<u64>,
    /// Whether the account is claimed next to another credential, so that the origin's success may
    /// be for the other one.
    is_doubtful: bool,
    /// The other end of the connection, which the address and the TLS facts describe.
    peer: Peer,
}

/// The other end of a connection.
#[derive(Default)]
enum Peer {
    /// The client itself.
    #[default]
    Client,
    /// A gateway, which names the address of its client if the policy says in which header.
    Gateway { client_address: Option<String> },
}

impl Sender {
    /// Finds out who sends a request, by the policy and by what the origin has said before.
    pub fn find(
        request: &ClientRequest,
        dialect: Dialect,
        policy: &IdentityPolicy,
        is_trusted: bool,
        secret: &str,
    ) -> Self {
        let hash_key = hmac_sha256::hash_key(secret);
        let hash = |text: &String| hash_key.keyed_hash(CREDENTIAL, text.as_bytes());
        let companion_hash = |text: &String| hash_key.keyed_hash(COMPANION, text.as_bytes());
        let principal = find_principal(request, dialect, policy, is_trusted, &hash_key);
        let Principal { account, tenant, claimed_by, credential, credential_count, .. } = principal;
        let credential = credential
            .map_or(0, |Account { kind, text }| hash(&format!("{}\0{text}", kind.name())));
        let is_claim = account.as_ref().is_some_and(|account| account.kind.is_claim());
        let kind = account.as_ref().map(|account| account.kind);
        let account_id =
            |account: &Account, text: &String| id(secret, MacDomain::Account(account.kind), text);
        // A claim next to another credential may be forged: the origin accepts the request for the
        // other one. Until it has accepted the claim alone, it names no account but its own.
        let is_doubtful = is_claim
            && principal.is_ambiguous
            && !claimed_by.as_ref().is_some_and(|claim| principals::is_proven(hash(claim)));
        let doubtful_claim = claimed_by.as_ref().filter(|_| is_doubtful);
        let own_account = account
            .and_then(|account| account_id(&account, doubtful_claim.unwrap_or(&account.text)));
        let tenant = tenant.filter(|_| !is_doubtful);
        let proof = claimed_by.as_ref().or(own_account.as_ref());
        let proof = proof.map_or(0, hash);
        let known = own_account.as_deref().and_then(principals::named_by_origin);
        let known = known.unwrap_or_default();
        let account = known.account.clone().or_else(|| own_account.clone());
        let tenant = known.tenant.or_else(|| id(secret, MacDomain::Tenant, &tenant?));
        let label = |id: &Option<String>| {
            id.as_deref().filter(|_| policy.labels).and_then(principals::label)
        };
        let peer = if is_trusted && policy.hides_clients() {
            let header = policy.client_address.as_ref();
            let address = header.and_then(|header| request.header(header.name()));
            Peer::Gateway { client_address: address.and_then(valid).map(str::to_owned) }
        } else {
            Peer::Client
        };
        Self {
            kind: known.account.as_ref().map(|_| AccountKind::Origin).or(kind),
            account_label: label(&account),
            tenant_label: label(&tenant),
            account,
            tenant,
            credential,
            credential_count,
            is_credential_malformed: principal.is_malformed,
            presented: principal.presented.as_ref().map_or(0, hash),
            alternatives: principal.alternatives.iter().map(hash).collect(),
            companions: principal.companions.iter().map(companion_hash).collect(),
            is_doubtful,
            own_account,
            is_claim,
            proof,
            peer,
        }
    }

    /// Adds the sender to the core's view of a request.
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

    /// Returns whether the origin has answered this credential with success before.
    pub fn is_proven(&self) -> bool {
        principals::is_proven(self.proof)
    }

    /// Remembers the names that the origin gave the sender in its answer. `accepts` is whether the
    /// status of the answer accepts the credential.
    pub fn learn(&self, names: &OriginNames, accepts: bool, policy: &IdentityPolicy) {
        if accepts && self.presented != 0 {
            match self.credential_count {
                1 => principals::remember_alone(self.presented),
                // Of two credentials, the origin has accepted one. Of three or more, any two may be
                // forged.
                2 => {
                    principals::remember_companion(self.presented, &self.alternatives);
                    principals::remember_companion(self.presented, &self.companions);
                }
                _ => {}
            }
        }
        if let (Some(account), false) = (&self.own_account, names.is_empty()) {
            // The embedded rules do not say whether the deployment wants labels: a report by them
            // would delete the labels of all.
            let is_accepted = (accepts || self.is_proven()) && active_rules::has_settled();
            principals::remember_names(account, names, is_accepted, policy.labels);
        }
    }

    /// Gives an observation to the account and the tenant that the origin named in its answer. An
    /// account that the request only claims gets it if the origin has confirmed the claim.
    pub fn own(&self, observation: &mut Observation, names: &OriginNames, key: &HashKey) {
        // The origin may have read another credential than the one that counts. A client may send a
        // junk credential that changes with each request before its real key: the junk must not
        // become proven accounts.
        observation.proven &= !principals::come_with_others(&self.alternatives, self.presented);
        // This applies to a claim before a credential in another place, too. Tokens that change
        // before one key do not count. A token before junk that changes counts as one account.
        let is_before_others = !self.alternatives.is_empty() || !self.companions.is_empty();
        if self.is_doubtful {
            observation.proven &= is_before_others;
            observation.proven &= !principals::come_with_others(&self.companions, self.presented);
        }
        // Of three credentials, two may be forged, and `learn` remembers nothing about them.
        observation.proven &= !is_before_others || self.credential_count <= 2;
        let is_confirmed = observation.proven && !self.is_doubtful;
        if is_confirmed {
            principals::remember_proof(self.proof);
        }
        if let Some(account) = &names.account {
            observation
                .set_account(key.keyed_hash(FieldId::Account.spec().name, account.as_bytes()));
        } else if self.is_claim && !is_confirmed && !self.is_doubtful {
            // A doubtful claim has an account of its own already.
            observation.disown(key);
        }
        if let Some(tenant) = &names.tenant {
            observation.tenant = key.hash_tenant(tenant);
        }
    }
}

/// Finds the principal of a request. Its headers are hostile input: if reading them panics, the
/// request has no account.
fn find_principal(
    request: &ClientRequest,
    dialect: Dialect,
    policy: &IdentityPolicy,
    is_trusted: bool,
    key: &HashKey,
) -> Principal {
    let presented = request.presented(dialect, is_trusted);
    let is_established = |credential: &str| {
        principals::is_established(key.keyed_hash(CREDENTIAL, credential.as_bytes()))
    };
    let find = || Principal::find_known(&presented, policy, &is_established);
    catch_panic(find).unwrap_or_else(|| {
        telemetry::count_error("identity: reading a credential panicked");
        Principal::default()
    })
}

/// Returns the ids of the names that the origin's answer has: those of its headers, if the policy
/// reads them.
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

/// Returns the id of an account that the origin or the operator names.
pub fn origin_account_id(secret: &str, name: &str) -> Option<String> {
    id(secret, MacDomain::Account(AccountKind::Origin), name)
}

/// Returns the id of a tenant.
pub fn tenant_id(secret: &str, name: &str) -> Option<String> {
    id(secret, MacDomain::Tenant, name)
}

/// Returns whether a gateway sent a request, so that its identity headers are believed.
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

/// Returns the names of headers that the origin must not see: the one with the shared secret, and
/// identity headers that are not the gateway's, if the policy removes them.
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

/// Returns the prop `hedgerow` of the service binding that called the Worker. Only the
/// configuration of the calling Worker can set it.
fn binding_prop(context: &Context) -> Option<String> {
    let context: &JsValue = context.as_ref().as_ref();
    let props = Reflect::get(context, &JsValue::from_str("props")).ok()?;
    if !props.is_object() {
        return None;
    }
    Reflect::get(&props, &JsValue::from_str("hedgerow")).ok()?.as_string()
}

/// Returns an id: the first bytes of the HMAC of a text, in hex.
fn id(secret: &str, domain: MacDomain, text: &str) -> Option<String> {
    hmac_sha256::hmac_hex(secret, domain, text.as_bytes(), ACCOUNT_ID_BYTES)
}

/// The response headers in which the origin names account and tenant.
pub const ACCOUNT_HEADER: &str = "x-hedgerow-account";
pub const TENANT_HEADER: &str = "x-hedgerow-tenant";

/// Maximum bytes of a name in such a header.
const MAX_ORIGIN_NAME_BYTES: usize = 256;

/// Domain of the hashes of credentials that the origin has accepted.
const CREDENTIAL: &str = "hedgerow.credential";

/// Domain of the hashes of credentials at places that no API reads as an alternative to the first.
/// If such a credential comes with several others, this does not prove that the origin accepts it.
const COMPANION: &str = "hedgerow.companion";
