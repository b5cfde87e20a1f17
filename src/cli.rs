//! The command line: one command a file.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | fine |
//! | 1 | findings: something is wrong with the rules, or lines could not be read |
//! | 2 | wrong usage, or a file could not be read or written |

mod account;
mod build;
mod check;
mod docs;
mod explain;
mod input;
mod replay;
mod score;
mod test;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use hedgerow::Ruleset;
use hedgerow::sigma::{self, Finding, Rules};

/// Detects harvesting of LLM APIs: checks, tests and builds rules; scores, explains and replays
/// requests.
#[derive(Parser)]
#[command(
    name = "hedgerow",
    version,
    after_help = "Exit codes: 0 fine, 1 findings, 2 usage or I/O."
)]
struct Arguments {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Check rule files: every problem with line, column and remedy.
    Check(check::Options),
    /// Run every rule's exemplars, alone and together, and the mutation check.
    Test(test::Options),
    /// Check, test and build rules into a bundle.
    Build(build::Options),
    /// Score one request: raw HTTP or a JSON line.
    Score(score::Options),
    /// Show every condition of the rules for one request, true or false.
    Explain(explain::Options),
    /// Score recorded requests and summarise by file, label and signature.
    Replay(replay::Options),
    /// Write the generated pages of the documentation.
    Docs(docs::Options),
}

/// How a command ended well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Fine,
    Findings,
}

/// Why a command could not do its work: exit code 2.
#[derive(Debug)]
struct Failure(String);

type Result<T> = std::result::Result<T, Failure>;

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let Arguments { format, command } = Arguments::parse();
    let result = match command {
        Command::Check(options) => check::run(&options, format),
        Command::Test(options) => test::run(&options, format),
        Command::Build(options) => build::run(&options, format),
        Command::Score(options) => score::run(&options, format),
        Command::Explain(options) => explain::run(&options, format),
        Command::Replay(options) => replay::run(&options, format),
        Command::Docs(options) => docs::run(&options),
    };
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(Failure(problem)) if problem.is_empty() => ExitCode::SUCCESS,
        Err(Failure(problem)) => {
            let _ = writeln!(io::stderr(), "hedgerow: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Where rules come from.
#[derive(clap::Args)]
struct RulesOptions {
    /// A bundle made by `hedgerow build`; else the rules in the directory `rules`.
    #[arg(long, value_name = "BUNDLE")]
    ruleset: Option<PathBuf>,
}

impl RulesOptions {
    fn load(&self) -> Result<Ruleset> {
        let Some(path) = &self.ruleset else {
            let rules = read_rules(Path::new("rules"))?.map_err(|findings| {
                Failure(format!(
                    "the rules have {} findings; run `hedgerow check`, or give --ruleset BUNDLE",
                    findings.len()
                ))
            })?;
            return rules.ruleset().map_err(|error| Failure(error.to_string()));
        };
        let bytes =
            std::fs::read(path).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
        Ruleset::load(&bytes).map_err(|error| Failure(format!("{}: {error}", path.display())))
    }
}

/// Reads and checks a directory of rules.
fn read_rules(directory: &Path) -> Result<std::result::Result<Rules, Vec<Finding>>> {
    let sources = sigma::read(directory).map_err(|error| {
        Failure(format!(
            "{}: {error}; give the directory that holds the rules",
            directory.display()
        ))
    })?;
    Ok(sigma::check(&sources))
}

/// Prints findings, or that there are none.
fn report(directory: &Path, findings: &[Finding], fine: &str, format: Format) -> Result<Outcome> {
    match format {
        Format::Json => print(&serde_json::json!({ "findings": findings }))?,
        Format::Text => {
            for finding in findings {
                line(format_args!("{}/{finding}", directory.display()))?;
            }
            match findings.len() {
                0 => line(format_args!("{fine}"))?,
                count => line(format_args!("{count} findings"))?,
            }
        }
    }
    Ok(if findings.is_empty() { Outcome::Fine } else { Outcome::Findings })
}

/// Prints a line. A closed pipe ends the command quietly.
fn line(text: fmt::Arguments<'_>) -> Result<()> {
    writeln!(io::stdout().lock(), "{text}").map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure(String::new()),
        _ => Failure(format!("standard output: {error}")),
    })
}

/// Prints JSON.
fn print(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Failure(error.to_string()))?;
    line(format_args!("{text}"))
}

/// Seconds since the epoch: dates in the policy are held against today.
#[allow(clippy::disallowed_methods, reason = "the command line is a host: it has a clock")]
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
