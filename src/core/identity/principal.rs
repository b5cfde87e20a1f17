//! The principal of a request: its account and its tenant.

use super::credential::{Credential, account_of_claim, find_credentials, join};
use super::kind::AccountKind;
use super::source::IdentitySource;
use crate::http::route::Dialect;
use crate::rules::policy::IdentityPolicy;

/// The parts of a request that may identify its sender.
#[derive(Clone, Copy, Debug)]
pub struct SenderEvidence<'a> {
    /// Header names in lower case with their values.
    pub headers: &'a [(String, String)],
    /// Path without the query.
    pub path: &'a str,
    /// Query as sent, without the question mark.
    pub query: &'a str,
    /// Dialect of the route, which decides which credential counts.
    pub dialect: Dialect,
    /// The client certificate, if the platform has verified one.
    pub certificate: Option<ClientCertificate<'a>>,
    /// Whether a gateway sent the request, so that its headers are trusted.
    pub is_trusted: bool,
}

/// A client certificate that the platform has verified.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    /// SHA-256 of the certificate, in hex.
    pub fingerprint: &'a str,
    /// Distinguished name of the issuer.
    pub issuer: &'a str,
    /// Distinguished name of the subject.
    pub subject: &'a str,
}

/// The principal of a request. Its texts are hashed before they are stored or logged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The account; `None` if the request does not identify its sender.
    pub account: Option<Account>,
    /// The text that names the tenant, if it is known.
    pub tenant: Option<String>,
    /// The credential that counts, without its scheme, if the account is only a claim (see
    /// [`AccountKind::is_claim`]).
    pub claimed_by: Option<String>,
    /// The account of the credential that counts, regardless of the sources in the policy; `None`
    /// without a valid credential. The account stays the same when a token is replaced.
    pub credential: Option<Account>,
    /// The credential that counts, without its scheme.
    pub credential_text: Option<String>,
    /// Whether the request has another credential, and it is not known which one the origin reads.
    /// If so, an answer of the origin proves nothing about a claim.
    pub is_ambiguous: bool,
    /// Credentials that the origin may read instead, from places that are alternatives to each
    /// other.
    pub alternatives: Vec<String>,
    /// The other credentials of an ambiguous request, from places that no API reads instead of the
    /// place of the credential that counts.
    pub unrelated_credentials: Vec<String>,
    /// Number of different credentials in the request.
    pub credential_count: u32,
    /// Whether the credential that counts has control bytes, so that the request has no account.
    pub is_malformed: bool,
}

/// An account, by its kind and a text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// Kind of the source that identified the account.
    pub kind: AccountKind,
    /// The text that names the account among those of its kind.
    pub text: String,
}

impl Principal {
    /// Identifies the sender of a request, without knowledge of earlier requests.
    pub fn find(evidence: &SenderEvidence<'_>, policy: &IdentityPolicy) -> Self {
        Self::find_known(evidence, policy, &|_| false)
    }

    /// Identifies the sender of a request, in time linear in the size of its headers and its query.
    /// `is_accepted_by_origin` returns whether the origin is known to accept a credential, given
    /// without its scheme. An accepted credential counts before other credentials of the request.
    pub fn find_known(
        evidence: &SenderEvidence<'_>,
        policy: &IdentityPolicy,
        is_accepted_by_origin: &dyn Fn(&str) -> bool,
    ) -> Self {
        let SenderEvidence { headers, path, query, dialect, .. } = *evidence;
        let call = (dialect, path);
        let credentials =
            find_credentials(headers, query, call, &policy.credential, is_accepted_by_origin);
        let credential = credentials.first.as_ref();
        let named = |source: &IdentitySource| evidence.named_by(source, credential);
        // If the credential is malformed, the later sources do not count either. Otherwise, a
        // client could choose another account by sending a malformed credential.
        let account = policy
            .account
            .iter()
            .take_while(|source| {
                **source != IdentitySource::Credential || !credentials.is_malformed
            })
            .find_map(named);
        let tenant = policy.tenant.iter().find_map(named).map(|account| name_of(account.text));
        let is_claimed = account.as_ref().is_some_and(|account| account.kind.is_claim());
        Self {
            is_malformed: credentials.is_malformed && account.is_none(),
            account,
            tenant,
            credential_count: credentials.count,
            credential: credentials
                .first
                .as_ref()
                .map(|first| Account { kind: first.kind, text: first.account.clone() }),
            credential_text: credentials.first.as_ref().map(|first| first.credential_text.clone()),
            is_ambiguous: credentials.is_ambiguous,
            alternatives: credentials.alternatives,
            unrelated_credentials: credentials.unrelated_credentials,
            claimed_by: credentials.first.map(|first| first.credential_text).filter(|_| is_claimed),
        }
    }
}

