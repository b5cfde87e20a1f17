//! `hedgerow diff A B [--replay FILES…]`: compares two bundles, and their decisions about recorded
//! requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::rules::policy::{Action, Band, Mode};
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::ruleset::{Diff, short_digest};
use hedgerow_core::{Bundle, Decision, Release, Ruleset, ruleset};
use hedgerow_sigma::Finding;
use hedgerow_sigma::recorded::RecordedRequest;
use serde::Serialize;
use serde_json::{Value, json};

use super::release::resolve_digest;
use super::replay::{ReplayEngine, ReplayEvent, UNLABELLED, locate_problems, read_recordings};
use crate::config::{Config, TargetArgs, project_rule_directories};
use crate::error::{Error, Outcome, Result, io_error};
use crate::remote::{ReleaseStore, changed_bundle};
use crate::rule_directories::RuleDirectories;
use crate::rules::{print_findings, read_rules};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct DiffArgs {
    /// Compare this bundle: its digest or the beginning of the digest, `active`, `canary`,
    /// `shadow`, `embedded`, the file of a bundle, a directory of rules, or a settings file
    /// (`.toml`) that names layers of rules, or else has `rules` next to it.
    from: String,
    /// Compare with this bundle, named in one of the same ways.
    to: String,
    /// Score recorded requests with both bundles, and show which decisions differ.
    #[arg(long, value_name = "FILES", num_args = 1..)]
    replay: Vec<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

/// One side of a comparison.
pub enum Side {
    /// A bundle that was read.
    Loaded { digest: String, content: String, bundle: Box<Bundle> },
    /// The rules that are embedded in the Worker. The command cannot read them.
    Embedded,
}

/// Directories whose rules are invalid, with the findings.
struct InvalidRules {
    directories: RuleDirectories,
    findings: Vec<Finding>,
}

pub fn run(args: &DiffArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let mut store = LazyStore { config, args, store: None };
    let (from, to) = match (store.load_side(&args.from)?, store.load_side(&args.to)?) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(invalid), _) | (_, Err(invalid)) => {
            return print_findings(&invalid.directories, &invalid.findings, "", format);
        }
    };
    let diff = match (&from, &to) {
        (Side::Loaded { bundle: from, .. }, Side::Loaded { bundle: to, .. }) => {
            Diff::between(from, to)
        }
        (Side::Embedded, Side::Embedded) => Diff::default(),
        _ => store.diff_with_embedded(&from, &to)?,
    };
    let decision_diff = if args.replay.is_empty() {
        None
    } else {
        Some(compare_decisions(&args.replay, &from, &to)?)
    };
    match format {
        Format::Json => print_json(&json!({
            "from": from.digest(), "from_content": from.content(),
            "to": to.digest(), "to_content": to.content(),
            "diff": diff, "replay": decision_diff,
        }))?,
        Format::Text => {
            print_diff(&from, &to, &diff)?;
            decision_diff.as_ref().map_or(Ok(()), DecisionDiff::print_text)?;
        }
    }
    let is_complete = decision_diff.is_none_or(|decision_diff| decision_diff.unreadable.is_empty());
    Ok(Outcome::from_complete(is_complete))
}

impl Side {
    fn digest(&self) -> &str {
        match self {
            Self::Loaded { digest, .. } => digest,
            Self::Embedded => EMBEDDED,
        }
    }

    /// Returns the content digest; `None` for the embedded rules.
    fn content(&self) -> Option<&str> {
        match self {
            Self::Loaded { content, .. } => Some(content),
            Self::Embedded => None,
        }
    }

    /// Returns the digest and the content digest as text.
    fn describe(&self) -> String {
        let content = self.content().map(|content| format!(", content {content}"));
        self.digest().to_owned() + &content.unwrap_or_default()
    }

    /// Parses a bundle. `source` names it in errors.
    pub fn from_bytes(bytes: &[u8], source: &str) -> Result<Self> {
        let bundle = Bundle::parse(bytes);
        let bundle = bundle.map_err(|error| Error::Io(format!("{source}: {error}")))?;
        let (digest, content) = (ruleset::digest(bytes), ruleset::content_digest(bytes));
        Ok(Self::Loaded { digest, content, bundle: Box::new(bundle) })
    }

