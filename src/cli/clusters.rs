//! `hedgerow clusters list|show`

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::config::{Config, Registry};
use super::indicators::cluster;
use super::replay::percent;
use super::time::date;
use super::{Failure, Format, Outcome, Result, line, print};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Accounts that act together, last seen first.
    List(List),
    /// One of them: the keys that link it, its requests, models and decisions.
    Show(Show),
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    registry: Registry,
}

#[derive(clap::Args)]
struct Show {
    /// Its id, as the list and decisions show it.
    #[arg(value_parser = cluster)]
    id: String,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    registry: Registry,
}

#[derive(clap::Args)]
struct Window {
    /// Count the requests of the last N whole minutes.
    #[arg(long, value_name = "N", default_value_t = 1_440, value_parser = clap::value_parser!(u32).range(1..=43_200))]
    minutes: u32,
}

/// What a deployment tells of a cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cluster {
    id: String,
    accounts: u64,
    keys: u64,
    correlations: Vec<String>,
    first: u64,
    last: u64,
    links: Vec<Link>,
    traffic: Option<Traffic>,
}

#[derive(Debug, Deserialize)]
struct Link {
    key: String,
    correlation: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Traffic {
    minutes: u64,
    requests: u64,
    by_band: BTreeMap<String, u64>,
    by_model: BTreeMap<String, u64>,
}

pub fn run(options: &Options, config: Option<&Path>, format: Format) -> Result<Outcome> {
    match &options.command {
        Command::List(options) => list(options, config, format),
        Command::Show(options) => show(options, config, format),
    }
}

fn list(options: &List, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let http = Config::load(config, &options.registry)?.http("`hedgerow clusters`")?;
    let answer: Value = http.get(&format!("/clusters?minutes={}", options.window.minutes))?;
    if format == Format::Json {
        print(&answer)?;
        return Ok(Outcome::Fine);
    }
    let clusters: Vec<Cluster> = read(answer.get("clusters").cloned().unwrap_or_default())?;
    line(format_args!(
        "{:<8}  {:>8}  {:>5}  {:>9}  {:<16}  {:<16}  correlations",
        "id", "accounts", "keys", "requests", "first (UTC)", "last (UTC)"
    ))?;
    for own in &clusters {
        let Cluster { id, accounts, keys, .. } = own;
        let requests = own.traffic.as_ref().map_or("?".to_owned(), |own| own.requests.to_string());
        let (first, last) = (date(own.first), date(own.last));
        let correlations = own.correlations.join(" ");
        line(format_args!(
            "{id:<8}  {accounts:>8}  {keys:>5}  {requests:>9}  {first:<16}  {last:<16}  {correlations}"
        ))?;
    }
    Ok(Outcome::Fine)
}

fn show(options: &Show, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let http = Config::load(config, &options.registry)?.http("`hedgerow clusters`")?;
    let path = format!("/clusters/{}?minutes={}", options.id, options.window.minutes);
    let answer: Value = http.get(&path)?;
    if format == Format::Json {
        print(&answer)?;
        return Ok(Outcome::Fine);
    }
    let cluster: Cluster = read(answer)?;
    line(format_args!("cluster {}", cluster.id))?;
    line(format_args!("  accounts  {}", cluster.accounts))?;
    line(format_args!("  seen      {} to {}", date(cluster.first), date(cluster.last)))?;
    match &cluster.traffic {
        Some(traffic) => {
            line(format_args!(
                "  requests  {} in the last {} minutes",
                traffic.requests, traffic.minutes
            ))?;
            line(format_args!("  decided   {}", shares(&traffic.by_band)))?;
            line(format_args!("  models    {}", shares(&traffic.by_model)))?;
        }
        None => line(format_args!("  requests  the ledger does not answer"))?,
    }
    line(format_args!("  linked by"))?;
    for Link { key, correlation } in &cluster.links {
        line(format_args!("    {key}  {correlation}"))?;
    }
    Ok(Outcome::Fine)
}

/// Counts as shares of all of them, the largest first.
fn shares(counts: &BTreeMap<String, u64>) -> String {
    let all: u64 = counts.values().sum();
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let share = |count: u64| percent(count as usize, all as usize);
    let told = counts.iter().map(|(name, count)| format!("{name} {:.0} %", share(**count)));
    let told: Vec<String> = told.collect();
    if told.is_empty() { "-".to_owned() } else { told.join(", ") }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| {
        Failure::Unable(format!("the clusters are not what this version expects: {error}"))
    })
}