impl SenderEvidence<'_> {
    /// Returns the account that a source names; `None` if the request does not have the source, or
    /// if the value is not valid or not trusted.
    fn named_by(
        &self,
        source: &IdentitySource,
        credential: Option<&Credential>,
    ) -> Option<Account> {
        let (kind, text) = match source {
            IdentitySource::Credential => {
                let credential = credential?;
                (credential.kind, credential.account.clone())
            }
            IdentitySource::Jwt(claim) => {
                (AccountKind::Jwt, account_of_claim(credential?.claims.as_ref()?, claim)?)
            }
            IdentitySource::AwsAccessKey => of_kind(credential?, AccountKind::Aws)?,
            IdentitySource::BasicUser => of_kind(credential?, AccountKind::Basic)?,
            IdentitySource::Header(name) => {
                let value = self.header(name).filter(|_| self.is_trusted)?;
                (AccountKind::Header, join(&[name, value]))
            }
            IdentitySource::Cookie(name) => {
                (AccountKind::Cookie, join(&[name, self.cookie(name)?]))
            }
            IdentitySource::MtlsFingerprint => {
                (AccountKind::Mtls, valid(self.certificate?.fingerprint)?.to_ascii_lowercase())
            }
            IdentitySource::MtlsSubject => {
                let certificate = self.certificate?;
                let subject = valid(certificate.subject)?;
                (AccountKind::Mtls, join(&[certificate.issuer, subject]))
            }
        };
        Some(Account { kind, text })
    }

    /// Returns the value of a header, if the value is a [`valid`] name.
    fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(header_name, _)| header_name == name);
        header.and_then(|(_, value)| valid(value))
    }

    /// Returns the value of a cookie, if the value is a [`valid`] name.
    fn cookie(&self, name: &str) -> Option<&str> {
        let cookies = self.headers.iter().filter(|(header_name, _)| header_name == "cookie");
        let mut pairs = cookies.flat_map(|(_, value)| value.split(';'));
        let value = pairs.find_map(|pair| {
            let (cookie_name, value) = pair.split_once('=')?;
            (cookie_name.trim() == name).then_some(value)
        });
        value.and_then(valid)
    }
}

/// Returns the name without its source: the text after the last NUL byte. A tenant has the same
/// name in a header, in a token and in the origin's answer.
fn name_of(text: String) -> String {
    text.rsplit('\0').next().map(str::to_owned).unwrap_or(text)
}

/// Returns the kind and the text of a credential; `None` if its kind is not `kind`.
fn of_kind(credential: &Credential, kind: AccountKind) -> Option<(AccountKind, String)> {
    (credential.kind == kind).then(|| (kind, credential.account.clone()))
}

/// Returns a text without white space around it, if it is a valid name. Returns `None` if it is
/// empty, too long or has control bytes.
pub fn valid(text: &str) -> Option<&str> {
    let text = text.trim();
    let is_valid = !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && !text.bytes().any(|byte| byte.is_ascii_control());
    is_valid.then_some(text)
}

/// Bytes of the hash that form an account id: 128 bits make a collision negligible.
pub const ACCOUNT_ID_BYTES: usize = 16;

