//! `policy.toml`: every setting checked for itself, and held against the rules.

use toml::de::DeTable;

use super::about::{FAMILIES, MAX_WEIGHT};
use super::toml::{Note, entries, number, read, table, text, types, unique, value, whole_number};
use super::{Finding, Source};
use crate::policy::{self, Bands, Policy};
use crate::ruleset::list;

/// Parses and checks the policy; `names` are the rules'.
pub fn parse(source: &Source, names: &[String], findings: &mut Vec<Finding>) -> Option<Policy> {
    let mut note = Note { source, findings, shown: SHOWN };
    let document = read(&mut note)?;
    required(&document, &mut note);
    bands(&document, &mut note);
    score(&document, &mut note);
    sizes(&document, &mut note);
    noise(&document, &mut note);
    paths(&document, &mut note);
    accounts(&document, &mut note);
    clusters(&document, &mut note);
    signatures(&document, names, &mut note);
    exemptions(&document, &mut note);
    types(document, &mut note)
}

/// Every entry has what makes it one.
fn required(document: &DeTable<'_>, note: &mut Note<'_>) {
    let rows: [(&str, &[&str]); 5] = [
        ("route", &["path"]),
        ("account", &["id"]),
        ("cluster", &["id"]),
        ("signature", &["name"]),
        ("exemption", &["name", "reason", "until"]),
    ];
    for (kind, keys) in rows {
        for (at, entry) in entries(document, kind) {
            for key in keys.iter().filter(|key| !entry.contains_key(**key)) {
                note.add(at, format!("this {kind} has no '{key}'"), SHOWN);
            }
        }
    }
}

fn bands(document: &DeTable<'_>, note: &mut Note<'_>) {
    let Some((at, value)) = value(document, "bands") else { return };
    let Some(table) = value.as_table() else { return };
    let Bands { notice, suspect, hostile } = Bands::default();
    let mut scores = Vec::new();
    for (key, usual) in [("notice", notice), ("suspect", suspect), ("hostile", hostile)] {
        let (at, score) = number(table, key).unwrap_or((at, usual));
        if (0.0..=100.0).contains(&score) {
            scores.push(score);
        } else {
            note.add(at, format!("'{key}' is no score"), "give a number from 0 to 100");
        }
    }
    if !scores.is_sorted() {
        let remedy = "keep 0 ≤ notice ≤ suspect ≤ hostile ≤ 100";
        note.add(at, "the bands are not in order", remedy);
    }
}

fn score(document: &DeTable<'_>, note: &mut Note<'_>) {
    let Some(table) = table(document, "score") else { return };
    if let Some((at, prior)) = number(table, "prior")
        && !prior.is_finite()
    {
        note.add(at, "'prior' is no finite number", "give decibans, such as -20.0");
    }
    cap(table, "family_cap", note);
    let Some(caps) = self::table(table, "caps") else { return };
    for key in caps.keys() {
        let family: &str = key.get_ref();
        cap(caps, family, note);
        if !FAMILIES.contains(&family) && family != list::FAMILY {
            let problem = format!("there is no family '{family}'");
            note.add(key.span().start, problem, super::instead(family, FAMILIES));
        }
    }
}

fn noise(document: &DeTable<'_>, note: &mut Note<'_>) {
    let Some(table) = table(document, "noise") else { return };
    for key in ["suspect", "notice"] {
        if let Some((at, percent)) = number(table, key)
            && !(0.0..=100.0).contains(&percent)
        {
            note.add(at, format!("'{key}' is no percentage"), "give a number from 0 to 100");
        }
    }
}

fn cap(table: &DeTable<'_>, key: &str, note: &mut Note<'_>) {
    if let Some((at, cap)) = number(table, key)
        && (!cap.is_finite() || cap < 0.0)
    {
        let problem = format!("the cap '{key}' is negative, or no finite number");
        note.add(at, problem, "give decibans: the most that the family adds, or takes away");
    }
}

