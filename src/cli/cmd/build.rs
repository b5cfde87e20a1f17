//! `hedgerow build [DIR…] -o BUNDLE`: checks and tests rules, and builds them into a bundle.

use std::path::{Path, PathBuf};

use hedgerow_core::ruleset;
use serde_json::json;

use crate::error::{Outcome, Result, io_error};
use crate::rules::{RulesArgs, print_findings, read_rules};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct BuildArgs {
    #[command(flatten)]
    rules: RulesArgs,
    /// Write the bundle to this file.
    #[arg(short, long, value_name = "BUNDLE", default_value = "bundle.json")]
    output: PathBuf,
}

pub fn run(args: &BuildArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let directories = args.rules.directories(config)?;
    let rules = match read_rules(&directories)? {
        Ok(rules) => rules,
        Err(findings) => return print_findings(&directories, &findings, "", format),
    };
    let findings = hedgerow_sigma::test(&rules);
    if !findings.is_empty() {
        return print_findings(&directories, &findings, "", format);
    }
    let bytes = rules.encode_bundle();
    std::fs::write(&args.output, &bytes).map_err(|error| io_error(&args.output, &error))?;
    let (digest, content) = (ruleset::digest(&bytes), ruleset::content_digest(&bytes));
    let signatures = rules.bundle().signatures.len();
    match format {
        Format::Json => print_json(&json!({
            "digest": digest, "content": content, "bytes": bytes.len(), "signatures": signatures,
        }))?,
        Format::Text => {
            print_line(format_args!("{digest}  {}", args.output.display()))?;
            print_line(format_args!("{content}  content digest"))?;
            print_line(format_args!("{signatures} signatures, {} bytes", bytes.len()))?;
        }
    }
    Ok(Outcome::Success)
}
