//! `lists/<what>.toml`: one list a file, every entry checked.

use std::collections::BTreeSet;

use hedgerow_core::rules::list::{List, ListEntry, ListKind};
use hedgerow_core::rules::policy::deserialize_end_of_day;
use serde::Deserialize;
use toml::de::DeTable;

use crate::metadata::MAX_WEIGHT;
use crate::toml::{TomlDiagnostics, deserialize_all, entries, number, read, text};
use crate::{Finding, RuleFile};

/// The directory below the rules that holds lists.
const LISTS_DIR: &str = "lists/";

/// Whether a path is a list's.
pub fn is_list(path: &str) -> bool {
    path.starts_with(LISTS_DIR) && path.ends_with(SUFFIX)
}

const SUFFIX: &str = ".toml";

/// The name of the list in a file: `lists/known_resellers.toml` holds `list_known_resellers`.
pub fn list_name(path: &str) -> String {
    let stem = path.strip_prefix(LISTS_DIR).and_then(|path| path.strip_suffix(SUFFIX));
    format!("list_{}", stem.unwrap_or_default())
}

/// Parses and checks a list.
pub fn parse(file: &RuleFile, findings: &mut Vec<Finding>) -> Option<List> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ListFile {
        title: String,
        kind: ListKind,
        weight: f64,
        #[serde(default, rename = "entry")]
        entries: Vec<EntryRow>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct EntryRow {
        value: String,
        #[serde(default, deserialize_with = "last_day")]
        until: Option<u64>,
        reason: Option<String>,
    }
    let mut diagnostics = TomlDiagnostics { file, findings, help: HELP };
    let name = list_name(&file.path);
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    {
        diagnostics.add(
            0,
            "the file's name is the list's name",
            "name it with a-z, 0-9 and underscores",
        );
    }
    let document = read(&mut diagnostics)?;
    check_header(&document, &mut diagnostics);
    check_entries(&document, &mut diagnostics);
    let list_file: ListFile = deserialize_all(document, &mut diagnostics)?;
    let entries = list_file.entries.into_iter();
    let entries =
        entries.map(|row| ListEntry { value: row.value, until: row.until, reason: row.reason });
    let ListFile { title, kind, weight, .. } = list_file;
    Some(List { name, title, kind, weight, entries: entries.collect() })
}

fn last_day<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserialize_end_of_day(deserializer).map(Some)
}

fn check_header(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for key in ["title", "kind", "weight"].iter().filter(|key| !document.contains_key(**key)) {
        diagnostics.add(0, format!("this list has no '{key}'"), HELP);
    }
    if let Some((offset, weight)) = number(document, "weight")
        && !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight)
    {
        let problem = format!("the weight is no number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
        diagnostics.add(offset, problem, "give decibans");
    }
}

fn check_entries(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let kind = text(document, "kind").map_or("", |(_, kind)| kind);
    let kind = ListKind::ALL.iter().find(|(name, _)| *name == kind);
    let mut seen = BTreeSet::new();
    for (offset, entry) in entries(document, "entry") {
        let Some((offset, value)) = text(entry, "value") else {
            diagnostics.add(offset, "this entry has no 'value', or none in quotes", HELP);
            continue;
        };
        if let Some((name, kind)) = kind
            && !kind.accepts(value)
        {
            diagnostics.add(offset, format!("'{value}' is no {name}"), HELP);
        }
        if !seen.insert(value) {
            diagnostics.add(
                offset,
                format!("'{value}' stands here twice"),
                "remove one of the two",
            );
        }
        if let Some((offset, reason)) = text(entry, "reason")
            && reason.trim().is_empty()
        {
            diagnostics.add(offset, "the reason is empty", "say why, or leave it out");
        }
    }
}

const HELP: &str = "docs/lists.md shows a list of each kind";
