//! TOML files: read to the end whatever is wrong, so that all of it is told at once, with its place.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error, ValueDeserializer};

use crate::source_map::line_column;
use crate::{Finding, RuleFile};

/// Collects findings of one file.
pub struct TomlDiagnostics<'n> {
    /// The file.
    pub file: &'n RuleFile,
    /// What is wrong.
    pub findings: &'n mut Vec<Finding>,
    /// Where every setting is shown: the remedy where there is no better.
    pub help: &'static str,
}

impl TomlDiagnostics<'_> {
    /// Notes a finding at a byte.
    pub fn add(&mut self, offset: usize, problem: impl Into<String>, remedy: impl Into<String>) {
        let (line, column) = line_column(&self.file.text, offset);
        self.findings.push(Finding {
            path: self.file.path.clone(),
            line,
            column,
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// Whether something has been noted there.
    fn has_finding_at(&self, offset: usize) -> bool {
        let location = line_column(&self.file.text, offset);
        self.findings.iter().any(|finding| {
            finding.path == self.file.path && (finding.line, finding.column) == location
        })
    }
}

/// Reads the file, unless it is no TOML: that is noted.
pub fn read<'n>(diagnostics: &mut TomlDiagnostics<'n>) -> Option<DeTable<'n>> {
    let (document, errors) = DeTable::parse_recoverable(&diagnostics.file.text);
    is_recoverable(&errors, diagnostics).then(|| document.into_inner())
}

/// Notes what is not TOML; whether the rest can be checked. A repeated key leaves the rest as it is;
/// after any other error the parser guesses.
fn is_recoverable(errors: &[Error], diagnostics: &mut TomlDiagnostics<'_>) -> bool {
    let offset = |error: &Error| error.span().map_or(0, |span| span.start);
    if let Some(error) = errors.iter().find(|error| error.message() != DUPLICATE_KEY_MESSAGE) {
        diagnostics.add(offset(error), format!("not TOML: {}", error.message()), diagnostics.help);
        return false;
    }
    for error in errors {
        diagnostics.add(offset(error), "this key stands here twice", "remove one of the two");
    }
    true
}

/// Deserializes. What is refused is noted and taken out, until nothing is: so all of it is told.
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

/// What is meant, perhaps: serde names in backticks what it found, and then what it knows.
fn remedy(message: &str, help: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let nearest = quoted.next().and_then(|unknown| crate::nearest(unknown, quoted));
    nearest.map_or_else(|| help.to_owned(), |name| format!("did you mean '{name}'?"))
}

/// Takes out the innermost entry that has its key or value at byte `at`; whether there was one.
fn remove_at(table: &mut DeTable<'_>, offset: usize) -> bool {
    if table.iter_mut().any(|(_, value)| remove_below(value.get_mut(), offset)) {
        return true;
    }
    let mut entries = table.iter();
    let entry =
        entries.find(|(key, value)| key.span().contains(&offset) || value.span().contains(&offset));
    let key = entry.map(|(key, _)| key.clone());
    key.is_some_and(|key| table.remove(&key).is_some())
}

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

/// No two entries go by one name: of two, one would do nothing.
pub fn check_unique(
    document: &DeTable<'_>,
    kind: &str,
    key: &str,
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    let mut seen = BTreeSet::new();
    for (_, entry) in entries(document, kind) {
        if let Some((offset, name)) = text(entry, key)
            && !seen.insert(name)
        {
            let problem = format!("a second {kind} with the {key} '{name}'");
            diagnostics.add(offset, problem, "make one of the two, or rename one");
        }
    }
}

/// A value and where it stands.
pub fn value<'d, 'i>(table: &'d DeTable<'i>, key: &str) -> Option<(usize, &'d DeValue<'i>)> {
    table.get(key).map(|value| (value.span().start, value.get_ref()))
}

/// A table within a table.
pub fn table<'d, 'i>(document: &'d DeTable<'i>, key: &str) -> Option<&'d DeTable<'i>> {
    value(document, key).and_then(|(_, value)| value.as_table())
}

/// The tables of an array, each with its place.
pub fn entries<'d, 'i>(
    document: &'d DeTable<'i>,
    kind: &str,
) -> impl Iterator<Item = (usize, &'d DeTable<'i>)> {
    let array = value(document, kind).and_then(|(_, value)| value.as_array());
    let entries = array.into_iter().flatten();
    entries.filter_map(|entry| Some((entry.span().start, entry.get_ref().as_table()?)))
}

/// A string and where it stands.
pub fn text<'d>(table: &'d DeTable<'_>, key: &str) -> Option<(usize, &'d str)> {
    let (offset, value) = value(table, key)?;
    Some((offset, value.as_str()?))
}

/// A number and where it stands.
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

/// A number without sign and fraction, and where it stands.
pub fn unsigned_integer(table: &DeTable<'_>, key: &str) -> Option<(usize, u64)> {
    let (offset, value) = value(table, key)?;
    let integer = value.as_integer()?;
    Some((offset, u64::from_str_radix(integer.as_str(), integer.radix()).ok()?))
}

/// The parser's word for a key that is there already.
const DUPLICATE_KEY_MESSAGE: &str = "duplicate key";
