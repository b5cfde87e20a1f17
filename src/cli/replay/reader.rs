//! Recorded files, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use hedgerow::recorded::Recorded;
use hedgerow::{Decision, Ruleset};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::account::Accounts;
use crate::cli::{Result, unable};

/// What is found in recorded files.
pub enum Event<'e> {
    /// A file begins.
    File(&'e str),
    /// A line is no request.
    Unreadable { line: usize, problem: &'e str },
    /// A line is one.
    Request { file: &'e str, line: usize, recorded: &'e Recorded },
}

/// Reads files, one after the other, with a progress bar.
pub fn read(paths: &[PathBuf], on: &mut impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
    let bar = progress(paths);
    let mut accounts = Accounts::new();
    for path in paths {
        read_file(path, &bar, &mut accounts, on)?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn read_file(
    path: &Path,
    bar: &ProgressBar,
    accounts: &mut Accounts,
    on: &mut impl FnMut(Event<'_>) -> Result<()>,
) -> Result<()> {
    let file = File::open(path).map_err(|error| unable(path, &error))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let name = path.display().to_string();
    on(Event::File(&name))?;
    let (mut bytes, mut line) = (Vec::new(), 0);
    loop {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes).map_err(|error| unable(path, &error))?;
        if read == 0 {
            return Ok(());
        }
        line += 1;
        bar.inc(read as u64);
        let Ok(text) = std::str::from_utf8(&bytes) else {
            on(Event::Unreadable { line, problem: "not UTF-8" })?;
            continue;
        };
        if text.trim().is_empty() {
            continue;
        }
        match Recorded::from_line(text) {
            Ok(mut recorded) => {
                accounts.name(&mut recorded);
                on(Event::Request { file: &name, line, recorded: &recorded })?;
            }
            Err(problem) => on(Event::Unreadable { line, problem: &problem })?,
        }
    }
}

/// The decision over a request; `None` where it is no LLM call.
pub fn decide(ruleset: &Ruleset, recorded: &Recorded, now: u64) -> Option<Decision> {
    let envelope = recorded.envelope(ruleset.policy().scan.window, now);
    let assessment = ruleset.assess(&envelope)?;
    let treatment = ruleset.policy().treatment(envelope.path, envelope.account);
    Some(Decision::new(ruleset, &envelope, assessment, treatment))
}

fn progress(files: &[PathBuf]) -> ProgressBar {
    let sizes = files.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
    let bar = ProgressBar::new(sizes.sum());
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}
