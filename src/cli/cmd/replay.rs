//! `hedgerow replay FILES… [--ruleset BUNDLE] [--decisions OUT] [--no-correlate]`

mod campaign;
mod reader;
mod summary;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use hedgerow_core::engine::{Evaluation, LocalEngine};
use hedgerow_core::evaluate::decision::DecisionHit;
use hedgerow_core::{Decision, Ruleset};
use hedgerow_sigma::recorded::RecordedRequest;
pub use reader::{ReplayEvent, read_recordings};
use serde_json::json;
pub use summary::{BandCounts, Summary, UNLABELLED, percent};

use crate::{Error, Format, Outcome, Result, RulesetArgs, io_error, now, print_json};

#[derive(clap::Args)]
pub struct ReplayArgs {
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
    ruleset: RulesetArgs,
}

pub fn run(args: &ReplayArgs, format: Format) -> Result<Outcome> {
    let ruleset = args.ruleset.load()?;
    let mut decisions = match &args.decisions {
        Some(path) => {
            Some(BufWriter::new(File::create(path).map_err(|error| io_error(path, &error))?))
        }
        None => None,
    };
    let correlate = !args.no_correlate;
    let summary = replay_files(&args.files, &ruleset, correlate, &mut |file, line, decision| {
        let Some(out) = decisions.as_mut() else { return Ok(()) };
        let record = decision_record(file, line, decision);
        writeln!(out, "{record}").map_err(|error| Error::Io(format!("decisions: {error}")))
    })?;
    if let (Some(mut decisions), Some(path)) = (decisions, &args.decisions) {
        decisions.flush().map_err(|error| io_error(path, &error))?;
    }
    match format {
        Format::Json => print_json(&summary.to_json())?,
        Format::Text => summary.print_text()?,
    }
    Ok(if summary.unreadable().is_empty() { Outcome::Success } else { Outcome::Findings })
}

/// Scores recorded files in the order of time, and calls `each` with every decision's file, line and
/// self. With `correlate` they are also counted, and what that shows weighs on what follows.
pub fn replay_files(
    files: &[PathBuf],
    ruleset: &Ruleset,
    correlate: bool,
    on_decision: &mut impl FnMut(&str, usize, &Decision) -> Result<()>,
) -> Result<Summary> {
    let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let mut summary = Summary::new(&names);
    let mut engine = ReplayEngine::new(ruleset, correlate);
    read_recordings(files, &mut |event| {
        match event {
            ReplayEvent::Unreadable { file_index, line, problem } => {
                summary.record_unreadable(file_index, line, problem)
            }
            ReplayEvent::Request { file_index, line, recorded } => {
                let evaluated = engine.evaluate(recorded);
                if let Some((decision, _)) = &evaluated {
                    on_decision(names.get(file_index).map_or("", String::as_str), line, decision)?;
                }
                summary.record(
                    file_index,
                    recorded,
                    evaluated.as_ref(),
                    engine.local_engine.clusters(),
                );
            }
        }
        Ok(())
    })?;
    Ok(summary)
}

/// Decides one recorded request after the other.
pub struct ReplayEngine<'r> {
    ruleset: &'r Ruleset,
    local_engine: LocalEngine<'r>,
    /// What is added to times since a recording began: midnight.
    midnight: u64,
    last_time: u64,
}

impl<'r> ReplayEngine<'r> {
    /// Decides by a ruleset; with `correlate` what was counted weighs, too.
    pub fn new(ruleset: &'r Ruleset, correlate: bool) -> Self {
        let now = now();
        let local_engine = LocalEngine::new(ruleset, correlate);
        Self { ruleset, local_engine, midnight: now - now % DAY_SECONDS, last_time: now }
    }

    /// The decision, with the account as it is hashed; `None` where it is no LLM call.
    pub fn evaluate(&mut self, recorded: &RecordedRequest) -> Option<(Decision, u64)> {
        let now = match recorded.time {
            Some(time) if time < MIN_EPOCH_SECONDS => self.midnight.saturating_add(time as u64),
            Some(time) => time as u64,
            None => self.last_time,
        };
        self.last_time = now;
        let envelope = recorded.envelope(self.ruleset.policy().scan.scan_window, now);
        let evaluation =
            self.local_engine.evaluate(&envelope, recorded.response_status.unwrap_or(200))?;
        let Evaluation { assessment, disposition, account, .. } = evaluation;
        Some((Decision::new(self.ruleset, &envelope, assessment, disposition), account))
    }
}

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// Seconds above which a time is one since the epoch: a recording does not last for thirty years.
const MIN_EPOCH_SECONDS: f64 = 1e9;

fn decision_record(file: &str, line: usize, decision: &Decision) -> serde_json::Value {
    let hit_record = |hit: &DecisionHit| {
        let mut record = json!({ "name": hit.name, "weight": hit.weight });
        if let (Some(key), Some(object)) = (&hit.key, record.as_object_mut()) {
            object.insert("key".to_owned(), json!(key));
        }
        record
    };
    let hits: Vec<_> = decision.hits.iter().map(hit_record).collect();
    json!({
        "file": file, "line": line, "account": decision.account, "score": decision.score,
        "band": decision.band, "action": decision.action, "hits": hits,
    })
}
