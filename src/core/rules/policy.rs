//! The policy: turns evidence into scores, scores into bands, and bands into actions.

pub(crate) mod band;
mod cors;
mod decisions;
mod identity;
mod incomplete;
mod limits;
mod log;
mod notice;
mod origin;
mod overrides;
mod refusals;
mod routes;
mod websocket;

use std::collections::BTreeMap;

pub use band::{Action, Actions, Band, Bands, Mode};
pub use cors::Cors;
pub use decisions::{DecisionSettings, MAX_DECISION_BYTES, MAX_KEEP_DAYS, MIN_DECISION_BYTES};
pub use identity::{
    ACCOUNT_REMEDY, AddressHeader, IdentityPolicy, StatusPattern, TRUST_REMEDY, Trust,
    UntrustedHeaders,
};
pub use incomplete::{Incomplete, IncompleteAction, UnknownPaths, UnknownTreatment};
pub use limits::Limits;
pub use log::LogSettings;
pub use notice::NoticePolicy;
pub use origin::{AdminSettings, ForwardedHeaders, OriginSettings};
pub use overrides::{
    ClusterPolicy, Disposition, PrincipalPolicy, RequestCluster, format_cluster_id,
    parse_cluster_id,
};
pub use refusals::{
    ClientValue, LINK_PLACEHOLDER, MAX_REFUSALS, RefusalPolicy, Words, choose_words, fill,
    unknown_placeholder,
};
pub use routes::{RequestAttributes, RoutePolicy, pattern_matches};
use serde::{Deserialize, Serialize};
pub use websocket::WebSocketPolicy;

use crate::completeness::UnscoredReasons;
use crate::error::Error;
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::http::{route, websocket as websocket_routes};

/// The settings of the operator, as opposed to the rules. The default mode is Shadow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Mode: whether actions are carried out or only recorded.
    pub mode: Mode,
    /// Settings that find the account and the tenant of a request.
    #[serde(skip_serializing_if = "IdentityPolicy::is_default")]
    pub identity: IdentityPolicy,
    /// Treatment of WebSockets on LLM paths.
    #[serde(skip_serializing_if = "WebSocketPolicy::is_default")]
    pub websocket: WebSocketPolicy,
    /// Prior and caps, with which evidence is converted to a score.
    pub score: Scoring,
    /// Scores at which bands begin.
    pub bands: Bands,
    /// Action for each band.
    pub actions: Actions,
    /// Limits of the part of a request that is read and scored.
    pub scan: Limits,
    /// Settings of tags and refusals.
    pub enforce: EnforcementSettings,
    /// Words of refusals. For each value, the first entry that applies and has the value counts.
    #[serde(rename = "refusal", skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<RefusalPolicy>,
    /// Notice of degraded requests.
    #[serde(skip_serializing_if = "NoticePolicy::is_default")]
    pub notice: NoticePolicy,
    /// Effect of each reason why a request was not completely scored.
    pub incomplete: Incomplete,
    /// Treatment of requests whose path is not a known endpoint.
    pub unknown: UnknownPaths,
    /// Maximum share of benign recorded requests that the rules of a push may hit.
    pub noise: NoiseBudget,
    /// Settings of the correlator.
    #[serde(skip_serializing_if = "CorrelationSettings::is_default")]
    pub correlate: CorrelationSettings,
    /// Settings of the stored decisions.
    #[serde(skip_serializing_if = "DecisionSettings::is_default")]
    pub decisions: DecisionSettings,
    /// Settings of the decision log.
    #[serde(skip_serializing_if = "LogSettings::is_default")]
    pub log: LogSettings,
    /// Settings of the headers that the origin gets.
    #[serde(skip_serializing_if = "OriginSettings::is_default")]
    pub origin: OriginSettings,
    /// Settings of Hedgerow's own paths.
    #[serde(skip_serializing_if = "AdminSettings::is_default")]
    pub admin: AdminSettings,
    /// Reasoning tokens that are not counted.
    #[serde(skip_serializing_if = "ReasoningTokens::is_default")]
    pub reasoning_tokens: ReasoningTokens,
    /// Sets of known prompts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<SeedSource>,
    /// Routes in addition to the built-in routes. For each setting, the first route that applies to
    /// the request and has the setting counts.
    #[serde(rename = "route")]
    pub routes: Vec<RoutePolicy>,
    /// Overrides for single accounts.
    #[serde(rename = "account")]
    pub accounts: Vec<PrincipalPolicy>,
    /// Overrides for single tenants.
    #[serde(rename = "tenant", skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<PrincipalPolicy>,
    /// Stricter treatment of single clusters.
    #[serde(rename = "cluster", skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterPolicy>,
    /// Overrides for single signatures.
    #[serde(rename = "signature")]
    pub signatures: Vec<SignatureOverride>,
    /// Exceptions, each with a name, a reason and an end.
    #[serde(rename = "exemption")]
    pub exemptions: Vec<Exemption>,
}

