//! Assertions of Cloudflare Access: tokens with which Access vouches for a request, in the header
//! [`ACCESS_HEADER`]. This module parses the assertions and checks their claims; the platform
//! verifies the signature. Source: Cloudflare's documentation, "Validate JWTs" and "Application
//! token".
//!
//! Only assertions for machines are accepted: those for a service token, or for a client
//! certificate without a user. A person's assertion proves the identity of the person, but nothing
//! about the headers that the person's client sends.

use serde::Deserialize;

use super::claims::decode_part;

/// The header in which Access sends the assertion.
pub const ACCESS_HEADER: &str = "cf-access-jwt-assertion";

/// Maximum bytes of an assertion.
const MAX_ASSERTION_BYTES: usize = 16 << 10;

/// Maximum bytes of the id of a key.
const MAX_KEY_ID_BYTES: usize = 256;

/// Seconds by which clocks may differ.
const CLOCK_SKEW_SECONDS: f64 = 60.0;

/// An assertion whose claims are valid. The signature is not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion<'a> {
    /// Id of the key that made the signature.
    pub key_id: String,
    /// The text that is signed.
    pub signed: &'a str,
    /// The signature: RSASSA-PKCS1-v1_5 with SHA-256.
    pub signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Payload {
    iss: String,
    aud: Audiences,
    exp: f64,
    #[serde(default)]
    nbf: f64,
    /// Id of the user; empty for a service token.
    #[serde(default)]
    sub: String,
    /// Client id of the service token; missing for a user.
    #[serde(default)]
    common_name: String,
    /// Address of the user; missing for a service token.
    #[serde(default)]
    email: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl<'a> Assertion<'a> {
    /// Parses an assertion for the application `audience` of the team `team`. Returns `None` if the
    /// assertion is malformed, belongs to another team or application or to a person, or is not
    /// valid at `now`, in seconds since the epoch.
    pub fn parse(text: &'a str, team: &str, audience: &str, now: u64) -> Option<Self> {
        if text.len() > MAX_ASSERTION_BYTES {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.').filter(|(_, rest)| !rest.contains('.'))?;
        let header: Header = serde_json::from_slice(&decode_part(header)?).ok()?;
        let payload: Payload = serde_json::from_slice(&decode_part(payload)?).ok()?;
        let has_audience = match &payload.aud {
            Audiences::One(one) => one == audience,
            Audiences::Several(several) => several.iter().any(|one| one == audience),
        };
        let is_machine =
            !payload.common_name.is_empty() && payload.sub.is_empty() && payload.email.is_empty();
        let now = now as f64;
        let is_valid = header.alg == "RS256"
            && header.kid.len() <= MAX_KEY_ID_BYTES
            && payload.iss == issuer(team)
            && has_audience
            && is_machine
            && now < payload.exp
            && payload.nbf <= now + CLOCK_SKEW_SECONDS;
        let signature = decode_part(signature)?;
        is_valid.then_some(Self { key_id: header.kid, signed, signature })
    }
}

/// Returns the issuer of a team's assertions.
fn issuer(team: &str) -> String {
    format!("https://{team}.cloudflareaccess.com")
}

/// Returns the URL of a team's public keys, as a set of JSON Web Keys.
pub fn keys_url(team: &str) -> String {
    format!("{}/cdn-cgi/access/certs", issuer(team))
}

/// Returns whether a text is the name of a team: a label of a host name.
pub fn is_team(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Returns whether a text is the audience tag of an application.
pub fn is_audience(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const TEAM: &str = "acme";

    fn assertion(header: &Value, payload: &Value) -> String {
        let [header, payload] =
            [header, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{payload}.c2ln")
    }

    #[test]
    fn only_current_assertions_for_the_application_are_parsed() {
        let audience = "a".repeat(64);
        let header = json!({"alg": "RS256", "kid": "k1"});
        let payload = json!({
            "iss": "https://acme.cloudflareaccess.com", "aud": [audience], "exp": NOW + 1,
            "type": "app", "common_name": "0123abcd.access", "sub": "",
        });
        let with = |member: &str, value: Value| {
            let mut changed = payload.clone();
            changed[member] = value;
            changed
        };
        let unsigned = json!({"alg": "none", "kid": "k1"});
        let symmetric = json!({"alg": "HS256", "kid": "k1"});
        let rows = [
            ("valid", &header, payload.clone(), true),
            ("one audience", &header, with("aud", json!(audience)), true),
            ("a slow clock", &header, with("nbf", json!(NOW + 60)), true),
            ("another algorithm", &symmetric, payload.clone(), false),
            ("unsigned", &unsigned, payload.clone(), false),
            ("no key id", &json!({"alg": "RS256"}), payload.clone(), false),
            ("another team", &header, with("iss", json!("https://b.cloudflareaccess.com")), false),
            ("another application", &header, with("aud", json!(["b".repeat(64)])), false),
            ("no audience", &header, with("aud", json!([])), false),
            ("expired", &header, with("exp", json!(NOW)), false),
            ("not yet valid", &header, with("nbf", json!(NOW + 61)), false),
            ("no end", &header, with("exp", Value::Null), false),
            ("a person", &header, with("sub", json!("7335d417")), false),
            ("an address", &header, with("email", json!("a@example.com")), false),
            ("nobody", &header, with("common_name", json!("")), false),
        ];
        for (name, header, payload, expected) in rows {
            let text = assertion(header, &payload);
            let parsed = Assertion::parse(&text, TEAM, &audience, NOW);
            assert_eq!(parsed.is_some(), expected, "{name}");
        }
        let text = assertion(&header, &payload);
        let parsed = Assertion::parse(&text, TEAM, &audience, NOW).unwrap();
        assert_eq!((parsed.key_id.as_str(), parsed.signature.as_slice()), ("k1", &b"sig"[..]));
        assert_eq!(format!("{}.c2ln", parsed.signed), text);
        let huge = "x".repeat(MAX_ASSERTION_BYTES + 1);
        for hostile in ["", ".", "..", "...", "a.b.c", &format!("{text}.x"), &huge] {
            assert_eq!(Assertion::parse(hostile, TEAM, &audience, NOW), None, "{hostile:.9}");
        }
    }

    #[test]
    fn teams_are_labels_of_host_names() {
        for (text, expected) in [
            ("acme", true),
            ("a-1", true),
            ("", false),
            ("-a", false),
            ("a.b", false),
            ("A", false),
        ] {
            assert_eq!(is_team(text), expected, "{text}");
        }
        assert_eq!(keys_url(TEAM), "https://acme.cloudflareaccess.com/cdn-cgi/access/certs");
    }
}
