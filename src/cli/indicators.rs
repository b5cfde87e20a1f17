//! `hedgerow indicators list|explain|revoke`

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{Config, Registry};
use super::time::{age, date, now, until};
use super::{Failure, Format, Outcome, Result, line, print};

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The keys for which a correlation holds, newest first.
    List(List),
    /// Why a key is one: what held, when, with which measure, and until when it counts.
    Explain(Explain),
    /// Take a key out of force until it would have expired, or until a day, even if a correlation holds again.
    Revoke(Revoke),
}

#[derive(clap::Args)]
struct List {
    /// Only those of this correlation.
    #[arg(long, value_name = "NAME")]
    correlation: Option<String>,
    /// Only those of this cluster.
    #[arg(long, value_name = "ID", value_parser = cluster)]
    cluster: Option<String>,
    /// So many, the newest first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Those behind the one with this id: the last of the page before.
    #[arg(long, value_name = "ID")]
    before: Option<u64>,
    #[command(flatten)]
    registry: Registry,
}

#[derive(clap::Args)]
struct Explain {
    /// The key, as the list and decisions show it.
    #[arg(value_parser = key)]
    key: String,
    #[command(flatten)]
    registry: Registry,
}

#[derive(clap::Args)]
struct Revoke {
    /// The key, as the list and decisions show it.
    #[arg(value_parser = key)]
    key: String,
    /// Why, for whoever reads the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Until when: 12h, 7d, or the last day in UTC; else as long as the indicator would have lasted.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    registry: Registry,
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

pub fn run(options: &Options, config: Option<&Path>, format: Format) -> Result<Outcome> {
    match &options.command {
        Command::List(options) => list(options, config, format),
        Command::Explain(options) => explain(options, config, format),
        Command::Revoke(options) => revoke(options, config, format),
    }
}

fn list(options: &List, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let http = Config::load(config, &options.registry)?.http("`hedgerow indicators`")?;
    let mut path = format!("/indicators?limit={}", options.limit);
    let filters = [("correlation", &options.correlation), ("cluster", &options.cluster)];
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", plain(name, value)?));
        }
    }
    if let Some(before) = options.before {
        path.push_str(&format!("&before={before}"));
    }
    let answer: Value = http.get(&path)?;
    if format == Format::Json {
        print(&answer)?;
        return Ok(Outcome::Fine);
    }
    let indicators = read(&answer)?;
    line(format_args!(
        "{:<16}  {:<36}  {:<16}  {:>9}  {:>8}  {:<8}  id",
        "key", "correlation", "last (UTC)", "ends in", "accounts", "cluster"
    ))?;
    for own in &indicators {
        let ends =
            if own.revoked.is_some() { "revoked".to_owned() } else { age(now(), own.expires) };
        let Indicator { key, correlation, accounts, id, .. } = own;
        let cluster = own.cluster.as_deref().unwrap_or("-");
        let last = date(own.last);
        line(format_args!(
            "{key:<16}  {correlation:<36}  {last:<16}  {ends:>9}  {accounts:>8}  {cluster:<8}  {id}"
        ))?;
    }
    Ok(Outcome::Fine)
}

fn explain(options: &Explain, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let http = Config::load(config, &options.registry)?.http("`hedgerow indicators`")?;
    let answer: Value = http.get(&format!("/indicators/{}", options.key))?;
    if format == Format::Json {
        print(&answer)?;
        return Ok(Outcome::Fine);
    }
    line(format_args!("key {}", options.key))?;
    for own in &read(&answer)? {
        let Indicator { correlation, threshold, measured, times, accounts, .. } = own;
        line(format_args!("\n{correlation}: {threshold}"))?;
        line(format_args!("  measured  {measured}, of {accounts} known accounts"))?;
        line(format_args!("  held      {times} times, {} to {}", date(own.first), date(own.last)))?;
        line(format_args!("  counts    until {}", date(own.expires)))?;
        if let Some(revoked) = own.revoked {
            let reason = own.reason.as_deref().unwrap_or_default();
            line(format_args!("  revoked   {}: {reason}", date(revoked)))?;
        }
        if let Some(cluster) = &own.cluster {
            line(format_args!("  cluster   {cluster} (`hedgerow clusters show {cluster}`)"))?;
        }
    }
    Ok(Outcome::Fine)
}

fn revoke(options: &Revoke, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &options.registry)?;
    let http = config.http("`hedgerow indicators`")?;
    let until = options.until.as_deref().map(|text| until(text, now())).transpose()?;
    let body = json!({ "reason": options.reason, "author": config.author(), "until": until });
    let answer: Value = http.post(&format!("/indicators/{}/revoke", options.key), body)?;
    match format {
        Format::Json => print(&answer)?,
        Format::Text => {
            let count = answer.get("revoked").and_then(Value::as_u64).unwrap_or_default();
            line(format_args!("revoked {count} indicators of the key {}", options.key))?;
        }
    }
    Ok(Outcome::Fine)
}

fn read(answer: &Value) -> Result<Vec<Indicator>> {
    let indicators = answer.get("indicators").cloned().unwrap_or_default();
    serde_json::from_value(indicators).map_err(|error| {
        Failure::Unable(format!("the indicators are not what this version expects: {error}"))
    })
}

/// What may stand in a URL as it is: names and ids.
fn plain<'v>(name: &str, value: &'v str) -> Result<&'v str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match !value.is_empty() && value.bytes().all(is_plain) {
        true => Ok(value),
        false => Err(Failure::Unable(format!(
            "--{name} {value}: this is no name; `hedgerow indicators list` shows those there are"
        ))),
    }
}

/// A key as it is shown.
fn key(text: &str) -> std::result::Result<String, String> {
    hex(text, 16)
}

/// A cluster's id as it is shown.
pub fn cluster(text: &str) -> std::result::Result<String, String> {
    hex(text, 8)
}

fn hex(text: &str, digits: usize) -> std::result::Result<String, String> {
    let text = text.to_ascii_lowercase();
    match text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text),
        false => Err(format!("give its {digits} digits, 0-9 and a-f")),
    }
}
