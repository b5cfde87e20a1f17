//! `hedgerow release`, `hedgerow promote`, `hedgerow rollback`: the next manifest, made from the
//! current one, signed and published.

use std::path::Path;

use hedgerow_core::rules::release::{Canary, EMBEDDED, RELEASE_FORMAT, ShadowBundle};
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::short_digest;
use hedgerow_core::{Release, Ruleset};
use hedgerow_sigma::Canonical;
use serde_json::{Value, json};

use crate::config::{Config, TargetArgs};
use crate::format::describe_release;
use crate::remote::{BundleInfo, PublishResult, ReleaseKind, ReleaseStore, SignedText};
use crate::rollout::wait_for_rollout;
use crate::signer::Signer;
use crate::{Error, Format, Outcome, Result, dates, now, print_error, print_json, print_line};

#[derive(clap::Args)]
pub struct ReleaseArgs {
    /// The bundle: its digest, the beginning of that, or `embedded`; else the newest.
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
    /// The bundle to go back to: its digest, the beginning of that, or `embedded`; else what was in
    /// force before: without the canary and the shadow, or, where there is neither, the last other bundle.
    #[arg(long, value_name = "DIGEST")]
    to: Option<String>,
    #[command(flatten)]
    publish: PublishArgs,
    #[command(flatten)]
    target: TargetArgs,
}

/// For whom a bundle is put in force, and until when.
#[derive(clap::Args)]
pub struct RolloutArgs {
    /// In force for so many percent of the accounts; the rest keeps what is in force.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, conflicts_with = "shadow")]
    canary: Option<f64>,
    /// Only scored and recorded beside what is in force.
    #[arg(long)]
    shadow: bool,
    /// When the release ends, and the embedded rules are in force again: 7d, 72h, 2w or 2027-01-31.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    #[command(flatten)]
    pub publish: PublishArgs,
}

/// How a release is published.
#[derive(clap::Args)]
pub struct PublishArgs {
    /// What the release is for.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Wait until 95 % of the last minute's traffic has it.
    #[arg(long)]
    pub wait: bool,
    /// Wait so long at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub wait_seconds: u64,
}

/// What is to become of a bundle.
#[derive(Clone, Copy, Debug)]
pub enum BundleRole {
    Active,
    Canary(f64),
    Shadow,
}

impl RolloutArgs {
    /// What is asked for, if it is not for all.
    pub fn role(&self) -> Option<BundleRole> {
        match (self.canary, self.shadow) {
            (Some(percent), _) => Some(BundleRole::Canary(percent)),
            (None, true) => Some(BundleRole::Shadow),
            (None, false) => None,
        }
    }

    /// The end, if there is one.
    pub fn expires_at(&self) -> Result<Option<u64>> {
        self.expires.as_deref().map(|text| dates::parse_expiry(text, now())).transpose()
    }

    /// Refuses what only a release has, where there is none.
    pub fn validate(&self, is_release: bool) -> Result<()> {
        let PublishArgs { note, wait, .. } = &self.publish;
        if is_release || (note.is_none() && !wait && self.expires.is_none()) {
            return Ok(());
        }
        Err(Error::Io(
            "--note, --expires and --wait are for a release; add --release, --canary or --shadow"
                .to_owned(),
        ))
    }
}

/// Everything that it takes to release.
pub struct Publisher {
    pub store: Box<dyn ReleaseStore>,
    pub signer: Signer,
    /// The keys that are believed.
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
            Error::Rejected("the registry has no bundle; `hedgerow push` first".to_owned())
        })?,
    };
    publisher.verify_bundle(&digest)?;
    let role = args.rollout.role().unwrap_or(BundleRole::Active);
    let release = publisher.next_release(&digest, role, expires, &args.rollout.publish)?;
    publisher.publish_and_print(ReleaseKind::Release, &release, &args.rollout.publish, format)
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
            "there is neither canary nor shadow to promote; `hedgerow release --canary PERCENT` \
             makes one, `hedgerow release` puts a bundle in force for all"
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
    publisher.publish_and_print(ReleaseKind::Promote, &release, &args.publish, format)
}

