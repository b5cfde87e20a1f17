//! `hedgerow docs [DIR] [-o DOCS] [--check]`

use std::path::PathBuf;

use hedgerow::sigma;

use super::{Failure, Outcome, Result, line, read_rules};

#[derive(clap::Args)]
pub struct Options {
    /// The directory that holds the rules.
    #[arg(default_value = "rules")]
    directory: PathBuf,
    /// The directory to write into.
    #[arg(short, long, default_value = "docs")]
    output: PathBuf,
    /// Only say which pages are stale.
    #[arg(long)]
    check: bool,
}

pub fn run(options: &Options) -> Result<Outcome> {
    let rules = read_rules(&options.directory)?.map_err(|findings| {
        Failure::Unable(format!("the rules have {} findings; run `hedgerow check`", findings.len()))
    })?;
    let mut outcome = Outcome::Fine;
    for (name, page) in [
        ("fields.md", sigma::fields_page()),
        ("signatures.md", sigma::signatures_page(&rules)),
        ("correlations.md", sigma::correlations_page(&rules)),
    ] {
        let path = options.output.join(name);
        let is_stale = std::fs::read_to_string(&path).ok().as_deref() != Some(&page);
        if options.check && is_stale {
            line(format_args!("{} is stale; run `hedgerow docs`", path.display()))?;
            outcome = Outcome::Findings;
        } else if is_stale {
            std::fs::write(&path, page)
                .map_err(|error| Failure::Unable(format!("{}: {error}", path.display())))?;
        }
    }
    Ok(outcome)
}
