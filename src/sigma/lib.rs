//! Turns rule files into a ruleset: reads, checks, tests and builds Sigma rules and `policy.toml`.
//!
//! Only programs that handle rule files depend on this crate: the CLI and the Wasm module, which
//! the console and the Worker's build use. The edge itself loads the bundle that
//! [`Rules::encode_bundle`] returns.

mod attributes;
mod bundle_limits;
mod canonical;
mod correlation;
mod days;
mod detection;
pub mod disguise;
pub mod docs;
mod document;
mod event_sequence;
mod exemplar;
mod families;
mod files;
mod finding;
mod layers;
mod lexicon;
mod list_toml;
mod metadata;
mod modifiers;
mod near;
mod policy_layers;
mod policy_lints;
mod policy_routes;
mod policy_toml;
mod policy_words;
pub mod recorded;
pub mod recorded_line;
pub mod recorded_time;
mod replacements;
mod required_literals;
mod rule;
mod seed_sets;
mod source_map;
mod suggestion;
mod test_correlations;
mod test_signatures;
pub mod toml;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub use canonical::Canonical;
pub use correlation::CorrelationRule;
use document::Diagnostics;
pub use event_sequence::EventSequence;
pub use exemplar::{Exemplar, Verdict};
pub use families::OwnFamily;
pub use files::{is_rule_file, read};
pub use finding::Finding;
use hedgerow_core::rules::policy::Policy;
use hedgerow_core::ruleset;
use hedgerow_core::ruleset::{Bundle, List, Ruleset};
use hedgerow_core::seeds::SeedSet;
pub use layers::{Layer, Override};
pub use lexicon::{ConceptEntry, Lexicon};
use metadata::LayerRights;
pub use metadata::RuleMetadata;
pub use policy_layers::PolicyFiles;
pub use policy_lints::{Lints, lint, lint_layers};
use policy_toml::PolicyNames;
pub use rule::Rule;
use source_map::SourceMap;
pub use test_signatures::{ExemplarResult, exemplar_results, test};

/// A file of the rules directory: a rule, a concept, a list, a seed set, the families or the
/// policy.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// Path below the rules directory, with `/`.
    pub path: String,
    /// Content of the file, with U+FFFD in place of bytes that are not UTF-8.
    pub text: String,
}

/// The content of all layers of rules after all checks: rules, concepts, lists, seed sets, families
/// and policy.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Signatures with their metadata and exemplars, sorted by name. Deprecated signatures are
    /// included.
    pub rules: Vec<Rule>,
    /// Correlations with their metadata and exemplars, sorted by name. Deprecated correlations are
    /// included.
    pub correlations: Vec<CorrelationRule>,
    /// Concepts that the rules may name.
    pub lexicon: Lexicon,
    /// Lists of addresses, accounts or other values, sorted by name.
    pub lists: Vec<List>,
    /// Sets of known prompts that the policy names, sorted by name.
    pub seeds: Vec<SeedSet>,
    /// Families that the layers define, in the order of the layers.
    pub families: Vec<OwnFamily>,
    /// Settings of `policy.toml`, or the defaults.
    pub policy: Policy,
    /// Policy files that contain the tables of lists, such as `[[exemption]]`.
    pub policy_files: PolicyFiles,
    /// Parts of lower layers that upper layers replace, sorted by position.
    pub overrides: Vec<Override>,
    /// SHA-256 of every file, in hexadecimal digits, by path.
    pub sources: BTreeMap<String, String>,
}

/// Checks the files of one directory. The error lists all findings, sorted by position.
pub fn check(files: &[RuleFile]) -> Result<Rules, Vec<Finding>> {
    check_layers(&[Layer { name: "", files }])
}

