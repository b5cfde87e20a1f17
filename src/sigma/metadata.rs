//! What a rule says about itself, be it a signature or a correlation.

use std::slice;

use hedgerow_core::rules::signature::Status;
use hedgerow_core::ruleset::TRAFFIC_FAMILY;
use rsigma_parser::{Level, LintRule};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::{CORRELATION_ATTRIBUTES, WEIGHT_KEY};
use crate::document::{Diagnostics, finding, last_line};
use crate::source_map::SourceMap;
use crate::{Finding, RuleFile};

/// What a rule's documentation needs, and where all of it stands.
#[derive(Clone, Debug)]
pub struct RuleMetadata {
    /// Path of its file.
    pub path: String,
    /// Whether its status is `deprecated`: kept, but not built.
    pub deprecated: bool,
    /// What it finds and why.
    pub description: String,
    /// Sigma's level.
    pub level: String,
    /// Where it comes from.
    pub references: Vec<String>,
    /// Whom it may hit by mistake.
    pub false_positives: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    source_map: SourceMap,
}

/// The part of it that counts.
pub struct RuleHeader {
    pub name: String,
    pub id: String,
    pub title: String,
    pub family: String,
    pub status: Status,
    pub weight: f64,
}

impl RuleMetadata {
    /// Reads what a document says.
    pub fn new(file: &RuleFile, source_map: SourceMap, document: &Mapping) -> Self {
        Self {
            path: file.path.clone(),
            deprecated: text(document, "status") == DEPRECATED,
            description: text(document, "description"),
            level: text(document, "level"),
            references: texts(document, "references"),
            false_positives: texts(document, "falsepositives"),
            tags: texts(document, "tags"),
            source_map,
        }
    }

    /// A finding at a key of this rule.
    pub fn finding(
        &self,
        key: &[&str],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        finding(&self.path, self.source_map.find(key), problem, remedy)
    }
}

