//! Exemplars: read with their rule, and tested, each alone and within the full ruleset; the mutation
//! check.

use std::slice;

use hedgerow_core::evaluate::explain::Explainer;
use hedgerow_core::extract::{FieldValue, Request};
use hedgerow_core::field::{Field, FieldId, FieldType, Section, sections};
use hedgerow_core::matching::Matcher;
use hedgerow_core::rules::signature::Condition;
use hedgerow_core::ruleset::Ruleset;
use rsigma_parser::{EXEMPLARS_KEY, ExemplarPayload, ExemplarRuleKind, ExemplarShapeError, Expect};
use serde::Serialize;
use yaml_serde::{Mapping, Value as Yaml};

use crate::document::Diagnostics;
use crate::{Exemplar, Finding, Rule, Rules, correlation_exemplar};

/// Reads a rule's exemplars and checks their events.
pub fn read(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Vec<Exemplar> {
    let exemplars_yaml =
        document.get("custom_attributes").and_then(|attributes| attributes.get(EXEMPLARS_KEY));
    for (index, exemplar) in
        exemplars_yaml.and_then(Yaml::as_sequence).into_iter().flatten().enumerate()
    {
        if let Some(event) = exemplar.get("event").and_then(Yaml::as_mapping) {
            check_event(event, &[&index.to_string(), "event"], diagnostics);
        }
    }
    let path = format!("/custom_attributes/{EXEMPLARS_KEY}");
    let parsed = exemplars_yaml
        .map(|yaml| rsigma_parser::parse_exemplars(yaml, ExemplarRuleKind::Detection, path));
    match parsed.unwrap_or(Ok(Vec::new())) {
        Ok(parsed) => {
            let exemplars: Vec<Exemplar> =
                parsed.into_iter().filter_map(convert_exemplar).collect();
            check_exemplar_count(
                exemplars.iter().map(|exemplar| exemplar.should_match),
                diagnostics,
            );
            exemplars
        }
        Err(errors) => {
            let shape = "write {name, expect: match | no-match, event: {field: value}}";
            report_shape_errors(errors, shape, diagnostics);
            Vec::new()
        }
    }
}

/// Notes exemplars that cannot be read.
pub fn report_shape_errors(
    errors: Vec<ExemplarShapeError>,
    shape_remedy: &str,
    diagnostics: &mut Diagnostics<'_>,
) {
    for error in errors {
        let path: Vec<&str> = error.path.split('/').skip(1).collect();
        let remedy = match error.message.starts_with("duplicate") {
            true => "give it a name of its own",
            false => shape_remedy,
        };
        diagnostics.add(&path, error.message.as_str(), remedy);
    }
}

/// Notes fields of an event that cannot be read. `place` leads to it from the exemplars.
pub fn check_event(event: &Mapping, event_path: &[&str], diagnostics: &mut Diagnostics<'_>) {
    for (field, problem) in ExemplarEvent::new(event).err().unwrap_or_default() {
        let key = [&["custom_attributes", EXEMPLARS_KEY], event_path, &[field.as_str()]].concat();
        diagnostics.add(&key, problem, "see docs/fields.md for names and types");
    }
}

fn convert_exemplar(parsed: rsigma_parser::Exemplar) -> Option<Exemplar> {
    let ExemplarPayload::Event(Yaml::Mapping(event)) = parsed.payload else { return None };
    Some(Exemplar { name: parsed.name, should_match: parsed.expect == Expect::Match, event })
}

/// There must be enough of both kinds.
pub fn check_exemplar_count(
    exemplars: impl Iterator<Item = bool> + Clone,
    diagnostics: &mut Diagnostics<'_>,
) {
    for (should_match, kind) in [(true, "matching"), (false, "near-miss")] {
        if exemplars.clone().filter(|expected| *expected == should_match).count() < 2 {
            diagnostics.add(
                &["custom_attributes", EXEMPLARS_KEY],
                format!("fewer than two {kind} exemplars"),
                "add events that show the rule's edges",
            );
        }
    }
}

/// Tests every rule; what fails, by place.
///
/// An exemplar must come out as it says, from the rule alone and from the whole ruleset, and by the
/// slow path too. And no selection may be there for show: without it, some exemplar must come out
/// differently.
pub fn test(rules: &Rules) -> Vec<Finding> {
    let mut findings = Vec::new();
    let full_ruleset = match rules.ruleset() {
        Ok(ruleset) => ruleset,
        Err(error) => {
            let finding = Finding {
                path: "policy.toml".into(),
                line: 1,
                column: 1,
                problem: error.problem().into(),
                remedy: error.remedy().into(),
            };
            return vec![finding];
        }
    };
    let mut matcher = full_ruleset.program().matcher();
    for rule in rules.rules.iter().filter(|rule| !rule.is_deprecated()) {
        test_rule(rule, &full_ruleset, &mut matcher, &mut findings);
    }
    correlation_exemplar::test(rules, &full_ruleset, &mut findings);
    findings.sort();
    findings
}

/// How an exemplar comes out by its rule alone.
#[derive(Clone, Debug, Serialize)]
pub struct ExemplarResult {
    /// The rule's file, and where in it the exemplar begins.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// FieldId of the rule.
    pub rule: String,
    /// FieldId of the exemplar.
    pub name: String,
    /// Whether it is to match.
    pub expected: bool,
    /// Whether it does.
    pub matches: bool,
}

/// How every exemplar of every detection rule comes out. [`test`] says what is wrong; this, what is right, too.
pub fn exemplar_results(rules: &Rules) -> Vec<ExemplarResult> {
    let explainer = Explainer::default();
    let rule_results = |rule: &Rule| {
        let exemplar_result = |(index, exemplar): (usize, &Exemplar)| {
            let event = ExemplarEvent::new(&exemplar.event).ok()?;
            let key = ["custom_attributes", EXEMPLARS_KEY, &index.to_string()];
            Some(ExemplarResult {
                path: rule.metadata.path.clone(),
                line: rule.metadata.finding(&key, "", "").line,
                rule: rule.signature.name.clone(),
                name: exemplar.name.clone(),
                expected: exemplar.should_match,
                matches: explainer.holds(&rule.signature, &event.request(), &event.headers),
            })
        };
        rule.exemplars.iter().enumerate().filter_map(exemplar_result).collect::<Vec<_>>()
    };
    rules.rules.iter().filter(|rule| !rule.is_deprecated()).flat_map(rule_results).collect()
}

fn test_rule(
    rule: &Rule,
    full_ruleset: &Ruleset,
    full_matcher: &mut Matcher<'_>,
    findings: &mut Vec<Finding>,
) {
    // `check` has said why, where it does not compile.
    let Ok(rule_ruleset) = rule.as_ruleset() else { return };
    let explainer = Explainer::default();
    let mut rule_matcher = rule_ruleset.program().matcher();
    let signature_index = full_ruleset
        .signatures()
        .iter()
        .position(|signature| signature.name == rule.signature.name);
    let mut events = Vec::new();
    for (index, exemplar) in rule.exemplars.iter().enumerate() {
        let index = index.to_string();
        let key = ["custom_attributes", EXEMPLARS_KEY, &index];
        // `check` has said why, where it cannot be read.
        let Ok(event) = ExemplarEvent::new(&exemplar.event) else { continue };
        let request = event.request();
        let is_hit = |matcher: &mut Matcher<'_>, ruleset: &Ruleset, signature_index: usize| {
            let headers = ruleset.program().header_bits(&event.headers);
            matcher.hits(&request, &headers).iter().any(|hit| hit.signature == signature_index)
        };
        let rows = [
            ("alone", is_hit(&mut rule_matcher, &rule_ruleset, 0)),
            (
                "by the slow path",
                explainer.explain(&rule.signature, &request, &event.headers).holds,
            ),
            (
                "in the full ruleset",
                signature_index.is_some_and(|signature_index| {
                    is_hit(full_matcher, full_ruleset, signature_index)
                }) || signature_index.is_none() && exemplar.should_match,
            ),
        ];
        for (context, matched) in rows {
            if matched != exemplar.should_match {
                let verb = if matched { "matches" } else { "does not match" };
                let problem = format!("exemplar '{}' {verb} {context}", exemplar.name);
                findings.push(rule.metadata.finding(
                    &key,
                    problem,
                    "mend the rule or the exemplar",
                ));
            }
        }
        events.push((exemplar.should_match, event));
    }
    test_mutations(rule, &events, &explainer, findings);
}

