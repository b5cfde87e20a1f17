//! Comparisons with concepts: finds terms of several concepts that are near each other.
//!
//! A comparison names several parts, each a list of concepts. One part, whose concepts have rare
//! terms, is the *anchor*. The scan of the text finds the terms of anchors. The terms of the other
//! parts are searched for only around the anchors, and only if a condition depends on the
//! comparison. So a request without an anchor costs nothing, however many terms and languages the
//! lexicon has.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::literal_scanner::Scanner;
use super::occurrences::max_occurrences;
use super::passage_roles::sections_at;
use super::segments::segment_at;
use crate::extract::{Passages, Request};
use crate::rules::concept::is_whole_word;
use crate::rules::signature::Within;

/// The compiled comparisons with concepts.
#[derive(Debug, Default)]
pub(crate) struct NearProgram {
    pub tests: Vec<NearTest>,
    /// For each concept, the indices of the tests that have it as an anchor concept.
    pub tests_by_anchor: Vec<Vec<usize>>,
    /// Terms that are searched for around anchors.
    pub scanner: Scanner,
    /// Concept of each term of `scanner`, and whether the term is a stem.
    pub terms: Vec<(u32, bool)>,
    /// Maximum bytes that any test searches on each side of an anchor.
    pub max_reach: usize,
}

/// A comparison with concepts.
#[derive(Debug)]
pub(crate) struct NearTest {
    pub bit: usize,
    /// Sections and roles in which an anchor counts, as bits.
    pub sections: u16,
    pub within: Within,
    /// Concepts whose terms are anchors.
    pub anchor_concepts: Box<[u32]>,
    /// For each other part, its concepts. A term of one of them must be within `within` of the
    /// anchor.
    pub others: Box<[Box<[u32]>]>,
}

/// An occurrence of a term in the text of a request. The order of the fields is the sort order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Occurrence {
    concept: u32,
    start: u32,
    end: u32,
}

/// The occurrences of terms in the current request.
#[derive(Debug, Default)]
pub(super) struct NearState {
    /// Anchors, in the order of the scan until a comparison runs, then sorted by position.
    anchors: Vec<Occurrence>,
    /// Terms around anchors, sorted by concept and position.
    terms: Vec<Occurrence>,
    /// Whether the text around the anchors was searched for `terms`.
    has_read_windows: bool,
    /// Maximum number of anchors, and maximum number of terms around them.
    max_recorded: usize,
}

impl NearProgram {
    /// Returns all tests that have `concept` as an anchor concept, as pairs of index and test.
    pub fn tests_of(&self, concept: u32) -> impl Iterator<Item = (usize, &NearTest)> {
        let indices = self.tests_by_anchor.get(concept as usize).into_iter().flatten();
        indices.filter_map(|index| Some((*index, self.tests.get(*index)?)))
    }
}

impl NearState {
    /// Resets the state for a text of `text_len` bytes.
    pub fn reset(&mut self, text_len: usize) {
        self.anchors.clear();
        self.terms.clear();
        self.has_read_windows = false;
        self.max_recorded = max_occurrences(text_len);
    }

    /// Records an anchor. Returns false if the maximum is reached; the anchor is then dropped.
    pub fn record_anchor(&mut self, concept: u32, range: &Range<usize>) -> bool {
        let has_room = self.anchors.len() < self.max_recorded;
        if has_room {
            self.anchors.push(Occurrence::new(concept, range));
        }
        has_room
    }

    /// Drops the anchors that no test may use, given the roles of the passages. Otherwise, every
    /// test that runs again would check each of these anchors.
    pub fn retain_anchors_by_role(
        &mut self,
        program: &NearProgram,
        request: &Request<'_>,
        passages: &Passages,
    ) {
        self.anchors.retain(|anchor| {
            let start = anchor.start as usize;
            let Some((_, segment)) = segment_at(request, start) else { return false };
            let sections = sections_at(segment, Some(passages), start);
            program.tests_of(anchor.concept).any(|(_, test)| test.sections & sections != 0)
        });
    }

