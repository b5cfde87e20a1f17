//! `hedgerow test [DIR…]`: runs the exemplars of rules.

use std::path::Path;

use crate::error::{Outcome, Result};
use crate::rules::{RulesArgs, print_findings, read_rules};
use crate::terminal::Format;

#[derive(clap::Args)]
pub struct TestArgs {
    #[command(flatten)]
    rules: RulesArgs,
}

pub fn run(args: &TestArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let directories = args.rules.directories(config)?;
    let rules = match read_rules(&directories)? {
        Ok(rules) => rules,
        Err(findings) => return print_findings(&directories, &findings, "", format),
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
    print_findings(&directories, &findings, &success_message, format)
}
