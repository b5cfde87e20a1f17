//! Regexes: they run last, and only where their landmarks stand in order and near enough.
//!
//! Most of what signatures look for is a few words with a bounded gap between them. Such a regex is
//! dear to run, for each byte of a gap is a state; whether its words stand as it needs them is cheap
//! to see from where they are, and nearly always they do not.

use std::ops::Range;

use once_cell::sync::OnceCell;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input};

use super::occurrences::Occurrences;
use super::segment_at;
use crate::error::Error;
use crate::request::Request;

/// A comparison of prompt text with a regex.
#[derive(Debug)]
pub(crate) struct RegexTest {
    pub pattern: String,
    pub compiled: OnceCell<Option<Regex>>,
    pub bit: usize,
    /// Where the text has to stand in the conversation, as bits of [`crate::field::Place`].
    pub places: u8,
    /// What every match passes, in order; at least one.
    pub landmarks: Vec<Landmark>,
    /// Bytes of the longest match, where there is a longest.
    pub longest: Option<usize>,
    /// ASCII characters with which every match begins, where they are few.
    pub first: Option<Box<str>>,
}

/// [`crate::signature::Landmark`], compiled.
#[derive(Debug)]
pub(crate) struct Landmark {
    /// Its literals' places in the scanner's list.
    pub literals: Vec<usize>,
    pub min: usize,
    pub max: Option<usize>,
}

/// What is known of the regexes for the request at hand.
#[derive(Debug)]
pub(super) struct Candidates {
    /// The landmarks that were seen, a bit each, by regex.
    seen: Vec<u8>,
    occurrences: Occurrences,
    /// Bytes that may yet be searched, over all regexes.
    budget: usize,
}

impl Candidates {
    pub fn new(regexes: usize, literals: usize) -> Self {
        Self { seen: vec![0; regexes], occurrences: Occurrences::new(literals), budget: 0 }
    }

    /// Makes ready for a text of so many bytes.
    pub fn clear(&mut self, text: usize) {
        self.budget = text.saturating_mul(BUDGET).saturating_add(1 << 16);
        self.seen.fill(0);
        self.occurrences.clear();
    }

    /// Notes that a landmark's literal begins at a byte of the text.
    pub fn note(&mut self, literal: usize, start: usize) {
        self.occurrences.note(literal, start);
    }

    /// Notes that a regex's landmark of this number was seen; true where it was the last one missing.
    pub fn see(&mut self, regex: usize, test: &RegexTest, landmark: usize) -> bool {
        let Some(seen) = self.seen.get_mut(regex) else { return false };
        let was_complete = *seen == test.all();
        *seen |= bit(landmark);
        !was_complete && *seen == test.all()
    }

    /// Whether the text took more searching than any that is not made for it.
    pub fn is_spent(&self) -> bool {
        self.budget == 0
    }

    /// Runs a regex where it may match; its first match.
    pub fn settle(&mut self, test: &RegexTest, request: &Request<'_>) -> Option<Range<usize>> {
        if self.is_spent() {
            return None;
        }
        let firsts = self.firsts(test, request);
        if firsts.is_empty() {
            return None;
        }
        let compiled = compiled(&test.pattern, &test.compiled)?;
        match test.reach() {
            Some(reach) => first_from(compiled, test, reach, &firsts, request, &mut self.budget),
            None => windows(test, &firsts, request).iter().find_map(|window| {
                spend(&mut self.budget, window)?;
                find(compiled, request, window, Anchored::No)
            }),
        }
    }