/// The prior and the caps by which evidence becomes a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scoring {
    /// Decibans before any evidence: −20 means odds of 1 to 100 that a request is harvesting.
    pub prior: f64,
    /// Maximum decibans that a family can add or subtract.
    pub family_cap: f64,
    /// Caps of individual families in decibans, by name. They replace `family_cap`.
    pub caps: BTreeMap<String, f64>,
}

/// Settings of tags and refusals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnforcementSettings {
    /// Whether the origin receives tags also in mode Shadow. Clients never see them.
    pub tag_in_shadow: bool,
    /// Whether the origin receives the request id of each LLM call, also in mode Shadow.
    #[serde(skip_serializing_if = "is_true")]
    pub send_request_id: bool,
    /// Seconds in the `Retry-After` header of a throttled request.
    pub retry_after: u32,
    /// Whether a request is refused, instead of forwarded, if scoring fails (503), or if its body
    /// should be degraded but cannot be edited (403).
    pub fail_closed: bool,
    /// Default language of the texts of refusals.
    #[serde(skip_serializing_if = "is_english")]
    pub refusal_language: String,
    /// Whether a refusal has a header with the appeal reference.
    #[serde(skip_serializing_if = "is_false")]
    pub appeal_header: bool,
    /// Web origins whose scripts may read Hedgerow's own responses.
    #[serde(skip_serializing_if = "Cors::is_default")]
    pub cors: Cors,
    /// Whether the web origins that `cors` lists may read Hedgerow's own responses to requests with
    /// cookies. Has no effect without a list.
    #[serde(skip_serializing_if = "is_false")]
    pub cors_credentials: bool,
}

/// The share of benign traffic that may reach the bands notice and suspect. `hedgerow push
/// --replay` rejects rules if a larger share of the recorded requests with the label `benign`
/// reaches one of these bands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseBudget {
    /// Percent of benign requests that may be in band suspect or higher.
    pub suspect: f64,
    /// Percent of benign requests that may be in band notice or higher.
    pub notice: f64,
}

/// Settings of the correlator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorrelationSettings {
    /// Number of Durable Objects among which the groups are divided, by the hash of their key.
    pub shards: u32,
    /// Maximum bytes of groups per Durable Object.
    pub memory: usize,
    /// Seconds between snapshots: a crash loses the counts since the last snapshot.
    pub snapshot_interval: u32,
    /// Maximum number of indicators. At the maximum, a new indicator replaces the weakest one if
    /// the new indicator is stronger.
    pub max_indicators: usize,
    /// Maximum number of new indicators per minute that one account causes.
    pub quota_account: u32,
    /// Maximum number of new indicators per minute that the accounts of one tenant cause.
    pub quota_tenant: u32,
    /// Maximum number of new indicators per minute that one network causes: an IPv4 address, or
    /// the /64 of an IPv6 address.
    pub quota_network: u32,
    /// Maximum number of new indicators per minute that name a single account.
    pub quota_all: u32,
}

/// Settings of reasoning tokens: the signed or encrypted reasoning that clients send back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReasoningTokens {
    /// Tokens from documentation and other public sources. They are not counted, because clients
    /// that share nothing else send them.
    pub ignored: Vec<String>,
}

impl ReasoningTokens {
    fn is_default(&self) -> bool {
        self.ignored.is_empty()
    }
}

/// A set of known prompts, and the file with its filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedSource {
    /// Name of the set, which is the value of `hedgerow.seed`.
    pub name: String,
    /// Path of the file below the rules directory.
    pub file: String,
}

