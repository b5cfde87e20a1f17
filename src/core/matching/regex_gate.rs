//! The regex gate: runs a regex only where its required literals occur in order, at distances that
//! the regex allows.
//!
//! Most regexes of signatures are a few words with a bounded gap between them. Such a regex is
//! expensive: every byte of the gap adds an automaton state. The positions of its words show at low
//! cost whether it can match, and nearly always it cannot.

use std::ops::Range;

use once_cell::sync::OnceCell;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input};

use super::occurrences::Occurrences;
use super::passage_roles::{possible_sections, sections_at};
use super::required_literals::{ContextLiterals, RequiredLiteralIds};
use super::segments::{SegmentCursor, segment_at};
use crate::error::Error;
use crate::extract::{Passages, Request, Segment};

/// A comparison of prompt text with a regex.
#[derive(Debug)]
pub(crate) struct RegexTest {
    pub pattern: String,
    pub compiled: OnceCell<Option<Regex>>,
    pub bit: usize,
    /// Sections and roles in which a match may begin, as bits.
    pub sections: u16,
    /// Sets of literals, in order. Every match contains a literal of each set. There is at least
    /// one set.
    pub required_literals: Vec<RequiredLiteralIds>,
    /// Further sets of literals. Every match contains a literal of each, at a limited distance
    /// before or after its first required literal.
    pub context_literals: Vec<ContextLiterals>,
    /// Literals, one of which is at the start of every match; empty if unknown.
    pub first_literals: Box<[Box<[u8]>]>,
    /// Maximum bytes of a match; `None` if the length is not bounded.
    pub max_len: Option<usize>,
    /// ASCII characters, one of which is the first of every match; `None` if unknown.
    pub first_bytes: Option<Box<str>>,
}

/// The state of all regexes for the current request.
#[derive(Debug)]
pub(super) struct RegexGate {
    /// For each regex, a mask of the required literal sets of which a literal was seen.
    seen_required: Vec<u8>,
    occurrences: Occurrences,
}

impl RegexGate {
    pub fn new(regexes: usize, literals: usize) -> Self {
        Self { seen_required: vec![0; regexes], occurrences: Occurrences::new(literals) }
    }

    /// Resets the state for a text of `text_len` bytes.
    pub fn reset(&mut self, text_len: usize) {
        self.seen_required.fill(0);
        self.occurrences.clear(text_len);
    }

    /// Records that a literal begins at byte `start` of the text. Returns false if there are too
    /// many occurrences; the occurrence is then dropped.
    pub fn record_occurrence(&mut self, literal: usize, start: usize) -> bool {
        self.occurrences.record(literal, start)
    }

    /// Records that the required literal `required_index` of a regex was seen. Returns true if it
    /// was the last one missing.
    pub fn mark_required_seen(
        &mut self,
        regex: usize,
        test: &RegexTest,
        required_index: usize,
    ) -> bool {
        let Some(seen) = self.seen_required.get_mut(regex) else { return false };
        let was_complete = *seen == test.required_mask();
        *seen |= required_bit(required_index);
        !was_complete && *seen == test.required_mask()
    }

    /// Runs a regex at the positions where it may match. Returns the byte range of its first match
    /// in the text. Returns `None` if it does not match or does not compile, or if the budget of
    /// searching is exhausted. Only adversarial text exhausts the budget.
    ///
    /// With `passages`, a match counts only if it begins in a passage whose role the regex tests.
    pub fn find_match(
        &mut self,
        test: &RegexTest,
        request: &Request<'_>,
        passages: Option<&Passages>,
    ) -> Option<Range<usize>> {
        if !request.work().may_search() {
            request.work().exhaust();
            return None;
        }
        let starts = self.candidate_starts(test, request);
        if starts.is_empty() {
            return None;
        }
        let regex = get_or_compile(&test.pattern, &test.compiled)?;
        let starts = starts.into_iter().filter(|start| self.has_context(test, *start, request));
        match test.per_start_bounds() {
            Some(bounds) => search_each_start(regex, test, bounds, starts, request, passages),
            None => search_windows(test, starts, request).iter().find_map(|window| {
                spend_occurrences(request, 1)?;
                request.work().spend_searching(window.len()).then_some(())?;
                search_passages(regex, test, window, request, passages)
            }),
        }
    }