    /// Where a regex's first landmark stands with all others behind it, in order, and no nearer and
    /// no farther than the regex has them.
    fn firsts(&mut self, test: &RegexTest, request: &Request<'_>) -> Vec<usize> {
        self.occurrences.sort();
        if !self.may_stand(test, request) {
            return Vec::new();
        }
        let mut reached: Vec<Vec<usize>> = Vec::with_capacity(test.landmarks.len());
        for landmark in &test.landmarks {
            let mut starts = self.occurrences.all(landmark);
            self.budget = self.budget.saturating_sub(starts.len().saturating_mul(START));
            starts.retain(|start| match reached.last() {
                Some(before) => landmark.follows(*start, before, request),
                None => landmark.begins(*start, test.places, request),
            });
            if starts.is_empty() {
                return starts;
            }
            reached.push(starts);
        }
        let mut behind = reached.pop().unwrap_or_default();
        for landmark in test.landmarks.iter().skip(1).rev() {
            let mut starts = reached.pop().unwrap_or_default();
            starts.retain(|start| landmark.is_followed(*start, &behind));
            behind = starts;
        }
        behind
    }

    /// Whether the landmark that occurs least has all others at some distance that each by itself may
    /// have: nearly always it has not, and then nobody need look at those that occur more.
    fn may_stand(&mut self, test: &RegexTest, request: &Request<'_>) -> bool {
        let count = |landmark: &Landmark| self.occurrences.count(landmark);
        let Some((place, rarest)) =
            test.landmarks.iter().enumerate().min_by_key(|(_, landmark)| count(landmark))
        else {
            return false;
        };
        let (before, behind) = test.landmarks.split_at_checked(place).unwrap_or_default();
        let behind = behind.get(1..).unwrap_or_default();
        let mut left = self.budget;
        let mut starts = rarest.literals.iter().flat_map(|literal| self.occurrences.of(*literal));
        let may_stand = starts.any(|start| {
            let start = *start as usize;
            left = left.saturating_sub(START);
            let Some((_, segment)) = segment_at(request, start) else { return false };
            left > 0
                && segment.place as u8 & test.places != 0
                && self.stand_before(before, rarest, start, segment.range.start, &mut left)
                && self.stand_behind(behind, start, segment.range.end, &mut left)
        });
        self.budget = left;
        may_stand
    }

    /// Whether each landmark of `before` stands as far before `start` as those between may have it.
    fn stand_before(
        &self,
        before: &[Landmark],
        rarest: &Landmark,
        start: usize,
        from: usize,
        left: &mut usize,
    ) -> bool {
        let mut next = rarest;
        let (mut earliest, mut latest) = (start, start);
        before.iter().rev().all(|landmark| {
            earliest = next.max.map_or(from, |max| earliest.saturating_sub(max)).max(from);
            let Some(end) = latest.checked_sub(next.min) else { return false };
            latest = end;
            next = landmark;
            self.stands_within(landmark, earliest, latest, left)
        })
    }

    /// The same behind it.
    fn stand_behind(
        &self,
        behind: &[Landmark],
        start: usize,
        end: usize,
        left: &mut usize,
    ) -> bool {
        let (mut earliest, mut latest) = (start, start);
        behind.iter().all(|landmark| {
            earliest = earliest.saturating_add(landmark.min);
            latest = landmark.max.map_or(end, |max| latest.saturating_add(max)).min(end);
            self.stands_within(landmark, earliest, latest, left)
        })
    }

    /// Whether a landmark stands in a stretch of the text; each of its literals is looked for.
    fn stands_within(
        &self,
        landmark: &Landmark,
        earliest: usize,
        latest: usize,
        left: &mut usize,
    ) -> bool {
        *left = left.saturating_sub(landmark.literals.len().saturating_mul(START));
        self.occurrences.any_within(landmark, earliest, latest)
    }
}

impl RegexTest {
    /// The bits of all landmarks.
    fn all(&self) -> u8 {
        self.landmarks.iter().enumerate().fold(0, |all, (number, _)| all | bit(number))
    }

    /// Whether a match may begin with this byte; one that is empty begins anywhere.
    fn may_begin(&self, byte: Option<&u8>) -> bool {
        let first = self.first.as_deref();
        first.is_none_or(|first| byte.is_some_and(|byte| first.as_bytes().contains(byte)))
    }

