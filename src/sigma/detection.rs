//! Sigma's detection section, turned into selections and a condition.

use std::collections::BTreeMap;

use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Quantifier, SelectorPattern, SigmaParserError,
    SigmaRule, detection_name_matches, parse_condition, parse_field_spec,
};
use yaml_serde::{Mapping, Value as Yaml};

use super::comparison::{self, MODIFIERS, Modifiers, Problem, problem, word};
use super::document::{Note, last_line};
use crate::field::Field;
use crate::signature::{Condition, FieldTest, Op, Test};

/// Takes out of `detection` what Sigma's parser would stop at or pass over, and notes it: so the rest
/// is checked, too. Whether the condition can be read.
pub fn mend(document: &mut Mapping, note: &mut Note<'_>) -> bool {
    let Some(Yaml::Mapping(detection)) = document.get_mut("detection") else {
        let remedy = "name selections and a condition under `detection`";
        note.add(&["detection"], "no detection", remedy);
        let nothing: Mapping = [("condition".into(), READABLE.into())].into_iter().collect();
        document.insert("detection".into(), nothing.into());
        return false;
    };
    if detection.remove("timeframe").is_some() {
        let remedy = "remove it: a rule sees one request";
        note.add(&["detection", "timeframe"], "a timeframe is not supported", remedy);
    }
    for (name, selection) in detection.iter_mut() {
        let name = name.as_str().unwrap_or_default();
        if name != "condition" {
            mend_selection(selection, &["detection", name], note);
        }
    }
    let is_readable = is_readable(detection, note);
    if !is_readable {
        detection.insert("condition".into(), READABLE.into());
    }
    is_readable
}

/// Takes out of a selection the keys that cannot be read, and notes them.
fn mend_selection(selection: &mut Yaml, path: &[&str], note: &mut Note<'_>) {
    match selection {
        Yaml::Mapping(map) if map.is_empty() => {
            note.add(path, "nothing is tested here", "name a field and its values");
        }
        Yaml::Mapping(map) => {
            map.retain(|key, _| is_key(key.as_str().unwrap_or_default(), path, note))
        }
        Yaml::Sequence(parts) => {
            for (number, part) in parts.iter_mut().enumerate() {
                let number = number.to_string();
                mend_selection(part, &[path, &[&number]].concat(), note);
            }
        }
        _ => {}
    }
}

/// Whether the parser can read `field|modifier`; else what is wrong with it is noted.
fn is_key(key: &str, path: &[&str], note: &mut Note<'_>) -> bool {
    let Err(error) = parse_field_spec(key) else { return true };
    let path = [path, &[key]].concat();
    let (problem, remedy) = match &error {
        SigmaParserError::UnknownModifier(word) => {
            (format!("unknown modifier '{word}'"), super::instead(word, MODIFIERS))
        }
        SigmaParserError::NotIsNotAModifier => {
            problem("`not` is no modifier", "negate the selection in the condition")
        }
        _ => (
            last_line(&error.to_string()).to_owned(),
            format!("use one of {}", MODIFIERS.join(", ")),
        ),
    };
    note.add(&path, problem, remedy);
    let name = key.split('|').next().unwrap_or_default();
    if Field::parse(name).is_none() {
        unknown_field(name, &path, note);
    }
    false
}

/// Whether the condition can be read; else why not is noted.
fn is_readable(detection: &Mapping, note: &mut Note<'_>) -> bool {
    let key = ["detection", "condition"];
    let texts: Option<Vec<&str>> = match detection.get("condition") {
        Some(Yaml::Sequence(list)) => list.iter().map(Yaml::as_str).collect(),
        one => one.and_then(Yaml::as_str).map(|text| vec![text]),
    };
    let Some(texts) = texts else {
        let remedy = "join the names of selections, as in `condition: a and not b`";
        note.add(&key, "no condition", remedy);
        return false;
    };
    let errors: Vec<SigmaParserError> =
        texts.into_iter().filter_map(|text| parse_condition(text).err()).collect();
    for error in &errors {
        let remedy =
            "join selections by `and`, `or`, `not`, `1 of x_*`, `all of x_*` and parentheses";
        note.add(&key, unreadable(error), remedy);
    }
    errors.is_empty()
}

