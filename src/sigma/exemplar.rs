//! Exemplars: read with their rule, and tested, each alone and within the full ruleset; the mutation
//! check.

use std::slice;

use rsigma_parser::{EXEMPLARS_KEY, ExemplarPayload, ExemplarRuleKind, ExemplarShapeError, Expect};
use serde::Serialize;
use yaml_serde::{Mapping, Value as Yaml};

use super::document::Note;
use super::{Exemplar, Finding, Rule, Rules, timed};
use crate::explain::Explainer;
use crate::field::{Field, Kind, Name, Place, places};
use crate::matcher::Matcher;
use crate::request::{Request, Value};
use crate::ruleset::Ruleset;
use crate::signature::Condition;

/// Reads a rule's exemplars and checks their events.
pub fn read(document: &Mapping, note: &mut Note<'_>) -> Vec<Exemplar> {
    let own = document.get("custom_attributes").and_then(|own| own.get(EXEMPLARS_KEY));
    for (number, exemplar) in own.and_then(Yaml::as_sequence).into_iter().flatten().enumerate() {
        if let Some(event) = exemplar.get("event").and_then(Yaml::as_mapping) {
            check_event(event, &[&number.to_string(), "event"], note);
        }
    }
    let path = format!("/custom_attributes/{EXEMPLARS_KEY}");
    let parsed =
        own.map(|own| rsigma_parser::parse_exemplars(own, ExemplarRuleKind::Detection, path));
    match parsed.unwrap_or(Ok(Vec::new())) {
        Ok(parsed) => {
            let exemplars: Vec<Exemplar> = parsed.into_iter().filter_map(exemplar).collect();
            count(exemplars.iter().map(|exemplar| exemplar.matches), note);
            exemplars
        }
        Err(errors) => {
            let shape = "write {name, expect: match | no-match, event: {field: value}}";
            note_shape(errors, shape, note);
            Vec::new()
        }
    }
}

/// Notes exemplars that cannot be read.
pub fn note_shape(errors: Vec<ExemplarShapeError>, shape: &str, note: &mut Note<'_>) {
    for error in errors {
        let path: Vec<&str> = error.path.split('/').skip(1).collect();
        let remedy = match error.message.starts_with("duplicate") {
            true => "give it a name of its own",
            false => shape,
        };
        note.add(&path, error.message.as_str(), remedy);
    }
}

/// Notes fields of an event that cannot be read. `place` leads to it from the exemplars.
pub fn check_event(event: &Mapping, place: &[&str], note: &mut Note<'_>) {
    for (field, problem) in Event::new(event).err().unwrap_or_default() {
        let key = [&["custom_attributes", EXEMPLARS_KEY], place, &[field.as_str()]].concat();
        note.add(&key, problem, "see docs/fields.md for names and types");
    }
}

fn exemplar(parsed: rsigma_parser::Exemplar) -> Option<Exemplar> {
    let ExemplarPayload::Event(Yaml::Mapping(event)) = parsed.payload else { return None };
    Some(Exemplar { name: parsed.name, matches: parsed.expect == Expect::Match, event })
}

