//! One Sigma detection rule: metadata, detection and exemplars, checked and turned into a signature.

use rsigma_parser::{EXEMPLARS_KEY, SigmaCollection};
use yaml_serde::{Mapping, Value as Yaml};

use super::about::{self, About, WEIGHT};
use super::document::{self, Note};
use super::place::Places;
use super::{Finding, Source, detection, exemplar};
use crate::error::Error;
use crate::field::{CORRELATED, Field, OUTCOMES};
use crate::policy::Policy;
use crate::ruleset::{Bundle, Ruleset, TRAFFIC};
use crate::signature::{Condition, Op, Signature};

/// A rule: the signature, what its documentation needs, and its exemplars.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The signature.
    pub signature: Signature,
    /// What it says about itself.
    pub about: About,
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
    pub matches: bool,
    /// Field names and values.
    pub event: Mapping,
}

impl Rule {
    /// Whether it is kept for the record only.
    pub fn is_retired(&self) -> bool {
        self.about.retired
    }

    /// A ruleset of this rule alone.
    pub fn alone(&self) -> Result<Ruleset, Error> {
        alone(&self.signature)
    }
}

/// Parses and checks one file.
///
/// What is wrong is noted and taken out, and the rest made into a rule: so all of it is told at once,
/// and the rule's name is known. `None` where there is nothing to make one of. `known` findings are not
/// this file's.
pub fn parse(
    source: &Source,
    places: Places,
    document: &Mapping,
    known: usize,
    findings: &mut Vec<Finding>,
) -> Option<Rule> {
    let mut note = Note { path: &source.path, places: &places, findings };
    let head = about::check(document, &mut note);
    let (mended, is_readable) = mend(document.clone(), &mut note);
    let mended = (note.findings.len() > known).then_some(&mended);
    let pick = |collection: &mut SigmaCollection| collection.rules.pop();
    let rule = document::sigma(&source.text, mended, "detection", pick, &mut note)?;
    let selections = detection::selections(&rule, &mut note);
    let condition =
        is_readable.then(|| detection::condition(&rule, &selections, &mut note)).flatten();
    let condition = condition.unwrap_or(Condition::All(Vec::new()));
    let about::Head { name, id, title, family, status, weight } = head;
    let signature = Signature { name, id, title, family, status, weight, selections, condition };
    of_its_time(&signature, &mut note);
    let exemplars = exemplar::read(document, &mut note);
    if note.findings.len() == known
        && let Err(error) = alone(&signature)
    {
        note.add(&["detection"], error.problem(), error.remedy());
    }
    Some(Rule {
        signature,
        about: About::new(source, places, document),
        condition: rule.detection.condition_strings.join(" or "),
        exemplars,
    })
}

fn alone(signature: &Signature) -> Result<Ruleset, Error> {
    let bundle = Bundle::new(Policy::default(), vec![signature.clone()]);
    Ruleset::new(bundle, String::new())
}

/// Takes out of a document what Sigma's parser would stop at or pass over, and notes it. Also says
/// whether the condition can be read.
fn mend(mut document: Mapping, note: &mut Note<'_>) -> (Mapping, bool) {
    let keys = [about::KEYS, KEYS].concat();
    document.retain(|key, _| about::is_known(key, &[], &keys, note));
    if let Some(Yaml::Mapping(own)) = document.get_mut("custom_attributes") {
        own.retain(|key, _| about::is_known(key, &["custom_attributes"], ATTRIBUTES, note));
    }
    log_source(&mut document, note);
    // That there is none has been noted.
    if document.get("title").is_none_or(|title| !title.is_string()) {
        document.insert("title".into(), "".into());
    }
    let is_readable = detection::mend(&mut document, note);
    (document, is_readable)
}

fn log_source(document: &mut Mapping, note: &mut Note<'_>) {
    let source = document.get("logsource");
    let said = |key: &str| source.and_then(|source| source.get(key)).and_then(Yaml::as_str);
    if said("category") != Some("llm_api") || said("product") != Some("hedgerow") {
        let remedy = "write `logsource: {category: llm_api, product: hedgerow}`";
        note.add(&["logsource"], "this log source is not ours", remedy);
        document.remove("logsource");
    } else if let Some(Yaml::Mapping(source)) = document.get_mut("logsource") {
        source.retain(|key, _| about::is_known(key, &["logsource"], LOG_SOURCE, note));
    }
}

/// Notes tests of what is not known yet when a request is scored; and weights of rules that only select
/// requests for correlations.
fn of_its_time(signature: &Signature, note: &mut Note<'_>) {
    let (mut outcomes, mut others) = (0_usize, 0_usize);
    for (name, test) in &signature.selections {
        test.each(&mut |test| {
            let Field::Known(field) = test.field else { return others = others.saturating_add(1) };
            let key = ["detection", name, field.row().name];
            if CORRELATED.contains(&field) {
                let problem =
                    format!("'{}' is not known while a request is matched", field.row().name);
                note.add(&key, problem, "sum it in a correlation");
            }
            if !OUTCOMES.contains(&field) {
                return others = others.saturating_add(1);
            }
            outcomes = outcomes.saturating_add(1);
            if test.op == Op::Exists(false) {
                let problem = "how a request ended is not known while it is matched";
                note.add(&key, problem, "compare it with a value");
            }
        });
    }
    if outcomes > 0 && others > 0 {
        let problem = "how a request ended is tested together with what it was";
        let remedy = "make two rules, and a correlation over both";
        note.add(&["detection"], problem, remedy);
    }
    let is_traffic = signature.family == TRAFFIC;
    if outcomes > 0 && !is_traffic {
        let remedy = format!("give it the tag hedgerow.{TRAFFIC}");
        note.add(&["tags"], "what is known only afterwards weighs nothing by itself", remedy);
    }
    if is_traffic && signature.weight != 0.0 {
        let remedy = "use level informational, without a weight";
        note.add(&["level"], "what only selects requests for correlations has no weight", remedy);
    }
}

/// What a rule has beside what it says about itself.
const KEYS: &[&str] = &["logsource", "detection"];

const LOG_SOURCE: &[&str] = &["category", "product", "service", "definition"];

const ATTRIBUTES: &[&str] = &[WEIGHT, EXEMPLARS_KEY];
