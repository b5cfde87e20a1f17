//! `hedgerow check [DIR…]`: checks rule files, and lints the policy.

use std::path::Path;

use hedgerow_sigma::{Lints, Override};
use serde_json::json;

use crate::dates::now;
use crate::error::{Outcome, Result};
use crate::rules::{RuleSources, RulesArgs, print_findings};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    rules: RulesArgs,
}

pub fn run(args: &CheckArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let directories = args.rules.directories(config)?;
    let sources = RuleSources::read(&directories)?;
    let checked = sources.check();
    let summary = checked.as_ref().map_or_else(
        |_| String::new(),
        |rules| {
            let (rules, correlations) = (rules.rules.len(), rules.correlations.len());
            format!("{rules} rules, {correlations} correlations, no findings")
        },
    );
    let (Lints { findings, warnings }, overrides) = match checked {
        Ok(rules) => (sources.lint(now()), rules.overrides),
        Err(findings) => (Lints { findings, warnings: Vec::new() }, Vec::new()),
    };
    if format == Format::Json {
        print_json(&json!({
            "findings": findings, "warnings": warnings, "overrides": overrides,
        }))?;
        return Ok(Outcome::from_complete(findings.is_empty()));
    }
    for Override { path, line, column, change } in &overrides {
        let path = directories.locate(path);
        print_line(format_args!("{}:{line}:{column}: override: {change}", path.display()))?;
    }
    for warning in &warnings {
        let hedgerow_sigma::Finding { path, line, column, problem, remedy } = warning;
        let path = directories.locate(path);
        let path = path.display();
        print_line(format_args!("{path}:{line}:{column}: warning: {problem}; {remedy}"))?;
    }
    let summary = match warnings.len() {
        0 => summary,
        count => format!("{summary}, {count} warnings"),
    };
    print_findings(&directories, &findings, &summary, format)
}
