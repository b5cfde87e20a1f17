//! Parses and checks the metadata of a rule: of a signature or a correlation.

use std::slice;

use hedgerow_core::rules::signature::Status;
use rsigma_parser::{Level, LintRule};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::{
    CORRELATION_ATTRIBUTES, CUSTOM_ATTRIBUTES, INNOCENCE_KEY, MAX_WEIGHT, REPLACES_KEY, WEIGHT_KEY,
    attribute,
};
use crate::document::{Diagnostics, last_line};
use crate::families::{FAMILIES, OwnFamily};
use crate::source_map::SourceMap;
use crate::suggestion::{did_you_mean, replace_unknown};
use crate::{Finding, RuleFile};

/// The metadata of a rule that findings and the documentation need.
#[derive(Clone, Debug)]
pub struct RuleMetadata {
    /// Path of the rule's file, below the rules directory. With several layers, it begins with the
    /// name of the layer.
    pub path: String,
    /// Position of the rule's layer, from 0 for the lowest.
    pub layer: usize,
    /// Id of the rule of a lower layer that this rule replaces.
    pub replaces: Option<String>,
    /// Whether the status is `deprecated`: the rule is kept, but not built.
    pub deprecated: bool,
    /// Description as written, with its line breaks.
    pub description: String,
    /// Level as written, such as `high`.
    pub level: String,
    /// URLs of the sources.
    pub references: Vec<String>,
    /// Benign uses that may match.
    pub false_positives: Vec<String>,
    /// Tags as written, such as `hedgerow.synthesis`.
    pub tags: Vec<String>,
    source_map: SourceMap,
}

/// The metadata that the bundle contains.
pub struct RuleHeader {
    pub name: String,
    pub id: String,
    pub title: String,
    pub family: String,
    pub status: Status,
    pub weight: f64,
    pub innocence: Vec<String>,
}

impl RuleMetadata {
    /// Reads the metadata of a document. Missing texts and lists become empty.
    pub fn new(file: &RuleFile, source_map: SourceMap, document: &Mapping) -> Self {
        Self {
            path: file.path.clone(),
            layer: 0,
            replaces: attribute(document, REPLACES_KEY)
                .map(|id| id.as_str().unwrap_or_default().to_owned()),
            deprecated: text(document, "status") == DEPRECATED,
            description: text(document, "description"),
            level: text(document, "level"),
            references: texts(document, "references"),
            false_positives: texts(document, "falsepositives"),
            tags: texts(document, "tags"),
            source_map,
        }
    }

    /// Creates a finding at the position of a key of the rule, or of its nearest parent that
    /// exists.
    pub fn finding(
        &self,
        key: &[&str],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding::new(&self.path, self.source_map.find(key), problem, remedy)
    }
}

/// The properties of a layer that decide which metadata its rules may have.
#[derive(Clone, Copy)]
pub struct LayerRights<'l> {
    /// Families that the layers define, in addition to [`FAMILIES`].
    pub own_families: &'l [OwnFamily],
    /// Whether the layer is above the lowest one. Its rules need no references, and may have tags
    /// of other namespaces.
    pub is_upper: bool,
}

impl LayerRights<'_> {
    /// Returns the names of all families.
    fn families(&self) -> Vec<&str> {
        let own = self.own_families.iter().map(|family| family.name.as_str());
        FAMILIES.iter().copied().chain(own).collect()
    }
}

/// Checks the metadata of a document, and returns the part that the bundle contains. Invalid values
/// become findings and are replaced by defaults.
pub fn check(
    document: &Mapping,
    rights: LayerRights<'_>,
    diagnostics: &mut Diagnostics<'_>,
) -> RuleHeader {
    check_required(document, rights, diagnostics);
    run_linter(document, diagnostics);
    read_header(document, rights, diagnostics)
}

/// Adds a finding for each required value that is missing or empty.
fn check_required(document: &Mapping, rights: LayerRights<'_>, diagnostics: &mut Diagnostics<'_>) {
    for (key, remedy) in [
        ("title", "name in a few words what the rule finds"),
        ("description", "describe what the rule finds, why that matters, and who else does it"),
        ("author", "name who is responsible for the rule"),
    ] {
        let text = document.get(key).and_then(Yaml::as_str);
        if text.is_none_or(|text| text.trim().is_empty()) {
            diagnostics.add(&[key], format!("no {key}"), remedy);
        }
    }
    for (key, remedy) in [
        ("references", "link at least one source"),
        ("falsepositives", "name at least one benign use that may match"),
    ] {
        let entries = list(document, key);
        if entries.is_empty() && !(rights.is_upper && key == "references") {
            diagnostics.add(&[key], format!("no {key}"), remedy);
        }
        for (index, entry) in entries.iter().enumerate() {
            if entry.as_str().is_none_or(|text| text.trim().len() < 2) {
                diagnostics.add(&[key, &index.to_string()], "this entry is empty", remedy);
            }
        }
    }
    // Only the presence of the date is checked here; Sigma's linter checks its format.
    if !document.contains_key("date") {
        diagnostics.add(
            &["date"],
            "no date",
            "add the day on which the rule was written, as YYYY-MM-DD",
        );
    }
    if list(document, "related").iter().any(|related| !related.is_mapping()) {
        diagnostics.add(&["related"], "a related rule is invalid: expected a map", RELATED_REMEDY);
    }
}

