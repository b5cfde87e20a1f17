//! The command line: one command a file.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | fine |
//! | 1 | findings, or a refusal: something is wrong with the rules or a scenario, lines could not be read, the registry or the noise budget refused, or waiting came to nothing |
//! | 2 | wrong usage, or a file or the registry could not be read or written |

mod account_ids;
mod cmd;
mod config;
mod dates;
mod format;
mod input;
mod remote;
mod rollout;
mod secret_file;
mod signer;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use cmd::{
    audit, build, check, clusters, diff, docs, explain, indicators, keygen, push, release, replay,
    score, simulate, status, test,
};
use dates::now;
use hedgerow_core::Ruleset;
use hedgerow_sigma::{Finding, Rules};

/// Detects harvesting of LLM APIs: checks, tests and builds rules; scores, explains and replays
/// requests; signs and releases rules to a deployment.
#[derive(Parser)]
#[command(
    name = "hedgerow",
    version,
    after_help = "Exit codes: 0 fine, 1 findings or refused, 2 usage or I/O."
)]
struct Cli {
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
    Check(check::CheckArgs),
    /// Run every rule's exemplars, alone and together, and the mutation check.
    Test(test::TestArgs),
    /// Check, test and build rules into a bundle.
    Build(build::BuildArgs),
    /// Score one request: raw HTTP or a JSON line.
    Score(score::ScoreArgs),
    /// Show every condition of the rules for one request, true or false.
    Explain(explain::ExplainArgs),
    /// Score recorded requests and summarise by file, label and signature.
    Replay(replay::ReplayArgs),
    /// Make traffic from a scenario, and show what the rules make of it.
    Simulate(simulate::SimulateArgs),
    /// Write the generated pages of the documentation.
    Docs(docs::DocsArgs),
    /// Make a pair of keys that sign bundles and releases.
    Keygen(keygen::KeygenArgs),
    /// Check, test, build, sign and upload rules.
    Push(push::PushArgs),
    /// Put a bundle in force: for all, for some accounts, or only to be watched.
    Release(release::ReleaseArgs),
    /// Put the canary, or else the shadow, in force for all.
    Promote(release::PromoteArgs),
    /// Put the bundle in force again that was so before.
    Rollback(release::RollbackArgs),
    /// Show what is in force, where it has arrived and what it does.
    Status(status::StatusArgs),
    /// Show what changes from one bundle to another.
    Diff(diff::DiffArgs),
    /// Show who did what to the registry.
    Audit(audit::AuditArgs),
    /// List, explain or revoke keys for which a correlation holds.
    Indicators(indicators::IndicatorsArgs),
    /// Show accounts that act together.
    Clusters(clusters::ClustersArgs),
}

/// How a command ended well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Findings,
}

/// Why a command did not do its work.
#[derive(Debug)]
enum Error {
    /// It could not: exit code 2.
    Io(String),
    /// It must not, as things are: exit code 1.
    Rejected(String),
    /// Nobody reads what it prints.
    BrokenPipe,
}

type Result<T> = std::result::Result<T, Error>;

/// Runs the command that the arguments name.
fn main() -> ExitCode {
    let Cli { format, config, command } = Cli::parse();
    let config = config.as_deref();
    let result = match command {
        Command::Check(args) => check::run(&args, format),
        Command::Test(args) => test::run(&args, format),
        Command::Build(args) => build::run(&args, format),
        Command::Score(args) => score::run(&args, format),
        Command::Explain(args) => explain::run(&args, format),
        Command::Replay(args) => replay::run(&args, format),
        Command::Simulate(args) => simulate::run(&args, format),
        Command::Docs(args) => docs::run(&args),
        Command::Keygen(args) => keygen::run(&args, format),
        Command::Push(args) => push::run(&args, config, format),
        Command::Release(args) => release::run(&args, config, format),
        Command::Promote(args) => release::promote(&args, config, format),
        Command::Rollback(args) => release::rollback(&args, config, format),
        Command::Status(args) => status::run(&args, config, format),
        Command::Diff(args) => diff::run(&args, config, format),
        Command::Audit(args) => audit::run(&args, config, format),
        Command::Indicators(args) => indicators::run(&args, config, format),
        Command::Clusters(args) => clusters::run(&args, config, format),
    };
    match result {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(Error::BrokenPipe) => ExitCode::SUCCESS,
        Err(Error::Rejected(message)) => {
            print_error(&message);
            ExitCode::from(1)
        }
        Err(Error::Io(message)) => {
            print_error(&message);
            ExitCode::from(2)
        }
    }
}

/// Where rules come from.
#[derive(clap::Args)]
struct RulesetArgs {
    /// A bundle made by `hedgerow build`; else the rules in the directory `rules`.
    #[arg(long, value_name = "BUNDLE")]
    ruleset: Option<PathBuf>,
}

impl RulesetArgs {
    fn load(&self) -> Result<Ruleset> {
        let Some(path) = &self.ruleset else {
            let rules = read_rules(Path::new("rules"))?.map_err(|findings| {
                Error::Io(format!(
                    "the rules have {} findings; run `hedgerow check`, or give --ruleset BUNDLE",
                    findings.len()
                ))
            })?;
            return rules.ruleset().map_err(|error| Error::Io(error.to_string()));
        };
        let bytes = std::fs::read(path)
            .map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
        Ruleset::load(&bytes).map_err(|error| Error::Io(format!("{}: {error}", path.display())))
    }
}

/// Reads and checks a directory of rules.
fn read_rules(directory: &Path) -> Result<std::result::Result<Rules, Vec<Finding>>> {
    let sources = hedgerow_sigma::read(directory).map_err(|error| {
        Error::Io(format!(
            "{}: {error}; give the directory that holds the rules",
            directory.display()
        ))
    })?;
    Ok(hedgerow_sigma::check(&sources))
}

/// Prints findings, or that there are none.
fn print_findings(
    directory: &Path,
    findings: &[Finding],
    success_message: &str,
    format: Format,
) -> Result<Outcome> {
    match format {
        Format::Json => print_json(&serde_json::json!({ "findings": findings }))?,
        Format::Text => {
            for finding in findings {
                print_line(format_args!("{}/{finding}", directory.display()))?;
            }
            match findings.len() {
                0 => print_line(format_args!("{success_message}"))?,
                count => print_line(format_args!("{count} findings"))?,
            }
        }
    }
    Ok(if findings.is_empty() { Outcome::Success } else { Outcome::Findings })
}

/// Prints a line. A closed pipe ends the command quietly.
fn print_line(text: fmt::Arguments<'_>) -> Result<()> {
    let text = sanitize_for_terminal(&text.to_string());
    writeln!(io::stdout().lock(), "{text}").map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::BrokenPipe,
        _ => Error::Io(format!("standard output: {error}")),
    })
}

/// Says on standard error what is wrong.
fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "hedgerow: {}", sanitize_for_terminal(message));
}

/// Text without what a terminal would obey: some of it comes from files and servers.
fn sanitize_for_terminal(text: &str) -> String {
    let is_unsafe = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// A file that could not be read or written.
fn io_error(path: &Path, error: &io::Error) -> Error {
    Error::Io(format!("{}: {error}", path.display()))
}

/// Prints JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Error::Io(error.to_string()))?;
    print_line(format_args!("{text}"))
}
