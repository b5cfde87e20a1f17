//! One Sigma file: metadata, detection and exemplars, checked and turned into a signature.

use std::collections::BTreeMap;
use std::slice;

use rsigma_parser::{EXEMPLARS_KEY, Level, LintRule, SigmaRule, Status as SigmaStatus};
use saphyr_parser::Parser;
use serde::{Deserialize, Serialize};
use yaml_serde::{Mapping, Value as Yaml};

use super::place::Places;
use super::{Finding, Source, detection, exemplar};
use crate::error::Error;
use crate::policy::Policy;
use crate::ruleset::{Bundle, Ruleset};
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
    pub event: Mapping,
}

impl Rule {
    /// Whether it is kept for the record only.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// A ruleset of this rule alone.
    pub fn alone(&self) -> Result<Ruleset, Error> {
        alone(&self.signature)
    }

    /// A finding at a key of this rule.
    pub fn finding(
        &self,
        key: &[&str],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        finding(&self.path, self.places.find(key), problem, remedy)
    }
}

/// Parses and checks one file.
///
/// What is wrong is noted and taken out, and the rest made into a rule: so all of it is told at once,
/// and the rule's name is known. `None` where there is nothing to make one of.
pub fn parse(source: &Source, findings: &mut Vec<Finding>) -> Option<Rule> {
    let places = Places::new(&source.text);
    let known = findings.len();
    let mut note = Note { path: &source.path, places: &places, findings };
    let document = document(&source.text, &mut note)?;
    if document.contains_key("correlation") {
        note.add(&["correlation"], "correlations are not supported by this version", "remove it");
        return None;
    }
    required(&document, &mut note);
    lint(&document, &mut note);
    let (mended, is_readable) = mend(document.clone(), &mut note);
    // Sigma's parser gets the file as it was written, as long as nothing is wrong with it.
    let rule = if note.findings.len() == known {
        sigma_rule(&source.text, &mut note)?
    } else {
        sigma_rule(&yaml_serde::to_string(&mended).unwrap_or_default(), &mut note)?
    };
    let metadata = metadata(&document, &rule, &mut note);
    let selections = detection::selections(&rule, &mut note);
    let condition =
        is_readable.then(|| detection::condition(&rule, &selections, &mut note)).flatten();
    let condition = condition.unwrap_or(Condition::All(Vec::new()));
    let signature = Signature { selections, condition, ..metadata };
    let exemplars = exemplar::read(&document, &mut note);
    if note.findings.len() == known
        && let Err(error) = alone(&signature)
    {
        note.add(&["detection"], error.problem(), error.remedy());
    }
    Some(Rule {
        signature,
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

/// The name that a file says it has, where the rest of it cannot be read.
pub fn said_name(text: &str) -> Option<String> {
    let name = text.lines().find_map(|line| line.strip_prefix("name:"))?;
    Some(name.trim().trim_matches(['\'', '"']).to_owned())
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
        self.at(self.places.find(key), problem, remedy);
    }

    /// Notes a finding at a line and column.
    fn at(&mut self, place: (usize, usize), problem: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(finding(self.path, place, problem, remedy));
    }
}

fn finding(
    path: &str,
    (line, column): (usize, usize),
    problem: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { path: path.to_owned(), line, column, problem: problem.into(), remedy: remedy.into() }
}

fn alone(signature: &Signature) -> Result<Ruleset, Error> {
    let bundle = Bundle::new(Policy::default(), vec![signature.clone()]);
    Ruleset::new(bundle, String::new())
}

/// The file's first document, if there is one that can be read.
fn document(text: &str, note: &mut Note<'_>) -> Option<Mapping> {
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
    read::<Yaml>(text)
        .or_else(|error| read::<Lenient>(text).and_then(yaml_serde::to_value).map_err(|_| error))
}

fn read<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, yaml_serde::Error> {
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

/// Notes what is missing of what a rule has to say about itself.
fn required(document: &Mapping, note: &mut Note<'_>) {
    for (key, remedy) in [
        ("title", "say in a few words what it finds"),
        ("description", "say what it finds, why that matters, and who else does it"),
        ("author", "name who answers for it"),
    ] {
        let text = document.get(key).and_then(Yaml::as_str);
        if text.is_none_or(|text| text.trim().is_empty()) {
            note.add(&[key], format!("no {key}"), remedy);
        }
    }
    for (key, remedy) in [
        ("references", "link at least one source"),
        ("falsepositives", "say at least one innocent use that may match"),
    ] {
        let entries = list(document, key);
        if entries.is_empty() {
            note.add(&[key], format!("no {key}"), remedy);
        }
        for (number, entry) in entries.iter().enumerate() {
            if entry.as_str().is_none_or(|text| text.trim().len() < 2) {
                note.add(&[key, &number.to_string()], "this entry says nothing", remedy);
            }
        }
    }
    // The linter sees to what is in it.
    if !document.contains_key("date") {
        note.add(&["date"], "no date", "add the day it was written, as YYYY-MM-DD");
    }
    if list(document, "related").iter().any(|related| !related.is_mapping()) {
        note.add(&["related"], "a related rule is no map", RELATED);
    }
}

/// The entries of a list; a single value is a list of one.
fn list<'d>(document: &'d Mapping, key: &str) -> &'d [Yaml] {
    match document.get(key) {
        Some(Yaml::Sequence(entries)) => entries.as_slice(),
        Some(entry) => slice::from_ref(entry),
        None => &[],
    }
}

/// Notes what Sigma's linter finds in the metadata.
fn lint(document: &Mapping, note: &mut Note<'_>) {
    for warning in rsigma_parser::lint_yaml_value(&Yaml::Mapping(document.clone())) {
        let Some(remedy) = advice(warning.rule) else { continue };
        let path: Vec<&str> = warning.path.split('/').skip(1).collect();
        note.add(&path, last_line(&warning.message), remedy);
    }
}

/// What to do about a finding of the linter; `None` where the checks here say it themselves, with a
/// place, or where Sigma's habits are not ours (log source, tags).
fn advice(rule: LintRule) -> Option<&'static str> {
    use LintRule as Lint;
    Some(match rule {
        Lint::TitleTooLong
        | Lint::NameTooLong
        | Lint::DescriptionTooLong
        | Lint::TaxonomyTooLong => "shorten it",
        Lint::InvalidDate | Lint::InvalidModified => "write a day as YYYY-MM-DD",
        Lint::ModifiedBeforeDate => "correct one of the two days",
        Lint::RelatedMissingRequired | Lint::InvalidRelatedId | Lint::InvalidRelatedType => RELATED,
        Lint::DeprecatedWithoutRelated => "name under `related` what takes its place",
        Lint::DuplicateTags | Lint::DuplicateReferences | Lint::DuplicateFields => {
            "remove one of the two"
        }
        _ => return None,
    })
}

