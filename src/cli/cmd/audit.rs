//! `hedgerow audit [--limit N]`

use std::path::Path;

use hedgerow_core::ruleset::short_digest;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{Config, TargetArgs};
use crate::dates::format_utc;
use crate::{Error, Format, Outcome, Result, print_json, print_line};

#[derive(clap::Args)]
pub struct AuditArgs {
    /// So many entries, the newest first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Deserialize)]
struct AuditEntry {
    at: u64,
    #[serde(default, rename = "who")]
    actor: String,
    #[serde(default, rename = "what")]
    action: String,
    subject: Option<Value>,
    author: Option<String>,
    #[serde(rename = "from")]
    client_hash: Option<String>,
    #[serde(default)]
    result: String,
}

pub fn run(args: &AuditArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow audit`")?;
    let response: Value = client.get(&format!("/audit?limit={}", args.limit))?;
    if format == Format::Json {
        print_json(&response)?;
        return Ok(Outcome::Success);
    }
    let entries = response.get("entries").cloned().unwrap_or_default();
    let entries: Vec<AuditEntry> = serde_json::from_value(entries).map_err(|error| {
        Error::Io(format!("the audit trail is not what this version expects: {error}"))
    })?;
    print_line(format_args!(
        "{:<16}  {:<8}  {:<14}  {:<12}  {:<16}  {:<16}  result",
        "at (UTC)", "who", "what", "subject", "author", "from"
    ))?;
    for entry in &entries {
        print_entry(entry)?;
    }
    Ok(Outcome::Success)
}

fn print_entry(entry: &AuditEntry) -> Result<()> {
    let subject = match &entry.subject {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(value) => value.to_string(),
    };
    let or_dash = |text: &Option<String>| match text.as_deref() {
        None | Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
    };
    print_line(format_args!(
        "{:<16}  {:<8}  {:<14}  {:<12}  {:<16}  {:<16}  {}",
        format_utc(entry.at),
        entry.actor,
        entry.action,
        short_digest(&subject),
        or_dash(&entry.author),
        or_dash(&entry.client_hash),
        entry.result
    ))
}
