//! `hedgerow check [DIR]`: checks rule files, and lints the policy.

use std::path::PathBuf;

use hedgerow_sigma::Lints;
use serde_json::json;

use crate::dates::now;
use crate::error::{Outcome, Result};
use crate::rules::{print_findings, read_sources};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct CheckArgs {
    /// Check the rules in this directory.
    #[arg(default_value = "rules")]
    directory: PathBuf,
}

pub fn run(args: &CheckArgs, format: Format) -> Result<Outcome> {
    let directory = &args.directory;
    let sources = read_sources(directory)?;
    let checked = hedgerow_sigma::check(&sources);
    let summary = checked.as_ref().map_or_else(
        |_| String::new(),
        |rules| {
            let (rules, correlations) = (rules.rules.len(), rules.correlations.len());
            format!("{rules} rules, {correlations} correlations, no findings")
        },
    );
    let Lints { findings, warnings } = match checked {
        Ok(_) => hedgerow_sigma::lint(&sources, now()),
        Err(findings) => Lints { findings, warnings: Vec::new() },
    };
    if format == Format::Json {
        print_json(&json!({ "findings": findings, "warnings": warnings }))?;
        return Ok(Outcome::from_complete(findings.is_empty()));
    }
    for warning in &warnings {
        let hedgerow_sigma::Finding { path, line, column, problem, remedy } = warning;
        let path = format!("{}/{path}", directory.display());
        print_line(format_args!("{path}:{line}:{column}: warning: {problem}; {remedy}"))?;
    }
    let summary = match warnings.len() {
        0 => summary,
        count => format!("{summary}, {count} warnings"),
    };
    print_findings(directory, &findings, &summary, format)
}
