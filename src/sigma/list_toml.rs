//! Parses and checks `lists/<name>.toml`: a list of addresses, accounts or other values.

use std::collections::BTreeSet;

use hedgerow_core::rules::list::{List, ListEntry, ListKind};
use serde::Deserialize;
use toml::de::DeTable;

use crate::attributes::MAX_WEIGHT;
use crate::days::{check_days, replace_days};
use crate::layers::replacement_problem;
use crate::toml::{TomlDiagnostics, deserialize_all, entries, number, read, text};
use crate::{Finding, RuleFile};

/// The directory of the lists, below the rules directory.
const LISTS_DIR: &str = "lists/";

/// Returns whether a path is the path of a list.
pub fn is_list(path: &str) -> bool {
    path.starts_with(LISTS_DIR) && path.ends_with(SUFFIX)
}

const SUFFIX: &str = ".toml";

/// Returns the name of the list in a file: the list in `lists/known_resellers.toml` has the name
/// `list_known_resellers`.
pub fn list_name(path: &str) -> String {
    let stem = path.strip_prefix(LISTS_DIR).and_then(|path| path.strip_suffix(SUFFIX));
    format!("list_{}", stem.unwrap_or_default())
}

/// Parses and checks a list, and adds it to `lists`, which has the lists of the lower layers. An
/// invalid list is not added, and becomes findings.
pub fn parse(file: &RuleFile, lists: &mut Vec<List>, findings: &mut Vec<Finding>) {
    let mut diagnostics = TomlDiagnostics { file, findings, help: HELP };
    let Some((list, replaces)) = read_list(file, &mut diagnostics) else { return };
    let is_known = |other: &List| other.name == list.name;
    let problem = replacement_problem("list", &list.name, lists.iter().any(is_known), replaces);
    if let Some((problem, remedy)) = problem {
        diagnostics.add(0, problem, remedy);
    }
    lists.retain(|other| other.name != list.name);
    lists.push(list);
}

/// Reads a list, and whether it replaces a list of a lower layer. Returns `None`, with findings, if
/// the list is invalid.
fn read_list<'n>(
    file: &'n RuleFile,
    diagnostics: &mut TomlDiagnostics<'n>,
) -> Option<(List, bool)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ListFile {
        title: String,
        kind: ListKind,
        weight: f64,
        #[serde(default)]
        replaces: bool,
        #[serde(default, rename = "entry")]
        entries: Vec<EntryRow>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct EntryRow {
        value: String,
        until: Option<u64>,
        reason: Option<String>,
    }
    let name = list_name(&file.path);
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    {
        let problem = "the file's name is invalid: expected a-z, 0-9 and underscores";
        diagnostics.add(0, problem, "rename the file: the list has its name");
    }
    let document = read(diagnostics)?;
    check_header(&document, diagnostics);
    check_entries(&document, diagnostics);
    let days = check_days(&document, "entry", "until", diagnostics);
    let document = replace_days(document, "entry", "until", &days);
    let list_file: ListFile = deserialize_all(document, diagnostics)?;
    let entries = list_file.entries.into_iter();
    let entries =
        entries.map(|row| ListEntry { value: row.value, until: row.until, reason: row.reason });
    let ListFile { title, kind, weight, replaces, .. } = list_file;
    Some((List { name, title, kind, weight, entries: entries.collect() }, replaces))
}

/// Checks that a list has a title, a kind and a weight, and that the weight is within the limits.
fn check_header(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for key in ["title", "kind", "weight"].iter().filter(|key| !document.contains_key(**key)) {
        diagnostics.add(0, format!("the list has no '{key}'"), HELP);
    }
    if let Some((offset, weight)) = number(document, "weight")
        && !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight)
    {
        let problem =
            format!("the weight is invalid: expected a number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
        diagnostics.add(offset, problem, "use decibans");
    }
}

/// Checks that the value of each entry fits the kind of the list and is unique, and that no reason
/// is empty.
fn check_entries(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let kind = text(document, "kind").map_or("", |(_, kind)| kind);
    let kind = ListKind::ALL.iter().find(|(name, _)| *name == kind);
    let mut seen = BTreeSet::new();
    for (offset, entry) in entries(document, "entry") {
        let Some((offset, value)) = text(entry, "value") else {
            diagnostics.add(offset, "the entry has no 'value': expected a string", HELP);
            continue;
        };
        if let Some((name, kind)) = kind
            && !kind.accepts(value)
        {
            let problem = format!("the value '{value}' is invalid: expected {name}");
            diagnostics.add(offset, problem, HELP);
        }
        if !seen.insert(value) {
            let problem = format!("the value '{value}' is repeated");
            diagnostics.add(offset, problem, "remove one of the two");
        }
        if let Some((offset, reason)) = text(entry, "reason")
            && reason.trim().is_empty()
        {
            diagnostics.add(offset, "the reason is empty", "write a reason, or remove the key");
        }
    }
}

const HELP: &str = "docs/lists.md shows a list of each kind";
