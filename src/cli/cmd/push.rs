//! `hedgerow push [DIR…] [--replay FILES…] [--release | --canary PERCENT | --shadow]`: checks,
//! tests, builds, signs and uploads rules.

use std::path::{Path, PathBuf};

use hedgerow_core::api::BundleInfo;
use hedgerow_core::rules::policy::NoiseBudget;
use hedgerow_core::ruleset::short_digest;
use hedgerow_core::{Bundle, Ruleset, ruleset};
use hedgerow_sigma::{Canonical, Finding};
use serde_json::{Value, json};

use super::evaluate::clopper_pearson;
use super::release::{BundleRole, Publisher, RolloutArgs};
use super::replay::{BandCounts, Summary, replay_files};
use crate::config::{Config, TargetArgs};
use crate::dates::now;
use crate::error::{Error, Outcome, Result};
use crate::format::percent;
use crate::remote::{ReleaseCommand, SignedText};
use crate::rule_directories::RuleDirectories;
use crate::rules::{RulesArgs, print_findings, read_rules};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct PushArgs {
    #[command(flatten)]
    rules: RulesArgs,
    /// Score recorded requests first, and reject rules that hit more of the requests labelled
    /// benign than `[noise]` in the policy allows.
    #[arg(long, value_name = "FILES", num_args = 1..)]
    replay: Vec<PathBuf>,
    /// Make the bundle active for all accounts.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    rollout: RolloutArgs,
    #[command(flatten)]
    target: TargetArgs,
}

/// A bundle that was built and is not uploaded yet, and its compiled form.
struct BuiltBundle {
    bundle: Bundle,
    ruleset: Ruleset,
}

pub fn run(args: &PushArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let role = release_role(args)?;
    let directories = args.rules.directories(config)?;
    let config = Config::load(config, &args.target)?;
    let built = match build(&directories)? {
        Ok(built) => built,
        Err(findings) => return print_findings(&directories, &findings, "", format),
    };
    let noise_report = if args.replay.is_empty() {
        None
    } else {
        Some(check_noise(&args.replay, &built.ruleset)?)
    };
    let publisher = Publisher::open(&config, args.rollout.publish.wait)?;
    let expires = args.rollout.expires_at()?;
    let pushed = upload(&publisher, built)?;
    if format == Format::Text {
        print_result(&pushed, noise_report.as_ref())?;
        if role.is_none() {
            print_line(format_args!(
                "release it with `hedgerow release {}`",
                short_digest(&pushed.digest)
            ))?;
        };
    }
    let PushedBundle { digest, bundle, is_new } = pushed;
    let mut output = json!({
        "digest": digest, "new": is_new, "serial": bundle.serial, "noise": noise_report,
        "signatures": bundle.signatures.len(), "lists": bundle.lists.len(),
    });
    let Some(role) = role else {
        if format == Format::Json {
            print_json(&output)?;
        }
        return Ok(Outcome::Success);
    };
    let release = publisher.next_release(&digest, role, expires, &args.rollout.publish)?;
    let (outcome, published) =
        publisher.publish(ReleaseCommand::Release, &release, &args.rollout.publish, format)?;
    if format == Format::Json {
        if let Some(object) = output.as_object_mut() {
            object.insert("release".to_owned(), published);
        }
        print_json(&output)?;
    }
    Ok(outcome)
}

/// Returns the role for which the bundle is released; `None` if it is only uploaded. Returns an
/// error if the options contradict each other.
fn release_role(args: &PushArgs) -> Result<Option<BundleRole>> {
    let role = args.rollout.role();
    if args.release && role.is_some() {
        return Err(Error::Io(
            "--release excludes --canary and --shadow: expected one of them; omit the others"
                .to_owned(),
        ));
    }
    let role = role.or(args.release.then_some(BundleRole::Active));
    args.rollout.validate(role.is_some())?;
    Ok(role)
}

/// Checks, tests, builds and compiles rules. The inner error lists the findings.
fn build(directories: &RuleDirectories) -> Result<std::result::Result<BuiltBundle, Vec<Finding>>> {
    let rules = match read_rules(directories)? {
        Ok(rules) => rules,
        Err(findings) => return Ok(Err(findings)),
    };
    let findings = hedgerow_sigma::test(&rules);
    if !findings.is_empty() {
        return Ok(Err(findings));
    }
    let bundle = rules.bundle();
    let ruleset = compile(&bundle.encode())?;
    Ok(Ok(BuiltBundle { bundle, ruleset }))
}

/// Compiles a bundle with every regex, as the edge does.
fn compile(bytes: &[u8]) -> Result<Ruleset> {
    let ruleset =
        Ruleset::load(bytes).and_then(|ruleset| ruleset.compile_regexes().map(|()| ruleset));
    ruleset.map_err(|error| Error::Rejected(format!("the edge would refuse these rules: {error}")))
}

/// The newest bundle of the registry after a push.
struct PushedBundle {
    digest: String,
    bundle: Bundle,
    /// Whether this push uploaded the bundle.
    is_new: bool,
}

