//! `hedgerow check [DIR]`: checks rule files.

use std::path::PathBuf;

use crate::error::{Outcome, Result};
use crate::rules::{print_findings, read_rules};
use crate::terminal::Format;

#[derive(clap::Args)]
pub struct CheckArgs {
    /// Check the rules in this directory.
    #[arg(default_value = "rules")]
    directory: PathBuf,
}

pub fn run(args: &CheckArgs, format: Format) -> Result<Outcome> {
    let checked = read_rules(&args.directory)?;
    let success_message = checked.as_ref().map_or_else(
        |_| String::new(),
        |rules| {
            let (rules, correlations) = (rules.rules.len(), rules.correlations.len());
            format!("{rules} rules, {correlations} correlations, no findings")
        },
    );
    print_findings(&args.directory, &checked.err().unwrap_or_default(), &success_message, format)
}
