//! The slow path of comparisons with concepts (lists of terms that mean one thing): searches a
//! value for every term.
//!
//! A comparison has several parts, each a list of concepts. The *anchor* is a term of the first
//! part whose concepts are all rare.

use std::ops::Range;

use memchr::memmem;

use crate::matching::near::{reach, sentence_around};
use crate::rules::concept::{Concept, Term, is_whole_word};
use crate::rules::signature::Within;

/// Finds the first anchor that begins in `passage`, a range of `value`, and that has a term of each
/// other part within reach: in the same sentence, or within the bytes of `within`. A term that
/// overlaps the anchor does not count. Returns the range from the first to the last of these terms,
/// including the anchor; `None` if there is no such anchor.
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
    // A valid rule has a part with only rare concepts. The default, the first part, is for the
    // mutations of rules that `hedgerow test` makes.
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

/// Returns all occurrences of terms, by position. Occurrences of a term may overlap: the term "as
/// many as" occurs twice in "as many as many as".
fn occurrences<'t>(value: &str, terms: impl Iterator<Item = &'t String>) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for term in terms.map(|term| Term::parse(term)) {
        // This search uses `memmem`, because there are thousands of terms and `str::match_indices`
        // takes ten times as long.
        let finder = memmem::Finder::new(term.text);
        let mut next = 0_usize;
        let starts = std::iter::from_fn(|| {
            let start = next.saturating_add(finder.find(value.as_bytes().get(next..)?)?);
            next = start.saturating_add(1);
            Some(start)
        });
        let candidates = starts.map(|start| start..start.saturating_add(term.text.len()));
        ranges.extend(candidates.filter(|range| is_whole_word(value, range.clone(), term.is_stem)));
    }
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    ranges
}
