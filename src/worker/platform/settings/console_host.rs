//! The setting CONSOLE_HOST: the host that serves the console and none of the origin's pages.

use std::net::IpAddr;

use hedgerow_core::api::{ConfigProblem, ConsoleHost};

/// The value of CONSOLE_HOST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleHostSetting {
    /// The variable is not set: every host serves the console, next to the pages of the origin.
    Unset,
    /// The host, in lower case, with an optional port.
    Host(String),
    /// The value is not a host: no host serves the console.
    Malformed,
}

impl ConsoleHostSetting {
    /// Parses the value of the variable. `None` means that the variable is not set.
    pub fn parse(text: Option<String>) -> Self {
        let Some(text) = text else { return Self::Unset };
        let host = text.trim().to_ascii_lowercase();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]".contains(&byte);
        if host.bytes().all(is_allowed) { Self::Host(host) } else { Self::Malformed }
    }

    /// Returns the role of a request's host for the console. `url` is the URL of the request.
    /// `is_development` makes a local host [`ConsoleHost::Local`] if the variable is not set.
    pub fn role_of(&self, url: &str, is_development: bool) -> ConsoleHost {
        let host = host_of(url);
        match self {
            Self::Unset if is_development && is_local(without_port(host)) => ConsoleHost::Local,
            Self::Unset => ConsoleHost::Shared,
            Self::Host(own) if host.eq_ignore_ascii_case(own) => ConsoleHost::Own,
            Self::Host(own) if without_port(host).eq_ignore_ascii_case(own) => ConsoleHost::Own,
            Self::Host(_) | Self::Malformed => ConsoleHost::Other,
        }
    }

    /// Returns the configuration problem of a malformed value; `None` for other values.
    pub fn problem(&self) -> Option<ConfigProblem> {
        (*self == Self::Malformed).then(|| {
            ConfigProblem::new(
                "CONSOLE_HOST is not a host: expected a name such as console.example.com; no host \
                 has the console",
                "set it in wrangler.toml without scheme and path, and deploy again",
            )
        })
    }
}

/// Returns the host of an absolute URL, with its port; an empty text if `url` is not absolute.
pub fn host_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    after_scheme.split(['/', '?', '#', '\\']).next().unwrap_or_default()
}

/// Returns a host without its port. Keeps the colons of an IPv6 address in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns whether a host without port is `localhost` or a loopback address.
fn is_local(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_the_console() {
        const NAME: Option<&str> = Some("Console.example.com");
        const PORT: Option<&str> = Some("localhost:8787");
        let rows = [
            (NAME, "https://console.example.com/_hedgerow/", ConsoleHost::Own),
            (NAME, "https://CONSOLE.example.com:8443/", ConsoleHost::Own),
            (NAME, "https://api.example.com/_hedgerow/", ConsoleHost::Other),
            (NAME, "https://api.example.com/?console.example.com", ConsoleHost::Other),
            (NAME, "https://api.example.com\\console.example.com", ConsoleHost::Other),
            (NAME, "https://console.example.com.evil.example/", ConsoleHost::Other),
            (NAME, "https://console.example.com./", ConsoleHost::Other),
            (NAME, "http://127.0.0.1:8787/", ConsoleHost::Other),
            (NAME, "nonsense", ConsoleHost::Other),
            (PORT, "http://localhost:8787/", ConsoleHost::Own),
            (PORT, "http://localhost:8788/", ConsoleHost::Other),
            (
                Some("https://console.example.com"),
                "https://console.example.com/",
                ConsoleHost::Other,
            ),
            (None, "https://api.example.com/", ConsoleHost::Shared),
            (None, "http://127.0.0.1.example.com/", ConsoleHost::Shared),
            (None, "http://127.0.0.1:8787/", ConsoleHost::Local),
            (None, "http://[::1]:8787/", ConsoleHost::Local),
            (None, "http://localhost/", ConsoleHost::Local),
        ];
        for (setting, url, expected) in rows {
            let setting = ConsoleHostSetting::parse(setting.map(str::to_owned));
            assert_eq!(setting.role_of(url, true), expected, "{setting:?} {url}");
        }
        let unset = ConsoleHostSetting::Unset;
        assert_eq!(unset.role_of("http://localhost/", false), ConsoleHost::Shared);
    }
}
