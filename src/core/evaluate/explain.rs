//! Explaining: every condition of every signature, true or false, with field and byte range.
//!
//! This is the slow path on purpose: nothing is skipped, no scan is used, each comparison looks at
//! each value. A property test holds it equal to the matcher.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use regex_automata::meta::Regex;
use serde::Serialize;

use crate::extract::Request;
use crate::extract::lenient_json::RawString;
use crate::field::{Field, FieldType, sections};
use crate::http::envelope::Envelope;
use crate::matching::{Evidence, regex_gate};
use crate::rules::signature::{Comparison, FieldComparison, Selection, Signature};
use crate::ruleset::Ruleset;
use crate::text;
use crate::text::{Case, SourceMap};

/// A signature's conditions for one request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The signature.
    pub name: String,
    /// Its weight in decibans.
    pub weight: f64,
    /// Whether it holds.
    pub holds: bool,
    /// Its selections.
    pub selections: Vec<ExplainedSelection>,
}

/// A selection for one request.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedSelection {
    /// The selection.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// Its comparisons.
    #[serde(rename = "tests")]
    pub comparisons: Vec<ExplainedComparison>,
}

/// A comparison for one request.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedComparison {
    /// The comparison as Sigma writes it.
    #[serde(rename = "test")]
    pub comparison: String,
    /// Whether it holds.
    pub holds: bool,
    /// Where, if it holds for a value that stands somewhere.
    pub evidence: Option<Evidence>,
}

/// Explains signatures; regexes are compiled once.
#[derive(Debug, Default)]
pub struct Explainer {
    regexes: RefCell<HashMap<String, Option<Regex>>>,
}

impl Explainer {
    /// Explains every signature of a ruleset, every list and every correlation.
    pub fn explain_all(
        &self,
        ruleset: &Ruleset,
        request: &Request<'_>,
        envelope: &Envelope<'_>,
    ) -> Vec<Explanation> {
        let mut list_hits = ruleset.client_list_hits(envelope);
        list_hits.extend(ruleset.template_list_hits(request, envelope));
        let explain = |(index, signature): (usize, &Signature)| {
            if ruleset.is_correlation(index) {
                // What earlier requests showed is not known here.
                return explain_list_or_correlation(signature, "an indicator of", None);
            }
            if !ruleset.is_list(index) {
                return self.explain(signature, request, envelope.headers);
            }
            let hit = list_hits.iter().find(|hit| hit.signature == index);
            let evidence = hit.and_then(|hit| hit.evidence.first()).cloned();
            explain_list_or_correlation(signature, "on the list", evidence)
        };
        ruleset.signatures().iter().enumerate().map(explain).collect()
    }

