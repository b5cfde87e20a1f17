//! Matching: one scan for all literals, tables for the rest, then small boolean programs over bits.
//!
//! Every distinct comparison of all signatures is a bit. The scan and the tables set bits; a
//! signature is looked at only when one of its bits is set. Regexes come last: one runs only where
//! one of its literals was seen, and only if the condition depends on it once all else is known.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use once_cell::sync::OnceCell;
use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;

use crate::field::{Field, Name};
use crate::json::Raw;
use crate::request::{Request, Segment};
use crate::scan::Scanner;
use crate::signature::{Anchor, Order};
use crate::text::{self, Case};

/// All comparisons and conditions of a ruleset.
#[derive(Debug, Default)]
pub struct Program {
    pub(crate) scanner: Scanner,
    /// What the scanner's literals are for, in its order.
    pub(crate) literals: Vec<Vec<Use>>,
    pub(crate) regexes: Vec<RegexTest>,
    /// The regex of a bit, by bit.
    pub(crate) regex_of: Vec<Option<usize>>,
    pub(crate) keywords: BTreeMap<Name, Vec<KeywordTest>>,
    pub(crate) headers: BTreeMap<String, Vec<KeywordTest>>,
    pub(crate) numbers: BTreeMap<Name, Vec<NumberTest>>,
    /// Bits that hold where a field has no value.
    pub(crate) absent: Vec<(Field, usize)>,
    /// Bits that hold where a text field has one.
    pub(crate) present: Vec<(u8, usize)>,
    /// Every comparison's field, by bit.
    pub(crate) fields: Vec<Field>,
    /// The signatures that a bit occurs in, by bit.
    pub(crate) touches: Vec<Vec<u32>>,
    /// The signatures' conditions.
    pub(crate) conditions: Vec<Node>,
}

/// What a literal that was found means.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// Where the text has to stand in the conversation, as bits of [`crate::field::Place`].
    pub places: u8,
    pub anchor: Anchor,
    /// The pattern with its case, where case counts.
    pub cased: Option<String>,
    pub sets: Sets,
}

/// What a literal's occurrence sets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sets {
    /// A comparison.
    Bit(usize),
    /// One of a regex's lists of literals, as a bit.
    Regex { regex: usize, list: u8 },
}

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

#[derive(Debug)]
pub(crate) struct KeywordTest {
    pub check: KeywordCheck,
    pub bit: usize,
}

#[derive(Debug)]
pub(crate) enum KeywordCheck {
    String { anchor: Anchor, value: String, cased: bool },
    Regex { pattern: String, compiled: OnceCell<Option<Regex>> },
    Cidr(ipnet::IpNet),
    Present,
}

#[derive(Debug)]
pub(crate) struct NumberTest {
    pub check: Option<(Order, f64)>,
    pub bit: usize,
}

/// A condition over bits.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    Bit(usize),
}

/// A signature that held, and its proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The signature's place in the ruleset.
    pub signature: usize,
    /// What proved it.
    pub evidence: Vec<Evidence>,
}

/// Where something was found: never the text itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Evidence {
    /// The field.
    #[serde(serialize_with = "name_of")]
    pub field: Field,
    /// First byte: in the (decompressed) body for text, in the value for short strings.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// What the headers alone decide; the same for all entries of an upload.
#[derive(Clone, Debug, Default)]
pub struct HeaderBits(Vec<(usize, Range<usize>)>);

/// Matches one request after another with the same buffers.
#[derive(Debug)]
pub struct Matcher<'p> {
    program: &'p Program,
    bits: Vec<u64>,
    /// Where each set bit was found: a range in the request's normalised text, or in a value.
    found: Vec<(usize, Found)>,
    touched: Vec<u64>,
    candidates: Vec<Candidate>,
    /// A regex's place in `candidates` plus one, by regex; 0 where it is none.
    candidate_of: Vec<u32>,
}

/// What is known of a regex for the request at hand.
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

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    start: usize,
    end: usize,
    in_text: bool,
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

