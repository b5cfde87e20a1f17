//! `policy.toml`: every setting checked for itself, and held against the rules.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error, ValueDeserializer};

use super::place::line_column;
use super::rule::{FAMILIES, MAX_WEIGHT};
use super::{Finding, Source};
use crate::policy::{Bands, Policy};

/// Parses and checks the policy; `names` are the rules'.
pub fn parse(source: &Source, names: &[String], findings: &mut Vec<Finding>) -> Option<Policy> {
    let mut note = Note { source, findings };
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    if !is_whole(&errors, &mut note) {
        return None;
    }
    let document = document.into_inner();
    required(&document, &mut note);
    bands(&document, &mut note);
    score(&document, &mut note);
    sizes(&document, &mut note);
    paths(&document, &mut note);
    accounts(&document, &mut note);
    signatures(&document, names, &mut note);
    exemptions(&document, &mut note);
    types(document, &mut note)
}

/// Collects findings of the policy.
struct Note<'n> {
    source: &'n Source,
    findings: &'n mut Vec<Finding>,
}

impl Note<'_> {
    /// Notes a finding at a byte.
    fn add(&mut self, at: usize, problem: impl Into<String>, remedy: impl Into<String>) {
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

/// Notes what is not TOML; whether the rest can be checked. A repeated key leaves the rest as it is;
/// after any other error the parser guesses.
fn is_whole(errors: &[Error], note: &mut Note<'_>) -> bool {
    let at = |error: &Error| error.span().map_or(0, |span| span.start);
    if let Some(error) = errors.iter().find(|error| error.message() != REPEATED) {
        note.add(at(error), format!("not TOML: {}", error.message()), SHOWN);
        return false;
    }
    for error in errors {
        note.add(at(error), "this key stands here twice", "remove one of the two");
    }
    true
}

/// Deserializes. What is refused is noted and taken out, until nothing is: so all of it is told.
fn types(mut document: DeTable<'_>, note: &mut Note<'_>) -> Option<Policy> {
    loop {
        let whole = Spanned::new(0..0, DeValue::Table(document.clone()));
        let error = match Policy::deserialize(ValueDeserializer::from(whole)) {
            Ok(policy) => return Some(policy),
            Err(error) => error,
        };
        let at = error.span().map_or(0, |span| span.start);
        if !note.has(at) {
            note.add(at, error.message(), remedy(error.message()));
        }
        if !take_out(&mut document, at) {
            return None;
        }
    }
}

/// What is meant, perhaps: serde names in backticks what it found, and then what it knows.
fn remedy(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let nearest = quoted.next().and_then(|found| super::nearest(found, quoted));
    nearest.map_or_else(|| SHOWN.to_owned(), |name| format!("did you mean '{name}'?"))
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

/// Every entry has what makes it one.
fn required(document: &DeTable<'_>, note: &mut Note<'_>) {
    let rows: [(&str, &[&str]); 4] = [
        ("route", &["path"]),
        ("account", &["id"]),
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
        if !FAMILIES.contains(&family) {
            let problem = format!("there is no family '{family}'");
            note.add(key.span().start, problem, super::instead(family, FAMILIES));
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
    let rows = [
        ("scan", "window", 1024, "nothing would be scanned"),
        ("scan", "inflated", 1, "no compressed body would be scanned"),
        ("scan", "entries", 1, "no upload would be scanned"),
        ("enforce", "retry_after", 1, "clients would come back at once"),
    ];
    for (section, key, least, consequence) in rows {
        let size = table(document, section).and_then(|table| whole_number(table, key));
        if let Some((at, size)) = size
            && size < least
        {
            let problem = format!("'{key}' is {size}: {consequence}");
            note.add(at, problem, format!("give at least {least}"));
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
                && !is_account(id)
            {
                let remedy = "give the 32 digits, 0-9 and a-f, that decisions show";
                note.add(at, format!("'{id}' is no account"), remedy);
            }
        }
    }
    unique(document, "account", "id", note);
}

/// Whether this is the keyed hash of a credential: half of a SHA-256, in hex.
fn is_account(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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

/// No two entries go by one name: of two, one would do nothing.
fn unique(document: &DeTable<'_>, kind: &str, key: &str, note: &mut Note<'_>) {
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
fn value<'d, 'i>(table: &'d DeTable<'i>, key: &str) -> Option<(usize, &'d DeValue<'i>)> {
    table.get(key).map(|value| (value.span().start, value.get_ref()))
}

fn table<'d, 'i>(document: &'d DeTable<'i>, key: &str) -> Option<&'d DeTable<'i>> {
    value(document, key).and_then(|(_, value)| value.as_table())
}

/// The tables of an array, each with its place.
fn entries<'d, 'i>(
    document: &'d DeTable<'i>,
    kind: &str,
) -> impl Iterator<Item = (usize, &'d DeTable<'i>)> {
    let array = value(document, kind).and_then(|(_, value)| value.as_array());
    let entries = array.into_iter().flatten();
    entries.filter_map(|entry| Some((entry.span().start, entry.get_ref().as_table()?)))
}

fn text<'d>(table: &'d DeTable<'_>, key: &str) -> Option<(usize, &'d str)> {
    let (at, value) = value(table, key)?;
    Some((at, value.as_str()?))
}

fn number(table: &DeTable<'_>, key: &str) -> Option<(usize, f64)> {
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

fn whole_number(table: &DeTable<'_>, key: &str) -> Option<(usize, u64)> {
    let (at, value) = value(table, key)?;
    let integer = value.as_integer()?;
    Some((at, u64::from_str_radix(integer.as_str(), integer.radix()).ok()?))
}

/// The parser's word for a key that is there already.
const REPEATED: &str = "duplicate key";

const SHOWN: &str = "rules/policy.toml shows every setting";