/// Takes out of a document what Sigma's parser would stop at or pass over, and notes it. Also says
/// whether the condition can be read.
fn mend(mut document: Mapping, note: &mut Note<'_>) -> (Mapping, bool) {
    document.retain(|key, _| is_known(key, &[], KEYS, note));
    if let Some(Yaml::Mapping(own)) = document.get_mut("custom_attributes") {
        own.retain(|key, _| is_known(key, &["custom_attributes"], ATTRIBUTES, note));
    }
    log_source(&mut document, note);
    // That there is none has been noted.
    if document.get("title").is_none_or(|title| !title.is_string()) {
        document.insert("title".into(), "".into());
    }
    let is_readable = detection::mend(&mut document, note);
    (document, is_readable)
}

/// Whether a key below `above` is known; else it is noted.
fn is_known(key: &Yaml, above: &[&str], known: &[&str], note: &mut Note<'_>) -> bool {
    let key = key.as_str().unwrap_or_default();
    if known.contains(&key) {
        return true;
    }
    let remedy = match ATTRIBUTES.contains(&key) {
        true => "put it under `custom_attributes`".to_owned(),
        false => super::instead(key, known),
    };
    note.add(&[above, &[key]].concat(), format!("unknown key '{key}'"), remedy);
    false
}

fn log_source(document: &mut Mapping, note: &mut Note<'_>) {
    let source = document.get("logsource");
    let said = |key: &str| source.and_then(|source| source.get(key)).and_then(Yaml::as_str);
    if said("category") != Some("llm_api") || said("product") != Some("hedgerow") {
        let remedy = "write `logsource: {category: llm_api, product: hedgerow}`";
        note.add(&["logsource"], "this log source is not ours", remedy);
        document.remove("logsource");
    } else if let Some(Yaml::Mapping(source)) = document.get_mut("logsource") {
        source.retain(|key, _| is_known(key, &["logsource"], LOG_SOURCE, note));
    }
}

