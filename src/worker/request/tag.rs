//! Tags: headers that show the decision to the origin.
//!
//! `x-hedgerow-mac` is an HMAC over the other tags. While one TAG_SECRET replaces another,
//! `x-hedgerow-mac-next` is an HMAC under the second value, so that each origin can change its
//! secret at any time. docs/origin.md describes how origins verify them. Headers with the prefix
//! `x-hedgerow` that a client sends never reach the origin: `prepare_headers` in `upstream.rs`
//! removes them.
//!
//! In development, the client gets the tags, too. In production, the client gets only the request
//! id, because scores and names of signatures would help a harvester to tune its requests.

use hedgerow_core::Decision;
use web_sys::Headers;

use crate::platform::hmac_sha256;

/// Prefix of all of Hedgerow's headers. After the prefix, the name ends or continues with a hyphen.
const RESERVED_PREFIX: &str = "x-hedgerow";

/// The header with the request id. The origin and the client get it, and the log contains the same
/// id.
pub const REQUEST_ID_HEADER: &str = "x-hedgerow-request-id";

/// The header with the appeal reference of a refusal, which the policy can turn on. The client gets
/// it.
pub const APPEAL_HEADER: &str = "x-hedgerow-appeal";

/// Returns whether only Hedgerow may set a header of this name. Gateways and CGI read
/// `X_Hedgerow.Score` as `X-Hedgerow-Score`, so every punctuation mark counts as a hyphen.
pub fn is_reserved(name: &str) -> bool {
    let mut bytes = name.bytes().map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b'-' });
    let has_prefix = RESERVED_PREFIX
        .bytes()
        .all(|expected| bytes.next().is_some_and(|b| b.eq_ignore_ascii_case(&expected)));
    has_prefix && bytes.next().is_none_or(|byte| byte == b'-')
}

/// The headers with the MACs under the first and the second value of TAG_SECRET.
const MAC_HEADERS: [&str; 2] = ["x-hedgerow-mac", "x-hedgerow-mac-next"];

/// Adds the tags to the headers for the origin, and a MAC for each of at most two secrets.
pub fn add_tags(headers: &Headers, decision: &Decision, request_id: &str, secrets: &[String]) {
    for (name, value) in signed_tags(decision, request_id, secrets) {
        set_header(headers, name, &value);
    }
}

/// Returns the tags with their MACs: HMAC-SHA256 over the tags, in hex.
fn signed_tags(
    decision: &Decision,
    request_id: &str,
    secrets: &[String],
) -> Vec<(&'static str, String)> {
    let mut headers = tags(decision, request_id).to_vec();
    let input = mac_input(&headers);
    for (name, secret) in MAC_HEADERS.into_iter().zip(secrets) {
        let mac = hmac_sha256::hmac_hex_of_single_purpose_key(secret, &input);
        headers.extend(mac.map(|mac| (name, mac)));
    }
    headers
}

/// Adds the decision to the headers for the client: the tags except the request id, and the action.
/// For development only.
pub fn set_debug_headers(headers: &Headers, decision: &Decision) {
    for (name, value) in tags(decision, "").iter().filter(|(name, _)| *name != REQUEST_ID_HEADER) {
        set_header(headers, name, value);
    }
    set_header(headers, "x-hedgerow-action", decision.action.name());
}

/// Sets a header. Errors are ignored: the platform rejects only values with line ends or characters
/// above Latin-1, and Hedgerow does not set such values.
pub fn set_header(headers: &Headers, name: &str, value: &str) {
    let _ = headers.set(name, value);
}

/// Returns the tags in alphabetical order, which is their order in the MAC.
fn tags(decision: &Decision, request_id: &str) -> [(&'static str, String); 5] {
    [
        ("x-hedgerow-band", decision.band.name().to_owned()),
        ("x-hedgerow-hits", decision.hit_names()),
        (REQUEST_ID_HEADER, request_id.to_owned()),
        ("x-hedgerow-ruleset", decision.ruleset.clone()),
        ("x-hedgerow-score", decision.score.to_string()),
    ]
}

/// Returns the input of the MAC: a line `name:value` for each tag.
fn mac_input(tags: &[(&'static str, String)]) -> Vec<u8> {
    let lines = tags.iter().map(|(name, value)| format!("{name}:{value}\n"));
    lines.collect::<String>().into_bytes()
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use hedgerow_core::rules::policy::Band;

    use super::*;

    #[test]
    fn reserved_names_are_recognized_in_every_spelling() {
        let reserved = [
            "x-hedgerow-score",
            "X-HEDGEROW",
            "x_hedgerow_score",
            "x-hedgerow_mac",
            "x.hedgerow.mac",
        ];
        for name in reserved {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["", "x", "x-hedge", "x-hedgerows", "x-hedgerow2-a", "y-hedgerow-score"] {
            assert!(!is_reserved(name), "{name}");
        }
    }

    /// Origins verify the MAC, so its input must not change.
    #[test]
    fn the_mac_covers_lines_in_alphabetical_order() {
        let decision = vectors::decision("abc", Band::Suspect, 50.12, &[]);
        let expected = "x-hedgerow-band:suspect\nx-hedgerow-hits:\nx-hedgerow-request-id:r-1\n\
            x-hedgerow-ruleset:abc\nx-hedgerow-score:50.12\n";
        assert_eq!(String::from_utf8(mac_input(&tags(&decision, "r-1"))).unwrap(), expected);
    }

    #[test]
    fn there_is_a_mac_for_each_of_two_secrets() {
        let decision = vectors::decision("abc", Band::Suspect, 50.12, &[]);
        let secrets = ["a", "b", "c"].map(str::to_owned);
        for count in 0..=3 {
            let headers = signed_tags(&decision, "r-1", secrets.get(..count).unwrap());
            let macs: Vec<_> = headers.iter().skip(5).collect();
            let names: Vec<_> = macs.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, MAC_HEADERS.get(..count.min(2)).unwrap());
            assert!(macs.iter().all(|(_, mac)| mac.len() == 64));
            assert!(names.iter().all(|name| is_reserved(name)));
        }
    }
}