/// The overrides for one signature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureOverride {
    /// Name of the signature.
    pub name: String,
    /// Weight in decibans, if it differs from the weight of the rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight: Option<f64>,
    /// Whether the signature is disabled.
    #[serde(default)]
    pub off: bool,
    /// Reason, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// An exception: requests that fulfil all its conditions are allowed, or some signatures do not
/// count for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exemption {
    /// Name, as decisions show it.
    pub name: String,
    /// Reason, for people.
    pub reason: String,
    /// End in seconds since the epoch. `policy.toml` has the date of the last day instead.
    pub until: u64,
    /// Id of the account, if the exemption applies to one account.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<String>,
    /// Id of the tenant, if the exemption applies to one tenant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tenant: Option<String>,
    /// Path pattern, if the exemption applies to some paths only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Names of signatures that do not count; empty to allow the requests whatever their score.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub signatures: Vec<String>,
}

impl Policy {
    /// Checks that all numbers are within their limits, because a bundle may come from any source.
    pub fn validate(&self) -> Result<(), Error> {
        let Limits { scan_window, max_body, max_decompressed, max_entries, max_upload_time } =
            self.scan;
        let rows = [
            ("scan.window", scan_window, 1024, MAX_SCAN_WINDOW),
            ("scan.max_body", max_body, 1024, MAX_SCAN_WINDOW),
            ("scan.max_upload_time", max_upload_time as usize, 1, MAX_UPLOAD_SECONDS),
            ("scan.max_decompressed", max_decompressed, 1, MAX_DECOMPRESSED),
            ("scan.max_entries", max_entries, 1, MAX_SCANNED_ENTRIES),
            ("correlate.shards", self.correlate.shards as usize, 1, MAX_CORRELATION_SHARDS),
            ("correlate.memory", self.correlate.memory, MIN_CORRELATOR_BYTES, MAX_CORRELATOR_BYTES),
            (
                "correlate.snapshot_interval",
                self.correlate.snapshot_interval as usize,
                1,
                MAX_SNAPSHOT_SECONDS,
            ),
        ];
        for (name, value, min, max) in rows {
            if !(min..=max).contains(&value) {
                let problem = format!("the policy's '{name}' is {value}");
                return Err(Error::new(problem, format!("use a number from {min} to {max}")));
            }
        }
        self.validate_incomplete()?;
        self.identity.validate()?;
        self.decisions.validate()?;
        self.log.validate()?;
        self.validate_words()?;
        if let Some(exemption) = self.exemptions.iter().find(|entry| entry.exempts_everything()) {
            let problem = format!("the policy's exemption '{}' exempts everything", exemption.name);
            return Err(Error::new(problem, "add an account, a tenant, a path or signatures"));
        }
        let Bands { notice, suspect, hostile } = self.bands;
        if [0.0, notice, suspect, hostile, 100.0].is_sorted() {
            return Ok(());
        }
        Err(Error::new(
            "the policy's bands are not in order",
            "keep 0 ≤ notice ≤ suspect ≤ hostile ≤ 100",
        ))
    }

    /// Checks everything that the policy says to clients.
    fn validate_words(&self) -> Result<(), Error> {
        if self.refusals.len() > MAX_REFUSALS {
            let remedy = format!("use at most {MAX_REFUSALS}");
            return Err(Error::new("the policy has too many refusals", remedy));
        }
        let language = Some(self.enforce.refusal_language.as_str());
        ClientValue::Language.validate("enforce.refusal_language", language)?;
        self.refusals.iter().try_for_each(RefusalPolicy::validate)?;
        self.notice.validate()
    }

    /// Checks that only the reason `late` has the effect `wait`.
    fn validate_incomplete(&self) -> Result<(), Error> {
        let waits = |(flag, effect): &(UnscoredReasons, IncompleteAction)| {
            *flag != UnscoredReasons::LATE && *effect == IncompleteAction::Wait
        };
        let Some((flag, _)) = self.incomplete.effects().into_iter().find(waits) else {
            return Ok(());
        };
        let name = flag.names().next().unwrap_or_default();
        Err(Error::new(
            format!(
                "the policy's 'incomplete.{name}' is \"wait\": only an upload can be waited for"
            ),
            "use \"allow\", \"degrade\" or \"refuse\"",
        ))
    }

