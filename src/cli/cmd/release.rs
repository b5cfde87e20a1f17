//! `hedgerow release`, `promote`, `rollback` and `resume`: make the next release from the current
//! release, sign it, and publish it.

mod ending;

use std::path::Path;

pub use ending::{confirm, confirm_end};
use hedgerow_core::api::{BundleInfo, PublishResult};
use hedgerow_core::rules::release::{Canary, EMBEDDED, RELEASE_FORMAT, ShadowBundle};
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::short_digest;
use hedgerow_core::{Release, Ruleset};
use hedgerow_sigma::Canonical;
use serde_json::{Value, json};

use crate::config::{Config, TargetArgs};
use crate::dates::{now, parse_expiry};
use crate::error::{Error, Outcome, Result};
use crate::format::describe_release;
use crate::remote::{ReleaseCommand, ReleaseStore, SignedText};
use crate::rollout::{deployment_status, wait_for_rollout};
use crate::signer::Signer;
use crate::terminal::{Format, print_alarm, print_error, print_json, print_line};

#[derive(clap::Args)]
pub struct ReleaseArgs {
    /// Release this bundle: its digest, the beginning of the digest, or `embedded`; default: the
    /// newest.
    digest: Option<String>,
    #[command(flatten)]
    rollout: RolloutArgs,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    publish: PublishArgs,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
pub struct RollbackArgs {
    /// Reactivate this bundle: its digest, the beginning of the digest, or `embedded`. By default,
    /// a canary and a shadow end, and the active bundle stays active. Without them, the previous
    /// bundle becomes active.
    #[arg(long, value_name = "DIGEST")]
    to: Option<String>,
    #[command(flatten)]
    publish: PublishArgs,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
pub struct ResumeArgs {
    /// End the stop of this time, in seconds since the epoch, as `hedgerow status --format json`
    /// shows it in `stop.stop.at`; default: the stop in force. A directory needs this option.
    #[arg(long, value_name = "TIME")]
    stop: Option<u64>,
    #[command(flatten)]
    publish: PublishArgs,
    #[command(flatten)]
    target: TargetArgs,
}

/// The accounts that get a bundle, and the end of the release.
#[derive(clap::Args)]
pub struct RolloutArgs {
    /// Release to this percentage of the accounts; the other accounts keep the active bundle.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, conflicts_with = "shadow")]
    canary: Option<f64>,
    /// Only score and record with this bundle; the active bundle still decides.
    #[arg(long)]
    shadow: bool,
    /// End the release after a period such as 7d, 72h or 2w, or at the end of a day in UTC such as
    /// 2027-01-31. After that, the embedded rules decide.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Release without asking, although the release ends a canary or a shadow, or carries over a
    /// change that removes or replaces something.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub publish: PublishArgs,
}

/// Options of every command that publishes a release.
#[derive(clap::Args)]
pub struct PublishArgs {
    /// Record this purpose in the release.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Wait until 95 % of the last minute's traffic has the release.
    #[arg(long)]
    pub wait: bool,
    /// Wait at most this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub wait_seconds: u64,
}

/// The role of a bundle in a release.
#[derive(Clone, Copy, Debug)]
pub enum BundleRole {
    Active,
    /// The bundle decides for this percentage of the accounts.
    Canary(f64),
    Shadow,
}

impl RolloutArgs {
    /// Returns the role that `--canary` or `--shadow` asks for; `None` without these options.
    pub fn role(&self) -> Option<BundleRole> {
        match (self.canary, self.shadow) {
            (Some(percent), _) => Some(BundleRole::Canary(percent)),
            (None, true) => Some(BundleRole::Shadow),
            (None, false) => None,
        }
    }

    /// Returns the end of the release in seconds since the epoch, if `--expires` gives one.
    pub fn expires_at(&self) -> Result<Option<u64>> {
        self.expires.as_deref().map(|text| parse_expiry(text, now())).transpose()
    }

