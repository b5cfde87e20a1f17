//! Parses the `detection` section of a rule: its selections and its condition.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hedgerow_core::field::{FIELDS, Field, FieldSpec};
use hedgerow_core::rules::signature::{Comparison, Condition, FieldComparison, Selection};
use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Quantifier, SelectorPattern, SigmaParserError,
    SigmaRule, detection_name_matches, parse_condition, parse_field_spec,
};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::{CUSTOM_ATTRIBUTES, INNOCENCE_KEY};
use crate::document::{Diagnostics, last_line};
use crate::lexicon::Lexicon;
use crate::modifiers;
use crate::modifiers::{Modifiers, Problem, SUPPORTED_MODIFIERS, modifier_name};
use crate::suggestion::{did_you_mean, replace_unknown};

/// Removes the parts of `detection` that Sigma's parser would reject or ignore, so that the other
/// parts can still be checked. Adds a finding for each removed part. Returns whether the condition
/// can be parsed.
pub fn strip_unsupported(document: &mut Mapping, diagnostics: &mut Diagnostics<'_>) -> bool {
    let Some(Yaml::Mapping(detection)) = document.get_mut("detection") else {
        let remedy = "name selections and a condition under `detection`";
        diagnostics.add(&["detection"], "no detection", remedy);
        let placeholder: Mapping =
            [("condition".into(), PLACEHOLDER_CONDITION.into())].into_iter().collect();
        document.insert("detection".into(), placeholder.into());
        return false;
    };
    if detection.remove("timeframe").is_some() {
        let remedy = "remove it, or write a correlation: a rule matches single requests";
        diagnostics.add(&["detection", "timeframe"], "a timeframe is not supported", remedy);
    }
    for (name, selection) in detection.iter_mut() {
        let name = name.as_str().unwrap_or_default();
        if name != "condition" {
            strip_selection(selection, &["detection", name], diagnostics);
        }
    }
    let condition_parses = check_condition_syntax(detection, diagnostics);
    if !condition_parses {
        detection.insert("condition".into(), PLACEHOLDER_CONDITION.into());
    }
    condition_parses
}

/// Removes the unreadable keys of a selection, and adds a finding for each. Also adds a finding if
/// the selection is empty.
fn strip_selection(selection: &mut Yaml, path: &[&str], diagnostics: &mut Diagnostics<'_>) {
    match selection {
        Yaml::Mapping(map) if map.is_empty() => {
            diagnostics.add(path, "the selection is empty", "name a field and its values");
        }
        Yaml::Mapping(map) => map
            .retain(|key, _| check_field_spec(key.as_str().unwrap_or_default(), path, diagnostics)),
        Yaml::Sequence(parts) => {
            for (index, part) in parts.iter_mut().enumerate() {
                let index = index.to_string();
                strip_selection(part, &[path, &[&index]].concat(), diagnostics);
            }
        }
        _ => {}
    }
}

/// Returns whether Sigma's parser accepts a key of the form `field|modifier`. Adds findings if it
/// does not.
fn check_field_spec(key: &str, path: &[&str], diagnostics: &mut Diagnostics<'_>) -> bool {
    let Err(error) = parse_field_spec(key) else { return true };
    let path = [path, &[key]].concat();
    let problem = match &error {
        SigmaParserError::UnknownModifier(modifier) => Problem::new(
            format!("unknown modifier '{modifier}'"),
            replace_unknown(modifier, SUPPORTED_MODIFIERS),
        ),
        SigmaParserError::NotIsNotAModifier => {
            Problem::new("`not` is not a modifier", "negate the selection in the condition")
        }
        _ => Problem::new(
            last_line(&error.to_string()),
            format!("use one of {}", SUPPORTED_MODIFIERS.join(", ")),
        ),
    };
    diagnostics.add(&path, problem.message, problem.remedy);
    let name = key.split('|').next().unwrap_or_default();
    if Field::parse(name).is_none() {
        report_unknown_field(name, &path, diagnostics);
    }
    false
}