/// Checks what a document says.
pub fn check(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> RuleHeader {
    check_required(document, diagnostics);
    run_linter(document, diagnostics);
    read_header(document, diagnostics)
}

/// Notes what is missing of what a rule has to say about itself.
fn check_required(document: &Mapping, diagnostics: &mut Diagnostics<'_>) {
    for (key, remedy) in [
        ("title", "say in a few words what it finds"),
        ("description", "say what it finds, why that matters, and who else does it"),
        ("author", "name who answers for it"),
    ] {
        let text = document.get(key).and_then(Yaml::as_str);
        if text.is_none_or(|text| text.trim().is_empty()) {
            diagnostics.add(&[key], format!("no {key}"), remedy);
        }
    }
    for (key, remedy) in [
        ("references", "link at least one source"),
        ("falsepositives", "say at least one innocent use that may match"),
    ] {
        let entries = list(document, key);
        if entries.is_empty() {
            diagnostics.add(&[key], format!("no {key}"), remedy);
        }
        for (index, entry) in entries.iter().enumerate() {
            if entry.as_str().is_none_or(|text| text.trim().len() < 2) {
                diagnostics.add(&[key, &index.to_string()], "this entry says nothing", remedy);
            }
        }
    }
    // The linter sees to what is in it.
    if !document.contains_key("date") {
        diagnostics.add(&["date"], "no date", "add the day it was written, as YYYY-MM-DD");
    }
    if list(document, "related").iter().any(|related| !related.is_mapping()) {
        diagnostics.add(&["related"], "a related rule is no map", RELATED_REMEDY);
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
fn run_linter(document: &Mapping, diagnostics: &mut Diagnostics<'_>) {
    for warning in rsigma_parser::lint_yaml_value(&Yaml::Mapping(document.clone())) {
        let Some(remedy) = lint_remedy(warning.rule) else { continue };
        let path: Vec<&str> = warning.path.split('/').skip(1).collect();
        diagnostics.add(&path, last_line(&warning.message), remedy);
    }
}

/// What to do about a finding of the linter; `None` where the checks here say it themselves, with a
/// place, or where Sigma's habits are not ours (log source, tags).
fn lint_remedy(rule: LintRule) -> Option<&'static str> {
    use LintRule as Lint;
    Some(match rule {
        Lint::TitleTooLong
        | Lint::NameTooLong
        | Lint::DescriptionTooLong
        | Lint::TaxonomyTooLong => "shorten it",
        Lint::InvalidDate | Lint::InvalidModified => "write a day as YYYY-MM-DD",
        Lint::ModifiedBeforeDate => "correct one of the two days",
        Lint::RelatedMissingRequired | Lint::InvalidRelatedId | Lint::InvalidRelatedType => {
            RELATED_REMEDY
        }
        Lint::DeprecatedWithoutRelated => "name under `related` what takes its place",
        Lint::DuplicateTags | Lint::DuplicateReferences | Lint::DuplicateFields => {
            "remove one of the two"
        }
        _ => return None,
    })
}

/// Whether a key below `above` is known; else it is noted.
pub fn check_key(
    key: &Yaml,
    parent: &[&str],
    allowed: &[&str],
    diagnostics: &mut Diagnostics<'_>,
) -> bool {
    let key = key.as_str().unwrap_or_default();
    if allowed.contains(&key) {
        return true;
    }
    let remedy = match CORRELATION_ATTRIBUTES.contains(&key) {
        true => "put it under `custom_attributes`".to_owned(),
        false => crate::suggestion(key, allowed),
    };
    diagnostics.add(&[parent, &[key]].concat(), format!("unknown key '{key}'"), remedy);
    false
}

/// Checks metadata.
fn read_header(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> RuleHeader {
    let family = family(document, diagnostics);
    let name = text(document, "name");
    if !is_valid_name(&name, &family) {
        diagnostics.add(
            &["name"],
            format!("the name '{name}' does not begin with its family"),
            "name it `<family>_<what>`, in a-z, 0-9 and _",
        );
    }
    let id = text(document, "id");
    if !is_uuid(&id) {
        diagnostics.add(
            &["id"],
            format!("'{id}' is no UUID"),
            "make one, for example with `uuidgen`",
        );
    }
    let level = level(document);
    if level.is_none() {
        let remedy = "use informational, low, medium, high or critical";
        diagnostics.add(&["level"], "no level that is known", remedy);
    }
    RuleHeader {
        name,
        id,
        title: text(document, "title"),
        family,
        status: status(document, diagnostics),
        weight: weight(document, level, diagnostics),
    }
}

/// A text of a document; empty where there is none.
fn text(document: &Mapping, key: &str) -> String {
    document.get(key).and_then(Yaml::as_str).unwrap_or_default().to_owned()
}

/// The texts of a list.
fn texts(document: &Mapping, key: &str) -> Vec<String> {
    list(document, key).iter().filter_map(Yaml::as_str).map(str::to_owned).collect()
}

fn level(document: &Mapping) -> Option<Level> {
    document.get("level")?.as_str()?.parse().ok()
}

/// Checks the tags; the family that one of them names.
fn family(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> String {
    let tags = list(document, "tags");
    for (index, tag) in tags.iter().enumerate() {
        let tag = tag.as_str().unwrap_or_default();
        if !is_valid_tag(tag) {
            let key = index.to_string();
            diagnostics.add(&["tags", &key], format!("unknown tag '{tag}'"), tag_suggestion(tag));
        }
    }
    let family =
        tags.iter().filter_map(Yaml::as_str).find_map(|tag| tag.strip_prefix(FAMILY_TAG_PREFIX));
    if family.is_none() {
        let remedy = format!("add one of {FAMILY_TAG_PREFIX}{{{}}}", FAMILIES.join(","));
        diagnostics.add(&["tags"], "no tag names the family", remedy);
    }
    family.unwrap_or_default().to_owned()
}

fn is_valid_tag(tag: &str) -> bool {
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
    let is_digits = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let Some(number) = id.strip_prefix('t') else { return false };
    match number.split_once('.') {
        Some((number, part)) => is_digits(number, 4) && is_digits(part, 3),
        None => is_digits(number, 4),
    }
}

/// What to write instead of an unknown tag.
fn tag_suggestion(tag: &str) -> String {
    let families = FAMILIES.iter().map(|family| format!("{FAMILY_TAG_PREFIX}{family}"));
    let known_tags: Vec<String> =
        families.chain(TACTICS.iter().map(|tactic| format!("attack.{tactic}"))).collect();
    crate::nearest(tag, known_tags.iter().map(String::as_str)).map_or_else(
        || {
            format!(
                "use {FAMILY_TAG_PREFIX}{{{}}}, atlas.aml.tNNNN or attack.tNNNN",
                FAMILIES.join(",")
            )
        },
        |nearest| format!("did you mean '{nearest}'?"),
    )
}

/// Whether a name is `<family>_<what>`. That a family is unknown has been noted.
fn is_valid_name(name: &str, family: &str) -> bool {
    let has_family_prefix = !FAMILIES.contains(&family)
        || name.strip_prefix(family).is_some_and(|suffix| suffix.starts_with('_'));
    has_family_prefix
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn status(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Status {
    match text(document, "status").as_str() {
        "stable" | DEPRECATED => Status::Stable,
        "test" => Status::Test,
        "experimental" => Status::Experimental,
        _ => {
            diagnostics.add(
                &["status"],
                "no status that can be used",
                "use stable, test, experimental or deprecated",
            );
            Status::Stable
        }
    }
}

/// The weight: said, or by level.
fn weight(document: &Mapping, level: Option<Level>, diagnostics: &mut Diagnostics<'_>) -> f64 {
    let attributes = document.get("custom_attributes");
    let Some(value) = attributes.and_then(|attributes| attributes.get(WEIGHT_KEY)) else {
        return level.map_or(0.0, |level| match level {
            Level::Informational => 0.0,
            Level::Low => 3.0,
            Level::Medium => 7.0,
            Level::High => 13.0,
            Level::Critical => 22.0,
        });
    };
    value.as_f64().filter(|weight| weight.abs() <= MAX_WEIGHT).unwrap_or_else(|| {
        let problem = format!("{WEIGHT_KEY} is no number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
        diagnostics.add(
            &["custom_attributes", WEIGHT_KEY],
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

/// Sigma's keys of every rule, as far as they mean something here or do no harm.
pub const KEYS: &[&str] = &[
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
    "falsepositives",
    "level",
    "license",
    "fields",
    "scope",
    "taxonomy",
    "custom_attributes",
];

/// The status of what is kept for the record only.
const DEPRECATED: &str = "deprecated";

const RELATED_REMEDY: &str =
    "write {id: UUID, type: derived | obsolete | merged | renamed | similar}";

/// The heaviest weight; more than this no single request can prove.
pub const MAX_WEIGHT: f64 = 40.0;

/// What precedes the family in a tag.
const FAMILY_TAG_PREFIX: &str = "hedgerow.";

/// The families, whose weights are capped together.
pub const FAMILIES: &[&str] = &[
    "elicitation",
    "synthesis",
    "grading",
    "extraction",
    "provenance",
    "evasion",
    "context",
    "cluster",
    "account_behavior",
    TRAFFIC_FAMILY,
];

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
