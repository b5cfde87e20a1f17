//! Matching: one scan for all literals, tables for the rest, then small boolean programs over bits.
//!
//! Every distinct comparison of all signatures is a bit. The scan and the tables set bits; a
//! signature is looked at only when one of its bits is set. Regexes come last: one runs only where
//! its literals were seen, and only if the condition depends on it once all else is known.
#![deny(clippy::arithmetic_side_effects)]

mod condition;
mod keyword;
mod occurrences;
pub(crate) mod regex;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::error::Error;
use crate::field::{Field, Name};
use crate::json::Raw;
use crate::request::{Request, Segment, Source};
use crate::scan::Scanner;
use crate::signature::{Anchor, Order};
use crate::text::{self, Case};

pub(crate) use condition::Node;
use condition::{Known, Verdict};
use keyword::keyword;
pub(crate) use keyword::{KeywordCheck, KeywordTest};
use regex::Candidates;
pub(crate) use regex::{Landmark, RegexTest};

/// All comparisons and conditions of a ruleset.
#[derive(Debug, Default)]
pub struct Program {
    pub(crate) scanner: Scanner,
    /// What the scanner's literals are for, in its order.
    pub(crate) literals: Vec<Literal>,
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

/// What a literal is for.
#[derive(Debug, Default)]
pub(crate) struct Literal {
    pub uses: Vec<Use>,
    /// Whether it is a landmark of some regex.
    pub is_landmark: bool,
    /// Whether where it stands within a value matters to some use.
    pub is_particular: bool,
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
    /// One of a regex's landmarks, by its number.
    Regex { regex: usize, landmark: usize },
}

#[derive(Debug)]
pub(crate) struct NumberTest {
    pub check: Option<(Order, f64)>,
    pub bit: usize,
}

/// A signature that held, and its proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The signature's place in the ruleset.
    pub signature: usize,
    /// What proved it.
    pub evidence: Vec<Evidence>,
    /// The key of the indicator that it is.
    pub key: Option<u64>,
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
    known: Known,
    /// Where each set bit was found: a range in the request's normalised text, or in a value.
    found: Vec<(usize, Found)>,
    touched: Vec<u64>,
    /// The places in which a literal was seen, by literal.
    seen_in: Vec<u8>,
    candidates: Candidates,
}

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    start: usize,
    end: usize,
    in_text: bool,
}

impl Program {
    /// Compiles every regex, one a step; what is wrong with one, or with those so far together.
    pub(crate) fn checks(&self) -> impl Iterator<Item = Result<(), Error>> {
        let own = self.regexes.iter().map(|test| (&test.pattern, &test.compiled));
        let tests = self.keywords.values().chain(self.headers.values()).flatten();
        let keywords = tests.filter_map(|test| match &test.check {
            KeywordCheck::Regex { pattern, compiled } => Some((pattern, compiled)),
            _ => None,
        });
        regex::checks(own.chain(keywords))
    }

    /// A matcher with fresh buffers.
    pub fn matcher(&self) -> Matcher<'_> {
        let words = |bits: usize| vec![0; bits.div_ceil(64)];
        Matcher {
            program: self,
            known: Known::new(self.fields.len()),
            found: Vec::with_capacity(64),
            touched: words(self.conditions.len()),
            seen_in: vec![0; self.literals.len()],
            candidates: Candidates::new(self.regexes.len(), self.literals.len()),
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
        self.known.clear();
        self.touched.fill(0);
        self.found.clear();
        self.seen_in.fill(0);
        self.candidates.clear(request.text().len());
        for (bit, range) in &headers.0 {
            self.set(*bit, Found { start: range.start, end: range.end, in_text: false });
        }
        self.keywords(request);
        self.numbers(request);
        self.absences(request);
        self.text(request);
        let mut held = self.held(request);
        if self.candidates.is_spent() {
            let tests = self.program.keywords.get(&Name::BodyUnreadable);
            keyword(tests.map(Vec::as_slice).unwrap_or_default(), SPENT, &mut |bit, range| {
                self.set(bit, Found { start: range.start, end: range.end, in_text: false });
            });
            held = self.held(request);
        }
        if held.is_empty() { Vec::new() } else { self.proved(held, request) }
    }

    /// Whether regexes were given up on, because the text is made to be dear to search.
    pub fn is_spent(&self) -> bool {
        self.candidates.is_spent()
    }

    fn set(&mut self, bit: usize, found: Found) {
        if self.known.set(bit) {
            self.found.push((bit, found));
            self.touch(bit);
        }
    }

