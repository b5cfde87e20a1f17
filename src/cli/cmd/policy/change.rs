//! Changes `policy.toml`, checks the rules with the change, and shows what it changes.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::ruleset::Diff;
use hedgerow_sigma::{RuleFile, Rules};
use serde_json::json;
use toml_edit::DocumentMut;

use super::document::to_text;
use crate::atomic_file::write_atomically;
use crate::cmd::diff::print_changes;
use crate::error::{Error, Outcome, Result};
use crate::rules::{RuleSources, directories_or_settings, print_findings};
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
    /// Returns the command that releases the changed policy, with the directories and the settings
    /// of this command.
    fn next_command(&self, config: Option<&Path>) -> String {
        let mut words = vec!["hedgerow".to_owned(), "push".to_owned()];
        words.extend(self.directories.iter().map(|directory| quote(directory)));
        words.extend(["--release", "--patch"].map(str::to_owned));
        words.extend(config.into_iter().flat_map(|path| ["--config".to_owned(), quote(path)]));
        words.join(" ")
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
    let directories = directories_or_settings(&args.directories, config)?;
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
    let text = to_text(&document, sources.uppermost_file(POLICY).unwrap_or_default());
    sources.set_uppermost_file(RuleFile { path: POLICY.to_owned(), text: text.clone() });
    let after = match sources.check() {
        Ok(rules) => rules,
        Err(findings) => {
            print_error("the rules would be invalid with the change: nothing was changed");
            return print_findings(&directories, &findings, "", format);
        }
    };
    let path = directories.uppermost().join(POLICY);
    // If the policy is a link, the file that it leads to is changed, and the link stays.
    let target = fs::canonicalize(&path).map_or(Cow::Borrowed(&path), Cow::Owned);
    write_atomically(&target, &text)?;
    let diff = Diff::between(&before.bundle(), &after.bundle());
    let next = args.next_command(config);
    match format {
        Format::Json => print_json(&json!({ "file": path, "diff": diff, "next": next }))?,
        Format::Text => {
            print_line(format_args!("{} is changed:", path.display()))?;
            print_changes(&diff)?;
            print_line(format_args!(
                "release it with `{next}`; omit --patch while the embedded rules are active"
            ))?;
        }
    }
    Ok(Outcome::Success)
}

/// Returns a path as one word of a POSIX shell.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./:@+,".contains(char);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

const POLICY: &str = "policy.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_repeats_directories_and_settings() {
        let rows: [(&[&str], Option<&str>, &str); 4] = [
            (&[], None, "hedgerow push --release --patch"),
            (&["vendor", "../ours"], None, "hedgerow push vendor ../ours --release --patch"),
            (&[], Some("/p/prod.toml"), "hedgerow push --release --patch --config /p/prod.toml"),
            (
                &["our rules", "$HOME", "ana's"],
                Some(""),
                r"hedgerow push 'our rules' '$HOME' 'ana'\''s' --release --patch --config ''",
            ),
        ];
        for (directories, config, expected) in rows {
            let directories = directories.iter().map(PathBuf::from).collect();
            let command = PolicyArgs { directories }.next_command(config.map(Path::new));
            assert_eq!(command, expected);
        }
    }
}
