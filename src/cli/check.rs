//! `hedgerow check [DIR]`

use std::path::PathBuf;

use super::{Format, Outcome, Result, read_rules, report};

#[derive(clap::Args)]
pub struct Options {
    /// The directory that holds the rules.
    #[arg(default_value = "rules")]
    directory: PathBuf,
}

pub fn run(options: &Options, format: Format) -> Result<Outcome> {
    let checked = read_rules(&options.directory)?;
    let fine = checked.as_ref().map_or_else(
        |_| String::new(),
        |rules| {
            let (rules, correlations) = (rules.rules.len(), rules.correlations.len());
            format!("{rules} rules, {correlations} correlations, no findings")
        },
    );
    report(&options.directory, &checked.err().unwrap_or_default(), &fine, format)
}
