//! Reads recorded files line by line, merged in the order of time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use hedgerow_sigma::recorded::RecordedRequest;
use hedgerow_sigma::recorded_line::time_as_written;
use hedgerow_sigma::recorded_time::MIN_EPOCH_SECONDS;
use indicatif::{ProgressBar, ProgressStyle};

use crate::dates::now;
use crate::error::{Result, io_error};

/// A line of a recorded file. `file_index` is the index of the file in the list, and `line` is the
/// number of the line, from 1.
pub enum ReplayEvent<'e> {
    /// A line that is not a request. `problem` describes every problem of the line, one a line.
    Unreadable { file_index: usize, line: usize, problem: &'e str },
    /// A request.
    Request { file_index: usize, line: usize, recorded: &'e RecordedRequest },
}

/// Reads files with a progress bar. The next request always comes from the file whose next request
/// is the earliest. A request without a time gets the time of the previous request in its file.
pub fn read_recordings(
    paths: &[PathBuf],
    on_event: &mut impl FnMut(ReplayEvent<'_>) -> Result<()>,
) -> Result<()> {
    let bar = progress_bar(paths);
    read_merged(paths, &bar, on_event)?;
    bar.finish_and_clear();
    Ok(())
}

/// Reads files as [`read_recordings`] does, but adds the bytes read to the progress bar `bar`.
pub fn read_merged(
    paths: &[PathBuf],
    bar: &ProgressBar,
    on_event: &mut impl FnMut(ReplayEvent<'_>) -> Result<()>,
) -> Result<()> {
    let mut readers = Vec::with_capacity(paths.len());
    for (file_index, path) in paths.iter().enumerate() {
        let mut reader = RecordingReader::open(path, file_index)?;
        reader.advance(bar, on_event)?;
        readers.push(reader);
    }
    loop {
        let pending = readers.iter_mut().filter(|reader| reader.next_request.is_some());
        let Some(reader) = pending.min_by(|a, b| a.next_time.total_cmp(&b.next_time)) else {
            break;
        };
        if let Some((line, recorded)) = reader.next_request.take() {
            on_event(ReplayEvent::Request {
                file_index: reader.file_index,
                line,
                recorded: &recorded,
            })?;
        }
        reader.advance(bar, on_event)?;
    }
    Ok(())
}

/// A file that is being read, with one request of look-ahead.
struct RecordingReader<'p> {
    path: &'p Path,
    file_index: usize,
    reader: BufReader<File>,
    line: usize,
    /// The next request with its line number; `None` at the end of the file.
    next_request: Option<(usize, RecordedRequest)>,
    /// Time of `next_request`, in seconds.
    next_time: f64,
    /// Last time that the file names, in seconds.
    last_time: Option<f64>,
    /// Latest plausible time, in seconds since the epoch.
    max_time: f64,
}

impl<'p> RecordingReader<'p> {
    fn open(path: &'p Path, file_index: usize) -> Result<Self> {
        let opened = File::open(path).map_err(|error| io_error(path, &error))?;
        let reader = BufReader::with_capacity(1 << 18, opened);
        Ok(Self {
            path,
            file_index,
            reader,
            line: 0,
            next_request: None,
            next_time: 0.0,
            last_time: None,
            max_time: now() as f64 + MAX_FUTURE_SECONDS,
        })
    }

    /// Reads up to the next request, and reports the unreadable lines before it.
    fn advance(
        &mut self,
        bar: &ProgressBar,
        on_event: &mut impl FnMut(ReplayEvent<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let byte_count = self.reader.read_until(b'\n', &mut bytes);
            let byte_count = byte_count.map_err(|error| io_error(self.path, &error))?;
            if byte_count == 0 {
                return Ok(());
            }
            self.line += 1;
            bar.inc(byte_count as u64);
            let (file_index, line) = (self.file_index, self.line);
            let Ok(text) = std::str::from_utf8(&bytes) else {
                let problem = "the line is not UTF-8: expected JSON; convert its encoding";
                on_event(ReplayEvent::Unreadable { file_index, line, problem })?;
                continue;
            };
            if text.trim().is_empty() {
                continue;
            }
            match self.read_request(text) {
                Ok(recorded) => {
                    self.last_time = recorded.time.or(self.last_time);
                    self.next_time = recorded.time.unwrap_or(self.next_time);
                    self.next_request = Some((line, recorded));
                    return Ok(());
                }
                Err(problem) => {
                    on_event(ReplayEvent::Unreadable { file_index, line, problem: &problem })?
                }
            }
        }
    }

    /// Reads a line. The error describes every problem, one a line.
    fn read_request(&self, line: &str) -> std::result::Result<RecordedRequest, String> {
        let recorded = RecordedRequest::from_line(line)?;
        self.check_time(recorded.time, line)?;
        Ok(recorded)
    }

    /// Checks that the time of a line, in seconds, is plausible. The error is a message.
    fn check_time(&self, time: Option<f64>, line: &str) -> std::result::Result<(), String> {
        let Some(time) = time else { return Ok(()) };
        let last = self.last_time.unwrap_or(time);
        let is_since_epoch = |time: f64| time >= MIN_EPOCH_SECONDS;
        let expected = if time > self.max_time {
            "a time at most a day in the future; correct the time, its unit or the clock"
        } else if is_since_epoch(time) != is_since_epoch(last) {
            "all times of a file since the epoch, or all since the start of the recording; split \
             the file, or correct the time"
        } else if last - time > MAX_STEP_BACK_SECONDS {
            "a time at most a year before the time of an earlier line; correct the time, or split \
             the file"
        } else {
            return Ok(());
        };
        Err(format!("key `t` has the value {}: expected {expected}", time_as_written(line)))
    }
}

/// Returns the problems of a line, each with its position: `path:line:1: problem`.
pub fn locate_problems(path: &str, line: usize, problems: &str) -> String {
    let located = problems.lines().map(|problem| format!("{path}:{line}:1: {problem}"));
    located.collect::<Vec<String>>().join("\n")
}

/// Maximum number of seconds between now and a plausible time. Clocks may be wrong by a day.
const MAX_FUTURE_SECONDS: f64 = 86_400.0;

/// Maximum number of seconds by which a time may be before an earlier line. Logs of several servers
/// may be out of order.
const MAX_STEP_BACK_SECONDS: f64 = 31_536_000.0;

/// Returns a progress bar over the bytes of files.
pub fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    let sizes = files.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
    let bar = ProgressBar::new(sizes.sum());
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}
