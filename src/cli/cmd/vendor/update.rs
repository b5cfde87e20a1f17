//! `hedgerow rules update [--from RULES] [--replay FILES…] [--dry-run] [--discard-edits]
//! [--allow-findings]`: replaces the vendor directory, and shows beforehand what changes.

use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::ruleset::{Diff, short_digest};
use hedgerow_sigma::{Finding, Rules};
use serde_json::json;

use super::directory::{Edits, VendorRules, interrupted_update, resolve_links, restore};
use crate::cmd::diff::{DecisionDiff, Side, compare_decisions, print_diff};
use crate::config::rule_directories;
use crate::error::{Error, Outcome, Result, io_error};
use crate::rule_directories::RuleDirectories;
use crate::rules::{RuleSources, print_findings};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct UpdateArgs {
    /// Take the rules in this directory, such as `rules` of a checkout or the vendor directory of
    /// an earlier commit, instead of the rules of this program.
    #[arg(long, value_name = "RULES")]
    from: Option<PathBuf>,
    /// Score recorded requests with the rules before and after the update, and show which decisions
    /// differ, and which rules hit more or fewer requests.
    #[arg(long, value_name = "FILES", num_args = 1..)]
    replay: Vec<PathBuf>,
    /// Show what would change, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write even if files of the vendor directory were edited. The edits are lost.
    #[arg(long)]
    discard_edits: bool,
    /// Write even if the rules have findings after the update, which you correct afterwards.
    #[arg(long)]
    allow_findings: bool,
}

/// An update that is not written yet.
struct Update {
    directories: RuleDirectories,
    vendor: PathBuf,
    installed: VendorRules,
    new: VendorRules,
    edits: Edits,
    /// Findings in all layers after the update.
    findings: Vec<Finding>,
    /// Whether `change` is about all layers. If they have findings before or after the update, it
    /// is about the vendor's rules alone.
    is_whole: bool,
    /// The change of the bundle; `None` if the vendor's rules alone have findings, too.
    change: Option<BundleChange>,
}

/// The change of the bundle.
struct BundleChange {
    from: Side,
    to: Side,
    diff: Diff,
    /// The change of the decisions about recorded requests, if there are any.
    decisions: Option<DecisionDiff>,
}

pub fn run(args: &UpdateArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let update = Update::prepare(args, config)?;
    let is_written = !args.dry_run && !update.is_current() && update.obstacles(args).is_empty();
    if format == Format::Text {
        update.print_text()?;
    }
    if is_written {
        update.new.write(&update.vendor)?;
    }
    match format {
        Format::Json => update.print_json(is_written)?,
        Format::Text => update.print_result(is_written, args)?,
    }
    Ok(Outcome::from_complete(update.is_complete(is_written)))
}

impl Update {
    /// Reads the vendor directory and the new rules, and compares them. Writes nothing.
    fn prepare(args: &UpdateArgs, config: Option<&Path>) -> Result<Self> {
        let directories = rule_directories(config)?;
        let vendor = open_vendor(&vendor_directory(&directories)?, args.dry_run)?;
        let installed = VendorRules::load(Some(&vendor))?;
        let new = VendorRules::load(args.from.as_deref())?;
        let edits = Edits::find(&vendor, &new)?;
        let mut sources = RuleSources::read(&directories)?;
        let before = sources.check();
        sources.replace_lowest(new.files.clone());
        let after = sources.check();
        let change = match (&before, &after) {
            (Ok(before), Ok(after)) => Some(BundleChange::new(before, after, &args.replay)?),
            _ => BundleChange::of_vendor(&installed, &new)?,
        };
        let is_whole = before.is_ok() && after.is_ok();
        let findings = after.err().unwrap_or_default();
        Ok(Self { directories, vendor, installed, new, edits, findings, is_whole, change })
    }

    fn is_current(&self) -> bool {
        matches!(&self.edits, Edits::Known(messages) if messages.is_empty())
            && self.installed.version == self.new.version
            && self.installed.digest() == self.new.digest()
    }

