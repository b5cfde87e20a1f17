//! `hedgerow push [DIR] [--replay FILES…] [--release | --canary PERCENT | --shadow]`

use std::path::{Path, PathBuf};

use hedgerow::policy::Noise;
use hedgerow::ruleset::short;
use hedgerow::{Bundle, Ruleset, ruleset, sigma};
use serde_json::{Value, json};

use super::config::{Config, Registry};
use super::release::{Change, Desk, How};
use super::replay::{Counts, Summary, percent, summarise};
use super::store::{Entry, Kind, Signed};
use super::{Failure, Format, Outcome, Result, line, now, print, read_rules, report};

#[derive(clap::Args)]
pub struct Options {
    /// The directory that holds the rules; else `rules` of the settings, else `rules` here.
    directory: Option<PathBuf>,
    /// Score recorded requests first, and refuse rules that hit more of those labelled benign than
    /// `[noise]` of the policy allows.
    #[arg(long, value_name = "FILES", num_args = 1..)]
    replay: Vec<PathBuf>,
    /// Put it in force for all at once.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    registry: Registry,
}

/// A bundle that was built, and is not pushed yet.
struct Built {
    bundle: Bundle,
    ruleset: Ruleset,
}

pub fn run(options: &Options, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let change = options.how.change();
    if options.release && change.is_some() {
        return Err(Failure::Unable(
            "--release puts it in force for all, --canary and --shadow do not; give one".to_owned(),
        ));
    }
    let change = change.or(options.release.then_some(Change::Active));
    options.how.fits(change.is_some())?;
    let config = Config::load(config, &options.registry)?;
    let directory = config.rules(options.directory.as_deref());
    let built = match build(&directory)? {
        Ok(built) => built,
        Err(findings) => return report(&directory, &findings, "", format),
    };
    let noise = match options.replay.is_empty() {
        true => None,
        false => Some(replay(&options.replay, &built.ruleset)?),
    };
    let desk = Desk::open(&config, options.how.publishing.wait)?;
    let expires = options.how.expires()?;
    let (digest, bundle, is_new) = upload(&desk, built)?;
    if format == Format::Text {
        said(&digest, &bundle, is_new, noise.as_ref())?;
        if change.is_none() {
            line(format_args!("put it in force with `hedgerow release {}`", short(&digest)))?;
        };
    }
    let mut answer = json!({
        "digest": digest, "new": is_new, "serial": bundle.serial, "noise": noise,
        "signatures": bundle.signatures.len(), "lists": bundle.lists.len(),
    });
    let Some(change) = change else {
        if format == Format::Json {
            print(&answer)?;
        }
        return Ok(Outcome::Fine);
    };
    let next = desk.next(&digest, change, expires, &options.how.publishing)?;
    let (outcome, published) =
        desk.publish(Kind::Release, &next, &options.how.publishing, format)?;
    if format == Format::Json {
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("release".to_owned(), published);
        }
        print(&answer)?;
    }
    Ok(outcome)
}

/// Checks, tests, builds and compiles.
fn build(directory: &Path) -> Result<std::result::Result<Built, Vec<sigma::Finding>>> {
    let rules = match read_rules(directory)? {
        Ok(rules) => rules,
        Err(findings) => return Ok(Err(findings)),
    };
    let findings = sigma::test(&rules);
    if !findings.is_empty() {
        return Ok(Err(findings));
    }
    let bundle = rules.bundle();
    let ruleset = compiled(&bundle.bytes())?;
    Ok(Ok(Built { bundle, ruleset }))
}

/// The ruleset of a bundle, compiled to the last regex, as the edge compiles it.
fn compiled(bytes: &[u8]) -> Result<Ruleset> {
    let ruleset = Ruleset::load(bytes).and_then(|ruleset| ruleset.check().map(|()| ruleset));
    ruleset.map_err(|error| Failure::Refused(format!("the edge would refuse these rules: {error}")))
}

