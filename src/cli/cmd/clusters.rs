//! `hedgerow clusters list|show|split`: shows clusters, and cuts accounts off from them. A cluster
//! is a group of accounts that share indicators.

use std::collections::BTreeMap;
use std::path::Path;

use hedgerow_core::api::{
    ClusterBridge, ClusterDetails, ClusterInfo, ClusterLink, ClusterList, ClusterSummary, Counts,
    DecisionList, DecisionRecord, SplitRequest, SplitResult,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

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
    /// List clusters, the most recently seen first.
    List(ListClustersArgs),
    /// Show one cluster: its requests, decisions and models, the keys that link its accounts, and
    /// the accounts.
    Show(ShowClusterArgs),
    /// Cut off accounts that join unrelated parts of a cluster. For 31 days, these accounts do not
    /// link any keys.
    Split(SplitClusterArgs),
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
    /// Show the cluster with this id, or the cluster into which it has merged. An id has 8
    /// hexadecimal digits, as in the list and in decisions.
    #[arg(value_parser = parse_cluster_id)]
    id: String,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
struct SplitClusterArgs {
    /// Split the cluster with this id, or the cluster that it has merged into.
    #[arg(value_parser = parse_cluster_id)]
    id: String,
    /// Cut off the account with this id or hash. Decisions show ids, and `hedgerow clusters show`
    /// lists hashes. Repeat the option for more accounts.
    #[arg(long = "account", value_name = "ID", required = true)]
    accounts: Vec<String>,
    /// Record this reason in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only show the resulting parts; do not split.
    #[arg(long)]
    dry_run: bool,
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
        ClustersCommand::Split(args) => split(args, config, format),
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
    let ClusterDetails { summary, links, bridges, traffic } = parse_response(response)?;
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
    print_bridges(&bridges)?;
    let sample: Value = client.get(&decisions_path(&summary))?;
    print_accounts(&parse_response::<DecisionList>(sample)?.decisions)?;
    Ok(Outcome::Success)
}

fn split(args: &SplitClusterArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &args.target)?;
    let client = config.admin_client("`hedgerow clusters`")?;
    let request = SplitRequest {
        accounts: args.accounts.clone(),
        reason: args.reason.clone(),
        author: config.author(),
        dry_run: args.dry_run,
    };
    let path = format!("/clusters/{}/split", args.id);
    let result: SplitResult = client.post(&path, json!(request))?;
    if format == Format::Json {
        print_json(&result)?;
        return Ok(Outcome::Success);
    }
    let SplitResult { accounts, clusters, dry_run } = &result;
    let verb = if *dry_run { "would cut off" } else { "cut off" };
    print_line(format_args!("{verb} {accounts} accounts; clusters of the keys:"))?;
    for ClusterSummary { id, accounts, keys, .. } in clusters {
        let id = if *dry_run { "a part" } else { id };
        print_line(format_args!("  {id:<8}  {accounts} accounts, {keys} keys"))?;
    }
    Ok(Outcome::Success)
}

/// Prints the accounts that join parts of a cluster: without such an account, the cluster would
/// fall into parts.
fn print_bridges(bridges: &[ClusterBridge]) -> Result<()> {
    if bridges.is_empty() {
        return Ok(());
    }
    print_line(format_args!("  accounts with several keys (`hedgerow clusters split`)"))?;
    for ClusterBridge { account, keys, parts } in bridges {
        print_line(format_args!("    {account}  {keys} keys; {parts} parts without it"))?;
    }
    Ok(())
}

/// Returns the API path of the newest sampled decisions that name the cluster by its id or an
/// alias.
fn decisions_path(summary: &ClusterSummary) -> String {
    let ids: Vec<&str> =
        [&summary.id].into_iter().chain(&summary.aliases).map(|id| &**id).collect();
    format!("/decisions?limit={SAMPLED_DECISIONS}&cluster={}", ids.join(","))
}

/// Prints the accounts with the most sampled decisions in descending order, at most
/// [`SHOWN_ACCOUNTS`], and the number of other accounts.
fn print_accounts(decisions: &[DecisionRecord]) -> Result<()> {
    let mut accounts: BTreeMap<&str, (usize, &DecisionRecord)> = BTreeMap::new();
    for decision in decisions {
        if let Some(account) = &decision.account {
            accounts.entry(account).or_insert((0, decision)).0 += 1;
        }
    }
    if accounts.is_empty() {
        return Ok(());
    }
    print_line(format_args!("  accounts in the last {} sampled decisions", decisions.len()))?;
    let mut accounts: Vec<_> = accounts.into_iter().collect();
    accounts.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    for (account, (count, decision)) in accounts.iter().take(SHOWN_ACCOUNTS) {
        print_line(format_args!("    {account}  {count:>4}{}", describe_sender(decision)))?;
    }
    match accounts.len().checked_sub(SHOWN_ACCOUNTS) {
        Some(more @ 1..) => print_line(format_args!("    and {more} more")),
        _ => Ok(()),
    }
}

/// Describes the account of a decision: its kind, label, tenant and tenant label, if they are
/// known.
fn describe_sender(decision: &DecisionRecord) -> String {
    let label = |label: &Option<String>| label.as_ref().map(|label| format!("  {label:?}"));
    let kind = decision.account_kind.as_ref().map(|kind| format!("  {kind}"));
    let tenant = decision.tenant.as_ref().map(|tenant| format!("  tenant {tenant}"));
    let parts = [kind, label(&decision.account_label), tenant, label(&decision.tenant_label)];
    parts.into_iter().flatten().collect()
}

/// Number of sampled decisions that are requested to list the accounts of a cluster: the maximum of
/// the admin API.
const SAMPLED_DECISIONS: usize = 500;

/// Maximum number of accounts that are shown.
const SHOWN_ACCOUNTS: usize = 20;

/// Formats the aliases of a cluster (ids of clusters that have merged into it) for the end of a row
/// of the list: at most four aliases, and the number of the others. Returns an empty string if the
/// cluster has no aliases.
fn format_aliases(aliases: &[String]) -> String {
    match aliases {
        [] => String::new(),
        [first, second, third, fourth, rest @ ..] if !rest.is_empty() => {
            format!("; merged: {first} {second} {third} {fourth} and {} more", rest.len())
        }
        aliases => format!("; merged: {}", aliases.join(" ")),
    }
}

/// Formats counts as percentages of their sum, the largest first. Returns `-` if there are no
/// counts.
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
    serde_json::from_value(value)
        .map_err(|error| Error::Io(format!("the answer is not readable: {error}; update Hedgerow")))
}
