//! `hedgerow diff A B [--replay FILES…]`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow::policy::{Action, Band, Mode};
use hedgerow::ruleset::release::EMBEDDED;
use hedgerow::ruleset::{self, Diff, short};
use hedgerow::{Bundle, Decision, Release, Ruleset};
use serde::Serialize;
use serde_json::{Value, json};

use super::config::{Config, Registry};
use super::release::resolve;
use super::replay::{Event, Judge, UNLABELLED, read};
use super::store::Store;
use super::{Failure, Format, Outcome, Result, line, print, read_rules, report, unable};

#[derive(clap::Args)]
pub struct Options {
    /// A bundle: its digest or the beginning of that, `active`, `canary`, `shadow`, `embedded`, a
    /// bundle's file, or a directory of rules.
    from: String,
    /// Another.
    to: String,
    /// Score recorded requests with both, and show which decisions differ.
    #[arg(long, value_name = "FILES", num_args = 1..)]
    replay: Vec<PathBuf>,
    #[command(flatten)]
    registry: Registry,
}

/// One side of a comparison.
enum Side {
    /// A bundle whose bytes are here.
    Here { digest: String, bundle: Box<Bundle> },
    /// The rules that a Worker was built with.
    Embedded,
}

/// What is wrong with the rules in a directory.
struct Flawed(PathBuf, Vec<hedgerow::sigma::Finding>);

pub fn run(options: &Options, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let mut registry = Lazy { config, options, store: None };
    let mut side =
        |name: &str| -> Result<std::result::Result<Side, Flawed>> { registry.side(name) };
    let (from, to) = (side(&options.from)?, side(&options.to)?);
    let (from, to) = match (from, to) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(Flawed(directory, findings)), _) | (_, Err(Flawed(directory, findings))) => {
            return report(&directory, &findings, "", format);
        }
    };
    let diff = match (&from, &to) {
        (Side::Here { bundle: from, .. }, Side::Here { bundle: to, .. }) => Diff::between(from, to),
        (Side::Embedded, Side::Embedded) => Diff::default(),
        _ => registry.embedded(&from, &to)?,
    };
    let moves = match options.replay.is_empty() {
        true => None,
        false => Some(replay(&options.replay, &from, &to)?),
    };
    if format == Format::Json {
        print(&json!({ "from": from.name(), "to": to.name(), "diff": diff, "replay": moves }))?;
    } else {
        text(&from, &to, &diff)?;
        moves.as_ref().map_or(Ok(()), Moves::text)?;
    }
    let is_read = moves.is_none_or(|moves| moves.unreadable.is_empty());
    Ok(if is_read { Outcome::Fine } else { Outcome::Findings })
}

impl Side {
    fn name(&self) -> &str {
        match self {
            Self::Here { digest, .. } => digest,
            Self::Embedded => EMBEDDED,
        }
    }

    fn here(bytes: &[u8], what: &str) -> Result<Self> {
        let bundle = Bundle::parse(bytes);
        let bundle = bundle.map_err(|error| Failure::Unable(format!("{what}: {error}")))?;
        Ok(Self::Here { digest: ruleset::digest(bytes), bundle: Box::new(bundle) })
    }

    fn ruleset(&self) -> Result<Ruleset> {
        let Self::Here { digest, bundle } = self else {
            return Err(Failure::Unable(
                "--replay needs the bytes of both, and the embedded rules are in the Worker; give \
                 the rules directory that it was built from"
                    .to_owned(),
            ));
        };
        let ruleset = Ruleset::new((**bundle).clone(), digest.clone());
        ruleset.map_err(|error| Failure::Unable(format!("{}: {error}", short(digest))))
    }
}

/// The registry, opened where a side needs it.
struct Lazy<'l> {
    config: Option<&'l Path>,
    options: &'l Options,
    store: Option<Box<dyn Store>>,
}

