//! `hedgerow push --release --patch`: carries a change into every bundle of the current release.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ValueEnum;
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::ruleset::{Diff, short_digest};
use hedgerow_core::{Bundle, Release, Ruleset};
use hedgerow_sigma::Canonical;
use serde_json::{Value, json};

use super::active_bundle::load_verified;
use super::merge::carry_over;
use super::noise::{self, NoiseReport};
use super::upload::{PreparedBundle, compile, content_of, next_serial, number, upload};
use crate::cmd::diff::print_changes;
use crate::cmd::release::{PublishArgs, Publisher, confirm};
use crate::dates::now;
use crate::error::{Error, Outcome, Result};
use crate::remote::ReleaseCommand;
use crate::terminal::{Format, print_json, print_line};

/// The bundle from which the change of the rules is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PatchBase {
    /// The bundle of the release that differs least from the rules.
    Nearest,
    Active,
    Canary,
    Shadow,
}

/// The options of a patch.
pub struct PatchOptions<'o> {
    pub base: PatchBase,
    /// The content digest that the base must have; `None` for any base.
    pub expect_base: Option<&'o str>,
    /// Whether the change may remove or replace something of any base.
    pub is_confirmed: bool,
    /// Recorded requests on which the active bundle is compared with its successor.
    pub replay: &'o [PathBuf],
    /// End of the release in seconds since the epoch; by default, the end stays.
    pub expires: Option<u64>,
    pub publish: &'o PublishArgs,
}

/// A bundle of the current release.
struct Member {
    /// Its roles, such as `active` or `canary and shadow`.
    roles: String,
    digest: String,
    bundle: Bundle,
}

/// A bundle of the current release with the change.
struct Patched {
    member: Member,
    prepared: PreparedBundle,
    /// The effect of the change in this bundle. It differs from the change itself if the bundle
    /// already had a part of it.
    diff: Diff,
}

/// The bundle with which the rules were compared.
struct BaseLabel {
    roles: String,
    digest: String,
    content: String,
}

/// The change, and the bundles that it makes.
struct Patch {
    base: BaseLabel,
    change: Diff,
    patched: Vec<Patched>,
}

/// Carries the change of `rules` into every bundle of the current release, and publishes a release
/// with the changed bundles in the roles and for the accounts of the old ones.
pub fn run(
    options: &PatchOptions<'_>,
    publisher: &Publisher,
    rules: Bundle,
    format: Format,
) -> Result<Outcome> {
    let current = current_release(publisher)?;
    let members = load_members(publisher, &current)?;
    let active = members.iter().find(|member| member.digest == current.active);
    let active = active.map(|member| member.bundle.clone());
    let content = content_of(&rules);
    let patch = make_patch(options.base, publisher, rules, members)?;
    patch.check_base(options.expect_base)?;
    let noise = check_noise(options.replay, &current, active, &patch)?;
    let publish_args = options.publish;
    let mut release = patch.release(publisher.follow(Some(&current), publish_args));
    release.expires = options.expires.or(release.expires);
    if format == Format::Text {
        noise.as_ref().map_or(Ok(()), NoiseReport::print_text)?;
        patch.print_text()?;
    }
    // A base that the user has named cannot contain a change that the user has not seen.
    patch.confirm_loss(options.is_confirmed || options.expect_base.is_some())?;
    patch.patched.iter().try_for_each(|patched| upload(publisher, &patched.prepared))?;
    let (outcome, published) =
        publisher.publish(ReleaseCommand::Release, &release, publish_args, format)?;
    if format == Format::Json {
        print_json(&json!({
            "content": content, "noise": noise, "patch": patch.to_json(), "release": published,
        }))?;
    }
    Ok(outcome)
}

