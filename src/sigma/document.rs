//! A rule file's one document, and the findings in it.

use std::collections::BTreeMap;

use rsigma_parser::SigmaCollection;
use saphyr_parser::Parser;
use serde::{Deserialize, Serialize};
use yaml_serde::{Mapping, Value as Yaml};

use super::Finding;
use super::place::Places;

/// The name that a file says it has, where the rest of it cannot be read.
pub fn said_name(text: &str) -> Option<String> {
    let name = text.lines().find_map(|line| line.strip_prefix("name:"))?;
    Some(name.trim().trim_matches(['\'', '"']).to_owned())
}

/// Collects findings of one file.
pub struct Note<'n> {
    pub path: &'n str,
    pub places: &'n Places,
    pub findings: &'n mut Vec<Finding>,
}

impl Note<'_> {
    /// Notes a finding at a key.
    pub fn add(&mut self, key: &[&str], problem: impl Into<String>, remedy: impl Into<String>) {
        self.at(self.places.find(key), problem, remedy);
    }

    /// Notes a finding at a line and column.
    fn at(&mut self, place: (usize, usize), problem: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(finding(self.path, place, problem, remedy));
    }
}

/// A finding at a place.
pub fn finding(
    path: &str,
    (line, column): (usize, usize),
    problem: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { path: path.to_owned(), line, column, problem: problem.into(), remedy: remedy.into() }
}

/// The file's first document, if there is one that can be read.
pub fn read(text: &str, note: &mut Note<'_>) -> Option<Mapping> {
    if let Some(broken) = Parser::new_from_str(text).find_map(Result::err) {
        let at = (broken.marker().line(), broken.marker().col().saturating_add(1));
        let problem = format!("not YAML: {}", broken.info());
        note.at(at, problem, "check indentation, brackets and quotes");
        return None;
    }
    let places = note.places;
    for (key, line, column) in places.repeated() {
        let problem = format!("a second key '{key}'");
        note.at((*line, *column), problem, "remove one of the two, or rename it");
    }
    if let Some(second) = places.second() {
        note.at(second, "a file holds one rule", "put every rule into a file of its own");
    }
    match first(text) {
        Ok(Yaml::Mapping(document)) => return Some(document),
        Ok(_) => note.add(&[], "a file holds one rule", SHAPE),
        // Else it is the repeated key that it stopped at.
        Err(error) if places.repeated().is_empty() => {
            let at = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            note.at(at, last_line(&error.to_string()), SHAPE);
        }
        Err(_) => {}
    }
    None
}

/// Reads the first document; where a key is repeated, with the last value of each.
fn first(text: &str) -> Result<Yaml, yaml_serde::Error> {
    parse::<Yaml>(text)
        .or_else(|error| parse::<Lenient>(text).and_then(yaml_serde::to_value).map_err(|_| error))
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, yaml_serde::Error> {
    let nothing = || yaml_serde::Deserializer::from_str("~");
    T::deserialize(yaml_serde::Deserializer::from_str(text).next().unwrap_or_else(nothing))
}

/// YAML in which a key may be repeated, which [`Yaml`] refuses.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Lenient {
    Map(BTreeMap<String, Lenient>),
    List(Vec<Lenient>),
    Scalar(Yaml),
}

/// What Sigma's parser makes of a document, of which `pick` takes its part. It gets the file as it was
/// written, as long as nothing is wrong with it; else what is left of it.
pub fn sigma<T>(
    text: &str,
    mended: Option<&Mapping>,
    key: &str,
    pick: impl FnOnce(&mut SigmaCollection) -> Option<T>,
    note: &mut Note<'_>,
) -> Option<T> {
    let mended = mended.map(|mended| yaml_serde::to_string(mended).unwrap_or_default());
    let problem = match rsigma_parser::parse_sigma_yaml(mended.as_deref().unwrap_or(text)) {
        Ok(mut collection) => match pick(&mut collection) {
            Some(rule) => return Some(rule),
            None => collection.errors.join("; "),
        },
        Err(error) => error.to_string(),
    };
    note.add(&[key], last_line(&problem), SHAPE);
    None
}

/// The last line of a message: parsers draw a picture first.
pub fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default().trim()
}

/// The remedy for what is no rule at all.
pub const SHAPE: &str = "rules/README.md shows the shape of a rule";
