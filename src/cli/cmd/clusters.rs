//! `hedgerow clusters list|show`: shows accounts that share indicators.

use std::path::Path;

use hedgerow_core::api::{
    ClusterDetails, ClusterInfo, ClusterLink, ClusterList, ClusterSummary, Counts,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::indicators::parse_cluster_id;
use crate::config::{Config, TargetArgs};
use crate::dates::format_utc;
use crate::error::{Error, Outcome, Result};
use crate::format::percent;
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct ClustersArgs {
    #[command(subcommand)]
    command: ClustersCommand,
}

#[derive(clap::Subcommand)]
enum ClustersCommand {
    /// List clusters, last seen first.
    List(ListClustersArgs),
    /// Show one cluster: the keys that link its accounts, its requests, models and decisions.
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
    /// Show the cluster with this id, or that has merged with the cluster of this id: 8 digits, as
    /// in the list and in decisions.
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
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_440,
        value_parser = clap::value_parser!(u32).range(1..=43_200)
    )]
    minutes: u32,
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
    let list: ClusterList = parse_response(response)?;
    print_line(format_args!(
        "{:<8}  {:>8}  {:>5}  {:>9}  {:<16}  {:<16}  correlations",
        "id", "accounts", "keys", "requests", "first (UTC)", "last (UTC)"
    ))?;
    for ClusterInfo { summary, traffic } in &list.clusters {
        let ClusterSummary { id, accounts, keys, .. } = summary;
        let requests =
            traffic.as_ref().map_or("?".to_owned(), |traffic| traffic.requests.to_string());
        print_line(format_args!(
            "{id:<8}  {accounts:>8}  {keys:>5}  {requests:>9}  {:<16}  {:<16}  {}{}",
            format_utc(summary.first),
            format_utc(summary.last),
            summary.correlations.join(" "),
            format_aliases(&summary.aliases)
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
    let ClusterDetails { summary, links, traffic } = parse_response(response)?;
    print_line(format_args!("cluster {}", summary.id))?;
    if args.id != summary.id {
        print_line(format_args!("  {} has merged into it", args.id))?;
    }
    if !summary.aliases.is_empty() {
        print_line(format_args!("  aliases   {}", summary.aliases.join(" ")))?;
    }
    print_line(format_args!("  accounts  {}", summary.accounts))?;
    print_line(format_args!(
        "  seen      {} to {}",
        format_utc(summary.first),
        format_utc(summary.last)
    ))?;
    match &traffic {
        Some(traffic) => {
            print_line(format_args!(
                "  requests  {} in the last {} minutes",
                traffic.requests, traffic.minutes
            ))?;
            print_line(format_args!("  decided   {}", format_shares(&traffic.by_band)))?;
            print_line(format_args!("  models    {}", format_shares(&traffic.by_model)))?;
        }
        None => print_line(format_args!("  requests  unknown: the ledger does not answer"))?,
    }
    print_line(format_args!("  linked by"))?;
    for ClusterLink { key, correlation } in &links {
        print_line(format_args!("    {key}  {correlation}"))?;
    }
    Ok(Outcome::Success)
}

/// Formats the aliases of a cluster at the end of a row of the list: at most four.
fn format_aliases(aliases: &[String]) -> String {
    match aliases {
        [] => String::new(),
        [first, second, third, fourth, rest @ ..] if !rest.is_empty() => {
            format!("; merged: {first} {second} {third} {fourth} and {} more", rest.len())
        }
        aliases => format!("; merged: {}", aliases.join(" ")),
    }
}

/// Formats counts as percentages of their sum, the largest first.
fn format_shares(counts: &Counts) -> String {
    let total: u64 = counts.values().sum();
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let shares =
        counts.iter().map(|(name, count)| format!("{name} {:.0} %", percent(**count, total)));
    let shares: Vec<String> = shares.collect();
    if shares.is_empty() { "-".to_owned() } else { shares.join(", ") }
}

fn parse_response<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| {
        Error::Io(format!("GET /clusters: the answer is not readable: {error}; update Hedgerow"))
    })
}