/// Returns the entries of a list; a single value counts as a list with this value.
fn list<'d>(document: &'d Mapping, key: &str) -> &'d [Yaml] {
    match document.get(key) {
        Some(Yaml::Sequence(entries)) => entries.as_slice(),
        Some(entry) => slice::from_ref(entry),
        None => &[],
    }
}

/// Adds the findings of Sigma's linter for which [`lint_remedy`] has a remedy.
fn run_linter(document: &Mapping, diagnostics: &mut Diagnostics<'_>) {
    for warning in rsigma_parser::lint_yaml_value(&Yaml::Mapping(document.clone())) {
        let Some(remedy) = lint_remedy(warning.rule) else { continue };
        let path: Vec<&str> = warning.path.split('/').skip(1).collect();
        diagnostics.add(&path, last_line(&warning.message), remedy);
    }
}

/// Returns the remedy for a finding of the linter. Returns `None` if this module reports the same
/// problem with a position, or if Hedgerow's rules differ from Sigma's (log source, tags).
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
        Lint::DeprecatedWithoutRelated => "name the rule that replaces it under `related`",
        Lint::DuplicateTags | Lint::DuplicateReferences | Lint::DuplicateFields => {
            "remove one of the two"
        }
        _ => return None,
    })
}

/// Returns whether a key below `parent` is allowed. Adds a finding if it is not.
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
    let remedy = if CORRELATION_ATTRIBUTES.contains(&key) {
        format!("put it under `{CUSTOM_ATTRIBUTES}`")
    } else {
        replace_unknown(key, allowed)
    };
    diagnostics.add(&[parent, &[key]].concat(), format!("unknown key '{key}'"), remedy);
    false
}

/// Reads the values that the bundle contains, and adds findings for invalid values.
fn read_header(
    document: &Mapping,
    rights: LayerRights<'_>,
    diagnostics: &mut Diagnostics<'_>,
) -> RuleHeader {
    let family = family(document, rights, diagnostics);
    let name = text(document, "name");
    if !is_valid_name(&name, &family, rights) {
        let problem = format!("the name '{name}' is invalid: expected <family>_<topic>");
        diagnostics.add(&["name"], problem, "use the family of the tags, and a-z, 0-9 and _");
    }
    let id = text(document, "id");
    if !is_uuid(&id) {
        let problem = format!("the id '{id}' is invalid: expected a UUID");
        diagnostics.add(&["id"], problem, "generate one, for example with `uuidgen`");
    }
    let level = level(document);
    if level.is_none() {
        let remedy = "use informational, low, medium, high or critical";
        diagnostics.add(&["level"], "the level is missing or unknown", remedy);
    }
    RuleHeader {
        name,
        id,
        title: text(document, "title"),
        family,
        status: status(document, diagnostics),
        weight: weight(document, level, diagnostics),
        innocence: innocence(document, diagnostics),
    }
}

/// Returns a string of a document; empty if it is missing.
fn text(document: &Mapping, key: &str) -> String {
    document.get(key).and_then(Yaml::as_str).unwrap_or_default().to_owned()
}

/// Returns the strings of a list; other entries are ignored.
fn texts(document: &Mapping, key: &str) -> Vec<String> {
    list(document, key).iter().filter_map(Yaml::as_str).map(str::to_owned).collect()
}

/// Parses the level; `None` if it is missing or invalid.
fn level(document: &Mapping) -> Option<Level> {
    document.get("level")?.as_str()?.parse().ok()
}

/// Checks the tags, and returns the family that the first tag `hedgerow.<family>` names. Without
/// such a tag, adds a finding, and returns an empty string.
fn family(
    document: &Mapping,
    rights: LayerRights<'_>,
    diagnostics: &mut Diagnostics<'_>,
) -> String {
    let tags = list(document, "tags");
    for (index, tag) in tags.iter().enumerate() {
        let tag = tag.as_str().unwrap_or_default();
        if !is_valid_tag(tag, rights) {
            let (key, problem) = (index.to_string(), format!("unknown tag '{tag}'"));
            diagnostics.add(&["tags", &key], problem, tag_suggestion(tag, rights));
        }
    }
    let family =
        tags.iter().filter_map(Yaml::as_str).find_map(|tag| tag.strip_prefix(FAMILY_TAG_PREFIX));
    if family.is_none() {
        let families = rights.families().join(",");
        let remedy = format!("add one of {FAMILY_TAG_PREFIX}{{{families}}}");
        diagnostics.add(&["tags"], "no tag names the family", remedy);
    }
    family.unwrap_or_default().to_owned()
}

