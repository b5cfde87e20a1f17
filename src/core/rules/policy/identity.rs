//! The part of the policy that identifies the sender of a request: the sources of account and
//! tenant, and the proof that identity headers come from a gateway.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::identity::access::{is_audience, is_team};
use crate::identity::credential_place::{CredentialPlace, is_header_name};
use crate::identity::source::IdentitySource;

/// The settings that find the account and the tenant of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityPolicy {
    /// Sources of the account, in order. The first source that a request has counts.
    pub account: Vec<IdentitySource>,
    /// Sources of the tenant, the customer that owns accounts. The first source that a request has
    /// counts.
    pub tenant: Vec<IdentitySource>,
    /// Places in which the origin looks for credentials, before the built-in places.
    pub credential: Vec<CredentialPlace>,
    /// Proof that a request comes from a gateway whose headers are trusted.
    pub trusted: Trust,
    /// Treatment of identity headers of requests without that proof.
    pub untrusted: UntrustedHeaders,
    /// Header with the address of the client, set by a trusted gateway.
    pub client_address: Option<AddressHeader>,
    /// Whether the origin may name account and tenant in its response.
    pub origin: bool,
    /// Whether the names of accounts and tenants are stored and shown as labels.
    pub labels: bool,
    /// Statuses of the response that show that the origin has accepted the credential.
    pub proven: Vec<StatusPattern>,
}

/// The proof that a gateway sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Trust {
    /// No request counts as sent by a gateway.
    #[default]
    None,
    /// The header with this name has the value of the Worker's secret IDENTITY_SECRET.
    Header(String),
    /// A service binding called the Worker, and the props of the binding contain
    /// `hedgerow = "identity"`.
    Binding,
    /// The client certificate has this SHA-256 fingerprint, as 64 hex digits in lower case.
    Mtls(String),
    /// Cloudflare Access has checked the request: its assertion for this application is valid.
    Access {
        /// Name of the team: the first label of `<team>.cloudflareaccess.com`.
        team: String,
        /// Audience tag of the application, as 64 hex digits in lower case.
        audience: String,
    },
    /// Every request is from a gateway, because nobody else can reach the Worker.
    All,
}

/// The treatment of identity headers of requests that are not from a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UntrustedHeaders {
    /// Forward the headers to the origin.
    #[default]
    Pass,
    /// Remove the headers.
    Strip,
}

/// A header with one address, written `header:x-real-ip`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressHeader(String);

/// A status such as `200`, or a class of statuses such as `2xx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StatusPattern {
    /// One status.
    Status(u16),
    /// All statuses with this first digit.
    Class(u16),
}

impl IdentityPolicy {
    /// Returns whether the origin accepted the credential, by the status of its response.
    pub fn accepts_credential(&self, status: u16) -> bool {
        self.proven.iter().any(|pattern| match pattern {
            StatusPattern::Status(expected) => *expected == status,
            StatusPattern::Class(digit) => status / 100 == *digit,
        })
    }

    /// Returns the names of the headers that only a gateway may set.
    pub fn gateway_headers(&self) -> impl Iterator<Item = &str> {
        let sources = self.account.iter().chain(&self.tenant);
        let headers = sources.filter_map(|source| match source {
            IdentitySource::Header(name) => Some(name.as_str()),
            _ => None,
        });
        headers.chain(self.client_address.as_ref().map(AddressHeader::name))
    }

    /// Returns the name of the header with the shared secret, which the origin must not see; `None`
    /// if the proof is not such a header.
    pub fn secret_header(&self) -> Option<&str> {
        match &self.trusted {
            Trust::Header(name) => Some(name),
            _ => None,
        }
    }

    /// Returns whether the client address of a request from the gateway is not the address of the
    /// connection. The connection has the address of the gateway, so all clients of the gateway
    /// would count as one network. A service binding keeps the address of the client, so only
    /// `client_address` replaces it.
    pub fn replaces_client_address(&self) -> bool {
        match self.trusted {
            Trust::None | Trust::Binding => self.client_address.is_some(),
            Trust::Header(_) | Trust::Mtls(_) | Trust::Access { .. } | Trust::All => true,
        }
    }

