//! `hedgerow replay FILES… [--ruleset BUNDLE] [--decisions OUT] [--no-correlate]`

mod campaign;
mod reader;
mod summary;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use hedgerow::correlate::{Judged, Local};
use hedgerow::decision::DecisionHit;
use hedgerow::recorded::Recorded;
use hedgerow::{Decision, Ruleset};
use serde_json::json;

use super::{Failure, Format, Outcome, Result, RulesOptions, now, print, unable};

pub use reader::{Event, read};
pub use summary::{Counts, Summary, UNLABELLED, percent};

#[derive(clap::Args)]
pub struct Options {
    /// Files of one JSON object a line: {method, path, headers, body}, with account and label if known.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write every decision to this file, a line each.
    #[arg(long, value_name = "OUT")]
    decisions: Option<PathBuf>,
    /// Look at each request alone.
    #[arg(long)]
    no_correlate: bool,
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
    let correlate = !options.no_correlate;
    let summary = summarise(&options.files, &ruleset, correlate, &mut |file, line, decision| {
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

/// Scores recorded files in the order of time, and calls `each` with every decision's file, line and
/// self. With `correlate` they are also counted, and what that shows weighs on what follows.
pub fn summarise(
    files: &[PathBuf],
    ruleset: &Ruleset,
    correlate: bool,
    each: &mut impl FnMut(&str, usize, &Decision) -> Result<()>,
) -> Result<Summary> {
    let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let mut summary = Summary::new(&names);
    let mut judge = Judge::new(ruleset, correlate);
    read(files, &mut |event| {
        match event {
            Event::Unreadable { file, line, problem } => summary.unread(file, line, problem),
            Event::Request { file, line, recorded } => {
                let judged = judge.judge(recorded);
                if let Some((decision, _)) = &judged {
                    each(names.get(file).map_or("", String::as_str), line, decision)?;
                }
                summary.add(file, recorded, judged.as_ref(), judge.local.clusters());
            }
        }
        Ok(())
    })?;
    Ok(summary)
}

/// Decides one recorded request after the other.
pub struct Judge<'r> {
    ruleset: &'r Ruleset,
    local: Local<'r>,
    /// What is added to times since a recording began: midnight.
    midnight: u64,
    last: u64,
}

impl<'r> Judge<'r> {
    /// Decides by a ruleset; with `correlate` what was counted weighs, too.
    pub fn new(ruleset: &'r Ruleset, correlate: bool) -> Self {
        let now = now();
        let local = Local::new(ruleset, correlate);
        Self { ruleset, local, midnight: now - now % DAY, last: now }
    }

    /// The decision, with the account as it is hashed; `None` where it is no LLM call.
    pub fn judge(&mut self, recorded: &Recorded) -> Option<(Decision, u64)> {
        let now = match recorded.time {
            Some(time) if time < EPOCHAL => self.midnight.saturating_add(time as u64),
            Some(time) => time as u64,
            None => self.last,
        };
        self.last = now;
        let envelope = recorded.envelope(self.ruleset.policy().scan.window, now);
        let judged = self.local.judge(&envelope, recorded.status.unwrap_or(200))?;
        let Judged { assessment, treatment, account, .. } = judged;
        Some((Decision::new(self.ruleset, &envelope, assessment, treatment), account))
    }
}

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Seconds above which a time is one since the epoch: a recording does not last for thirty years.
const EPOCHAL: f64 = 1e9;

fn row(file: &str, line: usize, decision: &Decision) -> serde_json::Value {
    let hit = |hit: &DecisionHit| {
        let mut row = json!({ "name": hit.name, "weight": hit.weight });
        if let (Some(key), Some(row)) = (&hit.key, row.as_object_mut()) {
            row.insert("key".to_owned(), json!(key));
        }
        row
    };
    let hits: Vec<_> = decision.hits.iter().map(hit).collect();
    json!({
        "file": file, "line": line, "account": decision.account, "score": decision.score,
        "band": decision.band, "action": decision.action, "hits": hits,
    })
}
