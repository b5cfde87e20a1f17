//! `hedgerow convert --from FORMAT FILES… [-o OUT] [--label LABEL]`: converts logs to recorded
//! requests, which `hedgerow replay` reads (docs/replay.md).

mod access_log;
mod har;
mod litellm;
mod log_entry;
mod openai_log;
mod replay_record;
mod secrets;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use replay_record::Converted;
use serde_json::json;

use crate::cmd::replay::locate_problems;
use crate::error::{Error, Outcome, Result, io_error};
use crate::terminal::{Format, print_error, print_json, print_line};

#[derive(clap::Args)]
pub struct ConvertArgs {
    /// Read logs in this format.
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: LogFormat,
    /// Convert these files; `-` reads standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write the recorded requests to this file instead of standard output. They contain the
    /// prompts of the log, but not its credentials.
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Give every request this label, for example `benign` or `harvest`.
    #[arg(long)]
    label: Option<String>,
}

/// A format of logs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// JSON lines of LiteLLM's StandardLoggingPayload.
    Litellm,
    /// JSON lines of requests in the format of OpenAI: request logs, input of the Batch API, or
    /// bodies.
    OpenaiLog,
    /// Access log of nginx: JSON (`escape=json`) or the combined format.
    Nginx,
    /// Access log of Envoy as JSON.
    Envoy,
    /// Data set `http_requests` of Cloudflare Logpush.
    CloudflareLogpush,
    /// HAR 1.2, which browsers and proxies export.
    Har,
}

pub fn run(args: &ConvertArgs, format: Format) -> Result<Outcome> {
    let output: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).map_err(|error| io_error(path, &error))?),
        None => Box::new(io::stdout().lock()),
    };
    let mut conversion = Conversion {
        label: args.label.as_deref(),
        output: BufWriter::new(output),
        requests: 0,
        problem_lines: 0,
        skipped: BTreeMap::new(),
    };
    for path in &args.files {
        match args.from {
            LogFormat::Har => conversion.convert_har(path)?,
            format => conversion.convert_lines(path, format)?,
        }
    }
    conversion.output.flush().map_err(output_error)?;
    let is_complete = conversion.problem_lines == 0;
    conversion.print_counts(args.output.as_deref(), format)?;
    Ok(Outcome::from_complete(is_complete))
}

/// A conversion of logs: its output and its counts.
struct Conversion<'c> {
    label: Option<&'c str>,
    output: BufWriter<Box<dyn Write>>,
    requests: u64,
    /// Number of lines or entries that could not be converted.
    problem_lines: u64,
    /// Number of lines that are not requests to a model, by reason.
    skipped: BTreeMap<String, u64>,
}

