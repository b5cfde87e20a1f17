//! Parses TOML files. Parsing continues after an error, so that one run reports all findings with
//! their positions.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error, ValueDeserializer};

use crate::source_map::line_column;
use crate::suggestion::did_you_mean;
use crate::{Finding, RuleFile};

/// A collector of the findings in a TOML file.
pub struct TomlDiagnostics<'n> {
    /// The file that is checked.
    pub file: &'n RuleFile,
    /// Findings of all files so far.
    pub findings: &'n mut Vec<Finding>,
    /// Default remedy: the page that shows all settings.
    pub help: &'static str,
}

impl TomlDiagnostics<'_> {
    /// Adds a finding at a byte offset.
    pub fn add(&mut self, offset: usize, problem: impl Into<String>, remedy: impl Into<String>) {
        let location = line_column(&self.file.text, offset);
        self.findings.push(Finding::new(&self.file.path, location, problem, remedy));
    }

    /// Returns whether there is a finding at a byte offset.
    fn has_finding_at(&self, offset: usize) -> bool {
        let location = line_column(&self.file.text, offset);
        self.findings.iter().any(|finding| {
            finding.path == self.file.path && (finding.line, finding.column) == location
        })
    }
}

/// Parses a file. Returns `None`, with a finding, if it is not TOML. Adds findings for repeated
/// keys.
pub fn read<'n>(diagnostics: &mut TomlDiagnostics<'n>) -> Option<DeTable<'n>> {
    let (document, errors) = DeTable::parse_recoverable(&diagnostics.file.text);
    is_recoverable(&errors, diagnostics).then(|| document.into_inner())
}

/// Parses a file as [`read`] does. The result does not borrow the findings.
pub fn read_file<'f>(
    file: &'f RuleFile,
    help: &'static str,
    findings: &mut Vec<Finding>,
) -> Option<DeTable<'f>> {
    let (document, errors) = DeTable::parse_recoverable(&file.text);
    let mut diagnostics = TomlDiagnostics { file, findings, help };
    is_recoverable(&errors, &mut diagnostics).then(|| document.into_inner())
}

/// Adds findings for syntax errors. Returns whether the parsed document is usable: it is usable if
/// the only errors are repeated keys. After any other error, the parser may have skipped or misread
/// parts of the file.
fn is_recoverable(errors: &[Error], diagnostics: &mut TomlDiagnostics<'_>) -> bool {
    let offset = |error: &Error| error.span().map_or(0, |span| span.start);
    if let Some(error) = errors.iter().find(|error| error.message() != DUPLICATE_KEY_MESSAGE) {
        diagnostics.add(offset(error), format!("not TOML: {}", error.message()), diagnostics.help);
        return false;
    }
    for error in errors {
        diagnostics.add(offset(error), "the key is repeated", "remove one of the two");
    }
    true
}

/// Deserializes a document. Returns `None` if a required value is missing or invalid.
///
/// Serde reports only the first error. Therefore each error becomes a finding, the entry with the
/// error is removed, and the document is deserialized again, until no error is left.
pub fn deserialize_all<T: DeserializeOwned>(
    mut document: DeTable<'_>,
    diagnostics: &mut TomlDiagnostics<'_>,
) -> Option<T> {
    loop {
        let root = Spanned::new(0..0, DeValue::Table(document.clone()));
        let error = match T::deserialize(ValueDeserializer::from(root)) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let offset = error.span().map_or(0, |span| span.start);
        if !diagnostics.has_finding_at(offset) {
            diagnostics.add(offset, error.message(), remedy(error.message(), diagnostics.help));
        }
        if !remove_at(&mut document, offset) {
            return None;
        }
    }
}

/// Returns a suggestion for an unknown name in Serde's message, or `help` if there is none. Such a
/// message contains first the unknown name and then the known names, each in backticks.
fn remedy(message: &str, help: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let suggestion = quoted.next().and_then(|unknown| did_you_mean(unknown, quoted));
    suggestion.unwrap_or_else(|| help.to_owned())
}