impl Program {
    /// A matcher with fresh buffers.
    pub fn matcher(&self) -> Matcher<'_> {
        let words = |bits: usize| vec![0; bits.div_ceil(64)];
        Matcher {
            program: self,
            bits: words(self.fields.len()),
            found: Vec::with_capacity(64),
            touched: words(self.conditions.len()),
            candidates: Vec::new(),
            candidate_of: vec![0; self.regexes.len()],
        }
    }

    /// The bits that headers set.
    pub fn headers(&self, headers: &[(String, String)]) -> HeaderBits {
        let mut bits = HeaderBits::default();
        if self.headers.is_empty() {
            return bits;
        }
        for (name, value) in headers {
            let Some(tests) = self.headers.get(name.as_str()) else { continue };
            keyword(tests, value, &mut |bit, range| bits.0.push((bit, range)));
        }
        for (field, bit) in &self.absent {
            if let Field::Header(name) = field
                && !headers.iter().any(|(known, _)| known == name)
            {
                bits.0.push((*bit, 0..0));
            }
        }
        bits
    }

    /// Literals that are searched for.
    pub fn literals(&self) -> usize {
        self.literals.len()
    }

    /// Bytes held by the scanner's tables.
    pub fn memory(&self) -> usize {
        self.scanner.memory()
    }
}

