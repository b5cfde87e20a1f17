//! Exemplars: read with their rule, and tested, each alone and within the full ruleset; the mutation
//! check.

use std::slice;

use hedgerow_core::extract::{FieldValue, Request};
use hedgerow_core::field::{Field, FieldId, FieldType, Section, sections};
use rsigma_parser::{EXEMPLARS_KEY, ExemplarPayload, ExemplarRuleKind, ExemplarShapeError, Expect};
use yaml_serde::{Mapping, Value as Yaml};

use crate::Exemplar;
use crate::document::Diagnostics;

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
