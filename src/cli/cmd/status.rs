//! `hedgerow status [--watch] [--minutes N]`

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use hedgerow_core::Release;
use hedgerow_core::ruleset::short_digest;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{Config, TargetArgs};
use crate::dates::{format_age, format_utc};
use crate::format::describe_release;
use crate::remote::AdminClient;
use crate::{Error, Format, Outcome, Result, print_error, print_json, print_line};

#[derive(clap::Args)]
pub struct StatusArgs {
    /// Show it again every two seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Show the traffic of the last N whole minutes instead of the last 60 seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=43_200))]
    minutes: Option<u32>,
    #[command(flatten)]
    target: TargetArgs,
}

/// What a deployment tells of itself. What it leaves out is nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct DeploymentStatus {
    now: u64,
    version: String,
    /// Nothing where they do not load.
    embedded: Option<String>,
    keys: Vec<String>,
    pub release: Option<StoredRelease>,
    pub publication: PublicationStatus,
    pull: Option<PullStatus>,
    /// Nothing where the deployment is older than they are.
    indicators: Option<IndicatorStatus>,
    pub ledger: LedgerStatus,
    pub traffic: TrafficSummary,
}

#[derive(Debug, Deserialize)]
pub struct StoredRelease {
    pub serial: u64,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    published: Option<u64>,
    release: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublicationStatus {
    serial: Option<u64>,
    pending: Option<u64>,
    attempts: u64,
    pub problem: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PullStatus {
    checked: Option<u64>,
    changed: Option<u64>,
    problem: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IndicatorStatus {
    count: u64,
    clusters: u64,
    pending: bool,
    problem: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct LedgerStatus {
    pub reachable: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TrafficSummary {
    seconds: u64,
    pub requests: u64,
    pub by_serial: BTreeMap<String, u64>,
    by_ruleset: BTreeMap<String, u64>,
    by_role: BTreeMap<String, u64>,
    by_band: BTreeMap<String, u64>,
    by_action: BTreeMap<String, u64>,
    by_mode: BTreeMap<String, u64>,
    signatures: Vec<SignatureHits>,
    pub errors: Vec<ErrorCount>,
    shadow: Option<ShadowComparison>,
}

#[derive(Debug, Deserialize)]
struct SignatureHits {
    name: String,
    hits: u64,
}

#[derive(Debug, Deserialize)]
pub struct ErrorCount {
    #[serde(rename = "what")]
    pub message: String,
    pub count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ShadowComparison {
    ruleset: String,
    requests: u64,
    bands: Vec<BandChange>,
    signatures: Vec<SignatureDifference>,
}

#[derive(Debug, Deserialize)]
struct BandChange {
    from: String,
    to: String,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct SignatureDifference {
    name: String,
    only_active: u64,
    only_shadow: u64,
}

impl Default for LedgerStatus {
    fn default() -> Self {
        Self { reachable: true }
    }
}

pub fn run(args: &StatusArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow status`")?;
    let path = match args.minutes {
        Some(minutes) => format!("/status?minutes={minutes}"),
        None => "/status".to_owned(),
    };
    fetch_and_print(&client, &path, args.watch, format)?;
    if !args.watch {
        return Ok(Outcome::Success);
    }
    loop {
        sleep(REFRESH_INTERVAL);
        match fetch_and_print(&client, &path, true, format) {
            // Who watches a deployment watches it through its troubles.
            Err(Error::Io(problem)) => print_error(&problem),
            result => result?,
        }
    }
}

fn fetch_and_print(
    client: &AdminClient,
    path: &str,
    is_watching: bool,
    format: Format,
) -> Result<()> {
    let value: Value = client.get(path)?;
    if format == Format::Json {
        return print_json(&value);
    }
    let status: DeploymentStatus = serde_json::from_value(value).map_err(|error| {
        Error::Io(format!("the deployment's status is not what this version expects: {error}"))
    })?;
    if is_watching && stdout().is_terminal() {
        clear_terminal()?;
    } else if is_watching {
        return status.print_one_line();
    }
    status.print_text()
}

/// Clears the terminal, and begins at its top.
fn clear_terminal() -> Result<()> {
    let cleared = std::io::Write::write_all(&mut stdout().lock(), b"\x1b[H\x1b[2J");
    cleared.map_err(|_| Error::BrokenPipe)
}

impl DeploymentStatus {
    /// Percent of the traffic that has a release.
    pub fn rollout_percent(&self, serial: u64) -> f64 {
        let TrafficSummary { requests, by_serial, .. } = &self.traffic;
        percent(by_serial.get(&serial.to_string()).copied().unwrap_or(0), *requests)
    }

    /// Serial of the newest release; 0 where there is none.
    pub fn newest_serial(&self) -> u64 {
        self.release.as_ref().map_or(0, |release| release.serial)
    }

    /// All in one line, for logs.
    fn print_one_line(&self) -> Result<()> {
        let serial = self.newest_serial();
        let errors: u64 = self.traffic.errors.iter().map(|error| error.count).sum();
        print_line(format_args!(
            "{}  release {serial}: {:.0} % of {} requests, {errors} errors{}",
            format_utc(self.now),
            self.rollout_percent(serial),
            self.traffic.requests,
            self.publication
                .problem
                .as_ref()
                .map_or(String::new(), |problem| format!(", not published: {problem}"))
        ))
    }

    fn print_text(&self) -> Result<()> {
        self.print_release()?;
        self.print_publication()?;
        self.print_pull()?;
        self.print_indicators()?;
        print_line(format_args!(
            "deployment  version {}, embedded rules {}, {} public keys",
            self.version,
            short_digest(self.embedded.as_deref().unwrap_or("BROKEN")),
            self.keys.len()
        ))?;
        self.print_traffic()
    }

    fn print_release(&self) -> Result<()> {
        let Some(stored) = &self.release else {
            return print_line(format_args!(
                "release     none yet: the embedded rules are in force"
            ));
        };
        let Ok(release) = serde_json::from_value::<Release>(stored.release.clone()) else {
            return print_line(format_args!(
                "release     {}, of a form that this version does not know",
                stored.serial
            ));
        };
        let kind = if stored.kind.is_empty() { "release" } else { &stored.kind };
        print_line(format_args!(
            "release     {} ({kind}): {}",
            stored.serial,
            describe_release(&release)
        ))?;
        let author = if release.author.is_empty() { "nobody named" } else { &release.author };
        print_line(format_args!(
            "            {} ago ({}), by {author}",
            format_age(release.created, self.now),
            format_utc(release.created)
        ))?;
        if release.is_expired(self.now) {
            print_line(format_args!(
                "            EXPIRED: the embedded rules are in force; release again"
            ))?;
        }
        match release.note.is_empty() {
            true => Ok(()),
            false => print_line(format_args!("            {}", release.note)),
        }
    }

    fn print_publication(&self) -> Result<()> {
        let PublicationStatus { serial, pending, attempts, problem } = &self.publication;
        let published_at = self.release.as_ref().and_then(|release| release.published);
        match (pending, serial) {
            (Some(pending), _) => print_line(format_args!(
                "published   NO: {pending} waits after {attempts} attempts"
            ))?,
            (None, Some(serial)) => {
                let age = published_at.map(|time| format!(", {} ago", format_age(time, self.now)));
                print_line(format_args!("published   {serial}{}", age.unwrap_or_default()))?;
            }
            (None, None) => print_line(format_args!("published   nothing"))?,
        }
        match problem {
            Some(problem) => print_line(format_args!("            {problem}")),
            None => Ok(()),
        }
    }

    fn print_pull(&self) -> Result<()> {
        let Some(PullStatus { checked, changed, problem }) = &self.pull else { return Ok(()) };
        let format_event_age = |time: &Option<u64>| {
            time.map_or("never".to_owned(), |time| format!("{} ago", format_age(time, self.now)))
        };
        print_line(format_args!(
            "pull        looked {}, something new {}",
            format_event_age(checked),
            format_event_age(changed)
        ))?;
        match problem {
            Some(problem) => print_line(format_args!("            {problem}")),
            None => Ok(()),
        }
    }

    fn print_indicators(&self) -> Result<()> {
        let Some(IndicatorStatus { count, clusters, pending, problem }) = &self.indicators else {
            return Ok(());
        };
        let pending_note = if *pending { ", waiting for KV" } else { "" };
        print_line(format_args!("indicators  {count}, {clusters} clusters{pending_note}"))?;
        match problem {
            Some(problem) => print_line(format_args!("            {problem}")),
            None => Ok(()),
        }
    }

    fn print_traffic(&self) -> Result<()> {
        let traffic = &self.traffic;
        let period = match traffic.seconds {
            seconds if seconds > 60 => format!("{} minutes", seconds / 60),
            _ => "minute".to_owned(),
        };
        if !self.ledger.reachable {
            print_line(format_args!(
                "traffic     the ledger does not answer: nothing is known of it"
            ))?;
        }
        print_line(format_args!("traffic     {} requests in the last {period}", traffic.requests))?;
        let serials = traffic.by_serial.iter().map(|(serial, count)| match serial.as_str() {
            "0" => ("embedded".to_owned(), *count),
            serial => (serial.to_owned(), *count),
        });
        self.print_shares("by release", serials)?;
        let rulesets = traffic.by_ruleset.iter();
        self.print_shares(
            "by rules",
            rulesets.map(|(digest, count)| (short_digest(digest).to_owned(), *count)),
        )?;
        let rows = [
            ("by role", &traffic.by_role),
            ("by band", &traffic.by_band),
            ("by action", &traffic.by_action),
            ("by mode", &traffic.by_mode),
        ];
        for (name, counts) in rows {
            self.print_shares(name, counts.iter().map(|(key, count)| (key.clone(), *count)))?;
        }
        if !traffic.signatures.is_empty() {
            print_line(format_args!("\n{:<48} {:>8}", "signature", "hits"))?;
        }
        for SignatureHits { name, hits } in traffic.signatures.iter().take(MAX_SIGNATURES_SHOWN) {
            print_line(format_args!("{name:<48} {hits:>8}"))?;
        }
        if let Some(shadow) = &traffic.shadow {
            shadow.print_text()?;
        }
        if !traffic.errors.is_empty() {
            print_line(format_args!("\nerrors"))?;
        }
        for ErrorCount { message: what, count } in &traffic.errors {
            print_line(format_args!("{count:>8}  {what}"))?;
        }
        Ok(())
    }

    /// One line of shares, the greatest first.
    fn print_shares(&self, name: &str, counts: impl Iterator<Item = (String, u64)>) -> Result<()> {
        let mut counts: Vec<(String, u64)> = counts.filter(|(_, count)| *count > 0).collect();
        if counts.is_empty() {
            return Ok(());
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shares = counts
            .iter()
            .map(|(key, count)| format!("{key} {:.1} %", percent(*count, self.traffic.requests)));
        print_line(format_args!("{name:>14}  {}", shares.collect::<Vec<_>>().join(", ")))
    }
}

impl ShadowComparison {
    fn print_text(&self) -> Result<()> {
        print_line(format_args!(
            "\nshadow {}: {} requests scored by both",
            short_digest(&self.ruleset),
            self.requests
        ))?;
        for BandChange { from, to, count } in
            self.bands.iter().filter(|change| change.from != change.to)
        {
            print_line(format_args!("{count:>8}  {from} → {to}"))?;
        }
        if !self.signatures.is_empty() {
            print_line(format_args!(
                "{:<48} {:>12} {:>12}",
                "signature", "only active", "only shadow"
            ))?;
        }
        for SignatureDifference { name, only_active, only_shadow } in &self.signatures {
            print_line(format_args!("{name:<48} {only_active:>12} {only_shadow:>12}"))?;
        }
        Ok(())
    }
}

fn percent(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { 100.0 * part as f64 / total as f64 }
}

/// Signatures that are shown.
const MAX_SIGNATURES_SHOWN: usize = 10;

/// How often it is shown again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