impl Conversion<'_> {
    /// Converts a log line by line.
    fn convert_lines(&mut self, path: &Path, format: LogFormat) -> Result<()> {
        let mut reader = BufReader::with_capacity(1 << 18, open_input(path)?);
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let mut line = 0;
        loop {
            bytes.clear();
            let mut limited = reader.by_ref().take(MAX_LINE_BYTES);
            let byte_count = limited.read_until(b'\n', &mut bytes);
            let byte_count = byte_count.map_err(|error| io_error(path, &error))?;
            if byte_count == 0 {
                return Ok(());
            }
            line += 1;
            if byte_count as u64 == MAX_LINE_BYTES {
                return Err(Error::Io(format!(
                    "{name}:{line}:1: the line is too long: expected at most 64 MiB; check that \
                     the file has one JSON object a line, and that --from names its format"
                )));
            }
            match std::str::from_utf8(&bytes).map(str::trim) {
                Ok("") => {}
                Ok(text) => self.add(&name, line, convert_line(text, format))?,
                Err(_) => {
                    let problem = "the line is not UTF-8: expected text; convert its encoding";
                    self.add_problems(&name, line, problem);
                }
            }
        }
    }

    /// Converts a HAR file, which is read as a whole. Problems name the entry, from 1.
    fn convert_har(&mut self, path: &Path) -> Result<()> {
        let mut text = String::new();
        let mut limited = open_input(path)?.take(MAX_HAR_BYTES);
        let byte_count =
            limited.read_to_string(&mut text).map_err(|error| io_error(path, &error))?;
        let name = path.display();
        if byte_count as u64 == MAX_HAR_BYTES {
            return Err(Error::Io(format!(
                "{name}: the file is too large: expected at most 256 MiB; export fewer requests"
            )));
        }
        let entries = har::read_entries(&text).ok_or_else(|| {
            Error::Io(format!(
                "{name} is invalid: expected HAR 1.2 with log.entries; export the file again, or \
                 correct --from"
            ))
        })?;
        let name = format!("{name} (entry)");
        for (index, entry) in entries.iter().enumerate() {
            self.add(&name, index.saturating_add(1), har::convert(entry))?;
        }
        Ok(())
    }

    /// Writes the request of a line, or counts why the line has none.
    fn add(&mut self, name: &str, line: usize, converted: Converted) -> Result<()> {
        match converted {
            Converted::Request(mut record) => {
                record.label = self.label.map(str::to_owned);
                let text =
                    serde_json::to_string(&record).map_err(|error| Error::Io(error.to_string()))?;
                self.requests += 1;
                writeln!(self.output, "{text}").map_err(output_error)?;
            }
            Converted::Skipped(reason) => *self.skipped.entry(reason).or_default() += 1,
            Converted::Problems(problems) => self.add_problems(name, line, &problems),
        }
        Ok(())
    }

    /// Prints the problems of a line, up to [`MAX_PRINTED`] lines.
    fn add_problems(&mut self, name: &str, line: usize, problems: &str) {
        self.problem_lines += 1;
        if self.problem_lines <= MAX_PRINTED {
            for problem in locate_problems(name, line, problems).lines() {
                print_error(problem);
            }
        }
    }

    /// Prints the counts: on standard output if the requests are in a file, else on standard error.
    fn print_counts(&self, output: Option<&Path>, format: Format) -> Result<()> {
        let Self { requests, problem_lines, skipped, .. } = self;
        let mut text = format!("{requests} requests converted, {problem_lines} lines not readable");
        for (reason, count) in skipped {
            text.push_str(&format!(", {count} skipped: {reason}"));
        }
        match (output, format) {
            (None, _) => print_error(&text),
            (Some(_), Format::Text) => print_line(format_args!("{text}"))?,
            (Some(_), Format::Json) => print_json(&json!({
                "requests": requests, "unreadable": problem_lines, "skipped": skipped,
            }))?,
        }
        Ok(())
    }
}

/// Converts a line of a log.
fn convert_line(text: &str, format: LogFormat) -> Converted {
    if format == LogFormat::Nginx && !text.starts_with('{') {
        return access_log::convert_combined(text);
    }
    let members = match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(members)) => members,
        _ => {
            return Converted::Problems(
                "the line is invalid: expected a JSON object; correct the line, or --from"
                    .to_owned(),
            );
        }
    };
    match format {
        LogFormat::Litellm => litellm::convert(&members),
        LogFormat::OpenaiLog => openai_log::convert(&members),
        LogFormat::Nginx => access_log::convert_nginx(&members),
        LogFormat::Envoy => access_log::convert_envoy(&members),
        LogFormat::CloudflareLogpush => access_log::convert_logpush(&members),
        LogFormat::Har => Converted::Skipped("a line of a HAR file".to_owned()),
    }
}

fn open_input(path: &Path) -> Result<Box<dyn Read>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(File::open(path).map_err(|error| io_error(path, &error))?))
}

fn output_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::BrokenPipe,
        _ => Error::Io(format!("output: {error}")),
    }
}

/// Maximum bytes of a line.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Maximum bytes of a HAR file.
const MAX_HAR_BYTES: u64 = 256 << 20;

/// Maximum number of lines whose problems are printed.
const MAX_PRINTED: u64 = 50;
