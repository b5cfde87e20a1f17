//! `hedgerow audit [--limit N]`: lists the audit log, which records changes of the registry, such
//! as uploads, releases and revocations.

use std::path::Path;

use hedgerow_core::api::{AuditEntry, AuditLog};
use hedgerow_core::ruleset::short_digest;
use serde_json::Value;

use crate::config::{Config, TargetArgs};
use crate::dates::format_utc;
use crate::error::{Error, Outcome, Result};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct AuditArgs {
    /// Show at most N entries, the newest first.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    limit: u32,
    #[command(flatten)]
    target: TargetArgs,
}

pub fn run(args: &AuditArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow audit`")?;
    let response: Value = client.get(&format!("/audit?limit={}", args.limit))?;
    if format == Format::Json {
        print_json(&response)?;
        return Ok(Outcome::Success);
    }
    let log: AuditLog = serde_json::from_value(response).map_err(|error| {
        Error::Io(format!("GET /audit: the answer is not readable: {error}; update Hedgerow"))
    })?;
    print_line(format_args!(
        "{:<16}  {:<8}  {:<14}  {:<12}  {:<16}  {:<16}  result",
        "at (UTC)", "actor", "action", "subject", "author", "client"
    ))?;
    for entry in &log.entries {
        print_entry(entry)?;
    }
    Ok(Outcome::Success)
}

fn print_entry(entry: &AuditEntry) -> Result<()> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    print_line(format_args!(
        "{:<16}  {:<8}  {:<14}  {:<12}  {:<16}  {:<16}  {}",
        format_utc(entry.at),
        entry.actor,
        entry.action,
        short_digest(&entry.subject),
        or_dash(&entry.author),
        or_dash(entry.client_hash.as_deref().unwrap_or_default()),
        entry.result
    ))
}
