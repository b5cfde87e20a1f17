//! Reads the rules of a command from directories of rule files or from a bundle.

use std::path::{Path, PathBuf};

use hedgerow_core::Ruleset;
use hedgerow_sigma::{Finding, Layer, Lints, RuleFile, Rules};
use serde_json::json;

use crate::config::rule_directories;
use crate::error::{Error, Outcome, Result, io_error};
use crate::rule_directories::RuleDirectories;
use crate::terminal::{Format, print_json, print_line};

/// The directories of rules that a command reads.
#[derive(clap::Args)]
pub struct RulesArgs {
    /// Read the rules in this directory. Of several directories, each is a layer over those before
    /// it. Default: the setting `rules`, or else `rules`.
    #[arg(value_name = "DIR")]
    directories: Vec<PathBuf>,
}

impl RulesArgs {
    /// Returns the directories of the command line, or else of the settings.
    pub fn directories(&self, config: Option<&Path>) -> Result<RuleDirectories> {
        directories_or_settings(&self.directories, config)
    }
}

/// Returns the directories that a command line names, as layers, or else those of the settings.
pub fn directories_or_settings(
    directories: &[PathBuf],
    config: Option<&Path>,
) -> Result<RuleDirectories> {
    match directories {
        [] => rule_directories(config),
        directories => RuleDirectories::layers(Path::new(""), directories),
    }
}

/// The rules that a command scores with.
#[derive(clap::Args)]
pub struct RulesetArgs {
    /// Use a bundle made by `hedgerow build` instead of the rules that the settings name.
    #[arg(long, value_name = "BUNDLE")]
    ruleset: Option<PathBuf>,
}

impl RulesetArgs {
    /// Reads and compiles the rules. Rules with findings are an I/O error.
    pub fn load(&self, config: Option<&Path>) -> Result<Ruleset> {
        let Some(path) = &self.ruleset else {
            let directories = rule_directories(config)?;
            let rules = read_rules(&directories)?.map_err(|findings| {
                Error::Io(format!(
                    "the rules in `{}` are invalid: {} findings; run `hedgerow check`, or give \
                     --ruleset BUNDLE",
                    directories.describe(),
                    findings.len()
                ))
            })?;
            return rules.ruleset().map_err(|error| Error::Io(error.to_string()));
        };
        let bytes = std::fs::read(path).map_err(|error| io_error(path, &error))?;
        Ruleset::load(&bytes).map_err(|error| Error::Io(format!("{}: {error}", path.display())))
    }
}

/// The files of all layers of rules.
pub struct RuleSources {
    /// Name and files of each layer, the lowest first.
    layers: Vec<(String, Vec<RuleFile>)>,
}

impl RuleSources {
    /// Reads the files of all directories.
    pub fn read(directories: &RuleDirectories) -> Result<Self> {
        let read_layer = |(name, directory): (&str, PathBuf)| {
            let files = hedgerow_sigma::read(&directory).map_err(|error| {
                Error::Io(format!(
                    "{}: {error}: expected a directory of rules; correct the path",
                    directory.display()
                ))
            })?;
            Ok((name.to_owned(), files))
        };
        let layers = directories.iter().map(read_layer).collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    /// Replaces the files of the lowest layer.
    pub fn replace_lowest(&mut self, files: Vec<RuleFile>) {
        if let Some((_, lowest)) = self.layers.first_mut() {
            *lowest = files;
        }
    }

    /// Returns the text of a file of the uppermost layer; `None` if that layer does not have it.
    pub fn uppermost_file(&self, path: &str) -> Option<&str> {
        let (_, files) = self.layers.last()?;
        files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// Adds a file to the uppermost layer, or replaces it.
    pub fn set_uppermost_file(&mut self, file: RuleFile) {
        if let Some((_, files)) = self.layers.last_mut() {
            files.retain(|other| other.path != file.path);
            files.push(file);
        }
    }

    /// Checks the files. The error lists the findings.
    pub fn check(&self) -> std::result::Result<Rules, Vec<Finding>> {
        hedgerow_sigma::check_layers(&self.layers())
    }

    /// Lints the policies. `now` is the time in seconds since the epoch.
    pub fn lint(&self, now: u64) -> Lints {
        hedgerow_sigma::lint_layers(&self.layers(), now)
    }

    fn layers(&self) -> Vec<Layer<'_>> {
        self.layers.iter().map(|(name, files)| Layer { name, files }).collect()
    }
}

/// Reads and checks directories of rules. The inner error lists the findings.
pub fn read_rules(
    directories: &RuleDirectories,
) -> Result<std::result::Result<Rules, Vec<Finding>>> {
    Ok(RuleSources::read(directories)?.check())
}

/// Prints findings, or `success_message` if there are none. As JSON, prints an object with the list
/// of findings.
pub fn print_findings(
    directories: &RuleDirectories,
    findings: &[Finding],
    success_message: &str,
    format: Format,
) -> Result<Outcome> {
    match format {
        Format::Json => print_json(&json!({ "findings": findings }))?,
        Format::Text => {
            for Finding { path, line, column, problem, remedy } in findings {
                let path = directories.locate(path);
                let path = path.display();
                print_line(format_args!("{path}:{line}:{column}: {problem}; {remedy}"))?;
            }
            match findings.len() {
                0 => print_line(format_args!("{success_message}"))?,
                count => print_line(format_args!("{count} findings"))?,
            }
        }
    }
    Ok(Outcome::from_complete(findings.is_empty()))
}
