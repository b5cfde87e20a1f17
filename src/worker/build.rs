//! Selects the bundle to embed: the file that HEDGEROW_BUNDLE names. It is JSON, compressed with
//! brotli if the name ends in `.br`.
//!
//! `npm run build` compiles the bundle from the rules, with the Wasm module (`src/wasm`). If this
//! script compiled the rules, Cargo would have to build the rule compiler a second time, for the
//! build machine. Unit tests and clippy run on the build machine, and embed a bundle without rules.

use std::env;
use std::process::ExitCode;

/// A bundle without rules.
const NO_RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/no_rules.json");

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=HEDGEROW_BUNDLE");
    let deployable = env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm");
    let bundle = match env::var("HEDGEROW_BUNDLE") {
        Ok(bundle) => bundle,
        Err(_) if !deployable => NO_RULES.to_owned(),
        Err(error) => {
            let remedy = "build with `npm run build`, which compiles the rules";
            println!("cargo::error=HEDGEROW_BUNDLE: {error}: {remedy}");
            return ExitCode::FAILURE;
        }
    };
    let encoding = if bundle.ends_with(".br") { "br" } else { "" };
    println!("cargo::rustc-env=EMBEDDED_BUNDLE={bundle}");
    println!("cargo::rustc-env=EMBEDDED_ENCODING={encoding}");
    ExitCode::SUCCESS
}
