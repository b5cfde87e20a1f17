//! `policy.toml`: every setting checked for itself, and held against the rules.

use hedgerow_core::rules::policy::{Bands, Policy};
use hedgerow_core::rules::{list, policy};
use toml::de::DeTable;

use crate::metadata::{FAMILIES, MAX_WEIGHT};
use crate::toml::{
    TomlDiagnostics, check_unique, deserialize_all, entries, number, read, table, text,
    unsigned_integer, value,
};
use crate::{Finding, RuleFile};

/// Parses and checks the policy; `names` are the rules'.
pub fn parse(file: &RuleFile, names: &[String], findings: &mut Vec<Finding>) -> Option<Policy> {
    let mut diagnostics = TomlDiagnostics { file, findings, help: HELP };
    let document = read(&mut diagnostics)?;
    check_required(&document, &mut diagnostics);
    check_bands(&document, &mut diagnostics);
    check_score(&document, &mut diagnostics);
    check_sizes(&document, &mut diagnostics);
    check_noise(&document, &mut diagnostics);
    check_paths(&document, &mut diagnostics);
    check_accounts(&document, &mut diagnostics);
    check_clusters(&document, &mut diagnostics);
    check_signatures(&document, names, &mut diagnostics);
    check_exemptions(&document, &mut diagnostics);
    deserialize_all(document, &mut diagnostics)
}

/// Every entry has what makes it one.
fn check_required(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let rows: [(&str, &[&str]); 5] = [
        ("route", &["path"]),
        ("account", &["id"]),
        ("cluster", &["id"]),
        ("signature", &["name"]),
        ("exemption", &["name", "reason", "until"]),
    ];
    for (kind, keys) in rows {
        for (offset, entry) in entries(document, kind) {
            for key in keys.iter().filter(|key| !entry.contains_key(**key)) {
                diagnostics.add(offset, format!("this {kind} has no '{key}'"), HELP);
            }
        }
    }
}

fn check_bands(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let Some((offset, value)) = value(document, "bands") else { return };
    let Some(table) = value.as_table() else { return };
    let Bands { notice, suspect, hostile } = Bands::default();
    let mut scores = Vec::new();
    for (key, default_score) in [("notice", notice), ("suspect", suspect), ("hostile", hostile)] {
        let (offset, score) = number(table, key).unwrap_or((offset, default_score));
        if (0.0..=100.0).contains(&score) {
            scores.push(score);
        } else {
            diagnostics.add(offset, format!("'{key}' is no score"), "give a number from 0 to 100");
        }
    }
    if !scores.is_sorted() {
        let remedy = "keep 0 ≤ notice ≤ suspect ≤ hostile ≤ 100";
        diagnostics.add(offset, "the bands are not in order", remedy);
    }
}

fn check_score(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let Some(table) = table(document, "score") else { return };
    if let Some((offset, prior)) = number(table, "prior")
        && !prior.is_finite()
    {
        diagnostics.add(offset, "'prior' is no finite number", "give decibans, such as -20.0");
    }
    check_cap(table, "family_cap", diagnostics);
    let Some(caps) = self::table(table, "caps") else { return };
    for key in caps.keys() {
        let family: &str = key.get_ref();
        check_cap(caps, family, diagnostics);
        if !FAMILIES.contains(&family) && family != list::FAMILY {
            let problem = format!("there is no family '{family}'");
            diagnostics.add(key.span().start, problem, crate::suggestion(family, FAMILIES));
        }
    }
}

fn check_noise(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let Some(table) = table(document, "noise") else { return };
    for key in ["suspect", "notice"] {
        if let Some((offset, percent)) = number(table, key)
            && !(0.0..=100.0).contains(&percent)
        {
            diagnostics.add(
                offset,
                format!("'{key}' is no percentage"),
                "give a number from 0 to 100",
            );
        }
    }
}

fn check_cap(table: &DeTable<'_>, key: &str, diagnostics: &mut TomlDiagnostics<'_>) {
    if let Some((offset, cap)) = number(table, key)
        && (!cap.is_finite() || cap < 0.0)
    {
        let problem = format!("the cap '{key}' is negative, or no finite number");
        diagnostics.add(
            offset,
            problem,
            "give decibans: the most that the family adds, or takes away",
        );
    }
}