/// There must be enough of both kinds.
pub fn count(exemplars: impl Iterator<Item = bool> + Clone, note: &mut Note<'_>) {
    for (matches, word) in [(true, "matching"), (false, "near-miss")] {
        if exemplars.clone().filter(|own| *own == matches).count() < 2 {
            note.add(
                &["custom_attributes", EXEMPLARS_KEY],
                format!("fewer than two {word} exemplars"),
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
    let whole = match rules.ruleset() {
        Ok(whole) => whole,
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
    let mut matcher = whole.program().matcher();
    for rule in rules.rules.iter().filter(|rule| !rule.is_retired()) {
        test_rule(rule, &whole, &mut matcher, &mut findings);
    }
    timed::test(rules, &whole, &mut findings);
    findings.sort();
    findings
}

/// How an exemplar comes out by its rule alone.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The rule's file, and where in it the exemplar begins.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// Name of the rule.
    pub rule: String,
    /// Name of the exemplar.
    pub name: String,
    /// Whether it is to match.
    pub expected: bool,
    /// Whether it does.
    pub matches: bool,
}

/// How every exemplar of every detection rule comes out. [`test`] says what is wrong; this, what is right, too.
pub fn verdicts(rules: &Rules) -> Vec<Verdict> {
    let explainer = Explainer::default();
    let of_rule = |rule: &Rule| {
        let of_exemplar = |(number, exemplar): (usize, &Exemplar)| {
            let event = Event::new(&exemplar.event).ok()?;
            let key = ["custom_attributes", EXEMPLARS_KEY, &number.to_string()];
            Some(Verdict {
                path: rule.about.path.clone(),
                line: rule.about.finding(&key, "", "").line,
                rule: rule.signature.name.clone(),
                name: exemplar.name.clone(),
                expected: exemplar.matches,
                matches: explainer.holds(&rule.signature, &event.request(), &event.headers),
            })
        };
        rule.exemplars.iter().enumerate().filter_map(of_exemplar).collect::<Vec<_>>()
    };
    rules.rules.iter().filter(|rule| !rule.is_retired()).flat_map(of_rule).collect()
}

fn test_rule(
    rule: &Rule,
    whole: &Ruleset,
    in_whole: &mut Matcher<'_>,
    findings: &mut Vec<Finding>,
) {
    // `check` has said why, where it does not compile.
    let Ok(alone) = rule.alone() else { return };
    let explainer = Explainer::default();
    let mut by_itself = alone.program().matcher();
    let place =
        whole.signatures().iter().position(|signature| signature.name == rule.signature.name);
    let mut events = Vec::new();
    for (number, exemplar) in rule.exemplars.iter().enumerate() {
        let number = number.to_string();
        let key = ["custom_attributes", EXEMPLARS_KEY, &number];
        // `check` has said why, where it cannot be read.
        let Ok(event) = Event::new(&exemplar.event) else { continue };
        let request = event.request();
        let is_hit = |matcher: &mut Matcher<'_>, ruleset: &Ruleset, place: usize| {
            let headers = ruleset.program().headers(&event.headers);
            matcher.hits(&request, &headers).iter().any(|hit| hit.signature == place)
        };
        let rows = [
            ("alone", is_hit(&mut by_itself, &alone, 0)),
            (
                "by the slow path",
                explainer.explain(&rule.signature, &request, &event.headers).holds,
            ),
            (
                "in the full ruleset",
                place.is_some_and(|place| is_hit(in_whole, whole, place))
                    || place.is_none() && exemplar.matches,
            ),
        ];
        for (how, held) in rows {
            if held != exemplar.matches {
                let is = if held { "matches" } else { "does not match" };
                let problem = format!("exemplar '{}' {is} {how}", exemplar.name);
                findings.push(rule.about.finding(&key, problem, "mend the rule or the exemplar"));
            }
        }
        events.push((exemplar.matches, event));
    }
    mutate(rule, &events, &explainer, findings);
}

/// Leaves out one selection at a time.
fn mutate(
    rule: &Rule,
    events: &[(bool, Event)],
    explainer: &Explainer,
    findings: &mut Vec<Finding>,
) {
    for name in rule.signature.condition.names() {
        let mutant = without(&rule.signature.condition, name);
        let survives = events.iter().all(|(expected, event)| {
            let request = event.request();
            let mut holds = |name: &str| {
                let selection = rule.signature.selections.get(name);
                selection
                    .is_some_and(|test| explainer.selection_holds(test, &request, &event.headers))
            };
            mutant.as_ref().is_none_or(|mutant| mutant.holds(&mut holds)) == *expected
        });
        if survives {
            let problem = format!("no exemplar needs the selection '{name}'");
            findings.push(rule.about.finding(
                &["detection", name],
                problem,
                "add an exemplar that comes out differently without it, or remove it",
            ));
        }
    }
}

/// A condition without a selection; `None` where nothing is left, which then always holds.
fn without(condition: &Condition, name: &str) -> Option<Condition> {
    let each = |parts: &[Condition]| {
        parts.iter().filter_map(|part| without(part, name)).collect::<Vec<_>>()
    };
    let some = |parts: Vec<Condition>, whole: fn(Vec<Condition>) -> Condition| {
        (!parts.is_empty()).then(|| whole(parts))
    };
    match condition {
        Condition::All(parts) => some(each(parts), Condition::All),
        Condition::Any(parts) => some(each(parts), Condition::Any),
        Condition::Not(part) => without(part, name).map(|part| Condition::Not(Box::new(part))),
        Condition::Is(own) => (own != name).then(|| condition.clone()),
    }
}

/// An exemplar's event, by type.
#[derive(Default)]
pub struct Event {
    values: Vec<(Name, Owned)>,
    pub headers: Vec<(String, String)>,
}

enum Owned {
    Text(Place, String),
    Keyword(String),
    Key(String),
    Number(f64),
}

impl Event {
    /// Reads an event; or the fields that cannot be read, and why.
    pub fn new(event: &Mapping) -> Result<Self, Vec<(String, String)>> {
        let mut parsed = Self::default();
        let mut misfits = Vec::new();
        for (name, value) in event {
            let name = name.as_str().unwrap_or_default();
            if let Err(problem) = parsed.add(name, value) {
                misfits.push((name.to_owned(), problem));
            }
        }
        if misfits.is_empty() { Ok(parsed) } else { Err(misfits) }
    }

    fn add(&mut self, name: &str, value: &Yaml) -> Result<(), String> {
        let field =
            Field::parse(name).ok_or_else(|| format!("the event has an unknown field '{name}'"))?;
        let values = match value {
            Yaml::Sequence(values) => values.as_slice(),
            value => slice::from_ref(value),
        };
        for value in values {
            let misfit = || format!("the event's value of '{name}' has the wrong type");
            match (&field, field.kind()) {
                (Field::Header(header), _) => {
                    self.headers.push((header.clone(), scalar(value).ok_or_else(misfit)?));
                }
                (Field::Known(known), kind) => {
                    self.values.push((*known, owned(*known, kind, value).ok_or_else(misfit)?));
                }
            }
        }
        Ok(())
    }

    /// The request that has its values.
    pub fn request(&self) -> Request<'_> {
        Request::from_values(self.values.iter().map(|(name, value)| {
            let value = match value {
                Owned::Text(place, text) => Value::Text(*place, text),
                Owned::Keyword(text) => Value::Keyword(text),
                Owned::Key(text) => Value::Key(text),
                Owned::Number(number) => Value::Number(*number),
            };
            (*name, value)
        }))
    }
}

fn owned(name: Name, kind: Kind, value: &Yaml) -> Option<Owned> {
    Some(match kind {
        Kind::Text => Owned::Text(place(name)?, value.as_str()?.to_owned()),
        Kind::Keyword | Kind::Address => Owned::Keyword(scalar(value)?),
        Kind::Key => Owned::Key(scalar(value)?),
        Kind::Number => Owned::Number(value.as_f64()?),
        Kind::Flag => Owned::Number(f64::from(u8::from(value.as_bool()?))),
    })
}

/// Where a text field's value goes; the union field's goes to the user.
fn place(name: Name) -> Option<Place> {
    let all = [
        Place::User,
        Place::System,
        Place::Assistant,
        Place::Tool,
        Place::Definition,
        Place::Schema,
    ];
    all.into_iter().find(|place| *place as u8 & places(name) != 0)
}

fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
