//! What the deployment has set, and what it lacks: each problem with its remedy.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hedgerow::trust::Keys;
use js_sys::Reflect;
use serde::Serialize;
use wasm_bindgen::JsValue;
use worker::{Env, Fetcher, ObjectNamespace};

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
    /// Read when they are needed, which is seldom: what else is set, and bindings.
    env: Env,
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
    /// Reads the environment, once an isolate: what is set stays, for a change is a deployment.
    pub fn of_isolate(env: &Env) -> Rc<Self> {
        SETTINGS.with(|known| Rc::clone(known.get_or_init(|| Rc::new(Self::of(env)))))
    }

    /// Reads the environment.
    pub fn of(env: &Env) -> Self {
        Self {
            origin: Origin::bound(binding(env, "ORIGIN")),
            account_secret: text(env, "ACCOUNT_SECRET"),
            tag_secret: text(env, "TAG_SECRET"),
            development: text(env, "ENVIRONMENT").as_deref() == Some("development"),
            env: env.clone(),
        }
    }

    /// Whose releases are believed: nobody's, where PUBLIC_KEYS is not set.
    pub fn keys(&self) -> Result<Keys, Problem> {
        let text = text(&self.env, "PUBLIC_KEYS").unwrap_or_default();
        Keys::parse(&text).map_err(|error| {
            Problem::new(format!("PUBLIC_KEYS: {}", error.problem()), error.remedy())
        })
    }

    /// Whether releases are to be believed from anybody.
    pub fn has_keys(&self) -> bool {
        text(&self.env, "PUBLIC_KEYS").is_some()
    }

    /// The KV namespace that isolates read rules from.
    pub fn rules(&self) -> Option<JsValue> {
        Some(binding(&self.env, "RULES")).filter(JsValue::is_object)
    }

    /// The object that holds what was published.
    pub fn registry(&self) -> Option<ObjectNamespace> {
        self.env.durable_object("REGISTRY").ok()
    }

    /// The objects that count.
    pub fn ledger(&self) -> Option<ObjectNamespace> {
        self.env.durable_object("LEDGER").ok()
    }

    /// The objects that count what requests have in common.
    pub fn correlators(&self) -> Option<ObjectNamespace> {
        self.env.durable_object("CORRELATOR").ok()
    }

    /// The console's files.
    pub fn assets(&self) -> Option<Fetcher> {
        self.env.assets("ASSETS").ok()
    }

    /// Whether the console shows the deployment's rules to anybody.
    pub fn opens_rules(&self) -> bool {
        text(&self.env, "CONSOLE_RULES").as_deref() == Some("open")
    }

    /// Where rules are fetched from, if they are.
    pub fn config_url(&self) -> Option<String> {
        text(&self.env, "CONFIG_URL")
    }

    /// Bearer token of a scope; a short one is none.
    pub fn token(&self, name: &str) -> Option<String> {
        text(&self.env, name).filter(|token| token.trim().len() >= MIN_TOKEN)
    }

    /// How long rules are used before it is asked whether there are newer ones.
    pub fn refresh(&self) -> Duration {
        Duration::from_secs(self.number("REFRESH_SECONDS").unwrap_or(10).min(3600))
    }

    /// How long counts are collected before they are reported.
    pub fn report(&self) -> Duration {
        Duration::from_secs(self.number("REPORT_SECONDS").unwrap_or(5).min(20))
    }

    /// Objects that share the counting.
    pub fn shards(&self) -> u32 {
        self.number("LEDGER_SHARDS").unwrap_or(1).clamp(1, 16) as u32
    }

    /// The lowest serial that is believed: isolates that have seen no release know it from here.
    pub fn min_serial(&self) -> u64 {
        self.number("MIN_SERIAL").unwrap_or(0)
    }

    /// A variable that is a whole number; one that is none counts as not set.
    fn number(&self, name: &str) -> Option<u64> {
        let value = binding(&self.env, name);
        let number = value.as_f64().or_else(|| value.as_string()?.trim().parse().ok())?;
        (number.fract() == 0.0 && number >= 0.0).then_some(number as u64)
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
        tag.into_iter().chain(development).chain(self.central()).collect()
    }

    /// What is wrong with the central config, where there is one.
    fn central(&self) -> Vec<Problem> {
        let mut warnings: Vec<Problem> = self.keys().err().into_iter().collect();
        let has_keys = self.has_keys();
        for (binding, is_bound) in
            [("RULES", self.rules().is_some()), ("REGISTRY", self.registry().is_some())]
        {
            if has_keys && !is_bound {
                let what = format!(
                    "the binding {binding} is missing: the rules stay those that were deployed"
                );
                warnings.push(Problem::new(what, "restore it in wrangler.toml, and deploy again"));
            }
        }
        for name in ["ADMIN_TOKEN", "READ_TOKEN"] {
            if text(&self.env, name).is_some() && self.token(name).is_none() {
                let what = format!("{name} is shorter than {MIN_TOKEN} characters, and not heeded");
                let remedy = format!("`openssl rand -hex 32 | npx wrangler secret put {name}`");
                warnings.push(Problem::new(what, remedy));
            }
        }
        let wants_keys = self.config_url().is_some() || self.token("ADMIN_TOKEN").is_some();
        if wants_keys && !has_keys {
            warnings.push(Problem::new(
                "PUBLIC_KEYS is missing: no release is believed",
                "set it in wrangler.toml to what `hedgerow keygen` printed, and deploy again",
            ));
        }
        warnings
    }
}

thread_local! {
    static SETTINGS: OnceCell<Rc<Settings>> = const { OnceCell::new() };
}

/// Characters that a token has at least: what is guessed more easily is none.
const MIN_TOKEN: usize = 20;

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
