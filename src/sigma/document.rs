//! A rule file's one document, and the findings in it.

use std::collections::BTreeMap;

use rsigma_parser::SigmaCollection;
use saphyr_parser::Parser;
use serde::{Deserialize, Serialize};
use yaml_serde::{Mapping, Value as Yaml};

use crate::Finding;
use crate::source_map::SourceMap;

/// The name that a file says it has, where the rest of it cannot be read.
pub fn declared_name(text: &str) -> Option<String> {
    let name = text.lines().find_map(|line| line.strip_prefix("name:"))?;
    Some(name.trim().trim_matches(['\'', '"']).to_owned())
}

/// Collects findings of one file.
pub struct Diagnostics<'n> {
    pub path: &'n str,
    pub source_map: &'n SourceMap,
    pub findings: &'n mut Vec<Finding>,
}

impl Diagnostics<'_> {
    /// Notes a finding at a key.
    pub fn add(&mut self, key: &[&str], problem: impl Into<String>, remedy: impl Into<String>) {
        self.add_at(self.source_map.find(key), problem, remedy);
    }

    /// Notes a finding at a line and column.
    fn add_at(
        &mut self,
        location: (usize, usize),
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(finding(self.path, location, problem, remedy));
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
pub fn read(text: &str, diagnostics: &mut Diagnostics<'_>) -> Option<Mapping> {
    if let Some(error) = Parser::new_from_str(text).find_map(Result::err) {
        let location = (error.marker().line(), error.marker().col().saturating_add(1));
        let problem = format!("not YAML: {}", error.info());
        diagnostics.add_at(location, problem, "check indentation, brackets and quotes");
        return None;
    }
    let source_map = diagnostics.source_map;
    for (key, line, column) in source_map.duplicate_keys() {
        let problem = format!("a second key '{key}'");
        diagnostics.add_at((*line, *column), problem, "remove one of the two, or rename it");
    }
    if let Some(location) = source_map.second_document() {
        diagnostics.add_at(
            location,
            "a file holds one rule",
            "put every rule into a file of its own",
        );
    }
    match parse_first(text) {
        Ok(Yaml::Mapping(document)) => return Some(document),
        Ok(_) => diagnostics.add(&[], "a file holds one rule", SHAPE_REMEDY),
        // Else it is the repeated key that it stopped at.
        Err(error) if source_map.duplicate_keys().is_empty() => {
            let location =
                error.location().map_or((1, 1), |location| (location.line(), location.column()));
            diagnostics.add_at(location, last_line(&error.to_string()), SHAPE_REMEDY);
        }
        Err(_) => {}
    }
    None
}

/// Reads the first document; where a key is repeated, with the last value of each.
fn parse_first(text: &str) -> Result<Yaml, yaml_serde::Error> {
    parse::<Yaml>(text).or_else(|error| {
        parse::<LenientYaml>(text).and_then(yaml_serde::to_value).map_err(|_| error)
    })
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, yaml_serde::Error> {
    let empty = || yaml_serde::Deserializer::from_str("~");
    T::deserialize(yaml_serde::Deserializer::from_str(text).next().unwrap_or_else(empty))
}

/// YAML in which a key may be repeated, which [`Yaml`] refuses.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum LenientYaml {
    Map(BTreeMap<String, LenientYaml>),
    List(Vec<LenientYaml>),
    Scalar(Yaml),
}

/// What Sigma's parser makes of a document, of which `pick` takes its part. It gets the file as it was
/// written, as long as nothing is wrong with it; else what is left of it.
pub fn parse_sigma<T>(
    text: &str,
    stripped: Option<&Mapping>,
    key: &str,
    take_rule: impl FnOnce(&mut SigmaCollection) -> Option<T>,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<T> {
    let stripped = stripped.map(|document| yaml_serde::to_string(document).unwrap_or_default());
    let problem = match rsigma_parser::parse_sigma_yaml(stripped.as_deref().unwrap_or(text)) {
        Ok(mut collection) => match take_rule(&mut collection) {
            Some(rule) => return Some(rule),
            None => collection.errors.join("; "),
        },
        Err(error) => error.to_string(),
    };
    diagnostics.add(&[key], last_line(&problem), SHAPE_REMEDY);
    None
}

/// The last line of a message: parsers draw a picture first.
pub fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default().trim()
}

/// The remedy for what is no rule at all.
pub const SHAPE_REMEDY: &str = "rules/README.md shows the shape of a rule";
