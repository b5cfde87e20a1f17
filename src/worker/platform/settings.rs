//! The deployment's settings (variables, secrets and bindings), and the problems in them.

mod console_host;
mod number;
mod origin;
mod secrets;

use std::cell::OnceCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_core::api::{ConfigProblem, ConsoleHost};
use hedgerow_core::rules::policy::{IdentityPolicy, Mode};
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use js_sys::Reflect;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wasm_bindgen::JsValue;
use worker::{Env, Fetcher, ObjectNamespace};

use self::console_host::ConsoleHostSetting;
pub use self::console_host::host_of;
use self::number::NumberSetting;
pub use self::origin::Origin;
use self::secrets::MIN_SECRET_BYTES;

/// The settings. docs/operations.md lists them with their defaults.
pub struct Settings {
    /// ORIGIN: the server to which requests are forwarded.
    pub origin: Result<Origin, ConfigProblem>,
    /// ACCOUNT_SECRET: the key of the account hashes. It has no default, because anybody could
    /// reverse hashes under a public key. `None` if it is missing or too short.
    pub account_secret: Option<String>,
    /// TAG_SECRET: the keys of the MACs over the tag headers. There are two values while one
    /// replaces the other. Values that are too short are left out.
    pub tag_secrets: Vec<String>,
    /// ORIGIN_SECRET: a secret that the origin gets with each request, so that it can refuse
    /// requests that went around the Worker. `None` if it is missing or not usable.
    pub origin_secret: Option<String>,
    /// IDENTITY_SECRET: a secret that the gateway sends in a header to prove that a request is from
    /// it. There are two values while one replaces the other. Values that are too short are left
    /// out.
    identity_secrets: Vec<String>,
    /// Whether ENVIRONMENT is `development`. Then requests may choose mode and action, and
    /// responses show the decision.
    pub is_development: bool,
    /// Whether LOG_DECISIONS is `all`. Then every decision is logged, whatever the policy says.
    pub logs_all_decisions: bool,
    /// MODE_CEILING: the highest mode, whatever the policy says. An unknown value is Shadow,
    /// because only who wants to lower the mode sets the variable.
    pub mode_ceiling: Mode,
    console_host: ConsoleHostSetting,
    /// The environment, from which bindings and rarely used settings are read.
    env: Env,
}

impl Settings {
    /// Returns the isolate's settings. They are parsed only once: a changed setting is a new
    /// deployment, which starts new isolates.
    pub fn for_isolate(env: &Env) -> Rc<Self> {
        SETTINGS.with(|cell| Rc::clone(cell.get_or_init(|| Rc::new(Self::from_env(env)))))
    }

    /// Parses the environment.
    pub fn from_env(env: &Env) -> Self {
        let values = |name| secrets::values(text_var(env, name).as_deref());
        Self {
            origin: Origin::from_bindings(binding(env, "ORIGIN"), binding(env, "ORIGIN_MTLS")),
            account_secret: secret(env, "ACCOUNT_SECRET"),
            tag_secrets: values("TAG_SECRET"),
            origin_secret: origin_secret(env).unwrap_or_default(),
            identity_secrets: values("IDENTITY_SECRET"),
            is_development: text_var(env, "ENVIRONMENT").as_deref() == Some("development"),
            logs_all_decisions: text_var(env, "LOG_DECISIONS").as_deref() == Some("all"),
            mode_ceiling: mode_ceiling(&binding(env, "MODE_CEILING")).unwrap_or(Mode::Shadow),
            console_host: ConsoleHostSetting::parse(text_var(env, "CONSOLE_HOST")),
            env: env.clone(),
        }
    }

    /// Returns whether `value` is a value of IDENTITY_SECRET. The time of the comparison does not
    /// depend on the bytes of `value`.
    pub fn is_identity_secret(&self, value: &str) -> bool {
        let matching = self.identity_secrets.iter().map(|secret| are_equal(secret, value));
        matching.fold(false, |any, is_equal| any | is_equal)
    }