    /// Returns an error if options of a release are given, and the command does not make a release.
    pub fn validate(&self, is_release: bool) -> Result<()> {
        let PublishArgs { note, wait, .. } = &self.publish;
        if is_release || (note.is_none() && !wait && self.expires.is_none()) {
            return Ok(());
        }
        Err(Error::Io(
            "--note, --expires and --wait need a release: expected --release, --canary or \
             --shadow; add one of them"
                .to_owned(),
        ))
    }
}

/// Makes, signs and publishes releases.
pub struct Publisher {
    pub store: Box<dyn ReleaseStore>,
    pub signer: Signer,
    pub trusted_keys: TrustedKeys,
    author: String,
}

pub fn run(args: &ReleaseArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let expires = args.rollout.expires_at()?;
    let config = Config::load(config, &args.target)?;
    let publisher = Publisher::open(&config, args.rollout.publish.wait)?;
    let bundles = publisher.store.bundles()?;
    let digest = match &args.digest {
        Some(name) => resolve_digest(&bundles, name)?,
        None => bundles.first().map(|newest| newest.digest.clone()).ok_or_else(|| {
            Error::Rejected("the registry has no bundle; run `hedgerow push` first".to_owned())
        })?,
    };
    publisher.verify_bundle(&digest)?;
    let role = args.rollout.role().unwrap_or(BundleRole::Active);
    let current = publisher.current_release()?;
    let release =
        publisher.build_release(current.as_ref(), &digest, role, expires, &args.rollout.publish)?;
    confirm_end(current.as_ref(), &release, args.rollout.yes)?;
    publisher.publish_and_print(ReleaseCommand::Release, &release, &args.rollout.publish, format)
}

pub fn promote(args: &PromoteArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &args.target)?;
    let publisher = Publisher::open(&config, args.publish.wait)?;
    let current = publisher.current_release()?;
    let canary = current.as_ref().and_then(|release| release.canary.as_ref());
    let shadow = current.as_ref().and_then(|release| release.shadow.as_ref());
    let digest = canary.map(|canary| &canary.digest).or(shadow.map(|shadow| &shadow.digest));
    let digest = digest.ok_or_else(|| {
        Error::Rejected(
            "the current release has neither canary nor shadow: expected one to promote; make one \
             with `hedgerow release --canary PERCENT`, or make a bundle active with `hedgerow \
             release`"
                .to_owned(),
        )
    })?;
    publisher.verify_bundle(digest)?;
    let release = publisher.build_release(
        current.as_ref(),
        digest,
        BundleRole::Active,
        None,
        &args.publish,
    )?;
    publisher.publish_and_print(ReleaseCommand::Promote, &release, &args.publish, format)
}

pub fn rollback(args: &RollbackArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &args.target)?;
    let publisher = Publisher::open(&config, args.publish.wait)?;
    let releases = publisher.store.releases()?;
    let Some(current) = releases.first() else {
        let message =
            "the registry has no release yet: expected one to roll back; run `hedgerow release`";
        return Err(Error::Rejected(message.to_owned()));
    };
    let current = current.verified_release(&publisher.trusted_keys)?;
    let digest = match &args.to {
        Some(name) => resolve_digest(&publisher.store.bundles()?, name)?,
        None => publisher.previous_bundle(&current, &releases)?,
    };
    if digest == current.active && !has_canary_or_shadow(&current) {
        return Err(Error::Rejected(format!(
            "bundle {} is active already (release {}); give another one with --to",
            short_digest(&digest),
            current.serial
        )));
    }
    publisher.verify_bundle(&digest)?;
    let release = publisher.build_release(
        Some(&current),
        &digest,
        BundleRole::Active,
        None,
        &args.publish,
    )?;
    publisher.publish_and_print(ReleaseCommand::Rollback, &release, &args.publish, format)
}

pub fn resume(args: &ResumeArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &args.target)?;
    let publisher = Publisher::open(&config, args.publish.wait)?;
    let at = match args.stop {
        Some(at) => at,
        None => publisher.stop_in_force()?,
    };
    let current = publisher.current_release()?;
    let mut release = publisher.follow(current.as_ref(), &args.publish);
    for digest in release.digests() {
        publisher.verify_bundle(digest)?;
    }
    release.resumes = Some(at);
    // The registry rejects a release that has expired.
    release.expires = release.expires.filter(|expires| *expires > now());
    publisher.publish_and_print(ReleaseCommand::Release, &release, &args.publish, format)
}

