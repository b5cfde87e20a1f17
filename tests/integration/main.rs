//! Integration tests of the core, of rule files and of the command line. They are one binary, so
//! that it is linked only once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot continue must stop, and prints why it is skipped"
)]

/// Changes that one can approve: content digests, patches, and commands that change the policy.
mod approval;
/// Bundles and releases: their bytes, formats and limits.
mod bundle;
/// Campaigns in recorded traffic, with the shipped rules.
mod campaigns;
/// The command line: exit codes, findings and JSON.
mod cli;
/// Clusters of requests, and how the policy treats them.
mod clusters;
/// Comparisons with concepts.
mod concepts;
/// Logs: `hedgerow convert`, and the form of recorded requests.
mod convert;
/// The correlator against a naive reference.
mod correlation;
/// The work that hostile bodies cause.
mod cost;
/// Messages of `hedgerow check`.
mod diagnostics;
/// The reports of `hedgerow evaluate` and `hedgerow calibrate` on a generated corpus.
mod evaluation;
/// Extraction against a naive reference.
mod extraction;
/// Bodies that are made to be expensive to score.
#[path = "../hostile_bodies.rs"]
mod hostile_bodies;
/// Accounts of credentials, at the command line and in replays.
mod identity;
/// Requests in 22 languages.
mod languages;
/// Layers of rules, and `hedgerow rules`.
mod layers;
/// Matching against `explain` and a naive reference.
mod matching;
/// Passages of a body, each with its role (such as instruction, material or examples).
mod passages;
/// The policy: conditions of routes, ends of overrides, and lints.
mod policy;
/// Keys, signatures, bundles and releases, and their commands.
mod release;
/// Routes and request shapes of every LLM API, with the shipped rules.
mod routes;
/// Sets of known prompts: their commands, their files and their field.
mod seeds;
/// The rules in `rules/`.
mod shipped_rules;
/// Simulated campaigns.
mod simulate;
/// The naive references.
mod support;
/// The verification of tags in docs/origin.md.
mod tags;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns a path in the repository. Cargo runs tests in the directory of their package, so
/// relative paths do not work.
fn from_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Skips a test: prints the reason, and fails if `HEDGEROW_STRICT` is set, as in continuous
/// integration.
fn skip(reason: &str) {
    assert!(std::env::var_os("HEDGEROW_STRICT").is_none(), "skipped: {reason}");
    println!("skipped: {reason}");
}

/// Returns a command that runs `hedgerow` in the root of the repository.
fn hedgerow_command() -> Command {
    command_in_root(env!("CARGO_BIN_EXE_hedgerow"))
}

/// Returns a command that runs `hedgerow` for long tasks. It uses the optimised binary that
/// `HEDGEROW_RELEASE_CLI` names, if the variable is set. `npm test` sets it, because it builds this
/// binary anyway.
fn fast_hedgerow_command() -> Command {
    match std::env::var_os("HEDGEROW_RELEASE_CLI") {
        Some(binary) => command_in_root(binary),
        None => hedgerow_command(),
    }
}

fn command_in_root(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(from_root(""));
    command
}
