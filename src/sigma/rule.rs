//! One Sigma detection rule: metadata, detection and exemplars, checked and turned into a signature.

use hedgerow_core::error::Error;
use hedgerow_core::field::{CORRELATION_ONLY_FIELDS, Field, RESPONSE_FIELDS};
use hedgerow_core::rules::policy::Policy;
use hedgerow_core::rules::signature::{Comparison, Condition, Signature};
use hedgerow_core::ruleset::{Bundle, Ruleset, TRAFFIC_FAMILY};
use rsigma_parser::{EXEMPLARS_KEY, SigmaCollection};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::WEIGHT_KEY;
use crate::document::Diagnostics;
use crate::metadata::RuleMetadata;
use crate::source_map::SourceMap;
use crate::{Finding, RuleFile, detection, document, exemplar, metadata};

/// A rule: the signature, what its documentation needs, and its exemplars.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The signature.
    pub signature: Signature,
    /// What it says about itself.
    pub metadata: RuleMetadata,
    /// Its condition as written.
    pub condition: String,
    /// Events that it must and must not match.
    pub exemplars: Vec<Exemplar>,
}

/// An event that a rule must, or must not, match.
#[derive(Clone, Debug)]
pub struct Exemplar {
    /// What it shows.
    pub name: String,
    /// Whether the rule must match.
    pub should_match: bool,
    /// Field names and values.
    pub event: Mapping,
}

impl Rule {
    /// Whether it is kept for the record only.
    pub fn is_deprecated(&self) -> bool {
        self.metadata.deprecated
    }

    /// A ruleset of this rule alone.
    pub fn as_ruleset(&self) -> Result<Ruleset, Error> {
        single_signature_ruleset(&self.signature)
    }
}

/// Parses and checks one file.
///
/// What is wrong is noted and taken out, and the rest made into a rule: so all of it is told at once,
/// and the rule's name is known. `None` where there is nothing to make one of. `known` findings are not
/// this file's.
pub fn parse(
    file: &RuleFile,
    source_map: SourceMap,
    document: &Mapping,
    previous_findings: usize,
    findings: &mut Vec<Finding>,
) -> Option<Rule> {
    let mut diagnostics = Diagnostics { path: &file.path, source_map: &source_map, findings };
    let header = metadata::check(document, &mut diagnostics);
    let (stripped, is_readable) = strip_unsupported(document.clone(), &mut diagnostics);
    let stripped = (diagnostics.findings.len() > previous_findings).then_some(&stripped);
    let take_rule = |collection: &mut SigmaCollection| collection.rules.pop();
    let rule =
        document::parse_sigma(&file.text, stripped, "detection", take_rule, &mut diagnostics)?;
    let selections = detection::selections(&rule, &mut diagnostics);
    let condition =
        is_readable.then(|| detection::condition(&rule, &selections, &mut diagnostics)).flatten();
    let condition = condition.unwrap_or(Condition::All(Vec::new()));
    let metadata::RuleHeader { name, id, title, family, status, weight } = header;
    let signature = Signature { name, id, title, family, status, weight, selections, condition };
    check_field_availability(&signature, &mut diagnostics);
    let exemplars = exemplar::read(document, &mut diagnostics);
    if diagnostics.findings.len() == previous_findings
        && let Err(error) = single_signature_ruleset(&signature)
    {
        diagnostics.add(&["detection"], error.problem(), error.remedy());
    }
    Some(Rule {
        signature,
        metadata: RuleMetadata::new(file, source_map, document),
        condition: rule.detection.condition_strings.join(" or "),
        exemplars,
    })
}

fn single_signature_ruleset(signature: &Signature) -> Result<Ruleset, Error> {
    let bundle = Bundle::new(Policy::default(), vec![signature.clone()]);
    Ruleset::new(bundle, String::new())
}

