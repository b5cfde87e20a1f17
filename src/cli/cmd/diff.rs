//! `hedgerow diff A B [--replay FILES…]`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::rules::policy::{Action, Band, Mode};
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::ruleset::{Diff, short_digest};
use hedgerow_core::{Bundle, Decision, Release, Ruleset, ruleset};
use serde::Serialize;
use serde_json::{Value, json};

use super::release::resolve_digest;
use super::replay::{ReplayEngine, ReplayEvent, UNLABELLED, read_recordings};
use crate::config::{Config, TargetArgs};
use crate::remote::ReleaseStore;
use crate::{
    Error, Format, Outcome, Result, io_error, print_findings, print_json, print_line, read_rules,
};

#[derive(clap::Args)]
pub struct DiffArgs {
    /// A bundle: its digest or the beginning of that, `active`, `canary`, `shadow`, `embedded`, a
    /// bundle's file, or a directory of rules.
    from: String,
    /// Another.
    to: String,
    /// Score recorded requests with both, and show which decisions differ.
    #[arg(long, value_name = "FILES", num_args = 1..)]
    replay: Vec<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

/// One side of a comparison.
enum Side {
    /// A bundle whose bytes are here.
    Loaded { digest: String, bundle: Box<Bundle> },
    /// The rules that a Worker was built with.
    Embedded,
}

/// What is wrong with the rules in a directory.
struct InvalidRules(PathBuf, Vec<hedgerow_sigma::Finding>);

pub fn run(args: &DiffArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let mut store = LazyStore { config, args, store: None };
    let mut load_side =
        |name: &str| -> Result<std::result::Result<Side, InvalidRules>> { store.load_side(name) };
    let (from, to) = (load_side(&args.from)?, load_side(&args.to)?);
    let (from, to) = match (from, to) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(InvalidRules(directory, findings)), _)
        | (_, Err(InvalidRules(directory, findings))) => {
            return print_findings(&directory, &findings, "", format);
        }
    };
    let diff = match (&from, &to) {
        (Side::Loaded { bundle: from, .. }, Side::Loaded { bundle: to, .. }) => {
            Diff::between(from, to)
        }
        (Side::Embedded, Side::Embedded) => Diff::default(),
        _ => store.diff_with_embedded(&from, &to)?,
    };
    let decision_diff = match args.replay.is_empty() {
        true => None,
        false => Some(compare_decisions(&args.replay, &from, &to)?),
    };
    if format == Format::Json {
        print_json(
            &json!({ "from": from.digest(), "to": to.digest(), "diff": diff, "replay": decision_diff }),
        )?;
    } else {
        print_diff(&from, &to, &diff)?;
        decision_diff.as_ref().map_or(Ok(()), DecisionDiff::print_text)?;
    }
    let is_complete = decision_diff.is_none_or(|decision_diff| decision_diff.unreadable.is_empty());
    Ok(if is_complete { Outcome::Success } else { Outcome::Findings })
}

impl Side {
    fn digest(&self) -> &str {
        match self {
            Self::Loaded { digest, .. } => digest,
            Self::Embedded => EMBEDDED,
        }
    }

    fn from_bytes(bytes: &[u8], source: &str) -> Result<Self> {
        let bundle = Bundle::parse(bytes);
        let bundle = bundle.map_err(|error| Error::Io(format!("{source}: {error}")))?;
        Ok(Self::Loaded { digest: ruleset::digest(bytes), bundle: Box::new(bundle) })
    }

    fn ruleset(&self) -> Result<Ruleset> {
        let Self::Loaded { digest, bundle } = self else {
            return Err(Error::Io(
                "--replay needs the bytes of both, and the embedded rules are in the Worker; give \
                 the rules directory that it was built from"
                    .to_owned(),
            ));
        };
        let ruleset = Ruleset::new((**bundle).clone(), digest.clone());
        ruleset.map_err(|error| Error::Io(format!("{}: {error}", short_digest(digest))))
    }
}

/// The registry, opened where a side needs it.
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

    fn load_side(&mut self, name: &str) -> Result<std::result::Result<Side, InvalidRules>> {
        let path = Path::new(name);
        if matches!(name, EMBEDDED | "active" | "canary" | "shadow") {
            return self.by_role(name).map(Ok);
        }
        if path.is_dir() {
            return Ok(match read_rules(path)? {
                Ok(rules) => Ok(Side::from_bytes(&rules.encode_bundle(), name)?),
                Err(findings) => Err(InvalidRules(path.to_owned(), findings)),
            });
        }
        if path.is_file() {
            let bytes = fs::read(path).map_err(|error| io_error(path, &error))?;
            return Side::from_bytes(&bytes, name).map(Ok);
        }
        let is_digest = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            return Err(Error::Io(format!(
                "'{name}' is no file, no directory and no digest; give one of these, or active, \
                 canary, shadow or embedded"
            )));
        }
        let digest = resolve_digest(&self.store()?.bundles()?, name)?;
        self.load_stored(&digest).map(Ok)
    }

    /// What a role of the release in force stands for.
    fn by_role(&mut self, name: &str) -> Result<Side> {
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
            None => Err(Error::Rejected(format!("the release in force has no {name}"))),
            Some(EMBEDDED) => Ok(Side::Embedded),
            Some(digest) => self.load_stored(digest),
        }
    }

    fn load_stored(&mut self, digest: &str) -> Result<Side> {
        let signed = self.store()?.bundle(digest)?;
        let side = Side::from_bytes(signed.text.as_bytes(), short_digest(digest))?;
        match side.digest() == digest {
            true => Ok(side),
            false => Err(Error::Rejected(format!(
                "bundle {}: the registry gave other bytes; it was changed there: push again",
                short_digest(digest)
            ))),
        }
    }

    /// A comparison with the embedded rules, which only the deployment can make.
    fn diff_with_embedded(&mut self, from: &Side, to: &Side) -> Result<Diff> {
        let other = if matches!(from, Side::Embedded) { to } else { from };
        let store = self.store()?;
        if store.is_registry()
            && !store.bundles()?.iter().any(|entry| entry.digest == other.digest())
        {
            return Err(Error::Rejected(format!(
                "the embedded rules are in the Worker, and only its registry can compare them, with \
                 bundles that it has; {} is none: push it, or compare with the rules directory that \
                 the Worker was built from",
                short_digest(other.digest())
            )));
        }
        store.diff(from.digest(), to.digest())
    }
}

