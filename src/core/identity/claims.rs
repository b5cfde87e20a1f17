//! The claims of a JSON Web Token, read without verification and within limits.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

/// The claims of a token.
#[derive(Clone, PartialEq)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// Reads the claims of a signed or unsigned token. Returns `None` if `token` is not a token, is
    /// encrypted, or is larger than [`MAX_TOKEN_BYTES`].
    pub(super) fn of_token(token: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut parts = token.split('.');
        let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !read_object(header)?.contains_key("alg") {
            return None;
        }
        read_object(payload).map(Self)
    }

    /// Returns a claim that is an integer, or a string that can be a name: not blank, at most
    /// [`MAX_CLAIM_BYTES`] long, and without control characters. Returns `None` for any other
    /// claim.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = match self.0.get(name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) if !number.is_f64() => number.to_string(),
            _ => return None,
        };
        let is_valid = !text.trim().is_empty()
            && text.len() <= MAX_CLAIM_BYTES
            && !text.chars().any(char::is_control);
        is_valid.then_some(text)
    }

    /// Returns the issuer; empty if the token names none.
    pub(super) fn issuer(&self) -> String {
        self.text("iss").unwrap_or_default()
    }
}

/// Decodes a part of a token into a JSON object; `None` if the part is not one. The parser refuses
/// nesting beyond 128 levels.
fn read_object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&decode_part(part)?).ok()
}

/// Decodes a part of a token from base64url; `None` if the part is malformed.
pub(super) fn decode_part(part: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(part).ok()
}

/// Maximum bytes of a token that is read. Tokens of identity providers are shorter than the limits
/// of headers, which are 8 or 16 KiB in most servers.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// Maximum bytes of a claim that names an account.
const MAX_CLAIM_BYTES: usize = 512;

/// Decodes base64url with or without padding, because some clients keep the padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let [header, payload] = [header, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{payload}.c2ln")
    }

    #[test]
    fn claims_of_tokens_are_read() {
        let claims = Claims::of_token(&token(
            r#"{"alg":"RS256"}"#,
            r#"{"iss":"i","sub":7,"a":"","b":" ","c":"x\u0000","d":["x"],"e":1.5,"f":null}"#,
        ));
        let claims = claims.unwrap();
        assert_eq!((claims.issuer().as_str(), claims.text("sub").as_deref()), ("i", Some("7")));
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            assert_eq!(claims.text(name), None, "{name}");
        }
    }

    #[test]
    fn hostile_tokens_have_no_claims() {
        let header = r#"{"alg":"none"}"#;
        let deep = format!(r#"{{"sub":"x","d":{}1{}}}"#, "[".repeat(4_000), "]".repeat(4_000));
        let rows = [
            ("deep nesting", token(header, &deep)),
            ("huge", token(header, &format!(r#"{{"sub":"{}"}}"#, "x".repeat(MAX_TOKEN_BYTES)))),
            ("no algorithm", token("{}", r#"{"sub":"x"}"#)),
            ("an array", token(header, r#"["sub"]"#)),
            ("not JSON", token(header, "sub=x")),
            ("not base64", "eyJhbGciOiJub25lIn0.e!yJ9.c2ln".to_owned()),
            ("two parts", token(header, "{}").trim_end_matches(".c2ln").to_owned()),
            ("encrypted", format!("{}.e.f", token(header, "{}"))),
            ("dots", "..".to_owned()),
            ("empty", String::new()),
        ];
        for (name, token) in rows {
            assert!(Claims::of_token(&token).is_none(), "{name}");
        }
    }
}
