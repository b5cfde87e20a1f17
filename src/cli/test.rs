//! `hedgerow test [DIR]`

use std::path::PathBuf;

use hedgerow::sigma;

use super::{Format, Outcome, Result, read_rules, report};

#[derive(clap::Args)]
pub struct Options {
    /// The directory that holds the rules.
    #[arg(default_value = "rules")]
    directory: PathBuf,
}

pub fn run(options: &Options, format: Format) -> Result<Outcome> {
    let (findings, fine) = match read_rules(&options.directory)? {
        Err(findings) => (findings, String::new()),
        Ok(rules) => {
            let single: usize = rules.rules.iter().map(|rule| rule.exemplars.len()).sum();
            let timed: usize = rules.correlations.iter().map(|rule| rule.exemplars.len()).sum();
            let fine = format!(
                "{} rules, {} correlations, {} exemplars, all as expected",
                rules.rules.len(),
                rules.correlations.len(),
                single.saturating_add(timed)
            );
            (sigma::test(&rules), fine)
        }
    };
    report(&options.directory, &findings, &fine, format)
}
