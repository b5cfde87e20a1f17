//! `lists/<what>.toml`: one list a file, every entry checked.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::de::DeTable;

use super::about::MAX_WEIGHT;
use super::toml::{Note, entries, number, read, text, types};
use super::{Finding, Source};
use crate::policy::end_of_day;
use crate::ruleset::list::{Entry, Kind, List};

/// The directory below the rules that holds lists.
const DIRECTORY: &str = "lists/";

/// Whether a path is a list's.
pub fn is_list(path: &str) -> bool {
    path.starts_with(DIRECTORY) && path.ends_with(SUFFIX)
}

const SUFFIX: &str = ".toml";

/// The name of the list in a file: `lists/known_resellers.toml` holds `list_known_resellers`.
pub fn name_of(path: &str) -> String {
    let stem = path.strip_prefix(DIRECTORY).and_then(|path| path.strip_suffix(SUFFIX));
    format!("list_{}", stem.unwrap_or_default())
}

/// Parses and checks a list.
pub fn parse(source: &Source, findings: &mut Vec<Finding>) -> Option<List> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        title: String,
        kind: Kind,
        weight: f64,
        #[serde(default, rename = "entry")]
        entries: Vec<Row>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        value: String,
        #[serde(default, deserialize_with = "last_day")]
        until: Option<u64>,
        reason: Option<String>,
    }
    let mut note = Note { source, findings, shown: SHOWN };
    let name = name_of(&source.path);
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    {
        note.add(0, "the file's name is the list's name", "name it with a-z, 0-9 and underscores");
    }
    let document = read(&mut note)?;
    head(&document, &mut note);
    values(&document, &mut note);
    let file: File = types(document, &mut note)?;
    let entries = file.entries.into_iter();
    let entries =
        entries.map(|row| Entry { value: row.value, until: row.until, reason: row.reason });
    let File { title, kind, weight, .. } = file;
    Some(List { name, title, kind, weight, entries: entries.collect() })
}

fn last_day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    end_of_day(deserializer).map(Some)
}

fn head(document: &DeTable<'_>, note: &mut Note<'_>) {
    for key in ["title", "kind", "weight"].iter().filter(|key| !document.contains_key(**key)) {
        note.add(0, format!("this list has no '{key}'"), SHOWN);
    }
    if let Some((at, weight)) = number(document, "weight")
        && !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight)
    {
        let problem = format!("the weight is no number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
        note.add(at, problem, "give decibans");
    }
}

fn values(document: &DeTable<'_>, note: &mut Note<'_>) {
    let kind = text(document, "kind").map_or("", |(_, kind)| kind);
    let kind = Kind::ALL.iter().find(|(name, _)| *name == kind);
    let mut seen = BTreeSet::new();
    for (at, entry) in entries(document, "entry") {
        let Some((at, value)) = text(entry, "value") else {
            note.add(at, "this entry has no 'value', or none in quotes", SHOWN);
            continue;
        };
        if let Some((name, kind)) = kind
            && !kind.fits(value)
        {
            note.add(at, format!("'{value}' is no {name}"), SHOWN);
        }
        if !seen.insert(value) {
            note.add(at, format!("'{value}' stands here twice"), "remove one of the two");
        }
        if let Some((at, reason)) = text(entry, "reason")
            && reason.trim().is_empty()
        {
            note.add(at, "the reason is empty", "say why, or leave it out");
        }
    }
}

const SHOWN: &str = "docs/lists.md shows a list of each kind";