    /// Returns the reasons why the update is not written, with their remedies.
    fn obstacles(&self, args: &UpdateArgs) -> Vec<&'static str> {
        let edits = match &self.edits {
            Edits::Known(messages) if !messages.is_empty() => Some(
                "the vendor directory was edited: move the changes to an upper layer, or give \
                 --discard-edits to lose them",
            ),
            Edits::Unknown(messages) if !messages.is_empty() => Some(
                "the vendor directory has no SHA256SUMS, so its edits are unknown: restore the \
                 file, or give --discard-edits to lose the files that are listed above",
            ),
            _ => None,
        };
        let findings = (!self.findings.is_empty()).then_some(
            "the rules would have findings: correct the upper layers, or give --allow-findings and \
             correct them afterwards",
        );
        let edits = edits.filter(|_| !args.discard_edits);
        edits.into_iter().chain(findings.filter(|_| !args.allow_findings)).collect()
    }

    /// Returns whether nothing needs a correction. Edits that were replaced need none.
    fn is_complete(&self, is_written: bool) -> bool {
        let are_lines_readable = self
            .change
            .as_ref()
            .and_then(|change| change.decisions.as_ref())
            .is_none_or(|decisions| decisions.unreadable.is_empty());
        let is_edited = !self.edits.messages().is_empty();
        self.findings.is_empty() && (!is_edited || is_written) && are_lines_readable
    }

    fn print_text(&self) -> Result<()> {
        let describe =
            |rules: &VendorRules| format!("{} ({})", rules.version, short_digest(&rules.digest()));
        let (from, to) = (describe(&self.installed), describe(&self.new));
        print_line(format_args!("vendor: {from} → {to}"))?;
        for edit in self.edits.messages() {
            print_line(format_args!("{}/{edit}", self.vendor.display()))?;
        }
        if !self.is_whole {
            print_line(format_args!(
                "the layers together have findings before or after the update, so the change of \
                 the vendor's rules alone is shown, without recorded requests"
            ))?;
        }
        if let Some(change) = &self.change {
            change.print_text()?;
        }
        if !self.findings.is_empty() {
            print_line(format_args!("\nfindings after the update:"))?;
            print_findings(&self.directories, &self.findings, "", Format::Text)?;
        }
        Ok(())
    }

    fn print_result(&self, is_written: bool, args: &UpdateArgs) -> Result<()> {
        if is_written {
            let next = match self.findings.is_empty() {
                true => "`hedgerow test`, then commit and `hedgerow push`",
                false => "correct the findings, until `hedgerow check` and `hedgerow test` pass",
            };
            return print_line(format_args!(
                "\n{}: version {}; next: {next}",
                self.vendor.display(),
                self.new.version
            ));
        }
        let reason = match args.dry_run {
            _ if self.is_current() => "the vendor directory has this version already".to_owned(),
            true => "--dry-run".to_owned(),
            false => self.obstacles(args).join("\nnothing was written: "),
        };
        print_line(format_args!("\nnothing was written: {reason}"))
    }

    fn print_json(&self, is_written: bool) -> Result<()> {
        let describe =
            |rules: &VendorRules| json!({ "version": rules.version, "digest": rules.digest() });
        print_json(&json!({
            "from": describe(&self.installed), "to": describe(&self.new),
            "current": self.is_current(), "whole": self.is_whole,
            "edits": self.edits.messages(), "findings": self.findings,
            "diff": self.change.as_ref().map(|change| &change.diff),
            "replay": self.change.as_ref().and_then(|change| change.decisions.as_ref()),
            "written": is_written,
        }))
    }
}

impl BundleChange {
    /// Compares the rules before and after the update, and their decisions about recorded requests.
    fn new(before: &Rules, after: &Rules, replay: &[PathBuf]) -> Result<Self> {
        let from = Side::from_bytes(&before.encode_bundle(), "the rules before the update")?;
        let to = Side::from_bytes(&after.encode_bundle(), "the rules after the update")?;
        let diff = Diff::between(&before.bundle(), &after.bundle());
        let decisions = match replay {
            [] => None,
            files => Some(compare_decisions(files, &from, &to)?),
        };
        Ok(Self { from, to, diff, decisions })
    }

    /// Compares the vendor's rules alone. Returns `None` if they have findings.
    fn of_vendor(installed: &VendorRules, new: &VendorRules) -> Result<Option<Self>> {
        let before = hedgerow_sigma::check(&installed.files);
        match (before, hedgerow_sigma::check(&new.files)) {
            (Ok(before), Ok(after)) => Self::new(&before, &after, &[]).map(Some),
            _ => Ok(None),
        }
    }

    fn print_text(&self) -> Result<()> {
        print_diff(&self.from, &self.to, &self.diff)?;
        self.decisions.as_ref().map_or(Ok(()), DecisionDiff::print_text)
    }
}

/// Returns the vendor directory without links. Restores it first if an update was interrupted,
/// except in a dry run, which changes nothing. Returns `Rejected` if it is a Git repository of its
/// own, which an update would delete.
fn open_vendor(directory: &Path, is_dry_run: bool) -> Result<PathBuf> {
    let directory = resolve_links(directory)?;
    if let Some(old) = interrupted_update(&directory).filter(|_| is_dry_run) {
        return Err(Error::Rejected(format!(
            "{}: missing, because an update was interrupted: its files are in {}; run `hedgerow \
             rules update` without --dry-run, which restores them, or rename the directory",
            directory.display(),
            old.display()
        )));
    }
    restore(&directory)?;
    let directory = fs::canonicalize(&directory).map_err(|error| io_error(&directory, &error))?;
    if fs::symlink_metadata(directory.join(".git")).is_ok() {
        return Err(Error::Rejected(format!(
            "{}: a Git repository: expected a directory that `hedgerow rules` has written, because \
             an update replaces all of it; update the repository with Git, or correct `rules` in \
             the settings",
            directory.display()
        )));
    }
    Ok(directory)
}

/// Returns the lowest layer of the settings. Returns an error if the settings have only one
/// directory, because its files are not only the vendor's.
fn vendor_directory(directories: &RuleDirectories) -> Result<PathBuf> {
    let lowest = directories.iter().next().map(|(_, directory)| directory);
    lowest.filter(|_| directories.is_layered()).ok_or_else(|| {
        Error::Io(format!(
            "the settings have one directory of rules, {}: expected layers, such as `rules = \
             [\"vendor\", \"ours\"]`; docs/upgrade.md shows how to divide it",
            directories.describe()
        ))
    })
}