/// Signs and uploads a bundle, unless it is equivalent to the newest bundle.
fn upload(publisher: &Publisher, built: BuiltBundle) -> Result<PushedBundle> {
    let bundles = publisher.store.bundles()?;
    if let Some(newest) = bundles.first()
        && let Some(newest_bundle) = load_verified(publisher, newest)?
        && newest_bundle.is_equivalent(&built.bundle)
    {
        let digest = newest.digest.clone();
        return Ok(PushedBundle { digest, bundle: newest_bundle, is_new: false });
    }
    let max_serial = bundles.iter().map(|info| info.serial).max().unwrap_or(0);
    let bundle = Bundle { serial: max_serial.saturating_add(1), created: now(), ..built.bundle };
    let bytes = bundle.encode();
    let digest = ruleset::digest(&bytes);
    // The bundle is compiled again, because its serial and date have changed since the build: the
    // check must cover the bytes that are sent.
    compile(&bytes)?;
    let text = String::from_utf8(bytes).map_err(|error| Error::Io(error.to_string()))?;
    let comment = format!("hedgerow bundle {digest}");
    let signature = publisher.signer.sign(text.as_bytes(), &comment)?;
    publisher.store.upload(&digest, &SignedText { text, signature })?;
    Ok(PushedBundle { digest, bundle, is_new: true })
}

/// Returns a bundle of the registry if it is readable, unchanged, and signed with the publisher's
/// key; otherwise `None`. A bundle that another key signed does not count, so it is uploaded again:
/// the edge would reject it as soon as it no longer trusts the other key.
fn load_verified(publisher: &Publisher, info: &BundleInfo) -> Result<Option<Bundle>> {
    let signed = publisher.store.bundle(&info.digest)?;
    Ok(signed.verified_bundle(&info.digest, publisher.signer.verifying_keys()).ok())
}

/// Scores recorded requests, and returns the noise report: the counts of benign requests, the noise
/// budget, and the upper ends of the 95 % intervals in percent. Returns `Rejected` if the rules hit
/// more benign requests than the policy allows, if no request is benign, or if a line is not
/// readable.
fn check_noise(files: &[PathBuf], ruleset: &Ruleset) -> Result<Value> {
    let summary = replay_files(files, ruleset, true, &mut |_, _, _| Ok(()))?;
    if let Some(first) = summary.unreadable().first() {
        let count = summary.unreadable().len();
        return Err(Error::Rejected(format!(
            "{first}; correct or remove {count} such lines, or omit the file from --replay"
        )));
    }
    let counts = summary.counts(BENIGN_LABEL);
    if counts.requests == 0 {
        return Err(Error::Rejected(format!(
            "the noise is unknown: expected requests labelled \"{BENIGN_LABEL}\" in the recorded \
             files; give files with such requests, or omit --replay"
        )));
    }
    let budget = ruleset.policy().noise;
    match noise_excess(counts, budget) {
        None => {
            let upper = |count: u64| 100.0 * clopper_pearson(count, counts.requests).1;
            let upper = json!({ "notice": upper(counts.notice), "suspect": upper(counts.suspect) });
            Ok(json!({ "benign": counts, "budget": budget, "upper": upper }))
        }
        Some(excess) => {
            Err(Error::Rejected(format!("{excess}{}", format_top_signatures(&summary))))
        }
    }
}

/// Returns the error message if the benign requests exceed the noise budget, or `None` if they do
/// not.
fn noise_excess(counts: BandCounts, budget: NoiseBudget) -> Option<String> {
    let rows =
        [("suspect", counts.suspect, budget.suspect), ("notice", counts.notice, budget.notice)];
    let (band, count, max_percent) = rows
        .into_iter()
        .find(|(_, count, max_percent)| percent(*count, counts.requests) > *max_percent)?;
    Some(format!(
        "the rules are too noisy: {count} of {} benign requests ({:.2} %) are {band} or worse: \
         expected at most {max_percent} % (`noise.{band}` in policy.toml); narrow or reweigh these \
         signatures, or raise the budget:",
        counts.requests,
        percent(count, counts.requests),
    ))
}

fn format_top_signatures(summary: &Summary) -> String {
    let rows = summary.top_signatures(BENIGN_LABEL, 10).into_iter();
    rows.map(|(name, hits)| format!("\n  {name:<48} {hits}")).collect()
}

fn print_result(pushed: &PushedBundle, noise_report: Option<&Value>) -> Result<()> {
    let PushedBundle { digest, bundle, is_new } = pushed;
    if let Some(noise) = noise_report {
        let count =
            |name: &str| noise.get("benign").and_then(|row| row.get(name)?.as_u64()).unwrap_or(0);
        let upper = |name: &str| {
            noise.get("upper").and_then(|row| row.get(name)?.as_f64()).unwrap_or(100.0)
        };
        print_line(format_args!(
            "benign requests: {}, of which {} notice or worse, {} suspect or worse; upper ends of \
             the 95 % intervals: {:.2} % and {:.2} %",
            count("requests"),
            count("notice"),
            count("suspect"),
            upper("notice"),
            upper("suspect"),
        ))?;
    }
    if !is_new {
        return print_line(format_args!(
            "{digest}  is the newest bundle and equivalent: nothing to upload"
        ));
    }
    print_line(format_args!("{digest}  uploaded"))?;
    print_line(format_args!(
        "push {}, {} signatures, {} lists",
        bundle.serial,
        bundle.signatures.len(),
        bundle.lists.len()
    ))
}

/// Label of harmless requests in recorded traffic.
const BENIGN_LABEL: &str = "benign";
