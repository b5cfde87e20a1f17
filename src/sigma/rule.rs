//! One Sigma file: metadata, detection and exemplars, checked and turned into a signature.

use std::collections::BTreeMap;

use rsigma_parser::{Level, SigmaRule, Status as SigmaStatus};
use saphyr_parser::{Parser, ScanError};

use super::place::Places;
use super::{Finding, Source, detection};
use crate::error::Error;
use crate::policy::Policy;
use crate::ruleset::{Bundle, FORMAT, Ruleset};
use crate::signature::{Condition, Signature, Status};

/// A rule: the signature, what its documentation needs, and its exemplars.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The signature.
    pub signature: Signature,
    /// Path of its file.
    pub path: String,
    /// Whether its status is `deprecated`: kept, but not built.
    pub retired: bool,
    /// What it finds and why.
    pub description: String,
    /// Sigma's level.
    pub level: &'static str,
    /// Where it comes from.
    pub references: Vec<String>,
    /// Whom it may hit by mistake.
    pub false_positives: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its condition as written.
    pub condition: String,
    /// Events that it must and must not match.
    pub exemplars: Vec<Exemplar>,
    places: Places,
}

/// An event that a rule must, or must not, match.
#[derive(Clone, Debug)]
pub struct Exemplar {
    /// What it shows.
    pub name: String,
    /// Whether the rule must match.
    pub matches: bool,
    /// Field names and values.
    pub event: yaml_serde::Mapping,
}

impl Rule {
    /// Whether it is kept for the record only.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// A ruleset of this rule alone.
    pub fn alone(&self) -> Result<Ruleset, Error> {
        let bundle = Bundle {
            format: FORMAT,
            policy: Policy::default(),
            signatures: vec![self.signature.clone()],
            sources: BTreeMap::new(),
        };
        Ruleset::new(bundle, String::new())
    }

    /// A finding at a key of this rule.
    pub fn finding(
        &self,
        key: &[&str],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        finding(&self.path, &self.places, key, problem, remedy)
    }
}

/// Parses and checks one file.
pub fn parse(source: &Source, findings: &mut Vec<Finding>) -> Option<Rule> {
    let places = Places::new(&source.text);
    let known = findings.len();
    let mut note = Note { path: &source.path, places: &places, findings };
    if let Some(broken) = Parser::new_from_str(&source.text).find_map(Result::err) {
        note.syntax(&broken);
        return None;
    }
    lint(source, &mut note);
    let collection = match rsigma_parser::parse_sigma_yaml(&source.text) {
        Ok(collection) => collection,
        Err(error) => {
            if note.findings.len() == known {
                note.add(&["detection"], error.to_string(), SHAPE);
            }
            return None;
        }
    };
    if !collection.correlations.is_empty() {
        note.add(&["correlation"], "correlations are not supported by this version", "remove it");
    }
    for error in &collection.errors {
        note.add(&[], error.to_string(), SHAPE);
    }
    let [rule] = collection.rules.as_slice() else {
        if note.findings.len() == known {
            note.add(&[], "a file holds one rule", "put every rule into a file of its own");
        }
        return None;
    };
    let parsed = metadata(rule, &mut note);
    let selections = detection::selections(rule, &mut note);
    let condition = detection::condition(rule, &selections, &mut note);
    let exemplars = exemplars(rule, &mut note);
    let is_clean = note.findings.len() == known;
    let (signature, condition) = (parsed?, condition?);
    is_clean.then(|| Rule {
        signature: Signature { selections, condition, ..signature },
        path: source.path.clone(),
        retired: rule.status == Some(SigmaStatus::Deprecated),
        description: rule.description.clone().unwrap_or_default(),
        level: rule.level.map_or("", |level| level.as_str()),
        references: rule.references.clone(),
        false_positives: rule.falsepositives.clone(),
        tags: rule.tags.clone(),
        condition: rule.detection.condition_strings.join(" or "),
        exemplars,
        places,
    })
}