/// Removes the innermost entry whose key or value contains a byte offset. Returns whether an entry
/// was removed.
pub fn remove_at(table: &mut DeTable<'_>, offset: usize) -> bool {
    if table.iter_mut().any(|(_, value)| remove_below(value.get_mut(), offset)) {
        return true;
    }
    let mut entries = table.iter();
    let entry =
        entries.find(|(key, value)| key.span().contains(&offset) || value.span().contains(&offset));
    let key = entry.map(|(key, _)| key.clone());
    key.is_some_and(|key| table.remove(&key).is_some())
}

/// Removes the innermost entry of a table or array that contains a byte offset. Returns whether an
/// entry was removed.
fn remove_below(value: &mut DeValue<'_>, offset: usize) -> bool {
    match value {
        DeValue::Table(table) => remove_at(table, offset),
        DeValue::Array(items) => {
            if items.iter_mut().any(|item| remove_below(item.get_mut(), offset)) {
                return true;
            }
            let remaining = items.iter().filter(|item| !item.span().contains(&offset));
            let remaining: DeArray<'_> = remaining.cloned().collect();
            let was_removed = remaining.len() < items.len();
            *items = remaining;
            was_removed
        }
        _ => false,
    }
}

/// Adds a finding for each table of the array `array_key` that has the same value of `key` as an
/// earlier table, because one of the two would have no effect.
pub fn check_unique(
    document: &DeTable<'_>,
    array_key: &str,
    key: &str,
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    let mut seen = BTreeSet::new();
    for (_, entry) in entries(document, array_key) {
        if let Some((offset, name)) = text(entry, key)
            && !seen.insert(name)
        {
            let problem = format!("the {key} '{name}' of this {array_key} is not unique");
            diagnostics.add(offset, problem, "merge the two, or rename one");
        }
    }
}

/// Returns the value of a key, and the byte offset of the value in the file; `None` if the key is
/// missing.
pub fn value<'d, 'i>(table: &'d DeTable<'i>, key: &str) -> Option<(usize, &'d DeValue<'i>)> {
    table.get(key).map(|value| (value.span().start, value.get_ref()))
}

/// Returns the table under a key; `None` if the key is missing or its value is not a table.
pub fn table<'d, 'i>(document: &'d DeTable<'i>, key: &str) -> Option<&'d DeTable<'i>> {
    value(document, key).and_then(|(_, value)| value.as_table())
}

/// Returns the tables of the array `array_key`, each with its byte offset.
pub fn entries<'d, 'i>(
    document: &'d DeTable<'i>,
    array_key: &str,
) -> impl Iterator<Item = (usize, &'d DeTable<'i>)> {
    let array = value(document, array_key).and_then(|(_, value)| value.as_array());
    let entries = array.into_iter().flatten();
    entries.filter_map(|entry| Some((entry.span().start, entry.get_ref().as_table()?)))
}

/// Returns the string under a key, and its byte offset; `None` if the key is missing or its value
/// is not a string.
pub fn text<'d>(table: &'d DeTable<'_>, key: &str) -> Option<(usize, &'d str)> {
    let (offset, value) = value(table, key)?;
    Some((offset, value.as_str()?))
}

/// Returns the strings of a list, each with its byte offset.
pub fn text_entries<'d>(
    table: &'d DeTable<'_>,
    key: &str,
) -> impl Iterator<Item = (usize, &'d str)> {
    let list = value(table, key).and_then(|(_, list)| list.as_array());
    let entries = list.into_iter().flatten();
    entries.filter_map(|entry| Some((entry.span().start, entry.get_ref().as_str()?)))
}

/// Returns the number under a key, and its byte offset; `None` if the key is missing or its value
/// is not a number.
pub fn number(table: &DeTable<'_>, key: &str) -> Option<(usize, f64)> {
    let (offset, value) = value(table, key)?;
    let number = match value {
        DeValue::Float(float) => float.as_str().parse::<f64>().ok()?,
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()? as f64
        }
        _ => return None,
    };
    Some((offset, number))
}

/// Returns the integer under a key, and its byte offset; `None` if the key is missing, or its value
/// is negative or not an integer.
pub fn unsigned_integer(table: &DeTable<'_>, key: &str) -> Option<(usize, u64)> {
    let (offset, value) = value(table, key)?;
    let integer = value.as_integer()?;
    Some((offset, u64::from_str_radix(integer.as_str(), integer.radix()).ok()?))
}

/// The TOML parser's error message for a repeated key.
const DUPLICATE_KEY_MESSAGE: &str = "duplicate key";
