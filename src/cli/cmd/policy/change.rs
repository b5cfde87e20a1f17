//! Changes `policy.toml`, checks the rules with the change, and shows what it changes.

use std::path::{Path, PathBuf};

use hedgerow_core::ruleset::Diff;
use hedgerow_sigma::{RuleFile, Rules};
use serde_json::json;
use toml_edit::DocumentMut;

use crate::atomic_file::write_atomically;
use crate::cmd::diff::print_changes;
use crate::config::rule_directories;
use crate::error::{Error, Outcome, Result};
use crate::rule_directories::RuleDirectories;
use crate::rules::{RuleSources, print_findings};
use crate::terminal::{Format, print_error, print_json, print_line};

/// The policy that a command changes.
#[derive(clap::Args)]
pub struct PolicyArgs {
    /// Change the policy.toml in this directory. Of several directories, each is a layer over those
    /// before it, and the last one is changed. Default: the setting `rules`, or else `rules`.
    #[arg(long = "rules", value_name = "DIR")]
    directories: Vec<PathBuf>,
}

impl PolicyArgs {
    /// Returns the directories of the command line, or else of the settings.
    fn directories(&self, config: Option<&Path>) -> Result<RuleDirectories> {
        match self.directories.as_slice() {
            [] => rule_directories(config),
            directories => RuleDirectories::layers(Path::new(""), directories),
        }
    }
}

/// Reads the rules, applies `edit` to the policy of the uppermost layer, and checks the rules. If
/// they have no findings, writes the policy, and prints the difference and the next command.
/// Otherwise prints the findings, and writes nothing.
pub fn change_policy(
    args: &PolicyArgs,
    config: Option<&Path>,
    format: Format,
    edit: impl FnOnce(&mut DocumentMut, &Rules) -> Result<()>,
) -> Result<Outcome> {
    let directories = args.directories(config)?;
    let mut sources = RuleSources::read(&directories)?;
    let before = match sources.check() {
        Ok(rules) => rules,
        Err(findings) => {
            print_error("the rules were invalid before the change: nothing was changed");
            return print_findings(&directories, &findings, "", format);
        }
    };
    let mut document: DocumentMut =
        sources.uppermost_file(POLICY).unwrap_or_default().parse().map_err(|error| {
            Error::Rejected(format!(
                "{POLICY}: {error}; correct it, `hedgerow check` lists problems"
            ))
        })?;
    edit(&mut document, &before)?;
    let text = document.to_string();
    sources.set_uppermost_file(RuleFile { path: POLICY.to_owned(), text: text.clone() });
    let after = match sources.check() {
        Ok(rules) => rules,
        Err(findings) => {
            print_error("the rules would be invalid with the change: nothing was changed");
            return print_findings(&directories, &findings, "", format);
        }
    };
    let path = directories.uppermost().join(POLICY);
    write_atomically(&path, &text)?;
    let diff = Diff::between(&before.bundle(), &after.bundle());
    match format {
        Format::Json => print_json(&json!({ "file": path, "diff": diff, "next": NEXT }))?,
        Format::Text => {
            print_line(format_args!("{} is changed:", path.display()))?;
            print_changes(&diff)?;
            print_line(format_args!("release it with `{NEXT}`"))?;
        }
    }
    Ok(Outcome::Success)
}

const POLICY: &str = "policy.toml";

/// The command that releases a changed policy.
const NEXT: &str = "hedgerow push --release --patch";
