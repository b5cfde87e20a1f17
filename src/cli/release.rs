//! `hedgerow release`, `hedgerow promote`, `hedgerow rollback`: the next manifest, made from the
//! current one, signed and published.

use std::path::Path;

use hedgerow::ruleset::release::{Canary, EMBEDDED, FORMAT, Shadow};
use hedgerow::ruleset::short;
use hedgerow::trust::Keys;
use hedgerow::{Release, Ruleset};
use serde_json::{Value, json};

use super::config::{Config, Registry};
use super::key::Signer;
use super::store::{Entry, Kind, Published, Signed, Store};
use super::wait::wait;
use super::{Failure, Format, Outcome, Result, complain, line, now, print, time};

#[derive(clap::Args)]
pub struct Options {
    /// The bundle: its digest, the beginning of that, or `embedded`; else the newest.
    digest: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    registry: Registry,
}

#[derive(clap::Args)]
pub struct PromoteOptions {
    #[command(flatten)]
    publishing: Publishing,
    #[command(flatten)]
    registry: Registry,
}

#[derive(clap::Args)]
pub struct RollbackOptions {
    /// The bundle to go back to: its digest, the beginning of that, or `embedded`; else what was in
    /// force before: without the canary and the shadow, or, where there is neither, the last other bundle.
    #[arg(long, value_name = "DIGEST")]
    to: Option<String>,
    #[command(flatten)]
    publishing: Publishing,
    #[command(flatten)]
    registry: Registry,
}

/// For whom a bundle is put in force, and until when.
#[derive(clap::Args)]
pub struct How {
    /// In force for so many percent of the accounts; the rest keeps what is in force.
    #[arg(long, value_name = "PERCENT", value_parser = percentage, conflicts_with = "shadow")]
    canary: Option<f64>,
    /// Only scored and recorded beside what is in force.
    #[arg(long)]
    shadow: bool,
    /// When the release ends, and the embedded rules are in force again: 7d, 72h, 2w or 2027-01-31.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    #[command(flatten)]
    pub publishing: Publishing,
}

/// How a release is published.
#[derive(clap::Args)]
pub struct Publishing {
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
pub enum Change {
    Active,
    Canary(f64),
    Shadow,
}

impl How {
    /// What is asked for, if it is not for all.
    pub fn change(&self) -> Option<Change> {
        match (self.canary, self.shadow) {
            (Some(percent), _) => Some(Change::Canary(percent)),
            (None, true) => Some(Change::Shadow),
            (None, false) => None,
        }
    }

    /// The end, if there is one.
    pub fn expires(&self) -> Result<Option<u64>> {
        self.expires.as_deref().map(|text| time::expiry(text, now())).transpose()
    }

    /// Refuses what only a release has, where there is none.
    pub fn fits(&self, is_release: bool) -> Result<()> {
        let Publishing { note, wait, .. } = &self.publishing;
        if is_release || (note.is_none() && !wait && self.expires.is_none()) {
            return Ok(());
        }
        Err(Failure::Unable(
            "--note, --expires and --wait are for a release; add --release, --canary or --shadow"
                .to_owned(),
        ))
    }
}

/// Everything that it takes to release.
pub struct Desk {
    pub store: Box<dyn Store>,
    pub signer: Signer,
    /// The keys that are believed.
    pub keys: Keys,
    author: String,
}

pub fn run(options: &Options, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let expires = options.how.expires()?;
    let config = Config::load(config, &options.registry)?;
    let desk = Desk::open(&config, options.how.publishing.wait)?;
    let entries = desk.store.bundles()?;
    let digest = match &options.digest {
        Some(name) => resolve(&entries, name)?,
        None => entries.first().map(|newest| newest.digest.clone()).ok_or_else(|| {
            Failure::Refused("the registry has no bundle; `hedgerow push` first".to_owned())
        })?,
    };
    desk.vet(&digest)?;
    let change = options.how.change().unwrap_or(Change::Active);
    let next = desk.next(&digest, change, expires, &options.how.publishing)?;
    desk.finish(Kind::Release, &next, &options.how.publishing, format)
}

pub fn promote(options: &PromoteOptions, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &options.registry)?;
    let desk = Desk::open(&config, options.publishing.wait)?;
    let current = desk.current()?;
    let canary = current.as_ref().and_then(|release| release.canary.as_ref());
    let shadow = current.as_ref().and_then(|release| release.shadow.as_ref());
    let digest = canary.map(|canary| &canary.digest).or(shadow.map(|shadow| &shadow.digest));
    let digest = digest.ok_or_else(|| {
        Failure::Refused(
            "there is neither canary nor shadow to promote; `hedgerow release --canary PERCENT` \
             makes one, `hedgerow release` puts a bundle in force for all"
                .to_owned(),
        )
    })?;
    desk.vet(digest)?;
    let next = desk.make(current.as_ref(), digest, Change::Active, None, &options.publishing)?;
    desk.finish(Kind::Promote, &next, &options.publishing, format)
}