    /// Has the signatures looked at in which a bit occurs.
    fn touch(&mut self, bit: usize) {
        for signature in self.program.touches.get(bit).into_iter().flatten() {
            if let Some(word) = self.touched.get_mut(*signature as usize / 64) {
                *word |= 1 << (signature % 64);
            }
        }
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
        let mut cased: BTreeMap<usize, String> = BTreeMap::new();
        // Whether a cased pattern stands in a value is asked once: that looks at the whole value.
        let mut asked: BTreeSet<(usize, usize, usize)> = BTreeSet::new();
        // What is found next is mostly in the same value.
        let mut last = None;
        program.scanner.scan(request.text().as_bytes(), &mut |number, start| {
            let Some(literal) = program.literals.get(number) else { return };
            last =
                last.filter(|(_, segment): &(usize, &Segment<'_>)| segment.range.contains(&start));
            last = last.or_else(|| segment_at(request, start));
            let Some((value, segment)) = last else { return };
            if literal.is_landmark {
                self.candidates.note(number, start);
            }
            if let Some(seen_in) = self.seen_in.get_mut(number) {
                if *seen_in & segment.place as u8 != 0 && !literal.is_particular {
                    return;
                }
                *seen_in |= segment.place as u8;
            }
            let end = start.saturating_add(program.scanner.len_of(number));
            for (place, purpose) in literal.uses.iter().enumerate() {
                if purpose.places & segment.place as u8 == 0
                    || !stands(purpose.anchor, segment, start, end)
                {
                    continue;
                }
                if let Some(pattern) = &purpose.cased
                    && (!asked.insert((value, number, place))
                        || !purpose.anchor.fits(with_case(&mut cased, value, segment), pattern))
                {
                    continue;
                }
                match purpose.sets {
                    Sets::Bit(bit) => self.set(bit, Found { start, end, in_text: true }),
                    Sets::Regex { regex, landmark } => self.see(regex, landmark),
                }
            }
        });
    }

    fn found(&self, bit: usize) -> Option<&Found> {
        self.found.iter().find(|(known, _)| *known == bit).map(|(_, found)| found)
    }

    fn see(&mut self, regex: usize, landmark: usize) {
        let Some(test) = self.program.regexes.get(regex) else { return };
        if self.candidates.see(regex, test, landmark) {
            self.known.open(test.bit, true);
            self.touch(test.bit);
        }
    }

    fn settle(&mut self, regex: usize, request: &Request<'_>) {
        let Some(test) = self.program.regexes.get(regex) else { return };
        self.known.open(test.bit, false);
        if let Some(found) = self.candidates.settle(test, request) {
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
                let lowest = word.trailing_zeros();
                word ^= 1 << lowest;
                let signature = number.saturating_mul(64).saturating_add(lowest as usize);
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
            match condition.verdict(&self.known) {
                Verdict::Holds => return true,
                Verdict::Fails => return false,
                Verdict::DependsOn(bit) => match self.program.regex_of.get(bit) {
                    Some(Some(regex)) => self.settle(*regex, request),
                    _ => return false,
                },
            }
        }
    }

    /// The hits, with their proofs. Values are gone through again for that around what was found, no byte
    /// twice.
    fn proved(&self, held: Vec<usize>, request: &Request<'_>) -> Vec<Hit> {
        let mut proofs = Vec::with_capacity(held.len());
        let mut wanted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for signature in held {
            let mut bits = Vec::new();
            if let Some(condition) = self.program.conditions.get(signature) {
                condition.proof(&self.known, &mut bits);
            }
            for found in
                bits.iter().filter_map(|bit| self.found(*bit)).filter(|found| found.in_text)
            {
                if let Some((number, segment)) = segment_at(request, found.start) {
                    let own = wanted.entry(number).or_default();
                    for at in [found.start, found.end.saturating_sub(1)] {
                        own.push(at.saturating_sub(segment.range.start));
                    }
                }
            }
            proofs.push((signature, bits));
        }
        let source = |(number, wanted): (usize, Vec<usize>)| {
            Some((number, request.sources(request.segments().get(number)?, wanted)?))
        };
        let sources: BTreeMap<usize, text::Sources> =
            wanted.into_iter().filter_map(source).collect();
        let prove = |bit: usize| {
            let field = self.program.fields.get(bit)?.clone();
            let found = self.found(bit)?;
            if !found.in_text {
                return Some(Evidence { field, start: found.start, end: found.end });
            }
            let (number, segment) = segment_at(request, found.start)?;
            let base = segment.range.start;
            let part = found.start.checked_sub(base)?..found.end.checked_sub(base)?;
            let range = match segment.source {
                Source::Value(_) => sources.get(&number)?.find(part),
                Source::Seam(ref range) => range.clone(),
            };
            Some(Evidence { field, start: range.start, end: range.end })
        };
        let hit = |(signature, bits): (usize, Vec<usize>)| Hit {
            signature,
            evidence: bits.into_iter().filter_map(prove).collect(),
            key: None,
        };
        proofs.into_iter().map(hit).collect()
    }
}

/// The value of `hedgerow.body.unreadable` for text that is too dear to search.
const SPENT: &str = "costly";

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

/// The segment's text with its case, made once a request; seams have none.
fn with_case<'c>(
    cased: &'c mut BTreeMap<usize, String>,
    number: usize,
    segment: &Segment<'_>,
) -> &'c str {
    let text = || segment.source.value().map(decode_cased).unwrap_or_default();
    cased.entry(number).or_insert_with(text)
}

fn decode_cased(raw: Raw<'_>) -> String {
    let mut out = String::new();
    let mut normalizer = text::Normalizer::new(&mut out, Case::Keep);
    raw.decode(&mut normalizer);
    normalizer.finish();
    out
}

fn has_value(request: &Request<'_>, name: Name, places: u8) -> bool {
    crate::field::places(name) & places != 0
        || request.keywords().iter().any(|(known, _)| *known == name)
        || request.numbers().iter().any(|(known, _)| *known == name)
}

fn name_of<S: serde::Serializer>(field: &Field, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&field.name())
}
