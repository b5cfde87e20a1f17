//! `hedgerow docs [DIR] [-o DOCS] [--check]`

use std::path::PathBuf;

use crate::{Error, Outcome, Result, print_line, read_rules};

#[derive(clap::Args)]
pub struct DocsArgs {
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

pub fn run(args: &DocsArgs) -> Result<Outcome> {
    let rules = read_rules(&args.directory)?.map_err(|findings| {
        Error::Io(format!("the rules have {} findings; run `hedgerow check`", findings.len()))
    })?;
    let mut outcome = Outcome::Success;
    for (name, page) in [
        ("fields.md", hedgerow_sigma::fields_page()),
        ("signatures.md", hedgerow_sigma::signatures_page(&rules)),
        ("correlations.md", hedgerow_sigma::correlations_page(&rules)),
    ] {
        let path = args.output.join(name);
        let is_stale = std::fs::read_to_string(&path).ok().as_deref() != Some(&page);
        if args.check && is_stale {
            print_line(format_args!("{} is stale; run `hedgerow docs`", path.display()))?;
            outcome = Outcome::Findings;
        } else if is_stale {
            std::fs::write(&path, page)
                .map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
        }
    }
    Ok(outcome)
}
