//! Recorded files, line by line, in the order of time over all of them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use hedgerow::recorded::Recorded;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::account::Accounts;
use crate::cli::{Result, unable};

/// What is found in recorded files; `file` is a place in the list of them.
pub enum Event<'e> {
    /// A line is no request.
    Unreadable { file: usize, line: usize, problem: &'e str },
    /// A line is one.
    Request { file: usize, line: usize, recorded: &'e Recorded },
}

/// Reads files with a progress bar: always the file whose next request is the earliest. Requests
/// without a time follow the one before them.
pub fn read(paths: &[PathBuf], on: &mut impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
    let bar = progress(paths);
    let mut accounts = Accounts::new();
    let mut open = Vec::with_capacity(paths.len());
    for (file, path) in paths.iter().enumerate() {
        let mut lines = Lines::open(path, file)?;
        lines.advance(&bar, on)?;
        open.push(lines);
    }
    loop {
        let waiting = open.iter_mut().filter(|lines| lines.next.is_some());
        let Some(lines) = waiting.min_by(|a, b| a.time.total_cmp(&b.time)) else { break };
        if let Some((line, mut recorded)) = lines.next.take() {
            accounts.name(&mut recorded);
            on(Event::Request { file: lines.file, line, recorded: &recorded })?;
        }
        lines.advance(&bar, on)?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// A file that is being read.
struct Lines<'p> {
    path: &'p Path,
    file: usize,
    reader: BufReader<File>,
    line: usize,
    /// The request that is next, and its time.
    next: Option<(usize, Recorded)>,
    time: f64,
}

impl<'p> Lines<'p> {
    fn open(path: &'p Path, file: usize) -> Result<Self> {
        let opened = File::open(path).map_err(|error| unable(path, &error))?;
        let reader = BufReader::with_capacity(1 << 18, opened);
        Ok(Self { path, file, reader, line: 0, next: None, time: 0.0 })
    }

    /// Reads up to the next request.
    fn advance(
        &mut self,
        bar: &ProgressBar,
        on: &mut impl FnMut(Event<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = self.reader.read_until(b'\n', &mut bytes);
            let read = read.map_err(|error| unable(self.path, &error))?;
            if read == 0 {
                return Ok(());
            }
            self.line += 1;
            bar.inc(read as u64);
            let (file, line) = (self.file, self.line);
            let Ok(text) = std::str::from_utf8(&bytes) else {
                on(Event::Unreadable { file, line, problem: "not UTF-8" })?;
                continue;
            };
            if text.trim().is_empty() {
                continue;
            }
            match Recorded::from_line(text) {
                Ok(recorded) => {
                    self.time = recorded.time.unwrap_or(self.time);
                    self.next = Some((line, recorded));
                    return Ok(());
                }
                Err(problem) => on(Event::Unreadable { file, line, problem: &problem })?,
            }
        }
    }
}

fn progress(files: &[PathBuf]) -> ProgressBar {
    let sizes = files.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
    let bar = ProgressBar::new(sizes.sum());
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}