/// Returns the release in force. Returns `Rejected` if there is none, or if it names the embedded
/// rules, which only a deployment changes.
fn current_release(publisher: &Publisher) -> Result<Release> {
    let current = publisher.current_release()?.filter(|release| !release.is_expired(now()));
    let remedy = "expected a release of pushed bundles to carry the change into; omit --patch";
    let Some(current) = current else {
        return Err(Error::Rejected(format!("no release is in force: {remedy}")));
    };
    let canary = current.canary.as_ref().map(|canary| canary.digest.as_str());
    let shadow = current.shadow.as_ref().map(|shadow| shadow.digest.as_str());
    if [Some(current.active.as_str()), canary, shadow].contains(&Some(EMBEDDED)) {
        let serial = current.serial;
        return Err(Error::Rejected(format!("release {serial} has the embedded rules: {remedy}")));
    }
    Ok(current)
}

/// Reads and verifies the bundles of a release, each once.
fn load_members(publisher: &Publisher, release: &Release) -> Result<Vec<Member>> {
    let canary = release.canary.as_ref().map(|canary| canary.digest.as_str());
    let shadow = release.shadow.as_ref().map(|shadow| shadow.digest.as_str());
    let roles = [("active", Some(release.active.as_str())), ("canary", canary), ("shadow", shadow)];
    let load = |digest: &str| {
        let roles = roles.iter().filter(|(_, other)| *other == Some(digest));
        let roles: Vec<&str> = roles.map(|(role, _)| *role).collect();
        let bundle = load_verified(publisher, digest)?;
        Ok(Member { roles: roles.join(" and "), digest: digest.to_owned(), bundle })
    };
    release.digests().into_iter().map(load).collect()
}

/// Computes the change of `rules`, and applies it to each bundle. Returns `Rejected` if nothing
/// changes, or if the change contradicts a bundle.
fn make_patch(
    base: PatchBase,
    publisher: &Publisher,
    rules: Bundle,
    members: Vec<Member>,
) -> Result<Patch> {
    let (base, change) = find_base(base, &members, &rules)?;
    if change.is_empty() {
        return Err(Error::Rejected(format!(
            "the rules do not differ from the {} bundle {}: expected a change to carry over; name \
             another bundle with --patch=BASE, or omit --patch",
            base.roles,
            short_digest(&base.digest)
        )));
    }
    let (roles, digest) = (base.roles.clone(), base.digest.clone());
    let label = BaseLabel { roles, digest, content: content_of(&base.bundle) };
    let base = base.bundle.clone();
    let mut serial = next_serial(&publisher.store.bundles()?);
    let mut patched = Vec::new();
    let mut conflicts = String::new();
    for member in members {
        match carry_over(&base, &rules, &member.bundle) {
            Ok(bundle) => {
                let diff = Diff::between(&member.bundle, &bundle);
                let prepared = number(bundle, serial).map_err(|error| error_in(&member, error))?;
                patched.push(Patched { prepared, member, diff });
                serial = serial.saturating_add(1);
            }
            Err(paths) => {
                let (roles, digest) = (&member.roles, short_digest(&member.digest));
                conflicts += &format!("\n  {roles} {digest}: {}", paths.join(", "));
            }
        }
    }
    if conflicts.is_empty() {
        return Ok(Patch { base: label, change, patched });
    }
    Err(Error::Rejected(format!(
        "the change does not fit every bundle of the release, because these have other values \
         there than the {} bundle:{conflicts}\nmake a smaller change, or end them with `hedgerow \
         push --release`",
        label.roles
    )))
}

/// Adds the bundle whose successor cannot be made to the error.
fn error_in(member: &Member, error: Error) -> Error {
    let Error::Rejected(problem) = error else { return error };
    let (roles, digest) = (&member.roles, short_digest(&member.digest));
    Error::Rejected(format!("the {roles} bundle {digest} with the change: {problem}"))
}

