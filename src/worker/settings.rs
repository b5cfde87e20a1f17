//! What the deployment has set, and what it lacks: each problem with its remedy.

use std::net::IpAddr;

use js_sys::Reflect;
use serde::Serialize;
use wasm_bindgen::JsValue;
use worker::Env;

use crate::forward::Origin;

/// Variables, secrets and bindings.
pub struct Settings {
    /// Where requests go.
    pub origin: Result<Origin, Problem>,
    /// Key of the account hashes. There is no default: a known key is none.
    pub account_secret: Option<String>,
    /// Key of the tags' authentication.
    pub tag_secret: Option<String>,
    /// Whether requests may choose mode and action, and see the decision.
    pub development: bool,
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Settings {
    /// Reads the environment.
    pub fn of(env: &Env) -> Self {
        Self {
            origin: Origin::bound(binding(env, "ORIGIN")),
            account_secret: text(env, "ACCOUNT_SECRET"),
            tag_secret: text(env, "TAG_SECRET"),
            development: text(env, "ENVIRONMENT").as_deref() == Some("development"),
        }
    }

    /// What keeps requests from being forwarded or scored.
    pub fn problems(&self) -> Vec<Problem> {
        let origin = self.origin.as_ref().err().cloned();
        let secret = self.account_secret.is_none().then(|| {
            Problem::new(
                "ACCOUNT_SECRET is missing: requests are forwarded unscored",
                "set a random one: `openssl rand -hex 32 | npx wrangler secret put ACCOUNT_SECRET`",
            )
        });
        origin.into_iter().chain(secret).collect()
    }

    /// What works, but less well than it could.
    /// `client` is the address of whoever asks, as the edge tells it.
    pub fn warnings(&self, client: Option<&str>) -> Vec<Problem> {
        let tag = self.tag_secret.is_none().then(|| {
            Problem::new(
                "TAG_SECRET is missing: the origin cannot tell our tag headers from forged ones",
                "set a random one: `openssl rand -hex 32 | npx wrangler secret put TAG_SECRET`, and verify x-hedgerow-mac at the origin",
            )
        });
        let deployed = self.development && client.is_some_and(is_remote);
        let development = deployed.then(|| {
            Problem::new(
                "ENVIRONMENT is `development` in a deployment: every client sees its score, and chooses mode and action",
                "remove ENVIRONMENT from wrangler.toml and from the dashboard, and deploy again",
            )
        });
        tag.into_iter().chain(development).collect()
    }
}

impl Problem {
    /// A problem with its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

fn binding(env: &Env, name: &str) -> JsValue {
    Reflect::get(env, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
}

/// A variable or secret; an empty one is none.
fn text(env: &Env, name: &str) -> Option<String> {
    binding(env, name).as_string().filter(|text| !text.trim().is_empty())
}

/// Whether an address is one that `wrangler dev` on a desk would not see.
fn is_remote(address: &str) -> bool {
    match address.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local()),
        Ok(IpAddr::V6(v6)) => {
            !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local())
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_on_a_desk() {
        for local in ["127.0.0.1", "::1", "[::1]", "::ffff:127.0.0.1", "192.168.1.2", "fe80::1"] {
            assert!(!is_remote(local), "{local}");
        }
        for remote in ["203.0.113.7", "2001:db8::1", "nonsense", ""] {
            assert!(is_remote(remote), "{remote}");
        }
    }
}
