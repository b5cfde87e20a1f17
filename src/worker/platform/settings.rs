//! What the deployment has set, and what it lacks: each problem with its remedy.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::rules::trusted_keys::TrustedKeys;
use js_sys::Reflect;
use serde::Serialize;
use wasm_bindgen::JsValue;
use worker::{Env, Fetcher, ObjectNamespace};

use crate::request::upstream::Origin;

/// Variables, secrets and bindings.
pub struct Settings {
    /// Where requests go.
    pub origin: Result<Origin, ConfigProblem>,
    /// Key of the account hashes. There is no default: a known key is none.
    pub account_secret: Option<String>,
    /// Key of the tags' authentication.
    pub tag_secret: Option<String>,
    /// Whether requests may choose mode and action, and see the decision.
    pub is_development: bool,
    /// Read when they are needed, which is seldom: what else is set, and bindings.
    env: Env,
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigProblem {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Settings {
    /// Reads the environment, once an isolate: what is set stays, for a change is a deployment.
    pub fn for_isolate(env: &Env) -> Rc<Self> {
        SETTINGS.with(|cell| Rc::clone(cell.get_or_init(|| Rc::new(Self::from_env(env)))))
    }

    /// Reads the environment.
    pub fn from_env(env: &Env) -> Self {
        Self {
            origin: Origin::from_binding(binding(env, "ORIGIN")),
            account_secret: text_var(env, "ACCOUNT_SECRET"),
            tag_secret: text_var(env, "TAG_SECRET"),
            is_development: text_var(env, "ENVIRONMENT").as_deref() == Some("development"),
            env: env.clone(),
        }
    }

    /// Whose releases are believed: nobody's, where PUBLIC_KEYS is not set.
    pub fn trusted_keys(&self) -> Result<TrustedKeys, ConfigProblem> {
        let public_keys = text_var(&self.env, "PUBLIC_KEYS").unwrap_or_default();
        TrustedKeys::parse(&public_keys).map_err(|error| {
            ConfigProblem::new(format!("PUBLIC_KEYS: {}", error.problem()), error.remedy())
        })
    }

    /// Whether releases are to be believed from anybody.
    pub fn has_trusted_keys(&self) -> bool {
        text_var(&self.env, "PUBLIC_KEYS").is_some()
    }

    /// The KV namespace that isolates read rules from.
    pub fn rules_kv(&self) -> Option<JsValue> {
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
    pub fn console_rules_public(&self) -> bool {
        text_var(&self.env, "CONSOLE_RULES").as_deref() == Some("open")
    }

    /// Where rules are fetched from, if they are.
    pub fn config_url(&self) -> Option<String> {
        text_var(&self.env, "CONFIG_URL")
    }

    /// Bearer token of a scope; a short one is none.
    pub fn token(&self, name: &str) -> Option<String> {
        text_var(&self.env, name).filter(|token| token.trim().len() >= MIN_TOKEN_BYTES)
    }

    /// How long rules are used before it is asked whether there are newer ones.
    pub fn refresh_interval(&self) -> Duration {
        Duration::from_secs(self.integer_var("REFRESH_SECONDS").unwrap_or(10).min(3600))
    }

    /// How long counts are collected before they are reported.
    pub fn report_interval(&self) -> Duration {
        Duration::from_secs(self.integer_var("REPORT_SECONDS").unwrap_or(5).min(20))
    }

    /// Objects that share the counting.
    pub fn ledger_shards(&self) -> u32 {
        self.integer_var("LEDGER_SHARDS").unwrap_or(1).clamp(1, 16) as u32
    }

    /// The lowest serial that is believed: isolates that have seen no release know it from here.
    pub fn min_serial(&self) -> u64 {
        self.integer_var("MIN_SERIAL").unwrap_or(0)
    }

    /// A variable that is a whole number; one that is none counts as not set.
    fn integer_var(&self, name: &str) -> Option<u64> {
        let value = binding(&self.env, name);
        let number = value.as_f64().or_else(|| value.as_string()?.trim().parse().ok())?;
        (number.fract() == 0.0 && number >= 0.0).then_some(number as u64)
    }

    /// What keeps requests from being forwarded or scored.
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let origin = self.origin.as_ref().err().cloned();
        let missing_account_secret = self.account_secret.is_none().then(|| {
            ConfigProblem::new(
                "ACCOUNT_SECRET is missing: requests are forwarded unscored",
                "set a random one: `openssl rand -hex 32 | npx wrangler secret put ACCOUNT_SECRET`",
            )
        });
        origin.into_iter().chain(missing_account_secret).collect()
    }

    /// What works, but less well than it could.
    /// `client` is the address of whoever asks, as the edge tells it.
    pub fn warnings(&self, client_address: Option<&str>) -> Vec<ConfigProblem> {
        let missing_tag_secret = self.tag_secret.is_none().then(|| {
            ConfigProblem::new(
                "TAG_SECRET is missing: the origin cannot tell our tag headers from forged ones",
                "set a random one: `openssl rand -hex 32 | npx wrangler secret put TAG_SECRET`, and verify x-hedgerow-mac at the origin",
            )
        });
        let is_deployed = self.is_development && client_address.is_some_and(is_remote);
        let development = is_deployed.then(|| {
            ConfigProblem::new(
                "ENVIRONMENT is `development` in a deployment: every client sees its score, and chooses mode and action",
                "remove ENVIRONMENT from wrangler.toml and from the dashboard, and deploy again",
            )
        });
        missing_tag_secret
            .into_iter()
            .chain(development)
            .chain(self.central_config_warnings())
            .collect()
    }

    /// What is wrong with the central config, where there is one.
    fn central_config_warnings(&self) -> Vec<ConfigProblem> {
        let mut warnings: Vec<ConfigProblem> = self.trusted_keys().err().into_iter().collect();
        let has_trusted_keys = self.has_trusted_keys();
        for (name, is_bound) in
            [("RULES", self.rules_kv().is_some()), ("REGISTRY", self.registry().is_some())]
        {
            if has_trusted_keys && !is_bound {
                let message = format!(
                    "the binding {name} is missing: the rules stay those that were deployed"
                );
                warnings.push(ConfigProblem::new(
                    message,
                    "restore it in wrangler.toml, and deploy again",
                ));
            }
        }
        for name in ["ADMIN_TOKEN", "READ_TOKEN"] {
            if text_var(&self.env, name).is_some() && self.token(name).is_none() {
                let message =
                    format!("{name} is shorter than {MIN_TOKEN_BYTES} characters, and not heeded");
                let remedy = format!("`openssl rand -hex 32 | npx wrangler secret put {name}`");
                warnings.push(ConfigProblem::new(message, remedy));
            }
        }
        let needs_keys = self.config_url().is_some() || self.token("ADMIN_TOKEN").is_some();
        if needs_keys && !has_trusted_keys {
            warnings.push(ConfigProblem::new(
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
const MIN_TOKEN_BYTES: usize = 20;

impl ConfigProblem {
    /// A problem with its remedy.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

fn binding(env: &Env, name: &str) -> JsValue {
    Reflect::get(env, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
}

/// A variable or secret; an empty one is none.
fn text_var(env: &Env, name: &str) -> Option<String> {
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
    fn local_addresses_are_not_remote() {
        for local in ["127.0.0.1", "::1", "[::1]", "::ffff:127.0.0.1", "192.168.1.2", "fe80::1"] {
            assert!(!is_remote(local), "{local}");
        }
        for remote in ["203.0.113.7", "2001:db8::1", "nonsense", ""] {
            assert!(is_remote(remote), "{remote}");
        }
    }
}