/// The rule as Sigma's parser has it.
fn sigma_rule(text: &str, note: &mut Note<'_>) -> Option<SigmaRule> {
    let problem = match rsigma_parser::parse_sigma_yaml(text) {
        Ok(mut collection) => match collection.rules.pop() {
            Some(rule) => return Some(rule),
            None => collection.errors.join("; "),
        },
        Err(error) => error.to_string(),
    };
    note.add(&["detection"], last_line(&problem), SHAPE);
    None
}

/// Checks metadata; the signature without its detection.
fn metadata(document: &Mapping, rule: &SigmaRule, note: &mut Note<'_>) -> Signature {
    let family = family(document, note);
    let name = rule.name.clone().unwrap_or_default();
    if !is_name(&name, &family) {
        note.add(
            &["name"],
            format!("the name '{name}' does not begin with its family"),
            "name it `<family>_<what>`, in a-z, 0-9 and _",
        );
    }
    let id = rule.id.clone().unwrap_or_default();
    if !is_uuid(&id) {
        note.add(&["id"], format!("'{id}' is no UUID"), "make one, for example with `uuidgen`");
    }
    if rule.level.is_none() {
        let remedy = "use informational, low, medium, high or critical";
        note.add(&["level"], "no level that is known", remedy);
    }
    Signature {
        name,
        id,
        title: rule.title.clone(),
        family,
        status: status(rule, note),
        weight: weight(rule, note),
        selections: BTreeMap::new(),
        condition: Condition::All(Vec::new()),
    }
}

/// Checks the tags; the family that one of them names.
fn family(document: &Mapping, note: &mut Note<'_>) -> String {
    let tags = list(document, "tags");
    for (number, tag) in tags.iter().enumerate() {
        let tag = tag.as_str().unwrap_or_default();
        if !is_tag(tag) {
            let key = number.to_string();
            note.add(&["tags", &key], format!("unknown tag '{tag}'"), other_tag(tag));
        }
    }
    let family = tags.iter().filter_map(Yaml::as_str).find_map(|tag| tag.strip_prefix(FAMILY));
    if family.is_none() {
        let remedy = format!("add one of {FAMILY}{{{}}}", FAMILIES.join(","));
        note.add(&["tags"], "no tag names the family", remedy);
    }
    family.unwrap_or_default().to_owned()
}

fn is_tag(tag: &str) -> bool {
    match tag.split_once('.') {
        Some(("hedgerow", family)) => FAMILIES.contains(&family),
        Some(("atlas", id)) => id.strip_prefix("aml.").is_some_and(is_technique),
        Some(("attack", id)) => is_technique(id) || is_tactic(id),
        _ => false,
    }
}

/// Sigma writes tactics with hyphens, and did so with underscores.
fn is_tactic(id: &str) -> bool {
    let id = id.replace('_', "-");
    TACTICS.contains(&id.as_str())
}

/// `tNNNN` or `tNNNN.NNN`.
fn is_technique(id: &str) -> bool {
    let is_number = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let Some(number) = id.strip_prefix('t') else { return false };
    match number.split_once('.') {
        Some((number, part)) => is_number(number, 4) && is_number(part, 3),
        None => is_number(number, 4),
    }
}