fn sizes(document: &DeTable<'_>, note: &mut Note<'_>) {
    let memory = "an isolate has no room for it";
    let rows = [
        ("scan", "window", 1024, "nothing would be scanned", policy::MAX_WINDOW, memory),
        (
            "scan",
            "inflated",
            1,
            "no compressed body would be scanned",
            policy::MAX_INFLATED,
            memory,
        ),
        ("scan", "entries", 1, "no upload would be scanned", policy::MAX_ENTRIES, memory),
        ("enforce", "retry_after", 1, "clients would come back at once", 604_800, "that is weeks"),
        (
            "correlate",
            "shards",
            1,
            "nothing would be counted",
            policy::MAX_SHARDS,
            "each costs calls",
        ),
        (
            "correlate",
            "memory",
            policy::MIN_GROUPS as u64,
            "nothing would be remembered for long",
            policy::MAX_GROUPS,
            "an object has no room for it",
        ),
        (
            "correlate",
            "snapshot",
            1,
            "it would never rest",
            policy::MAX_SNAPSHOT,
            "a crash would lose that",
        ),
    ];
    for (section, key, least, too_little, most, too_much) in rows {
        let size = table(document, section).and_then(|table| whole_number(table, key));
        let Some((at, size)) = size else { continue };
        if size < least {
            let problem = format!("'{key}' is {size}: {too_little}");
            note.add(at, problem, format!("give at least {least}"));
        } else if size > most as u64 {
            let problem = format!("'{key}' is {size}: {too_much}");
            note.add(at, problem, format!("give at most {most}"));
        }
    }
}

fn paths(document: &DeTable<'_>, note: &mut Note<'_>) {
    for (_, entry) in ["route", "exemption"].into_iter().flat_map(|kind| entries(document, kind)) {
        if let Some((at, path)) = text(entry, "path")
            && !path.starts_with(['/', '*'])
        {
            let problem = format!("the path '{path}' fits nothing");
            note.add(at, problem, "begin it with `/` or `**`");
        }
    }
}

fn accounts(document: &DeTable<'_>, note: &mut Note<'_>) {
    for (kind, key) in [("account", "id"), ("exemption", "account")] {
        for (_, entry) in entries(document, kind) {
            if let Some((at, id)) = text(entry, key)
                && !list::Kind::Account.fits(id)
            {
                let remedy = "give the 32 digits, 0-9 and a-f, that decisions show";
                note.add(at, format!("'{id}' is no account"), remedy);
            }
        }
    }
    unique(document, "account", "id", note);
}

fn clusters(document: &DeTable<'_>, note: &mut Note<'_>) {
    for (_, entry) in entries(document, "cluster") {
        let Some((at, id)) = text(entry, "id") else { continue };
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.len() != 8 || !id.bytes().all(is_hex) {
            let remedy = "give the 8 digits, 0-9 and a-f, that `hedgerow clusters list` shows";
            note.add(at, format!("'{id}' is no cluster"), remedy);
        }
    }
    unique(document, "cluster", "id", note);
}

fn signatures(document: &DeTable<'_>, names: &[String], note: &mut Note<'_>) {
    for (_, entry) in entries(document, "signature") {
        if let Some((at, name)) = text(entry, "name") {
            known(name, at, names, note);
        }
        if let Some((at, weight)) = number(entry, "weight")
            && !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight)
        {
            let problem = format!("the weight is no number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
            note.add(at, problem, "give decibans");
        }
    }
    for (_, entry) in entries(document, "exemption") {
        let listed = value(entry, "signatures").and_then(|(_, list)| list.as_array());
        for name in listed.into_iter().flatten() {
            if let Some(text) = name.get_ref().as_str() {
                known(text, name.span().start, names, note);
            }
        }
    }
    unique(document, "signature", "name", note);
}

fn known(name: &str, at: usize, names: &[String], note: &mut Note<'_>) {
    if !names.iter().any(|known| known == name) {
        let nearest = super::nearest(name, names.iter().map(String::as_str));
        let remedy = nearest.map_or_else(
            || "correct the name or remove the entry".to_owned(),
            |nearest| format!("did you mean '{nearest}'?"),
        );
        note.add(at, format!("there is no signature '{name}'"), remedy);
    }
}

fn exemptions(document: &DeTable<'_>, note: &mut Note<'_>) {
    for (at, entry) in entries(document, "exemption") {
        let name = text(entry, "name").map_or("", |(_, name)| name);
        if let Some((at, reason)) = text(entry, "reason")
            && reason.trim().is_empty()
        {
            let remedy = "say why, for whoever reads this next year";
            note.add(at, format!("exemption '{name}' has no reason"), remedy);
        }
        let has_none = value(entry, "signatures")
            .is_none_or(|(_, list)| list.as_array().is_some_and(|list| list.is_empty()));
        if has_none && !entry.contains_key("account") && !entry.contains_key("path") {
            let problem = format!("exemption '{name}' exempts everything");
            note.add(at, problem, "name an account, a path or signatures");
        }
    }
    unique(document, "exemption", "name", note);
}

const SHOWN: &str = "rules/policy.toml shows every setting";