    /// Returns whether each set of context literals has a literal at an allowed distance from the
    /// first required literal, which begins at `start`. Returns false if the budget is exhausted.
    fn has_context(&self, test: &RegexTest, start: usize, request: &Request<'_>) -> bool {
        if test.context_literals.is_empty() {
            return true;
        }
        let Some((_, segment)) = segment_at(request, start) else { return false };
        test.context_literals.iter().all(|set| {
            let Some((earliest, latest)) = set.positions(start) else { return false };
            let earliest = earliest.max(segment.range.start);
            let latest = latest.min(segment.range.end);
            let end = latest.saturating_add(set.max_searched_len).min(segment.range.end);
            let window = request.text().as_bytes().get(earliest..end).unwrap_or_default();
            let search_cost = set.searched.len().saturating_mul(window.len() / SEARCHED_PER_BYTE);
            spend_occurrences(request, set.recorded.len()).is_some()
                && request.work().spend_searching(search_cost)
                && (self.occurrences.any_within(&set.recorded, earliest, latest)
                    || set.searched.iter().any(|literal| literal.find(window).is_some()))
        })
    }

    /// Returns the starts of the first required literal after which all others follow in order, at
    /// distances that the regex allows.
    fn candidate_starts(&mut self, test: &RegexTest, request: &Request<'_>) -> Vec<usize> {
        self.occurrences.sort();
        if !self.rarest_fits(test, request) {
            return Vec::new();
        }
        let mut segments = SegmentCursor::new(request);
        let mut starts_by_required: Vec<Vec<usize>> =
            Vec::with_capacity(test.required_literals.len());
        for required in &test.required_literals {
            let mut starts = self.occurrences.starts_of_any(required);
            if spend_occurrences(request, starts.len()).is_none() {
                return Vec::new();
            }
            starts.retain(|start| {
                let Some((_, segment)) = segments.at(*start) else { return false };
                match starts_by_required.last() {
                    Some(predecessors) => required.has_predecessor(*start, predecessors, segment),
                    None => required.can_begin_match(*start, test.sections, segment),
                }
            });
            if starts.is_empty() {
                return starts;
            }
            starts_by_required.push(starts);
        }
        let mut successors = starts_by_required.pop().unwrap_or_default();
        for required in test.required_literals.iter().skip(1).rev() {
            let mut starts = starts_by_required.pop().unwrap_or_default();
            starts.retain(|start| required.has_successor(*start, &successors));
            successors = starts;
        }
        successors
    }

    /// Returns whether some occurrence of the rarest required literal has all other required
    /// literals around it, each within its range of distances.
    ///
    /// This is nearly always false. The occurrences of the frequent literals then need no check.
    fn rarest_fits(&mut self, test: &RegexTest, request: &Request<'_>) -> bool {
        let count = |required: &RequiredLiteralIds| self.occurrences.count(required);
        let Some((index, rarest)) =
            test.required_literals.iter().enumerate().min_by_key(|(_, required)| count(required))
        else {
            return false;
        };
        let (preceding, following) =
            test.required_literals.split_at_checked(index).unwrap_or_default();
        let following = following.get(1..).unwrap_or_default();
        let mut starts =
            rarest.literals.iter().flat_map(|literal| self.occurrences.starts_of(*literal));
        starts.any(|start| {
            let start = *start as usize;
            let Some((_, segment)) = segment_at(request, start) else { return false };
            spend_occurrences(request, 1).is_some()
                && possible_sections(segment) & test.sections != 0
                && self.fits_before(preceding, rarest, start, segment.range.start, request)
                && self.fits_after(following, start, segment.range.end, request)
        })
    }

    /// Returns whether each required literal of `preceding`, in order, occurs before `rarest` at a
    /// distance that the regex permits. `rarest` begins at `start` and comes after `preceding` in
    /// the regex.
    fn fits_before(
        &self,
        preceding: &[RequiredLiteralIds],
        rarest: &RequiredLiteralIds,
        start: usize,
        segment_start: usize,
        request: &Request<'_>,
    ) -> bool {
        let mut next = rarest;
        let mut earliest = start;
        let mut latest = start;
        preceding.iter().rev().all(|required| {
            earliest = next
                .max_distance
                .map_or(segment_start, |max| earliest.saturating_sub(max))
                .max(segment_start);
            let Some(new_latest) = latest.checked_sub(next.min_distance) else { return false };
            latest = new_latest;
            next = required;
            self.occurs_within(required, earliest, latest, request)
        })
    }

