//! Checks the routes of `policy.toml`: their conditions, and the endpoints that they set.

use std::net::Ipv6Addr;

use toml::de::DeTable;

use crate::suggestion::replace_unknown;
use crate::toml::{TomlDiagnostics, entries, text, value};

/// Keys of the conditions of a route. All conditions of a route must hold.
pub const CONDITIONS: [&str; 5] = ["host", "path", "method", "model", "tenant"];

/// Methods of the requests that can be LLM calls. GET opens WebSockets.
const METHODS: [&str; 4] = ["POST", "PUT", "PATCH", "GET"];

/// Checks that each route has conditions that can hold, and that an endpoint depends on the path
/// only. The other checks of paths and tenants are in `policy_toml.rs`.
pub fn check(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for (offset, route) in entries(document, "route") {
        if !CONDITIONS.iter().any(|key| route.contains_key(*key)) {
            let problem =
                "this route has no condition: expected a host, path, method, model or tenant";
            diagnostics.add(offset, problem, "add one of the five");
        }
        check_host(route, diagnostics);
        check_method(route, diagnostics);
        check_model(route, diagnostics);
        check_endpoint(route, diagnostics);
    }
}

/// Checks that the host is a name, an address, or a name after `*.`.
fn check_host(route: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    if let Some((offset, host)) = text(route, "host")
        && !is_host_pattern(host)
    {
        let problem = format!(
            "the host '{host}' never matches: expected a name, such as api.example.com or \
             *.example.com"
        );
        let remedy = "remove scheme, port and path; write `*` only in front of the first dot";
        diagnostics.add(offset, problem, remedy);
    }
}

fn is_host_pattern(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = in_brackets {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_name_byte);
    host.strip_prefix("*.").unwrap_or(host).split('.').all(is_label)
}

/// Checks that the method is a method of LLM calls.
fn check_method(route: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    if let Some((offset, method)) = text(route, "method")
        && !METHODS.iter().any(|known| known.eq_ignore_ascii_case(method))
    {
        let problem = format!(
            "the method '{method}' never matches: expected POST, PUT or PATCH, or GET for \
             WebSockets"
        );
        diagnostics.add(offset, problem, replace_unknown(&method.to_ascii_uppercase(), &METHODS));
    }
}

/// Checks that the pattern of models is not empty.
fn check_model(route: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    if let Some((offset, model)) = text(route, "model")
        && model.trim().is_empty()
    {
        let problem = "the model never matches: expected a name, in which `*` matches any part";
        diagnostics.add(
            offset,
            problem,
            "write the name as requests contain it, such as \"gpt-*\"",
        );
    }
}

/// Checks that a route that sets an endpoint has no condition besides the path.
fn check_endpoint(route: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let mut others = CONDITIONS.into_iter().filter(|key| *key != "path");
    if let Some((offset, _)) = value(route, "endpoint")
        && let Some(key) = others.find(|key| route.contains_key(*key))
    {
        let problem = format!(
            "'endpoint' depends on '{key}': expected a route whose only condition is 'path', \
             because the endpoint decides how the body is read"
        );
        diagnostics.add(offset, problem, "move 'endpoint' to a route with 'path' only");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_without_scheme_port_and_path() {
        let rows = [
            ("api.example.com", true),
            ("*.example.com", true),
            ("localhost", true),
            ("127.0.0.1", true),
            ("[2001:db8::1]", true),
            ("[2001:db8::1]:8787", false),
            ("2001:db8::1", false),
            ("api.example.com:443", false),
            ("https://api.example.com", false),
            ("api.example.com/v1", false),
            ("*", false),
            ("*example.com", false),
            ("api.*.com", false),
            ("*.", false),
            (".example.com", false),
            ("example.com.", false),
            ("b\u{fc}cher.example", false),
            ("", false),
        ];
        for (host, expected) in rows {
            assert_eq!(is_host_pattern(host), expected, "{host}");
        }
    }
}
