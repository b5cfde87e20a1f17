//! `hedgerow push [DIR] [--replay FILES…] [--release | --canary PERCENT | --shadow]`

use std::path::{Path, PathBuf};

use hedgerow_core::rules::policy::NoiseBudget;
use hedgerow_core::ruleset::short_digest;
use hedgerow_core::{Bundle, Ruleset, ruleset};
use hedgerow_sigma::Canonical;
use serde_json::{Value, json};

use super::release::{BundleRole, Publisher, RolloutArgs};
use super::replay::{BandCounts, Summary, percent, replay_files};
use crate::config::{Config, TargetArgs};
use crate::remote::{BundleInfo, ReleaseKind, SignedText};
use crate::{
    Error, Format, Outcome, Result, now, print_findings, print_json, print_line, read_rules,
};

#[derive(clap::Args)]
pub struct PushArgs {
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
    rollout: RolloutArgs,
    #[command(flatten)]
    target: TargetArgs,
}

/// A bundle that was built, and is not pushed yet.
struct BuiltBundle {
    bundle: Bundle,
    ruleset: Ruleset,
}

pub fn run(args: &PushArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let role = args.rollout.role();
    if args.release && role.is_some() {
        return Err(Error::Io(
            "--release puts it in force for all, --canary and --shadow do not; give one".to_owned(),
        ));
    }
    let role = role.or(args.release.then_some(BundleRole::Active));
    args.rollout.validate(role.is_some())?;
    let config = Config::load(config, &args.target)?;
    let directory = config.rules_directory(args.directory.as_deref());
    let built = match build(&directory)? {
        Ok(built) => built,
        Err(findings) => return print_findings(&directory, &findings, "", format),
    };
    let noise_report = match args.replay.is_empty() {
        true => None,
        false => Some(check_noise(&args.replay, &built.ruleset)?),
    };
    let publisher = Publisher::open(&config, args.rollout.publish.wait)?;
    let expires = args.rollout.expires_at()?;
    let (digest, bundle, is_new) = upload(&publisher, built)?;
    if format == Format::Text {
        print_result(&digest, &bundle, is_new, noise_report.as_ref())?;
        if role.is_none() {
            print_line(format_args!(
                "put it in force with `hedgerow release {}`",
                short_digest(&digest)
            ))?;
        };
    }
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
        publisher.publish(ReleaseKind::Release, &release, &args.rollout.publish, format)?;
    if format == Format::Json {
        if let Some(object) = output.as_object_mut() {
            object.insert("release".to_owned(), published);
        }
        print_json(&output)?;
    }
    Ok(outcome)
}

/// Checks, tests, builds and compiles.
fn build(
    directory: &Path,
) -> Result<std::result::Result<BuiltBundle, Vec<hedgerow_sigma::Finding>>> {
    let rules = match read_rules(directory)? {
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

/// The ruleset of a bundle, compiled to the last regex, as the edge compiles it.
fn compile(bytes: &[u8]) -> Result<Ruleset> {
    let ruleset =
        Ruleset::load(bytes).and_then(|ruleset| ruleset.compile_regexes().map(|()| ruleset));
    ruleset.map_err(|error| Error::Rejected(format!("the edge would refuse these rules: {error}")))
}

/// Uploads, unless the newest bundle decides alike; the digest that there is then, and whether it is
/// new.
fn upload(publisher: &Publisher, built: BuiltBundle) -> Result<(String, Bundle, bool)> {
    let bundles = publisher.store.bundles()?;
    if let Some(newest) = bundles.first()
        && let Some(newest_bundle) = load_verified(publisher, newest)?
        && newest_bundle.is_equivalent(&built.bundle)
    {
        return Ok((newest.digest.clone(), newest_bundle, false));
    }
    let max_serial = bundles.iter().map(|info| info.serial).max().unwrap_or(0);
    let bundle = Bundle { serial: max_serial.saturating_add(1), created: now(), ..built.bundle };
    let bytes = bundle.encode();
    let digest = ruleset::digest(&bytes);
    // What is sent is held against what the edge will do with it, as it is sent.
    compile(&bytes)?;
    let text = String::from_utf8(bytes).map_err(|error| Error::Io(error.to_string()))?;
    let signature = publisher.signer.sign(text.as_bytes(), &format!("hedgerow bundle {digest}"))?;
    publisher.store.upload(&digest, &SignedText { text, signature })?;
    Ok((digest, bundle, true))
}

/// A bundle of the registry, if this version can read it, it is whole, and this very key signed it. One
/// that a colleague signed, or the key before this one, is pushed again: it would be refused as soon as
/// that key is no longer accepted.
fn load_verified(publisher: &Publisher, info: &BundleInfo) -> Result<Option<Bundle>> {
    let signed = publisher.store.bundle(&info.digest)?;
    Ok(signed.verified_bundle(&info.digest, publisher.signer.verifying_keys()).ok())
}

/// Scores recorded requests; refuses where more benign ones are hit than the policy allows.
fn check_noise(files: &[PathBuf], ruleset: &Ruleset) -> Result<Value> {
    let summary = replay_files(files, ruleset, true, &mut |_, _, _| Ok(()))?;
    if let Some(first) = summary.unreadable().first() {
        let count = summary.unreadable().len();
        return Err(Error::Rejected(format!(
            "{first}; correct or remove {count} such lines, or leave the file out of --replay"
        )));
    }
    let counts = summary.counts(BENIGN_LABEL);
    if counts.requests == 0 {
        return Err(Error::Rejected(format!(
            "no request in these files is labelled \"{BENIGN_LABEL}\", so nothing is known of noise; give \
             files that have some, or leave out --replay"
        )));
    }
    let budget = ruleset.policy().noise;
    match noise_excess(counts, budget) {
        None => Ok(json!({ "benign": counts, "budget": budget })),
        Some(excess) => {
            Err(Error::Rejected(format!("{excess}{}", format_top_signatures(&summary))))
        }
    }
}

/// What is above the budget, if anything is.
fn noise_excess(counts: BandCounts, budget: NoiseBudget) -> Option<String> {
    let rows =
        [("suspect", counts.suspect, budget.suspect), ("notice", counts.notice, budget.notice)];
    let (band, count, max_percent) = rows
        .into_iter()
        .find(|(_, count, max_percent)| percent(*count, counts.requests) > *max_percent)?;
    Some(format!(
        "too noisy: {count} of {} benign requests ({:.2} %) are {band} or worse, more than the {max_percent} % \
         of `noise.{band}` in policy.toml; narrow or reweigh these, or raise the budget:",
        counts.requests,
        percent(count, counts.requests),
    ))
}

fn format_top_signatures(summary: &Summary) -> String {
    let rows = summary.top_signatures(BENIGN_LABEL, 10).into_iter();
    rows.map(|(name, hits)| format!("\n  {name:<48} {hits}")).collect()
}

fn print_result(
    digest: &str,
    bundle: &Bundle,
    is_new: bool,
    noise_report: Option<&Value>,
) -> Result<()> {
    if let Some(benign) = noise_report.and_then(|noise| noise.get("benign")) {
        let count = |name: &str| benign.get(name).and_then(Value::as_u64).unwrap_or(0);
        print_line(format_args!(
            "benign requests: {}, of which {} notice or worse, {} suspect or worse",
            count("requests"),
            count("notice"),
            count("suspect")
        ))?;
    }
    if !is_new {
        return print_line(format_args!(
            "{digest}  is the newest already, and decides alike: nothing to upload"
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

/// The label of requests that do no harm.
const BENIGN_LABEL: &str = "benign";