    /// Returns whether each required literal of `following`, in order, occurs at a distance that
    /// the regex permits after the literal that begins at `start`.
    fn fits_after(
        &self,
        following: &[RequiredLiteralIds],
        start: usize,
        segment_end: usize,
        request: &Request<'_>,
    ) -> bool {
        let mut earliest = start;
        let mut latest = start;
        following.iter().all(|required| {
            earliest = earliest.saturating_add(required.min_distance);
            latest = required
                .max_distance
                .map_or(segment_end, |max| latest.saturating_add(max))
                .min(segment_end);
            self.occurs_within(required, earliest, latest, request)
        })
    }

    /// Returns whether a required literal begins between `earliest` and `latest`, both included.
    /// Spends the cost of looking up each alternative. Returns false if the budget is exhausted.
    fn occurs_within(
        &self,
        required: &RequiredLiteralIds,
        earliest: usize,
        latest: usize,
        request: &Request<'_>,
    ) -> bool {
        spend_occurrences(request, required.literals.len()).is_some()
            && self.occurrences.any_within(&required.literals, earliest, latest)
    }
}

impl RegexTest {
    /// Returns the mask of all required literals.
    fn required_mask(&self) -> u8 {
        let unused = u8::BITS.saturating_sub(self.required_literals.len() as u32);
        u8::MAX.checked_shr(unused).unwrap_or_default()
    }

    /// Returns whether a match may begin at the start of `text`: whether `first_bytes` and
    /// `first_literals` allow it.
    fn may_begin_with(&self, text: &[u8]) -> bool {
        let may_begin_with = |byte| {
            let first_bytes = self.first_bytes.as_deref();
            first_bytes.is_none_or(|first_bytes| first_bytes.as_bytes().contains(byte))
        };
        text.first().is_some_and(may_begin_with)
            && (self.first_literals.is_empty()
                || self.first_literals.iter().any(|literal| text.starts_with(literal)))
    }

    /// Returns the bounds of a match; `None` if they are unknown, or too large to try each start
    /// separately.
    fn per_start_bounds(&self) -> Option<MatchBounds> {
        let max_before = self
            .required_literals
            .first()?
            .max_distance
            .filter(|before| *before <= MAX_ANCHORED_STARTS)?;
        let max_len = self.max_len.filter(|max_len| *max_len <= MAX_ANCHORED_MATCH_BYTES)?;
        Some(MatchBounds { max_before, max_len })
    }
}

/// The bounds of a match of a regex, in bytes.
#[derive(Clone, Copy, Debug)]
struct MatchBounds {
    /// Maximum bytes of a match before its first required literal.
    max_before: usize,
    /// Maximum bytes of a match.
    max_len: usize,
}

impl RequiredLiteralIds {
    /// Returns whether this literal, at `start`, can be the first required literal of a match.
    fn can_begin_match(&self, start: usize, sections: u16, segment: &Segment<'_>) -> bool {
        possible_sections(segment) & sections != 0
            && segment.range.start.saturating_add(self.min_distance) <= start
    }

    /// Returns whether one of `predecessors` is at an allowed distance before `start`, in the same
    /// value.
    fn has_predecessor(&self, start: usize, predecessors: &[usize], segment: &Segment<'_>) -> bool {
        let Some(latest) = start.checked_sub(self.min_distance) else { return false };
        let earliest = self.max_distance.map_or(0, |max| start.saturating_sub(max));
        let end_index = predecessors.partition_point(|position| *position <= latest);
        let nearest = end_index.checked_sub(1).and_then(|index| predecessors.get(index));
        nearest.is_some_and(|nearest| *nearest >= earliest.max(segment.range.start))
    }

    /// Returns whether one of `successors`, the starts of this literal, is at an allowed distance
    /// after `start`.
    ///
    /// The value needs no check here: each successor was kept only if it has a predecessor in its
    /// own value.
    fn has_successor(&self, start: usize, successors: &[usize]) -> bool {
        let earliest = start.saturating_add(self.min_distance);
        let index = successors.partition_point(|position| *position < earliest);
        let latest = self.max_distance.map_or(usize::MAX, |max| start.saturating_add(max));
        successors.get(index).is_some_and(|nearest| *nearest <= latest)
    }
}

fn required_bit(index: usize) -> u8 {
    1_u8.checked_shl(index as u32).unwrap_or_default()
}

