//! `hedgerow test [DIR]`: runs the exemplars of rules.

use std::path::PathBuf;

use crate::error::{Outcome, Result};
use crate::rules::{print_findings, read_rules};
use crate::terminal::Format;

#[derive(clap::Args)]
pub struct TestArgs {
    /// Test the rules in this directory.
    #[arg(default_value = "rules")]
    directory: PathBuf,
}

pub fn run(args: &TestArgs, format: Format) -> Result<Outcome> {
    let rules = match read_rules(&args.directory)? {
        Ok(rules) => rules,
        Err(findings) => return print_findings(&args.directory, &findings, "", format),
    };
    let rule_exemplars: usize = rules.rules.iter().map(|rule| rule.exemplars.len()).sum();
    let correlation_exemplars: usize =
        rules.correlations.iter().map(|rule| rule.exemplars.len()).sum();
    let success_message = format!(
        "{} rules, {} correlations, {} exemplars, all as expected",
        rules.rules.len(),
        rules.correlations.len(),
        rule_exemplars.saturating_add(correlation_exemplars)
    );
    let findings = hedgerow_sigma::test(&rules);
    print_findings(&args.directory, &findings, &success_message, format)
}