    /// Returns the problems of the policy's identity settings, at most two. The first is that the
    /// policy recognises a gateway by a secret header, but IDENTITY_SECRET is not set. The second
    /// is that the policy trusts a gateway, but does not name the header with the client's address.
    pub fn identity_warnings(&self, policy: &IdentityPolicy) -> Vec<ConfigProblem> {
        let header = policy.secret_header().filter(|_| self.identity_secrets.is_empty());
        let secret = header.map(|header| {
            ConfigProblem::new(
                format!(
                    "{}: the policy proves the gateway by the header '{header}', so that no \
                     identity header is believed",
                    self.absence("IDENTITY_SECRET")
                ),
                "set a random one, which the gateway sends: `openssl rand -hex 32 | tee \
                 identity-secret | npx wrangler secret put IDENTITY_SECRET`",
            )
        });
        let address = policy.lacks_client_addresses().then(|| {
            ConfigProblem::new(
                "the policy trusts a gateway and has no `client_address`: the addresses of its \
                 clients are unknown, and no rule or quota counts networks",
                "let the gateway send the client's address in a header, and name it in \
                 `client_address` of [identity] in policy.toml (docs/accounts.md)",
            )
        });
        secret.into_iter().chain(address).collect()
    }

    /// Returns the role of a request's host for the console. `url` is the URL of the request.
    pub fn console_host(&self, url: &str) -> ConsoleHost {
        self.console_host.role_of(url, self.is_development)
    }

    /// Returns whether CONSOLE_HOST is not set: the console then shares its host with the pages of
    /// the origin.
    pub fn shares_console_host(&self) -> bool {
        self.console_host == ConsoleHostSetting::Unset
    }

    /// Returns the problem of a console that the policy hides: on a host with the origin's pages,
    /// nobody can open it. In development, it is on a local host.
    pub fn hidden_console_warning(&self) -> Option<ConfigProblem> {
        (self.shares_console_host() && !self.is_development).then(|| {
            ConfigProblem::new(
                "the policy hides the console, and CONSOLE_HOST is not set: nobody can open it",
                "set CONSOLE_HOST to a host of its own (docs/console.md)",
            )
        })
    }

    /// Parses PUBLIC_KEYS: the keys that may sign releases and bundles. Without the variable, the
    /// result trusts no key.
    ///
    /// # Errors
    /// If any of the keys is malformed. Then no key is trusted.
    pub fn trusted_keys(&self) -> Result<TrustedKeys, ConfigProblem> {
        let public_keys = text_var(&self.env, "PUBLIC_KEYS").unwrap_or_default();
        TrustedKeys::parse(&public_keys).map_err(|error| {
            ConfigProblem::new(format!("PUBLIC_KEYS: {}", error.problem()), error.remedy())
        })
    }

    /// Returns whether PUBLIC_KEYS is set, valid or not.
    pub fn has_trusted_keys(&self) -> bool {
        text_var(&self.env, "PUBLIC_KEYS").is_some()
    }

    /// Returns the binding RULES, the KV namespace of releases, bundles, indicators and names of
    /// accounts; `None` if it is missing.
    pub fn rules_kv(&self) -> Option<JsValue> {
        Some(binding(&self.env, "RULES")).filter(JsValue::is_object)
    }

    /// Returns the binding REGISTRY, the Durable Object that stores and publishes releases,
    /// indicators and names of accounts; `None` if it is missing.
    pub fn registry(&self) -> Option<ObjectNamespace> {
        self.env.durable_object("REGISTRY").ok()
    }

    /// Returns the binding LEDGER, the Durable Objects that store counters and decisions; `None` if
    /// it is missing.
    pub fn ledger(&self) -> Option<ObjectNamespace> {
        self.env.durable_object("LEDGER").ok()
    }

    /// Returns the binding CORRELATOR, the Durable Objects that count observations; `None` if it is
    /// missing.
    pub fn correlators(&self) -> Option<ObjectNamespace> {
        self.env.durable_object("CORRELATOR").ok()
    }

    /// Returns the binding ASSETS, the console's files; `None` if it is missing.
    pub fn assets(&self) -> Option<Fetcher> {
        self.env.assets("ASSETS").ok()
    }

    /// Returns whether CONSOLE_RULES is `open`. Then the console shows the rules without a token.
    pub fn console_rules_public(&self) -> bool {
        text_var(&self.env, "CONSOLE_RULES").as_deref() == Some("open")
    }

    /// Returns CONFIG_URL, the URL of the directory from which the registry pulls releases; `None`
    /// if it is not set.
    pub fn config_url(&self) -> Option<String> {
        text_var(&self.env, "CONFIG_URL")
    }

    /// Returns the bearer token `name` (ADMIN_TOKEN, STOP_TOKEN or READ_TOKEN); `None` if it is not
    /// set or too short.
    pub fn token(&self, name: &str) -> Option<String> {
        text_var(&self.env, name).filter(|token| token.trim().len() >= MIN_TOKEN_BYTES)
    }