impl Matcher<'_> {
    /// The signatures that hold for a request, in the ruleset's order.
    pub fn hits(&mut self, request: &Request<'_>, headers: &HeaderBits) -> Vec<Hit> {
        self.bits.fill(0);
        self.touched.fill(0);
        self.found.clear();
        for candidate in self.candidates.drain(..) {
            if let Some(place) = self.candidate_of.get_mut(candidate.regex) {
                *place = 0;
            }
        }
        for (bit, range) in &headers.0 {
            self.set(*bit, Found { start: range.start, end: range.end, in_text: false });
        }
        self.keywords(request);
        self.numbers(request);
        self.absences(request);
        self.text(request);
        let held = self.held(request);
        if held.is_empty() { Vec::new() } else { self.proved(held, request) }
    }

    fn set(&mut self, bit: usize, found: Found) {
        let Some(word) = self.bits.get_mut(bit / 64) else { return };
        let mask = 1 << (bit % 64);
        if *word & mask != 0 {
            return;
        }
        *word |= mask;
        self.found.push((bit, found));
        self.touch(bit);
    }

    /// Has the signatures looked at in which a bit occurs.
    fn touch(&mut self, bit: usize) {
        for signature in self.program.touches.get(bit).into_iter().flatten() {
            if let Some(word) = self.touched.get_mut(*signature as usize / 64) {
                *word |= 1 << (signature % 64);
            }
        }
    }

    fn is_set(&self, bit: usize) -> bool {
        self.bits.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0)
    }

    fn keywords(&mut self, request: &Request<'_>) {
        let program = self.program;
        for (name, value) in request.keywords() {
            if let Some(tests) = program.keywords.get(name) {
                keyword(tests, value, &mut |bit, range| {
                    self.set(bit, Found { start: range.start, end: range.end, in_text: false });
                });
            }
        }
    }

    fn numbers(&mut self, request: &Request<'_>) {
        let program = self.program;
        for (name, value) in request.numbers() {
            for test in program.numbers.get(name).into_iter().flatten() {
                if test.check.is_none_or(|(order, with)| order.fits(*value, with)) {
                    self.set(test.bit, Found::default());
                }
            }
        }
    }

    fn absences(&mut self, request: &Request<'_>) {
        let program = self.program;
        let places =
            request.segments().iter().fold(0, |places, segment| places | segment.place as u8);
        for (wanted, bit) in &program.present {
            if wanted & places != 0 {
                self.set(*bit, Found::default());
            }
        }
        for (field, bit) in &program.absent {
            if let Field::Known(name) = field
                && !has_value(request, *name, places)
            {
                self.set(*bit, Found::default());
            }
        }
    }

    fn text(&mut self, request: &Request<'_>) {
        let program = self.program;
        let mut cased: Vec<(usize, String)> = Vec::new();
        program.scanner.scan(request.text().as_bytes(), &mut |literal, start| {
            let uses = program.literals.get(literal).map(Vec::as_slice).unwrap_or_default();
            let Some((number, segment)) = segment_at(request, start) else { return };
            let end = start.saturating_add(program.scanner.len_of(literal));
            for purpose in uses {
                if purpose.places & segment.place as u8 == 0
                    || !stands(purpose.anchor, segment, start, end)
                {
                    continue;
                }
                if let Some(pattern) = &purpose.cased
                    && !purpose.anchor.fits(with_case(&mut cased, number, segment), pattern)
                {
                    continue;
                }
                match purpose.sets {
                    Sets::Bit(bit) => self.set(bit, Found { start, end, in_text: true }),
                    Sets::Regex { regex, list } => self.nominate(regex, list, start..end, segment),
                }
            }
        });
    }

    fn found(&self, bit: usize) -> Option<&Found> {
        self.found.iter().find(|(known, _)| *known == bit).map(|(_, found)| found)
    }

    fn candidate(&self, regex: usize) -> Option<&Candidate> {
        self.candidates.get(self.candidate_of.get(regex)?.checked_sub(1)? as usize)
    }

    fn candidate_mut(&mut self, regex: usize) -> Option<&mut Candidate> {
        self.candidates.get_mut(self.candidate_of.get(regex)?.checked_sub(1)? as usize)
    }

    /// Notes that one of a regex's literals was seen.
    fn nominate(&mut self, regex: usize, list: u8, found: Range<usize>, segment: &Segment<'_>) {
        let Some(test) = self.program.regexes.get(regex) else { return };
        let Some(place) = self.candidate_of.get_mut(regex) else { return };
        if *place == 0 {
            self.candidates.push(Candidate { regex, ..Candidate::default() });
            *place = self.candidates.len() as u32;
        }
        let Some(candidate) = self.candidate_mut(regex) else { return };
        if list == FIRST_LIST {
            candidate.widen(&found, test.longest.unwrap_or(usize::MAX), &segment.range);
        } else {
            candidate.others.push((found.start, list));
        }
        let was_open = candidate.seen == test.lists;
        candidate.seen |= list;
        if !was_open && candidate.seen == test.lists {
            self.touch(test.bit);
        }
    }

    /// Runs a regex where it may match: in windows in which a literal of each list was seen.
    fn settle(&mut self, regex: usize, request: &Request<'_>) {
        let Some(test) = self.program.regexes.get(regex) else { return };
        let Some(candidate) = self.candidate_mut(regex) else { return };
        candidate.is_settled = true;
        candidate.others.sort_unstable();
        let mut windows = candidate
            .windows
            .iter()
            .filter(|window| candidate.seen_in(window) == test.lists)
            .peekable();
        if windows.peek().is_none() {
            return;
        }
        let Some(compiled) = compiled(&test.pattern, &test.compiled) else { return };
        let found = windows.find_map(|window| find(compiled, request, window));
        if let Some(found) = found {
            self.set(test.bit, Found { start: found.start, end: found.end, in_text: true });
        }
    }

    /// The signatures whose condition holds, of those that a bit touches.
    fn held(&mut self, request: &Request<'_>) -> Vec<usize> {
        let mut held = Vec::new();
        // A regex that matches touches only signatures that its literals have touched already.
        for number in 0..self.touched.len() {
            let mut word = self.touched.get(number).copied().unwrap_or_default();
            while word != 0 {
                let signature = number * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                if self.holds(signature, request) {
                    held.push(signature);
                }
            }
        }
        held
    }

    fn holds(&mut self, signature: usize, request: &Request<'_>) -> bool {
        let Some(condition) = self.program.conditions.get(signature) else { return false };
        loop {
            match condition.verdict(&|bit| self.known(bit)) {
                Verdict::Holds => return true,
                Verdict::Fails => return false,
                Verdict::DependsOn(bit) => match self.program.regex_of.get(bit) {
                    Some(Some(regex)) => self.settle(*regex, request),
                    _ => return false,
                },
            }
        }
    }

    /// Whether a bit is set; `None` while it is a regex's that may yet match.
    fn known(&self, bit: usize) -> Option<bool> {
        if self.is_set(bit) {
            return Some(true);
        }
        let Some(regex) = self.program.regex_of.get(bit).copied().flatten() else {
            return Some(false);
        };
        let (candidate, test) = (self.candidate(regex), self.program.regexes.get(regex));
        let open = candidate
            .zip(test)
            .is_some_and(|(candidate, test)| !candidate.is_settled && candidate.seen == test.lists);
        if open { None } else { Some(false) }
    }

    /// The hits, with their proofs. Values are gone through once more for that, each at most once.
    fn proved(&self, held: Vec<usize>, request: &Request<'_>) -> Vec<Hit> {
        let mut proofs = Vec::with_capacity(held.len());
        let mut until: BTreeMap<usize, usize> = BTreeMap::new();
        for signature in held {
            let mut bits = Vec::new();
            if let Some(condition) = self.program.conditions.get(signature) {
                condition.proof(&|bit| self.is_set(bit), &mut bits);
            }
            for found in
                bits.iter().filter_map(|bit| self.found(*bit)).filter(|found| found.in_text)
            {
                if let Some((number, segment)) = segment_at(request, found.start) {
                    let end = found.end.saturating_sub(segment.range.start);
                    until.entry(number).and_modify(|known| *known = end.max(*known)).or_insert(end);
                }
            }
            proofs.push((signature, bits));
        }
        let source = |(number, until): (&usize, &usize)| {
            let raw = request.segments().get(*number)?.raw;
            Some((*number, text::Sources::new(raw, *until)))
        };
        let sources: BTreeMap<usize, text::Sources> = until.iter().filter_map(source).collect();
        let prove = |bit: usize| {
            let field = self.program.fields.get(bit)?.clone();
            let found = self.found(bit)?;
            if !found.in_text {
                return Some(Evidence { field, start: found.start, end: found.end });
            }
            let (number, segment) = segment_at(request, found.start)?;
            let base = segment.range.start;
            let range = sources
                .get(&number)?
                .find(found.start.checked_sub(base)?..found.end.checked_sub(base)?);
            Some(Evidence { field, start: range.start, end: range.end })
        };
        let hit = |(signature, bits): (usize, Vec<usize>)| Hit {
            signature,
            evidence: bits.into_iter().filter_map(prove).collect(),
        };
        proofs.into_iter().map(hit).collect()
    }
}

