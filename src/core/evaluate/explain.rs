//! Explanations: every comparison of every signature, true or false, with field and byte range.
//!
//! This path is slow and simple on purpose: it skips nothing, uses no scan, and compares each value
//! separately. A property test compares its results with the results of the optimised matcher.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use memchr::memmem;
use regex_automata::Input;
use regex_automata::meta::Regex;
use serde::Serialize;

use super::explain_near::find_near;
use crate::extract::{Request, Segment, Source};
use crate::field::{Field, FieldId, FieldType, PassageRole, possible_roles, sections};
use crate::http::envelope::Envelope;
use crate::matching::{Evidence, regex_gate};
use crate::rules::concept::Concept;
use crate::rules::signature::{Comparison, FieldComparison, Selection, Signature, Within};
use crate::ruleset::Ruleset;
use crate::text;
use crate::text::{Case, SourceMap};

/// Whether a signature and its parts hold for one request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Name of the signature.
    pub name: String,
    /// Weight in decibans.
    pub weight: f64,
    /// Whether the condition of the signature holds.
    pub holds: bool,
    /// Selections, by name.
    pub selections: Vec<ExplainedSelection>,
    /// Names of the innocence selections that hold. Such a selection is a sign of a harmless
    /// request. Empty if the condition of the signature does not hold.
    pub innocence: Vec<String>,
}

/// Whether a selection and its comparisons hold for one request.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedSelection {
    /// Name of the selection.
    pub name: String,
    /// Whether the selection holds.
    pub holds: bool,
    /// Comparisons, in the order of the rule.
    #[serde(rename = "tests")]
    pub comparisons: Vec<ExplainedComparison>,
}

/// Whether a comparison holds for one request, and where.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedComparison {
    /// Comparison in Sigma's syntax.
    #[serde(rename = "test")]
    pub comparison: String,
    /// Whether the comparison holds.
    pub holds: bool,
    /// Location of the match. `None` if the comparison does not hold, or if it tests a number, a
    /// flag or the absence of a value.
    pub evidence: Option<Evidence>,
}

/// A passage of a request: a part of the body with one role (instruction, material or examples).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedPassage {
    /// Field of the passage's role.
    pub field: Field,
    /// Field of the section that the text is in.
    pub section: Field,
    /// Offset of the first byte in the decompressed body.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl ExplainedPassage {
    fn new(role: PassageRole, segment: &Segment<'_>, source: Range<usize>) -> Self {
        let [field, section] = [role.field(), segment.section.field()].map(Field::Known);
        Self { field, section, start: source.start, end: source.end }
    }
}

/// An explainer of signatures, which compiles each regex once.
#[derive(Debug, Default)]
pub struct Explainer<'c> {
    concepts: &'c [Concept],
    regexes: RefCell<HashMap<String, Option<Regex>>>,
}

/// The outcome of a comparison.
enum Outcome {
    /// The comparison does not hold.
    Fails,
    /// The comparison holds, but has no location, because it tests a number, a flag or the absence
    /// of a value.
    Holds,
    /// The comparison holds at a location.
    Matches(Evidence),
}

impl Outcome {
    fn new(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }

    fn holds(&self) -> bool {
        !matches!(self, Self::Fails)
    }

    fn into_evidence(self) -> Option<Evidence> {
        match self {
            Self::Matches(evidence) => Some(evidence),
            Self::Fails | Self::Holds => None,
        }
    }
}

impl<'c> Explainer<'c> {
    /// Creates an explainer. `concepts` are the concepts that signatures may name.
    pub fn new(concepts: &'c [Concept]) -> Self {
        Self { concepts, ..Self::default() }
    }