impl Lazy<'_> {
    fn store(&mut self) -> Result<&dyn Store> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Config::load(self.config, &self.options.registry)?.store()?,
        };
        Ok(&**self.store.insert(store))
    }

    fn side(&mut self, name: &str) -> Result<std::result::Result<Side, Flawed>> {
        let path = Path::new(name);
        if matches!(name, EMBEDDED | "active" | "canary" | "shadow") {
            return self.role(name).map(Ok);
        }
        if path.is_dir() {
            return Ok(match read_rules(path)? {
                Ok(rules) => Ok(Side::here(&rules.bytes(), name)?),
                Err(findings) => Err(Flawed(path.to_owned(), findings)),
            });
        }
        if path.is_file() {
            let bytes = fs::read(path).map_err(|error| unable(path, &error))?;
            return Side::here(&bytes, name).map(Ok);
        }
        let is_digest = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            return Err(Failure::Unable(format!(
                "'{name}' is no file, no directory and no digest; give one of these, or active, \
                 canary, shadow or embedded"
            )));
        }
        let digest = resolve(&self.store()?.bundles()?, name)?;
        self.stored(&digest).map(Ok)
    }

    /// What a role of the release in force stands for.
    fn role(&mut self, name: &str) -> Result<Side> {
        if name == EMBEDDED {
            return Ok(Side::Embedded);
        }
        let current = self.store()?.current()?;
        let release = current.map(|signed| Release::parse(signed.text.as_bytes())).transpose();
        let release = release.map_err(|error| Failure::Unable(error.to_string()))?;
        let digest = match (&release, name) {
            (None, "active") => Some(EMBEDDED.to_owned()),
            (None, _) => None,
            (Some(release), "active") => Some(release.active.clone()),
            (Some(release), "canary") => release.canary.as_ref().map(|it| it.digest.clone()),
            (Some(release), _) => release.shadow.as_ref().map(|it| it.digest.clone()),
        };
        match digest.as_deref() {
            None => Err(Failure::Refused(format!("the release in force has no {name}"))),
            Some(EMBEDDED) => Ok(Side::Embedded),
            Some(digest) => self.stored(digest),
        }
    }

    fn stored(&mut self, digest: &str) -> Result<Side> {
        let signed = self.store()?.bundle(digest)?;
        let side = Side::here(signed.text.as_bytes(), short(digest))?;
        match side.name() == digest {
            true => Ok(side),
            false => Err(Failure::Refused(format!(
                "bundle {}: the registry gave other bytes; it was changed there: push again",
                short(digest)
            ))),
        }
    }

    /// A comparison with the embedded rules, which only the deployment can make.
    fn embedded(&mut self, from: &Side, to: &Side) -> Result<Diff> {
        let other = if matches!(from, Side::Embedded) { to } else { from };
        let store = self.store()?;
        if store.http().is_some()
            && !store.bundles()?.iter().any(|entry| entry.digest == other.name())
        {
            return Err(Failure::Refused(format!(
                "the embedded rules are in the Worker, and only its registry can compare them, with \
                 bundles that it has; {} is none: push it, or compare with the rules directory that \
                 the Worker was built from",
                short(other.name())
            )));
        }
        store.diff(from.name(), to.name())
    }
}

fn text(from: &Side, to: &Side, diff: &Diff) -> Result<()> {
    line(format_args!("from {}\nto   {}", from.name(), to.name()))?;
    if diff.is_empty() {
        return line(format_args!("no differences: both decide alike"));
    }
    for name in &diff.added {
        line(format_args!("+ {name}"))?;
    }
    for name in &diff.removed {
        line(format_args!("- {name}"))?;
    }
    for name in &diff.changed {
        line(format_args!("~ {name}"))?;
    }
    for change in &diff.weights {
        line(format_args!("~ {}: {:+} → {:+} dB", change.name, change.from, change.to))?;
    }
    for change in &diff.lists {
        line(format_args!(
            "~ {}: {} entries added, {} removed",
            change.name, change.added, change.removed
        ))?;
    }
    for setting in &diff.policy {
        let shown =
            |value: &Option<Value>| value.as_ref().map_or("unset".to_owned(), Value::to_string);
        line(format_args!(
            "~ policy {}: {} → {}",
            setting.path,
            shown(&setting.from),
            shown(&setting.to)
        ))?;
    }
    Ok(())
}

