//! Sources of account and tenant, as the policy lists them.

use serde::{Deserialize, Serialize};

use super::credential_place::is_header_name;

/// A source of an account or a tenant, written as in the policy: `jwt:sub`, `header:x-customer-id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum IdentitySource {
    /// The credential: the subject of a token, the access key of a signature, the user name of HTTP
    /// Basic, or the key.
    Credential,
    /// A claim of the token that is the credential.
    Jwt(String),
    /// The access key of a signed request.
    AwsAccessKey,
    /// The user name of HTTP Basic.
    BasicUser,
    /// A header that a trusted gateway sets, by its name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The SHA-256 of the client certificate.
    MtlsFingerprint,
    /// Issuer and subject of the client certificate, which a renewed certificate keeps.
    MtlsSubject,
}

/// The valid forms of a source, for error messages.
pub const SOURCE_FORMS: &str = "\"credential\", \"jwt:CLAIM\", \"aws:access-key\", \"basic:user\", \
                                \"header:NAME\", \"cookie:NAME\", \"mtls:fingerprint\" or \
                                \"mtls:subject\"";

impl TryFrom<String> for IdentitySource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or((&text, ""));
        let source = match (kind, name) {
            ("credential", "") => Some(Self::Credential),
            ("aws", "access-key") => Some(Self::AwsAccessKey),
            ("basic", "user") => Some(Self::BasicUser),
            ("mtls", "fingerprint") => Some(Self::MtlsFingerprint),
            ("mtls", "subject") => Some(Self::MtlsSubject),
            ("jwt", claim) if !claim.trim().is_empty() => Some(Self::Jwt(claim.to_owned())),
            ("cookie", name) if is_cookie_name(name) => Some(Self::Cookie(name.to_owned())),
            ("header", name) if is_header_name(name) => Some(Self::Header(name.to_owned())),
            _ => None,
        };
        source.ok_or_else(|| {
            format!(
                "'{text}' is not a source of accounts: expected {SOURCE_FORMS}, headers in lower \
                 case"
            )
        })
    }
}

impl From<IdentitySource> for String {
    fn from(source: IdentitySource) -> Self {
        match source {
            IdentitySource::Credential => "credential".to_owned(),
            IdentitySource::Jwt(claim) => format!("jwt:{claim}"),
            IdentitySource::AwsAccessKey => "aws:access-key".to_owned(),
            IdentitySource::BasicUser => "basic:user".to_owned(),
            IdentitySource::Header(name) => format!("header:{name}"),
            IdentitySource::Cookie(name) => format!("cookie:{name}"),
            IdentitySource::MtlsFingerprint => "mtls:fingerprint".to_owned(),
            IdentitySource::MtlsSubject => "mtls:subject".to_owned(),
        }
    }
}

fn is_cookie_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte);
    !name.is_empty() && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_parsed_and_written() {
        let valid = [
            "credential",
            "jwt:sub",
            "jwt:https://example.com/org_id",
            "aws:access-key",
            "basic:user",
            "header:x-customer-id",
            "cookie:SID",
            "mtls:fingerprint",
            "mtls:subject",
        ];
        for text in valid {
            let source = IdentitySource::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(source), text);
        }
        let invalid = [
            "",
            "credentials",
            "credential:x",
            "jwt",
            "jwt:",
            "aws:secret",
            "basic:password",
            "header:X-Customer-Id",
            "header:a b",
            "header:",
            "cookie:a=b",
            "mtls:",
            "query:key",
        ];
        for text in invalid {
            let problem = IdentitySource::try_from(text.to_owned()).unwrap_err();
            assert!(problem.starts_with(&format!("'{text}' is not a source")), "{problem}");
        }
    }
}
