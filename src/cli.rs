//! The command line: one command a file.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | fine |
//! | 1 | findings, or a refusal: something is wrong with the rules or a scenario, lines could not be read, the registry or the noise budget refused, or waiting came to nothing |
//! | 2 | wrong usage, or a file or the registry could not be read or written |

mod account;
mod audit;
mod build;
mod check;
mod clusters;
mod config;
mod diff;
mod docs;
mod explain;
mod indicators;
mod input;
mod key;
mod keygen;
mod push;
mod release;
mod replay;
mod score;
mod simulate;
mod status;
mod store;
mod test;
mod time;
mod wait;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use hedgerow::Ruleset;
use hedgerow::sigma::{self, Finding, Rules};

use time::now;

/// Detects harvesting of LLM APIs: checks, tests and builds rules; scores, explains and replays
/// requests; signs and releases rules to a deployment.
#[derive(Parser)]
#[command(
    name = "hedgerow",
    version,
    after_help = "Exit codes: 0 fine, 1 findings or refused, 2 usage or I/O."
)]
struct Arguments {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Settings of the commands that deal with a registry; else HEDGEROW_CONFIG, else
    /// `hedgerow.toml` here, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// Make traffic from a scenario, and show what the rules make of it.
    Simulate(simulate::Options),
    /// Write the generated pages of the documentation.
    Docs(docs::Options),
    /// Make a pair of keys that sign bundles and releases.
    Keygen(keygen::Options),
    /// Check, test, build, sign and upload rules.
    Push(push::Options),
    /// Put a bundle in force: for all, for some accounts, or only to be watched.
    Release(release::Options),
    /// Put the canary, or else the shadow, in force for all.
    Promote(release::PromoteOptions),
    /// Put the bundle in force again that was so before.
    Rollback(release::RollbackOptions),
    /// Show what is in force, where it has arrived and what it does.
    Status(status::Options),
    /// Show what changes from one bundle to another.
    Diff(diff::Options),
    /// Show who did what to the registry.
    Audit(audit::Options),
    /// List, explain or revoke keys for which a correlation holds.
    Indicators(indicators::Options),
    /// Show accounts that act together.
    Clusters(clusters::Options),
}

/// How a command ended well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Fine,
    Findings,
}

/// Why a command did not do its work.
#[derive(Debug)]
enum Failure {
    /// It could not: exit code 2.
    Unable(String),
    /// It must not, as things are: exit code 1.
    Refused(String),
    /// Nobody reads what it prints.
    Closed,
}

type Result<T> = std::result::Result<T, Failure>;

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let Arguments { format, config, command } = Arguments::parse();
    let config = config.as_deref();
    let result = match command {
        Command::Check(options) => check::run(&options, format),
        Command::Test(options) => test::run(&options, format),
        Command::Build(options) => build::run(&options, format),
        Command::Score(options) => score::run(&options, format),
        Command::Explain(options) => explain::run(&options, format),
        Command::Replay(options) => replay::run(&options, format),
        Command::Simulate(options) => simulate::run(&options, format),
        Command::Docs(options) => docs::run(&options),
        Command::Keygen(options) => keygen::run(&options, format),
        Command::Push(options) => push::run(&options, config, format),
        Command::Release(options) => release::run(&options, config, format),
        Command::Promote(options) => release::promote(&options, config, format),
        Command::Rollback(options) => release::rollback(&options, config, format),
        Command::Status(options) => status::run(&options, config, format),
        Command::Diff(options) => diff::run(&options, config, format),
        Command::Audit(options) => audit::run(&options, config, format),
        Command::Indicators(options) => indicators::run(&options, config, format),
        Command::Clusters(options) => clusters::run(&options, config, format),
    };
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Refused(problem)) => {
            complain(&problem);
            ExitCode::from(1)
        }
        Err(Failure::Unable(problem)) => {
            complain(&problem);
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
                Failure::Unable(format!(
                    "the rules have {} findings; run `hedgerow check`, or give --ruleset BUNDLE",
                    findings.len()
                ))
            })?;
            return rules.ruleset().map_err(|error| Failure::Unable(error.to_string()));
        };
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::Unable(format!("{}: {error}", path.display())))?;
        Ruleset::load(&bytes)
            .map_err(|error| Failure::Unable(format!("{}: {error}", path.display())))
    }
}

/// Reads and checks a directory of rules.
fn read_rules(directory: &Path) -> Result<std::result::Result<Rules, Vec<Finding>>> {
    let sources = sigma::read(directory).map_err(|error| {
        Failure::Unable(format!(
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
    let text = harmless(&text.to_string());
    writeln!(io::stdout().lock(), "{text}").map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Unable(format!("standard output: {error}")),
    })
}

/// Says on standard error what is wrong.
fn complain(problem: &str) {
    let _ = writeln!(io::stderr(), "hedgerow: {}", harmless(problem));
}

/// Text without what a terminal would obey: some of it comes from files and servers.
fn harmless(text: &str) -> String {
    let is_harmful = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    text.chars().map(|letter| if is_harmful(letter) { '\u{fffd}' } else { letter }).collect()
}

/// A file that could not be read or written.
fn unable(path: &Path, error: &io::Error) -> Failure {
    Failure::Unable(format!("{}: {error}", path.display()))
}

/// Prints JSON.
fn print(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Failure::Unable(error.to_string()))?;
    line(format_args!("{text}"))
}
