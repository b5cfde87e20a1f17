//! Recognises credentials in logs, so that they are never written.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Returns the SHA-256 of a text in hex. LiteLLM hashes keys in this way, so the accounts of its
/// logs and of other logs agree.
pub fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Returns whether a text that names an account may be a credential. In doubt it is, because a hash
/// identifies the account as well. A SHA-256 in hex or a UUID is not a credential.
pub fn is_secret(text: &str) -> bool {
    if SECRET_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        return true;
    }
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_sha256 = text.len() == 64 && is_hex(text);
    let is_uuid = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(is_hex);
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    let is_name = text.contains(['@', ' ', ':']);
    text.len() >= 20 && has_digit && has_letter && !is_sha256 && !is_uuid && !is_name
}

/// Returns whether the value of a header may be a credential. `name` is in lower case.
pub fn is_credential_header(name: &str) -> bool {
    CREDENTIAL_WORDS.iter().any(|word| name.contains(word))
}

/// Replaces credentials in a body: texts in members such as `api_key`, and values of headers that a
/// tool or the SDK sends.
pub fn remove_credentials(body: &mut Value) {
    match body {
        Value::Array(elements) => elements.iter_mut().for_each(remove_credentials),
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.to_ascii_lowercase().replace(['_', '-'], "");
                match value {
                    Value::String(text) if CREDENTIAL_MEMBERS.contains(&name.as_str()) => {
                        *text = "removed".to_owned()
                    }
                    Value::Object(headers) if name == "headers" || name == "extraheaders" => {
                        remove_header_values(headers.values_mut())
                    }
                    value => remove_credentials(value),
                }
            }
        }
        _ => {}
    }
}

/// Replaces the values of headers. Other values than text, as in a JSON schema, stay.
fn remove_header_values<'v>(values: impl Iterator<Item = &'v mut Value>) {
    for value in values {
        match value {
            Value::String(text) => *text = "removed".to_owned(),
            value => remove_credentials(value),
        }
    }
}

/// First characters of credentials: of model APIs, of schemes, of JSON Web Tokens and of clouds.
const SECRET_PREFIXES: [&str; 12] = [
    "sk-", "sk_", "Bearer ", "Basic ", "AIza", "AKIA", "eyJ", "gsk_", "hf_", "pplx-", "r8_", "xai-",
];

/// Parts of the names of headers with credentials.
const CREDENTIAL_WORDS: [&str; 11] = [
    "authorization",
    "x-auth",
    "key",
    "token",
    "secret",
    "cookie",
    "password",
    "credential",
    "assertion",
    "signature",
    "session",
];

/// Names of members of a body with credentials, without `_` and `-`.
const CREDENTIAL_MEMBERS: [&str; 12] = [
    "apikey",
    "authorization",
    "authtoken",
    "accesstoken",
    "password",
    "clientsecret",
    "awsaccesskeyid",
    "awssecretaccesskey",
    "awssessiontoken",
    "azureadtoken",
    "vertexcredentials",
    "userapikey",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_that_may_be_credentials_are_recognised() {
        let hash = "a".repeat(63) + "1";
        let rows = [
            ("sk-1", true),
            ("Bearer x", true),
            ("0123456789abcdef0123456789abcdef", true),
            ("Zk3vQ9xT2mW8pL5rN7bY", true),
            (hash.as_str(), false),
            ("0d9a5c1e-3b7f-4a6e-9c2d-8f1e0b4a7d6c", false),
            ("team-shop", false),
            ("somebody.with.a.long.name1@example.org", false),
        ];
        for (text, expected) in rows {
            assert_eq!(is_secret(text), expected, "{text}");
        }
    }

    #[test]
    fn credentials_in_a_body_are_replaced_and_schemas_stay() {
        let schema = json!({ "properties": { "api_key": { "type": "string" }, "headers": {} } });
        let mut body = json!({
            "api_key": "sk-1", "extra_headers": { "Authorization": "Bearer sk-2" },
            "max_tokens": 7, "messages": [{ "role": "user", "content": "hello" }],
            "tools": [{ "headers": { "x": "sk-3" }, "authorization": "sk-4", "schema": schema }],
        });
        remove_credentials(&mut body);
        assert!(!body.to_string().contains("sk-"), "{body}");
        assert_eq!(body["tools"][0]["schema"], schema);
        assert_eq!(
            (&body["max_tokens"], &body["messages"][0]["content"]),
            (&json!(7), &json!("hello"))
        );
    }
}