/// Returns whether a tag names a family, an ATLAS technique, or an ATT&CK technique or tactic. In
/// an upper layer, also tags of any other namespace are valid.
fn is_valid_tag(tag: &str, rights: LayerRights<'_>) -> bool {
    match tag.split_once('.') {
        Some(("hedgerow", family)) => rights.families().contains(&family),
        Some(("atlas", id)) => id.strip_prefix("aml.").is_some_and(is_technique),
        Some(("attack", id)) => is_technique(id) || is_tactic(id),
        Some((namespace, value)) => rights.is_upper && !namespace.is_empty() && !value.is_empty(),
        None => false,
    }
}

/// Returns whether `id` is a tactic. Underscores are accepted instead of hyphens, because older
/// Sigma versions write tactics with underscores.
fn is_tactic(id: &str) -> bool {
    let id = id.replace('_', "-");
    TACTICS.contains(&id.as_str())
}

/// Returns whether `id` has the form `tNNNN` or `tNNNN.NNN`.
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

/// Returns the remedy for an unknown tag: a similar tag, or the forms of all tags.
fn tag_suggestion(tag: &str, rights: LayerRights<'_>) -> String {
    let families = rights.families();
    let families = families.iter().map(|family| format!("{FAMILY_TAG_PREFIX}{family}"));
    let known_tags: Vec<String> =
        families.chain(TACTICS.iter().map(|tactic| format!("attack.{tactic}"))).collect();
    did_you_mean(tag, known_tags.iter().map(String::as_str)).unwrap_or_else(|| {
        let families = rights.families().join(",");
        format!(
            "use {FAMILY_TAG_PREFIX}{{{families}}}, atlas.aml.tNNNN or attack.tNNNN, or define a \
             family in families.toml"
        )
    })
}

/// Returns whether a name has the form `<family>_<topic>`. If the family is unknown, any prefix is
/// accepted, because there already is a finding for the family.
fn is_valid_name(name: &str, family: &str, rights: LayerRights<'_>) -> bool {
    let has_family_prefix = !rights.families().contains(&family)
        || name.strip_prefix(family).is_some_and(|suffix| suffix.starts_with('_'));
    has_family_prefix
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Returns the status of the rule. A deprecated rule gets the status stable; the bundle does not
/// contain it. A missing or unknown status becomes a finding, and counts as stable.
fn status(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Status {
    match text(document, "status").as_str() {
        "stable" | DEPRECATED => Status::Stable,
        "test" => Status::Test,
        "experimental" => Status::Experimental,
        _ => {
            diagnostics.add(
                &["status"],
                "the status is missing or unknown",
                "use stable, test, experimental or deprecated",
            );
            Status::Stable
        }
    }
}

/// Returns the weight in decibans: the custom attribute `hedgerow.weight`, or else the default of
/// the level. Returns 0, with a finding, if the attribute is invalid, and 0 if neither exists.
fn weight(document: &Mapping, level: Option<Level>, diagnostics: &mut Diagnostics<'_>) -> f64 {
    let Some(value) = attribute(document, WEIGHT_KEY) else {
        return level.map_or(0.0, |level| match level {
            Level::Informational => 0.0,
            Level::Low => 3.0,
            Level::Medium => 7.0,
            Level::High => 13.0,
            Level::Critical => 22.0,
        });
    };
    value.as_f64().filter(|weight| weight.abs() <= MAX_WEIGHT).unwrap_or_else(|| {
        let problem = format!(
            "{WEIGHT_KEY} is invalid: expected a number from -{MAX_WEIGHT} to {MAX_WEIGHT}"
        );
        let remedy = "use decibans: 10 means ten times as likely from a harvester";
        diagnostics.add(&[CUSTOM_ATTRIBUTES, WEIGHT_KEY], problem, remedy);
        0.0
    })
}

/// Returns the names of the selections that indicate an innocent request. Returns an empty list if
/// the attribute is missing or, with a finding, if it is invalid.
fn innocence(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Vec<String> {
    let Some(value) = attribute(document, INNOCENCE_KEY) else { return Vec::new() };
    let names = value.as_sequence().and_then(|names| {
        names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    names.filter(|names| !names.is_empty()).unwrap_or_else(|| {
        let problem = format!("{INNOCENCE_KEY} is invalid: expected a list of selections");
        let remedy = "name the selections that the condition does not name, as in `[docs, code]`";
        diagnostics.add(&[CUSTOM_ATTRIBUTES, INNOCENCE_KEY], problem, remedy);
        Vec::new()
    })
}

fn is_uuid(id: &str) -> bool {
    let groups: Vec<&str> = id.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Sigma's metadata keys that a rule may have. Some have no effect.
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
    CUSTOM_ATTRIBUTES,
];

/// The status of rules that are kept, but not built.
const DEPRECATED: &str = "deprecated";

const RELATED_REMEDY: &str =
    "write {id: UUID, type: derived | obsolete | merged | renamed | similar}";

/// Prefix of the tag that names the family.
const FAMILY_TAG_PREFIX: &str = "hedgerow.";

/// The tactics of MITRE ATT&CK.
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
