//! Reads the rules of a command from a directory of rule files or from a bundle.

use std::path::{Path, PathBuf};

use hedgerow_core::Ruleset;
use hedgerow_sigma::{Finding, RuleFile, Rules};
use serde_json::json;

use crate::error::{Error, Outcome, Result, io_error};
use crate::terminal::{Format, print_json, print_line};

/// The rules that a command scores with.
#[derive(clap::Args)]
pub struct RulesetArgs {
    /// Use a bundle made by `hedgerow build` instead of the rules in the directory `rules`.
    #[arg(long, value_name = "BUNDLE")]
    ruleset: Option<PathBuf>,
}

impl RulesetArgs {
    /// Reads and compiles the rules. Rules with findings are an I/O error.
    pub fn load(&self) -> Result<Ruleset> {
        let Some(path) = &self.ruleset else {
            let rules = read_rules(Path::new("rules"))?.map_err(|findings| {
                Error::Io(format!(
                    "the rules in `rules` are invalid: {} findings; run `hedgerow check`, or give \
                     --ruleset BUNDLE",
                    findings.len()
                ))
            })?;
            return rules.ruleset().map_err(|error| Error::Io(error.to_string()));
        };
        let bytes = std::fs::read(path).map_err(|error| io_error(path, &error))?;
        Ruleset::load(&bytes).map_err(|error| Error::Io(format!("{}: {error}", path.display())))
    }
}

/// Reads and checks a directory of rules. The inner error lists the findings.
pub fn read_rules(directory: &Path) -> Result<std::result::Result<Rules, Vec<Finding>>> {
    Ok(hedgerow_sigma::check(&read_sources(directory)?))
}

/// Reads the files of a directory of rules.
pub fn read_sources(directory: &Path) -> Result<Vec<RuleFile>> {
    hedgerow_sigma::read(directory).map_err(|error| {
        Error::Io(format!(
            "{}: {error}: expected a directory of rules; correct the path",
            directory.display()
        ))
    })
}

/// Prints findings, or `success_message` if there are none. As JSON, prints an object with the list
/// of findings.
pub fn print_findings(
    directory: &Path,
    findings: &[Finding],
    success_message: &str,
    format: Format,
) -> Result<Outcome> {
    match format {
        Format::Json => print_json(&json!({ "findings": findings }))?,
        Format::Text => {
            for finding in findings {
                print_line(format_args!("{}/{finding}", directory.display()))?;
            }
            match findings.len() {
                0 => print_line(format_args!("{success_message}"))?,
                count => print_line(format_args!("{count} findings"))?,
            }
        }
    }
    Ok(Outcome::from_complete(findings.is_empty()))
}
