//! Headers that Hedgerow sets on every request to the origin: the origin's secret, and, if the
//! policy sets `forwarded` in `[origin]`, the headers that describe the client.
//!
//! The values of the latter come from the platform: the address of the connection, or the address
//! that a trusted gateway names; and host and scheme of the requested URL. A value that a client
//! sends does not reach the origin then. This holds for the policy in force. Until an isolate has
//! read a release, and after the release has expired, that is the policy of the build, so a setting
//! that the origin relies on must be in that policy, too.

use std::net::IpAddr;

use hedgerow_core::rules::policy::{ForwardedHeaders, Policy};
use web_sys::Headers;

use crate::platform::settings::{Settings, host_of};
use crate::request::client_request::ClientRequest;
use crate::request::header_list::{header_names, remove_header};
use crate::request::sender;
use crate::request::tag;

/// The header with ORIGIN_SECRET. It is reserved, so the copy of a client never reaches the origin.
pub const ORIGIN_SECRET_HEADER: &str = "x-hedgerow-origin-secret";

/// Headers with which proxies describe a client, in addition to those that begin with
/// [`FORWARDED_PREFIX`].
const FORWARDED_NAMES: [&str; 10] = [
    "client-ip",
    "forwarded",
    "forwarded-for",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-original-forwarded-for",
    "x-original-host",
    "x-real-ip",
];

/// Prefix of most headers with which proxies describe a client.
const FORWARDED_PREFIX: &str = "x-forwarded";

/// Prefixes of the platform's headers with the client's address.
const PLATFORM_PREFIXES: [&str; 2] = ["cf-connecting-ip", "cf-pseudo-ipv4"];

/// The headers that Hedgerow sets on a request to the origin.
#[derive(Default)]
pub struct OriginHeaders {
    /// Treatment of the headers with which a client describes itself.
    forwarded: ForwardedHeaders,
    /// The header in which a gateway names its client, with hyphens as its only punctuation; `None`
    /// if the policy sets no such header, or if `forwarded` is `pass`.
    address_header: Option<String>,
    /// Names and values.
    values: Vec<(&'static str, String)>,
}

impl OriginHeaders {
    /// Returns the headers for a request. `policy` is `None` if no rules load.
    pub fn new(
        request: &ClientRequest,
        settings: &Settings,
        policy: Option<&Policy>,
        is_trusted: bool,
    ) -> Self {
        let forwarded = policy.map(|policy| policy.origin.forwarded).unwrap_or_default();
        let mut values = Vec::new();
        if let Some(policy) = policy.filter(|_| forwarded == ForwardedHeaders::Set) {
            let address = sender::client_address(request, &policy.identity, is_trusted);
            values = forwarded_values(address.as_deref(), &request.raw.url());
        }
        let secret = settings.origin_secret.as_ref();
        values.extend(secret.map(|secret| (ORIGIN_SECRET_HEADER, secret.clone())));
        let removing = policy.filter(|_| forwarded != ForwardedHeaders::Pass);
        let address_header = removing.and_then(|policy| policy.identity.client_address.as_ref());
        let address_header = address_header.map(|header| hyphenated(header.name()));
        Self { forwarded, address_header, values }
    }

    /// Removes and sets headers. The caller has removed the client's reserved headers.
    pub fn apply(&self, headers: &Headers) {
        if self.forwarded != ForwardedHeaders::Pass {
            for name in header_names(headers).iter().filter(|name| self.removes(name)) {
                remove_header(headers, name);
            }
        }
        for (name, value) in &self.values {
            tag::set_header(headers, name, value);
        }
    }