    /// Explains every signature of a ruleset, including the lists and the correlations.
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
                // Indicators depend on earlier requests, which an explanation does not have. So a
                // correlation does not hold here.
                return explain_list_or_correlation(signature, "an indicator of", None);
            }
            if !ruleset.is_list(index) {
                let mut explanation = self.explain(signature, request, envelope.headers);
                if envelope.lacks_field_of(signature) {
                    explanation.holds = false;
                    explanation.innocence.clear();
                }
                return explanation;
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
                let mut comparisons = Vec::new();
                selection.for_each_comparison(&mut |test| {
                    comparisons.push(self.explain_comparison(test, request, headers))
                });
                let holds = self.selection_holds(selection, request, headers);
                ExplainedSelection { name: name.clone(), holds, comparisons }
            })
            .collect();
        let selection_holds = |name: &str| {
            selections.iter().any(|selection| selection.name == name && selection.holds)
        };
        let holds = signature.condition.holds(&mut |name| selection_holds(name));
        let innocence = signature.innocence.iter().filter(|name| holds && selection_holds(name));
        Explanation {
            name: signature.name.clone(),
            weight: signature.weight,
            holds,
            innocence: innocence.cloned().collect(),
            selections,
        }
    }

    /// Returns whether a signature matches.
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

    /// Returns whether a selection holds.
    pub fn selection_holds(
        &self,
        selection: &Selection,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> bool {
        selection.holds(&mut |test| self.evaluate(test, request, headers).holds())
    }

    fn explain_comparison(
        &self,
        test: &FieldComparison,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> ExplainedComparison {
        let outcome = self.evaluate(test, request, headers);
        ExplainedComparison {
            comparison: describe_test(test),
            holds: outcome.holds(),
            evidence: outcome.into_evidence(),
        }
    }

    /// Evaluates a comparison with the request's values of the compared field.
    fn evaluate(
        &self,
        test: &FieldComparison,
        request: &Request<'_>,
        headers: &[(String, String)],
    ) -> Outcome {
        match (&test.field, test.field.field_type()) {
            (Field::Known(field_id), FieldType::Text) => {
                self.evaluate_text(test, *field_id, request)
            }
            (Field::Known(field_id), FieldType::Number | FieldType::Flag) => {
                evaluate_number(&test.comparison, *field_id, request)
            }
            (Field::Known(field_id), _) => {
                let matching = request.keywords().iter().filter(|(id, _)| id == field_id);
                self.evaluate_keyword(test, matching.map(|(_, value)| value.as_ref()))
            }
            (Field::Header(header), _) => {
                let matching = headers.iter().filter(|(name, _)| name == header);
                self.evaluate_keyword(test, matching.map(|(_, value)| value.as_str()))
            }
        }
    }

    /// Evaluates a comparison with the text of each segment; the first match counts.
    fn evaluate_text(
        &self,
        test: &FieldComparison,
        field_id: FieldId,
        request: &Request<'_>,
    ) -> Outcome {
        let mut passages = request.segments().iter().flat_map(|segment| {
            let passages = passages_of_field(request, segment, sections(field_id));
            passages.into_iter().map(move |passage| (segment, passage))
        });
        if test.comparison == Comparison::Exists(false) {
            return Outcome::new(passages.next().is_none());
        }
        let source_range = passages.find_map(|(segment, passage)| {
            let text = request.text().get(segment.range.clone()).unwrap_or_default();
            let range = self.find_in_text(&test.comparison, text, &segment.source, passage)?;
            let Some(raw) = segment.source.value() else { return Some(segment.source.range()) };
            let offsets = vec![range.start, range.end.saturating_sub(1)];
            Some(SourceMap::new(raw, text, 0, &[], offsets).source_range(range))
        });
        source_range.map_or(Outcome::Fails, |range| Outcome::Matches(evidence_at(test, range)))
    }

    /// Evaluates a comparison with each value of a keyword field; the first match counts.
    fn evaluate_keyword<'v>(
        &self,
        test: &FieldComparison,
        mut values: impl Iterator<Item = &'v str>,
    ) -> Outcome {
        if test.comparison == Comparison::Exists(false) {
            return Outcome::new(values.next().is_none());
        }
        let matching = values.find(|value| self.matches_keyword(&test.comparison, value));
        matching.map_or(Outcome::Fails, |value| Outcome::Matches(evidence_at(test, 0..value.len())))
    }

    /// Returns the range of the match that begins in `passage`, a range of `text`; `None` if there
    /// is no match. `text` is the normalised text of a segment, and `source` is the source of that
    /// segment.
    fn find_in_text(
        &self,
        comparison: &Comparison,
        text: &str,
        source: &Source<'_>,
        passage: Range<usize>,
    ) -> Option<Range<usize>> {
        let find = |value: &str, is_last: bool| {
            let rest = text.get(passage.start..)?.as_bytes();
            let search = if is_last { memmem::rfind } else { memmem::find };
            let start = search(rest, value.as_bytes())?;
            Some(passage.start.saturating_add(start)).filter(|start| passage.contains(start))
        };
        match comparison {
            Comparison::String { string_match, value, cased: false } => {
                let start = find(value, string_match.modifier() == "endswith")?;
                let starts_in_place = string_match.modifier() != "startswith" || start == 0;
                (starts_in_place && string_match.matches(text, value))
                    .then_some(start..start.saturating_add(value.len()))
            }
            Comparison::String { string_match, value, cased: true } => {
                let folded = text::normalize_pattern(value, Case::Fold);
                let start = find(&folded, false)?;
                if source.is_joined() {
                    // Text that was joined from parts is available only in case-folded form.
                    return None;
                }
                let mut cased_text = String::new();
                source.push_cased_text(&mut cased_text, usize::MAX);
                string_match
                    .matches(&cased_text, value)
                    .then_some(start..start.saturating_add(folded.len()))
            }
            Comparison::Regex { pattern, .. } => {
                let input = Input::new(text).range(passage.start..);
                let matched = self.with_regex(pattern, |regex| regex.find(input.clone()))?.range();
                passage.contains(&matched.start).then_some(matched)
            }
            Comparison::Near { within, parts } => {
                find_near(text, self.concepts, *within, parts, &passage)
            }
            Comparison::Exists(expected) => expected.then_some(passage),
            Comparison::Cidr(_) | Comparison::Number { .. } => None,
        }
    }

    fn matches_keyword(&self, comparison: &Comparison, value: &str) -> bool {
        match comparison {
            Comparison::String { string_match, value: pattern, cased } => {
                let case = if *cased { Case::Keep } else { Case::Fold };
                string_match.matches(&text::normalize(value, case), pattern)
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
            Comparison::Number { .. } | Comparison::Near { .. } => false,
        }
    }

    /// Returns the result of `search` with the compiled regex. Returns `None` if the regex does not
    /// compile, or if `search` finds nothing.
    fn with_regex<T>(&self, pattern: &str, search: impl Fn(&Regex) -> Option<T>) -> Option<T> {
        let mut regexes = self.regexes.borrow_mut();
        let regex =
            regexes.entry(pattern.to_owned()).or_insert_with(|| regex_gate::compile(pattern).ok());
        search(regex.as_ref()?)
    }
}

/// Returns the first `limit` passages of a request, in reading order. Text without a role has no
/// passages.
///
/// Two kinds of text are left out: joined parts, because they repeat other text, and text of
/// earlier messages, because it is not in the body. Text in another coding, such as a file in
/// base64, counts as one passage.
pub fn explain_passages(request: &Request<'_>, limit: usize) -> Vec<ExplainedPassage> {
    let mut explained = Vec::new();
    for segment in request.segments() {
        let left = limit.saturating_sub(explained.len());
        if left == 0 {
            break;
        }
        match segment.source {
            Source::Value(_) => push_passages(request, segment, left, &mut explained),
            Source::Encoded(..) => explained.extend(encoded_passage(request, segment)),
            Source::Joined(_) | Source::Earlier(_) => {}
        }
    }
    explained
}

/// Appends the first `limit` passages of a segment to `explained`. The source of the segment is a
/// string of the body.
fn push_passages(
    request: &Request<'_>,
    segment: &Segment<'_>,
    limit: usize,
    explained: &mut Vec<ExplainedPassage>,
) {
    let base = segment.range.start;
    let passages = request.passages().within(&segment.range);
    let passages: Vec<(Range<usize>, PassageRole)> = passages
        .filter_map(|(range, role)| {
            let relative = range.start.saturating_sub(base)..range.end.saturating_sub(base);
            Some((relative, role_of_bit(role)?)).filter(|(range, _)| !range.is_empty())
        })
        .take(limit)
        .collect();
    let edges = passages.iter().flat_map(|(range, _)| [range.start, range.end.saturating_sub(1)]);
    let Some(map) = request.source_map(segment, edges.collect()) else { return };
    let explain = |(range, role)| ExplainedPassage::new(role, segment, map.source_range(range));
    explained.extend(passages.into_iter().map(explain));
}

/// Returns a text in another coding as one passage; `None` if it has no role. If any part of the
/// text is an instruction, the passage is an instruction.
fn encoded_passage(request: &Request<'_>, segment: &Segment<'_>) -> Option<ExplainedPassage> {
    let roles = request.passages().within(&segment.range);
    let role = roles.filter_map(|(_, role)| role_of_bit(role)).min()?;
    Some(ExplainedPassage::new(role, segment, segment.source.range()))
}

fn role_of_bit(bit: u16) -> Option<PassageRole> {
    PassageRole::ALL.into_iter().find(|role| *role as u16 == bit)
}

/// Returns the passages of a segment that belong to a field, as ranges of the segment's text.
/// `sections` is the set of the field's sections and roles. If the segment belongs to one of these
/// sections, the result is the whole text as one range.
fn passages_of_field(
    request: &Request<'_>,
    segment: &Segment<'_>,
    sections: u16,
) -> Vec<Range<usize>> {
    if segment.sections() & sections != 0 {
        return std::iter::once(0..segment.range.len()).collect();
    }
    if possible_roles(segment.sections()) & sections == 0 {
        return Vec::new();
    }
    let base = segment.range.start;
    let relative =
        |range: Range<usize>| range.start.saturating_sub(base)..range.end.saturating_sub(base);
    let passages = request.passages().within(&segment.range);
    let held = passages.filter(|(_, role)| role & sections != 0);
    held.map(|(range, _)| relative(range)).collect()
}

fn evaluate_number(comparison: &Comparison, field_id: FieldId, request: &Request<'_>) -> Outcome {
    let mut numbers = request.numbers().iter().filter(|(id, _)| *id == field_id);
    Outcome::new(match comparison {
        Comparison::Exists(expected) => numbers.next().is_some() == *expected,
        Comparison::Number { comparator, value } => {
            numbers.any(|(_, number)| comparator.matches(*number, *value))
        }
        _ => false,
    })
}

fn evidence_at(test: &FieldComparison, range: Range<usize>) -> Evidence {
    Evidence { field: test.field.clone(), start: range.start, end: range.end }
}

/// Explains a rule without comparisons: a list or a correlation. The rule holds if `evidence` is
/// given, such as a value on the list. `label` comes before the title of the rule in the text of
/// the explained comparison.
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
    Explanation {
        name: signature.name.clone(),
        weight: signature.weight,
        holds,
        selections: vec![selection],
        innocence: Vec::new(),
    }
}