/// The decisions that change.
#[derive(Default, Serialize)]
struct Moves {
    requests: usize,
    changed: usize,
    counts: Vec<Count>,
    examples: Vec<Example>,
    unreadable: Vec<String>,
}

#[derive(Serialize)]
struct Count {
    label: String,
    /// Band and what is done: `suspect, degrade`; `suspect, degrade in shadow`.
    from: String,
    to: String,
    requests: usize,
}

/// A request by its place: never its text.
#[derive(Serialize)]
struct Example {
    file: String,
    line: usize,
    account: Option<String>,
    from: Part,
    to: Part,
}

#[derive(Serialize)]
struct Part {
    band: Band,
    action: Action,
    mode: Mode,
    score: f64,
}

fn replay(files: &[PathBuf], from: &Side, to: &Side) -> Result<Moves> {
    let (from, to) = (from.ruleset()?, to.ruleset()?);
    let mut moves = Moves::default();
    let mut counts: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let name =
        |file: usize| files.get(file).map_or(String::new(), |path| path.display().to_string());
    let (mut old, mut new) = (Judge::new(&from, true), Judge::new(&to, true));
    read(files, &mut |event| {
        match event {
            Event::Unreadable { file, line, problem } => {
                moves.unreadable.push(format!("{}:{line}:1: {problem}", name(file)));
            }
            Event::Request { file, line, recorded } => {
                let decisions = (old.judge(recorded), new.judge(recorded));
                if decisions.0.is_none() && decisions.1.is_none() {
                    return Ok(());
                }
                moves.requests += 1;
                let decision =
                    |judged: Option<(Decision, u64)>| part(judged.map(|(it, _)| it).as_ref());
                let (old, new) = (decision(decisions.0), decision(decisions.1));
                if old.what() == new.what() {
                    return Ok(());
                }
                moves.changed += 1;
                let label = recorded.label.as_deref().unwrap_or(UNLABELLED).to_owned();
                *counts.entry((label, old.what(), new.what())).or_default() += 1;
                if moves.examples.len() < EXAMPLES {
                    let account = recorded.account.clone();
                    let file = name(file);
                    moves.examples.push(Example { file, line, account, from: old, to: new });
                }
            }
        }
        Ok(())
    })?;
    moves.counts = counts
        .into_iter()
        .map(|((label, from, to), requests)| Count { label, from, to, requests })
        .collect();
    Ok(moves)
}

/// What a decision comes to; of what is no LLM call, nothing.
fn part(decision: Option<&Decision>) -> Part {
    let nothing = Part { band: Band::Clear, action: Action::Allow, mode: Mode::Shadow, score: 0.0 };
    decision.map_or(nothing, |decision| Part {
        band: decision.band,
        action: decision.action,
        mode: decision.mode,
        score: decision.score,
    })
}

impl Part {
    /// What the client, or who reads decisions, would notice.
    fn what(&self) -> String {
        let (band, action) = (self.band.name(), self.action.name());
        match (self.action, self.mode) {
            (Action::Allow, _) => format!("{band}, {action}"),
            (_, Mode::Enforce) => format!("{band}, {action}"),
            (_, Mode::Shadow) => format!("{band}, {action} in shadow"),
        }
    }
}

impl Moves {
    fn text(&self) -> Result<()> {
        line(format_args!("\n{} of {} decisions differ", self.changed, self.requests))?;
        for problem in &self.unreadable {
            line(format_args!("{problem}"))?;
        }
        if self.changed == 0 {
            return Ok(());
        }
        line(format_args!("\n{:<12} {:>8}  decision", "label", "requests"))?;
        for Count { label, from, to, requests } in &self.counts {
            line(format_args!("{label:<12} {requests:>8}  {from} → {to}"))?;
        }
        line(format_args!("\nexamples ({EXAMPLES} at most)"))?;
        for Example { file, line: number, account, from, to } in &self.examples {
            let account = account.as_deref().unwrap_or("-");
            line(format_args!(
                "{file}:{number}  {account}  {} {:.2} → {} {:.2}",
                from.what(),
                from.score,
                to.what(),
                to.score
            ))?;
        }
        Ok(())
    }
}

/// Examples that are shown.
const EXAMPLES: usize = 20;