    /// Returns REFRESH_SECONDS: the pause between two reads of KV by an isolate.
    pub fn refresh_interval(&self) -> Duration {
        Duration::from_secs(self.number(number::REFRESH_SECONDS))
    }

    /// Returns REPORT_SECONDS: the time for which an isolate counts before it reports to the
    /// ledger.
    pub fn report_interval(&self) -> Duration {
        Duration::from_secs(self.number(number::REPORT_SECONDS))
    }

    /// Returns LEDGER_SHARDS: the number of ledger objects.
    pub fn ledger_shards(&self) -> u32 {
        u32::try_from(self.number(number::LEDGER_SHARDS)).unwrap_or(1)
    }

    /// Returns KV_WRITES_PER_DAY: the number of KV writes per UTC day that indicators may use.
    pub fn kv_writes_per_day(&self) -> u64 {
        self.number(number::KV_WRITES_PER_DAY)
    }

    /// Returns MIN_SERIAL: releases with a lower serial are rejected, even by an isolate that has
    /// seen no release yet.
    pub fn min_serial(&self) -> u64 {
        self.number(number::MIN_SERIAL)
    }

    /// Returns the number that is used for a setting.
    fn number(&self, setting: NumberSetting) -> u64 {
        setting.effective(number_var(&self.env, setting.name))
    }

    /// Returns the problems of settings whose values are not valid numbers.
    fn number_warnings(&self) -> Vec<ConfigProblem> {
        let problem = |setting: NumberSetting| setting.problem(number_var(&self.env, setting.name));
        number::ALL.into_iter().filter_map(problem).collect()
    }

    /// Returns the problems that prevent requests from being forwarded or scored.
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let origin = self.origin.as_ref().err().cloned();
        let account_secret = self.account_secret.is_none().then(|| {
            ConfigProblem::new(
                format!("{}: requests are forwarded unscored", self.absence("ACCOUNT_SECRET")),
                "set a random one, and keep a copy: `openssl rand -hex 32 | tee account-secret | \
                 npx wrangler secret put ACCOUNT_SECRET`",
            )
        });
        origin.into_iter().chain(account_secret).collect()
    }

    /// Returns the reason why a secret counts as not set.
    fn absence(&self, name: &str) -> String {
        secrets::absence(name, text_var(&self.env, name).as_deref())
    }

    /// Returns the problems that reduce protection without stopping traffic or scoring.
    /// `client_address` is `cf-connecting-ip` of the health request: a public address means that
    /// the Worker is deployed.
    pub fn warnings(&self, client_address: Option<&str>) -> Vec<ConfigProblem> {
        let tag_secret = self.tag_secrets.is_empty().then(|| {
            ConfigProblem::new(
                format!(
                    "{}: the origin cannot detect forged tag headers",
                    self.absence("TAG_SECRET")
                ),
                "set a random one: `openssl rand -hex 32 | tee tag-secret | npx wrangler secret \
                 put TAG_SECRET`, and verify x-hedgerow-mac at the origin",
            )
        });
        let is_deployed = self.is_development && client_address.is_some_and(is_remote);
        let development = is_deployed.then(|| {
            ConfigProblem::new(
                "ENVIRONMENT is `development` in a deployment: every client sees its score, and \
                 chooses mode and action",
                "remove ENVIRONMENT from wrangler.toml and from the dashboard, and deploy again",
            )
        });
        let warnings = tag_secret.into_iter().chain(self.origin_warnings());
        let warnings = warnings.chain(development).chain(self.console_host.problem());
        let warnings = warnings.chain(self.mode_ceiling_warning()).chain(self.number_warnings());
        warnings.chain(self.central_config_warnings()).collect()
    }

    /// Returns the problems of secrets with several values, of ORIGIN_SECRET and of ORIGIN_MTLS.
    fn origin_warnings(&self) -> impl Iterator<Item = ConfigProblem> {
        let list = |name| secrets::list_problem(name, text_var(&self.env, name).as_deref());
        let lists = ["TAG_SECRET", "IDENTITY_SECRET"].map(list);
        let is_unused = !binding(&self.env, "ORIGIN_MTLS").is_undefined()
            && self.origin.as_ref().is_ok_and(|origin| !origin.has_certificate());
        let certificate = is_unused.then(|| {
            ConfigProblem::new(
                "ORIGIN_MTLS is not used: expected an mTLS certificate, and a URL in ORIGIN",
                "correct both in wrangler.toml (docs/origin.md), and deploy again",
            )
        });
        lists.into_iter().flatten().chain(origin_secret(&self.env).err()).chain(certificate)
    }

    /// Returns a warning if MODE_CEILING has an unknown value.
    fn mode_ceiling_warning(&self) -> Option<ConfigProblem> {
        mode_ceiling(&binding(&self.env, "MODE_CEILING")).is_none().then(|| {
            ConfigProblem::new(
                "MODE_CEILING is neither `shadow` nor `enforce`: no request is enforced",
                "correct it in wrangler.toml, and deploy again",
            )
        })
    }

    /// Returns the problems that prevent releases from being published or adopted.
    fn central_config_warnings(&self) -> Vec<ConfigProblem> {
        let mut warnings: Vec<ConfigProblem> = self.trusted_keys().err().into_iter().collect();
        let has_trusted_keys = self.has_trusted_keys();
        for (name, is_bound) in
            [("RULES", self.rules_kv().is_some()), ("REGISTRY", self.registry().is_some())]
        {
            if has_trusted_keys && !is_bound {
                let message =
                    format!("the binding {name} is missing: the deployed rules cannot be updated");
                let remedy = "restore it in wrangler.toml, and deploy again";
                warnings.push(ConfigProblem::new(message, remedy));
            }
        }
        for name in ["ADMIN_TOKEN", "STOP_TOKEN", "READ_TOKEN"] {
            if text_var(&self.env, name).is_some() && self.token(name).is_none() {
                let message =
                    format!("{name} is ignored: expected at least {MIN_TOKEN_BYTES} characters");
                let remedy = format!("`openssl rand -hex 32 | npx wrangler secret put {name}`");
                warnings.push(ConfigProblem::new(message, remedy));
            }
        }
        let needs_keys = self.config_url().is_some() || self.token("ADMIN_TOKEN").is_some();
        if needs_keys && !has_trusted_keys {
            warnings.push(ConfigProblem::new(
                "PUBLIC_KEYS is missing: no release can be verified",
                "set it in wrangler.toml to the key that `hedgerow keygen` printed, and deploy \
                 again",
            ));
        }
        warnings
    }
}