/// Checks layers of rules, of which the first is the lowest. The error lists all findings, sorted
/// by position.
pub fn check_layers(layers: &[Layer<'_>]) -> Result<Rules, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut names = PolicyNames::default();
    let families = families::read_all(layers, &mut findings);
    names.families = families.iter().map(|family| family.name.clone()).collect();
    let lists = check_lists(layers, &mut names, &mut findings);
    let lexicon = check_lexicon(layers, &mut findings);
    let (mut rules, mut correlations) =
        check_rules(layers, &families, &lexicon, &mut names, &mut findings);
    let mut overrides = replacements::replace_rules(&mut rules, &mut correlations, &mut findings);
    names.add_rules(&rules, &correlations);
    check_uniqueness(&rules, &correlations, &mut findings);
    correlation::resolve(&mut correlations, &rules, &mut findings);
    layers::check_seed_paths(layers, seed_sets::is_seed_file, &mut findings);
    let policy = policy_layers::check_layers(layers, &names, &mut overrides, &mut findings);
    findings.sort();
    findings.dedup();
    overrides.sort();
    match policy {
        Some((policy, policy_files)) if findings.is_empty() => {
            let seeds = seed_sets::load(&policy, layers);
            let sources = digests(layers);
            let rules = Rules {
                rules,
                correlations,
                lexicon,
                lists,
                seeds,
                families,
                policy,
                policy_files,
                overrides,
                sources,
            };
            let finding =
                find_plan_error(&rules).or_else(|| bundle_limits::find_exceeded_limit(&rules));
            finding.map_or(Ok(rules), |finding| Err(vec![finding]))
        }
        _ => Err(findings),
    }
}

/// Returns the SHA-256 of every file, in hexadecimal digits, by path.
fn digests(layers: &[Layer<'_>]) -> BTreeMap<String, String> {
    let digests_of = |layer: &Layer<'_>| {
        let digest =
            |file: &RuleFile| (layer.path(&file.path), ruleset::digest(file.text.as_bytes()));
        layer.files.iter().map(digest).collect::<Vec<_>>()
    };
    layers.iter().flat_map(digests_of).collect()
}

/// Checks the lists, and returns them sorted by name. Adds their names to `names`.
fn check_lists(
    layers: &[Layer<'_>],
    names: &mut PolicyNames,
    findings: &mut Vec<Finding>,
) -> Vec<List> {
    let mut lists = Vec::new();
    for layer in layers {
        for file in layer.files.iter().filter(|file| list_toml::is_list(&file.path)) {
            names.rules.push(list_toml::list_name(&file.path));
            layer.locate(findings, |findings| {
                if check_utf8(file, findings) {
                    list_toml::parse(file, &mut lists, findings);
                }
            });
        }
    }
    lists.sort_by(|a, b| a.name.cmp(&b.name));
    lists
}

/// Checks the concepts, and returns them as a lexicon.
fn check_lexicon(layers: &[Layer<'_>], findings: &mut Vec<Finding>) -> Lexicon {
    let mut lexicon = Lexicon::default();
    for layer in layers {
        for file in layer.files.iter().filter(|file| lexicon::is_concept(&file.path)) {
            layer.locate(findings, |findings| {
                if check_utf8(file, findings) {
                    lexicon::parse(file, &mut lexicon, findings);
                }
            });
        }
    }
    lexicon
}

/// Checks signatures and correlations, and returns them sorted by name. Adds the names of files
/// that cannot be parsed to `names`.
fn check_rules(
    layers: &[Layer<'_>],
    families: &[OwnFamily],
    lexicon: &Lexicon,
    names: &mut PolicyNames,
    findings: &mut Vec<Finding>,
) -> (Vec<Rule>, Vec<CorrelationRule>) {
    let mut rules = Vec::new();
    let mut correlations = Vec::new();
    let is_rule = |path: &str| {
        !files::is_policy(path)
            && path != files::FAMILIES_FILE
            && !list_toml::is_list(path)
            && !lexicon::is_concept(path)
            && !seed_sets::is_seed_file(path)
    };
    for (index, layer) in layers.iter().enumerate() {
        let rights = LayerRights { own_families: families, is_upper: index > 0 };
        for file in layer.files.iter().filter(|file| is_rule(&file.path)) {
            let parsed = layer.locate(findings, |findings| {
                check_utf8(file, findings).then(|| parse(file, lexicon, rights, findings)).flatten()
            });
            let place = |metadata: &mut RuleMetadata| {
                metadata.path = layer.path(&file.path);
                metadata.layer = index;
            };
            match parsed {
                Some(ParsedRule::Signature(mut rule)) => {
                    place(&mut rule.metadata);
                    rules.push(*rule);
                }
                Some(ParsedRule::Correlation(mut rule)) => {
                    place(&mut rule.metadata);
                    correlations.push(*rule);
                }
                // The policy may name a rule that cannot be parsed. The name of this rule must be
                // known, because the policy would otherwise get a finding, too.
                None => names.rules.extend(document::declared_name(&file.text)),
            }
        }
    }
    rules.sort_by(|a, b| a.signature.name.cmp(&b.signature.name));
    correlations.sort_by(|a, b| a.correlation.name.cmp(&b.correlation.name));
    (rules, correlations)
}

impl PolicyNames {
    /// Adds the names and ids of rules.
    fn add_rules(&mut self, rules: &[Rule], correlations: &[CorrelationRule]) {
        let signatures = rules.iter().map(|rule| (&rule.signature.name, &rule.signature.id));
        let correlations =
            correlations.iter().map(|rule| (&rule.correlation.name, &rule.correlation.id));
        for (name, id) in signatures.chain(correlations) {
            self.rules.push(name.clone());
            self.by_id.insert(id.clone(), name.clone());
        }
    }
}

impl Rules {
    /// Returns the id of a signature or a correlation; `None` for a list, which has no id.
    pub fn id_of(&self, name: &str) -> Option<&str> {
        let signature = self.rules.iter().find(|rule| rule.signature.name == name);
        let correlation = self.correlations.iter().find(|rule| rule.correlation.name == name);
        let id = signature.map(|rule| &rule.signature.id);
        id.or(correlation.map(|rule| &rule.correlation.id)).map(String::as_str)
    }

    /// Returns the bundle: rules that are not deprecated, their concepts, lists, seed sets and
    /// policy. The bundle has no serial number and no time; `hedgerow push` adds them.
    pub fn bundle(&self) -> Bundle {
        let active = self.rules.iter().filter(|rule| !rule.is_deprecated());
        let signatures: Vec<_> = active.map(|rule| rule.signature.clone()).collect();
        let correlations = self.correlations.iter().filter(|rule| !rule.metadata.deprecated);
        Bundle {
            concepts: self.lexicon.concepts_of(signatures.iter()),
            correlations: correlations.map(|rule| rule.correlation.clone()).collect(),
            lists: self.lists.clone(),
            seeds: self.seeds.clone(),
            sources: self.sources.clone(),
            ..Bundle::new(self.policy.clone(), signatures)
        }
    }

    /// Returns the bundle as canonical JSON (RFC 8785).
    pub fn encode_bundle(&self) -> Vec<u8> {
        self.bundle().encode()
    }

    /// Compiles the ruleset. Returns an error if the bundle exceeds a limit of the core.
    pub fn ruleset(&self) -> Result<Ruleset, hedgerow_core::Error> {
        Ruleset::load(&self.encode_bundle())
    }
}

/// Reads, checks and tests a directory, and returns the bundle as canonical JSON.
///
/// The error contains all findings, one per line, or the reason why a file cannot be read.
pub fn build(directory: &Path) -> Result<Vec<u8>, String> {
    let files = read(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let format_findings = |findings: Vec<Finding>| {
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let rules = check(&files).map_err(format_findings)?;
    match test(&rules) {
        findings if findings.is_empty() => Ok(rules.encode_bundle()),
        findings => Err(format_findings(findings)),
    }
}

/// Returns whether a file is UTF-8. Adds a finding if it is not; the caller then skips the file.
fn check_utf8(file: &RuleFile, findings: &mut Vec<Finding>) -> bool {
    let invalid_utf8 = files::find_invalid_utf8(file);
    let is_utf8 = invalid_utf8.is_none();
    findings.extend(invalid_utf8);
    is_utf8
}

/// The content of a rule file.
enum ParsedRule {
    Signature(Box<Rule>),
    Correlation(Box<CorrelationRule>),
}

/// Parses and checks a rule file. Returns `None`, with findings, if the file cannot be converted to
/// a rule.
fn parse(
    file: &RuleFile,
    lexicon: &Lexicon,
    rights: LayerRights<'_>,
    findings: &mut Vec<Finding>,
) -> Option<ParsedRule> {
    let previous_findings = findings.len();
    let source_map = SourceMap::new(&file.text);
    let mut diagnostics = Diagnostics { path: &file.path, source_map: &source_map, findings };
    let document = document::read(&file.text, &mut diagnostics)?;
    if document.contains_key("correlation") {
        let rule =
            correlation::parse(file, source_map, &document, rights, previous_findings, findings)?;
        return Some(ParsedRule::Correlation(Box::new(rule)));
    }
    let rule =
        rule::parse(file, source_map, &document, lexicon, rights, previous_findings, findings)?;
    Some(ParsedRule::Signature(Box::new(rule)))
}

/// Compiles all correlations together. Returns the error as a finding at the correlation that the
/// error message names. Returns `None` if there is no error, or if the message names no
/// correlation.
fn find_plan_error(rules: &Rules) -> Option<Finding> {
    let bundle = rules.bundle();
    let error =
        ruleset::compile_plan(bundle.correlations, &bundle.signatures, &rules.policy).err()?;
    let is_named_in_error = |rule: &&CorrelationRule| {
        error.problem().starts_with(&format!("correlation '{}':", rule.correlation.name))
    };
    let rule = rules.correlations.iter().find(is_named_in_error)?;
    Some(rule.metadata.finding(&["correlation"], error.problem(), error.remedy()))
}

/// Adds a finding for each name or id that more than one rule has. In several layers, the finding
/// is at the rule of the upper layer.
fn check_uniqueness(rules: &[Rule], correlations: &[CorrelationRule], findings: &mut Vec<Finding>) {
    let signatures =
        rules.iter().map(|rule| (&rule.signature.name, &rule.signature.id, &rule.metadata));
    let correlations = correlations
        .iter()
        .map(|rule| (&rule.correlation.name, &rule.correlation.id, &rule.metadata));
    let mut identities: Vec<_> = signatures.chain(correlations).collect();
    identities.sort_by_key(|(_, _, metadata)| metadata.layer);
    for (key, index) in [("name", 0), ("id", 1)] {
        let mut seen: HashMap<&str, (&RuleMetadata, &str)> = HashMap::new();
        for (name, id, metadata) in &identities {
            let value = if index == 0 { name } else { id };
            // There already is a finding for a missing value.
            if value.is_empty() {
                continue;
            }
            if let Some((first, first_id)) = seen.insert(value, (metadata, id)) {
                let problem =
                    format!("the {key} '{value}' is not unique: {} has it, too", first.path);
                let mut remedy = format!("give this rule another {key}");
                if first.layer < metadata.layer {
                    remedy.push_str(&format!(
                        ", or replace that rule with `hedgerow.replaces: {first_id}`"
                    ));
                }
                findings.push(metadata.finding(&[key], problem, remedy));
            }
        }
    }
}
