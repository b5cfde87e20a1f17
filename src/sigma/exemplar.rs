//! Exemplars of a detection rule: test events that the rule must match, or must not match.

use std::slice;

use hedgerow_core::extract::{FieldValue, Request};
use hedgerow_core::field::{Field, FieldId, FieldType, Section, sections};
use rsigma_parser::{EXEMPLARS_KEY, ExemplarPayload, ExemplarRuleKind, ExemplarShapeError, Expect};
use serde::Serialize;
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::{EXEMPLARS_PATH, attribute};
use crate::document::Diagnostics;

/// An event that a rule must match, or must not match.
#[derive(Clone, Debug)]
pub struct Exemplar {
    /// Name, unique within the rule.
    pub name: String,
    /// Expected verdict of the rule.
    pub expected: Verdict,
    /// Values by field name.
    pub event: Mapping,
}

/// The verdict of a rule on an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The rule matches.
    Match,
    /// The rule matches, and a selection that indicates an innocent request (`hedgerow.innocence`)
    /// also holds.
    Innocent,
    /// The rule does not match.
    NoMatch,
}

impl Verdict {
    /// Returns the verdict, given whether the rule matches, and whether a selection that indicates
    /// an innocent request holds.
    pub fn new(matches: bool, is_innocent: bool) -> Self {
        match (matches, is_innocent) {
            (false, _) => Self::NoMatch,
            (true, false) => Self::Match,
            (true, true) => Self::Innocent,
        }
    }
}

