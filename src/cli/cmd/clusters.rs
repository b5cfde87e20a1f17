//! `hedgerow clusters list|show`

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::indicators::parse_cluster_id;
use super::replay::percent;
use crate::config::{Config, TargetArgs};
use crate::dates::format_utc;
use crate::{Error, Format, Outcome, Result, print_json, print_line};

#[derive(clap::Args)]
pub struct ClustersArgs {
    #[command(subcommand)]
    command: ClustersCommand,
}

#[derive(clap::Subcommand)]
enum ClustersCommand {
    /// Accounts that act together, last seen first.
    List(ListClustersArgs),
    /// One of them: the keys that link it, its requests, models and decisions.
    Show(ShowClusterArgs),
}

#[derive(clap::Args)]
struct ListClustersArgs {
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
struct ShowClusterArgs {
    /// Its id, as the list and decisions show it.
    #[arg(value_parser = parse_cluster_id)]
    id: String,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
struct WindowArgs {
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
    links: Vec<ClusterLink>,
    traffic: Option<ClusterTraffic>,
}

#[derive(Debug, Deserialize)]
struct ClusterLink {
    key: String,
    correlation: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClusterTraffic {
    minutes: u64,
    requests: u64,
    by_band: BTreeMap<String, u64>,
    by_model: BTreeMap<String, u64>,
}

pub fn run(args: &ClustersArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    match &args.command {
        ClustersCommand::List(args) => list(args, config, format),
        ClustersCommand::Show(args) => show(args, config, format),
    }
}

fn list(args: &ListClustersArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow clusters`")?;
    let response: Value = client.get(&format!("/clusters?minutes={}", args.window.minutes))?;
    if format == Format::Json {
        print_json(&response)?;
        return Ok(Outcome::Success);
    }
    let clusters: Vec<Cluster> =
        parse_response(response.get("clusters").cloned().unwrap_or_default())?;
    print_line(format_args!(
        "{:<8}  {:>8}  {:>5}  {:>9}  {:<16}  {:<16}  correlations",
        "id", "accounts", "keys", "requests", "first (UTC)", "last (UTC)"
    ))?;
    for cluster in &clusters {
        let Cluster { id, accounts, keys, .. } = cluster;
        let requests =
            cluster.traffic.as_ref().map_or("?".to_owned(), |traffic| traffic.requests.to_string());
        let (first, last) = (format_utc(cluster.first), format_utc(cluster.last));
        let correlations = cluster.correlations.join(" ");
        print_line(format_args!(
            "{id:<8}  {accounts:>8}  {keys:>5}  {requests:>9}  {first:<16}  {last:<16}  {correlations}"
        ))?;
    }
    Ok(Outcome::Success)
}

fn show(args: &ShowClusterArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow clusters`")?;
    let path = format!("/clusters/{}?minutes={}", args.id, args.window.minutes);
    let response: Value = client.get(&path)?;
    if format == Format::Json {
        print_json(&response)?;
        return Ok(Outcome::Success);
    }
    let cluster: Cluster = parse_response(response)?;
    print_line(format_args!("cluster {}", cluster.id))?;
    print_line(format_args!("  accounts  {}", cluster.accounts))?;
    print_line(format_args!(
        "  seen      {} to {}",
        format_utc(cluster.first),
        format_utc(cluster.last)
    ))?;
    match &cluster.traffic {
        Some(traffic) => {
            print_line(format_args!(
                "  requests  {} in the last {} minutes",
                traffic.requests, traffic.minutes
            ))?;
            print_line(format_args!("  decided   {}", format_shares(&traffic.by_band)))?;
            print_line(format_args!("  models    {}", format_shares(&traffic.by_model)))?;
        }
        None => print_line(format_args!("  requests  the ledger does not answer"))?,
    }
    print_line(format_args!("  linked by"))?;
    for ClusterLink { key, correlation } in &cluster.links {
        print_line(format_args!("    {key}  {correlation}"))?;
    }
    Ok(Outcome::Success)
}

/// Counts as shares of all of them, the largest first.
fn format_shares(counts: &BTreeMap<String, u64>) -> String {
    let total: u64 = counts.values().sum();
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let share = |count: u64| percent(count as usize, total as usize);
    let shares = counts.iter().map(|(name, count)| format!("{name} {:.0} %", share(**count)));
    let shares: Vec<String> = shares.collect();
    if shares.is_empty() { "-".to_owned() } else { shares.join(", ") }
}

fn parse_response<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| {
        Error::Io(format!("the clusters are not what this version expects: {error}"))
    })
}
