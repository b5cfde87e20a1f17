//! Parses and checks Sigma detection rules, and builds the signatures for the bundle.

use hedgerow_core::error::Error;
use hedgerow_core::field::{CORRELATION_ONLY_FIELDS, Field, RESPONSE_FIELDS};
use hedgerow_core::rules::policy::Policy;
use hedgerow_core::rules::signature::{Comparison, Condition, Signature};
use hedgerow_core::ruleset::{Bundle, Ruleset, TRAFFIC_FAMILY};
use rsigma_parser::{EXEMPLARS_KEY, SigmaCollection};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::{
    CUSTOM_ATTRIBUTES, EXCEPTIONS_KEY, INNOCENCE_KEY, NEAR_KEY, REPLACES_KEY, WEIGHT_KEY, attribute,
};
use crate::disguise::Disguise;
use crate::document::Diagnostics;
use crate::exemplar::Exemplar;
use crate::lexicon::Lexicon;
use crate::metadata::{LayerRights, RuleMetadata};
use crate::source_map::SourceMap;
use crate::suggestion::replace_unknown;
use crate::{Finding, RuleFile, detection, document, exemplar, metadata, near};

/// A detection rule: its signature, its metadata and its exemplars.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Signature as the bundle contains it.
    pub signature: Signature,
    /// Metadata for findings and documentation.
    pub metadata: RuleMetadata,
    /// Condition as written, before quantifiers are expanded.
    pub condition: String,
    /// Test events that the signature must match, or must not match.
    pub exemplars: Vec<Exemplar>,
    /// Names of the disguises under which the signature need not match.
    pub disguise_exceptions: Vec<String>,
}

impl Rule {
    /// Returns whether the rule is deprecated. A deprecated rule is checked and documented, but it
    /// is not in the bundle.
    pub fn is_deprecated(&self) -> bool {
        self.metadata.deprecated
    }

    /// Compiles a ruleset that contains only this rule and the default policy. Returns an error if
    /// the rule exceeds a limit of the core.
    pub fn as_ruleset(&self, lexicon: &Lexicon) -> Result<Ruleset, Error> {
        single_signature_ruleset(&self.signature, lexicon)
    }
}

/// Parses and checks a rule. `findings` already contains `previous_findings` findings of other
/// files.
///
/// Invalid parts become findings and are removed, and the remaining parts are parsed as a rule. So
/// one run reports all findings, and the policy can refer to the rule's name. Returns `None` if
/// Sigma's parser rejects the remaining parts.
pub fn parse(
    file: &RuleFile,
    source_map: SourceMap,
    document: &Mapping,
    lexicon: &Lexicon,
    rights: LayerRights<'_>,
    previous_findings: usize,
    findings: &mut Vec<Finding>,
) -> Option<Rule> {
    let mut diagnostics = Diagnostics { path: &file.path, source_map: &source_map, findings };
    let header = metadata::check(document, rights, &mut diagnostics);
    let (stripped, condition_parses) = strip_unsupported(document.clone(), &mut diagnostics);
    let stripped = (diagnostics.findings.len() > previous_findings).then_some(&stripped);
    let take_rule = |collection: &mut SigmaCollection| collection.rules.pop();
    let rule =
        document::parse_sigma(&file.text, stripped, "detection", take_rule, &mut diagnostics)?;
    let mut selections = detection::selections(&rule, lexicon, &mut diagnostics);
    let metadata::RuleHeader { name, id, title, family, status, weight, innocence } = header;
    let condition = condition_parses
        .then(|| detection::condition(&rule, &selections, &innocence, &mut diagnostics))
        .flatten();
    let condition = condition.unwrap_or(Condition::All(Vec::new()));
    let condition = near::apply(document, lexicon, &mut selections, condition, &mut diagnostics);
    let signature =
        Signature { name, id, title, family, status, weight, selections, condition, innocence };
    check_negations(&signature, &mut diagnostics);
    check_field_availability(&signature, &mut diagnostics);
    let exemplars = exemplar::read(document, &mut diagnostics);
    let disguise_exceptions = disguise_exceptions(document, &mut diagnostics);
    if diagnostics.findings.len() == previous_findings
        && let Err(error) = single_signature_ruleset(&signature, lexicon)
    {
        diagnostics.add(&["detection"], error.problem(), error.remedy());
    }
    Some(Rule {
        signature,
        metadata: RuleMetadata::new(file, source_map, document),
        condition: rule.detection.condition_strings.join(" or "),
        exemplars,
        disguise_exceptions,
    })
}