    fn ruleset(&self) -> Result<Ruleset> {
        let Self::Loaded { digest, bundle, .. } = self else {
            return Err(Error::Io(
                "--replay needs the bytes of both bundles, and the embedded rules are in the \
                 Worker; give the rules directory that it was built from"
                    .to_owned(),
            ));
        };
        let ruleset = Ruleset::new((**bundle).clone(), digest.clone());
        ruleset.map_err(|error| Error::Io(format!("{}: {error}", short_digest(digest))))
    }
}

/// The store of bundles, opened when it is needed for the first time.
struct LazyStore<'l> {
    config: Option<&'l Path>,
    args: &'l DiffArgs,
    store: Option<Box<dyn ReleaseStore>>,
}

impl LazyStore<'_> {
    fn store(&mut self) -> Result<&dyn ReleaseStore> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Config::load(self.config, &self.args.target)?.store()?,
        };
        Ok(&**self.store.insert(store))
    }

    /// Reads the bundle that an argument names. The inner error is a directory whose rules are
    /// invalid.
    fn load_side(&mut self, name: &str) -> Result<std::result::Result<Side, InvalidRules>> {
        let path = Path::new(name);
        if matches!(name, EMBEDDED | "active" | "canary" | "shadow") {
            return self.load_by_role(name).map(Ok);
        }
        let is_settings = path.is_file() && path.extension().is_some_and(|end| end == "toml");
        if path.is_dir() || is_settings {
            let directories = match is_settings {
                true => project_rule_directories(path)?,
                false => RuleDirectories::one(path),
            };
            return Ok(match read_rules(&directories)? {
                Ok(rules) => Ok(Side::from_bytes(&rules.encode_bundle(), name)?),
                Err(findings) => Err(InvalidRules { directories, findings }),
            });
        }
        if path.is_file() {
            let bytes = fs::read(path).map_err(|error| io_error(path, &error))?;
            return Side::from_bytes(&bytes, name).map(Ok);
        }
        if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::Io(format!(
                "'{name}' is not a bundle: expected a file, a directory, a digest, or `active`, \
                 `canary`, `shadow` or `embedded`"
            )));
        }
        let digest = resolve_digest(&self.store()?.bundles()?, name)?;
        self.load_stored(&digest).map(Ok)
    }

    /// Reads the bundle that has a role in the current release. `name` is `active`, `canary`,
    /// `shadow` or `embedded`. Returns `Rejected` if the release has no bundle with this role.
    fn load_by_role(&mut self, name: &str) -> Result<Side> {
        if name == EMBEDDED {
            return Ok(Side::Embedded);
        }
        let current = self.store()?.current_release()?;
        let release = current.map(|signed| Release::parse(signed.text.as_bytes())).transpose();
        let release = release.map_err(|error| Error::Io(error.to_string()))?;
        let digest = match (&release, name) {
            (None, "active") => Some(EMBEDDED.to_owned()),
            (None, _) => None,
            (Some(release), "active") => Some(release.active.clone()),
            (Some(release), "canary") => {
                release.canary.as_ref().map(|canary| canary.digest.clone())
            }
            (Some(release), _) => release.shadow.as_ref().map(|shadow| shadow.digest.clone()),
        };
        match digest.as_deref() {
            None => Err(Error::Rejected(format!(
                "the current release has no {name}; name another bundle"
            ))),
            Some(EMBEDDED) => Ok(Side::Embedded),
            Some(digest) => self.load_stored(digest),
        }
    }

    fn load_stored(&mut self, digest: &str) -> Result<Side> {
        let signed = self.store()?.bundle(digest)?;
        let side = Side::from_bytes(signed.text.as_bytes(), short_digest(digest))?;
        if side.digest() != digest {
            return Err(changed_bundle(digest, side.digest()));
        }
        Ok(side)
    }

    /// Requests a comparison from the deployment, because only the deployment has its embedded
    /// rules. Returns `Rejected` if the registry does not have the other bundle.
    fn diff_with_embedded(&mut self, from: &Side, to: &Side) -> Result<Diff> {
        let other = if matches!(from, Side::Embedded) { to } else { from };
        let store = self.store()?;
        if store.is_registry()
            && !store.bundles()?.iter().any(|entry| entry.digest == other.digest())
        {
            return Err(Error::Rejected(format!(
                "bundle {} is not in the registry: expected a stored bundle, because only the \
                 registry can compare with the embedded rules; push it, or compare with the rules \
                 directory that the Worker was built from",
                short_digest(other.digest())
            )));
        }
        store.diff(from.digest(), to.digest())
    }
}