/// What to write instead of an unknown tag.
fn other_tag(tag: &str) -> String {
    let families = FAMILIES.iter().map(|family| format!("{FAMILY}{family}"));
    let known: Vec<String> =
        families.chain(TACTICS.iter().map(|tactic| format!("attack.{tactic}"))).collect();
    super::nearest(tag, known.iter().map(String::as_str)).map_or_else(
        || format!("use {FAMILY}{{{}}}, atlas.aml.tNNNN or attack.tNNNN", FAMILIES.join(",")),
        |nearest| format!("did you mean '{nearest}'?"),
    )
}

/// Whether a name is `<family>_<what>`. That a family is unknown has been noted.
fn is_name(name: &str, family: &str) -> bool {
    let fits = !FAMILIES.contains(&family)
        || name.strip_prefix(family).is_some_and(|rest| rest.starts_with('_'));
    fits && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn status(rule: &SigmaRule, note: &mut Note<'_>) -> Status {
    match rule.status {
        Some(SigmaStatus::Stable | SigmaStatus::Deprecated) => Status::Stable,
        Some(SigmaStatus::Test) => Status::Test,
        Some(SigmaStatus::Experimental) => Status::Experimental,
        _ => {
            note.add(
                &["status"],
                "no status that can be used",
                "use stable, test, experimental or deprecated",
            );
            Status::Stable
        }
    }
}

/// The weight: said, or by level.
fn weight(rule: &SigmaRule, note: &mut Note<'_>) -> f64 {
    let Some(said) = rule.custom_attributes.get(WEIGHT) else {
        return rule.level.map_or(0.0, |level| match level {
            Level::Informational => 0.0,
            Level::Low => 3.0,
            Level::Medium => 7.0,
            Level::High => 13.0,
            Level::Critical => 22.0,
        });
    };
    said.as_f64().filter(|weight| weight.abs() <= MAX_WEIGHT).unwrap_or_else(|| {
        let problem = format!("{WEIGHT} is no number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
        note.add(
            &["custom_attributes", WEIGHT],
            problem,
            "give decibans: 10 is ten times as likely from a harvester",
        );
        0.0
    })
}

fn is_uuid(id: &str) -> bool {
    let groups: Vec<&str> = id.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// The last line of a message: parsers draw a picture first.
pub fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default().trim()
}

const SHAPE: &str = "rules/README.md shows the shape of a rule";

const RELATED: &str = "write {id: UUID, type: derived | obsolete | merged | renamed | similar}";

/// Sigma's keys of a rule, as far as they mean something here or do no harm.
const KEYS: &[&str] = &[
    "title",
    "id",
    "name",
    "related",
    "status",
    "description",
    "references",
    "author",
    "date",
    "modified",
    "tags",
    "logsource",
    "detection",
    "falsepositives",
    "level",
    "license",
    "fields",
    "scope",
    "taxonomy",
    "custom_attributes",
];

const LOG_SOURCE: &[&str] = &["category", "product", "service", "definition"];

const ATTRIBUTES: &[&str] = &[WEIGHT, EXEMPLARS_KEY];

/// Where the weight stands.
const WEIGHT: &str = "hedgerow.weight";

/// The heaviest weight; more than this no single request can prove.
pub const MAX_WEIGHT: f64 = 40.0;

/// What precedes the family in a tag.
const FAMILY: &str = "hedgerow.";

/// The families, whose weights are capped together.
pub const FAMILIES: &[&str] =
    &["elicitation", "synthesis", "grading", "extraction", "provenance", "evasion", "context"];

/// ATT&CK's tactics.
const TACTICS: &[&str] = &[
    "reconnaissance",
    "resource-development",
    "initial-access",
    "execution",
    "persistence",
    "privilege-escalation",
    "defense-evasion",
    "credential-access",
    "discovery",
    "lateral-movement",
    "collection",
    "command-and-control",
    "exfiltration",
    "impact",
];
