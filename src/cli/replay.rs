//! `hedgerow replay FILES… [--ruleset BUNDLE] [--decisions OUT]`

mod reader;
mod summary;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use hedgerow::{Decision, Ruleset};
use serde_json::json;

use super::{Failure, Format, Outcome, Result, RulesOptions, now, print, unable};

pub use reader::{Event, decide, read};
pub use summary::{Counts, Summary, UNLABELLED, percent};

#[derive(clap::Args)]
pub struct Options {
    /// Files of one JSON object a line: {method, path, headers, body}, with account and label if known.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write every decision to this file, a line each.
    #[arg(long, value_name = "OUT")]
    decisions: Option<PathBuf>,
    #[command(flatten)]
    rules: RulesOptions,
}

pub fn run(options: &Options, format: Format) -> Result<Outcome> {
    let ruleset = options.rules.load()?;
    let mut decisions = match &options.decisions {
        Some(path) => {
            Some(BufWriter::new(File::create(path).map_err(|error| unable(path, &error))?))
        }
        None => None,
    };
    let summary = summarise(&options.files, &ruleset, &mut |file, line, decision| {
        let Some(out) = decisions.as_mut() else { return Ok(()) };
        let row = row(file, line, decision);
        writeln!(out, "{row}").map_err(|error| Failure::Unable(format!("decisions: {error}")))
    })?;
    if let (Some(mut decisions), Some(path)) = (decisions, &options.decisions) {
        decisions.flush().map_err(|error| unable(path, &error))?;
    }
    match format {
        Format::Json => print(&summary.json())?,
        Format::Text => summary.text()?,
    }
    Ok(if summary.unreadable().is_empty() { Outcome::Fine } else { Outcome::Findings })
}

/// Scores recorded files, and calls `each` with every decision's file, line and self.
pub fn summarise(
    files: &[PathBuf],
    ruleset: &Ruleset,
    each: &mut impl FnMut(&str, usize, &Decision) -> Result<()>,
) -> Result<Summary> {
    let mut summary = Summary::default();
    let now = now();
    read(files, &mut |event| {
        match event {
            Event::File(name) => summary.open(name),
            Event::Unreadable { line, problem } => summary.unread(line, problem),
            Event::Request { file, line, recorded } => {
                let decision = decide(ruleset, recorded, now);
                if let Some(decision) = &decision {
                    each(file, line, decision)?;
                }
                summary.add(recorded, decision.as_ref());
            }
        }
        Ok(())
    })?;
    Ok(summary)
}

fn row(file: &str, line: usize, decision: &Decision) -> serde_json::Value {
    let hits: Vec<_> =
        decision.hits.iter().map(|hit| json!({ "name": hit.name, "weight": hit.weight })).collect();
    json!({
        "file": file, "line": line, "account": decision.account, "score": decision.score,
        "band": decision.band, "action": decision.action, "hits": hits,
    })
}
