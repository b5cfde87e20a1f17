//! The policy: what a score means and what is done about it. Signatures only weigh.

mod band;
mod limits;

use std::collections::BTreeMap;

pub use band::{Action, Actions, Band, Bands, Mode};
pub use limits::Limits;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::http::route;
use crate::http::route::Endpoint;

/// Everything that is decided by the operator, not by signatures. The default is Shadow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Whether actions are carried out or only recorded.
    pub mode: Mode,
    /// How evidence becomes a score.
    pub score: Scoring,
    /// From which score on a request is in which band.
    pub bands: Bands,
    /// What is done in which band.
    pub actions: Actions,
    /// How much of a request is read.
    pub scan: Limits,
    /// Tagging and refusing.
    pub enforce: EnforcementSettings,
    /// What may be wrongly suspected before a push is refused.
    pub noise: NoiseBudget,
    /// How correlations are counted.
    #[serde(skip_serializing_if = "CorrelationSettings::is_default")]
    pub correlate: CorrelationSettings,
    /// Routes beside the built-in ones; the first that fits counts.
    #[serde(rename = "route")]
    pub routes: Vec<RoutePolicy>,
    /// Accounts that are treated in a way of their own.
    #[serde(rename = "account")]
    pub accounts: Vec<AccountPolicy>,
    /// Clusters that are treated in a way of their own.
    #[serde(rename = "cluster", skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterPolicy>,
    /// Signatures that are switched off or weigh something else here.
    #[serde(rename = "signature")]
    pub signatures: Vec<SignatureOverride>,
    /// Named, dated, reasoned exceptions.
    #[serde(rename = "exemption")]
    pub exemptions: Vec<Exemption>,
}

/// How evidence becomes a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scoring {
    /// Decibans before any evidence; −20 is one request in a hundred.
    pub prior: f64,
    /// The most that one family can add or take away, in decibans.
    pub family_cap: f64,
    /// Caps of single families.
    pub caps: BTreeMap<String, f64>,
}

/// Tagging and refusing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnforcementSettings {
    /// Whether the origin sees tags in Shadow too; they change nothing for the client.
    pub tag_in_shadow: bool,
    /// `Retry-After` of a throttled request, in seconds.
    pub retry_after: u32,
    /// Whether a request is refused when scoring itself fails (503), or when its body should be
    /// degraded and cannot be (403); else it is forwarded.
    pub fail_closed: bool,
}

/// The share of benign traffic that rules may hit: `hedgerow push --replay` refuses rules that hit
/// more of the recorded requests that are labelled benign.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseBudget {
    /// Percent of benign requests that may be suspect or worse.
    pub suspect: f64,
    /// Percent of benign requests that may be noticed or worse.
    pub notice: f64,
}

/// How correlations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorrelationSettings {
    /// Objects that share the groups, by the hash of their key.
    pub shards: u32,
    /// Bytes that the groups of each take at most.
    pub memory: usize,
    /// Seconds after which what was counted is written down: a crash loses no more.
    pub snapshot_interval: u32,
}

/// A route of the operator's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutePolicy {
    /// Path pattern; `*` is part of a segment, `**` any segments.
    pub path: String,
    /// How bodies read there; by the built-in routes if it is not said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<Endpoint>,
    /// Mode there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Actions there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actions: Option<Actions>,
}

/// An account's own treatment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountPolicy {
    /// The account's hash, as decisions show it.
    pub id: String,
    /// Its mode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Its actions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actions: Option<Actions>,
}

/// A cluster's own treatment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPolicy {
    /// The cluster's id, as decisions show it.
    pub id: String,
    /// Its mode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Its actions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actions: Option<Actions>,
}

/// A signature's own treatment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureOverride {
    /// The signature.
    pub name: String,
    /// Its weight here, in decibans.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight: Option<f64>,
    /// Whether it is left out.
    #[serde(default)]
    pub off: bool,
}

/// An exception: requests that fit all that is said here are allowed, whatever their score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exemption {
    /// What it is called in decisions.
    pub name: String,
    /// Why it was made.
    pub reason: String,
    /// The end of its last day, in seconds since the epoch; a date in `policy.toml`.
    #[serde(deserialize_with = "deserialize_end_of_day")]
    pub until: u64,
    /// The account, if it is for one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<String>,
    /// The path pattern, if it is for some.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// The signatures whose evidence alone is set aside, if it is for some; else all is.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub signatures: Vec<String>,
}

/// Mode and actions for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// The mode.
    pub mode: Mode,
    /// The actions.
    pub actions: Actions,
}