/// Returns whether the condition can be parsed. Adds findings if it cannot.
fn check_condition_syntax(detection: &Mapping, diagnostics: &mut Diagnostics<'_>) -> bool {
    let key = ["detection", "condition"];
    let texts: Option<Vec<&str>> = match detection.get("condition") {
        Some(Yaml::Sequence(list)) => list.iter().map(Yaml::as_str).collect(),
        value => value.and_then(Yaml::as_str).map(|text| vec![text]),
    };
    let Some(texts) = texts else {
        let remedy = "join the names of selections, as in `condition: a and not b`";
        diagnostics.add(&key, "no condition", remedy);
        return false;
    };
    let errors: Vec<SigmaParserError> =
        texts.into_iter().filter_map(|text| parse_condition(text).err()).collect();
    for error in &errors {
        let remedy =
            "join selections by `and`, `or`, `not`, `1 of x_*`, `all of x_*` and parentheses";
        diagnostics.add(&key, describe_condition_error(error), remedy);
    }
    errors.is_empty()
}

/// Formats an error in a condition, with the position in the condition if the parser reports it.
fn describe_condition_error(error: &SigmaParserError) -> String {
    let text = error.to_string();
    let message = last_line(&text).trim_start_matches("= ");
    match error.location() {
        Some(location) => {
            format!("the condition is invalid at its character {}: {message}", location.col)
        }
        None => format!("the condition is invalid: {message}"),
    }
}

/// Converts the selections, and returns them by name. An invalid selection becomes a finding, and
/// is left out.
pub fn selections(
    rule: &SigmaRule,
    lexicon: &Lexicon,
    diagnostics: &mut Diagnostics<'_>,
) -> BTreeMap<String, Selection> {
    let mut selections = BTreeMap::new();
    for (name, detection) in &rule.detection.named {
        if let Some(selection) = selection(detection, &["detection", name], lexicon, diagnostics) {
            selections.insert(name.clone(), selection);
        }
    }
    selections
}

