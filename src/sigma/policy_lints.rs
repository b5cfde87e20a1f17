//! Lints of `policy.toml`: sections without an effect or without a reason.
//!
//! A lint concerns a valid policy. Only `hedgerow check` reports lints, so that a section that has
//! ended does not prevent a push.

use hedgerow_core::rules::policy::pattern_matches;
use toml::de::DeTable;

use crate::days::{end_of, format_day};
use crate::layers::Layer;
use crate::policy_routes::CONDITIONS;
use crate::source_map::line_column;
use crate::toml::{TomlDiagnostics, entries, read, text};
use crate::{Finding, RuleFile, files};

/// The lints of a policy, sorted by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lints {
    /// Sections that have no effect.
    pub findings: Vec<Finding>,
    /// Sections that have an effect, but need attention.
    pub warnings: Vec<Finding>,
}

/// Lints the policy, if the rules have one. `now` is the time in seconds since the epoch.
///
/// Findings are sections that have ended, and routes that an earlier route replaces completely.
/// Warnings are sections that end within 14 days, and overrides for accounts and tenants without a
/// reason. Policies that [`check`](crate::check) rejects may have fewer lints.
pub fn lint(files: &[RuleFile], now: u64) -> Lints {
    let mut lints = Lints::default();
    let Some(file) = files.iter().find(|file| files::is_policy(&file.path)) else { return lints };
    let mut syntax_findings = Vec::new();
    let mut syntax = TomlDiagnostics { file, findings: &mut syntax_findings, help: "" };
    let Some(document) = read(&mut syntax) else { return lints };
    let mut diagnostics = TomlDiagnostics { file, findings: &mut lints.findings, help: "" };
    lint_ended(&document, now, &mut diagnostics);
    lint_routes(&document, &mut diagnostics);
    let mut diagnostics = TomlDiagnostics { file, findings: &mut lints.warnings, help: "" };
    lint_ending(&document, now, &mut diagnostics);
    lint_reasons(&document, &mut diagnostics);
    lints.findings.sort();
    lints.warnings.sort();
    lints
}

