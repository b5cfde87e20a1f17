//! Routes of the policy: conditions on a request, and the settings that they select.

use serde::{Deserialize, Serialize};

use super::band::{Actions, Mode};
use crate::http::envelope::Envelope;
use crate::http::route::{Endpoint, path_matches, wildcard_matches};

/// The overrides for the requests that fulfil all conditions of a route.
///
/// Clients choose host, method, path and model. A route that is milder than the general settings
/// is therefore available to every client that fulfils its conditions. The origin may use another
/// model than the one that Hedgerow finds in the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutePolicy {
    /// Host, if the route applies to some hosts only: a name, or `*.example.com` for all
    /// subdomains.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// Path pattern, if the route applies to some paths only: `*` matches part of a segment, `**`
    /// any number of segments.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// HTTP method, if the route applies to one method.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<String>,
    /// Pattern of requested models, if the route applies to some models only: `*` matches any part.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Id of the tenant, if the route applies to one tenant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tenant: Option<String>,
    /// Endpoint, which decides how bodies are read; by default the endpoint of the built-in routes.
    /// Only a route whose only condition is `path` can set it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<Endpoint>,
    /// Mode, if it differs from the general setting.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Actions, if they differ from the general setting.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actions: Option<Actions>,
}

/// The attributes of a request by which the policy chooses mode and actions.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestAttributes<'a> {
    /// Host that the client called, with or without a port; `None` if it is not known.
    pub host: Option<&'a str>,
    /// HTTP method.
    pub method: &'a str,
    /// Path of the URL, without the query.
    pub path: &'a str,
    /// Requested model; `None` if it is not known. In a batch, this is the model of the request
    /// with the highest score.
    pub model: Option<&'a str>,
    /// Account id; `None` if it is not known.
    pub account: Option<&'a str>,
    /// Tenant id; `None` if it is not known.
    pub tenant: Option<&'a str>,
    /// Current time, in seconds since the epoch.
    pub now: u64,
}

impl<'a> Envelope<'a> {
    /// Returns the attributes by which the policy chooses mode and actions. `model` is the
    /// requested model, as an assessment has found it; `None` if it is not known.
    pub fn attributes(&self, model: Option<&'a str>) -> RequestAttributes<'a> {
        let Self { host, method, path, account, tenant, now, .. } = *self;
        RequestAttributes { host, method, path, model, account, tenant, now }
    }
}

impl RoutePolicy {
    /// Returns whether a request fulfils all conditions of the route. A condition on an attribute
    /// that is not known is not fulfilled.
    pub fn applies_to(&self, request: &RequestAttributes<'_>) -> bool {
        let RequestAttributes { host, method, path, model, tenant, .. } = *request;
        is_fulfilled(&self.method, Some(method), str::eq_ignore_ascii_case)
            && is_fulfilled(&self.tenant, tenant, |expected, id| expected == id)
            && is_fulfilled(&self.host, host, host_matches)
            && is_fulfilled(&self.model, model, pattern_matches)
            && is_fulfilled(&self.path, Some(path), path_matches)
    }

