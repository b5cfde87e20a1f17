//! `hedgerow status [--watch] [--minutes N]`

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use hedgerow::Release;
use hedgerow::ruleset::short;
use serde::Deserialize;
use serde_json::Value;

use super::config::{Config, Registry};
use super::release::summary;
use super::store::Http;
use super::time::{age, date};
use super::{Failure, Format, Outcome, Result, complain, line, print};

#[derive(clap::Args)]
pub struct Options {
    /// Show it again every two seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Show the traffic of the last N whole minutes instead of the last 60 seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=43_200))]
    minutes: Option<u32>,
    #[command(flatten)]
    registry: Registry,
}

/// What a deployment tells of itself. What it leaves out is nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    now: u64,
    version: String,
    /// Nothing where they do not load.
    embedded: Option<String>,
    keys: Vec<String>,
    pub release: Option<Stored>,
    pub publication: Publication,
    pull: Option<Pull>,
    /// Nothing where the deployment is older than they are.
    indicators: Option<Found>,
    pub ledger: Ledger,
    pub traffic: Traffic,
}

#[derive(Debug, Deserialize)]
pub struct Stored {
    pub serial: u64,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    published: Option<u64>,
    release: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Publication {
    serial: Option<u64>,
    pending: Option<u64>,
    attempts: u64,
    pub problem: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pull {
    checked: Option<u64>,
    changed: Option<u64>,
    problem: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Found {
    count: u64,
    clusters: u64,
    pending: bool,
    problem: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Ledger {
    pub reachable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Traffic {
    seconds: u64,
    pub requests: u64,
    pub by_serial: BTreeMap<String, u64>,
    by_ruleset: BTreeMap<String, u64>,
    by_role: BTreeMap<String, u64>,
    by_band: BTreeMap<String, u64>,
    by_action: BTreeMap<String, u64>,
    by_mode: BTreeMap<String, u64>,
    signatures: Vec<Hits>,
    pub errors: Vec<Trouble>,
    shadow: Option<Shadow>,
}

#[derive(Debug, Deserialize)]
struct Hits {
    name: String,
    hits: u64,
}

#[derive(Debug, Deserialize)]
pub struct Trouble {
    pub what: String,
    pub count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shadow {
    ruleset: String,
    requests: u64,
    bands: Vec<Move>,
    signatures: Vec<Only>,
}

#[derive(Debug, Deserialize)]
struct Move {
    from: String,
    to: String,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Only {
    name: String,
    only_active: u64,
    only_shadow: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { reachable: true }
    }
}

pub fn run(options: &Options, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let http = Config::load(config, &options.registry)?.http("`hedgerow status`")?;
    let path = match options.minutes {
        Some(minutes) => format!("/status?minutes={minutes}"),
        None => "/status".to_owned(),
    };
    show(&http, &path, options.watch, format)?;
    if !options.watch {
        return Ok(Outcome::Fine);
    }
    loop {
        sleep(EVERY);
        match show(&http, &path, true, format) {
            // Who watches a deployment watches it through its troubles.
            Err(Failure::Unable(problem)) => complain(&problem),
            shown => shown?,
        }
    }
}

fn show(http: &Http, path: &str, is_watching: bool, format: Format) -> Result<()> {
    let value: Value = http.get(path)?;
    if format == Format::Json {
        return print(&value);
    }
    let status: Status = serde_json::from_value(value).map_err(|error| {
        Failure::Unable(format!(
            "the deployment's status is not what this version expects: {error}"
        ))
    })?;
    if is_watching && stdout().is_terminal() {
        clear()?;
    } else if is_watching {
        return status.line();
    }
    status.text()
}

/// Clears the terminal, and begins at its top.
fn clear() -> Result<()> {
    let cleared = std::io::Write::write_all(&mut stdout().lock(), b"\x1b[H\x1b[2J");
    cleared.map_err(|_| Failure::Closed)
}

impl Status {
    /// Percent of the traffic that has a release.
    pub fn percent(&self, serial: u64) -> f64 {
        let Traffic { requests, by_serial, .. } = &self.traffic;
        share(by_serial.get(&serial.to_string()).copied().unwrap_or(0), *requests)
    }

    /// Serial of the newest release; 0 where there is none.
    pub fn newest(&self) -> u64 {
        self.release.as_ref().map_or(0, |release| release.serial)
    }

    /// All in one line, for logs.
    fn line(&self) -> Result<()> {
        let serial = self.newest();
        let errors: u64 = self.traffic.errors.iter().map(|error| error.count).sum();
        line(format_args!(
            "{}  release {serial}: {:.0} % of {} requests, {errors} errors{}",
            date(self.now),
            self.percent(serial),
            self.traffic.requests,
            self.publication
                .problem
                .as_ref()
                .map_or(String::new(), |it| format!(", not published: {it}"))
        ))
    }

    fn text(&self) -> Result<()> {
        self.release()?;
        self.publication()?;
        self.pull()?;
        self.indicators()?;
        line(format_args!(
            "deployment  version {}, embedded rules {}, {} public keys",
            self.version,
            short(self.embedded.as_deref().unwrap_or("BROKEN")),
            self.keys.len()
        ))?;
        self.traffic()
    }

    fn release(&self) -> Result<()> {
        let Some(stored) = &self.release else {
            return line(format_args!("release     none yet: the embedded rules are in force"));
        };
        let Ok(release) = serde_json::from_value::<Release>(stored.release.clone()) else {
            return line(format_args!(
                "release     {}, of a form that this version does not know",
                stored.serial
            ));
        };
        let kind = if stored.kind.is_empty() { "release" } else { &stored.kind };
        line(format_args!("release     {} ({kind}): {}", stored.serial, summary(&release)))?;
        let author = if release.author.is_empty() { "nobody named" } else { &release.author };
        line(format_args!(
            "            {} ago ({}), by {author}",
            age(release.created, self.now),
            date(release.created)
        ))?;
        if release.is_expired(self.now) {
            line(format_args!(
                "            EXPIRED: the embedded rules are in force; release again"
            ))?;
        }
        match release.note.is_empty() {
            true => Ok(()),
            false => line(format_args!("            {}", release.note)),
        }
    }

    fn publication(&self) -> Result<()> {
        let Publication { serial, pending, attempts, problem } = &self.publication;
        let published = self.release.as_ref().and_then(|release| release.published);
        match (pending, serial) {
            (Some(pending), _) => {
                line(format_args!("published   NO: {pending} waits after {attempts} attempts"))?
            }
            (None, Some(serial)) => {
                let age = published.map(|at| format!(", {} ago", age(at, self.now)));
                line(format_args!("published   {serial}{}", age.unwrap_or_default()))?;
            }
            (None, None) => line(format_args!("published   nothing"))?,
        }
        match problem {
            Some(problem) => line(format_args!("            {problem}")),
            None => Ok(()),
        }
    }

    fn pull(&self) -> Result<()> {
        let Some(Pull { checked, changed, problem }) = &self.pull else { return Ok(()) };
        let told = |at: &Option<u64>| {
            at.map_or("never".to_owned(), |at| format!("{} ago", age(at, self.now)))
        };
        line(format_args!(
            "pull        looked {}, something new {}",
            told(checked),
            told(changed)
        ))?;
        match problem {
            Some(problem) => line(format_args!("            {problem}")),
            None => Ok(()),
        }
    }

    fn indicators(&self) -> Result<()> {
        let Some(Found { count, clusters, pending, problem }) = &self.indicators else {
            return Ok(());
        };
        let waits = if *pending { ", waiting for KV" } else { "" };
        line(format_args!("indicators  {count}, {clusters} clusters{waits}"))?;
        match problem {
            Some(problem) => line(format_args!("            {problem}")),
            None => Ok(()),
        }
    }

    fn traffic(&self) -> Result<()> {
        let traffic = &self.traffic;
        let period = match traffic.seconds {
            seconds if seconds > 60 => format!("{} minutes", seconds / 60),
            _ => "minute".to_owned(),
        };
        if !self.ledger.reachable {
            line(format_args!("traffic     the ledger does not answer: nothing is known of it"))?;
        }
        line(format_args!("traffic     {} requests in the last {period}", traffic.requests))?;
        let serials = traffic.by_serial.iter().map(|(serial, count)| match serial.as_str() {
            "0" => ("embedded".to_owned(), *count),
            serial => (serial.to_owned(), *count),
        });
        self.shares("by release", serials)?;
        let rulesets = traffic.by_ruleset.iter();
        self.shares(
            "by rules",
            rulesets.map(|(digest, count)| (short(digest).to_owned(), *count)),
        )?;
        let rows = [
            ("by role", &traffic.by_role),
            ("by band", &traffic.by_band),
            ("by action", &traffic.by_action),
            ("by mode", &traffic.by_mode),
        ];
        for (name, counts) in rows {
            self.shares(name, counts.iter().map(|(key, count)| (key.clone(), *count)))?;
        }
        if !traffic.signatures.is_empty() {
            line(format_args!("\n{:<48} {:>8}", "signature", "hits"))?;
        }
        for Hits { name, hits } in traffic.signatures.iter().take(TOP) {
            line(format_args!("{name:<48} {hits:>8}"))?;
        }
        if let Some(shadow) = &traffic.shadow {
            shadow.text()?;
        }
        if !traffic.errors.is_empty() {
            line(format_args!("\nerrors"))?;
        }
        for Trouble { what, count } in &traffic.errors {
            line(format_args!("{count:>8}  {what}"))?;
        }
        Ok(())
    }

    /// One line of shares, the greatest first.
    fn shares(&self, name: &str, counts: impl Iterator<Item = (String, u64)>) -> Result<()> {
        let mut counts: Vec<(String, u64)> = counts.filter(|(_, count)| *count > 0).collect();
        if counts.is_empty() {
            return Ok(());
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shares = counts
            .iter()
            .map(|(key, count)| format!("{key} {:.1} %", share(*count, self.traffic.requests)));
        line(format_args!("{name:>14}  {}", shares.collect::<Vec<_>>().join(", ")))
    }
}

impl Shadow {
    fn text(&self) -> Result<()> {
        line(format_args!(
            "\nshadow {}: {} requests scored by both",
            short(&self.ruleset),
            self.requests
        ))?;
        for Move { from, to, count } in self.bands.iter().filter(|row| row.from != row.to) {
            line(format_args!("{count:>8}  {from} → {to}"))?;
        }
        if !self.signatures.is_empty() {
            line(format_args!("{:<48} {:>12} {:>12}", "signature", "only active", "only shadow"))?;
        }
        for Only { name, only_active, only_shadow } in &self.signatures {
            line(format_args!("{name:<48} {only_active:>12} {only_shadow:>12}"))?;
        }
        Ok(())
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// Signatures that are shown.
const TOP: usize = 10;

/// How often it is shown again.
const EVERY: Duration = Duration::from_secs(2);
