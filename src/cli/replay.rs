//! `hedgerow replay FILES… [--ruleset BUNDLE] [--decisions OUT]`

mod summary;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use hedgerow::recorded::Recorded;
use hedgerow::{Decision, Ruleset};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::account::Accounts;
use super::{Failure, Format, Outcome, Result, RulesOptions, now, print};
use summary::Summary;

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
            Some(BufWriter::new(File::create(path).map_err(|error| failure(path, &error))?))
        }
        None => None,
    };
    let bar = progress(&options.files);
    let mut summary = Summary::default();
    let mut accounts = Accounts::new();
    let now = now();
    for path in &options.files {
        let files = (path.as_path(), &bar);
        replay(files, &ruleset, now, &mut accounts, &mut summary, decisions.as_mut())?;
    }
    bar.finish_and_clear();
    if let (Some(mut decisions), Some(path)) = (decisions, &options.decisions) {
        decisions.flush().map_err(|error| failure(path, &error))?;
    }
    match format {
        Format::Json => print(&summary.json())?,
        Format::Text => summary.text()?,
    }
    Ok(if summary.unreadable() == 0 { Outcome::Fine } else { Outcome::Findings })
}

fn replay(
    (path, bar): (&Path, &ProgressBar),
    ruleset: &Ruleset,
    now: u64,
    accounts: &mut Accounts,
    summary: &mut Summary,
    mut decisions: Option<&mut BufWriter<File>>,
) -> Result<()> {
    let mut reader =
        BufReader::with_capacity(1 << 20, File::open(path).map_err(|error| failure(path, &error))?);
    let name = path.display().to_string();
    summary.open(&name);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| failure(path, &error))?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        bar.inc(read as u64);
        let Ok(text) = std::str::from_utf8(&line) else {
            summary.unread(number, "not UTF-8");
            continue;
        };
        if text.trim().is_empty() {
            continue;
        }
        let mut recorded = match Recorded::from_line(text) {
            Ok(recorded) => recorded,
            Err(problem) => {
                summary.unread(number, &problem);
                continue;
            }
        };
        accounts.name(&mut recorded);
        let decision = decide(ruleset, &recorded, now);
        if let (Some(out), Some(decision)) = (decisions.as_mut(), &decision) {
            let row = row(&name, number, decision);
            writeln!(out, "{row}").map_err(|error| Failure(format!("decisions: {error}")))?;
        }
        summary.add(&recorded, decision.as_ref());
    }
}

/// The decision over a request; `None` where it is no LLM call.
fn decide(ruleset: &Ruleset, recorded: &Recorded, now: u64) -> Option<Decision> {
    let envelope = recorded.envelope(ruleset.policy().scan.window, now);
    let assessment = ruleset.assess(&envelope)?;
    let treatment = ruleset.policy().treatment(envelope.path, envelope.account);
    Some(Decision::new(ruleset, &envelope, assessment, treatment))
}

fn row(file: &str, line: usize, decision: &Decision) -> serde_json::Value {
    let hits: Vec<_> =
        decision.hits.iter().map(|hit| json!({ "name": hit.name, "weight": hit.weight })).collect();
    json!({
        "file": file, "line": line, "account": decision.account, "score": decision.score,
        "band": decision.band, "action": decision.action, "hits": hits,
    })
}

fn progress(files: &[PathBuf]) -> ProgressBar {
    let sizes = files.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
    let bar = ProgressBar::new(sizes.sum());
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

fn failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure(format!("{}: {error}", path.display()))
}
