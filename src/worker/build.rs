//! Embeds the ruleset: what does not pass `hedgerow check` does not compile. Every problem is told at once.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            for problem in problems.lines() {
                tell(&format!("error={problem}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    tell("rerun-if-env-changed=HEDGEROW_RULES");
    let rules =
        env::var_os("HEDGEROW_RULES").map_or_else(|| PathBuf::from("../../rules"), PathBuf::from);
    tell(&format!("rerun-if-changed={}", rules.display()));
    let bundle = hedgerow::sigma::build(&rules)?;
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(PathBuf::from(out).join("bundle.json"), bundle).map_err(|error| error.to_string())
}

/// Cargo reads directives from standard output.
fn tell(directive: &str) {
    println!("cargo::{directive}");
}