/// What is known of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    Fails,
    /// It depends on a bit that is not known yet.
    DependsOn(usize),
}

impl Node {
    /// Evaluates with what is known so far: nothing is asked for that cannot change the outcome.
    fn verdict(&self, bit: &impl Fn(usize) -> Option<bool>) -> Verdict {
        let settled = |parts: &[Node], settles: Verdict, otherwise: Verdict| {
            let mut open = otherwise;
            for part in parts {
                match part.verdict(bit) {
                    verdict if verdict == settles => return settles,
                    Verdict::DependsOn(bit) if open == otherwise => open = Verdict::DependsOn(bit),
                    _ => {}
                }
            }
            open
        };
        match self {
            Self::All(parts) => settled(parts, Verdict::Fails, Verdict::Holds),
            Self::Any(parts) => settled(parts, Verdict::Holds, Verdict::Fails),
            Self::Not(part) => match part.verdict(bit) {
                Verdict::Holds => Verdict::Fails,
                Verdict::Fails => Verdict::Holds,
                open => open,
            },
            Self::Bit(number) => match bit(*number) {
                Some(true) => Verdict::Holds,
                Some(false) => Verdict::Fails,
                None => Verdict::DependsOn(*number),
            },
        }
    }

    pub(crate) fn holds(&self, bit: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(bit)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(bit)),
            Self::Not(part) => !part.holds(bit),
            Self::Bit(number) => bit(*number),
        }
    }

    /// The bits that make a node hold, which it does.
    fn proof(&self, bit: &impl Fn(usize) -> bool, bits: &mut Vec<usize>) {
        match self {
            Self::All(parts) => parts.iter().for_each(|part| part.proof(bit, bits)),
            Self::Any(parts) => {
                if let Some(part) = parts.iter().find(|part| part.holds(bit)) {
                    part.proof(bit, bits);
                }
            }
            Self::Not(_) => {}
            Self::Bit(number) if bits.contains(number) => {}
            Self::Bit(number) => bits.push(*number),
        }
    }
}