/// Collects findings of one file.
pub struct Note<'n> {
    path: &'n str,
    places: &'n Places,
    findings: &'n mut Vec<Finding>,
}

impl Note<'_> {
    /// Notes a finding at a key.
    pub fn add(&mut self, key: &[&str], problem: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(finding(self.path, self.places, key, problem, remedy));
    }

    fn syntax(&mut self, broken: &ScanError) {
        let at = broken.marker();
        self.findings.push(Finding {
            path: self.path.to_owned(),
            line: at.line(),
            column: at.col().saturating_add(1),
            problem: format!("not YAML: {}", broken.info()),
            remedy: "check indentation, brackets and quotes".to_owned(),
        });
    }
}

fn finding(
    path: &str,
    places: &Places,
    key: &[&str],
    problem: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    let (line, column) = places.find(key);
    Finding { path: path.to_owned(), line, column, problem: problem.into(), remedy: remedy.into() }
}

/// The Sigma linter's errors and warnings.
fn lint(source: &Source, note: &mut Note<'_>) {
    use rsigma_parser::Severity;
    for warning in rsigma_parser::lint_yaml_str(&source.text) {
        if matches!(warning.severity, Severity::Error | Severity::Warning) && !is_ours(&warning) {
            let path: Vec<String> = warning
                .path
                .split('/')
                .skip(1)
                .map(|key| key.replace("~1", "/").replace("~0", "~"))
                .collect();
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            note.add(&path, warning.message, format!("Sigma's rule '{}' says how", warning.rule));
        }
    }
}

/// Lints that contradict what Hedgerow asks for: our log source and tags are not Sigma's.
fn is_ours(warning: &rsigma_parser::LintWarning) -> bool {
    let rule = warning.rule.to_string();
    rule.contains("tag") || rule.contains("logsource")
}

/// Checks metadata; the signature without its detection.
fn metadata(rule: &SigmaRule, note: &mut Note<'_>) -> Option<Signature> {
    let known = note.findings.len();
    let name = rule.name.clone().unwrap_or_default();
    let family = rule
        .tags
        .iter()
        .find_map(|tag| tag.strip_prefix("hedgerow."))
        .unwrap_or_default()
        .to_owned();
    if !FAMILIES.contains(&family.as_str()) {
        note.add(
            &["tags"],
            "no tag names the family",
            format!("add one of hedgerow.{{{}}}", FAMILIES.join(",")),
        );
    }
    let fits = name.strip_prefix(&family).is_some_and(|rest| rest.starts_with('_'));
    if !fits
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    {
        note.add(
            &["name"],
            format!("the name '{name}' does not begin with its family"),
            "name it `<family>_<what>`, in a-z, 0-9 and _",
        );
    }
    for (number, tag) in rule.tags.iter().enumerate() {
        if !TAGS.iter().any(|prefix| tag.starts_with(prefix)) {
            let key = number.to_string();
            note.add(
                &["tags", &key],
                format!("unknown tag '{tag}'"),
                format!("use tags that begin with {}", TAGS.join(", ")),
            );
        }
    }
    let id = rule.id.clone().unwrap_or_default();
    if !is_uuid(&id) {
        note.add(&["id"], format!("'{id}' is no UUID"), "make one, for example with `uuidgen`");
    }
    if rule.logsource.category.as_deref() != Some("llm_api")
        || rule.logsource.product.as_deref() != Some("hedgerow")
    {
        note.add(
            &["logsource"],
            "this log source is not ours",
            "write `logsource: {category: llm_api, product: hedgerow}`",
        );
    }
    required(rule, note);
    let status = status(rule, note);
    let weight = weight(rule, note);
    if rule.level.is_none() {
        note.add(&["level"], "no level", "add informational, low, medium, high or critical");
    }
    (note.findings.len() == known).then(|| Signature {
        name,
        id,
        title: rule.title.clone(),
        family,
        status: status.unwrap_or(Status::Stable),
        weight: weight.unwrap_or_default(),
        selections: BTreeMap::new(),
        condition: Condition::All(Vec::new()),
    })
}