/// What a condition's parser says, in words.
fn unreadable(error: &SigmaParserError) -> String {
    let text = error.to_string();
    let words = last_line(&text).trim_start_matches("= ");
    match error.location() {
        Some(at) => format!("the condition cannot be read from its character {}: {words}", at.col),
        None => format!("the condition cannot be read: {words}"),
    }
}

/// The named selections.
pub fn selections(rule: &SigmaRule, note: &mut Note<'_>) -> BTreeMap<String, Test> {
    let mut selections = BTreeMap::new();
    for (name, detection) in &rule.detection.named {
        if let Some(test) = test(detection, &["detection", name], note) {
            selections.insert(name.clone(), test);
        }
    }
    selections
}

/// The condition, with quantifiers spelled out.
pub fn condition(
    rule: &SigmaRule,
    selections: &BTreeMap<String, Test>,
    note: &mut Note<'_>,
) -> Option<Condition> {
    let names: Vec<&String> = rule.detection.named.keys().collect();
    let key = ["detection", "condition"];
    let [expression] = rule.detection.conditions.as_slice() else {
        note.add(&key, "one condition is supported", "join them with `or`");
        return None;
    };
    let mut problems = Vec::new();
    let condition = expand(expression, &names, &mut problems);
    if !problems.is_empty() {
        for (problem, remedy) in problems {
            note.add(&key, problem, remedy);
        }
        return None;
    }
    let used = condition.names();
    for name in &names {
        if !used.contains(&name.as_str()) {
            note.add(
                &["detection", name],
                format!("the selection '{name}' is not used"),
                "use it in the condition or remove it",
            );
        }
    }
    // With nothing at all in a request, only negations and absences hold.
    let mut in_empty = |name: &str| {
        selections
            .get(name)
            .is_some_and(|test| test.holds(&mut |test| test.op == Op::Exists(false)))
    };
    if condition.holds(&mut in_empty) && condition.holds(&mut |_| false) {
        note.add(
            &key,
            "the condition holds for an empty request",
            "require a selection that is not negated",
        );
    }
    Some(condition)
}

/// Spells out quantifiers. What is wrong with the expression is added to `problems`.
fn expand(expression: &ConditionExpr, names: &[&String], problems: &mut Vec<Problem>) -> Condition {
    match expression {
        ConditionExpr::And(parts) => Condition::All(expand_all(parts, names, problems)),
        ConditionExpr::Or(parts) => Condition::Any(expand_all(parts, names, problems)),
        ConditionExpr::Not(part) => Condition::Not(Box::new(expand(part, names, problems))),
        ConditionExpr::Identifier(name) => {
            if !names.contains(&name) {
                problems.push(no_selection(name, names));
            }
            Condition::Is(name.clone())
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let fitting = fitting(pattern, names);
            if fitting.is_empty() {
                problems.push((
                    format!("no selection fits '{pattern}'"),
                    "correct the pattern".to_owned(),
                ));
            }
            match quantifier {
                Quantifier::All => Condition::All(fitting),
                Quantifier::Any | Quantifier::Count(1) => Condition::Any(fitting),
                Quantifier::Count(_) => {
                    problems.push((
                        format!("'{quantifier} of' is not supported"),
                        "use `1 of` or `all of`".to_owned(),
                    ));
                    Condition::Any(fitting)
                }
            }
        }
    }
}

fn expand_all(
    parts: &[ConditionExpr],
    names: &[&String],
    problems: &mut Vec<Problem>,
) -> Vec<Condition> {
    parts.iter().map(|part| expand(part, names, problems)).collect()
}

fn no_selection(name: &str, names: &[&String]) -> Problem {
    let remedy = super::nearest(name, names.iter().map(|name| name.as_str())).map_or_else(
        || "name it under `detection`".to_owned(),
        |nearest| format!("did you mean '{nearest}'?"),
    );
    (format!("there is no selection '{name}'"), remedy)
}