impl Policy {
    /// Whether its numbers can be worked with: a bundle may come from anywhere.
    pub fn validate(&self) -> Result<(), Error> {
        let Limits { scan_window: window, max_decompressed: inflated, max_entries: entries } =
            self.scan;
        let rows = [
            ("scan.window", window, 1024, MAX_SCAN_WINDOW),
            ("scan.max_decompressed", inflated, 1, MAX_DECOMPRESSED),
            ("scan.max_entries", entries, 1, MAX_SCANNED_ENTRIES),
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
                return Err(Error::new(problem, format!("give a number from {min} to {max}")));
            }
        }
        let Bands { notice, suspect, hostile } = self.bands;
        match [0.0, notice, suspect, hostile, 100.0].is_sorted() {
            true => Ok(()),
            false => Err(Error::new(
                "the policy's bands are not in order",
                "keep 0 ≤ notice ≤ suspect ≤ hostile ≤ 100",
            )),
        }
    }

    /// Whether a signature is left out.
    pub fn is_disabled(&self, signature: &str) -> bool {
        self.signatures.iter().any(|entry| entry.off && entry.name == signature)
    }

    /// The endpoint at `path`.
    pub fn endpoint(&self, path: &str) -> Endpoint {
        let matching = self.routes.iter().filter(|route| route::path_matches(&route.path, path));
        matching
            .filter_map(|route| route.endpoint)
            .next()
            .unwrap_or_else(|| route::builtin_endpoint(path))
    }

    /// How a request of no cluster is treated: the account's own word, else the route's, else the
    /// general one.
    pub fn disposition(&self, path: &str, account: Option<&str>) -> Disposition {
        self.disposition_in_cluster(None, path, account)
    }

    /// How a request of a cluster is treated: the account's own word, else the cluster's, else the
    /// route's, else the general one.
    pub fn disposition_in_cluster(
        &self,
        cluster: Option<&str>,
        path: &str,
        account: Option<&str>,
    ) -> Disposition {
        let routes = || self.routes.iter().filter(|route| route::path_matches(&route.path, path));
        let entry =
            self.accounts.iter().find(|account_policy| account == Some(account_policy.id.as_str()));
        let cluster_policy = self.clusters.iter().find(|entry| cluster == Some(entry.id.as_str()));
        let mode = entry
            .and_then(|policy| policy.mode)
            .or_else(|| cluster_policy.and_then(|own| own.mode));
        let mode = mode.or_else(|| routes().find_map(|route| route.mode));
        let actions = entry.and_then(|policy| policy.actions);
        let actions = actions.or_else(|| cluster_policy.and_then(|policy| policy.actions));
        let actions = actions.or_else(|| routes().find_map(|route| route.actions));
        Disposition { mode: mode.unwrap_or(self.mode), actions: actions.unwrap_or(self.actions) }
    }

    /// The exemptions in force for a request.
    pub fn exemptions<'p>(
        &'p self,
        path: &str,
        account: Option<&str>,
        now: u64,
    ) -> impl Iterator<Item = &'p Exemption> {
        self.exemptions.iter().filter(move |exemption| {
            now < exemption.until
                && exemption.account.as_deref().is_none_or(|id| account == Some(id))
                && exemption
                    .path
                    .as_deref()
                    .is_none_or(|pattern| route::path_matches(pattern, path))
        })
    }
}

impl Scoring {
    /// The most that `family` can add or take away.
    pub fn family_cap(&self, family: &str) -> f64 {
        self.caps.get(family).copied().unwrap_or(self.family_cap)
    }
}

/// Reads seconds since the epoch, as bundles have them, or a date, as TOML has them.
pub fn deserialize_end_of_day<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<u64, D::Error> {
    struct EndOfDayVisitor;

    impl<'de> serde::de::Visitor<'de> for EndOfDayVisitor {
        type Value = u64;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a date such as 2027-01-31")
        }

        fn visit_u64<E>(self, seconds: u64) -> Result<u64, E> {
            Ok(seconds)
        }

        fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<u64, E> {
            u64::try_from(seconds).map_err(E::custom)
        }

        fn visit_f64<E>(self, seconds: f64) -> Result<u64, E> {
            Ok(seconds as u64)
        }

        fn visit_str<E: serde::de::Error>(self, date: &str) -> Result<u64, E> {
            end_of_day_utc(date)
                .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(date), &self))
        }

        /// The form in which the `toml` crate hands over a date.
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
            let entry: Option<(String, String)> = map.next_entry()?;
            self.visit_str(entry.map(|(_, date)| date).unwrap_or_default().as_str())
        }
    }

    deserializer.deserialize_any(EndOfDayVisitor)
}