/// Leaves out one selection at a time.
fn test_mutations(
    rule: &Rule,
    events: &[(bool, ExemplarEvent)],
    explainer: &Explainer,
    findings: &mut Vec<Finding>,
) {
    for name in rule.signature.condition.selection_names() {
        let mutant = without_selection(&rule.signature.condition, name);
        let survives = events.iter().all(|(expected, event)| {
            let request = event.request();
            let mut holds = |name: &str| {
                let selection = rule.signature.selections.get(name);
                selection.is_some_and(|selection| {
                    explainer.selection_holds(selection, &request, &event.headers)
                })
            };
            mutant.as_ref().is_none_or(|mutant| mutant.holds(&mut holds)) == *expected
        });
        if survives {
            let problem = format!("no exemplar needs the selection '{name}'");
            findings.push(rule.metadata.finding(
                &["detection", name],
                problem,
                "add an exemplar that comes out differently without it, or remove it",
            ));
        }
    }
}

/// A condition without a selection; `None` where nothing is left, which then always holds.
fn without_selection(condition: &Condition, name: &str) -> Option<Condition> {
    let remaining = |parts: &[Condition]| {
        parts.iter().filter_map(|part| without_selection(part, name)).collect::<Vec<_>>()
    };
    let non_empty = |parts: Vec<Condition>, combine: fn(Vec<Condition>) -> Condition| {
        (!parts.is_empty()).then(|| combine(parts))
    };
    match condition {
        Condition::All(parts) => non_empty(remaining(parts), Condition::All),
        Condition::Any(parts) => non_empty(remaining(parts), Condition::Any),
        Condition::Not(part) => {
            without_selection(part, name).map(|part| Condition::Not(Box::new(part)))
        }
        Condition::Selection(selection) => (selection != name).then(|| condition.clone()),
    }
}

