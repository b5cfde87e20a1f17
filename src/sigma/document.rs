//! Parses the YAML document of a rule file, and collects findings with their positions.

use std::collections::BTreeMap;

use rsigma_parser::SigmaCollection;
use saphyr_parser::Parser;
use serde::{Deserialize, Serialize};
use yaml_serde::{Mapping, Value as Yaml};

use crate::Finding;
use crate::source_map::SourceMap;

/// Returns the value of the first line that begins with `name:`; `None` if the file has no such
/// line. The caller uses this name for a file that cannot be parsed as a rule.
pub fn declared_name(text: &str) -> Option<String> {
    let name = text.lines().find_map(|line| line.strip_prefix("name:"))?;
    Some(name.trim().trim_matches(['\'', '"']).to_owned())
}

/// A collector of the findings in a YAML file.
pub struct Diagnostics<'n> {
    /// Path of the file below the rules directory.
    pub path: &'n str,
    /// Positions of the file's keys.
    pub source_map: &'n SourceMap,
    /// Findings of all files so far.
    pub findings: &'n mut Vec<Finding>,
}

impl Diagnostics<'_> {
    /// Adds a finding at the position of a key, or of its nearest parent that exists in the file.
    pub fn add(&mut self, key: &[&str], problem: impl Into<String>, remedy: impl Into<String>) {
        self.add_at(self.source_map.find(key), problem, remedy);
    }

    /// Adds a finding at a line and column.
    fn add_at(
        &mut self,
        location: (usize, usize),
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding::new(self.path, location, problem, remedy));
    }
}

/// Parses the first document of a file. Returns `None`, with a finding, if the document is not
/// valid YAML or not a map.
pub fn read(text: &str, diagnostics: &mut Diagnostics<'_>) -> Option<Mapping> {
    if let Some(error) = Parser::new_from_str(text).find_map(Result::err) {
        let location = (error.marker().line(), error.marker().col().saturating_add(1));
        let problem = format!("not YAML: {}", error.info());
        diagnostics.add_at(location, problem, "check indentation, brackets and quotes");
        return None;
    }
    let source_map = diagnostics.source_map;
    for (key, line, column) in source_map.duplicate_keys() {
        let problem = format!("the key '{key}' is repeated");
        diagnostics.add_at((*line, *column), problem, "remove one of the two, or rename it");
    }
    if let Some(location) = source_map.second_document() {
        let problem = "the file has a second document: expected one rule per file";
        diagnostics.add_at(location, problem, "move the second rule to another file");
    }
    match parse_first(text) {
        Ok(Yaml::Mapping(document)) => return Some(document),
        Ok(_) => diagnostics.add(&[], "the file is not a rule: expected a map", SHAPE_REMEDY),
        // If the file has a repeated key, the error may be about this key, for which there already
        // is a finding.
        Err(error) if source_map.duplicate_keys().is_empty() => {
            let location =
                error.location().map_or((1, 1), |location| (location.line(), location.column()));
            diagnostics.add_at(location, last_line(&error.to_string()), SHAPE_REMEDY);
        }
        Err(_) => {}
    }
    None
}

/// Parses the first document. If a key is repeated, its last value is used.
fn parse_first(text: &str) -> Result<Yaml, yaml_serde::Error> {
    parse::<Yaml>(text).or_else(|error| {
        parse::<LenientYaml>(text).and_then(yaml_serde::to_value).map_err(|_| error)
    })
}

/// Parses the first document. An empty file is parsed as null.
fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, yaml_serde::Error> {
    let empty = || yaml_serde::Deserializer::from_str("~");
    T::deserialize(yaml_serde::Deserializer::from_str(text).next().unwrap_or_else(empty))
}

/// A YAML value in which keys may be repeated. [`Yaml`] would reject repeated keys.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum LenientYaml {
    Map(BTreeMap<String, LenientYaml>),
    List(Vec<LenientYaml>),
    Scalar(Yaml),
}

/// Parses a document with Sigma's parser, and returns the rule that `take_rule` takes from the
/// result.
///
/// `stripped` is the document without its invalid parts. If it is `None`, the document has no
/// invalid parts, and `text` is parsed. Returns `None`, with a finding at `key`, if the parser
/// rejects the document.
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

/// Returns the last line of a parser's message, because the lines before it only quote the source.
pub fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default().trim()
}

/// Remedy in findings about a file that does not have the structure of a rule.
pub const SHAPE_REMEDY: &str = "rules/README.md shows the shape of a rule";
