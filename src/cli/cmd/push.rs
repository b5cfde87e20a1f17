//! `hedgerow push [DIR…] [--replay FILES…] [--release | --canary PERCENT | --shadow] [--patch]`:
//! checks, tests, builds, signs and uploads rules.

mod active_bundle;
mod merge;
mod noise;
mod patch;
mod upload;

use std::path::{Path, PathBuf};

use active_bundle::ActiveBundle;
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::ruleset::{Diff, is_digest, short_digest};
use hedgerow_core::{Bundle, Release};
use hedgerow_sigma::{Canonical, Finding};
use noise::NoiseReport;
use patch::{PatchBase, PatchOptions};
use serde_json::{Value, json};
use upload::{BuiltBundle, compile, content_of, prepare, upload};

use super::diff::print_changes;
use super::release::{BundleRole, Publisher, RolloutArgs, confirm_end};
use crate::config::{Config, TargetArgs};
use crate::error::{Error, Outcome, Result};
use crate::remote::ReleaseCommand;
use crate::rule_directories::RuleDirectories;
use crate::rules::{RulesArgs, print_findings, read_rules};
use crate::terminal::{Format, print_error, print_json, print_line};

#[derive(clap::Args)]
pub struct PushArgs {
    #[command(flatten)]
    rules: RulesArgs,
    /// Score recorded requests first, with these rules and with the active ones. Reject rules that
    /// make more requests labelled benign suspect, or fewer requests labelled harvest, than
    /// `[noise]` in the policy allows.
    #[arg(long, value_name = "FILES", num_args = 1..)]
    replay: Vec<PathBuf>,
    /// Push only if this is the content digest of the rules, as `hedgerow build` prints it.
    #[arg(long, value_name = "DIGEST", value_parser = parse_content)]
    expect_content: Option<String>,
    /// Make the bundle active for all accounts.
    #[arg(long)]
    release: bool,
    /// Carry the change of the rules into the active bundle, the canary and the shadow, which keep
    /// their accounts. The change is the difference from BASE; by default, from the bundle that
    /// differs least.
    #[arg(
        long, value_name = "BASE", value_enum, num_args = 0..=1, require_equals = true,
        default_missing_value = "nearest", requires = "release",
    )]
    patch: Option<PatchBase>,
    /// Carry the change over only if this is the content digest of the bundle from which the change
    /// is computed, as `hedgerow diff` prints it. Then nothing is asked.
    #[arg(long, value_name = "DIGEST", value_parser = parse_content, requires = "patch")]
    expect_base: Option<String>,
    #[command(flatten)]
    rollout: RolloutArgs,
    #[command(flatten)]
    target: TargetArgs,
}

pub fn run(args: &PushArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let role = release_role(args)?;
    let directories = args.rules.directories(config)?;
    let config = Config::load(config, &args.target)?;
    let built = match build(&directories)? {
        Ok(built) => built,
        Err(findings) => return print_findings(&directories, &findings, "", format),
    };
    check_content(args.expect_content.as_deref(), &built.bundle)?;
    let publisher = Publisher::open(&config, args.rollout.publish.wait)?;
    let expires = args.rollout.expires_at()?;
    if let Some(base) = args.patch {
        let publish = &args.rollout.publish;
        let options = PatchOptions {
            base,
            expect_base: args.expect_base.as_deref(),
            is_confirmed: args.rollout.yes,
            replay: &args.replay,
            expires,
            publish,
        };
        return patch::run(&options, &publisher, built.bundle, format);
    }
    let current = match role.is_some() || !args.replay.is_empty() {
        true => publisher.current_release()?,
        false => None,
    };
    let active = ActiveBundle::load(&publisher, current.as_ref());
    let active_ruleset = if args.replay.is_empty() { None } else { active.ruleset() };
    let noise = noise::check(&args.replay, &built.ruleset, active_ruleset.as_ref())?;
    let Some(role) = role else { return push_only(&publisher, built, noise, format) };
    push_and_release(
        args,
        &publisher,
        built,
        &Plan { role, expires, current, active, noise },
        format,
    )
}