/// Searches for a match that contains the first required literal at one of `literal_starts`. Tries
/// each possible start of a match separately. Returns `None` if there is no match, or if the budget
/// is exhausted.
///
/// A search from all starts at once would need an automaton state for each combination of positions
/// in the gaps.
fn search_each_start(
    regex: &Regex,
    test: &RegexTest,
    bounds: MatchBounds,
    literal_starts: impl Iterator<Item = usize>,
    request: &Request<'_>,
    passages: Option<&Passages>,
) -> Option<Range<usize>> {
    let min = test.required_literals.first()?.min_distance;
    let text = request.text().as_bytes();
    let mut next_start = 0;
    let mut segments = SegmentCursor::new(request);
    for literal_start in literal_starts {
        let (_, segment) = segments.at(literal_start)?;
        let earliest = literal_start.saturating_sub(bounds.max_before);
        let first_start = earliest.max(segment.range.start).max(next_start);
        for start in first_start..=literal_start.saturating_sub(min) {
            if !test.may_begin_with(text.get(start..).unwrap_or_default())
                || sections_at(segment, passages, start) & test.sections == 0
            {
                continue;
            }
            let window = start..start.saturating_add(bounds.max_len).min(segment.range.end);
            request.work().spend_searching(window.len()).then_some(())?;
            let matched = search_window(regex, request, segment, &window, Anchored::Yes);
            if matched.is_some() {
                return matched;
            }
        }
        next_start = literal_start.saturating_sub(min).saturating_add(1).max(next_start);
    }
    None
}

/// Spends the cost of checking `count` occurrences of required literals; `None` if the budget is
/// exhausted.
fn spend_occurrences(request: &Request<'_>, count: usize) -> Option<()> {
    request.work().spend_searching(count.saturating_mul(OCCURRENCE_COST_BYTES)).then_some(())
}

/// Returns the ranges of the text in which a match must lie. Overlapping ranges are merged, so that
/// together they are not longer than the text.
fn search_windows(
    test: &RegexTest,
    literal_starts: impl Iterator<Item = usize>,
    request: &Request<'_>,
) -> Vec<Range<usize>> {
    let mut windows: Vec<Range<usize>> = Vec::new();
    let Some(required) = test.required_literals.first() else { return windows };
    let max_after = test.max_len.map(|longest| longest.saturating_sub(required.min_distance));
    for literal_start in literal_starts {
        let Some((_, segment)) = segment_at(request, literal_start) else { continue };
        let value_range = &segment.range;
        let start = required.max_distance.map_or(value_range.start, |max| {
            literal_start.saturating_sub(max).max(value_range.start)
        });
        let end = max_after.map_or(value_range.end, |max_after| {
            literal_start.saturating_add(max_after).min(value_range.end)
        });
        match windows.last_mut() {
            Some(last) if start <= last.end && last.start <= start => last.end = end.max(last.end),
            _ => windows.push(start..end),
        }
    }
    windows
}

/// Returns the first match in a window that begins in a passage whose role the regex tests.
///
/// Each search begins in such a passage. If it finds no match, the rest of the window has none. If
/// it finds a match that begins after the passage, the next search begins where this match begins.
/// So no byte before a match is searched twice.
fn search_passages(
    regex: &Regex,
    test: &RegexTest,
    window: &Range<usize>,
    request: &Request<'_>,
    passages: Option<&Passages>,
) -> Option<Range<usize>> {
    let (_, segment) = segment_at(request, window.start)?;
    let Some(passages) = passages else {
        return search_window(regex, request, segment, window, Anchored::No);
    };
    let mut start = window.start;
    while start < window.end {
        let passage_end = passages.end_at(start).min(window.end);
        if sections_at(segment, Some(passages), start) & test.sections != 0 {
            let rest = start..window.end;
            let matched = search_window(regex, request, segment, &rest, Anchored::No)?;
            if matched.start < passage_end {
                return Some(matched);
            }
            request.work().spend_searching(matched.len()).then_some(())?;
            start = matched.start;
        } else {
            start = passage_end;
        }
    }
    None
}

/// Returns the first match of a regex in a window of the text of a segment.
///
/// `^`, `$` and `\b` see the text of the value around the window; they match at the edges of the
/// value, not of the window.
fn search_window(
    regex: &Regex,
    request: &Request<'_>,
    segment: &Segment<'_>,
    window: &Range<usize>,
    anchored: Anchored,
) -> Option<Range<usize>> {
    let text = request.text().as_bytes().get(segment.range.clone())?;
    let base = segment.range.start;
    let window = window.start.checked_sub(base)?..window.end.checked_sub(base)?;
    let matched = regex.search(&Input::new(text).range(window).anchored(anchored))?.range();
    Some(base.saturating_add(matched.start)..base.saturating_add(matched.end))
}

