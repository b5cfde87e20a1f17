//! Regexes: they run last, and only where their literals stand.

use std::ops::Range;

use once_cell::sync::OnceCell;
use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;

use super::segment_at;
use crate::request::Request;

/// A comparison of prompt text with a regex.
#[derive(Debug)]
pub(crate) struct RegexTest {
    pub pattern: String,
    pub compiled: OnceCell<Option<Regex>>,
    pub bit: usize,
    /// Its lists of literals, a bit each; all must be seen.
    pub lists: u8,
    /// Bytes of the longest match, where there is a longest.
    pub longest: Option<usize>,
}

/// The regexes of which literals were seen in the request at hand.
#[derive(Debug)]
pub(super) struct Candidates {
    list: Vec<Candidate>,
    /// A regex's place in `list` plus one, by regex; 0 where it is none.
    place_of: Vec<u32>,
}

/// What is known of a regex.
#[derive(Clone, Debug, Default)]
struct Candidate {
    regex: usize,
    /// The lists of which a literal was seen.
    seen: u8,
    /// Where in the text a match would have to be: around the literals of the first list.
    windows: Vec<Range<usize>>,
    /// Where literals of the other lists begin.
    others: Vec<(usize, u8)>,
    /// Whether it has run.
    is_settled: bool,
}

impl Candidates {
    pub fn new(regexes: usize) -> Self {
        Self { list: Vec::new(), place_of: vec![0; regexes] }
    }

    pub fn clear(&mut self) {
        for candidate in self.list.drain(..) {
            if let Some(place) = self.place_of.get_mut(candidate.regex) {
                *place = 0;
            }
        }
    }

    /// Notes that a literal of `list` stands at `found` in a value; true where that was the last of
    /// the regex's lists that had not been seen.
    pub fn nominate(
        &mut self,
        (regex, test): (usize, &RegexTest),
        list: u8,
        found: Range<usize>,
        value: &Range<usize>,
    ) -> bool {
        let Some(place) = self.place_of.get_mut(regex) else { return false };
        if *place == 0 {
            self.list.push(Candidate { regex, ..Candidate::default() });
            *place = self.list.len() as u32;
        }
        let Some(candidate) = self.get_mut(regex) else { return false };
        if list == FIRST_LIST {
            candidate.widen(&found, test.longest.unwrap_or(usize::MAX), value);
        } else {
            candidate.others.push((found.start, list));
        }
        let was_complete = candidate.seen == test.lists;
        candidate.seen |= list;
        !was_complete && candidate.seen == test.lists
    }

    /// Whether a regex may yet match.
    pub fn is_open(&self, regex: usize, test: &RegexTest) -> bool {
        let candidate = self.place(regex).and_then(|place| self.list.get(place));
        candidate.is_some_and(|candidate| !candidate.is_settled && candidate.seen == test.lists)
    }

    /// Runs a regex where it may match: in windows in which a literal of each list was seen. Its
    /// first match.
    pub fn settle(
        &mut self,
        (regex, test): (usize, &RegexTest),
        request: &Request<'_>,
    ) -> Option<Range<usize>> {
        let candidate = self.get_mut(regex)?;
        candidate.is_settled = true;
        candidate.others.sort_unstable();
        let is_worth_it = |window: &&Range<usize>| candidate.seen_in(window) == test.lists;
        let mut windows = candidate.windows.iter().filter(is_worth_it).peekable();
        windows.peek()?;
        let compiled = compiled(&test.pattern, &test.compiled)?;
        windows.find_map(|window| find(compiled, request, window))
    }

    fn place(&self, regex: usize) -> Option<usize> {
        Some(self.place_of.get(regex)?.checked_sub(1)? as usize)
    }

    fn get_mut(&mut self, regex: usize) -> Option<&mut Candidate> {
        let place = self.place(regex)?;
        self.list.get_mut(place)
    }
}

impl Candidate {
    /// Adds the window around a literal of the first list. Windows that overlap are joined, so that
    /// together they are not much longer than the text.
    fn widen(&mut self, literal: &Range<usize>, reach: usize, value: &Range<usize>) {
        let start = literal.end.saturating_sub(reach).max(value.start);
        let end = literal.start.saturating_add(reach).min(value.end);
        match self.windows.last_mut() {
            Some(last) if start <= last.end && last.start <= start => last.end = end.max(last.end),
            _ => self.windows.push(start..end),
        }
    }

    /// The lists of which a literal begins in a window, once `others` is sorted.
    fn seen_in(&self, window: &Range<usize>) -> u8 {
        let from = self.others.partition_point(|(at, _)| *at < window.start);
        let inside = self.others.iter().skip(from).take_while(|(at, _)| *at < window.end);
        inside.fold(FIRST_LIST, |seen, (_, list)| seen | list)
    }
}

/// The first match of a regex in a window of a request's text. What stands outside the window but
/// inside the value is seen by `^`, `$` and `\\b`; the value's edges are edges.
fn find(regex: &Regex, request: &Request<'_>, window: &Range<usize>) -> Option<Range<usize>> {
    let (_, segment) = segment_at(request, window.start)?;
    let text = request.text().get(segment.range.clone())?;
    let base = segment.range.start;
    let mut start = window.start.checked_sub(base)?;
    let mut end = window.end.checked_sub(base)?;
    while !text.is_char_boundary(start) {
        start = start.saturating_sub(1);
    }
    while end < text.len() && !text.is_char_boundary(end) {
        end = end.saturating_add(1);
    }
    let found = regex.search(&Input::new(text).range(start..end.min(text.len())))?.range();
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
        .hybrid_cache_capacity(REGEX_BYTES)
        .which_captures(WhichCaptures::Implicit);
    // `check` writes `.` as a byte (see `sigma`), so a match may begin within a character.
    let syntax = regex_automata::util::syntax::Config::new().utf8(false);
    Regex::builder().configure(limits).syntax(syntax).build(pattern).map_err(|error| {
        let reason = error.syntax_error().map(ToString::to_string);
        reason.unwrap_or_else(|| error.to_string())
    })
}

/// The bit of a regex's first list of literals.
const FIRST_LIST: u8 = 1;

/// A compiled regex, and its lazily built automaton, may take this many bytes each.
const REGEX_BYTES: usize = 1 << 20;