    /// Returns whether the addresses of the gateway's clients are unknown.
    pub fn lacks_client_addresses(&self) -> bool {
        self.replaces_client_address() && self.client_address.is_none()
    }

    /// Checks that accounts have a source, that headers are trusted only with a proof, and that no
    /// list is too long.
    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.account.is_empty() {
            return Err(Error::new("the policy's 'identity.account' is empty", ACCOUNT_REMEDY));
        }
        let sources = self.account.len().max(self.tenant.len()).max(self.credential.len());
        if sources > MAX_SOURCES || self.proven.len() > MAX_SOURCES {
            let problem = format!("a list of the policy's 'identity' has more than {MAX_SOURCES}");
            return Err(Error::new(problem, "remove some"));
        }
        if self.trusted == Trust::None
            && let Some(name) = self.gateway_headers().next()
        {
            let problem =
                format!("the policy's 'identity' uses the header '{name}', but nothing proves it");
            return Err(Error::new(problem, TRUST_REMEDY));
        }
        Ok(())
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The remedy for a policy without sources of accounts.
pub const ACCOUNT_REMEDY: &str = "use [\"credential\"], or remove the setting";

/// The remedy for headers that anybody can set.
pub const TRUST_REMEDY: &str =
    "set 'trusted' in [identity] to the proof of your gateway, such as \"header:x-gateway-secret\"";

/// Maximum number of entries of each list in `identity`.
const MAX_SOURCES: usize = 16;

impl Default for IdentityPolicy {
    fn default() -> Self {
        Self {
            account: vec![IdentitySource::Credential, IdentitySource::MtlsFingerprint],
            tenant: Vec::new(),
            credential: Vec::new(),
            trusted: Trust::None,
            untrusted: UntrustedHeaders::Pass,
            client_address: None,
            origin: true,
            labels: false,
            proven: vec![StatusPattern::Class(2)],
        }
    }
}

impl AddressHeader {
    /// Returns the name of the header, in lower case.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Trust {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.split_once(':').unwrap_or((&text, "")) {
            ("none", "") => Ok(Self::None),
            ("binding", "") => Ok(Self::Binding),
            ("all", "") => Ok(Self::All),
            ("header", name) if is_header_name(name) => Ok(Self::Header(name.to_owned())),
            ("access", application)
                if let Some((team, audience)) = application.split_once('/')
                    && is_team(team)
                    && is_audience(audience) =>
            {
                Ok(Self::Access { team: team.to_owned(), audience: audience.to_owned() })
            }
            ("mtls", hash) if hash.len() == 64 && hash.bytes().all(is_hex) => {
                Ok(Self::Mtls(hash.to_owned()))
            }
            _ => Err(format!(
                "'{text}' is not a proof: expected \"none\", \"header:NAME\" in lower case, \
                 \"binding\", \"mtls:SHA256\" with 64 digits 0-9 and a-f, \"access:TEAM/AUD\" with \
                 the team's name and the application's audience tag, or \"all\""
            )),
        }
    }
}

impl From<Trust> for String {
    fn from(trust: Trust) -> Self {
        match trust {
            Trust::None => "none".to_owned(),
            Trust::Header(name) => format!("header:{name}"),
            Trust::Binding => "binding".to_owned(),
            Trust::Mtls(hash) => format!("mtls:{hash}"),
            Trust::Access { team, audience } => format!("access:{team}/{audience}"),
            Trust::All => "all".to_owned(),
        }
    }
}

impl TryFrom<String> for AddressHeader {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("header", "x-forwarded-for" | "forwarded")) => Err(format!(
                "'{text}' is a list that clients can begin: expected a header with one address, \
                 such as \"header:x-real-ip\""
            )),
            Some(("header", name)) if is_header_name(name) => Ok(Self(name.to_owned())),
            _ => Err(format!(
                "'{text}' is not a header with an address: expected \"header:NAME\" in lower case"
            )),
        }
    }
}

impl From<AddressHeader> for String {
    fn from(AddressHeader(name): AddressHeader) -> Self {
        format!("header:{name}")
    }
}

