//! The release: a signed manifest of the bundles in force.
//!
//! It is signed so that write access to a store is not enough to choose the rules.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bundle::{MAX_SAFE_INTEGER, is_digest};
use crate::error::Error;

/// Format number of releases that are written; also the newest format that is read.
pub const RELEASE_FORMAT: u32 = 1;

/// Maximum bytes of a manifest.
pub const MAX_RELEASE_BYTES: usize = 16 << 10;

/// The name of the rules that the Worker was built with, in place of a digest.
pub const EMBEDDED: &str = "embedded";

/// Tolerance for a wrong clock before a release counts as expired, in seconds.
const CLOCK_SKEW: u64 = 86_400;

/// A manifest of the bundles in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Format number: [`RELEASE_FORMAT`]. Its name in JSON distinguishes a release from a bundle.
    #[serde(rename = "release")]
    pub format_version: u32,
    /// Number of the release, higher than the numbers of all earlier releases.
    pub serial: u64,
    /// Time of creation, in seconds since the epoch. For people: nothing depends on it.
    pub created: u64,
    /// Digest of the bundle in force, or `embedded`.
    pub active: String,
    /// Bundle in force for a share of the accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub canary: Option<Canary>,
    /// Bundle that also scores the requests. Its decisions are recorded, but never carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub shadow: Option<ShadowBundle>,
    /// End in seconds since the epoch, with a day of tolerance ([`Release::is_expired`]). A release
    /// without an end does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub expires: Option<u64>,
    /// Time of the stop that the release ends. A stop stays in force during releases without this
    /// member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub resumes: Option<u64>,
    /// Purpose, for people.
    #[serde(default)]
    pub note: String,
    /// Name of the person who made the release.
    #[serde(default)]
    pub author: String,
}

/// A bundle for a share of the accounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Digest of the bundle, or `embedded`.
    pub digest: String,
    /// Percent of the accounts, above 0 and up to 100.
    pub percent: f64,
    /// Digest of the bundle in whose order accounts get the canary; the canary's own by default. A
    /// canary that replaces another one after a patch keeps its order, and so its accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub order: Option<String>,
}

/// A bundle that is only evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct ShadowBundle {
    /// Digest of the bundle, or `embedded`.
    pub digest: String,
}

/// The reason why a ruleset decides for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum RulesetRole {
    /// No release is in force: the ruleset is the one that the Worker was built with.
    Embedded,
    /// The release names the ruleset for all accounts.
    Active,
    /// The release names the ruleset for a share of the accounts, which includes the account.
    Canary,
}

impl RulesetRole {
    /// Returns the role with a name; `None` for an unknown name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Embedded, Self::Active, Self::Canary];
        all.into_iter().find(|role| role.name() == name)
    }

    /// Returns the name in logs and counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Active => "active",
            Self::Canary => "canary",
        }
    }
}

impl Release {
    /// Parses a manifest, without its signature.
    ///
    /// Returns an error if it is too large, has a newer format, or is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct ReleaseHeader {
            #[serde(rename = "release")]
            format_version: u32,
        }
        let remedy = "make it with `hedgerow release`";
        if bytes.len() > MAX_RELEASE_BYTES {
            let problem = format!(
                "the release has {} bytes, more than {MAX_RELEASE_BYTES} (16 KiB)",
                bytes.len()
            );
            return Err(Error::new(problem, "shorten its note"));
        }
        let malformed = |error| Error::new(format!("this is not a release: {error}"), remedy);
        let header: ReleaseHeader = serde_json::from_slice(bytes).map_err(malformed)?;
        if header.format_version > RELEASE_FORMAT {
            let problem = format!(
                "release format {} is newer than {RELEASE_FORMAT}, the newest supported",
                header.format_version
            );
            return Err(Error::new(
                problem,
                "update Hedgerow, or make the release with this version",
            ));
        }
        let release: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        match release.validation_error() {
            None => Ok(release),
            Some(error) => Err(Error::new(format!("this is not a release: {error}"), remedy)),
        }
    }

    /// Returns the first problem of the members; `None` if all are valid.
    fn validation_error(&self) -> Option<&'static str> {
        let digests = [Some(&self.active), self.canary.as_ref().map(|canary| &canary.digest)];
        let order = self.canary.as_ref().and_then(|canary| canary.order.as_ref());
        let shadow = self.shadow.as_ref().map(|shadow| &shadow.digest);
        let is_valid_reference = |name: &&String| is_digest(name) || *name == EMBEDDED;
        let percent = self.canary.as_ref().map_or(1.0, |canary| canary.percent);
        if self.format_version == 0 {
            return Some("release format 0 does not exist");
        }
        if self.serial == 0 || self.serial > MAX_SAFE_INTEGER {
            return Some("its serial is not a number from 1 to 2⁵³ − 1");
        }
        if !digests
            .into_iter()
            .chain([shadow, order])
            .flatten()
            .all(|name| is_valid_reference(&name))
        {
            return Some("a bundle is named by neither 64 hexadecimal digits nor `embedded`");
        }
        let is_valid_percent = percent > 0.0 && percent <= 100.0;
        (!is_valid_percent).then_some("the canary's percent is not above 0 and up to 100")
    }

    /// Returns the digests of the release's bundles, each once, without [`EMBEDDED`].
    pub fn digests(&self) -> Vec<&str> {
        let canary = self.canary.as_ref().map(|canary| canary.digest.as_str());
        let shadow = self.shadow.as_ref().map(|shadow| shadow.digest.as_str());
        let mut digests: Vec<&str> = Vec::new();
        for digest in [Some(self.active.as_str()), canary, shadow].into_iter().flatten() {
            if digest != EMBEDDED && !digests.contains(&digest) {
                digests.push(digest);
            }
        }
        digests
    }

    /// Returns whether the release has expired at `now`, in seconds since the epoch. A day of
    /// tolerance prevents a clock that is up to a day fast from ending a release early.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| now > expires.saturating_add(CLOCK_SKEW))
    }

    /// Returns whether an account gets the canary. A request without an account never gets it.
    ///
    /// The answer is the same in every isolate. An account stays in the canary when the percentage
    /// grows. The order in which accounts get a bundle depends on the bundle, or on another bundle
    /// that the canary names.
    pub fn is_in_canary(&self, account: Option<&str>) -> bool {
        match (&self.canary, account) {
            (Some(canary), Some(account)) => {
                let order = canary.order.as_ref().unwrap_or(&canary.digest);
                rollout_fraction(order, account) < canary.percent / 100.0
            }
            _ => false,
        }
    }
}

