//! TOML files: read to the end whatever is wrong, so that all of it is told at once, with its place.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error, ValueDeserializer};

use super::place::line_column;
use super::{Finding, Source};

/// Collects findings of one file.
pub struct Note<'n> {
    /// The file.
    pub source: &'n Source,
    /// What is wrong.
    pub findings: &'n mut Vec<Finding>,
    /// Where every setting is shown: the remedy where there is no better.
    pub shown: &'static str,
}

impl Note<'_> {
    /// Notes a finding at a byte.
    pub fn add(&mut self, at: usize, problem: impl Into<String>, remedy: impl Into<String>) {
        let (line, column) = line_column(&self.source.text, at);
        self.findings.push(Finding {
            path: self.source.path.clone(),
            line,
            column,
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// Whether something has been noted there.
    fn has(&self, at: usize) -> bool {
        let place = line_column(&self.source.text, at);
        self.findings.iter().any(|finding| {
            finding.path == self.source.path && (finding.line, finding.column) == place
        })
    }
}

/// Reads the file, unless it is no TOML: that is noted.
pub fn read<'n>(note: &mut Note<'n>) -> Option<DeTable<'n>> {
    let (document, errors) = DeTable::parse_recoverable(&note.source.text);
    is_whole(&errors, note).then(|| document.into_inner())
}

/// Notes what is not TOML; whether the rest can be checked. A repeated key leaves the rest as it is;
/// after any other error the parser guesses.
fn is_whole(errors: &[Error], note: &mut Note<'_>) -> bool {
    let at = |error: &Error| error.span().map_or(0, |span| span.start);
    if let Some(error) = errors.iter().find(|error| error.message() != REPEATED) {
        note.add(at(error), format!("not TOML: {}", error.message()), note.shown);
        return false;
    }
    for error in errors {
        note.add(at(error), "this key stands here twice", "remove one of the two");
    }
    true
}

/// Deserializes. What is refused is noted and taken out, until nothing is: so all of it is told.
pub fn types<T: DeserializeOwned>(mut document: DeTable<'_>, note: &mut Note<'_>) -> Option<T> {
    loop {
        let whole = Spanned::new(0..0, DeValue::Table(document.clone()));
        let error = match T::deserialize(ValueDeserializer::from(whole)) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let at = error.span().map_or(0, |span| span.start);
        if !note.has(at) {
            note.add(at, error.message(), remedy(error.message(), note.shown));
        }
        if !take_out(&mut document, at) {
            return None;
        }
    }
}

/// What is meant, perhaps: serde names in backticks what it found, and then what it knows.
fn remedy(message: &str, shown: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let nearest = quoted.next().and_then(|found| super::nearest(found, quoted));
    nearest.map_or_else(|| shown.to_owned(), |name| format!("did you mean '{name}'?"))
}

/// Takes out the innermost entry that has its key or value at byte `at`; whether there was one.
fn take_out(table: &mut DeTable<'_>, at: usize) -> bool {
    if table.iter_mut().any(|(_, value)| take_out_below(value.get_mut(), at)) {
        return true;
    }
    let mut entries = table.iter();
    let found = entries.find(|(key, value)| key.span().contains(&at) || value.span().contains(&at));
    let key = found.map(|(key, _)| key.clone());
    key.is_some_and(|key| table.remove(&key).is_some())
}

fn take_out_below(value: &mut DeValue<'_>, at: usize) -> bool {
    match value {
        DeValue::Table(table) => take_out(table, at),
        DeValue::Array(items) => {
            if items.iter_mut().any(|item| take_out_below(item.get_mut(), at)) {
                return true;
            }
            let others = items.iter().filter(|item| !item.span().contains(&at));
            let others: DeArray<'_> = others.cloned().collect();
            let was_there = others.len() < items.len();
            *items = others;
            was_there
        }
        _ => false,
    }
}

/// No two entries go by one name: of two, one would do nothing.
pub fn unique(document: &DeTable<'_>, kind: &str, key: &str, note: &mut Note<'_>) {
    let mut seen = BTreeSet::new();
    for (_, entry) in entries(document, kind) {
        if let Some((at, name)) = text(entry, key)
            && !seen.insert(name)
        {
            let problem = format!("a second {kind} with the {key} '{name}'");
            note.add(at, problem, "make one of the two, or rename one");
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
    let (at, value) = value(table, key)?;
    Some((at, value.as_str()?))
}

/// A number and where it stands.
pub fn number(table: &DeTable<'_>, key: &str) -> Option<(usize, f64)> {
    let (at, value) = value(table, key)?;
    let number = match value {
        DeValue::Float(float) => float.as_str().parse::<f64>().ok()?,
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()? as f64
        }
        _ => return None,
    };
    Some((at, number))
}

/// A number without sign and fraction, and where it stands.
pub fn whole_number(table: &DeTable<'_>, key: &str) -> Option<(usize, u64)> {
    let (at, value) = value(table, key)?;
    let integer = value.as_integer()?;
    Some((at, u64::from_str_radix(integer.as_str(), integer.radix()).ok()?))
}

/// The parser's word for a key that is there already.
const REPEATED: &str = "duplicate key";