    /// How far before its first landmark a match may begin, and how long it may be, if both are
    /// short enough to try each start by itself.
    fn reach(&self) -> Option<(usize, usize)> {
        let before = self.landmarks.first()?.max.filter(|before| *before <= NEAR)?;
        Some((before, self.longest.filter(|longest| *longest <= SHORT)?))
    }
}

impl Landmark {
    /// Whether a match can begin with this landmark at `start`.
    fn begins(&self, start: usize, places: u8, request: &Request<'_>) -> bool {
        segment_at(request, start).is_some_and(|(_, segment)| {
            segment.place as u8 & places != 0
                && segment.range.start.saturating_add(self.min) <= start
        })
    }

    /// Whether one of `before` is as far before `start` as it has to be, and in the same value.
    fn follows(&self, start: usize, before: &[usize], request: &Request<'_>) -> bool {
        let Some((_, segment)) = segment_at(request, start) else { return false };
        let Some(latest) = start.checked_sub(self.min) else { return false };
        let earliest = self.max.map_or(0, |max| start.saturating_sub(max));
        let behind = before.partition_point(|before| *before <= latest);
        let nearest = behind.checked_sub(1).and_then(|nearest| before.get(nearest));
        nearest.is_some_and(|nearest| *nearest >= earliest.max(segment.range.start))
    }

    /// Whether one of `behind` is as far behind `start` as it has to be. All of them follow some
    /// start in the same value.
    fn is_followed(&self, start: usize, behind: &[usize]) -> bool {
        let earliest = start.saturating_add(self.min);
        let before = behind.partition_point(|behind| *behind < earliest);
        let latest = self.max.map_or(usize::MAX, |max| start.saturating_add(max));
        behind.get(before).is_some_and(|nearest| *nearest <= latest)
    }
}

fn bit(landmark: usize) -> u8 {
    1_u8.checked_shl(landmark as u32).unwrap_or_default()
}

/// Tries each start. A search for a match anywhere would have to follow all starts at once, each in
/// its own place of a gap: an automaton with as many states as there are combinations of those.
fn first_from(
    regex: &Regex,
    test: &RegexTest,
    (before, longest): (usize, usize),
    firsts: &[usize],
    request: &Request<'_>,
    budget: &mut usize,
) -> Option<Range<usize>> {
    let min = test.landmarks.first()?.min;
    let text = request.text().as_bytes();
    let mut next = 0;
    for first in firsts {
        let (_, segment) = segment_at(request, *first)?;
        let from = first.saturating_sub(before).max(segment.range.start).max(next);
        for start in from..=first.saturating_sub(min) {
            if !test.may_begin(text.get(start)) {
                continue;
            }
            let window = start..start.saturating_add(longest).min(segment.range.end);
            spend(budget, &window)?;
            let found = find(regex, request, &window, Anchored::Yes);
            if found.is_some() {
                return found;
            }
        }
        next = first.saturating_sub(min).saturating_add(1).max(next);
    }
    None
}

/// Takes the bytes of a window from what may yet be searched; `None` where that is not enough.
fn spend(budget: &mut usize, window: &Range<usize>) -> Option<()> {
    *budget = budget.saturating_sub(window.len());
    (*budget > 0).then_some(())
}

/// The parts of the text in which a match would have to lie. Parts that overlap are joined, so that
/// together they are no longer than the text.
fn windows(test: &RegexTest, firsts: &[usize], request: &Request<'_>) -> Vec<Range<usize>> {
    let mut windows: Vec<Range<usize>> = Vec::new();
    let Some(landmark) = test.landmarks.first() else { return windows };
    let behind = test.longest.map(|longest| longest.saturating_sub(landmark.min));
    for first in firsts {
        let Some((_, segment)) = segment_at(request, *first) else { continue };
        let value = &segment.range;
        let from =
            landmark.max.map_or(value.start, |max| first.saturating_sub(max).max(value.start));
        let to = behind.map_or(value.end, |behind| first.saturating_add(behind).min(value.end));
        match windows.last_mut() {
            Some(last) if from <= last.end && last.start <= from => last.end = to.max(last.end),
            _ => windows.push(from..to),
        }
    }
    windows
}