fn check_sizes(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let memory_reason = "an isolate has no room for it";
    let rows = [
        (
            "scan",
            "window",
            1024,
            "nothing would be scanned",
            policy::MAX_SCAN_WINDOW,
            memory_reason,
        ),
        (
            "scan",
            "max_decompressed",
            1,
            "no compressed body would be scanned",
            policy::MAX_DECOMPRESSED,
            memory_reason,
        ),
        (
            "scan",
            "max_entries",
            1,
            "no upload would be scanned",
            policy::MAX_SCANNED_ENTRIES,
            memory_reason,
        ),
        ("enforce", "retry_after", 1, "clients would come back at once", 604_800, "that is weeks"),
        (
            "correlate",
            "shards",
            1,
            "nothing would be counted",
            policy::MAX_CORRELATION_SHARDS,
            "each costs calls",
        ),
        (
            "correlate",
            "memory",
            policy::MIN_CORRELATOR_BYTES as u64,
            "nothing would be remembered for long",
            policy::MAX_CORRELATOR_BYTES,
            "an object has no room for it",
        ),
        (
            "correlate",
            "snapshot_interval",
            1,
            "it would never rest",
            policy::MAX_SNAPSHOT_SECONDS,
            "a crash would lose that",
        ),
    ];
    for (section, key, min, too_small, max, too_large) in rows {
        let size = table(document, section).and_then(|table| unsigned_integer(table, key));
        let Some((offset, size)) = size else { continue };
        if size < min {
            let problem = format!("'{key}' is {size}: {too_small}");
            diagnostics.add(offset, problem, format!("give at least {min}"));
        } else if size > max as u64 {
            let problem = format!("'{key}' is {size}: {too_large}");
            diagnostics.add(offset, problem, format!("give at most {max}"));
        }
    }
}

fn check_paths(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for (_, entry) in ["route", "exemption"].into_iter().flat_map(|kind| entries(document, kind)) {
        if let Some((offset, path)) = text(entry, "path")
            && !path.starts_with(['/', '*'])
        {
            let problem = format!("the path '{path}' fits nothing");
            diagnostics.add(offset, problem, "begin it with `/` or `**`");
        }
    }
}

fn check_accounts(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for (kind, key) in [("account", "id"), ("exemption", "account")] {
        for (_, entry) in entries(document, kind) {
            if let Some((offset, id)) = text(entry, key)
                && !list::ListKind::Account.accepts(id)
            {
                let remedy = "give the 32 digits, 0-9 and a-f, that decisions show";
                diagnostics.add(offset, format!("'{id}' is no account"), remedy);
            }
        }
    }
    check_unique(document, "account", "id", diagnostics);
}

fn check_clusters(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for (_, entry) in entries(document, "cluster") {
        let Some((offset, id)) = text(entry, "id") else { continue };
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.len() != 8 || !id.bytes().all(is_hex) {
            let remedy = "give the 8 digits, 0-9 and a-f, that `hedgerow clusters list` shows";
            diagnostics.add(offset, format!("'{id}' is no cluster"), remedy);
        }
    }
    check_unique(document, "cluster", "id", diagnostics);
}

fn check_signatures(
    document: &DeTable<'_>,
    names: &[String],
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    for (_, entry) in entries(document, "signature") {
        if let Some((offset, name)) = text(entry, "name") {
            check_signature_name(name, offset, names, diagnostics);
        }
        if let Some((offset, weight)) = number(entry, "weight")
            && !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight)
        {
            let problem = format!("the weight is no number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
            diagnostics.add(offset, problem, "give decibans");
        }
    }
    for (_, entry) in entries(document, "exemption") {
        let listed_names = value(entry, "signatures").and_then(|(_, list)| list.as_array());
        for name in listed_names.into_iter().flatten() {
            if let Some(text) = name.get_ref().as_str() {
                check_signature_name(text, name.span().start, names, diagnostics);
            }
        }
    }
    check_unique(document, "signature", "name", diagnostics);
}

fn check_signature_name(
    name: &str,
    offset: usize,
    names: &[String],
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    if !names.iter().any(|candidate| candidate == name) {
        let nearest = crate::nearest(name, names.iter().map(String::as_str));
        let remedy = nearest.map_or_else(
            || "correct the name or remove the entry".to_owned(),
            |nearest| format!("did you mean '{nearest}'?"),
        );
        diagnostics.add(offset, format!("there is no signature '{name}'"), remedy);
    }
}

fn check_exemptions(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for (offset, entry) in entries(document, "exemption") {
        let name = text(entry, "name").map_or("", |(_, name)| name);
        if let Some((offset, reason)) = text(entry, "reason")
            && reason.trim().is_empty()
        {
            let remedy = "say why, for whoever reads this next year";
            diagnostics.add(offset, format!("exemption '{name}' has no reason"), remedy);
        }
        let has_no_signatures = value(entry, "signatures")
            .is_none_or(|(_, list)| list.as_array().is_some_and(|list| list.is_empty()));
        if has_no_signatures && !entry.contains_key("account") && !entry.contains_key("path") {
            let problem = format!("exemption '{name}' exempts everything");
            diagnostics.add(offset, problem, "name an account, a path or signatures");
        }
    }
    check_unique(document, "exemption", "name", diagnostics);
}

const HELP: &str = "rules/policy.toml shows every setting";
