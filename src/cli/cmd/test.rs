//! `hedgerow test [DIR]`

use std::path::PathBuf;

use crate::{Format, Outcome, Result, print_findings, read_rules};

#[derive(clap::Args)]
pub struct TestArgs {
    /// The directory that holds the rules.
    #[arg(default_value = "rules")]
    directory: PathBuf,
}

pub fn run(args: &TestArgs, format: Format) -> Result<Outcome> {
    let (findings, success_message) = match read_rules(&args.directory)? {
        Err(findings) => (findings, String::new()),
        Ok(rules) => {
            let rule_exemplars: usize = rules.rules.iter().map(|rule| rule.exemplars.len()).sum();
            let correlation_exemplars: usize =
                rules.correlations.iter().map(|rule| rule.exemplars.len()).sum();
            let success_message = format!(
                "{} rules, {} correlations, {} exemplars, all as expected",
                rules.rules.len(),
                rules.correlations.len(),
                rule_exemplars.saturating_add(correlation_exemplars)
            );
            (hedgerow_sigma::test(&rules), success_message)
        }
    };
    print_findings(&args.directory, &findings, &success_message, format)
}