pub fn rollback(
    options: &RollbackOptions,
    config: Option<&Path>,
    format: Format,
) -> Result<Outcome> {
    let config = Config::load(config, &options.registry)?;
    let desk = Desk::open(&config, options.publishing.wait)?;
    let releases = desk.store.releases()?;
    let Some(current) = releases.first() else {
        let nothing = "there was no release yet, so there is nothing to go back to";
        return Err(Failure::Refused(nothing.to_owned()));
    };
    let current = current.release(&desk.keys)?;
    let digest = match &options.to {
        Some(name) => resolve(&desk.store.bundles()?, name)?,
        None => desk.before(&current, &releases)?,
    };
    if digest == current.active && !is_staged(&current) {
        return Err(Failure::Refused(format!(
            "{} is in force already (release {}); give another with --to",
            short(&digest),
            current.serial
        )));
    }
    desk.vet(&digest)?;
    let next = desk.make(Some(&current), &digest, Change::Active, None, &options.publishing)?;
    desk.finish(Kind::Rollback, &next, &options.publishing, format)
}

impl Desk {
    /// Opens the registry and the key.
    pub fn open(config: &Config, is_waiting: bool) -> Result<Self> {
        let store = config.store()?;
        if is_waiting && store.http().is_none() {
            return Err(Failure::Unable(
                "--wait needs `url`: a directory does not know what the edge does".to_owned(),
            ));
        }
        let signer = config.signer()?;
        let keys = config.believed(&signer)?;
        Ok(Self { store, signer, keys, author: config.author() })
    }

    /// The release in force.
    fn current(&self) -> Result<Option<Release>> {
        self.store.current()?.map(|signed| signed.release(&self.keys)).transpose()
    }

    /// Makes sure that the edge can use a bundle before it is told to.
    fn vet(&self, digest: &str) -> Result<()> {
        if digest == EMBEDDED {
            return Ok(());
        }
        let bundle = self.store.bundle(digest)?.bundle(digest, &self.keys)?;
        let ruleset = Ruleset::new(bundle, digest.to_owned());
        ruleset.and_then(|ruleset| ruleset.check()).map_err(|error| {
            Failure::Refused(format!("the edge would refuse bundle {}: {error}", short(digest)))
        })
    }

    /// What was in force before: while there is a canary or a shadow, the active bundle for all; else
    /// the last other one.
    fn before(&self, current: &Release, releases: &[Signed]) -> Result<String> {
        if is_staged(current) {
            return Ok(current.active.clone());
        }
        for signed in releases.iter().skip(1) {
            let release = signed.release(&self.keys)?;
            if release.active != current.active {
                return Ok(release.active);
            }
        }
        Ok(EMBEDDED.to_owned())
    }

    /// The manifest that follows the current one.
    pub fn next(
        &self,
        digest: &str,
        change: Change,
        expires: Option<u64>,
        publishing: &Publishing,
    ) -> Result<Release> {
        self.make(self.current()?.as_ref(), digest, change, expires, publishing)
    }

    fn make(
        &self,
        current: Option<&Release>,
        digest: &str,
        change: Change,
        expires: Option<u64>,
        publishing: &Publishing,
    ) -> Result<Release> {
        let active = current.map_or(EMBEDDED, |release| release.active.as_str()).to_owned();
        let canary = || current.and_then(|release| release.canary.clone());
        let shadow = || current.and_then(|release| release.shadow.clone());
        let digest = digest.to_owned();
        if !matches!(change, Change::Active) && digest == active {
            return Err(Failure::Refused(format!(
                "{} is in force for all already; push other rules, or name another bundle",
                short(&digest)
            )));
        }
        // What is in force for a time stays so while something is tried beside it.
        let ends = current.and_then(|release| release.expires);
        let ends = ends.filter(|_| !matches!(change, Change::Active));
        let (active, canary, shadow) = match change {
            Change::Active => (digest, None, None),
            Change::Canary(percent) => (active, Some(Canary { digest, percent }), shadow()),
            Change::Shadow => (active, canary(), Some(Shadow { digest })),
        };
        Ok(Release {
            release: FORMAT,
            serial: current.map_or(0, |release| release.serial).saturating_add(1),
            created: now(),
            active,
            canary,
            shadow,
            expires: expires.or(ends),
            note: publishing.note.clone().unwrap_or_default(),
            author: self.author.clone(),
        })
    }

