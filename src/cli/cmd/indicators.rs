//! `hedgerow indicators list|explain|revoke`

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Config, TargetArgs};
use crate::dates::{format_age, format_utc, now, parse_until};
use crate::{Error, Format, Outcome, Result, print_json, print_line};

#[derive(clap::Args)]
pub struct IndicatorsArgs {
    #[command(subcommand)]
    command: IndicatorsCommand,
}

#[derive(clap::Subcommand)]
enum IndicatorsCommand {
    /// The keys for which a correlation holds, newest first.
    List(ListIndicatorsArgs),
    /// Why a key is one: what held, when, with which measure, and until when it counts.
    Explain(ExplainIndicatorArgs),
    /// Take a key out of force until it would have expired, or until a day, even if a correlation holds again.
    Revoke(RevokeIndicatorArgs),
}

#[derive(clap::Args)]
struct ListIndicatorsArgs {
    /// Only those of this correlation.
    #[arg(long, value_name = "NAME")]
    correlation: Option<String>,
    /// Only those of this cluster.
    #[arg(long, value_name = "ID", value_parser = parse_cluster_id)]
    cluster: Option<String>,
    /// So many, the newest first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Those behind the one with this id: the last of the page before.
    #[arg(long, value_name = "ID")]
    before: Option<u64>,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
struct ExplainIndicatorArgs {
    /// The key, as the list and decisions show it.
    #[arg(value_parser = parse_key)]
    key: String,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
struct RevokeIndicatorArgs {
    /// The key, as the list and decisions show it.
    #[arg(value_parser = parse_key)]
    key: String,
    /// Why, for whoever reads the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Until when: 12h, 7d, or the last day in UTC; else as long as the indicator would have lasted.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// What a deployment tells of an indicator.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Indicator {
    id: u64,
    correlation: String,
    key: String,
    first: u64,
    last: u64,
    expires: u64,
    times: u64,
    measured: f64,
    threshold: String,
    accounts: u64,
    cluster: Option<String>,
    revoked: Option<u64>,
    reason: Option<String>,
}

pub fn run(args: &IndicatorsArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    match &args.command {
        IndicatorsCommand::List(args) => list(args, config, format),
        IndicatorsCommand::Explain(args) => explain(args, config, format),
        IndicatorsCommand::Revoke(args) => revoke(args, config, format),
    }
}

fn list(args: &ListIndicatorsArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow indicators`")?;
    let mut path = format!("/indicators?limit={}", args.limit);
    let filters = [("correlation", &args.correlation), ("cluster", &args.cluster)];
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", require_url_safe(name, value)?));
        }
    }
    if let Some(before) = args.before {
        path.push_str(&format!("&before={before}"));
    }
    let response: Value = client.get(&path)?;
    if format == Format::Json {
        print_json(&response)?;
        return Ok(Outcome::Success);
    }
    let indicators = parse_indicators(&response)?;
    print_line(format_args!(
        "{:<16}  {:<36}  {:<16}  {:>9}  {:>8}  {:<8}  id",
        "key", "correlation", "last (UTC)", "ends in", "accounts", "cluster"
    ))?;
    for indicator in &indicators {
        let expires_in = if indicator.revoked.is_some() {
            "revoked".to_owned()
        } else {
            format_age(now(), indicator.expires)
        };
        let Indicator { key, correlation, accounts, id, .. } = indicator;
        let cluster = indicator.cluster.as_deref().unwrap_or("-");
        let last = format_utc(indicator.last);
        print_line(format_args!(
            "{key:<16}  {correlation:<36}  {last:<16}  {expires_in:>9}  {accounts:>8}  {cluster:<8}  {id}"
        ))?;
    }
    Ok(Outcome::Success)
}

fn explain(args: &ExplainIndicatorArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow indicators`")?;
    let response: Value = client.get(&format!("/indicators/{}", args.key))?;
    if format == Format::Json {
        print_json(&response)?;
        return Ok(Outcome::Success);
    }
    print_line(format_args!("key {}", args.key))?;
    for indicator in &parse_indicators(&response)? {
        let Indicator { correlation, threshold, measured, times, accounts, .. } = indicator;
        print_line(format_args!("\n{correlation}: {threshold}"))?;
        print_line(format_args!("  measured  {measured}, of {accounts} known accounts"))?;
        print_line(format_args!(
            "  held      {times} times, {} to {}",
            format_utc(indicator.first),
            format_utc(indicator.last)
        ))?;
        print_line(format_args!("  counts    until {}", format_utc(indicator.expires)))?;
        if let Some(revoked) = indicator.revoked {
            let reason = indicator.reason.as_deref().unwrap_or_default();
            print_line(format_args!("  revoked   {}: {reason}", format_utc(revoked)))?;
        }
        if let Some(cluster) = &indicator.cluster {
            print_line(format_args!("  cluster   {cluster} (`hedgerow clusters show {cluster}`)"))?;
        }
    }
    Ok(Outcome::Success)
}

fn revoke(args: &RevokeIndicatorArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &args.target)?;
    let client = config.admin_client("`hedgerow indicators`")?;
    let until = args.until.as_deref().map(|text| parse_until(text, now())).transpose()?;
    let body = json!({ "reason": args.reason, "author": config.author(), "until": until });
    let response: Value = client.post(&format!("/indicators/{}/revoke", args.key), body)?;
    match format {
        Format::Json => print_json(&response)?,
        Format::Text => {
            let count = response.get("revoked").and_then(Value::as_u64).unwrap_or_default();
            print_line(format_args!("revoked {count} indicators of the key {}", args.key))?;
        }
    }
    Ok(Outcome::Success)
}

fn parse_indicators(response: &Value) -> Result<Vec<Indicator>> {
    let indicators = response.get("indicators").cloned().unwrap_or_default();
    serde_json::from_value(indicators).map_err(|error| {
        Error::Io(format!("the indicators are not what this version expects: {error}"))
    })
}

/// What may stand in a URL as it is: names and ids.
fn require_url_safe<'v>(name: &str, value: &'v str) -> Result<&'v str> {
    let is_url_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match !value.is_empty() && value.bytes().all(is_url_safe) {
        true => Ok(value),
        false => Err(Error::Io(format!(
            "--{name} {value}: this is no name; `hedgerow indicators list` shows those there are"
        ))),
    }
}

/// A key as it is shown.
fn parse_key(text: &str) -> std::result::Result<String, String> {
    parse_hex(text, 16)
}

/// A cluster's id as it is shown.
pub fn parse_cluster_id(text: &str) -> std::result::Result<String, String> {
    parse_hex(text, 8)
}

fn parse_hex(text: &str, digits: usize) -> std::result::Result<String, String> {
    let text = text.to_ascii_lowercase();
    match text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text),
        false => Err(format!("give its {digits} digits, 0-9 and a-f")),
    }
}
