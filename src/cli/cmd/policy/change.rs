//! Changes `policy.toml`, checks the rules with the change, and shows what it changes.

use std::path::{Path, PathBuf};

use hedgerow_core::ruleset::Diff;
use hedgerow_sigma::{RuleFile, Rules};
use serde_json::json;
use toml_edit::DocumentMut;

use crate::atomic_file::write_atomically;
use crate::cmd::diff::print_changes;
use crate::config::{Config, TargetArgs};
use crate::error::{Error, Outcome, Result};
use crate::rules::{print_findings, read_sources};
use crate::terminal::{Format, print_error, print_json, print_line};

/// The policy that a command changes.
#[derive(clap::Args)]
pub struct PolicyArgs {
    /// Change the policy.toml in this directory; default: the directory that the setting `rules`
    /// names, or else `rules`.
    #[arg(long = "rules", value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Reads the rules, applies `edit` to the policy, and checks the rules again. If they have no
/// findings, writes the policy, and prints the difference and the next command. Otherwise prints
/// the findings, and writes nothing.
pub fn change_policy(
    args: &PolicyArgs,
    config: Option<&Path>,
    format: Format,
    edit: impl FnOnce(&mut DocumentMut, &Rules) -> Result<()>,
) -> Result<Outcome> {
    let config = Config::load(config, &TargetArgs::default())?;
    let directory = config.rules_directory(args.directory.as_deref());
    let mut sources = read_sources(&directory)?;
    let before = match hedgerow_sigma::check(&sources) {
        Ok(rules) => rules,
        Err(findings) => {
            print_error("the rules were invalid before the change: nothing was changed");
            return print_findings(&directory, &findings, "", format);
        }
    };
    let policy = sources.iter().find(|file| file.path == POLICY);
    let old_text = policy.map_or("", |file| file.text.as_str());
    let mut document: DocumentMut = old_text.parse().map_err(|error| {
        Error::Rejected(format!("{POLICY}: {error}; correct it, `hedgerow check` lists problems"))
    })?;
    edit(&mut document, &before)?;
    let text = document.to_string();
    sources.retain(|file| file.path != POLICY);
    sources.push(RuleFile { path: POLICY.to_owned(), text: text.clone() });
    let after = match hedgerow_sigma::check(&sources) {
        Ok(rules) => rules,
        Err(findings) => {
            print_error("the rules would be invalid with the change: nothing was changed");
            return print_findings(&directory, &findings, "", format);
        }
    };
    let path = directory.join(POLICY);
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