/// Returns the names of disguises under [`EXCEPTIONS_KEY`]. Adds a finding for each unknown name
/// and each missing reason.
fn disguise_exceptions(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Vec<String> {
    let Some(exceptions) = attribute(document, EXCEPTIONS_KEY) else { return Vec::new() };
    let path = [CUSTOM_ATTRIBUTES, EXCEPTIONS_KEY];
    let Some(exceptions) = exceptions.as_mapping() else {
        let problem =
            format!("{EXCEPTIONS_KEY} is invalid: expected a map of disguises to reasons");
        diagnostics.add(&path, problem, "write {footer: REASON}, for example");
        return Vec::new();
    };
    let known: Vec<&str> = Disguise::all().map(|disguise| disguise.name).collect();
    let mut names = Vec::new();
    for (name, reason) in exceptions {
        let name = name.as_str().unwrap_or_default();
        let path = [&path[..], &[name]].concat();
        if !known.contains(&name) {
            let problem = format!("unknown disguise '{name}'");
            diagnostics.add(&path, problem, replace_unknown(name, &known));
        } else if reason.as_str().is_none_or(|reason| reason.trim().len() < 2) {
            let problem = format!("the exception for the disguise '{name}' has no reason");
            diagnostics.add(&path, problem, "say why the disguise changes what is asked for");
        }
        names.push(name.to_owned());
    }
    names
}

/// Compiles a ruleset of one signature, its concepts and the default policy.
fn single_signature_ruleset(signature: &Signature, lexicon: &Lexicon) -> Result<Ruleset, Error> {
    let concepts = lexicon.concepts_of(std::iter::once(signature));
    let bundle = Bundle { concepts, ..Bundle::new(Policy::default(), vec![signature.clone()]) };
    Ruleset::new(bundle, String::new())
}

/// Removes the parts of a document that Sigma's parser would reject or ignore, and adds a finding
/// for each. Returns the remaining document, and whether its condition can be parsed.
fn strip_unsupported(mut document: Mapping, diagnostics: &mut Diagnostics<'_>) -> (Mapping, bool) {
    let keys = [metadata::KEYS, TOP_LEVEL_KEYS].concat();
    document.retain(|key, _| metadata::check_key(key, &[], &keys, diagnostics));
    if let Some(Yaml::Mapping(attributes)) = document.get_mut(CUSTOM_ATTRIBUTES) {
        attributes.retain(|key, _| {
            metadata::check_key(key, &[CUSTOM_ATTRIBUTES], RULE_ATTRIBUTES, diagnostics)
        });
    }
    strip_log_source(&mut document, diagnostics);
    // Sigma's parser requires a title. There already is a finding for a missing title.
    if document.get("title").is_none_or(|title| !title.is_string()) {
        document.insert("title".into(), "".into());
    }
    let condition_parses = detection::strip_unsupported(&mut document, diagnostics);
    (document, condition_parses)
}

/// Adds a finding if the log source is missing or is not Hedgerow's, and removes it. Otherwise adds
/// a finding for each unknown key of the log source, and removes these keys.
fn strip_log_source(document: &mut Mapping, diagnostics: &mut Diagnostics<'_>) {
    let log_source = document.get("logsource");
    let value_of =
        |key: &str| log_source.and_then(|log_source| log_source.get(key)).and_then(Yaml::as_str);
    if value_of("category") != Some("llm_api") || value_of("product") != Some("hedgerow") {
        let problem = "the log source is unknown: expected category llm_api, product hedgerow";
        let remedy = "write `logsource: {category: llm_api, product: hedgerow}`";
        diagnostics.add(&["logsource"], problem, remedy);
        document.remove("logsource");
    } else if let Some(Yaml::Mapping(log_source)) = document.get_mut("logsource") {
        log_source.retain(|key, _| {
            metadata::check_key(key, &["logsource"], LOG_SOURCE_KEYS, diagnostics)
        });
    }
}

/// Adds a finding for each negated selection that tests a field which the client writes, if the
/// signature adds to the score. Otherwise a client could switch the signature off by writing the
/// words of this selection.
fn check_negations(signature: &Signature, diagnostics: &mut Diagnostics<'_>) {
    if signature.weight <= 0.0 {
        return;
    }
    for name in signature.condition.negated_selection_names() {
        let Some(selection) = signature.selections.get(name) else { continue };
        let mut field = None;
        selection.for_each_comparison(&mut |test| {
            if test.field.is_written_by_client() {
                field.get_or_insert_with(|| test.field.name());
            }
        });
        if let Some(field) = field {
            let problem = format!("'not {name}' tests '{field}', which a client writes");
            let remedy = format!(
                "name the selection under `{INNOCENCE_KEY}` instead, or demand in a selection what \
                 the innocent request lacks"
            );
            diagnostics.add(&["detection", "condition"], problem, remedy);
        }
    }
}

/// Adds findings for comparisons with fields that have no value yet when a request is matched, for
/// rules that test both the request and the response, and for rules on the response outside the
/// family `traffic`. Also adds a finding for a rule of this family with a weight, because such
/// rules only select requests for correlations.
fn check_field_availability(signature: &Signature, diagnostics: &mut Diagnostics<'_>) {
    let (mut response_tests, mut request_tests) = (0_usize, 0_usize);
    for (name, selection) in &signature.selections {
        selection.for_each_comparison(&mut |test| {
            let Field::Known(field_id) = test.field else {
                return request_tests = request_tests.saturating_add(1);
            };
            let key = ["detection", name, field_id.spec().name];
            if CORRELATION_ONLY_FIELDS.contains(&field_id) {
                let name = field_id.spec().name;
                let problem = format!("'{name}' has no value yet while a request is matched");
                diagnostics.add(&key, problem, "sum it in a correlation");
            }
            if !RESPONSE_FIELDS.contains(&field_id) {
                return request_tests = request_tests.saturating_add(1);
            }
            response_tests = response_tests.saturating_add(1);
            if test.comparison == Comparison::Exists(false) {
                let problem = "fields of the response have no value yet while a request is matched";
                diagnostics.add(&key, problem, "compare the field with a value");
            }
        });
    }
    if response_tests > 0 && request_tests > 0 {
        let problem = "the rule tests the request and the response: expected one of the two";
        let remedy = "make two rules, and a correlation over both";
        diagnostics.add(&["detection"], problem, remedy);
    }
    let is_traffic = signature.family == TRAFFIC_FAMILY;
    if response_tests > 0 && !is_traffic {
        let problem = format!(
            "the family of a rule that tests the response is wrong: expected {TRAFFIC_FAMILY}"
        );
        let remedy = format!("give the rule the tag hedgerow.{TRAFFIC_FAMILY}");
        diagnostics.add(&["tags"], problem, remedy);
    }
    if is_traffic && signature.weight != 0.0 {
        let problem = "the weight of a traffic rule is not 0: such rules only select requests";
        diagnostics.add(&["level"], problem, "use level informational, without a weight");
    }
}

/// The keys of a detection rule in addition to the metadata.
const TOP_LEVEL_KEYS: &[&str] = &["logsource", "detection"];

/// Sigma's keys of a log source.
const LOG_SOURCE_KEYS: &[&str] = &["category", "product", "service", "definition"];

/// The custom attributes of a detection rule.
const RULE_ATTRIBUTES: &[&str] =
    &[WEIGHT_KEY, REPLACES_KEY, INNOCENCE_KEY, NEAR_KEY, EXCEPTIONS_KEY, EXEMPLARS_KEY];
