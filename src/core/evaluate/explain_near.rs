//! The slow path of comparisons with concepts: searches a value for every term.

use std::ops::Range;

use memchr::memmem;

use crate::matching::near::{reach, sentence_around};
use crate::rules::concept::{Concept, Term, is_whole_word};
use crate::rules::signature::Within;

/// Returns the range of the first anchor that begins in a passage of `value` and has a term of each
/// other part near it, together with the first of these terms; `None` if there is none.
pub(super) fn find_near(
    value: &str,
    concepts: &[Concept],
    within: Within,
    parts: &[Vec<String>],
    passage: &Range<usize>,
) -> Option<Range<usize>> {
    let terms_of = |part: &[String]| -> Vec<Range<usize>> {
        let named = part.iter().flat_map(|name| concepts.iter().filter(move |c| c.name == *name));
        occurrences(value, named.flat_map(|concept| &concept.terms))
    };
    let is_rare = |part: &Vec<String>| {
        let is_rare_concept =
            |name: &String| concepts.iter().any(|concept| concept.name == *name && concept.rare);
        !part.is_empty() && part.iter().all(is_rare_concept)
    };
    // Only a mutation of a rule lacks a rare part.
    let anchor_index = parts.iter().position(is_rare).unwrap_or_default();
    let mut anchors = terms_of(parts.get(anchor_index)?);
    anchors.retain(|anchor| passage.contains(&anchor.start));
    if anchors.is_empty() {
        return None;
    }
    let others = parts.iter().enumerate().filter(|(index, _)| *index != anchor_index);
    let others: Vec<Vec<Range<usize>>> = others.map(|(_, part)| terms_of(part)).collect();
    anchors.into_iter().find_map(|anchor| {
        let mut range = reach(&anchor, within.bytes(), &(0..value.len()));
        if within == Within::Sentence {
            range = sentence_around(value, &anchor, &range);
        }
        let is_near = |term: &&Range<usize>| {
            let overlaps = term.start < anchor.end && anchor.start < term.end;
            range.start <= term.start && term.end <= range.end && !overlaps
        };
        others.iter().try_fold(anchor.clone(), |matched, terms| {
            let term = terms.iter().find(is_near)?;
            Some(matched.start.min(term.start)..matched.end.max(term.end))
        })
    })
}

/// Returns all occurrences of terms, by position. Of occurrences of one term that overlap, only the
/// first counts here: no term overlaps itself.
fn occurrences<'t>(value: &str, terms: impl Iterator<Item = &'t String>) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for term in terms.map(|term| Term::parse(term)) {
        // There are thousands of terms: `str::match_indices` takes ten times as long.
        let starts = memmem::find_iter(value.as_bytes(), term.text);
        let candidates = starts.map(|start| start..start.saturating_add(term.text.len()));
        ranges.extend(candidates.filter(|range| is_whole_word(value, range.clone(), term.is_stem)));
    }
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    ranges
}