thread_local! {
    /// The isolate's settings, once a request has needed them.
    static SETTINGS: OnceCell<Rc<Settings>> = const { OnceCell::new() };
}

/// Minimum length of a token in bytes: a shorter token could be guessed.
const MIN_TOKEN_BYTES: usize = 20;

/// Returns a binding, variable or secret; `undefined` if it is not set.
fn binding(env: &Env, name: &str) -> JsValue {
    Reflect::get(env, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED)
}

/// Returns the mode that MODE_CEILING allows; `None` if the value is neither a mode nor missing.
fn mode_ceiling(value: &JsValue) -> Option<Mode> {
    if value.is_undefined() || value.is_null() {
        return Some(Mode::Enforce);
    }
    value.as_string().and_then(|name| Mode::parse(name.trim()))
}

/// Returns a variable or secret; `None` if it is not set, blank or not text.
fn text_var(env: &Env, name: &str) -> Option<String> {
    binding(env, name).as_string().filter(|text| !text.trim().is_empty())
}

/// Returns a variable that should be a number. Returns `None` if it is not set or blank, and NaN if
/// it is not a number.
fn number_var(env: &Env, name: &str) -> Option<f64> {
    let value = binding(env, name);
    match value.as_string() {
        Some(text) => number::parse(&text),
        None if value.is_undefined() || value.is_null() => None,
        None => Some(value.as_f64().unwrap_or(f64::NAN)),
    }
}

/// Returns a secret; `None` if it is not set or too short.
fn secret(env: &Env, name: &str) -> Option<String> {
    text_var(env, name).filter(|text| text.trim().len() >= MIN_SECRET_BYTES)
}

/// Parses ORIGIN_SECRET.
///
/// # Errors
/// If the secret cannot be used.
fn origin_secret(env: &Env) -> Result<Option<String>, ConfigProblem> {
    secrets::origin_secret(&|name| text_var(env, name))
}

/// Returns whether two secrets are equal, by comparing their hashes in constant time.
fn are_equal(left: &str, right: &str) -> bool {
    Sha256::digest(left).ct_eq(Sha256::digest(right).as_slice()).into()
}

/// Returns whether `address` is public. A client of a local `wrangler dev` never has a public
/// address. Text that is not an address counts as public.
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