    /// Returns whether a signature is disabled.
    pub fn is_disabled(&self, signature: &str) -> bool {
        self.signatures.iter().any(|entry| entry.off && entry.name == signature)
    }

    /// Returns the endpoint of a path: the endpoint of the first matching route that sets one, else
    /// the endpoint of the built-in route. Returns [`Endpoint::Unknown`] if no built-in route
    /// matches.
    pub fn endpoint(&self, path: &str) -> Endpoint {
        let endpoint = self.routes.iter().find_map(|route| route.endpoint_of(path));
        endpoint.unwrap_or_else(|| route::builtin_endpoint(path))
    }

    /// Returns the format of WebSocket messages on a path, by the endpoint of the first matching
    /// route that sets one, else by the built-in routes. Returns `None` if the WebSocket is not an
    /// LLM call.
    pub fn websocket_endpoint(&self, path: &str) -> Option<Endpoint> {
        let endpoint = self.routes.iter().find_map(|route| route.endpoint_of(path));
        let endpoint = endpoint.or_else(|| websocket_routes::builtin_endpoint(path))?;
        websocket_routes::message_endpoint(endpoint)
    }

    /// Returns the exemptions that apply to a request at the time `now` of its envelope.
    pub fn exemptions<'p>(
        &'p self,
        envelope: &'p Envelope<'_>,
    ) -> impl Iterator<Item = &'p Exemption> {
        let Envelope { path, account, tenant, now, .. } = *envelope;
        let applies_to = |condition: &Option<String>, id: Option<&str>| {
            condition.as_deref().is_none_or(|expected| id == Some(expected))
        };
        self.exemptions.iter().filter(move |exemption| {
            now < exemption.until
                && applies_to(&exemption.account, account)
                && applies_to(&exemption.tenant, tenant)
                && exemption
                    .path
                    .as_deref()
                    .is_none_or(|pattern| route::path_matches(pattern, path))
        })
    }
}

impl Exemption {
    /// Returns whether the exemption has neither a condition nor signatures.
    fn exempts_everything(&self) -> bool {
        let Self { account, tenant, path, signatures, .. } = self;
        [account, tenant, path].iter().all(|condition| condition.is_none()) && signatures.is_empty()
    }
}

impl Scoring {
    /// Returns the maximum decibans that a family can add or subtract.
    pub fn family_cap(&self, family: &str) -> f64 {
        let default = if family == INNOCENCE_FAMILY { INNOCENCE_CAP } else { self.family_cap };
        self.caps.get(family).copied().unwrap_or(default)
    }
}

/// Family of the negative evidence of innocence selections.
///
/// If an innocence selection of a hit holds, it cancels the evidence of the hit. The cap of this
/// family keeps the sum over a request small, because the client writes the text that these
/// selections test.
pub const INNOCENCE_FAMILY: &str = "innocence";

/// Maximum decibans that innocence cancels, unless the policy sets another cap. With the general
/// `family_cap`, policies that are older than this family would let a client's words cancel more.
const INNOCENCE_CAP: f64 = 6.0;

/// Maximum value of `scan.max_upload_time`, in seconds.
pub const MAX_UPLOAD_SECONDS: usize = 3_600;

/// Maximum bytes of the scan window and of the part of a body that is read. An isolate holds a few
/// of these parts at once, in addition to everything else.
pub const MAX_SCAN_WINDOW: usize = 16 << 20;

/// Maximum value of `scan.max_decompressed`, in bytes.
pub const MAX_DECOMPRESSED: usize = 32 << 20;

/// Maximum value of `scan.max_entries`.
pub const MAX_SCANNED_ENTRIES: usize = 1_000_000;