/// Returns the bundle with which the rules are compared, and the difference. Returns `Rejected` if
/// the release has no bundle in the role.
fn find_base<'m>(
    base: PatchBase,
    members: &'m [Member],
    rules: &Bundle,
) -> Result<(&'m Member, Diff)> {
    let role = match base {
        PatchBase::Nearest => "",
        PatchBase::Active => "active",
        PatchBase::Canary => "canary",
        PatchBase::Shadow => "shadow",
    };
    let candidates = members.iter().filter(|member| member.roles.contains(role));
    let candidates = candidates.map(|member| (member, Diff::between(&member.bundle, rules)));
    candidates.min_by_key(|(_, diff)| size(diff)).ok_or_else(|| {
        Error::Rejected(format!("the current release has no {role}; name another bundle"))
    })
}

/// Returns the number of differences.
fn size(diff: &Diff) -> usize {
    let rules = [diff.added.len(), diff.removed.len(), diff.changed.len(), diff.weights.len()];
    let entries = diff.lists.iter().map(|list| list.added.saturating_add(list.removed).max(1));
    let terms = diff.concepts.iter().map(|term| term.added.saturating_add(term.removed).max(1));
    rules.into_iter().chain(entries).chain(terms).fold(diff.policy.len(), usize::saturating_add)
}

