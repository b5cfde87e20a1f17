//! Explaining: every condition of every signature, true or false, with field and byte range.
//!
//! This is the slow path on purpose: nothing is skipped, no scan is used, each comparison looks at
//! each value. A property test holds it equal to the matcher.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use regex_automata::meta::Regex;
use serde::Serialize;

use crate::field::{Field, Kind, places};
use crate::json::Raw;
use crate::matcher::{Evidence, regex};
use crate::request::{Envelope, Request};
use crate::ruleset::Ruleset;
use crate::signature::{FieldTest, Op, Signature, Test};
use crate::text::{self, Case, Sources};

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
    pub tests: Vec<ExplainedTest>,
}

/// A comparison for one request.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedTest {
    /// The comparison as Sigma writes it.
    pub test: String,
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
        let mut listed = ruleset.listed(envelope);
        listed.extend(ruleset.listed_template(request, envelope));
        let explain = |(number, signature): (usize, &Signature)| {
            if ruleset.is_correlation(number) {
                // What earlier requests showed is not known here.
                return explain_other(signature, "an indicator of", None);
            }
            if !ruleset.is_list(number) {
                return self.explain(signature, request, envelope.headers);
            }
            let hit = listed.iter().find(|hit| hit.signature == number);
            let evidence = hit.and_then(|hit| hit.evidence.first()).cloned();
            explain_other(signature, "on the list", evidence)
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
            .map(|(name, test)| {
                let mut tests = Vec::new();
                test.each(&mut |test| tests.push(self.explain_test(test, request, headers)));
                let holds = test.holds(&mut |test| self.evidence(test, request, headers).is_some());
                ExplainedSelection { name: name.clone(), holds, tests }
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
            selection.is_some_and(|test| self.selection_holds(test, request, headers))
        })
    }

    /// Whether a selection's content holds.
    pub fn selection_holds(
        &self,
        test: &Test,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> bool {
        test.holds(&mut |test| self.evidence(test, request, headers).is_some())
    }

    fn explain_test(
        &self,
        test: &FieldTest,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> ExplainedTest {
        let found = self.evidence(test, request, headers);
        ExplainedTest { test: describe(test), holds: found.is_some(), evidence: found.flatten() }
    }

    /// `None`: it does not hold. `Some(None)`: it holds, and stands nowhere.
    fn evidence(
        &self,
        test: &FieldTest,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> Option<Option<Evidence>> {
        let proof = |range: Range<usize>| Evidence {
            field: test.field.clone(),
            start: range.start,
            end: range.end,
        };
        match (&test.field, test.field.kind()) {
            (Field::Known(name), Kind::Text) => {
                let in_place = |place: u8| place & places(*name) != 0;
                let mut values =
                    request.segments().iter().filter(|segment| in_place(segment.place as u8));
                if test.op == Op::Exists(false) {
                    return values.next().is_none().then_some(None);
                }
                values.find_map(|segment| {
                    let text = request.text().get(segment.range.clone()).unwrap_or_default();
                    let raw = segment.source.value();
                    let part = self.in_text(&test.op, text, raw)?;
                    Some(Some(proof(match raw {
                        Some(raw) => {
                            let wanted = vec![part.start, part.end.saturating_sub(1)];
                            Sources::new(raw, text, 0, &[], wanted).find(part)
                        }
                        None => segment.source.range(),
                    })))
                })
            }
            (Field::Known(name), Kind::Number | Kind::Flag) => {
                let mut values = request.numbers().iter().filter(|(known, _)| known == name);
                let holds = match test.op {
                    Op::Exists(wanted) => values.next().is_some() == wanted,
                    Op::Number { order, value } => {
                        values.any(|(_, number)| order.fits(*number, value))
                    }
                    _ => false,
                };
                holds.then_some(None)
            }
            (field, _) => {
                let values: Vec<&str> = match field {
                    Field::Known(name) => {
                        let fitting = request.keywords().iter().filter(|(known, _)| known == name);
                        fitting.map(|(_, value)| value.as_ref()).collect()
                    }
                    Field::Header(name) => headers
                        .iter()
                        .filter(|(known, _)| known == name)
                        .map(|(_, value)| value.as_str())
                        .collect(),
                };
                if test.op == Op::Exists(false) {
                    return values.is_empty().then_some(None);
                }
                let value = values.into_iter().find(|value| self.in_keyword(&test.op, value))?;
                Some(Some(proof(0..value.len())))
            }
        }
    }

    fn in_text(&self, op: &Op, text: &str, raw: Option<Raw<'_>>) -> Option<Range<usize>> {
        match op {
            Op::String { anchor, value, cased: false } => {
                let at = match anchor.modifier() {
                    "endswith" => text.rfind(value.as_str())?,
                    _ => text.find(value.as_str())?,
                };
                anchor.fits(text, value).then_some(at..at.saturating_add(value.len()))
            }
            Op::String { anchor, value, cased: true } => {
                let folded = text::normalize_pattern(value, Case::Fold);
                let at = text.find(&folded)?;
                // Seams have no case.
                let cased = text::normalize(&raw?.text(), Case::Keep);
                anchor.fits(&cased, value).then_some(at..at.saturating_add(folded.len()))
            }
            Op::Regex { pattern, .. } => {
                self.regex(pattern, |regex| regex.find(text).map(|found| found.range()))
            }
            Op::Exists(wanted) => wanted.then_some(0..text.len()),
            Op::Cidr(_) | Op::Number { .. } => None,
        }
    }

    fn in_keyword(&self, op: &Op, value: &str) -> bool {
        match op {
            Op::String { anchor, value: pattern, cased } => {
                let case = if *cased { Case::Keep } else { Case::Fold };
                anchor.fits(&text::normalize(value, case), pattern)
            }
            Op::Regex { pattern, .. } => {
                let folded = text::normalize(value, Case::Fold);
                self.regex(pattern, |regex| regex.is_match(folded.as_str()).then_some(())).is_some()
            }
            Op::Cidr(network) => {
                value.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address))
            }
            Op::Exists(wanted) => *wanted,
            Op::Number { .. } => false,
        }
    }

    fn regex<T>(&self, pattern: &str, run: impl Fn(&Regex) -> Option<T>) -> Option<T> {
        let mut regexes = self.regexes.borrow_mut();
        let compiled =
            regexes.entry(pattern.to_owned()).or_insert_with(|| regex::compile(pattern).ok());
        run(compiled.as_ref()?)
    }
}