/// Returns the position of an account, in [0, 1), in the order in which accounts get a bundle.
fn rollout_fraction(digest: &str, account: &str) -> f64 {
    let mut hash = Sha256::new();
    hash.update(digest.as_bytes());
    hash.update(account.as_bytes());
    let prefix =
        hash.finalize().iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    f64::from(prefix) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        Release {
            format_version: RELEASE_FORMAT,
            serial: 7,
            created: 1_800_000_000,
            active: "a".repeat(64),
            canary: Some(Canary { digest: "b".repeat(64), percent: 10.0, order: None }),
            shadow: None,
            expires: None,
            resumes: None,
            note: String::new(),
            author: "ana".into(),
        }
    }

    #[test]
    fn canary_membership_is_proportional_and_stable() {
        let accounts: Vec<String> = (0..5_000).map(|number| format!("{number:032x}")).collect();
        let mut release = release();
        let member_count = |release: &Release| {
            accounts.iter().filter(|account| release.is_in_canary(Some(account))).count()
        };
        let tenth = member_count(&release);
        assert!((400..=600).contains(&tenth), "{tenth}");
        let before: Vec<bool> =
            accounts.iter().map(|account| release.is_in_canary(Some(account))).collect();
        release.serial = 8;
        if let Some(canary) = &mut release.canary {
            canary.percent = 25.0;
        }
        for (account, was_member) in accounts.iter().zip(before) {
            assert!(
                !was_member || release.is_in_canary(Some(account)),
                "{account} left the canary"
            );
        }
        if let Some(canary) = &mut release.canary {
            canary.percent = 100.0;
        }
        assert_eq!(member_count(&release), 5_000);
        assert!(!release.is_in_canary(None), "a request without account");
        if let Some(canary) = &mut release.canary {
            (canary.digest, canary.percent) = ("c".repeat(64), 10.0);
        }
        assert_ne!(tenth, member_count(&release), "another bundle, another order");
        let members = |release: &Release| -> Vec<bool> {
            accounts.iter().map(|account| release.is_in_canary(Some(account))).collect()
        };
        let others = members(&release);
        if let Some(canary) = &mut release.canary {
            canary.order = Some(std::mem::replace(&mut canary.digest, "d".repeat(64)));
        }
        assert_eq!(members(&release), others, "another bundle in the same order");
    }

    #[test]
    fn expiry_tolerates_a_day_of_clock_skew() {
        let release = Release { expires: Some(1_800_000_000), ..release() };
        for (now, expired) in [(0, false), (1_800_086_400, false), (1_800_086_401, true)] {
            assert_eq!(release.is_expired(now), expired, "{now}");
        }
        assert!(!Release { expires: None, ..release }.is_expired(u64::MAX));
    }

    #[test]
    fn invalid_releases_are_rejected() {
        let rows = [
            (r#"{"release":2}"#, "newer than 1"),
            (r#"{"format":1}"#, "missing field `release`"),
            ("not json", "not a release"),
        ];
        for (text, expected) in rows {
            let error = Release::parse(text.as_bytes()).unwrap_err();
            assert!(error.problem().contains(expected), "{text}: {error}");
        }
        let text = |change: fn(&mut Release)| {
            let mut release = release();
            change(&mut release);
            serde_json::to_vec(&release).unwrap()
        };
        let invalid: [(fn(&mut Release), &str); 7] = [
            (|release| release.serial = 0, "serial"),
            (|release| release.serial = 1 << 53, "serial"),
            (|release| release.active = "A".repeat(64), "named"),
            (|release| release.canary.as_mut().unwrap().percent = 0.0, "percent"),
            (|release| release.canary.as_mut().unwrap().percent = 100.5, "percent"),
            (|release| release.canary.as_mut().unwrap().order = Some("x".into()), "named"),
            (|release| release.note = "x".repeat(MAX_RELEASE_BYTES), "16 KiB"),
        ];
        for (change, expected) in invalid {
            let error = Release::parse(&text(change)).unwrap_err();
            assert!(error.problem().contains(expected), "{error}");
        }
        assert_eq!(Release::parse(&text(|_| {})).unwrap(), release());
        assert_eq!(
            Release::parse(&text(|release| release.active = EMBEDDED.into()))
                .unwrap()
                .digests()
                .len(),
            1
        );
    }
}