impl Publisher {
    /// Opens the store of releases and the secret key. If `needs_deployment` is true and the store
    /// is a directory, returns an I/O error.
    pub fn open(config: &Config, needs_deployment: bool) -> Result<Self> {
        let store = config.store()?;
        if needs_deployment && !store.is_registry() {
            return Err(Error::Io(
                "--wait needs a deployment: expected `url` in the settings, and they have a \
                 directory; omit --wait"
                    .to_owned(),
            ));
        }
        let signer = config.signer()?;
        let trusted_keys = config.trusted_keys(&signer)?;
        Ok(Self { store, signer, trusted_keys, author: config.author() })
    }

    /// Verifies and returns the current release; `None` if nothing was released.
    pub fn current_release(&self) -> Result<Option<Release>> {
        self.store
            .current_release()?
            .map(|signed| signed.verified_release(&self.trusted_keys))
            .transpose()
    }

    /// Verifies and compiles a bundle. Returns `Rejected` if the edge would refuse it.
    fn verify_bundle(&self, digest: &str) -> Result<()> {
        if digest == EMBEDDED {
            return Ok(());
        }
        let bundle = self.store.bundle(digest)?.verified_bundle(digest, &self.trusted_keys)?;
        let ruleset = Ruleset::new(bundle, digest.to_owned());
        ruleset.and_then(|ruleset| ruleset.compile_regexes()).map_err(|error| {
            Error::Rejected(format!(
                "the edge would refuse bundle {}: {error}",
                short_digest(digest)
            ))
        })
    }

    /// Returns the digest that a rollback makes active. If the current release has a canary or a
    /// shadow, this is its active bundle, so that the rollback only ends the canary and the shadow.
    /// Otherwise it is the last active bundle that differs from the current one, or `embedded` if
    /// the store has no such bundle.
    fn previous_bundle(&self, current: &Release, releases: &[SignedText]) -> Result<String> {
        if has_canary_or_shadow(current) {
            return Ok(current.active.clone());
        }
        for signed in releases.iter().skip(1) {
            let release = signed.verified_release(&self.trusted_keys)?;
            if release.active != current.active {
                return Ok(release.active);
            }
        }
        Ok(EMBEDDED.to_owned())
    }

    /// Returns the time of the stop in force. Returns `Rejected` if enforcement is not stopped.
    fn stop_in_force(&self) -> Result<u64> {
        if !self.store.is_registry() {
            return Err(Error::Io(
                "a directory does not know the stop: expected its time; give it with --stop"
                    .to_owned(),
            ));
        }
        let status = deployment_status(self.store.as_ref())?;
        let stop = status.stop.ok_or_else(|| {
            Error::Rejected(
                "enforcement is not stopped: expected a stop to end; see `hedgerow status`"
                    .to_owned(),
            )
        })?;
        Ok(stop.stop.at)
    }

    /// Returns the release that follows the current one with the same bundles.
    pub fn follow(&self, current: Option<&Release>, publish_args: &PublishArgs) -> Release {
        Release {
            format_version: RELEASE_FORMAT,
            serial: current.map_or(0, |release| release.serial).saturating_add(1),
            created: now(),
            active: current.map_or(EMBEDDED, |release| release.active.as_str()).to_owned(),
            canary: current.and_then(|release| release.canary.clone()),
            shadow: current.and_then(|release| release.shadow.clone()),
            expires: current.and_then(|release| release.expires),
            resumes: None,
            note: publish_args.note.clone().unwrap_or_default(),
            author: self.author.clone(),
        }
    }

    /// Makes the release that follows the current one. Returns `Rejected` if the bundle of a canary
    /// or shadow is already active.
    pub fn build_release(
        &self,
        current: Option<&Release>,
        digest: &str,
        role: BundleRole,
        expires: Option<u64>,
        publish_args: &PublishArgs,
    ) -> Result<Release> {
        let digest = digest.to_owned();
        let mut release = self.follow(current, publish_args);
        if !matches!(role, BundleRole::Active) && digest == release.active {
            return Err(Error::Rejected(format!(
                "bundle {} is active for all accounts already; push other rules, or name another \
                 bundle",
                short_digest(&digest)
            )));
        }
        release.expires = expires.or(release.expires);
        match role {
            BundleRole::Active => {
                release.active = digest;
                release.canary = None;
                release.shadow = None;
                // The expiry of the current release is kept only if the new bundle is a canary or a
                // shadow.
                release.expires = expires;
            }
            BundleRole::Canary(percent) => {
                // Another share of the same canary keeps the order of its accounts.
                let same = release.canary.filter(|canary| canary.digest == digest);
                let order = same.and_then(|canary| canary.order);
                release.canary = Some(Canary { digest, percent, order });
            }
            BundleRole::Shadow => release.shadow = Some(ShadowBundle { digest }),
        }
        Ok(release)
    }

