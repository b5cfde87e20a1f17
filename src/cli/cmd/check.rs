//! `hedgerow check [DIR]`

use std::path::PathBuf;

use crate::{Format, Outcome, Result, print_findings, read_rules};

#[derive(clap::Args)]
pub struct CheckArgs {
    /// The directory that holds the rules.
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