    /// Returns the range of the text that spans an anchor of a test and a term of each other part
    /// within the distance of the test. Returns `None` if no such terms exist, or if the budget of
    /// searching is exhausted.
    pub fn find_match(
        &mut self,
        program: &NearProgram,
        test: &NearTest,
        request: &Request<'_>,
        passages: Option<&Passages>,
    ) -> Option<Range<usize>> {
        // A stable sort takes linear time for sorted anchors; else it merges the sorted runs of the
        // scan.
        self.anchors.sort_by_key(Occurrence::position);
        if !self.has_read_windows && !test.others.is_empty() {
            self.has_read_windows = true;
            self.read_windows(program, request);
        }
        let cost = test.others.iter().flatten().count().saturating_add(1);
        let is_anchor = |anchor: &&Occurrence| test.anchor_concepts.contains(&anchor.concept);
        self.anchors.iter().filter(is_anchor).find_map(|anchor| {
            request.work().spend_searching(cost.saturating_mul(LOOK_UP_COST)).then_some(())?;
            let (_, segment) = segment_at(request, anchor.start as usize)?;
            let sections = sections_at(segment, passages, anchor.start as usize);
            (sections & test.sections != 0).then_some(())?;
            let reach = reach(&anchor.range(), test.within.bytes(), &segment.range);
            let matched = self.match_around(anchor, &test.others, &reach)?;
            if test.others.is_empty() || test.within != Within::Sentence {
                return Some(matched);
            }
            request.work().spend_searching(reach.len()).then_some(())?;
            let reach = sentence_around(request.text(), &anchor.range(), &reach);
            self.match_around(anchor, &test.others, &reach)
        })
    }

    /// Returns the range that spans an anchor and, for each other part, the first term within
    /// `reach` that does not overlap the anchor. Returns `None` if a part has no such term.
    fn match_around(
        &self,
        anchor: &Occurrence,
        others: &[Box<[u32]>],
        reach: &Range<usize>,
    ) -> Option<Range<usize>> {
        others.iter().try_fold(anchor.range(), |matched, concepts| {
            let firsts = concepts.iter().filter_map(|concept| {
                self.first_within(*concept, reach, |term| !term.overlaps(anchor))
            });
            let first = firsts.min_by_key(Occurrence::position)?.range();
            Some(matched.start.min(first.start)..matched.end.max(first.end))
        })
    }

    /// Returns the first term of a concept within `reach` for which `accepts` returns true; `None`
    /// if there is no such term.
    fn first_within(
        &self,
        concept: u32,
        reach: &Range<usize>,
        accepts: impl Fn(&Occurrence) -> bool,
    ) -> Option<Occurrence> {
        let first = self
            .terms
            .partition_point(|term| (term.concept, term.start as usize) < (concept, reach.start));
        let following = self.terms.iter().skip(first);
        following
            .take_while(|term| term.concept == concept && (term.start as usize) < reach.end)
            .find(|term| term.end as usize <= reach.end && accepts(term))
            .copied()
    }

    /// Records the terms around all anchors. No byte is read twice. Stops if the budget of
    /// searching is exhausted.
    fn read_windows(&mut self, program: &NearProgram, request: &Request<'_>) {
        for window in self.windows(program, request) {
            let bytes = request.text().as_bytes().get(window.clone()).unwrap_or_default();
            if !request.work().spend_searching(bytes.len()) {
                break;
            }
            program.scanner.scan(bytes, &mut |term, offset| {
                let Some((concept, is_stem)) = program.terms.get(term) else { return };
                let start = window.start.saturating_add(offset);
                let range = start..start.saturating_add(program.scanner.literal_len(term));
                if !is_word_in_text(request, &range, *is_stem) {
                    return;
                }
                if self.terms.len() >= self.max_recorded {
                    return request.work().exhaust();
                }
                self.terms.push(Occurrence::new(*concept, &range));
            });
        }
        self.sort_terms();
    }