/// What has no condition: a list, which holds where the client or the account is on it, or a
/// correlation.
fn explain_other(signature: &Signature, what: &str, evidence: Option<Evidence>) -> Explanation {
    let holds = evidence.is_some();
    let test = ExplainedTest { test: format!("{what} '{}'", signature.title), holds, evidence };
    let selection = ExplainedSelection { name: "entries".to_owned(), holds, tests: vec![test] };
    let (name, weight) = (signature.name.clone(), signature.weight);
    Explanation { name, weight, holds, selections: vec![selection] }
}

/// A comparison as Sigma writes it.
pub fn describe(test: &FieldTest) -> String {
    let field = test.field.name();
    let modified = |modifier: &str| {
        if modifier.is_empty() { field.clone() } else { format!("{field}|{modifier}") }
    };
    match &test.op {
        Op::String { anchor, value, cased } => {
            let cased = if *cased { "|cased" } else { "" };
            format!("{}{cased}: {value:?}", modified(anchor.modifier()))
        }
        Op::Regex { pattern, .. } => format!("{}: {pattern}", modified("re")),
        Op::Cidr(network) => format!("{}: {network}", modified("cidr")),
        Op::Exists(wanted) => format!("{}: {wanted}", modified("exists")),
        Op::Number { order, value } if test.field.kind() == Kind::Flag => {
            format!("{}: {}", modified(order.modifier()), *value != 0.0)
        }
        Op::Number { order, value } => format!("{}: {value}", modified(order.modifier())),
    }
}