fn print_diff(from: &Side, to: &Side, diff: &Diff) -> Result<()> {
    print_line(format_args!("from {}\nto   {}", from.digest(), to.digest()))?;
    if diff.is_empty() {
        return print_line(format_args!("no differences: both decide alike"));
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

/// The decisions that change.
#[derive(Default, Serialize)]
struct DecisionDiff {
    requests: usize,
    changed: usize,
    counts: Vec<DecisionChange>,
    examples: Vec<ChangeExample>,
    unreadable: Vec<String>,
}

#[derive(Serialize)]
struct DecisionChange {
    label: String,
    /// Band and what is done: `suspect, degrade`; `suspect, degrade in shadow`.
    from: String,
    to: String,
    requests: usize,
}

/// A request by its place: never its text.
#[derive(Serialize)]
struct ChangeExample {
    file: String,
    line: usize,
    account: Option<String>,
    from: DecisionOutcome,
    to: DecisionOutcome,
}

#[derive(Serialize)]
struct DecisionOutcome {
    band: Band,
    action: Action,
    mode: Mode,
    score: f64,
}

fn compare_decisions(files: &[PathBuf], from: &Side, to: &Side) -> Result<DecisionDiff> {
    let (from, to) = (from.ruleset()?, to.ruleset()?);
    let mut decision_diff = DecisionDiff::default();
    let mut counts: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let file_name = |file_index: usize| {
        files.get(file_index).map_or(String::new(), |path| path.display().to_string())
    };
    let (mut old_engine, mut new_engine) =
        (ReplayEngine::new(&from, true), ReplayEngine::new(&to, true));
    read_recordings(files, &mut |event| {
        match event {
            ReplayEvent::Unreadable { file_index, line, problem } => {
                decision_diff
                    .unreadable
                    .push(format!("{}:{line}:1: {problem}", file_name(file_index)));
            }
            ReplayEvent::Request { file_index, line, recorded } => {
                let decisions = (old_engine.evaluate(recorded), new_engine.evaluate(recorded));
                if decisions.0.is_none() && decisions.1.is_none() {
                    return Ok(());
                }
                decision_diff.requests += 1;
                let outcome = |evaluated: Option<(Decision, u64)>| {
                    outcome_of(evaluated.map(|(decision, _)| decision).as_ref())
                };
                let (old, new) = (outcome(decisions.0), outcome(decisions.1));
                if old.describe() == new.describe() {
                    return Ok(());
                }
                decision_diff.changed += 1;
                let label = recorded.label.as_deref().unwrap_or(UNLABELLED).to_owned();
                *counts.entry((label, old.describe(), new.describe())).or_default() += 1;
                if decision_diff.examples.len() < MAX_EXAMPLES {
                    let account = recorded.account.clone();
                    let file = file_name(file_index);
                    decision_diff.examples.push(ChangeExample {
                        file,
                        line,
                        account,
                        from: old,
                        to: new,
                    });
                }
            }
        }
        Ok(())
    })?;
    decision_diff.counts = counts
        .into_iter()
        .map(|((label, from, to), requests)| DecisionChange { label, from, to, requests })
        .collect();
    Ok(decision_diff)
}

/// What a decision comes to; of what is no LLM call, nothing.
fn outcome_of(decision: Option<&Decision>) -> DecisionOutcome {
    let default_outcome = DecisionOutcome {
        band: Band::Clear,
        action: Action::Allow,
        mode: Mode::Shadow,
        score: 0.0,
    };
    decision.map_or(default_outcome, |decision| DecisionOutcome {
        band: decision.band,
        action: decision.action,
        mode: decision.mode,
        score: decision.score,
    })
}

impl DecisionOutcome {
    /// What the client, or who reads decisions, would notice.
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
    fn print_text(&self) -> Result<()> {
        print_line(format_args!("\n{} of {} decisions differ", self.changed, self.requests))?;
        for problem in &self.unreadable {
            print_line(format_args!("{problem}"))?;
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

/// Examples that are shown.
const MAX_EXAMPLES: usize = 20;