    /// Publishes a release, and prints the result.
    fn publish_and_print(
        &self,
        kind: ReleaseCommand,
        release: &Release,
        publish_args: &PublishArgs,
        format: Format,
    ) -> Result<Outcome> {
        let (outcome, output) = self.publish(kind, release, publish_args, format)?;
        if format == Format::Json {
            print_json(&output)?;
        }
        Ok(outcome)
    }

    /// Signs and publishes a release, and waits for the rollout if `--wait` is given. Prints the
    /// result if `format` is text. Returns the outcome, and the result as JSON for callers that
    /// print JSON.
    pub fn publish(
        &self,
        kind: ReleaseCommand,
        release: &Release,
        publish_args: &PublishArgs,
        format: Format,
    ) -> Result<(Outcome, Value)> {
        let bytes = release.encode();
        Release::parse(&bytes).map_err(|error| Error::Rejected(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|error| Error::Io(error.to_string()))?;
        let comment = format!("hedgerow release {}", release.serial);
        let signature = self.signer.sign(text.as_bytes(), &comment)?;
        let published =
            self.store.publish(kind, release.serial, &SignedText { text, signature })?;
        if format == Format::Text {
            print_result(release, &published)?;
        }
        if let Some(problem) = &published.problem {
            print_error(&format!(
                "warning: release {} is stored, but the edge cannot see it yet: {problem}; the \
                 registry retries: see `hedgerow status`",
                release.serial
            ));
        }
        let rollout_result = if publish_args.wait && self.store.is_registry() {
            let (store, seconds) = (self.store.as_ref(), publish_args.wait_seconds);
            Some(wait_for_rollout(store, release.serial, seconds, format)?)
        } else {
            None
        };
        let is_complete = rollout_result.as_ref().is_none_or(|result| result.done);
        let PublishResult { published, problem, stopped, .. } = published;
        let output = json!({
            "release": release, "published": published, "problem": problem, "stopped": stopped,
            "waited": rollout_result,
        });
        Ok((Outcome::from_complete(is_complete), output))
    }
}

/// Returns whether a release has a canary or a shadow in addition to its active bundle.
fn has_canary_or_shadow(release: &Release) -> bool {
    release.canary.is_some() || release.shadow.is_some()
}

/// Returns the digest of the bundle with a name: `embedded`, a digest, or the beginning of a
/// digest. Returns an error if the name is invalid, ambiguous or unknown.
pub fn resolve_digest(bundles: &[BundleInfo], name: &str) -> Result<String> {
    if name == EMBEDDED {
        return Ok(EMBEDDED.to_owned());
    }
    let name = name.to_ascii_lowercase();
    if name.len() < MIN_DIGEST_PREFIX || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::Io(format!(
            "'{name}' is not the name of a bundle: expected at least {MIN_DIGEST_PREFIX} digits of \
             its digest, or `embedded`"
        )));
    }
    let mut matches = bundles.iter().filter(|info| info.digest.starts_with(&name));
    match (matches.next(), matches.next()) {
        (Some(info), None) => Ok(info.digest.clone()),
        (Some(first), Some(second)) => Err(Error::Io(format!(
            "'{name}' is ambiguous: {} and {} begin with it; give more digits",
            short_digest(&first.digest),
            short_digest(&second.digest)
        ))),
        (None, _) => Err(Error::Rejected(format!(
            "the registry has no bundle '{name}'; upload it with `hedgerow push`"
        ))),
    }
}

fn print_result(release: &Release, published: &PublishResult) -> Result<()> {
    let state = if published.published { "published" } else { "stored" };
    print_line(format_args!("release {} {state}: {}", release.serial, describe_release(release)))?;
    if published.stopped {
        print_alarm(
            "enforcement is stopped: `hedgerow status` shows for which requests, and `hedgerow \
             resume` ends it",
        )?;
    }
    Ok(())
}

fn parse_percent(text: &str) -> std::result::Result<f64, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>().ok();
    percent
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| "expected a number above 0, up to 100".to_owned())
}

/// Minimum digits of an abbreviated digest.
const MIN_DIGEST_PREFIX: usize = 4;