/// The first match of a regex in a window of a request's text. What stands outside the window but
/// inside the value is seen by `^`, `$` and `\b`; the value's edges are edges.
fn find(
    regex: &Regex,
    request: &Request<'_>,
    window: &Range<usize>,
    anchored: Anchored,
) -> Option<Range<usize>> {
    let (_, segment) = segment_at(request, window.start)?;
    let text = request.text().as_bytes().get(segment.range.clone())?;
    let base = segment.range.start;
    let window = window.start.checked_sub(base)?..window.end.checked_sub(base)?;
    let found = regex.search(&Input::new(text).range(window).anchored(anchored))?.range();
    Some(base.saturating_add(found.start)..base.saturating_add(found.end))
}

/// A regex, compiled on first need: most are never needed, and compiling is dear.
pub(super) fn compiled<'r>(pattern: &str, cell: &'r OnceCell<Option<Regex>>) -> Option<&'r Regex> {
    cell.get_or_init(|| compile(pattern).ok()).as_ref()
}

/// Compiles a pattern under the limits of the edge.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let limits = Regex::config()
        .utf8_empty(false)
        .nfa_size_limit(Some(REGEX_BYTES))
        .hybrid_cache_capacity(CACHE_BYTES)
        .which_captures(WhichCaptures::Implicit);
    // `check` writes `.` as a byte (see `sigma`), so a match may begin within a character.
    let syntax = regex_automata::util::syntax::Config::new().utf8(false);
    Regex::builder().configure(limits).syntax(syntax).build(pattern).map_err(|error| {
        let reason = error.syntax_error().map(ToString::to_string);
        reason.unwrap_or_else(|| error.to_string())
    })
}

/// Compiles patterns, one a step; what is wrong with one, or that those so far take too much.
pub(super) fn checks<'r>(
    regexes: impl Iterator<Item = (&'r String, &'r OnceCell<Option<Regex>>)>,
) -> impl Iterator<Item = Result<(), Error>> {
    let mut bytes = 0_usize;
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
        // What it tells of is half of what it takes (see `tests/memory.rs`).
        let own = regex.memory_usage().saturating_mul(2).saturating_add(EACH);
        bytes = bytes.saturating_add(own);
        if bytes > ALL_BYTES {
            let problem = format!("the regexes take more than {} MiB together", ALL_BYTES >> 20);
            return Err(Error::new(problem, "replace some by literals"));
        }
        let _ = cell.set(Some(regex));
        Ok(())
    })
}

/// A message of the parser's, which draws the pattern over several lines, in one.
fn one_line(reason: &str) -> &str {
    reason.lines().last().unwrap_or_default().trim_start_matches("error: ")
}

/// Bytes that all regexes of a ruleset may take, before they run.
const ALL_BYTES: usize = 24 << 20;

/// Bytes that each takes beside, whatever it is.
const EACH: usize = 4 << 10;

/// Bytes that a compiled regex may take.
const REGEX_BYTES: usize = 1 << 20;

/// Bytes that its automaton may take, which is built as it runs, and begun anew when it is full. An
/// isolate has 128 MB for all; a few regexes of the shipped rules would use more than a megabyte.
const CACHE_BYTES: usize = if cfg!(target_family = "wasm") { 1 << 20 } else { 8 << 20 };

/// Starts that are tried by themselves before one first landmark.
const NEAR: usize = 64;

/// Bytes of a match that is tried from each start.
const SHORT: usize = 1 << 10;

/// How many times its length a text may be searched, over all regexes, beside 64 KiB that every one
/// may. No recorded request needs more; what does is made of the first words of signatures.
const BUDGET: usize = 8;

/// Bytes that might be searched in the time that it takes to look at where a landmark stands.
const START: usize = 8;
