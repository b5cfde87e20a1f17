//! The canary and the shadow that a release ends, and the confirmation of what a release loses.

use hedgerow_core::Release;
use hedgerow_core::ruleset::short_digest;

use crate::error::{Error, Result};
use crate::terminal::{ask, print_error};

/// Prints what the release `after` ends of the release `before`, and asks whether it may. Asks
/// nothing if it ends nothing, or if `is_confirmed`.
///
/// Returns `Rejected` if the answer is not yes, or if nobody can be asked.
pub fn confirm_end(before: Option<&Release>, after: &Release, is_confirmed: bool) -> Result<()> {
    // A release that has expired decides nothing, so nothing of it ends.
    let before = before.filter(|before| !before.is_expired(after.created));
    let ended = before.map_or_else(Vec::new, |before| ended_by(before, after));
    if ended.is_empty() {
        return Ok(());
    }
    confirm(
        &format!("this release ends {}", ended.join(" and ")),
        is_confirmed,
        "add --yes, or carry the change into every bundle with `hedgerow push --release --patch`",
    )
}

/// Prints a consequence of a release, and asks whether to publish the release, unless
/// `is_confirmed`.
///
/// Returns `Rejected` if the answer is not yes, or, with the remedy, if nobody can be asked.
pub fn confirm(consequence: &str, is_confirmed: bool, remedy: &str) -> Result<()> {
    if is_confirmed {
        print_error(consequence);
        return Ok(());
    }
    match ask(&format!("{consequence}. Release it?")) {
        Some(true) => Ok(()),
        Some(false) => Err(Error::Rejected("nothing was released".to_owned())),
        None => Err(Error::Rejected(format!(
            "{consequence}: expected a confirmation, and standard input or standard error is not \
             a terminal; {remedy}"
        ))),
    }
}

/// Describes the canary and the shadow of the release `before` that have no role in the release
/// `after`.
fn ended_by(before: &Release, after: &Release) -> Vec<String> {
    let canary = before.canary.as_ref().map(|canary| {
        let share = format!(" for {} % of the accounts", canary.percent);
        ("canary", &canary.digest, share)
    });
    let shadow = before.shadow.as_ref().map(|shadow| ("shadow", &shadow.digest, String::new()));
    let after_canary = after.canary.as_ref().map(|canary| &canary.digest);
    let after_shadow = after.shadow.as_ref().map(|shadow| &shadow.digest);
    let remaining = [Some(&after.active), after_canary, after_shadow];
    let roles = [canary, shadow].into_iter().flatten();
    roles
        .filter(|(_, digest, _)| !remaining.contains(&Some(*digest)))
        .map(|(role, digest, share)| format!("the {role} {}{share}", short_digest(digest)))
        .collect()
}

#[cfg(test)]
mod tests {
    use hedgerow_core::rules::release::{Canary, RELEASE_FORMAT, ShadowBundle};

    use super::*;

    fn release(active: char, canary: Option<char>, shadow: Option<char>) -> Release {
        let digest = |letter: char| letter.to_string().repeat(64);
        Release {
            format_version: RELEASE_FORMAT,
            serial: 1,
            created: 1_000_000,
            active: digest(active),
            canary: canary.map(|letter| Canary {
                digest: digest(letter),
                percent: 25.0,
                order: None,
            }),
            shadow: shadow.map(|letter| ShadowBundle { digest: digest(letter) }),
            expires: None,
            resumes: None,
            note: String::new(),
            author: String::new(),
        }
    }

    #[test]
    fn a_release_ends_bundles_that_lose_their_role() {
        let canary_end = "the canary bbbbbbbbbbbb for 25 % of the accounts";
        // name, after, expected
        let rows: [(&str, Release, &[&str]); 6] = [
            ("other rules", release('d', None, None), &[canary_end, "the shadow cccccccccccc"]),
            ("the canary is active", release('b', None, None), &["the shadow cccccccccccc"]),
            ("the shadow is active", release('c', None, None), &[canary_end]),
            ("another canary", release('a', Some('d'), Some('c')), &[canary_end]),
            ("the shadow becomes the canary", release('a', Some('c'), None), &[canary_end]),
            ("the same roles", release('a', Some('b'), Some('c')), &[]),
        ];
        let before = release('a', Some('b'), Some('c'));
        for (name, after, expected) in rows {
            assert_eq!(ended_by(&before, &after), expected, "{name}");
        }
    }

    #[test]
    fn only_the_end_of_a_release_in_force_needs_a_confirmation() {
        let after = release('d', None, None);
        let before = release('a', Some('b'), None);
        assert!(confirm_end(None, &after, false).is_ok());
        assert!(confirm_end(Some(&before), &after, true).is_ok());
        let expired = Release { expires: Some(1), ..before.clone() };
        assert!(confirm_end(Some(&expired), &after, false).is_ok());
        let staged = release('a', Some('b'), Some('d'));
        assert!(confirm_end(Some(&before), &staged, false).is_ok());
    }
}