impl TryFrom<String> for StatusPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
        let class = class.filter(|digit| (1..=5).contains(digit)).map(Self::Class);
        let status = text.parse().ok().filter(|status| (100..=599).contains(status));
        class.or(status.map(Self::Status)).ok_or_else(|| {
            format!("'{text}' is not a status: expected a number such as \"200\", or \"2xx\"")
        })
    }
}

impl From<StatusPattern> for String {
    fn from(pattern: StatusPattern) -> Self {
        match pattern {
            StatusPattern::Status(status) => status.to_string(),
            StatusPattern::Class(digit) => format!("{digit}xx"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_parsed_and_written() {
        let hash = "0f".repeat(32);
        let setting = json!({
            "account": ["jwt:sub", "header:x-customer-id", "credential"],
            "tenant": ["header:x-org-id", "jwt:org_id"],
            "credential": ["header:x-company-key", "query:token"],
            "trusted": format!("mtls:{hash}"),
            "untrusted": "strip",
            "client_address": "header:x-real-ip",
            "origin": false,
            "labels": true,
            "proven": ["2xx", "429"],
        });
        let policy: IdentityPolicy = serde_json::from_value(setting.clone()).unwrap();
        assert_eq!(serde_json::to_value(&policy).unwrap(), setting);
        policy.validate().unwrap();
        let headers: Vec<&str> = policy.gateway_headers().collect();
        assert_eq!(headers, ["x-customer-id", "x-org-id", "x-real-ip"]);
        assert_eq!(
            [200, 204, 301, 429, 401].map(|status| policy.accepts_credential(status)),
            [true, true, false, true, false]
        );
    }

    #[test]
    fn clients_of_a_gateway_have_its_address_unless_a_header_names_theirs() {
        let hash = "0f".repeat(32);
        // Each row: `trusted`, whether `client_address` is set, whether the gateway hides the
        // clients, and whether their addresses are unknown.
        let rows = [
            ("none".to_owned(), false, false, false),
            ("binding".to_owned(), false, false, false),
            ("binding".to_owned(), true, true, false),
            ("header:x-gateway".to_owned(), false, true, true),
            ("header:x-gateway".to_owned(), true, true, false),
            (format!("mtls:{hash}"), false, true, true),
            (format!("access:acme/{hash}"), false, true, true),
            ("all".to_owned(), false, true, true),
        ];
        for (trusted, has_header, hides, lacks) in rows {
            let name = format!("{trusted} {has_header}");
            let header = has_header.then_some("header:x-real-ip");
            let setting = json!({"trusted": trusted, "client_address": header});
            let policy: IdentityPolicy = serde_json::from_value(setting).unwrap();
            let found = (policy.replaces_client_address(), policy.lacks_client_addresses());
            assert_eq!(found, (hides, lacks), "{name}");
        }
    }

    #[test]
    fn invalid_settings_are_rejected() {
        let rows = [
            json!({"trusted": "header:X-Secret"}),
            json!({"trusted": "mtls:00"}),
            json!({"trusted": "access"}),
            json!({"trusted": "access:acme/00"}),
            json!({"trusted": format!("access:evil.example/{}", "0".repeat(64))}),
            json!({"client_address": "header:x-forwarded-for"}),
            json!({"client_address": "x-real-ip"}),
            json!({"proven": ["6xx"]}),
            json!({"proven": ["ok"]}),
            json!({"untrusted": "refuse"}),
            json!({"account": ["query:key"]}),
            json!({"credential": ["cookie:a"]}),
            json!({"tenants": []}),
        ];
        for setting in rows {
            assert!(
                serde_json::from_value::<IdentityPolicy>(setting.clone()).is_err(),
                "{setting}"
            );
        }
        let rows = [
            json!({"account": []}),
            json!({"account": ["header:x-a"]}),
            json!({"tenant": ["header:x-a"]}),
            json!({"client_address": "header:x-a"}),
            json!({"tenant": vec!["jwt:a"; 17]}),
        ];
        for setting in rows {
            let policy: IdentityPolicy = serde_json::from_value(setting.clone()).unwrap();
            assert!(policy.validate().is_err(), "{setting}");
        }
    }
}
