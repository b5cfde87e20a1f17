//! `policy.toml`: parsed, and held against the rules.

use super::{Finding, Rule, Source};
use crate::policy::Policy;

/// Parses and checks the policy.
pub fn parse(source: &Source, rules: &[Rule], findings: &mut Vec<Finding>) -> Option<Policy> {
    let mut note = |at: usize, problem: String, remedy: &str| {
        let (line, column) = line_column(&source.text, at);
        findings.push(Finding {
            path: source.path.clone(),
            line,
            column,
            problem,
            remedy: remedy.to_owned(),
        });
    };
    let policy: Policy = match toml::from_str(&source.text) {
        Ok(policy) => policy,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            note(at, error.message().to_owned(), "rules/policy.toml shows every setting");
            return None;
        }
    };
    let at = |needle: &str| source.text.find(needle).unwrap_or(0);
    let bands = &policy.bands;
    if !(0.0 <= bands.notice
        && bands.notice <= bands.suspect
        && bands.suspect <= bands.hostile
        && bands.hostile <= 100.0)
    {
        note(
            at("[bands]"),
            "the bands are not in order".into(),
            "keep 0 ≤ notice ≤ suspect ≤ hostile ≤ 100",
        );
    }
    let numbers = [policy.score.prior, policy.score.family_cap];
    if numbers.iter().chain(policy.score.caps.values()).any(|number| !number.is_finite()) {
        note(at("[score]"), "a score setting is no finite number".into(), "give decibans");
    }
    if policy.scan.window < 1024 || policy.scan.entries == 0 {
        note(
            at("[scan]"),
            "nothing would be scanned".into(),
            "give a window of at least 1024 bytes and at least one entry",
        );
    }
    for pattern in policy
        .routes
        .iter()
        .map(|route| &route.path)
        .chain(policy.exemptions.iter().filter_map(|own| own.path.as_ref()))
    {
        if !pattern.starts_with(['/', '*']) {
            note(
                at(&format!("\"{pattern}\"")),
                format!("the path '{pattern}' fits nothing"),
                "begin it with `/` or `**`",
            );
        }
    }
    let is_known = |name: &str| rules.iter().any(|rule| rule.signature.name == name);
    let exempted = policy.exemptions.iter().flat_map(|own| &own.signatures);
    for name in policy.signatures.iter().map(|own| &own.name).chain(exempted) {
        // Where a rule file is broken its name is not known; that file has its own finding.
        if !is_known(name) {
            note(
                at(&format!("\"{name}\"")),
                format!("there is no signature '{name}'"),
                "correct the name or remove the entry",
            );
        }
    }
    for exemption in &policy.exemptions {
        if exemption.reason.trim().is_empty() {
            note(
                at(&format!("\"{}\"", exemption.name)),
                format!("exemption '{}' has no reason", exemption.name),
                "say why, for whoever reads this next year",
            );
        }
        if exemption.account.is_none()
            && exemption.path.is_none()
            && exemption.signatures.is_empty()
        {
            note(
                at(&format!("\"{}\"", exemption.name)),
                format!("exemption '{}' exempts everything", exemption.name),
                "name an account, a path or signatures",
            );
        }
    }
    Some(policy)
}

fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column =
        before.rsplit('\n').next().map_or(0, |last| last.chars().count()).saturating_add(1);
    (line, column)
}