/// An exemplar's event, by type.
#[derive(Default)]
pub struct ExemplarEvent {
    values: Vec<(FieldId, EventValue)>,
    pub headers: Vec<(String, String)>,
}

enum EventValue {
    Text(Section, String),
    Keyword(String),
    Key(String),
    Number(f64),
}

impl ExemplarEvent {
    /// Reads an event; or the fields that cannot be read, and why.
    pub fn new(event: &Mapping) -> Result<Self, Vec<(String, String)>> {
        let mut parsed = Self::default();
        let mut errors = Vec::new();
        for (name, value) in event {
            let name = name.as_str().unwrap_or_default();
            if let Err(problem) = parsed.add(name, value) {
                errors.push((name.to_owned(), problem));
            }
        }
        if errors.is_empty() { Ok(parsed) } else { Err(errors) }
    }

    fn add(&mut self, name: &str, value: &Yaml) -> Result<(), String> {
        let field =
            Field::parse(name).ok_or_else(|| format!("the event has an unknown field '{name}'"))?;
        let values = match value {
            Yaml::Sequence(values) => values.as_slice(),
            value => slice::from_ref(value),
        };
        for value in values {
            let type_error = || format!("the event's value of '{name}' has the wrong type");
            match (&field, field.field_type()) {
                (Field::Header(header), _) => {
                    self.headers.push((header.clone(), scalar(value).ok_or_else(type_error)?));
                }
                (Field::Known(field_id), kind) => {
                    self.values.push((
                        *field_id,
                        event_value(*field_id, kind, value).ok_or_else(type_error)?,
                    ));
                }
            }
        }
        Ok(())
    }

    /// The request that has its values.
    pub fn request(&self) -> Request<'_> {
        Request::from_values(self.values.iter().map(|(field_id, value)| {
            let value = match value {
                EventValue::Text(section, text) => FieldValue::Text(*section, text),
                EventValue::Keyword(text) => FieldValue::Keyword(text),
                EventValue::Key(text) => FieldValue::HashInput(text),
                EventValue::Number(number) => FieldValue::Number(*number),
            };
            (*field_id, value)
        }))
    }
}

fn event_value(field_id: FieldId, kind: FieldType, value: &Yaml) -> Option<EventValue> {
    Some(match kind {
        FieldType::Text => EventValue::Text(section_for(field_id)?, value.as_str()?.to_owned()),
        FieldType::Keyword | FieldType::Address => EventValue::Keyword(scalar(value)?),
        FieldType::Key => EventValue::Key(scalar(value)?),
        FieldType::Number => EventValue::Number(value.as_f64()?),
        FieldType::Flag => EventValue::Number(f64::from(u8::from(value.as_bool()?))),
    })
}

/// Where a text field's value goes; the union field's goes to the user.
fn section_for(field_id: FieldId) -> Option<Section> {
    let candidates = [
        Section::User,
        Section::System,
        Section::Assistant,
        Section::Tool,
        Section::Definition,
        Section::Schema,
    ];
    candidates.into_iter().find(|section| *section as u8 & sections(field_id) != 0)
}

fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