    /// Returns the endpoint that the route sets for a path. Returns `None` if the path does not
    /// match, if the route sets no endpoint, or if it has a condition besides the path: the
    /// endpoint decides how the body is read, before model and tenant are known.
    pub fn endpoint_of(&self, path: &str) -> Option<Endpoint> {
        let other_conditions = [&self.host, &self.method, &self.model, &self.tenant];
        let depends_on_path_only = other_conditions.iter().all(|condition| condition.is_none());
        self.endpoint
            .filter(|_| depends_on_path_only && is_fulfilled(&self.path, Some(path), path_matches))
    }
}

/// Returns whether a value fulfils a condition of a route. A missing condition is fulfilled.
fn is_fulfilled(
    condition: &Option<String>,
    value: Option<&str>,
    matches: impl Fn(&str, &str) -> bool,
) -> bool {
    let condition = condition.as_deref();
    condition.is_none_or(|pattern| value.is_some_and(|value| matches(pattern, value)))
}

/// Returns whether a host matches a name, or a pattern such as `*.example.com`, which matches every
/// subdomain, but not `example.com`. The host may have a port, which is ignored.
fn host_matches(pattern: &str, host: &str) -> bool {
    pattern_matches(pattern, host_name(host))
}

/// Returns a host without its port, and without the dot that may end a complete domain name.
fn host_name(host: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        // An IPv6 address has colons; in front of a port, it is in brackets.
        Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// Returns whether a text matches a pattern, in which `*` matches any part. The case of ASCII
/// letters is ignored.
///
/// ```
/// # use hedgerow_core::rules::policy::pattern_matches;
/// assert!(pattern_matches("gpt-4*-mini", "GPT-4.1-mini"));
/// assert!(!pattern_matches("gpt-4*", "claude"));
/// ```
pub fn pattern_matches(pattern: &str, text: &str) -> bool {
    wildcard_matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_without_case_and_port() {
        let rows = [
            ("api.example.com", "api.example.com", true),
            ("api.example.com", "API.Example.com:8443", true),
            ("API.example.com", "api.example.com.", true),
            ("api.example.com", "api.example.com.:443", true),
            ("api.example.com", "api.example.com:", true),
            ("api.example.com", "xapi.example.com", false),
            ("api.example.com", "api.example.com.evil.test", false),
            ("*.example.com", "api.example.com", true),
            ("*.example.com", "a.b.Example.com:80", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("[2001:db8::1]", "[2001:db8::1]:8787", true),
            ("[2001:db8::1]", "[2001:DB8::1]", true),
            ("[2001:db8::1]", "[2001:db8::2]", false),
            ("api.example.com", "", false),
        ];
        for (pattern, host, expected) in rows {
            assert_eq!(host_matches(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn an_asterisk_matches_any_part_of_a_model() {
        let rows = [
            ("gpt-4", "gpt-4", true),
            ("gpt-4", "GPT-4", true),
            ("gpt-4", "gpt-4o", false),
            ("gpt-4*", "gpt-4", true),
            ("gpt-4*", "gpt-4.1-mini", true),
            ("*mini", "gpt-4.1-mini", true),
            ("*mini", "gpt-4.1-mini-2025", false),
            ("gpt*mini", "gptmini", true),
            ("gpt*t", "gpt", false),
            ("*claude*sonnet*", "anthropic/Claude-3-5-Sonnet@2024", true),
            ("*sonnet*claude*", "anthropic/claude-3-5-sonnet", false),
            ("a**b", "a-b", true),
            ("*", "", true),
            ("", "gpt", false),
        ];
        for (pattern, model, expected) in rows {
            assert_eq!(pattern_matches(pattern, model), expected, "{pattern} {model}");
        }
    }

    #[test]
    fn all_conditions_must_hold_and_none_holds_for_an_unknown_value() {
        let request = RequestAttributes {
            host: Some("api.example.com"),
            method: "POST",
            path: "/v1/messages",
            model: Some("claude-sonnet"),
            tenant: Some("t"),
            ..RequestAttributes::default()
        };
        let text = |text: &str| Some(text.to_owned());
        let all = RoutePolicy {
            host: text("*.example.com"),
            path: text("/v1/**"),
            method: text("post"),
            model: text("claude-*"),
            tenant: text("t"),
            ..RoutePolicy::default()
        };
        let rows = [
            ("all", all.clone(), request, true),
            ("no condition", RoutePolicy::default(), RequestAttributes::default(), true),
            ("another host", RoutePolicy { host: text("a.test"), ..all.clone() }, request, false),
            ("another path", RoutePolicy { path: text("/v2/**"), ..all.clone() }, request, false),
            ("another method", RoutePolicy { method: text("PUT"), ..all.clone() }, request, false),
            ("another model", RoutePolicy { model: text("gpt*"), ..all.clone() }, request, false),
            ("another tenant", RoutePolicy { tenant: text("u"), ..all.clone() }, request, false),
            ("no host", all.clone(), RequestAttributes { host: None, ..request }, false),
            ("no model", all.clone(), RequestAttributes { model: None, ..request }, false),
            ("no tenant", all, RequestAttributes { tenant: None, ..request }, false),
        ];
        for (name, route, request, expected) in rows {
            assert_eq!(route.applies_to(&request), expected, "{name}");
        }
    }

    #[test]
    fn only_a_route_by_path_sets_an_endpoint() {
        let text = |text: &str| Some(text.to_owned());
        let route = RoutePolicy {
            path: text("/ask"),
            endpoint: Some(Endpoint::Generic),
            ..RoutePolicy::default()
        };
        let rows = [
            ("path", route.clone(), "/ask", true),
            ("another path", route.clone(), "/other", false),
            ("no condition", RoutePolicy { path: None, ..route.clone() }, "/other", true),
            ("no endpoint", RoutePolicy { endpoint: None, ..route.clone() }, "/ask", false),
            ("host", RoutePolicy { host: text("a.test"), ..route.clone() }, "/ask", false),
            ("method", RoutePolicy { method: text("POST"), ..route.clone() }, "/ask", false),
            ("model", RoutePolicy { model: text("*"), ..route.clone() }, "/ask", false),
            ("tenant", RoutePolicy { tenant: text("t"), ..route }, "/ask", false),
        ];
        for (name, route, path, expected) in rows {
            assert_eq!(route.endpoint_of(path).is_some(), expected, "{name}");
        }
    }
}