/// Converts the condition, and expands its quantifiers. Returns `None`, with findings, if it is
/// invalid. `innocence` contains the names of the selections that indicate an innocent request.
pub fn condition(
    rule: &SigmaRule,
    selections: &BTreeMap<String, Selection>,
    innocence: &[String],
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Condition> {
    let names: Vec<&String> = rule.detection.named.keys().collect();
    let key = ["detection", "condition"];
    let [expression] = rule.detection.conditions.as_slice() else {
        diagnostics.add(&key, "the rule has several conditions: expected one", "join them by `or`");
        return None;
    };
    let mut problems = Vec::new();
    let condition = expand(expression, &names, &mut problems);
    if !problems.is_empty() {
        for Problem { message, remedy } in problems {
            diagnostics.add(&key, message, remedy);
        }
        return None;
    }
    check_uses(&condition, &names, innocence, diagnostics);
    // The condition is evaluated for an empty request, in which only comparisons `|exists: false`
    // hold, and for a request in which no selection holds. If both evaluations return true, the
    // condition needs no content.
    let mut holds_for_empty = |name: &str| {
        selections.get(name).is_some_and(|selection| {
            selection.holds(&mut |test| test.comparison == Comparison::Exists(false))
        })
    };
    if condition.holds(&mut holds_for_empty) && condition.holds(&mut |_| false) {
        diagnostics.add(
            &key,
            "the condition holds for an empty request",
            "require a selection that is not negated",
        );
    }
    Some(condition)
}

/// Adds a finding for each selection that is neither in the condition nor in `innocence`, for each
/// selection that is in both, and for each unknown name in `innocence`.
fn check_uses(
    condition: &Condition,
    names: &[&String],
    innocence: &[String],
    diagnostics: &mut Diagnostics<'_>,
) {
    let used_names = condition.selection_names();
    for name in names {
        let path = ["detection", name.as_str()];
        match (used_names.contains(&name.as_str()), innocence.contains(name)) {
            (false, false) => {
                let problem = format!("the selection '{name}' is not used");
                diagnostics.add(&path, problem, "use it in the condition or remove it");
            }
            (true, true) => {
                let problem =
                    format!("the selection '{name}' is in the condition and in `{INNOCENCE_KEY}`");
                diagnostics.add(&path, problem, "remove it from one of the two");
            }
            _ => {}
        }
    }
    for (index, name) in innocence.iter().enumerate() {
        if !names.contains(&name) {
            let Problem { message, remedy } = unknown_selection(name, names);
            let index = index.to_string();
            diagnostics.add(&[CUSTOM_ATTRIBUTES, INNOCENCE_KEY, &index], message, remedy);
        }
    }
}

/// Converts an expression and expands its quantifiers. Adds its errors to `problems`.
fn expand(expression: &ConditionExpr, names: &[&String], problems: &mut Vec<Problem>) -> Condition {
    match expression {
        ConditionExpr::And(parts) => Condition::All(expand_all(parts, names, problems)),
        ConditionExpr::Or(parts) => Condition::Any(expand_all(parts, names, problems)),
        ConditionExpr::Not(part) => Condition::Not(Box::new(expand(part, names, problems))),
        ConditionExpr::Identifier(name) => {
            if !names.contains(&name) {
                problems.push(unknown_selection(name, names));
            }
            Condition::Selection(name.clone())
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let matching = matching_selections(pattern, names);
            if matching.is_empty() {
                let message = format!("no selection matches '{pattern}'");
                problems.push(Problem::new(message, "correct the pattern"));
            }
            match quantifier {
                Quantifier::All => Condition::All(matching),
                Quantifier::Any | Quantifier::Count(1) => Condition::Any(matching),
                Quantifier::Count(_) => {
                    let message = format!("'{quantifier} of' is not supported");
                    problems.push(Problem::new(message, "use `1 of` or `all of`"));
                    Condition::Any(matching)
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

fn unknown_selection(name: &str, names: &[&String]) -> Problem {
    let remedy = did_you_mean(name, names.iter().map(|name| name.as_str()))
        .unwrap_or_else(|| "define it under `detection`".to_owned());
    Problem::new(format!("unknown selection '{name}'"), remedy)
}

/// Returns the selections that a pattern matches, sorted by name. The pattern `them` does not match
/// names that begin with `_`.
fn matching_selections(pattern: &SelectorPattern, names: &[&String]) -> Vec<Condition> {
    let matches = |name: &str| match pattern {
        SelectorPattern::Them => !name.starts_with('_'),
        SelectorPattern::Pattern(pattern) => detection_name_matches(pattern, name),
    };
    let mut matching: Vec<&String> = names.iter().copied().filter(|name| matches(name)).collect();
    matching.sort();
    matching.into_iter().map(|name| Condition::Selection(name.clone())).collect()
}

/// Converts a selection. Returns `None`, with findings, if a part of it is invalid.
fn selection(
    detection: &Detection,
    path: &[&str],
    lexicon: &Lexicon,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Selection> {
    match detection {
        Detection::AllOf(items) => {
            let selections: Vec<Option<Selection>> = items
                .iter()
                .map(|item| field_selection(item, path, lexicon, diagnostics))
                .collect();
            Some(single_or(selections.into_iter().collect::<Option<Vec<_>>>()?, Selection::All))
        }
        Detection::AnyOf(parts) => {
            let mut selections = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                let index = index.to_string();
                let path = [path, &[&index]].concat();
                selections.push(selection(part, &path, lexicon, diagnostics));
            }
            Some(single_or(selections.into_iter().collect::<Option<Vec<_>>>()?, Selection::Any))
        }
        Detection::Keywords(_) => {
            let problem = "strings without a field are not supported";
            let remedy = "name the field, such as `gen_ai.input.messages|contains`";
            diagnostics.add(path, problem, remedy);
            None
        }
        _ => {
            let problem = "array matching is not supported";
            let remedy = "compare the field: one of its values has to match";
            diagnostics.add(path, problem, remedy);
            None
        }
    }
}

/// Converts the comparisons of one field. Returns `None`, with findings, if a comparison is
/// invalid.
fn field_selection(
    item: &DetectionItem,
    path: &[&str],
    lexicon: &Lexicon,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Selection> {
    let name = item.field.name.clone().unwrap_or_default();
    let modifier_names: Vec<String> =
        item.field.modifiers.iter().map(|modifier| modifier_name(*modifier)).collect();
    let key = [&[name.clone()][..], &modifier_names].concat().join("|");
    let path = [path, &[&key]].concat();
    let field = Field::parse(&name);
    if field.is_none() {
        report_unknown_field(&name, &path, diagnostics);
    }
    let modifiers = Modifiers::new(&item.field.modifiers)
        .and_then(|modifiers| check_value_count(item.values.len(), &modifiers).map(|()| modifiers))
        .map_err(|problem| diagnostics.add(&path, problem.message, problem.remedy));
    let (Some(field), Ok(modifiers)) = (field, modifiers) else { return None };
    let mut selections = Vec::new();
    for (index, value) in item.values.iter().enumerate() {
        match modifiers::build_comparison(&field, &modifiers, value, lexicon) {
            Ok(comparison) => {
                let test = FieldComparison { field: field.clone(), comparison };
                selections.push(Some(Selection::Field(Box::new(test))));
            }
            Err(Problem { message, remedy }) => {
                let index = index.to_string();
                diagnostics.add(&[&path[..], &[&index]].concat(), message, remedy);
                selections.push(None);
            }
        }
    }
    let selections = selections.into_iter().collect::<Option<Vec<_>>>()?;
    Some(single_or(selections, if modifiers.all { Selection::All } else { Selection::Any }))
}

/// Adds a finding for an unknown field, and suggests the field with the most similar name.
fn report_unknown_field(name: &str, path: &[&str], diagnostics: &mut Diagnostics<'_>) {
    let remedy = format!("did you mean '{}'? docs/fields.md lists all", similar_field(name));
    diagnostics.add(path, format!("unknown field '{name}'"), remedy);
}

/// Returns an error if a field has too few values for its modifiers.
fn check_value_count(count: usize, modifiers: &Modifiers) -> Result<(), Problem> {
    match count {
        0 => Err(Problem::new("no values", "add a value, or use `|exists`")),
        1 if modifiers.all => {
            let message = "`|all` has one value: expected two or more";
            Err(Problem::new(message, "remove `|all`, or add values"))
        }
        _ => Ok(()),
    }
}

/// Returns the selection if `selections` contains only one. Otherwise returns the result of
/// `combine` for all of them.
fn single_or(
    mut selections: Vec<Selection>,
    combine: impl Fn(Vec<Selection>) -> Selection,
) -> Selection {
    match (selections.len(), selections.pop()) {
        (1, Some(selection)) => selection,
        (_, last) => combine(selections.into_iter().chain(last).collect()),
    }
}

/// Returns the name of the field that has the most words in common with `name`. If several fields
/// have equally many, returns the name with the smallest edit distance.
fn similar_field(name: &str) -> &'static str {
    let similarity = |spec: &&FieldSpec| {
        let words: Vec<&str> = spec.name.split(['.', '_']).collect();
        let shared_words = name.split(['.', '_']).filter(|word| words.contains(word)).count();
        (shared_words, Reverse(strsim::levenshtein(name, spec.name)))
    };
    FIELDS.iter().max_by_key(similarity).map_or("", |spec| spec.name)
}

/// A valid condition, which replaces a condition that cannot be parsed.
const PLACEHOLDER_CONDITION: &str = "all of them";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_field_prefers_the_closest_spelling() {
        // `hedgerow.prompt.digest` shares as many words, and an earlier version suggested it.
        assert_eq!(similar_field("hedgerow.prompt.instructions"), "hedgerow.prompt.instruction");
        assert_eq!(similar_field("hedgerow.template.usr"), "hedgerow.template.user");
    }
}