/// The end of a day such as `2027-01-31`, in seconds since the epoch.
pub fn end_of_day_utc(date: &str) -> Option<u64> {
    let mut parts = date.get(..10)?.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    if year < 1970 || !(1..=*months.get(index)?).contains(&day) {
        return None;
    }
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    Some((days + months.iter().take(index).sum::<u64>() + day) * 86_400)
}

/// Bytes that the scan window may have: an isolate holds a few of them, and all else.
pub const MAX_SCAN_WINDOW: usize = 16 << 20;

/// Bytes that a compressed body may grow to.
pub const MAX_DECOMPRESSED: usize = 32 << 20;

/// Entries of an upload that may be scored.
pub const MAX_SCANNED_ENTRIES: usize = 1_000_000;

impl CorrelationSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for CorrelationSettings {
    fn default() -> Self {
        Self { shards: 1, memory: 64 << 20, snapshot_interval: 15 }
    }
}

/// Objects that may share the groups of correlations.
pub const MAX_CORRELATION_SHARDS: usize = 64;

/// Bytes for groups: an object has 128 MB for all it does.
pub const MIN_CORRELATOR_BYTES: usize = 1 << 20;
/// See above.
pub const MAX_CORRELATOR_BYTES: usize = 80 << 20;

/// The longest time in seconds before counts are written down.
pub const MAX_SNAPSHOT_SECONDS: usize = 3_600;

impl Default for NoiseBudget {
    fn default() -> Self {
        Self { suspect: 0.1, notice: 1.0 }
    }
}

impl Default for Scoring {
    fn default() -> Self {
        // Evidence for an ordinary user is easy to fake, hence the low cap on `context`.
        Self { prior: -20.0, family_cap: 25.0, caps: BTreeMap::from([("context".to_owned(), 6.0)]) }
    }
}

impl Default for EnforcementSettings {
    fn default() -> Self {
        Self { tag_in_shadow: false, retry_after: 60, fail_closed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_means_the_end_of_its_day() {
        let rows = [
            ("1970-01-01", Some(86_400)),
            ("2000-02-29", Some(951_868_800)),
            ("2026-11-23", Some(1_795_478_400)),
            ("2027-02-29", None),
            ("2027-13-01", None),
            ("soon", None),
        ];
        for (date, expected) in rows {
            assert_eq!(end_of_day_utc(date), expected, "{date}");
        }
    }

    #[test]
    fn an_exemption_ends() {
        let exemption = Exemption {
            name: "audit".into(),
            reason: "nightly audit".into(),
            until: 100,
            account: Some("a".into()),
            path: None,
            signatures: Vec::new(),
        };
        let policy = Policy { exemptions: vec![exemption], ..Policy::default() };
        let count = |account, now| policy.exemptions("/v1/messages", account, now).count();
        assert_eq!(
            [count(Some("a"), 99), count(Some("a"), 100), count(Some("b"), 99), count(None, 99)],
            [1, 0, 0, 0]
        );
    }

    #[test]
    fn account_overrides_route_overrides_default() {
        let route = |path: &str, mode| RoutePolicy {
            path: path.into(),
            endpoint: None,
            mode,
            actions: None,
        };
        let actions = Actions { suspect: Action::Throttle, ..Actions::default() };
        let policy = Policy {
            routes: vec![route("/v1/chat/**", Some(Mode::Enforce))],
            accounts: vec![AccountPolicy {
                id: "a".into(),
                mode: Some(Mode::Shadow),
                actions: Some(actions),
            }],
            ..Policy::default()
        };
        let disposition = |path, account| policy.disposition(path, account);
        let cluster_policy =
            ClusterPolicy { id: "5b0f3a91".into(), mode: Some(Mode::Enforce), actions: None };
        let with_cluster = Policy { clusters: vec![cluster_policy], ..policy.clone() };
        let mode_in_cluster = |account| {
            with_cluster.disposition_in_cluster(Some("5b0f3a91"), "/v1/messages", account).mode
        };
        assert_eq!(
            [mode_in_cluster(None), mode_in_cluster(Some("a"))],
            [Mode::Enforce, Mode::Shadow]
        );
        assert_eq!(
            with_cluster.disposition_in_cluster(Some("1"), "/v1/messages", None).mode,
            Mode::Shadow
        );
        assert_eq!(disposition("/v1/messages", None).mode, Mode::Shadow);
        assert_eq!(disposition("/v1/chat/completions", None).mode, Mode::Enforce);
        assert_eq!(
            disposition("/v1/chat/completions", Some("a")),
            Disposition { mode: Mode::Shadow, actions }
        );
    }
}
