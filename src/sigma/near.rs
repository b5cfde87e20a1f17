//! The attribute `hedgerow.near`: groups of selections of concepts. The terms of a group must occur
//! in one sentence, or within a given number of bytes.

use std::collections::BTreeMap;

use hedgerow_core::field::Field;
use hedgerow_core::rules::signature::{
    Comparison, Condition, FieldComparison, MAX_NEAR_BYTES, Selection, Within,
};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::{CUSTOM_ATTRIBUTES, NEAR_KEY, attribute};
use crate::document::Diagnostics;
use crate::lexicon::Lexicon;
use crate::modifiers::Problem;
use crate::suggestion::did_you_mean;

/// Applies the attribute `hedgerow.near` of a rule. Replaces each group of selections in the
/// attribute by one selection with a single comparison, and returns the changed condition. Adds
/// findings if the attribute is invalid, and for concepts that are too frequent to be searched for
/// alone.
pub fn apply(
    document: &Mapping,
    lexicon: &Lexicon,
    selections: &mut BTreeMap<String, Selection>,
    mut condition: Condition,
    diagnostics: &mut Diagnostics<'_>,
) -> Condition {
    let groups = match attribute(document, NEAR_KEY) {
        Some(Yaml::Sequence(groups)) => groups.as_slice(),
        Some(group) => std::slice::from_ref(group),
        None => &[],
    };
    let mut joined_names = Vec::new();
    for group in groups {
        match join(group, lexicon, selections, condition.clone()) {
            Ok((name, selection, joined, new_condition)) => {
                condition = new_condition;
                selections.insert(name, selection);
                joined_names.extend(joined);
            }
            Err(Problem { message, remedy }) => {
                diagnostics.add(&[CUSTOM_ATTRIBUTES, NEAR_KEY], message, remedy);
            }
        }
    }
    let used_names = condition.selection_names();
    selections
        .retain(|name, _| !joined_names.contains(name) || used_names.contains(&name.as_str()));
    check_rarity(lexicon, selections, diagnostics);
    condition
}

/// Reads a group of selections, or returns an error if the group is invalid. Returns the name and
/// the selection that replace the group, the names in the group, and the condition with the
/// replacement.
fn join(
    group: &Yaml,
    lexicon: &Lexicon,
    selections: &BTreeMap<String, Selection>,
    condition: Condition,
) -> Result<(String, Selection, Vec<String>, Condition), Problem> {
    let within = read_within(group.get("within"))?;
    let names = group.get("of").and_then(Yaml::as_sequence).into_iter().flatten();
    let names: Vec<String> = names.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    if names.len() < 2 {
        return Err(Problem::new("`of` names fewer than two selections", SHAPE));
    }
    let mut field = None;
    let mut parts = Vec::new();
    for name in &names {
        let Some(selection) = selections.get(name) else {
            let remedy = did_you_mean(name, selections.keys().map(String::as_str))
                .unwrap_or_else(|| "define it under `detection`".to_owned());
            return Err(Problem::new(format!("unknown selection '{name}'"), remedy));
        };
        let Some((part_field, concepts)) = concepts_of(selection) else {
            let message = format!("the selection '{name}' is not a list of concepts");
            return Err(Problem::new(message, "write it as `<field>|expand: '%<concept>%'`"));
        };
        if *field.get_or_insert_with(|| part_field.clone()) != part_field {
            let message = format!("the selection '{name}' compares another field than the others");
            return Err(Problem::new(message, "compare one field in all of them"));
        }
        parts.push(concepts);
    }
    if !parts.iter().any(|part| part.iter().all(|name| lexicon.is_rare(name))) {
        let message = format!("no selection out of {} has rare concepts only", names.join(", "));
        return Err(Problem::new(message, "add one: only the text around its terms is searched"));
    }
    let joined_name = format!("near({})", names.join(", "));
    let condition = replace_conjunction(condition, &names, &joined_name).map_err(|_| {
        let message = format!("the condition does not join {} by `and`", names.join(", "));
        Problem::new(message, format!("write `{}`", names.join(" and ")))
    })?;
    let field = field.ok_or_else(|| Problem::new("`of` is empty", SHAPE))?;
    let comparison = Comparison::Near { within, parts };
    let selection = Selection::Field(Box::new(FieldComparison { field, comparison }));
    Ok((joined_name, selection, names, condition))
}

/// Parses the value of `within`: `sentence`, or a number of bytes.
fn read_within(value: Option<&Yaml>) -> Result<Within, Problem> {
    let bytes = value.and_then(Yaml::as_u64).and_then(|bytes| u16::try_from(bytes).ok());
    match (value.and_then(Yaml::as_str), bytes) {
        (Some("sentence"), _) => Ok(Within::Sentence),
        (_, Some(bytes)) if (1..=MAX_NEAR_BYTES).contains(&bytes) => Ok(Within::Bytes(bytes)),
        _ => {
            let message = format!(
                "`within` is invalid: expected `sentence`, or bytes from 1 to {MAX_NEAR_BYTES}"
            );
            Err(Problem::new(message, SHAPE))
        }
    }
}