/// Parses the exemplars of a rule, and checks their events. If any exemplar has the wrong
/// structure, adds findings, and returns no exemplars.
pub fn read(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Vec<Exemplar> {
    let exemplars_yaml = attribute(document, EXEMPLARS_KEY);
    for (index, exemplar) in
        exemplars_yaml.and_then(Yaml::as_sequence).into_iter().flatten().enumerate()
    {
        if let Some(event) = exemplar.get("event").and_then(Yaml::as_mapping) {
            check_event(event, &[&index.to_string(), "event"], diagnostics);
        }
    }
    let kind = ExemplarRuleKind::Detection;
    let mut exemplars_yaml = exemplars_yaml.cloned();
    let innocent = exemplars_yaml.as_mut().map(replace_innocent).unwrap_or_default();
    match exemplars_yaml.map_or(Ok(Vec::new()), |yaml| parse_shape(&yaml, kind)) {
        Ok(parsed) => {
            let convert = |exemplar: rsigma_parser::Exemplar| {
                let is_innocent = innocent.contains(&exemplar.index);
                convert_exemplar(exemplar, is_innocent)
            };
            let exemplars: Vec<Exemplar> = parsed.into_iter().filter_map(convert).collect();
            let should_match = |exemplar: &Exemplar| exemplar.expected == Verdict::Match;
            check_exemplar_count(exemplars.iter().map(should_match), diagnostics);
            exemplars
        }
        Err(errors) => {
            let shape = "write {name, expect: match | innocent | no-match, event: {field: value}}";
            report_shape_errors(errors, shape, diagnostics);
            Vec::new()
        }
    }
}

/// Parses exemplars, without checking their events. The paths in errors begin at the root of the
/// rule.
pub fn parse_shape(
    yaml: &Yaml,
    kind: ExemplarRuleKind,
) -> Result<Vec<rsigma_parser::Exemplar>, Vec<ExemplarShapeError>> {
    rsigma_parser::parse_exemplars(yaml, kind, format!("/{}", EXEMPLARS_PATH.join("/")))
}

/// Adds a finding for each exemplar with the wrong structure. The remedy is `shape_remedy`, except
/// for a repeated name.
pub fn report_shape_errors(
    errors: Vec<ExemplarShapeError>,
    shape_remedy: &str,
    diagnostics: &mut Diagnostics<'_>,
) {
    for error in errors {
        let path: Vec<&str> = error.path.split('/').skip(1).collect();
        let is_duplicate = error.message.starts_with("duplicate");
        let remedy = if is_duplicate { "give it another name" } else { shape_remedy };
        diagnostics.add(&path, error.message.as_str(), remedy);
    }
}

/// Adds a finding for each invalid field of an event. `event_path` is the path of the event below
/// the exemplars, such as `0/event`.
pub fn check_event(event: &Mapping, event_path: &[&str], diagnostics: &mut Diagnostics<'_>) {
    for (field, problem) in ExemplarEvent::new(event).err().unwrap_or_default() {
        let key = [&EXEMPLARS_PATH, event_path, &[field.as_str()]].concat();
        diagnostics.add(&key, problem, "see docs/fields.md for names and types");
    }
}

/// Replaces the expectation `innocent` by `match`, because Sigma's parser does not accept
/// `innocent`. Returns the positions of the changed exemplars.
fn replace_innocent(exemplars: &mut Yaml) -> Vec<usize> {
    let mut innocent = Vec::new();
    let exemplars = exemplars.as_sequence_mut().into_iter().flatten();
    for (index, exemplar) in exemplars.enumerate() {
        if let Some(expect) = exemplar.get_mut("expect")
            && expect.as_str() == Some("innocent")
        {
            *expect = Expect::Match.as_str().into();
            innocent.push(index);
        }
    }
    innocent
}

/// Converts a parsed exemplar; `None` if its event is not a map.
fn convert_exemplar(parsed: rsigma_parser::Exemplar, is_innocent: bool) -> Option<Exemplar> {
    let ExemplarPayload::Event(Yaml::Mapping(event)) = parsed.payload else { return None };
    let expected = Verdict::new(parsed.expect == Expect::Match, is_innocent);
    Some(Exemplar { name: parsed.name, expected, event })
}

/// Adds a finding if fewer than two exemplars are matching, and one if fewer than two are near
/// misses. `exemplars` yields for each exemplar whether it is matching.
pub fn check_exemplar_count(
    exemplars: impl Iterator<Item = bool> + Clone,
    diagnostics: &mut Diagnostics<'_>,
) {
    for (should_match, kind) in [(true, "matching"), (false, "near-miss")] {
        if exemplars.clone().filter(|expected| *expected == should_match).count() < 2 {
            diagnostics.add(
                &EXEMPLARS_PATH,
                format!("the rule has fewer than two {kind} exemplars"),
                "add events at the limits of the rule",
            );
        }
    }
}

/// The event of an exemplar, with typed values.
#[derive(Clone, Default)]
pub struct ExemplarEvent {
    values: Vec<(FieldId, EventValue)>,
    /// Request headers as name and value.
    pub headers: Vec<(String, String)>,
}

/// A value of an event, with the type of its field.
#[derive(Clone)]
enum EventValue {
    Text(Section, String),
    Keyword(String),
    Key(String),
    Number(f64),
}

impl EventValue {
    fn is_text_of(&self, wanted: Section) -> bool {
        matches!(self, Self::Text(section, _) if *section == wanted)
    }
}

impl ExemplarEvent {
    /// Parses an event. The error lists the invalid fields, each with its problem.
    pub fn new(event: &Mapping) -> Result<Self, Vec<(String, String)>> {
        let mut parsed = Self::default();
        let mut errors = Vec::new();
        for (name, value) in event {
            let name = name.as_str().unwrap_or_default();
            if let Err(problem) = parsed.add_field(name, value) {
                errors.push((name.to_owned(), problem));
            }
        }
        if errors.is_empty() { Ok(parsed) } else { Err(errors) }
    }

    /// Adds the values of one field. Returns an error if the field is unknown, or if a value does
    /// not have the type of the field.
    fn add_field(&mut self, name: &str, value: &Yaml) -> Result<(), String> {
        let field =
            Field::parse(name).ok_or_else(|| format!("the event has an unknown field '{name}'"))?;
        let values = match value {
            Yaml::Sequence(values) => values.as_slice(),
            value => slice::from_ref(value),
        };
        for value in values {
            let type_error = || {
                let expected = field.field_type().name();
                format!("the event's value of '{name}' has the wrong type: expected {expected}")
            };
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

    /// Returns the text of the last message of the user, or else of the last message of the system.
    /// Returns `None` if the event has neither.
    pub fn prompt_mut(&mut self) -> Option<&mut String> {
        let position = self.prompt_position()?;
        match self.values.get_mut(position) {
            Some((_, EventValue::Text(_, text))) => Some(text),
            _ => None,
        }
    }

    /// Removes and returns the text of the last message of the user. Returns `None` if the event
    /// has none.
    pub fn take_prompt(&mut self) -> Option<String> {
        let position = self.prompt_position()?;
        match self.values.get(position) {
            Some((_, EventValue::Text(Section::User, text))) => {
                let text = text.clone();
                self.values.remove(position);
                Some(text)
            }
            _ => None,
        }
    }

    fn prompt_position(&self) -> Option<usize> {
        let last_of =
            |section| self.values.iter().rposition(|(_, value)| value.is_text_of(section));
        last_of(Section::User).or_else(|| last_of(Section::System))
    }

    /// Adds a text in a section, such as the messages of the user.
    pub fn push_text(&mut self, section: Section, text: String) {
        self.values.push((section.field(), EventValue::Text(section, text)));
    }

    /// Sets a field to a number, and removes its other values.
    pub fn set_number(&mut self, field: FieldId, number: f64) {
        self.values.retain(|(other, _)| *other != field);
        self.values.push((field, EventValue::Number(number)));
    }

    /// Adds `addend` to the number in a field. A field without a number counts as 0.
    pub fn add_to_number(&mut self, field: FieldId, addend: f64) {
        let numbers = self.values.iter().filter(|(other, _)| *other == field);
        let sum = numbers.map(|(_, value)| match value {
            EventValue::Number(number) => *number,
            _ => 0.0,
        });
        self.set_number(field, sum.sum::<f64>() + addend);
    }

    /// Returns a request with the values of the event.
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

/// Converts a value to the type of its field. Returns `None` if the value does not have this type.
fn event_value(field_id: FieldId, kind: FieldType, value: &Yaml) -> Option<EventValue> {
    Some(match kind {
        FieldType::Text => EventValue::Text(section_for(field_id)?, value.as_str()?.to_owned()),
        FieldType::Keyword | FieldType::Address => EventValue::Keyword(scalar(value)?),
        FieldType::Key => EventValue::Key(scalar(value)?),
        FieldType::Number => EventValue::Number(value.as_f64()?),
        FieldType::Flag => EventValue::Number(f64::from(u8::from(value.as_bool()?))),
    })
}

/// Returns the section in which an exemplar's text for a field is put: the first of the candidates
/// below that the field includes, beginning with the user's messages. Returns `None` if the field
/// is not text.
fn section_for(field_id: FieldId) -> Option<Section> {
    match field_id {
        FieldId::PromptInstruction | FieldId::PromptExamples => return Some(Section::User),
        FieldId::PromptMaterial => return Some(Section::Tool),
        _ => {}
    }
    let candidates = [
        Section::User,
        Section::System,
        Section::Assistant,
        Section::Tool,
        Section::Definition,
        Section::Schema,
        Section::Attachment,
    ];
    candidates.into_iter().find(|section| *section as u16 & sections(field_id) != 0)
}

/// Returns a string, number or flag as text; `None` for null, lists and maps.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