/// Uploads, unless the newest bundle decides alike; the digest that there is then, and whether it is
/// new.
fn upload(desk: &Desk, built: Built) -> Result<(String, Bundle, bool)> {
    let entries = desk.store.bundles()?;
    if let Some(newest) = entries.first()
        && let Some(known) = stored(desk, newest)?
        && known.decides_like(&built.bundle)
    {
        return Ok((newest.digest.clone(), known, false));
    }
    let highest = entries.iter().map(|entry| entry.serial).max().unwrap_or(0);
    let bundle = Bundle { serial: highest.saturating_add(1), created: now(), ..built.bundle };
    let bytes = bundle.bytes();
    let digest = ruleset::digest(&bytes);
    // What is sent is held against what the edge will do with it, as it is sent.
    compiled(&bytes)?;
    let text = String::from_utf8(bytes).map_err(|error| Failure::Unable(error.to_string()))?;
    let signature = desk.signer.sign(text.as_bytes(), &format!("hedgerow bundle {digest}"))?;
    desk.store.upload(&digest, &Signed { text, signature })?;
    Ok((digest, bundle, true))
}

/// A bundle of the registry, if this version can read it, it is whole, and this very key signed it. One
/// that a colleague signed, or the key before this one, is pushed again: it would be refused as soon as
/// that key is no longer accepted.
fn stored(desk: &Desk, entry: &Entry) -> Result<Option<Bundle>> {
    let signed = desk.store.bundle(&entry.digest)?;
    Ok(signed.bundle(&entry.digest, desk.signer.keys()).ok())
}

/// Scores recorded requests; refuses where more benign ones are hit than the policy allows.
fn replay(files: &[PathBuf], ruleset: &Ruleset) -> Result<Value> {
    let summary = summarise(files, ruleset, true, &mut |_, _, _| Ok(()))?;
    if let Some(first) = summary.unreadable().first() {
        let count = summary.unreadable().len();
        return Err(Failure::Refused(format!(
            "{first}; correct or remove {count} such lines, or leave the file out of --replay"
        )));
    }
    let counts = summary.counts(BENIGN);
    if counts.requests == 0 {
        return Err(Failure::Refused(format!(
            "no request in these files is labelled \"{BENIGN}\", so nothing is known of noise; give \
             files that have some, or leave out --replay"
        )));
    }
    let budget = ruleset.policy().noise;
    match excess(counts, budget) {
        None => Ok(json!({ "benign": counts, "budget": budget })),
        Some(excess) => Err(Failure::Refused(format!("{excess}{}", most(&summary)))),
    }
}

/// What is above the budget, if anything is.
fn excess(counts: Counts, budget: Noise) -> Option<String> {
    let rows =
        [("suspect", counts.suspect, budget.suspect), ("notice", counts.notice, budget.notice)];
    let (band, count, most) =
        rows.into_iter().find(|(_, count, most)| percent(*count, counts.requests) > *most)?;
    Some(format!(
        "too noisy: {count} of {} benign requests ({:.2} %) are {band} or worse, more than the {most} % \
         of `noise.{band}` in policy.toml; narrow or reweigh these, or raise the budget:",
        counts.requests,
        percent(count, counts.requests),
    ))
}

fn most(summary: &Summary) -> String {
    let rows = summary.top(BENIGN, 10).into_iter();
    rows.map(|(name, hits)| format!("\n  {name:<48} {hits}")).collect()
}

fn said(digest: &str, bundle: &Bundle, is_new: bool, noise: Option<&Value>) -> Result<()> {
    if let Some(benign) = noise.and_then(|noise| noise.get("benign")) {
        let count = |name: &str| benign.get(name).and_then(Value::as_u64).unwrap_or(0);
        line(format_args!(
            "benign requests: {}, of which {} notice or worse, {} suspect or worse",
            count("requests"),
            count("notice"),
            count("suspect")
        ))?;
    }
    if !is_new {
        return line(format_args!(
            "{digest}  is the newest already, and decides alike: nothing to upload"
        ));
    }
    line(format_args!("{digest}  uploaded"))?;
    line(format_args!(
        "push {}, {} signatures, {} lists",
        bundle.serial,
        bundle.signatures.len(),
        bundle.lists.len()
    ))
}

/// The label of requests that do no harm.
const BENIGN: &str = "benign";