/// Returns the field and the concepts of a selection that only compares one field with concepts;
/// `None` for other selections.
fn concepts_of(selection: &Selection) -> Option<(Field, Vec<String>)> {
    match selection {
        Selection::Field(test) => match &test.comparison {
            Comparison::Near { parts, .. } => {
                let [concepts] = parts.as_slice() else { return None };
                Some((test.field.clone(), concepts.clone()))
            }
            _ => None,
        },
        Selection::Any(parts) => {
            let parts: Vec<(Field, Vec<String>)> =
                parts.iter().map(concepts_of).collect::<Option<_>>()?;
            let field = parts.first()?.0.clone();
            let is_same_field = parts.iter().all(|(other, _)| *other == field);
            let concepts = parts.into_iter().flat_map(|(_, concepts)| concepts).collect();
            is_same_field.then_some((field, concepts))
        }
        Selection::All(_) => None,
    }
}

/// Finds the first conjunction that contains all selections in `names`, and replaces these
/// selections by `replacement`. If there is no such conjunction, the error is the unchanged
/// condition.
fn replace_conjunction(
    condition: Condition,
    names: &[String],
    replacement: &str,
) -> Result<Condition, Condition> {
    let is_named =
        |part: &Condition| matches!(part, Condition::Selection(name) if names.contains(name));
    match condition {
        Condition::All(mut parts)
            if parts.iter().filter(|part| is_named(part)).count() == names.len() =>
        {
            parts.retain(|part| !is_named(part));
            let joined = Condition::Selection(replacement.to_owned());
            if parts.is_empty() {
                return Ok(joined);
            }
            parts.insert(0, joined);
            Ok(Condition::All(parts))
        }
        Condition::All(parts) => replace_in_parts(parts, names, replacement, Condition::All),
        Condition::Any(parts) => replace_in_parts(parts, names, replacement, Condition::Any),
        other => Err(other),
    }
}

/// Applies [`replace_conjunction`] to the first part in which it succeeds, and combines the parts
/// again. If it fails in all parts, the error is the unchanged condition.
fn replace_in_parts(
    parts: Vec<Condition>,
    names: &[String],
    replacement: &str,
    combine: fn(Vec<Condition>) -> Condition,
) -> Result<Condition, Condition> {
    let mut is_replaced = false;
    let replace = |part: Condition| {
        if is_replaced {
            return part;
        }
        let outcome = replace_conjunction(part, names, replacement);
        is_replaced = outcome.is_ok();
        outcome.unwrap_or_else(|part| part)
    };
    let condition = combine(parts.into_iter().map(replace).collect());
    if is_replaced { Ok(condition) } else { Err(condition) }
}

/// Returns, for each part of the selection's comparison with concepts, the first concept of the
/// part and a copy of the selection without the part. Returns an empty list if the comparison has
/// only one part, and for other selections.
pub fn without_each_part(selection: &Selection) -> Vec<(String, Selection)> {
    let Selection::Field(test) = selection else { return Vec::new() };
    let Comparison::Near { within, parts } = &test.comparison else { return Vec::new() };
    let without = |index: usize| {
        let mut parts = parts.clone();
        let removed = (parts.len() > 1).then(|| parts.remove(index))?;
        let comparison = Comparison::Near { within: *within, parts };
        let test = FieldComparison { field: test.field.clone(), comparison };
        Some((removed.first()?.clone(), Selection::Field(Box::new(test))))
    };
    (0..parts.len()).filter_map(without).collect()
}

/// Adds a finding for each concept that is searched for alone although it is not rare. The whole
/// text is searched only for the terms of rare concepts.
fn check_rarity(
    lexicon: &Lexicon,
    selections: &BTreeMap<String, Selection>,
    diagnostics: &mut Diagnostics<'_>,
) {
    for (name, selection) in selections {
        selection.for_each_comparison(&mut |test| {
            let Comparison::Near { parts, .. } = &test.comparison else { return };
            let [part] = parts.as_slice() else { return };
            for concept in part.iter().filter(|concept| !lexicon.is_rare(concept)) {
                let problem = format!("the concept '{concept}' is not rare");
                let remedy = format!("name the selection in `{NEAR_KEY}`, with a rare one");
                diagnostics.add(&["detection", name], problem, remedy);
            }
        });
    }
}

const SHAPE: &str = "write `hedgerow.near: {within: sentence, of: [make, item, purpose]}`";