/// Maximum bytes of a name in a header, a cookie or a certificate. The limit is high because a
/// session cookie is longer than the name of a customer.
const MAX_NAME_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn jwt(payload: &str) -> String {
        let [header, payload] =
            [r#"{"alg":"RS256"}"#, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("Bearer {header}.{payload}.c2ln")
    }

    fn policy(account: &[&str], tenant: &[&str]) -> IdentityPolicy {
        let sources = |texts: &[&str]| {
            texts.iter().map(|text| IdentitySource::try_from((*text).to_owned()).unwrap()).collect()
        };
        IdentityPolicy {
            account: sources(account),
            tenant: sources(tenant),
            ..IdentityPolicy::default()
        }
    }

    /// Finds the principal of a chat request; `is_trusted` is whether a gateway sent it.
    fn find(headers: &[(&str, &str)], policy: &IdentityPolicy, is_trusted: bool) -> Principal {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let evidence = SenderEvidence {
            headers: &headers,
            path: "/v1/chat/completions",
            query: "",
            dialect: Dialect::Openai,
            certificate: Some(ClientCertificate { fingerprint: "AB", issuer: "ca", subject: "s" }),
            is_trusted,
        };
        Principal::find(&evidence, policy)
    }

    #[test]
    fn the_first_source_that_a_request_has_counts() {
        let token = jwt(r#"{"iss":"i","sub":"s","org":"o"}"#);
        let bearer = ("authorization", token.as_str());
        let key = ("authorization", "Bearer sk-1");
        let gateway = ("x-customer", " acme ");
        let cookie = ("cookie", "a=b; sid=c1; sid=c2");
        let rows: [(&str, &[&str], &[(&str, &str)], Option<(&str, &str)>); 11] = [
            ("default", &["credential"], &[bearer], Some(("jwt", "i\0sub\0s"))),
            ("a claim", &["jwt:org", "credential"], &[bearer], Some(("jwt", "i\0org\0o"))),
            ("no token", &["jwt:org", "credential"], &[key], Some(("key", "sk-1"))),
            ("no claim", &["jwt:x"], &[bearer], None),
            (
                "a header",
                &["header:x-customer"],
                &[key, gateway],
                Some(("header", "x-customer\0acme")),
            ),
            ("no header", &["header:x-customer"], &[key], None),
            ("a cookie", &["cookie:sid"], &[cookie], Some(("cookie", "sid\0c1"))),
            ("another cookie", &["cookie:id"], &[cookie], None),
            ("a certificate", &["credential", "mtls:fingerprint"], &[], Some(("mtls", "ab"))),
            ("a subject", &["mtls:subject"], &[key], Some(("mtls", "ca\0s"))),
            ("other kinds", &["aws:access-key", "basic:user"], &[key], None),
        ];
        for (name, sources, headers, expected) in rows {
            let principal = find(headers, &policy(sources, &[]), true);
            let account = principal.account.as_ref();
            let account = account.map(|account| (account.kind.name(), account.text.as_str()));
            assert_eq!(account, expected, "{name}");
        }
    }

    #[test]
    fn gateway_headers_are_believed_only_with_a_proof() {
        let policy = policy(&["header:x-customer", "credential"], &["header:x-org", "jwt:org"]);
        let token = jwt(r#"{"sub":"s","org":"token"}"#);
        let headers =
            [("authorization", token.as_str()), ("x-customer", "acme"), ("x-org", "gateway")];
        let trusted = find(&headers, &policy, true);
        let untrusted = find(&headers, &policy, false);
        let kind = |principal: &Principal| principal.account.as_ref().unwrap().kind;
        assert_eq!((kind(&trusted), kind(&untrusted)), (AccountKind::Header, AccountKind::Jwt));
        assert_eq!(trusted.tenant.as_deref(), Some("gateway"));
        assert_eq!(untrusted.tenant.as_deref(), Some("token"));
        assert!(trusted.claimed_by.is_none() && untrusted.claimed_by.is_some());
    }

    #[test]
    fn a_malformed_credential_leaves_the_request_without_account() {
        let broken = [("authorization", "Bearer sk-1\u{1}")];
        let principal = find(&broken, &IdentityPolicy::default(), false);
        assert!(principal.account.is_none() && principal.is_malformed);
        let cookie = [("authorization", "Bearer sk-1\u{1}"), ("cookie", "sid=c")];
        let principal = find(&cookie, &policy(&["cookie:sid", "credential"], &[]), false);
        assert!(principal.account.is_some() && !principal.is_malformed);
    }
}