    /// Explains one signature.
    pub fn explain(
        &self,
        signature: &Signature,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> Explanation {
        let selections: Vec<ExplainedSelection> = signature
            .selections
            .iter()
            .map(|(name, selection)| {
                let mut tests = Vec::new();
                selection.for_each_comparison(&mut |test| {
                    tests.push(self.explain_comparison(test, request, headers))
                });
                let holds = selection
                    .holds(&mut |test| self.find_evidence(test, request, headers).is_some());
                ExplainedSelection { name: name.clone(), holds, comparisons: tests }
            })
            .collect();
        let holds = signature.condition.holds(&mut |name| {
            selections.iter().any(|selection| selection.name == name && selection.holds)
        });
        Explanation { name: signature.name.clone(), weight: signature.weight, holds, selections }
    }

    /// Whether a signature holds.
    pub fn holds(
        &self,
        signature: &Signature,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> bool {
        signature.condition.holds(&mut |name| {
            let selection = signature.selections.get(name);
            selection.is_some_and(|selection| self.selection_holds(selection, request, headers))
        })
    }

    /// Whether a selection's content holds.
    pub fn selection_holds(
        &self,
        selection: &Selection,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> bool {
        selection.holds(&mut |test| self.find_evidence(test, request, headers).is_some())
    }

    fn explain_comparison(
        &self,
        test: &FieldComparison,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> ExplainedComparison {
        let outcome = self.find_evidence(test, request, headers);
        ExplainedComparison {
            comparison: describe_test(test),
            holds: outcome.is_some(),
            evidence: outcome.flatten(),
        }
    }

    /// `None`: it does not hold. `Some(None)`: it holds, and stands nowhere.
    fn find_evidence(
        &self,
        test: &FieldComparison,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> Option<Option<Evidence>> {
        let evidence_at = |range: Range<usize>| Evidence {
            field: test.field.clone(),
            start: range.start,
            end: range.end,
        };
        match (&test.field, test.field.field_type()) {
            (Field::Known(field_id), FieldType::Text) => {
                let is_in_section = |section: u8| section & sections(*field_id) != 0;
                let mut segments = request
                    .segments()
                    .iter()
                    .filter(|segment| is_in_section(segment.section as u8));
                if test.comparison == Comparison::Exists(false) {
                    return segments.next().is_none().then_some(None);
                }
                segments.find_map(|segment| {
                    let text = request.text().get(segment.range.clone()).unwrap_or_default();
                    let raw = segment.source.value();
                    let range = self.find_in_text(&test.comparison, text, raw)?;
                    Some(Some(evidence_at(match raw {
                        Some(raw) => {
                            let offsets = vec![range.start, range.end.saturating_sub(1)];
                            SourceMap::new(raw, text, 0, &[], offsets).source_range(range)
                        }
                        None => segment.source.range(),
                    })))
                })
            }
            (Field::Known(field_id), FieldType::Number | FieldType::Flag) => {
                let mut numbers = request.numbers().iter().filter(|(id, _)| id == field_id);
                let holds = match test.comparison {
                    Comparison::Exists(expected) => numbers.next().is_some() == expected,
                    Comparison::Number { comparator, value } => {
                        numbers.any(|(_, number)| comparator.matches(*number, value))
                    }
                    _ => false,
                };
                holds.then_some(None)
            }
            (field, _) => {
                let values: Vec<&str> = match field {
                    Field::Known(field_id) => {
                        let matching = request.keywords().iter().filter(|(id, _)| id == field_id);
                        matching.map(|(_, value)| value.as_ref()).collect()
                    }
                    Field::Header(header) => headers
                        .iter()
                        .filter(|(header_name, _)| header_name == header)
                        .map(|(_, value)| value.as_str())
                        .collect(),
                };
                if test.comparison == Comparison::Exists(false) {
                    return values.is_empty().then_some(None);
                }
                let value = values
                    .into_iter()
                    .find(|value| self.matches_keyword(&test.comparison, value))?;
                Some(Some(evidence_at(0..value.len())))
            }
        }
    }

    fn find_in_text(
        &self,
        comparison: &Comparison,
        text: &str,
        raw: Option<RawString<'_>>,
    ) -> Option<Range<usize>> {
        match comparison {
            Comparison::String { string_match: anchor, value, cased: false } => {
                let start = match anchor.modifier() {
                    "endswith" => text.rfind(value.as_str())?,
                    _ => text.find(value.as_str())?,
                };
                anchor.matches(text, value).then_some(start..start.saturating_add(value.len()))
            }
            Comparison::String { string_match: anchor, value, cased: true } => {
                let folded = text::normalize_pattern(value, Case::Fold);
                let start = text.find(&folded)?;
                // Seams have no case.
                let cased_text = text::normalize(&raw?.text(), Case::Keep);
                anchor
                    .matches(&cased_text, value)
                    .then_some(start..start.saturating_add(folded.len()))
            }
            Comparison::Regex { pattern, .. } => {
                self.with_regex(pattern, |regex| regex.find(text).map(|matched| matched.range()))
            }
            Comparison::Exists(expected) => expected.then_some(0..text.len()),
            Comparison::Cidr(_) | Comparison::Number { .. } => None,
        }
    }

    fn matches_keyword(&self, comparison: &Comparison, value: &str) -> bool {
        match comparison {
            Comparison::String { string_match: anchor, value: pattern, cased } => {
                let case = if *cased { Case::Keep } else { Case::Fold };
                anchor.matches(&text::normalize(value, case), pattern)
            }
            Comparison::Regex { pattern, .. } => {
                let folded = text::normalize(value, Case::Fold);
                self.with_regex(pattern, |regex| regex.is_match(folded.as_str()).then_some(()))
                    .is_some()
            }
            Comparison::Cidr(network) => {
                value.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address))
            }
            Comparison::Exists(expected) => *expected,
            Comparison::Number { .. } => false,
        }
    }

    fn with_regex<T>(&self, pattern: &str, search: impl Fn(&Regex) -> Option<T>) -> Option<T> {
        let mut regexes = self.regexes.borrow_mut();
        let regex =
            regexes.entry(pattern.to_owned()).or_insert_with(|| regex_gate::compile(pattern).ok());
        search(regex.as_ref()?)
    }
}

/// What has no condition: a list, which holds where the client or the account is on it, or a
/// correlation.
fn explain_list_or_correlation(
    signature: &Signature,
    label: &str,
    evidence: Option<Evidence>,
) -> Explanation {
    let holds = evidence.is_some();
    let test = ExplainedComparison {
        comparison: format!("{label} '{}'", signature.title),
        holds,
        evidence,
    };
    let selection =
        ExplainedSelection { name: "entries".to_owned(), holds, comparisons: vec![test] };
    let (name, weight) = (signature.name.clone(), signature.weight);
    Explanation { name, weight, holds, selections: vec![selection] }
}

/// A comparison as Sigma writes it.
pub fn describe_test(test: &FieldComparison) -> String {
    let field = test.field.name();
    let with_modifier = |modifier: &str| {
        if modifier.is_empty() { field.clone() } else { format!("{field}|{modifier}") }
    };
    match &test.comparison {
        Comparison::String { string_match: anchor, value, cased } => {
            let suffix = if *cased { "|cased" } else { "" };
            format!("{}{suffix}: {value:?}", with_modifier(anchor.modifier()))
        }
        Comparison::Regex { pattern, .. } => format!("{}: {pattern}", with_modifier("re")),
        Comparison::Cidr(network) => format!("{}: {network}", with_modifier("cidr")),
        Comparison::Exists(expected) => format!("{}: {expected}", with_modifier("exists")),
        Comparison::Number { comparator, value } if test.field.field_type() == FieldType::Flag => {
            format!("{}: {}", with_modifier(comparator.modifier()), *value != 0.0)
        }
        Comparison::Number { comparator, value } => {
            format!("{}: {value}", with_modifier(comparator.modifier()))
        }
    }
}