    /// Publishes, and prints what there is to print.
    fn finish(
        &self,
        kind: Kind,
        next: &Release,
        publishing: &Publishing,
        format: Format,
    ) -> Result<Outcome> {
        let (outcome, answer) = self.publish(kind, next, publishing, format)?;
        if format == Format::Json {
            print(&answer)?;
        }
        Ok(outcome)
    }

    /// Signs and publishes a manifest, and waits for it, where that is asked for.
    pub fn publish(
        &self,
        kind: Kind,
        next: &Release,
        publishing: &Publishing,
        format: Format,
    ) -> Result<(Outcome, Value)> {
        let bytes = next.bytes();
        Release::parse(&bytes).map_err(|error| Failure::Refused(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|error| Failure::Unable(error.to_string()))?;
        let comment = format!("hedgerow release {}", next.serial);
        let signature = self.signer.sign(text.as_bytes(), &comment)?;
        let published = self.store.publish(kind, next.serial, &Signed { text, signature })?;
        if format == Format::Text {
            said(next, &published)?;
        }
        if let Some(problem) = &published.problem {
            complain(&format!(
                "warning: release {} is stored, but the edge cannot see it yet: {problem}; the \
                 registry tries again by itself, `hedgerow status` tells",
                next.serial
            ));
        }
        let waited = match (publishing.wait, self.store.http()) {
            (true, Some(http)) => Some(wait(http, next.serial, publishing.wait_seconds, format)?),
            _ => None,
        };
        let is_done = waited.as_ref().is_none_or(|waited| waited.done);
        let answer = json!({
            "release": next, "published": published.published, "problem": published.problem,
            "waited": waited,
        });
        Ok((if is_done { Outcome::Fine } else { Outcome::Findings }, answer))
    }
}

/// Whether something is tried beside what is active.
fn is_staged(release: &Release) -> bool {
    release.canary.is_some() || release.shadow.is_some()
}

/// The digest that a word stands for: `embedded`, a digest, or the beginning of one.
pub fn resolve(entries: &[Entry], name: &str) -> Result<String> {
    if name == EMBEDDED {
        return Ok(EMBEDDED.to_owned());
    }
    let name = name.to_ascii_lowercase();
    if name.len() < LEAST || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::Unable(format!(
            "'{name}' names no bundle; give at least {LEAST} digits of its digest, or `embedded`"
        )));
    }
    let mut fitting = entries.iter().filter(|entry| entry.digest.starts_with(&name));
    match (fitting.next(), fitting.next()) {
        (Some(entry), None) => Ok(entry.digest.clone()),
        (Some(one), Some(other)) => Err(Failure::Unable(format!(
            "'{name}' begins {}, {} and perhaps more; give more digits",
            short(&one.digest),
            short(&other.digest)
        ))),
        (None, _) => Err(Failure::Refused(format!(
            "the registry has no bundle '{name}'; `hedgerow push` uploads one"
        ))),
    }
}

/// A release in one line: `active 0123456789ab, canary 456789abcdef for 10 %`.
pub fn summary(release: &Release) -> String {
    let mut text = format!("active {}", short(&release.active));
    if let Some(canary) = &release.canary {
        text += &format!(", canary {} for {} %", short(&canary.digest), canary.percent);
    }
    if let Some(shadow) = &release.shadow {
        text += &format!(", shadow {}", short(&shadow.digest));
    }
    if let Some(expires) = release.expires {
        text += &format!(", until {}", time::date(expires));
    }
    text
}

fn said(next: &Release, published: &Published) -> Result<()> {
    let state = if published.published { "published" } else { "stored" };
    line(format_args!("release {} {state}: {}", next.serial, summary(next)))
}

fn percentage(text: &str) -> std::result::Result<f64, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>().ok();
    percent
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| "give a number above 0, up to 100".to_owned())
}

/// Digits of a digest that name a bundle, at least.
const LEAST: usize = 4;