    /// Returns whether `forwarded` removes a header, unless it is `pass`. `name` is in lower case.
    fn removes(&self, name: &str) -> bool {
        describes_client(name, self.forwarded == ForwardedHeaders::Remove)
            || self.address_header.as_ref().is_some_and(|header| *header == hyphenated(name))
    }
}

/// Returns whether a header describes the client. `name` is in lower case. As servers read
/// `X_Forwarded.For` as `X-Forwarded-For`, every punctuation mark counts as a hyphen.
/// `includes_platform` is whether the platform's headers with the client's address count. In
/// another spelling, they always count: then they are not from the platform.
fn describes_client(name: &str, includes_platform: bool) -> bool {
    let plain = hyphenated(name);
    plain.starts_with(FORWARDED_PREFIX)
        || FORWARDED_NAMES.contains(&plain.as_str())
        || (includes_platform || plain != name)
            && PLATFORM_PREFIXES.iter().any(|prefix| plain.starts_with(prefix))
}

/// Returns a name with a hyphen in place of each byte that is neither a letter nor a digit.
fn hyphenated(name: &str) -> String {
    let replace = |byte: u8| if byte.is_ascii_alphanumeric() { byte as char } else { '-' };
    name.bytes().map(replace).collect()
}

/// Returns the headers that describe a client with this address, which requested this URL. An
/// unknown address and a host with unusual characters are left out.
fn forwarded_values(address: Option<&str>, url: &str) -> Vec<(&'static str, String)> {
    let address = address.and_then(|text| text.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let scheme = if url.starts_with("https:") { "https" } else { "http" };
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
    let host = Some(host_of(url)).filter(|host| !host.is_empty() && host.bytes().all(is_usual));
    let mut forwarded = vec![format!("proto={scheme}")];
    let mut values = vec![("x-forwarded-proto", scheme.to_owned())];
    if let Some(host) = host {
        forwarded.push(format!("host=\"{host}\""));
        values.push(("x-forwarded-host", host.to_owned()));
    }
    if let Some(address) = address {
        // RFC 7239 demands brackets and quotation marks around IPv6 addresses.
        forwarded.push(match address {
            IpAddr::V4(address) => format!("for={address}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\""),
        });
        values.extend(["x-forwarded-for", "x-real-ip"].map(|name| (name, address.to_string())));
    }
    values.push(("forwarded", forwarded.join(";")));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_describe_the_client_are_recognized_in_every_spelling() {
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded.proto",
            "x-forwarded",
            "x-forwarded-port",
            "x_real-ip",
            "true-client-ip",
            "client_ip",
        ] {
            assert!(describes_client(name, false), "{name}");
        }
        for name in ["", "x", "x-forward-for", "user-agent", "authorization", "x-real-ip2", "via"] {
            assert!(!describes_client(name, true), "{name}");
        }
        for name in ["cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4"] {
            assert_eq!(
                [true, false].map(|platform| describes_client(name, platform)),
                [true, false]
            );
        }
        for name in ["cf_connecting_ip", "cf-connecting.ipv6", "cf_pseudo-ipv4"] {
            assert!(describes_client(name, false) && describes_client(name, true), "{name}");
        }
    }

    #[test]
    fn the_header_of_the_gateway_is_removed_in_every_spelling() {
        let rows = [
            (Some("x-edge-client"), "x-edge-client", true),
            (Some("x-edge-client"), "x_edge.client", true),
            (Some("x_edge_client"), "x-edge-client", true),
            (Some("x-edge-client"), "x-edge-client2", false),
            (None, "x-edge-client", false),
        ];
        for forwarded in [ForwardedHeaders::Set, ForwardedHeaders::Remove] {
            for (header, name, expected) in rows {
                let address_header = header.map(hyphenated);
                let headers = OriginHeaders { forwarded, address_header, values: Vec::new() };
                assert_eq!(headers.removes(name), expected, "{header:?} {name}");
                assert!(headers.removes("cf_connecting_ip"));
                let removes_platform = forwarded == ForwardedHeaders::Remove;
                assert_eq!(headers.removes("cf-connecting-ip"), removes_platform);
            }
        }
    }

    #[test]
    fn values_describe_address_host_and_scheme() {
        let v4 = "proto=https;host=\"api.example.com\";for=203.0.113.7";
        let v6 = "proto=http;host=\"localhost:8787\";for=\"[2001:db8::1]\"";
        let rows = [
            (Some("203.0.113.7"), "https://api.example.com/v1?x=http:", Some("203.0.113.7"), v4),
            (Some("2001:DB8::1"), "http://localhost:8787/", Some("2001:db8::1"), v6),
            (Some("[2001:db8::1]"), "http://localhost:8787", Some("2001:db8::1"), v6),
            (Some("203.0.113.7, 10.0.0.1"), "https://h/", None, "proto=https;host=\"h\""),
            (Some("unknown"), "https://h/", None, "proto=https;host=\"h\""),
            (None, "https://a\"b/", None, "proto=https"),
        ];
        for (address, url, expected_address, expected) in rows {
            let values = forwarded_values(address, url);
            let value = |name| {
                let found = values.iter().find(|(candidate, _)| *candidate == name);
                found.map(|(_, value)| value.as_str())
            };
            assert_eq!(value("forwarded"), Some(expected), "{address:?} {url}");
            for name in ["x-forwarded-for", "x-real-ip"] {
                assert_eq!(value(name), expected_address, "{address:?} {url} {name}");
            }
            let all_are_recognized = values.iter().all(|(name, _)| describes_client(name, false));
            assert!(all_are_recognized, "{values:?}");
        }
    }
}
