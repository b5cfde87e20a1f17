//! `hedgerow audit [--limit N]`

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::config::{Config, Registry};
use super::time::date;
use super::{Failure, Format, Outcome, Result, line, print};
use hedgerow::ruleset::short;

#[derive(clap::Args)]
pub struct Options {
    /// So many entries, the newest first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    #[command(flatten)]
    registry: Registry,
}

#[derive(Deserialize)]
struct Entry {
    at: u64,
    #[serde(default)]
    who: String,
    #[serde(default)]
    what: String,
    subject: Option<Value>,
    author: Option<String>,
    from: Option<String>,
    #[serde(default)]
    result: String,
}

pub fn run(options: &Options, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let http = Config::load(config, &options.registry)?.http("`hedgerow audit`")?;
    let answer: Value = http.get(&format!("/audit?limit={}", options.limit))?;
    if format == Format::Json {
        print(&answer)?;
        return Ok(Outcome::Fine);
    }
    let entries = answer.get("entries").cloned().unwrap_or_default();
    let entries: Vec<Entry> = serde_json::from_value(entries).map_err(|error| {
        Failure::Unable(format!("the audit trail is not what this version expects: {error}"))
    })?;
    line(format_args!(
        "{:<16}  {:<8}  {:<14}  {:<12}  {:<16}  {:<16}  result",
        "at (UTC)", "who", "what", "subject", "author", "from"
    ))?;
    for entry in &entries {
        show(entry)?;
    }
    Ok(Outcome::Fine)
}

fn show(entry: &Entry) -> Result<()> {
    let subject = match &entry.subject {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(value) => value.to_string(),
    };
    let or_none = |text: &Option<String>| match text.as_deref() {
        None | Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
    };
    line(format_args!(
        "{:<16}  {:<8}  {:<14}  {:<12}  {:<16}  {:<16}  {}",
        date(entry.at),
        entry.who,
        entry.what,
        short(&subject),
        or_none(&entry.author),
        or_none(&entry.from),
        entry.result
    ))
}