/// The selections that a pattern stands for.
fn fitting(pattern: &SelectorPattern, names: &[&String]) -> Vec<Condition> {
    let fits = |name: &str| match pattern {
        SelectorPattern::Them => !name.starts_with('_'),
        SelectorPattern::Pattern(pattern) => detection_name_matches(pattern, name),
    };
    let mut fitting: Vec<&String> = names.iter().copied().filter(|name| fits(name)).collect();
    fitting.sort();
    fitting.into_iter().map(|name| Condition::Is(name.clone())).collect()
}

fn test(detection: &Detection, path: &[&str], note: &mut Note<'_>) -> Option<Test> {
    match detection {
        Detection::AllOf(items) => {
            let tests: Vec<Option<Test>> =
                items.iter().map(|detection| item(detection, path, note)).collect();
            Some(one_or(tests.into_iter().collect::<Option<Vec<_>>>()?, Test::All))
        }
        Detection::AnyOf(parts) => {
            let mut tests = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                let number = number.to_string();
                tests.push(test(part, &[path, &[&number]].concat(), note));
            }
            Some(one_or(tests.into_iter().collect::<Option<Vec<_>>>()?, Test::Any))
        }
        Detection::Keywords(_) => {
            note.add(
                path,
                "strings without a field are not supported",
                "name the field, such as `gen_ai.input.messages|contains`",
            );
            None
        }
        _ => {
            note.add(
                path,
                "array matching is not supported",
                "a test holds if it holds for any value of the field",
            );
            None
        }
    }
}

fn item(item: &DetectionItem, path: &[&str], note: &mut Note<'_>) -> Option<Test> {
    let name = item.field.name.clone().unwrap_or_default();
    let words: Vec<String> = item.field.modifiers.iter().map(|modifier| word(*modifier)).collect();
    let key = [&[name.clone()][..], &words].concat().join("|");
    let path = [path, &[&key]].concat();
    let field = Field::parse(&name);
    if field.is_none() {
        unknown_field(&name, &path, note);
    }
    let modifiers = Modifiers::new(&item.field.modifiers)
        .and_then(|modifiers| enough(item.values.len(), &modifiers).map(|()| modifiers))
        .map_err(|(problem, remedy)| note.add(&path, problem, remedy));
    let (Some(field), Ok(modifiers)) = (field, modifiers) else { return None };
    let mut tests = Vec::new();
    for (number, value) in item.values.iter().enumerate() {
        match comparison::op(&field, &modifiers, value) {
            Ok(op) => {
                let test = FieldTest { field: field.clone(), op };
                tests.push(Some(Test::Field(Box::new(test))));
            }
            Err((problem, remedy)) => {
                let number = number.to_string();
                note.add(&[&path[..], &[&number]].concat(), problem, remedy);
                tests.push(None);
            }
        }
    }
    let tests = tests.into_iter().collect::<Option<Vec<_>>>()?;
    Some(one_or(tests, if modifiers.all { Test::All } else { Test::Any }))
}

fn unknown_field(name: &str, path: &[&str], note: &mut Note<'_>) {
    let remedy = format!("did you mean '{}'? docs/fields.md lists all", nearest(name));
    note.add(path, format!("unknown field '{name}'"), remedy);
}

/// Whether there are values enough to compare with.
fn enough(values: usize, modifiers: &Modifiers) -> Result<(), Problem> {
    match values {
        0 => Err(problem("no values", "give at least one, or use `|exists`")),
        1 if modifiers.all => {
            Err(problem("`|all` of one value", "remove `|all`, or give more values"))
        }
        _ => Ok(()),
    }
}

fn one_or(mut tests: Vec<Test>, many: impl Fn(Vec<Test>) -> Test) -> Test {
    match (tests.len(), tests.pop()) {
        (1, Some(test)) => test,
        (_, last) => many(tests.into_iter().chain(last).collect()),
    }
}

/// The field whose name shares most with `name`.
fn nearest(name: &str) -> &'static str {
    let shared = |row: &&crate::field::Row| {
        let words: Vec<&str> = row.name.split(['.', '_']).collect();
        name.split(['.', '_']).filter(|word| words.contains(word)).count()
    };
    crate::field::TABLE.iter().max_by_key(shared).map_or("", |row| row.name)
}

/// A condition that is always read, in the place of one that is not.
const READABLE: &str = "all of them";