/// Prints the digests of two bundles, and their differences.
pub fn print_diff(from: &Side, to: &Side, diff: &Diff) -> Result<()> {
    print_line(format_args!("from {}\nto   {}", from.describe(), to.describe()))?;
    print_changes(diff)
}

/// Prints the differences between two bundles, one in each line.
pub fn print_changes(diff: &Diff) -> Result<()> {
    if diff.is_empty() {
        return print_line(format_args!("no differences: the bundles are equivalent"));
    }
    for name in &diff.added {
        print_line(format_args!("+ {name}"))?;
    }
    for name in &diff.removed {
        print_line(format_args!("- {name}"))?;
    }
    for name in &diff.changed {
        print_line(format_args!("~ {name}"))?;
    }
    for change in &diff.weights {
        print_line(format_args!("~ {}: {:+} → {:+} dB", change.name, change.from, change.to))?;
    }
    for change in &diff.concepts {
        print_line(format_args!(
            "~ concept {}: {} terms added, {} removed",
            change.name, change.added, change.removed
        ))?;
    }
    for change in &diff.lists {
        print_line(format_args!(
            "~ {}: {} entries added, {} removed",
            change.name, change.added, change.removed
        ))?;
    }
    for setting in &diff.policy {
        let format_value =
            |value: &Option<Value>| value.as_ref().map_or("unset".to_owned(), Value::to_string);
        print_line(format_args!(
            "~ policy {}: {} → {}",
            setting.path,
            format_value(&setting.from),
            format_value(&setting.to)
        ))?;
    }
    Ok(())
}

/// The differences between the decisions of two bundles for the same recorded requests.
#[derive(Default, Serialize)]
pub struct DecisionDiff {
    requests: usize,
    changed: usize,
    counts: Vec<DecisionChange>,
    /// Rules that hit more or fewer requests, by name.
    hits: BTreeMap<String, HitChange>,
    examples: Vec<ChangeExample>,
    /// Lines that are not readable, as messages.
    pub unreadable: Vec<String>,
}

/// Numbers of requests that a rule hits with only one of the two bundles.
#[derive(Default, Serialize)]
struct HitChange {
    /// Requests that the rule hits with the second bundle only.
    new: usize,
    /// Requests that the rule hits with the first bundle only.
    lost: usize,
}

/// One kind of change of a decision, with the number of requests that it affects.
#[derive(Serialize)]
struct DecisionChange {
    label: String,
    /// Band and action with the first bundle (`from`) and with the second bundle (`to`), such as
    /// `suspect, degrade` or `suspect, degrade in shadow`.
    from: String,
    to: String,
    requests: usize,
}

/// A request whose decision changes. It is identified by file and line, and its text is never
/// printed.
#[derive(Serialize)]
struct ChangeExample {
    file: String,
    line: usize,
    account: Option<String>,
    from: DecisionOutcome,
    to: DecisionOutcome,
}

/// The parts of a decision that are compared.
#[derive(Serialize)]
struct DecisionOutcome {
    band: Band,
    action: Action,
    mode: Mode,
    score: f64,
}

/// Scores recorded requests with both bundles, and collects the decisions that differ.
pub fn compare_decisions(files: &[PathBuf], from: &Side, to: &Side) -> Result<DecisionDiff> {
    let (from, to) = (from.ruleset()?, to.ruleset()?);
    let mut comparison = DecisionComparison {
        files,
        old_engine: ReplayEngine::new(&from, true),
        new_engine: ReplayEngine::new(&to, true),
        counts: BTreeMap::new(),
        diff: DecisionDiff::default(),
    };
    read_recordings(files, &mut |event| {
        match event {
            ReplayEvent::Unreadable { file_index, line, problem } => {
                let file = comparison.file_name(file_index);
                comparison.diff.unreadable.push(locate_problems(&file, line, problem));
            }
            ReplayEvent::Request { file_index, line, recorded } => {
                comparison.compare(file_index, line, recorded);
            }
        }
        Ok(())
    })?;
    let counts = comparison.counts.into_iter();
    comparison.diff.counts = counts
        .map(|((label, from, to), requests)| DecisionChange { label, from, to, requests })
        .collect();
    Ok(comparison.diff)
}

/// The state of a comparison: two engines that score the same requests.
struct DecisionComparison<'c> {
    files: &'c [PathBuf],
    old_engine: ReplayEngine<'c>,
    new_engine: ReplayEngine<'c>,
    /// Number of changed requests, by label, old decision and new decision.
    counts: BTreeMap<(String, String, String), usize>,
    diff: DecisionDiff,
}