/// Returns a comparison in Sigma's syntax.
pub fn describe_test(test: &FieldComparison) -> String {
    let field = test.field.name();
    let with_modifier = |modifier: &str| {
        if modifier.is_empty() { field.clone() } else { format!("{field}|{modifier}") }
    };
    match &test.comparison {
        Comparison::String { string_match, value, cased } => {
            let suffix = if *cased { "|cased" } else { "" };
            format!("{}{suffix}: {value:?}", with_modifier(string_match.modifier()))
        }
        Comparison::Regex { pattern, .. } => format!("{}: {pattern}", with_modifier("re")),
        Comparison::Near { within, parts } => describe_near(&field, *within, parts),
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

/// Returns a comparison with concepts: `field|expand: %a% or %b%, and %c% within 240 bytes`.
fn describe_near(field: &str, within: Within, parts: &[Vec<String>]) -> String {
    let describe_part = |part: &Vec<String>| {
        part.iter().map(|name| format!("%{name}%")).collect::<Vec<_>>().join(" or ")
    };
    let joined = parts.iter().map(describe_part).collect::<Vec<_>>().join(", and ");
    let distance = match within {
        _ if parts.len() < 2 => String::new(),
        Within::Sentence => " within a sentence".to_owned(),
        Within::Bytes(bytes) => format!(" within {bytes} bytes"),
    };
    format!("{field}|expand: {joined}{distance}")
}