    /// Sorts the terms. A counting sort groups them by concept in linear time. Then the terms of
    /// each concept are sorted by position. This is fast, because each scan of a window has left
    /// them in a few sorted runs.
    fn sort_terms(&mut self) {
        let concepts = self.terms.iter().map(|term| term.concept as usize).max();
        let mut group_ends = vec![0_usize; concepts.map_or(0, |last| last.saturating_add(1))];
        for term in &self.terms {
            if let Some(count) = group_ends.get_mut(term.concept as usize) {
                *count = count.saturating_add(1);
            }
        }
        let mut end = 0_usize;
        for count in &mut group_ends {
            (*count, end) = (end, end.saturating_add(*count));
        }
        let mut grouped = self.terms.clone();
        for term in &self.terms {
            let Some(position) = group_ends.get_mut(term.concept as usize) else { continue };
            if let Some(slot) = grouped.get_mut(*position) {
                *slot = *term;
            }
            *position = position.saturating_add(1);
        }
        self.terms = grouped;
        self.terms.chunk_by_mut(|one, next| one.concept == next.concept).for_each(<[_]>::sort);
    }

    /// Returns the ranges of the text around the anchors of comparisons with several parts.
    /// Overlapping ranges are merged.
    fn windows(&self, program: &NearProgram, request: &Request<'_>) -> Vec<Range<usize>> {
        let mut windows: Vec<Range<usize>> = Vec::new();
        let has_windows = |anchor: &&Occurrence| {
            let mut tests = program.tests_of(anchor.concept);
            tests.any(|(_, test)| !test.others.is_empty())
        };
        for anchor in self.anchors.iter().filter(has_windows) {
            let Some((_, segment)) = segment_at(request, anchor.start as usize) else { continue };
            let window = reach(&anchor.range(), program.max_reach, &segment.range);
            match windows.last_mut() {
                Some(last) if window.start <= last.end => last.end = last.end.max(window.end),
                _ => windows.push(window),
            }
        }
        windows
    }
}

impl Occurrence {
    fn new(concept: u32, range: &Range<usize>) -> Self {
        Self { concept, start: range.start as u32, end: range.end as u32 }
    }

    fn position(&self) -> (u32, u32) {
        (self.start, self.end)
    }

    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Returns the range from `bytes` before an anchor to `bytes` after it, limited to the anchor's
/// value.
pub(crate) fn reach(anchor: &Range<usize>, bytes: usize, value: &Range<usize>) -> Range<usize> {
    let start = anchor.start.saturating_sub(bytes).max(value.start);
    start..anchor.end.saturating_add(bytes).min(value.end)
}

/// Returns whether an occurrence of a term lies within one value and is a whole word there. A stem
/// need only be the beginning of a word.
pub(super) fn is_word_in_text(request: &Request<'_>, range: &Range<usize>, is_stem: bool) -> bool {
    let Some((_, segment)) = segment_at(request, range.start) else { return false };
    let base = segment.range.start;
    let Some(value) = request.text().get(segment.range.clone()) else { return false };
    is_whole_word(value, range.start.saturating_sub(base)..range.end.saturating_sub(base), is_stem)
}

/// Reduces `reach` to the sentence around an anchor.
pub(crate) fn sentence_around(
    text: &str,
    anchor: &Range<usize>,
    reach: &Range<usize>,
) -> Range<usize> {
    let before = text.get(..anchor.start).unwrap_or_default().char_indices().rev();
    let after = text.get(anchor.end..).unwrap_or_default().char_indices();
    let ends_at = |position: usize| ends_sentence(text.get(position..).unwrap_or_default());
    let start = before
        .take_while(|(position, _)| *position >= reach.start)
        .find(|(position, _)| ends_at(*position))
        .map_or(reach.start, |(position, char)| position.saturating_add(char.len_utf8()));
    let end = after
        .map(|(offset, _)| anchor.end.saturating_add(offset))
        .take_while(|position| *position < reach.end)
        .find(|position| ends_at(*position));
    start..end.unwrap_or(reach.end)
}

/// Returns whether a sentence ends with the first character of `text`. A full stop within a number,
/// a file name or a domain name does not end a sentence.
fn ends_sentence(text: &str) -> bool {
    let mut chars = text.chars();
    match chars.next() {
        Some('.') => matches!(chars.next(), None | Some(' ' | '"' | ')')),
        Some('!' | '?' | '\u{3002}' | '\u{61f}' | '\u{6d4}' | '\u{964}') => true,
        _ => false,
    }
}

/// Cost of the look-up of a concept near an anchor: the number of bytes whose search takes as long.
const LOOK_UP_COST: usize = 8;