impl DecisionComparison<'_> {
    fn file_name(&self, file_index: usize) -> String {
        self.files.get(file_index).map_or(String::new(), |path| path.display().to_string())
    }

    fn compare(&mut self, file_index: usize, line: usize, recorded: &RecordedRequest) {
        let old = self.old_engine.evaluate(recorded).map(|evaluated| evaluated.decision);
        let new = self.new_engine.evaluate(recorded).map(|evaluated| evaluated.decision);
        if old.is_none() && new.is_none() {
            return;
        }
        self.diff.requests += 1;
        self.compare_hits(old.as_ref(), new.as_ref());
        let (old, new) = (DecisionOutcome::new(old.as_ref()), DecisionOutcome::new(new.as_ref()));
        if old.describe() == new.describe() {
            return;
        }
        self.diff.changed += 1;
        let label = recorded.label.as_deref().unwrap_or(UNLABELLED).to_owned();
        *self.counts.entry((label, old.describe(), new.describe())).or_default() += 1;
        if self.diff.examples.len() < MAX_EXAMPLES {
            let (file, account) = (self.file_name(file_index), recorded.account.clone());
            self.diff.examples.push(ChangeExample { file, line, account, from: old, to: new });
        }
    }
}

impl DecisionComparison<'_> {
    /// Counts the rules that hit a request with only one of the two bundles.
    fn compare_hits(&mut self, old: Option<&Decision>, new: Option<&Decision>) {
        let names = |decision: Option<&Decision>| -> BTreeSet<String> {
            let hits = decision.into_iter().flat_map(|decision| &decision.hits);
            hits.map(|hit| hit.name.clone()).collect()
        };
        let (old, new) = (names(old), names(new));
        for name in new.difference(&old) {
            self.diff.hits.entry(name.clone()).or_default().new += 1;
        }
        for name in old.difference(&new) {
            self.diff.hits.entry(name.clone()).or_default().lost += 1;
        }
    }
}

impl DecisionOutcome {
    /// Takes the compared parts from a decision. `None` is a request that is not an LLM call, and
    /// counts as clear and allowed.
    fn new(decision: Option<&Decision>) -> Self {
        decision.map_or(
            Self { band: Band::Clear, action: Action::Allow, mode: Mode::Shadow, score: 0.0 },
            |decision| Self {
                band: decision.band,
                action: decision.action,
                mode: decision.mode,
                score: decision.score,
            },
        )
    }

    /// Returns the band and the action as text. The text has no score, because a change of the
    /// score alone does not count as a difference.
    fn describe(&self) -> String {
        let (band, action) = (self.band.name(), self.action.name());
        match (self.action, self.mode) {
            (Action::Allow, _) => format!("{band}, {action}"),
            (_, Mode::Enforce) => format!("{band}, {action}"),
            (_, Mode::Shadow) => format!("{band}, {action} in shadow"),
        }
    }
}

impl DecisionDiff {
    /// Prints the differences as tables.
    pub fn print_text(&self) -> Result<()> {
        print_line(format_args!("\n{} of {} decisions differ", self.changed, self.requests))?;
        for problem in &self.unreadable {
            print_line(format_args!("{problem}"))?;
        }
        if !self.hits.is_empty() {
            print_line(format_args!("\n{:<48} {:>8} {:>9}", "rule", "new hits", "lost hits"))?;
        }
        for (name, HitChange { new, lost }) in &self.hits {
            print_line(format_args!("{name:<48} {new:>8} {lost:>9}"))?;
        }
        if self.changed == 0 {
            return Ok(());
        }
        print_line(format_args!("\n{:<12} {:>8}  decision", "label", "requests"))?;
        for DecisionChange { label, from, to, requests } in &self.counts {
            print_line(format_args!("{label:<12} {requests:>8}  {from} → {to}"))?;
        }
        print_line(format_args!("\nexamples ({MAX_EXAMPLES} at most)"))?;
        for ChangeExample { file, line: line_number, account, from, to } in &self.examples {
            let account = account.as_deref().unwrap_or("-");
            print_line(format_args!(
                "{file}:{line_number}  {account}  {} {:.2} → {} {:.2}",
                from.describe(),
                from.score,
                to.describe(),
                to.score
            ))?;
        }
        Ok(())
    }
}

/// Maximum number of examples.
const MAX_EXAMPLES: usize = 20;
