//! `hedgerow rules update [--from RULES] [--replay FILES…] [--dry-run] [--force]`: replaces the
//! vendor directory, and shows beforehand what changes.

use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::ruleset::{Diff, short_digest};
use hedgerow_sigma::{Finding, Rules};
use serde_json::json;

use super::directory::{CHECKSUM_FILE, VendorRules, find_edits, restore};
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
    /// Write even if files of the vendor directory were edited, whose changes are lost, or if the
    /// rules have findings after the update.
    #[arg(long)]
    force: bool,
}

/// An update that is not written yet.
struct Update {
    directories: RuleDirectories,
    vendor: PathBuf,
    installed: VendorRules,
    new: VendorRules,
    /// Files of the vendor directory that were edited, as messages.
    edits: Vec<String>,
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
    let is_blocked = !update.edits.is_empty() || !update.findings.is_empty();
    let is_written = !args.dry_run && !update.is_current() && (args.force || !is_blocked);
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
        let vendor = vendor_directory(&directories)?;
        restore(&vendor)?;
        let vendor = fs::canonicalize(&vendor).map_err(|error| io_error(&vendor, &error))?;
        let edits = match find_edits(&vendor) {
            Err(_) if args.force => vec![format!("{CHECKSUM_FILE}: missing")],
            edits => edits?,
        };
        let installed = VendorRules::load(Some(&vendor))?;
        let new = VendorRules::load(args.from.as_deref())?;
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
        self.edits.is_empty()
            && self.installed.version == self.new.version
            && self.installed.digest() == self.new.digest()
    }

    /// Returns whether nothing needs a correction: edits that `--force` has replaced do not.
    fn is_complete(&self, is_written: bool) -> bool {
        let are_lines_readable = self
            .change
            .as_ref()
            .and_then(|change| change.decisions.as_ref())
            .is_none_or(|decisions| decisions.unreadable.is_empty());
        self.findings.is_empty() && (self.edits.is_empty() || is_written) && are_lines_readable
    }

    fn print_text(&self) -> Result<()> {
        let describe =
            |rules: &VendorRules| format!("{} ({})", rules.version, short_digest(&rules.digest()));
        let (from, to) = (describe(&self.installed), describe(&self.new));
        print_line(format_args!("vendor: {from} → {to}"))?;
        for edit in &self.edits {
            print_line(format_args!("{}/{edit} since it was written", self.vendor.display()))?;
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
            return print_line(format_args!(
                "\n{}: version {}; next: `hedgerow test`, then commit and `hedgerow push`",
                self.vendor.display(),
                self.new.version
            ));
        }
        let reason = match (self.edits.is_empty(), self.findings.is_empty()) {
            _ if self.is_current() => "the vendor directory has this version already",
            _ if args.dry_run => "--dry-run",
            (false, _) => {
                "the vendor directory was edited: move the changes to an upper layer, or give \
                 --force to lose them"
            }
            (_, false) => {
                "the rules would have findings: correct the upper layers, or give --force and \
                 correct them afterwards"
            }
            _ => "unchanged",
        };
        print_line(format_args!("\nnothing was written: {reason}"))
    }

    fn print_json(&self, is_written: bool) -> Result<()> {
        let describe =
            |rules: &VendorRules| json!({ "version": rules.version, "digest": rules.digest() });
        print_json(&json!({
            "from": describe(&self.installed), "to": describe(&self.new),
            "current": self.is_current(), "whole": self.is_whole,
            "edits": self.edits, "findings": self.findings,
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