/// The segment in which a byte of a request's text stands, and its number.
fn segment_at<'r, 'a>(request: &'r Request<'a>, at: usize) -> Option<(usize, &'r Segment<'a>)> {
    let after = request.segments().partition_point(|segment| segment.range.start <= at);
    let number = after.checked_sub(1)?;
    Some((number, request.segments().get(number)?))
}

fn stands(anchor: Anchor, segment: &Segment<'_>, start: usize, end: usize) -> bool {
    match anchor {
        Anchor::Contains => true,
        Anchor::StartsWith => start == segment.range.start,
        Anchor::EndsWith => end == segment.range.end,
        Anchor::Equals => start == segment.range.start && end == segment.range.end,
    }
}

/// The segment's text with its case, made once a request.
fn with_case<'c>(
    cased: &'c mut Vec<(usize, String)>,
    number: usize,
    segment: &Segment<'_>,
) -> &'c str {
    let known = cased.iter().position(|(known, _)| *known == number);
    let at = known.unwrap_or_else(|| {
        cased.push((number, decode_cased(segment.raw)));
        cased.len().saturating_sub(1)
    });
    cased.get(at).map(|(_, text)| text.as_str()).unwrap_or_default()
}

fn decode_cased(raw: Raw<'_>) -> String {
    let mut out = String::new();
    let mut normalizer = text::Normalizer::new(&mut out, Case::Keep);
    raw.decode(&mut normalizer);
    normalizer.finish();
    out
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

/// Runs a field's tests on one short value.
fn keyword(tests: &[KeywordTest], value: &str, set: &mut dyn FnMut(usize, Range<usize>)) {
    let folded = fold(value);
    for test in tests {
        let whole = 0..value.len();
        match &test.check {
            KeywordCheck::Present => set(test.bit, whole),
            KeywordCheck::String { anchor, value: pattern, cased: false } => {
                if anchor.fits(&folded, pattern) {
                    set(test.bit, whole);
                }
            }
            KeywordCheck::String { anchor, value: pattern, cased: true } => {
                if anchor.fits(&text::normalize(value, Case::Keep), pattern) {
                    set(test.bit, whole);
                }
            }
            KeywordCheck::Regex { pattern, compiled: cell } => {
                if compiled(pattern, cell).is_some_and(|regex| regex.is_match(folded.as_ref())) {
                    set(test.bit, whole);
                }
            }
            KeywordCheck::Cidr(network) => {
                if value.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address)) {
                    set(test.bit, whole);
                }
            }
        }
    }
}

/// Normalises a short value; most are lower-case ASCII already.
fn fold(value: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    if value.bytes().all(plain) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(text::normalize(value, Case::Fold))
    }
}

fn has_value(request: &Request<'_>, name: Name, places: u8) -> bool {
    crate::field::places(name) & places != 0
        || request.keywords().iter().any(|(known, _)| *known == name)
        || request.numbers().iter().any(|(known, _)| *known == name)
}

/// A regex, compiled on first need: most are never needed, and compiling is dear.
fn compiled<'r>(pattern: &str, cell: &'r OnceCell<Option<Regex>>) -> Option<&'r Regex> {
    cell.get_or_init(|| regex(pattern).ok()).as_ref()
}

/// Compiles a pattern under the limits of the edge.
pub fn regex(pattern: &str) -> Result<Regex, String> {
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

fn name_of<S: serde::Serializer>(field: &Field, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&field.name())
}

/// The bit of a regex's first list of literals.
const FIRST_LIST: u8 = 1;

/// A compiled regex, and its lazily built automaton, may take this many bytes each.
const REGEX_BYTES: usize = 1 << 20;