/// Returns what a change removes or replaces: names of rules, concepts and lists, and paths of
/// settings, sorted. A path ends with the entry that it names: `exemption[audit]`.
fn lost_parts(diff: &Diff) -> Vec<String> {
    // Without any new or missing part, something else differs, such as a description.
    let is_lost = |added: usize, removed: usize| removed > 0 || added == 0;
    let rules = diff.removed.iter().chain(&diff.changed).cloned();
    let weights = diff.weights.iter().map(|weight| weight.name.clone());
    let concepts = diff.concepts.iter().filter(|concept| is_lost(concept.added, concept.removed));
    let concepts = concepts.map(|concept| format!("concept {}", concept.name));
    let lists = diff.lists.iter().filter(|list| is_lost(list.added, list.removed));
    let lists = lists.map(|list| list.name.clone());
    let settings = diff.policy.iter().filter(|setting| setting.from.is_some());
    let settings = settings.map(|setting| match setting.path.split_once(']') {
        Some((entry, _)) => format!("{entry}]"),
        None => setting.path.clone(),
    });
    let parts = rules.chain(weights).chain(concepts).chain(lists).chain(settings);
    parts.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Maximum number of parts that the question names. The difference above it lists all.
const MAX_SHOWN_PARTS: usize = 8;

/// Compares the active bundle with its successor on recorded requests, if `--replay` names any.
fn check_noise(
    replay: &[PathBuf],
    current: &Release,
    active: Option<Bundle>,
    patch: &Patch,
) -> Result<Option<NoiseReport>> {
    let next = patch.patched.iter().find(|patched| patched.member.digest == current.active);
    let (Some(active), Some(next)) = (active, next) else { return Ok(None) };
    let active = Ruleset::new(active, current.active.clone()).ok();
    noise::check(replay, &compile(&next.prepared.bundle.encode())?, active.as_ref())
}

impl Patch {
    /// Replaces the bundles of a release by the changed ones. The canary keeps its accounts.
    fn release(&self, mut release: Release) -> Release {
        let replace = |digest: &mut String| {
            if let Some(next) = self.patched.iter().find(|next| next.member.digest == *digest) {
                digest.clone_from(&next.prepared.digest);
            }
        };
        replace(&mut release.active);
        if let Some(canary) = &mut release.canary {
            canary.order.get_or_insert_with(|| canary.digest.clone());
            replace(&mut canary.digest);
        }
        if let Some(shadow) = &mut release.shadow {
            replace(&mut shadow.digest);
        }
        release
    }

    /// Returns `Rejected` if the content digest of the base is not the expected one.
    fn check_base(&self, expected: Option<&str>) -> Result<()> {
        let BaseLabel { roles, digest, content } = &self.base;
        match expected {
            Some(expected) if expected != content => Err(Error::Rejected(format!(
                "the {roles} bundle {} has the content digest {content}: expected {expected}, and \
                 nothing was released; another release may have changed it, so compare again with \
                 `hedgerow diff`",
                short_digest(digest)
            ))),
            _ => Ok(()),
        }
    }

    /// Asks whether the change may remove or replace something. The rules may lack a change that
    /// somebody else has released meanwhile, and would undo it.
    fn confirm_loss(&self, is_confirmed: bool) -> Result<()> {
        let lost = lost_parts(&self.change);
        if lost.is_empty() {
            return Ok(());
        }
        let BaseLabel { roles, digest, content } = &self.base;
        let shown: Vec<&str> = lost.iter().take(MAX_SHOWN_PARTS).map(String::as_str).collect();
        let more = match lost.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let consequence = format!(
            "the change removes or replaces parts of the {roles} bundle {}: {}{more}",
            short_digest(digest),
            shown.join(", ")
        );
        let remedy = format!(
            "if somebody else has released them, take over their files; otherwise add --yes or \
             --expect-base {content}"
        );
        confirm(&consequence, is_confirmed, &remedy)
    }

    fn print_text(&self) -> Result<()> {
        let BaseLabel { roles, digest, content } = &self.base;
        print_line(format_args!(
            "the change, from the {roles} bundle {}, content {content}, to the rules:",
            short_digest(digest)
        ))?;
        print_changes(&self.change)?;
        for Patched { member: Member { roles, digest, .. }, prepared, diff } in &self.patched {
            print_line(format_args!("{roles}: {} → {}", short_digest(digest), prepared.digest))?;
            print_line(format_args!("{}  content digest", prepared.content))?;
            if *diff != self.change {
                print_line(format_args!("this bundle already has a part of the change; for it:"))?;
                print_changes(diff)?;
            }
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let BaseLabel { roles, digest, content } = &self.base;
        let bundles = self.patched.iter().map(|Patched { member, prepared, diff }| {
            json!({
                "roles": member.roles, "from": member.digest, "to": prepared.digest,
                "content": prepared.content, "diff": diff,
            })
        });
        let bundles: Vec<Value> = bundles.collect();
        json!({
            "base": roles, "base_digest": digest, "base_content": content, "diff": self.change,
            "bundles": bundles,
        })
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_core::ruleset::{ConceptChange, ListChange, SettingChange, WeightChange};

    use super::*;

    #[test]
    fn only_what_a_change_removes_or_replaces_is_lost() {
        let name = || "x".to_owned();
        let setting = |path: &str, from: Option<i32>, to: Option<i32>| Diff {
            policy: vec![SettingChange {
                path: path.to_owned(),
                from: from.map(Value::from),
                to: to.map(Value::from),
            }],
            ..Diff::default()
        };
        let concept = |added, removed| Diff {
            concepts: vec![ConceptChange { name: name(), added, removed }],
            ..Diff::default()
        };
        let list = |added, removed| Diff {
            lists: vec![ListChange { name: name(), added, removed }],
            ..Diff::default()
        };
        let weights = vec![WeightChange { name: name(), from: 1.0, to: 2.0 }];
        let rows: [(&str, Diff, &[&str]); 13] = [
            ("added rule", Diff { added: vec![name()], ..Diff::default() }, &[]),
            ("removed rule", Diff { removed: vec![name()], ..Diff::default() }, &["x"]),
            ("changed rule", Diff { changed: vec![name()], ..Diff::default() }, &["x"]),
            ("weight", Diff { weights, ..Diff::default() }, &["x"]),
            ("new terms", concept(1, 0), &[]),
            ("removed terms", concept(1, 1), &["concept x"]),
            ("rarity", concept(0, 0), &["concept x"]),
            ("new entries", list(1, 0), &[]),
            ("removed entries", list(0, 1), &["x"]),
            ("title of a list", list(0, 0), &["x"]),
            ("new setting", setting("exemption[x].until", None, Some(1)), &[]),
            ("removed setting", setting("exemption[x].until", Some(1), None), &["exemption[x]"]),
            ("changed setting", setting("bands.suspect", Some(1), Some(2)), &["bands.suspect"]),
        ];
        for (row, diff, expected) in rows {
            assert_eq!(lost_parts(&diff), expected, "{row}");
        }
    }
}