/// The release that a push makes.
struct Plan {
    role: BundleRole,
    /// End in seconds since the epoch, if it is given.
    expires: Option<u64>,
    /// The release before it; `None` if nothing was released.
    current: Option<Release>,
    active: ActiveBundle,
    noise: Option<NoiseReport>,
}

/// Uploads a bundle without a release, and prints the result.
fn push_only(
    publisher: &Publisher,
    built: BuiltBundle,
    noise: Option<NoiseReport>,
    format: Format,
) -> Result<Outcome> {
    let prepared = prepare(publisher, built.bundle)?;
    upload(publisher, &prepared)?;
    if format == Format::Json {
        print_json(&prepared.to_json(noise.as_ref()))?;
        return Ok(Outcome::Success);
    }
    noise.as_ref().map_or(Ok(()), NoiseReport::print_text)?;
    prepared.print_text()?;
    print_line(format_args!(
        "release it with `hedgerow release {}`",
        short_digest(&prepared.digest)
    ))?;
    Ok(Outcome::Success)
}

/// Shows what a bundle changes, uploads it, and publishes a release with it.
fn push_and_release(
    args: &PushArgs,
    publisher: &Publisher,
    built: BuiltBundle,
    plan: &Plan,
    format: Format,
) -> Result<Outcome> {
    let Plan { role, expires, current, active, noise } = plan;
    let publish_args = &args.rollout.publish;
    let prepared = prepare(publisher, built.bundle)?;
    let release = publisher.build_release(
        current.as_ref(),
        &prepared.digest,
        *role,
        *expires,
        publish_args,
    )?;
    let mut diff = active.diff(&prepared.bundle);
    if format == Format::Text {
        noise.as_ref().map_or(Ok(()), NoiseReport::print_text)?;
        diff.as_ref().map_or(Ok(()), |diff| print_diff(active, diff))?;
    }
    confirm_end(current.as_ref(), &release, args.rollout.yes)?;
    upload(publisher, &prepared)?;
    if format == Format::Text {
        prepared.print_text()?;
    }
    if active.digest == EMBEDDED && publisher.store.is_registry() {
        diff = diff_with_embedded(publisher, &prepared.digest);
        if let (Format::Text, Some(diff)) = (format, &diff) {
            print_diff(active, diff)?;
        }
    }
    let (outcome, published) =
        publisher.publish(ReleaseCommand::Release, &release, publish_args, format)?;
    if format == Format::Json {
        let mut output = prepared.to_json(noise.as_ref());
        insert(&mut output, "diff", json!(diff));
        insert(&mut output, "release", published);
        print_json(&output)?;
    }
    Ok(outcome)
}

/// Returns what changes from the embedded rules to a stored bundle. Only the registry knows the
/// embedded rules, and it compares stored bundles only. If it cannot compare them, prints a
/// warning, because a release may have to replace embedded rules that do not load.
fn diff_with_embedded(publisher: &Publisher, digest: &str) -> Option<Diff> {
    let diff = publisher.store.diff(EMBEDDED, digest);
    if let Err(Error::Io(problem) | Error::Rejected(problem)) = &diff {
        print_error(&format!(
            "warning: the rules cannot be compared with the embedded rules: {problem}"
        ));
    }
    diff.ok()
}

fn print_diff(active: &ActiveBundle, diff: &Diff) -> Result<()> {
    print_line(format_args!("changes from the active rules {}:", short_digest(&active.digest)))?;
    print_changes(diff)
}

/// Sets a member of a JSON object.
fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
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

/// Returns `Rejected` if the content digest of a bundle is not the expected one.
fn check_content(expected: Option<&str>, bundle: &Bundle) -> Result<()> {
    let content = content_of(bundle);
    match expected {
        Some(expected) if expected != content => Err(Error::Rejected(format!(
            "the rules have the content digest {content}: expected {expected}, and nothing was \
             pushed; push the approved rules, or have these approved"
        ))),
        _ => Ok(()),
    }
}

fn parse_content(text: &str) -> std::result::Result<String, String> {
    let digest = text.to_ascii_lowercase();
    match is_digest(&digest) {
        true => Ok(digest),
        false => Err("expected all 64 hexadecimal digits of a content digest".to_owned()),
    }
}
