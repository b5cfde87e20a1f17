//! Privacy filter: decides which model names of requests may be stored.
//!
//! Clients choose the name. A client with mixed-up settings may send a credential or an address in
//! its place, which must not be stored.

use std::net::IpAddr;

/// Maximum length of a model name, in bytes.
const MAX_MODEL_NAME_BYTES: usize = 48;

/// Minimum number of consecutive letters and digits that make a name look like a credential. Model
/// names have shorter runs.
const MIN_CREDENTIAL_RUN_LEN: usize = 20;

/// Returns the name `model` if it may be stored, otherwise `None`. A name may be stored if it has 1
/// to 48 bytes, consists of ASCII letters, digits and `-._:/@`, and looks like neither a credential
/// nor an address.
pub fn storable_model_name(model: Option<&str>) -> Option<&str> {
    model.filter(|name| has_valid_chars(name) && !is_credential(name) && !is_address(name))
}

fn has_valid_chars(name: &str) -> bool {
    let is_allowed_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/@".contains(&byte);
    (1..=MAX_MODEL_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_allowed_byte)
}

fn is_credential(name: &str) -> bool {
    let mut runs = name.split(|c: char| !c.is_ascii_alphanumeric());
    runs.any(|run| run.len() >= MIN_CREDENTIAL_RUN_LEN) || name.starts_with("sk-")
}

/// Returns whether `name` is an IP or e-mail address. Digits after an `@` are a version, as in
/// `model@20240620`; any other text after an `@` makes the name an address.
fn is_address(name: &str) -> bool {
    let mut bytes_after_at = name.split('@').skip(1).flat_map(str::bytes);
    bytes_after_at.any(|byte| !byte.is_ascii_digit()) || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_addresses_are_not_model_names() {
        for name in [
            "gpt-4.1-mini",
            "claude-3-5-sonnet@20240620",
            "meta-llama/Llama-3.1-8B",
            "ft:gpt-4o:org:x:a1",
            "models/demo.gemini",
        ] {
            assert_eq!(storable_model_name(Some(name)), Some(name));
        }
        let too_long = "model-".repeat(9);
        let rejected = [
            "",
            "sk-live-1",
            "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
            "ana@example.com",
            "203.0.113.7",
            "2001:db8::1",
            "a b",
            "<img>",
            "0123456789abcdef0123",
            &too_long,
        ];
        for name in rejected {
            assert_eq!(storable_model_name(Some(name)), None, "{name}");
        }
    }
}