/// Returns a regex, or `None` if it does not compile. The regex is compiled on first use, because
/// most regexes are never used and compilation is expensive.
pub(super) fn get_or_compile<'r>(
    pattern: &str,
    cell: &'r OnceCell<Option<Regex>>,
) -> Option<&'r Regex> {
    cell.get_or_init(|| compile(pattern).ok()).as_ref()
}

/// Compiles a pattern with the memory limits of the Worker.
///
/// The error is the message of the parser, or of the exceeded limit.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let limits = Regex::config()
        .utf8_empty(false)
        .nfa_size_limit(Some(MAX_NFA_BYTES))
        .hybrid_cache_capacity(MAX_DFA_CACHE_BYTES)
        .which_captures(WhichCaptures::Implicit)
        // Allows only the engines that the Worker has. In a build of the CLI, other crates can
        // enable the Cargo features for more engines. The CLI would then run regexes with engines
        // that the Worker does not have, and measure their cost.
        .auto_prefilter(false)
        .onepass(false)
        .backtrack(false)
        .dfa(false);
    // The Sigma compiler rewrites `.` to match any byte, so a match may begin inside a character.
    let syntax = regex_automata::util::syntax::Config::new().utf8(false);
    Regex::builder().configure(limits).syntax(syntax).build(pattern).map_err(|error| {
        let reason = error.syntax_error().map(ToString::to_string);
        reason.unwrap_or_else(|| error.to_string())
    })
}

/// Returns the memory of a compiled regex before it runs, in bytes.
pub fn memory_bytes(regex: &Regex) -> usize {
    // `memory_usage` reports half of the measured memory (see `tests/memory_limits.rs`).
    regex.memory_usage().saturating_mul(2).saturating_add(REGEX_OVERHEAD_BYTES)
}

/// Compiles one pattern per step, and yields an error if it does not compile or if the patterns so
/// far exceed [`MAX_TOTAL_REGEX_BYTES`].
pub(super) fn compile_stepwise<'r>(
    regexes: impl Iterator<Item = (&'r String, &'r OnceCell<Option<Regex>>)>,
) -> impl Iterator<Item = Result<(), Error>> {
    let mut total_bytes = 0_usize;
    regexes.map(move |(pattern, cell)| {
        let regex = match cell.get() {
            Some(Some(regex)) => Ok(regex.clone()),
            _ => compile(pattern),
        };
        let regex = regex.map_err(|reason| {
            Error::new(
                format!("the regex '{pattern}' does not compile: {}", one_line(&reason)),
                "correct the pattern, or make it shorter",
            )
        })?;
        total_bytes = total_bytes.saturating_add(memory_bytes(&regex));
        if total_bytes > MAX_TOTAL_REGEX_BYTES {
            let problem =
                format!("the regexes take more than {} MiB together", MAX_TOTAL_REGEX_BYTES >> 20);
            return Err(Error::new(problem, "replace some by literals"));
        }
        let _ = cell.set(Some(regex));
        Ok(())
    })
}

/// Returns the last line of a parser message, which gives the reason. The lines before it show the
/// pattern.
fn one_line(reason: &str) -> &str {
    reason.lines().last().unwrap_or_default().trim_start_matches("error: ")
}

/// Maximum bytes of all compiled regexes of a ruleset, before they run.
const MAX_TOTAL_REGEX_BYTES: usize = 24 << 20;

/// Fixed overhead per compiled regex, in bytes.
const REGEX_OVERHEAD_BYTES: usize = 4 << 10;

/// Maximum bytes of the NFA of one regex.
const MAX_NFA_BYTES: usize = 1 << 20;

/// Maximum bytes of the lazy DFA of one regex, which is built during the search and cleared when it
/// is full. An isolate has 128 MB in total; a few regexes of the shipped rules would use more than
/// 1 MB.
const MAX_DFA_CACHE_BYTES: usize = if cfg!(target_family = "wasm") { 1 << 20 } else { 8 << 20 };

/// Maximum bytes from the start of a match to its first required literal for which each start is
/// tried separately.
const MAX_ANCHORED_STARTS: usize = 64;

/// Maximum bytes of a match for which each start is tried separately.
const MAX_ANCHORED_MATCH_BYTES: usize = 1 << 10;

/// Bytes that a search for one literal covers in the time in which a regex covers one byte.
const SEARCHED_PER_BYTE: usize = 8;

/// Cost of the check of one occurrence of a required literal: the number of bytes whose search
/// takes as long.
const OCCURRENCE_COST_BYTES: usize = 8;