fn required(rule: &SigmaRule, note: &mut Note<'_>) {
    let is_blank =
        |text: &Option<String>| text.as_deref().is_none_or(|text| text.trim().is_empty());
    let rows = [
        (
            "description",
            is_blank(&rule.description),
            "say what it finds, why that matters, and who else does it",
        ),
        ("author", is_blank(&rule.author), "name who answers for it"),
        ("date", is_blank(&rule.date), "add the day it was written, as YYYY-MM-DD"),
        ("references", rule.references.is_empty(), "link at least one source"),
        (
            "falsepositives",
            rule.falsepositives.is_empty(),
            "say at least one innocent use that may match",
        ),
    ];
    for (key, is_missing, remedy) in rows {
        if is_missing {
            note.add(&[key], format!("no {key}"), remedy);
        }
    }
}

fn status(rule: &SigmaRule, note: &mut Note<'_>) -> Option<Status> {
    match rule.status {
        Some(SigmaStatus::Stable | SigmaStatus::Deprecated) => Some(Status::Stable),
        Some(SigmaStatus::Test) => Some(Status::Test),
        Some(SigmaStatus::Experimental) => Some(Status::Experimental),
        _ => {
            note.add(
                &["status"],
                "no status that can be used",
                "use stable, test, experimental or deprecated",
            );
            None
        }
    }
}

/// The weight: said, or by level.
fn weight(rule: &SigmaRule, note: &mut Note<'_>) -> Option<f64> {
    let Some(said) = rule.custom_attributes.get(WEIGHT) else {
        return rule.level.map(|level| match level {
            Level::Informational => 0.0,
            Level::Low => 3.0,
            Level::Medium => 7.0,
            Level::High => 13.0,
            Level::Critical => 22.0,
        });
    };
    let weight = said.as_f64().filter(|weight| weight.abs() <= MAX_WEIGHT);
    if weight.is_none() {
        let problem = format!("{WEIGHT} is no number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
        note.add(
            &["custom_attributes", WEIGHT],
            problem,
            "give decibans: 10 is ten times as likely from a harvester",
        );
    }
    weight
}

fn exemplars(rule: &SigmaRule, note: &mut Note<'_>) -> Vec<Exemplar> {
    let key = rsigma_parser::EXEMPLARS_KEY;
    let parsed = match rsigma_parser::exemplars(rule) {
        Ok(parsed) => parsed,
        Err(errors) => {
            for error in errors {
                note.add(
                    &["custom_attributes", key],
                    error.to_string(),
                    "write {name, expect: match | no-match, event: {field: value}}",
                );
            }
            return Vec::new();
        }
    };
    let exemplars: Vec<Exemplar> = parsed
        .into_iter()
        .filter_map(|exemplar| {
            let rsigma_parser::ExemplarPayload::Event(yaml_serde::Value::Mapping(event)) =
                exemplar.payload
            else {
                return None;
            };
            Some(Exemplar {
                name: exemplar.name,
                matches: exemplar.expect == rsigma_parser::Expect::Match,
                event,
            })
        })
        .collect();
    for (matches, word) in [(true, "matching"), (false, "near-miss")] {
        if exemplars.iter().filter(|exemplar| exemplar.matches == matches).count() < 2 {
            note.add(
                &["custom_attributes", key],
                format!("fewer than two {word} exemplars"),
                "add events that show the rule's edges",
            );
        }
    }
    exemplars
}

fn is_uuid(id: &str) -> bool {
    let groups: Vec<&str> = id.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

const SHAPE: &str = "rules/README.md shows the shape of a rule";

/// Where the weight stands.
const WEIGHT: &str = "hedgerow.weight";

/// The heaviest weight; more than this no single request can prove.
const MAX_WEIGHT: f64 = 40.0;

/// The families, whose weights are capped together.
pub const FAMILIES: &[&str] =
    &["elicitation", "synthesis", "grading", "extraction", "provenance", "evasion", "context"];

const TAGS: &[&str] = &["hedgerow.", "atlas.", "attack."];
