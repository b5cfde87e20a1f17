//! Compiles the rules into the embedded bundle, `bundle.json` in OUT_DIR.
//!
//! Rules that `hedgerow check` rejects fail the build, with every problem at once. HEDGEROW_RULES
//! names a directory to use instead of `rules/`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    match embed_ruleset() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            for problem in problems.lines() {
                emit_directive(&format!("error={problem}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// Builds the bundle and writes it. An error has one line per problem.
fn embed_ruleset() -> Result<(), String> {
    emit_directive("rerun-if-env-changed=HEDGEROW_RULES");
    let rules_dir =
        env::var_os("HEDGEROW_RULES").map_or_else(|| PathBuf::from("../../rules"), PathBuf::from);
    emit_directive(&format!("rerun-if-changed={}", rules_dir.display()));
    let mut rules = hedgerow_sigma::read_tested(&rules_dir)?;
    // The digests of the files show where a released bundle came from. The Worker is built from its
    // own checkout, and they would take 14 KiB of it.
    rules.sources.clear();
    let out_dir =
        env::var_os("OUT_DIR").ok_or("OUT_DIR is missing: run this build script with cargo")?;
    fs::write(PathBuf::from(out_dir).join("bundle.json"), rules.encode_bundle())
        .map_err(|error| error.to_string())
}

/// Prints a directive to standard output, where cargo reads it.
fn emit_directive(directive: &str) {
    println!("cargo::{directive}");
}
