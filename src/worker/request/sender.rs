//! The sender of a request: the ids of account and tenant, and proofs.

use hedgerow_core::correlate::Observation;
use hedgerow_core::field::FieldId;
use hedgerow_core::http::route::Dialect;
use hedgerow_core::identity::kind::AccountKind;
use hedgerow_core::identity::principal::{ACCOUNT_ID_BYTES, Principal, valid};
use hedgerow_core::keyed_hash::HashKey;
use hedgerow_core::mac_domain::MacDomain;
use hedgerow_core::rules::policy::{IdentityPolicy, Trust, UntrustedHeaders};
use hedgerow_core::{Client, Envelope};
use js_sys::Reflect;
use wasm_bindgen::JsValue;
use web_sys::Headers;
use worker::Context;

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
    /// Whether the address of the client is in a header of the gateway; the address, if it is
    /// valid.
    gateway_address: Option<Option<String>>,
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
        let Principal { account, tenant, claimed_by, credential_count, is_malformed } =
            find_principal(request, dialect, policy, is_trusted);
        let is_claim = account.as_ref().is_some_and(|account| account.kind.is_claim());
        let kind = account.as_ref().map(|account| account.kind);
        let own_account =
            account.and_then(|account| id(secret, MacDomain::Account(account.kind), &account.text));
        let proof = claimed_by.as_ref().or(own_account.as_ref());
        let proof = proof.map_or(0, |text| {
            hmac_sha256::hash_key(secret).keyed_hash(CREDENTIAL, text.as_bytes())
        });
        let known = own_account.as_deref().and_then(principals::named_by_origin);
        let known = known.unwrap_or_default();
        let gateway_address = policy.client_address.as_ref().filter(|_| is_trusted);
        let gateway_address = gateway_address
            .map(|header| request.header(header.name()).and_then(valid).map(str::to_owned));
        Self {
            kind: known.account.as_ref().map(|_| AccountKind::Origin).or(kind),
            account: known.account.or_else(|| own_account.clone()),
            tenant: known.tenant.or_else(|| id(secret, MacDomain::Tenant, &tenant?)),
            credential_count,
            is_credential_malformed: is_malformed,
            own_account,
            is_claim,
            proof,
            gateway_address,
        }
    }

    /// Adds the sender to the core's view of a request.
    pub fn envelope<'e>(&'e self, envelope: Envelope<'e>) -> Envelope<'e> {
        let client = match &self.gateway_address {
            // All other facts are of the gateway.
            Some(address) => Client { address: address.as_deref(), ..Client::default() },
            None => envelope.client,
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

    /// Gives an observation to the account and the tenant that the origin named in its answer. An
    /// account that the request only claims gets it if the origin has confirmed the claim.
    pub fn own(&self, observation: &mut Observation, names: &OriginNames, key: &HashKey) {
        if observation.proven {
            principals::remember_proof(self.proof);
        }
        if let (Some(account), false) = (&self.own_account, names.is_empty()) {
            principals::remember_names(account, names);
        }
        if let Some(account) = &names.account {
            observation
                .set_account(key.keyed_hash(FieldId::Account.spec().name, account.as_bytes()));
        } else if self.is_claim && !observation.proven {
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
) -> Principal {
    let presented = request.presented(dialect, is_trusted);
    catch_panic(|| Principal::find(&presented, policy)).unwrap_or_else(|| {
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
    let account = name(ACCOUNT_HEADER);
    OriginNames {
        account: account
            .and_then(|name| id(secret, MacDomain::Account(AccountKind::Origin), &name)),
        tenant: name(TENANT_HEADER).and_then(|name| id(secret, MacDomain::Tenant, &name)),
    }
}

/// Returns whether a gateway sent a request, so that its identity headers are believed.
pub fn is_trusted(
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