impl CorrelationSettings {
    /// The settings of a policy that does not set them.
    pub const DEFAULT: Self = Self {
        shards: 1,
        memory: 32 << 20,
        snapshot_interval: 15,
        max_indicators: MAX_STORED_INDICATORS,
        quota_account: 60,
        quota_tenant: 300,
        quota_network: 600,
        quota_all: 3_000,
    };

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for CorrelationSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Maximum value of `correlate.max_indicators`. That many indicators take some megabytes of an
/// isolate.
pub const MAX_STORED_INDICATORS: usize = 100_000;

/// Minimum value of `correlate.max_indicators`.
pub const MIN_MAX_INDICATORS: u64 = 16;

/// Maximum value of each quota of new indicators per minute.
pub const MAX_QUOTA_PER_MINUTE: usize = 100_000;

/// Maximum number of Durable Objects of the correlator.
pub const MAX_CORRELATION_SHARDS: usize = 64;

/// Minimum bytes of groups per Durable Object.
pub const MIN_CORRELATOR_BYTES: usize = 1 << 20;

/// Maximum bytes of groups per Durable Object. The object has 128 MB of memory in total.
pub const MAX_CORRELATOR_BYTES: usize = 80 << 20;

/// Maximum seconds between snapshots.
pub const MAX_SNAPSHOT_SECONDS: usize = 3_600;

impl Default for NoiseBudget {
    fn default() -> Self {
        Self { suspect: 0.1, notice: 1.0 }
    }
}

impl Default for Scoring {
    fn default() -> Self {
        // Evidence of ordinary use is easy to fake, hence the low cap of `context`.
        Self { prior: -20.0, family_cap: 25.0, caps: BTreeMap::from([("context".to_owned(), 2.0)]) }
    }
}

impl Default for EnforcementSettings {
    fn default() -> Self {
        Self {
            tag_in_shadow: false,
            send_request_id: true,
            // Some SDKs ignore a value of 60 seconds or more and then retry within a second:
            // OpenAI's SDKs up to version 5 for JavaScript and up to version 1 for Python.
            retry_after: 30,
            fail_closed: false,
            refusal_language: refusals::ENGLISH.to_owned(),
            appeal_header: false,
            cors: Cors::default(),
            cors_credentials: false,
        }
    }
}

/// Returns whether a flag has its default `false`, so that it is not serialised.
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Returns whether a language is the default, so that it is not serialised.
fn is_english(language: &str) -> bool {
    language == refusals::ENGLISH
}

/// Returns whether a flag has its default `true`, so that it is not serialised.
fn is_true(flag: &bool) -> bool {
    *flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exemption_ends() {
        let exemption = Exemption {
            name: "audit".into(),
            reason: "nightly audit".into(),
            until: 100,
            account: Some("a".into()),
            tenant: None,
            path: None,
            signatures: Vec::new(),
        };
        let of_tenant = Exemption { account: None, tenant: Some("t".into()), ..exemption.clone() };
        let policy = Policy { exemptions: vec![exemption, of_tenant], ..Policy::default() };
        let count = |account, tenant, now| {
            let path = "/v1/messages";
            policy
                .exemptions(&Envelope { path, account, tenant, now, ..Envelope::default() })
                .count()
        };
        let rows = [
            (Some("a"), None, 99, 1),
            (Some("a"), None, 100, 0),
            (Some("b"), None, 99, 0),
            (None, None, 99, 0),
            (None, Some("t"), 99, 1),
            (Some("b"), Some("t"), 99, 1),
            (Some("a"), Some("t"), 99, 2),
            (Some("t"), Some("a"), 99, 0),
            (Some("a"), Some("t"), 100, 0),
        ];
        for (account, tenant, now, expected) in rows {
            assert_eq!(count(account, tenant, now), expected, "{account:?} {tenant:?} {now}");
        }
    }

    #[test]
    fn an_exemption_has_a_condition_or_signatures() {
        let exemption = Exemption {
            name: "audit".into(),
            reason: String::new(),
            until: 100,
            account: None,
            tenant: None,
            path: None,
            signatures: Vec::new(),
        };
        let text = Some("x".to_owned());
        let rows = [
            ("everything", exemption.clone(), false),
            ("account", Exemption { account: text.clone(), ..exemption.clone() }, true),
            ("tenant", Exemption { tenant: text.clone(), ..exemption.clone() }, true),
            ("path", Exemption { path: text, ..exemption.clone() }, true),
            ("signatures", Exemption { signatures: vec!["x".into()], ..exemption }, true),
        ];
        for (name, exemption, expected) in rows {
            let policy = Policy { exemptions: vec![exemption], ..Policy::default() };
            assert_eq!(policy.validate().is_ok(), expected, "{name}");
        }
    }
}