/// Takes out of a document what Sigma's parser would stop at or pass over, and notes it. Also says
/// whether the condition can be read.
fn strip_unsupported(mut document: Mapping, diagnostics: &mut Diagnostics<'_>) -> (Mapping, bool) {
    let keys = [metadata::KEYS, TOP_LEVEL_KEYS].concat();
    document.retain(|key, _| metadata::check_key(key, &[], &keys, diagnostics));
    if let Some(Yaml::Mapping(attributes)) = document.get_mut("custom_attributes") {
        attributes.retain(|key, _| {
            metadata::check_key(key, &["custom_attributes"], RULE_ATTRIBUTES, diagnostics)
        });
    }
    strip_log_source(&mut document, diagnostics);
    // That there is none has been noted.
    if document.get("title").is_none_or(|title| !title.is_string()) {
        document.insert("title".into(), "".into());
    }
    let is_readable = detection::strip_unsupported(&mut document, diagnostics);
    (document, is_readable)
}

fn strip_log_source(document: &mut Mapping, diagnostics: &mut Diagnostics<'_>) {
    let log_source = document.get("logsource");
    let value_of =
        |key: &str| log_source.and_then(|log_source| log_source.get(key)).and_then(Yaml::as_str);
    if value_of("category") != Some("llm_api") || value_of("product") != Some("hedgerow") {
        let remedy = "write `logsource: {category: llm_api, product: hedgerow}`";
        diagnostics.add(&["logsource"], "this log source is not ours", remedy);
        document.remove("logsource");
    } else if let Some(Yaml::Mapping(log_source)) = document.get_mut("logsource") {
        log_source.retain(|key, _| {
            metadata::check_key(key, &["logsource"], LOG_SOURCE_KEYS, diagnostics)
        });
    }
}

/// Notes tests of what is not known yet when a request is scored; and weights of rules that only select
/// requests for correlations.
fn check_field_availability(signature: &Signature, diagnostics: &mut Diagnostics<'_>) {
    let (mut response_tests, mut request_tests) = (0_usize, 0_usize);
    for (name, selection) in &signature.selections {
        selection.for_each_comparison(&mut |test| {
            let Field::Known(field_id) = test.field else {
                return request_tests = request_tests.saturating_add(1);
            };
            let key = ["detection", name, field_id.spec().name];
            if CORRELATION_ONLY_FIELDS.contains(&field_id) {
                let problem =
                    format!("'{}' is not known while a request is matched", field_id.spec().name);
                diagnostics.add(&key, problem, "sum it in a correlation");
            }
            if !RESPONSE_FIELDS.contains(&field_id) {
                return request_tests = request_tests.saturating_add(1);
            }
            response_tests = response_tests.saturating_add(1);
            if test.comparison == Comparison::Exists(false) {
                let problem = "how a request ended is not known while it is matched";
                diagnostics.add(&key, problem, "compare it with a value");
            }
        });
    }
    if response_tests > 0 && request_tests > 0 {
        let problem = "how a request ended is tested together with what it was";
        let remedy = "make two rules, and a correlation over both";
        diagnostics.add(&["detection"], problem, remedy);
    }
    let is_traffic = signature.family == TRAFFIC_FAMILY;
    if response_tests > 0 && !is_traffic {
        let remedy = format!("give it the tag hedgerow.{TRAFFIC_FAMILY}");
        diagnostics.add(
            &["tags"],
            "what is known only afterwards weighs nothing by itself",
            remedy,
        );
    }
    if is_traffic && signature.weight != 0.0 {
        let remedy = "use level informational, without a weight";
        diagnostics.add(
            &["level"],
            "what only selects requests for correlations has no weight",
            remedy,
        );
    }
}

/// What a rule has beside what it says about itself.
const TOP_LEVEL_KEYS: &[&str] = &["logsource", "detection"];

const LOG_SOURCE_KEYS: &[&str] = &["category", "product", "service", "definition"];

const RULE_ATTRIBUTES: &[&str] = &[WEIGHT_KEY, EXEMPLARS_KEY];
