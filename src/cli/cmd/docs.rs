//! `hedgerow docs [DIR…] [-o DOCS] [--check]`: writes the generated pages of the documentation.

use std::path::{Path, PathBuf};

use crate::error::{Error, Outcome, Result, io_error};
use crate::rules::{RulesArgs, read_rules};
use crate::terminal::print_line;

#[derive(clap::Args)]
pub struct DocsArgs {
    #[command(flatten)]
    rules: RulesArgs,
    /// Write the pages into this directory.
    #[arg(short, long, default_value = "docs")]
    output: PathBuf,
    /// List stale pages instead of writing them.
    #[arg(long)]
    check: bool,
}

pub fn run(args: &DocsArgs, config: Option<&Path>) -> Result<Outcome> {
    let directories = args.rules.directories(config)?;
    let rules = read_rules(&directories)?.map_err(|findings| {
        Error::Io(format!(
            "the rules in {} are invalid: {} findings; run `hedgerow check`",
            directories.describe(),
            findings.len()
        ))
    })?;
    let mut outcome = Outcome::Success;
    for (name, page) in hedgerow_sigma::docs::pages(&rules) {
        let path = args.output.join(name);
        let is_stale = std::fs::read_to_string(&path).ok().as_deref() != Some(&page);
        if args.check && is_stale {
            print_line(format_args!("{} is stale; run `hedgerow docs`", path.display()))?;
            outcome = Outcome::Findings;
        } else if is_stale {
            std::fs::write(&path, page).map_err(|error| io_error(&path, &error))?;
        }
    }
    Ok(outcome)
}
