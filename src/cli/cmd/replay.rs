//! `hedgerow replay FILES… [--ruleset BUNDLE] [--decisions OUT] [--no-correlate]`: scores recorded
//! requests.

mod campaign;
mod engine;
mod reader;
mod summary;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

pub use engine::ReplayEngine;
use hedgerow_core::evaluate::decision::DecisionHit;
use hedgerow_core::{Decision, Ruleset};
pub use reader::{ReplayEvent, locate_problems, progress_bar, read_merged, read_recordings};
use serde_json::json;
use summary::Summary;
pub use summary::{BandCounts, UNLABELLED};

use crate::error::{Error, Outcome, Result, io_error};
use crate::rules::RulesetArgs;
use crate::terminal::{Format, print_json};

#[derive(clap::Args)]
pub struct ReplayArgs {
    /// Read these files. Each line is a JSON object {method, path, headers, body}, with `t`
    /// (the time), `status`, `account` and `label` if they are known: docs/replay.md. `hedgerow
    /// convert` makes such files from logs.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write every decision to this file, one JSON object a line.
    #[arg(long, value_name = "OUT")]
    decisions: Option<PathBuf>,
    /// Score each request alone, without correlations.
    #[arg(long)]
    no_correlate: bool,
    #[command(flatten)]
    ruleset: RulesetArgs,
}

pub fn run(args: &ReplayArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let ruleset = args.ruleset.load(config)?;
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
    Ok(Outcome::from_complete(summary.unreadable().is_empty()))
}

/// Scores recorded files in the order of time, and calls `on_decision` with the file, line and
/// decision of every LLM call. With `correlate`, indicators affect later requests.
fn replay_files(
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
                if evaluated.is_none() && engine.lacks_body(recorded) {
                    summary.record_not_judged(file_index);
                    return Ok(());
                }
                if let Some(evaluated) = &evaluated {
                    let name = names.get(file_index).map_or("", String::as_str);
                    on_decision(name, line, &evaluated.decision)?;
                }
                summary.record(file_index, recorded, evaluated.as_ref(), engine.clusters());
            }
        }
        Ok(())
    })?;
    Ok(summary)
}

/// Returns the JSON object of a decision in the file of `--decisions`.
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