/// Lints the policies of all layers, each on its own.
pub fn lint_layers(layers: &[Layer<'_>], now: u64) -> Lints {
    let mut lints = Lints::default();
    for layer in layers {
        let of_layer = lint(layer.files, now);
        layer.locate(&mut lints.findings, |findings| findings.extend(of_layer.findings));
        layer.locate(&mut lints.warnings, |warnings| warnings.extend(of_layer.warnings));
    }
    lints
}

/// Sections of the policy that can have an end, `until`.
pub const SECTIONS_WITH_END: [&str; 4] = ["exemption", "account", "tenant", "cluster"];

/// Adds a finding for each section that has ended.
fn lint_ended(document: &DeTable<'_>, now: u64, diagnostics: &mut TomlDiagnostics<'_>) {
    for (offset, label, end) in ends(document).filter(|(_, _, end)| *end <= now) {
        let day = format_day(end);
        let problem = format!("{label} has ended: it has had no effect since {day}");
        diagnostics.add(offset, problem, "remove it, or give a later day");
    }
}

/// Adds a warning for each section that ends soon.
fn lint_ending(document: &DeTable<'_>, now: u64, diagnostics: &mut TomlDiagnostics<'_>) {
    let soon = now.saturating_add(WARNING_SECONDS);
    let is_soon = |end: u64| now < end && end <= soon;
    for (offset, label, end) in ends(document).filter(|(_, _, end)| is_soon(*end)) {
        let day = format_day(end.saturating_sub(1));
        let problem = format!("{label} ends soon: its last day is {day}");
        diagnostics.add(offset, problem, "give a later day if it is still needed then");
    }
}

/// Returns the ends of all sections: the byte offset of the end, the name of the section for a
/// message, and the end in seconds since the epoch.
fn ends(document: &DeTable<'_>) -> impl Iterator<Item = (usize, String, u64)> {
    SECTIONS_WITH_END.into_iter().flat_map(move |kind| {
        entries(document, kind).filter_map(move |(_, entry)| {
            let (offset, end) = end_of(entry, "until")?;
            let label = match text(entry, "name") {
                Some((_, name)) => format!("{kind} '{name}'"),
                None => format!("this {kind}"),
            };
            Some((offset, label, end))
        })
    })
}

/// Adds a warning for each override of an account or a tenant that has no reason.
fn lint_reasons(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for kind in ["account", "tenant"] {
        for (offset, entry) in entries(document, kind) {
            if text(entry, "reason").is_none_or(|(_, reason)| reason.trim().is_empty()) {
                let remedy = "write it in 'reason', for the next person who reads the policy";
                diagnostics.add(offset, format!("this {kind} has no reason"), remedy);
            }
        }
    }
}

/// Adds a finding for each route that never has an effect: an earlier route applies to all requests
/// to which this route applies, and sets all its settings.
fn lint_routes(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let routes: Vec<(usize, &DeTable<'_>)> = entries(document, "route").collect();
    for (index, (offset, route)) in routes.iter().enumerate() {
        let mut earlier = routes.iter().take(index);
        let Some((first, _)) = earlier.find(|(_, earlier)| shadows(earlier, route)) else {
            continue;
        };
        let (line, _) = line_column(&diagnostics.file.text, *first);
        let problem = format!(
            "this route has no effect: the route in line {line} comes first, and sets the same for \
             all its requests"
        );
        diagnostics.add(*offset, problem, "remove it, or move it before that route");
    }
}

/// Returns whether a route has no effect after an earlier route. In doubt, returns false.
fn shadows(earlier: &DeTable<'_>, later: &DeTable<'_>) -> bool {
    let mut settings = SETTINGS.iter().filter(|key| later.contains_key(**key)).peekable();
    settings.peek().is_some()
        && settings.all(|key| earlier.contains_key(*key))
        && CONDITIONS.iter().all(|key| is_implied(key, earlier, later))
}

/// Returns whether the condition `key` of an earlier route holds for every request to which a later
/// route applies.
fn is_implied(key: &str, earlier: &DeTable<'_>, later: &DeTable<'_>) -> bool {
    let Some((_, earlier)) = text(earlier, key) else { return true };
    let later = text(later, key).map(|(_, pattern)| pattern);
    if key == "path" {
        return path_covers(earlier, later.unwrap_or("**"));
    }
    later.is_some_and(|later| covers(earlier, later))
}

/// Returns whether every text that matches the pattern `part` also matches the pattern `whole`.
///
/// `part` is matched as if it were a text. That is correct: only a `*` of `whole` matches a `*` of
/// `part`, and it would match any text in its place, too.
fn covers(whole: &str, part: &str) -> bool {
    pattern_matches(whole, part)
}

/// Returns whether every path that matches the pattern `part` also matches the pattern `whole`.
/// Returns false for some patterns with `**` of which this is true.
fn path_covers(whole: &str, part: &str) -> bool {
    let (whole, part) = (segments(whole), segments(part));
    let segment_covers =
        |(whole, part): (&&str, &&str)| *part != ANY_SEGMENTS && covers(whole, part);
    let is_equal = whole.len() == part.len()
        && whole.iter().zip(&part).all(|(whole, part)| whole.eq_ignore_ascii_case(part));
    if is_equal {
        return true;
    }
    let (start, is_prefix) = match whole.split_last() {
        Some((&ANY_SEGMENTS, start)) => (start, true),
        _ => (whole.as_slice(), false),
    };
    let has_length = if is_prefix { part.len() >= start.len() } else { part.len() == start.len() };
    has_length && !start.contains(&ANY_SEGMENTS) && start.iter().zip(&part).all(segment_covers)
}

/// Returns the segments of a path pattern that are not empty.
fn segments(pattern: &str) -> Vec<&str> {
    pattern.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Keys of the settings of a route.
const SETTINGS: [&str; 3] = ["endpoint", "mode", "actions"];

/// Segment of a path pattern that matches any number of segments.
const ANY_SEGMENTS: &str = "**";

/// Time before the end of a section from which on a warning is given: 14 days.
const WARNING_SECONDS: u64 = 14 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_narrower_patterns() {
        let rows = [
            ("/**", "/v1/**", true),
            ("**", "/v1/*/x", true),
            ("/v1/**", "/v1/chat/**", true),
            ("/v1/**", "/V1/chat", true),
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v1/**", true),
            ("/v1/*", "/v1/chat", true),
            ("/v1/*", "/v1/c*t", true),
            ("/v1/c*", "/v1/ch*t", true),
            ("**/chat", "**/Chat/", true),
            ("/v1/*", "/v1/**", false),
            ("/v1/*/**", "/v1/**", false),
            ("/v1/c*", "/v1/*", false),
            ("/v1/chat", "/v1/*", false),
            ("/v1/chat/**", "/v1/**", false),
            ("/v1/chat/**", "/**", false),
            ("/v1/chat", "/v1/chat/completions", false),
        ];
        for (whole, part, expected) in rows {
            assert_eq!(path_covers(whole, part), expected, "{whole} {part}");
        }
        let rows = [
            ("gpt-*", "gpt-4*", true),
            ("gpt-*", "GPT-4", true),
            ("*", "*mini", true),
            ("*.example.com", "api.example.com", true),
            ("*.example.com", "*.eu.example.com", true),
            ("gpt-4*", "gpt-*", false),
            ("gpt-4", "gpt-*", false),
            ("*.example.com", "example.com", false),
        ];
        for (whole, part, expected) in rows {
            assert_eq!(covers(whole, part), expected, "{whole} {part}");
        }
    }
}