pub fn rollback(args: &RollbackArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &args.target)?;
    let publisher = Publisher::open(&config, args.publish.wait)?;
    let releases = publisher.store.releases()?;
    let Some(current) = releases.first() else {
        let message = "there was no release yet, so there is nothing to go back to";
        return Err(Error::Rejected(message.to_owned()));
    };
    let current = current.verified_release(&publisher.trusted_keys)?;
    let digest = match &args.to {
        Some(name) => resolve_digest(&publisher.store.bundles()?, name)?,
        None => publisher.previous_bundle(&current, &releases)?,
    };
    if digest == current.active && !has_canary_or_shadow(&current) {
        return Err(Error::Rejected(format!(
            "{} is in force already (release {}); give another with --to",
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
    publisher.publish_and_print(ReleaseKind::Rollback, &release, &args.publish, format)
}

impl Publisher {
    /// Opens the registry and the key.
    pub fn open(config: &Config, needs_client: bool) -> Result<Self> {
        let store = config.store()?;
        if needs_client && !store.is_registry() {
            return Err(Error::Io(
                "--wait needs `url`: a directory does not know what the edge does".to_owned(),
            ));
        }
        let signer = config.signer()?;
        let trusted_keys = config.trusted_keys(&signer)?;
        Ok(Self { store, signer, trusted_keys, author: config.author() })
    }

    /// The release in force.
    fn current_release(&self) -> Result<Option<Release>> {
        self.store
            .current_release()?
            .map(|signed| signed.verified_release(&self.trusted_keys))
            .transpose()
    }

    /// Makes sure that the edge can use a bundle before it is told to.
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

    /// What was in force before: while there is a canary or a shadow, the active bundle for all; else
    /// the last other one.
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

    /// The manifest that follows the current one.
    pub fn next_release(
        &self,
        digest: &str,
        role: BundleRole,
        expires: Option<u64>,
        publish_args: &PublishArgs,
    ) -> Result<Release> {
        self.build_release(self.current_release()?.as_ref(), digest, role, expires, publish_args)
    }

    fn build_release(
        &self,
        current: Option<&Release>,
        digest: &str,
        role: BundleRole,
        expires: Option<u64>,
        publish_args: &PublishArgs,
    ) -> Result<Release> {
        let active = current.map_or(EMBEDDED, |release| release.active.as_str()).to_owned();
        let canary = || current.and_then(|release| release.canary.clone());
        let shadow = || current.and_then(|release| release.shadow.clone());
        let digest = digest.to_owned();
        if !matches!(role, BundleRole::Active) && digest == active {
            return Err(Error::Rejected(format!(
                "{} is in force for all already; push other rules, or name another bundle",
                short_digest(&digest)
            )));
        }
        // What is in force for a time stays so while something is tried beside it.
        let inherited_expiry = current.and_then(|release| release.expires);
        let inherited_expiry = inherited_expiry.filter(|_| !matches!(role, BundleRole::Active));
        let (active, canary, shadow) = match role {
            BundleRole::Active => (digest, None, None),
            BundleRole::Canary(percent) => (active, Some(Canary { digest, percent }), shadow()),
            BundleRole::Shadow => (active, canary(), Some(ShadowBundle { digest })),
        };
        Ok(Release {
            format_version: RELEASE_FORMAT,
            serial: current.map_or(0, |release| release.serial).saturating_add(1),
            created: now(),
            active,
            canary,
            shadow,
            expires: expires.or(inherited_expiry),
            note: publish_args.note.clone().unwrap_or_default(),
            author: self.author.clone(),
        })
    }

    /// Publishes, and prints what there is to print.
    fn publish_and_print(
        &self,
        kind: ReleaseKind,
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

    /// Signs and publishes a manifest, and waits for it, where that is asked for.
    pub fn publish(
        &self,
        kind: ReleaseKind,
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
                 registry tries again by itself, `hedgerow status` tells",
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
        let output = json!({
            "release": release, "published": published.published, "problem": published.problem,
            "waited": rollout_result,
        });
        Ok((if is_complete { Outcome::Success } else { Outcome::Findings }, output))
    }
}

/// Whether something is tried beside what is active.
fn has_canary_or_shadow(release: &Release) -> bool {
    release.canary.is_some() || release.shadow.is_some()
}

/// The digest that a word stands for: `embedded`, a digest, or the beginning of one.
pub fn resolve_digest(bundles: &[BundleInfo], name: &str) -> Result<String> {
    if name == EMBEDDED {
        return Ok(EMBEDDED.to_owned());
    }
    let name = name.to_ascii_lowercase();
    if name.len() < MIN_DIGEST_PREFIX || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::Io(format!(
            "'{name}' names no bundle; give at least {MIN_DIGEST_PREFIX} digits of its digest, or `embedded`"
        )));
    }
    let mut matches = bundles.iter().filter(|info| info.digest.starts_with(&name));
    match (matches.next(), matches.next()) {
        (Some(info), None) => Ok(info.digest.clone()),
        (Some(first), Some(second)) => Err(Error::Io(format!(
            "'{name}' begins {}, {} and perhaps more; give more digits",
            short_digest(&first.digest),
            short_digest(&second.digest)
        ))),
        (None, _) => Err(Error::Rejected(format!(
            "the registry has no bundle '{name}'; `hedgerow push` uploads one"
        ))),
    }
}

fn print_result(release: &Release, published: &PublishResult) -> Result<()> {
    let state = if published.published { "published" } else { "stored" };
    print_line(format_args!("release {} {state}: {}", release.serial, describe_release(release)))
}

fn parse_percent(text: &str) -> std::result::Result<f64, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>().ok();
    percent
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| "give a number above 0, up to 100".to_owned())
}

/// Digits of a digest that name a bundle, at least.
const MIN_DIGEST_PREFIX: usize = 4;
