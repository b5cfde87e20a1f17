//! The compiled comparisons and conditions of a ruleset, and the matcher that runs them.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::condition::{BitExpr, BitState, Ternary};
use super::hit::{Evidence, Hit};
use super::keyword::{KeywordCheck, KeywordTest, run_keyword_tests};
use super::literal_scanner::Scanner;
use super::regex_gate::{self, RegexGate, RegexTest, segment_at};
use crate::error::Error;
use crate::extract::lenient_json::RawString;
use crate::extract::{Request, Segment, Source};
use crate::field::{Field, FieldId};
use crate::rules::signature::{Comparator, StringMatch};
use crate::text::{self, Case};

/// All comparisons and conditions of a ruleset.
#[derive(Debug, Default)]
pub struct Program {
    pub(crate) scanner: Scanner,
    /// What the scanner's literals are for, in its order.
    pub(crate) literals: Vec<Literal>,
    pub(crate) regexes: Vec<RegexTest>,
    /// The regex of a bit, by bit.
    pub(crate) regex_by_bit: Vec<Option<usize>>,
    pub(crate) keywords: BTreeMap<FieldId, Vec<KeywordTest>>,
    pub(crate) headers: BTreeMap<String, Vec<KeywordTest>>,
    pub(crate) numbers: BTreeMap<FieldId, Vec<NumberTest>>,
    /// Bits that hold where a field has no value.
    pub(crate) absence_tests: Vec<(Field, usize)>,
    /// Bits that hold where a text field has one.
    pub(crate) presence_tests: Vec<(u8, usize)>,
    /// Every comparison's field, by bit.
    pub(crate) field_by_bit: Vec<Field>,
    /// The signatures that a bit occurs in, by bit.
    pub(crate) signatures_by_bit: Vec<Vec<u32>>,
    /// The signatures' conditions.
    pub(crate) conditions: Vec<BitExpr>,
}

/// What a literal is for.
#[derive(Debug, Default)]
pub(crate) struct Literal {
    pub uses: Vec<LiteralUse>,
    /// Whether it is a landmark of some regex.
    pub is_required_by_regex: bool,
    /// Whether where it stands within a value matters to some use.
    pub is_position_sensitive: bool,
}

/// What a literal that was found means.
#[derive(Clone, Debug)]
pub(crate) struct LiteralUse {
    /// Where the text has to stand in the conversation, as bits of [`crate::field::Place`].
    pub sections: u8,
    pub anchor: StringMatch,
    /// The pattern with its case, where case counts.
    pub cased_pattern: Option<String>,
    pub target: LiteralTarget,
}

/// What a literal's occurrence sets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LiteralTarget {
    /// A comparison.
    Bit(usize),
    /// One of a regex's landmarks, by its number.
    Regex { regex: usize, required_index: usize },
}

#[derive(Debug)]
pub(crate) struct NumberTest {
    pub check: Option<(Comparator, f64)>,
    pub bit: usize,
}

/// What the headers alone decide; the same for all entries of an upload.
#[derive(Clone, Debug, Default)]
pub struct HeaderBits(Vec<(usize, Range<usize>)>);

/// Matches one request after another with the same buffers.
#[derive(Debug)]
pub struct Matcher<'p> {
    program: &'p Program,
    bit_state: BitState,
    /// Where each set bit was found: a range in the request's normalised text, or in a value.
    origins: Vec<(usize, BitOrigin)>,
    candidate_signatures: Vec<u64>,
    /// The places in which a literal was seen, by literal.
    sections_by_literal: Vec<u8>,
    regex_gate: RegexGate,
}

#[derive(Clone, Copy, Debug, Default)]
struct BitOrigin {
    start: usize,
    end: usize,
    is_in_text: bool,
}

impl Program {
    /// Compiles every regex, one a step; what is wrong with one, or with those so far together.
    pub(crate) fn compile_regexes_stepwise(&self) -> impl Iterator<Item = Result<(), Error>> {
        let text_regexes = self.regexes.iter().map(|test| (&test.pattern, &test.compiled));
        let keyword_tests = self.keywords.values().chain(self.headers.values()).flatten();
        let keyword_regexes = keyword_tests.filter_map(|test| match &test.check {
            KeywordCheck::Regex { pattern, compiled } => Some((pattern, compiled)),
            _ => None,
        });
        regex_gate::compile_stepwise(text_regexes.chain(keyword_regexes))
    }

    /// A matcher with fresh buffers.
    pub fn matcher(&self) -> Matcher<'_> {
        let zeroed_bitset = |bits: usize| vec![0; bits.div_ceil(64)];
        Matcher {
            program: self,
            bit_state: BitState::new(self.field_by_bit.len()),
            origins: Vec::with_capacity(64),
            candidate_signatures: zeroed_bitset(self.conditions.len()),
            sections_by_literal: vec![0; self.literals.len()],
            regex_gate: RegexGate::new(self.regexes.len(), self.literals.len()),
        }
    }

    /// The bits that headers set.
    pub fn header_bits(&self, headers: &[(String, String)]) -> HeaderBits {
        let mut bits = HeaderBits::default();
        if self.headers.is_empty() {
            return bits;
        }
        for (name, value) in headers {
            let Some(tests) = self.headers.get(name.as_str()) else { continue };
            run_keyword_tests(tests, value, &mut |bit, range| bits.0.push((bit, range)));
        }
        for (field, bit) in &self.absence_tests {
            if let Field::Header(name) = field
                && !headers.iter().any(|(header, _)| header == name)
            {
                bits.0.push((*bit, 0..0));
            }
        }
        bits
    }

    /// Literals that are searched for.
    pub fn literal_count(&self) -> usize {
        self.literals.len()
    }

    /// Bytes held by the scanner's tables.
    pub fn heap_bytes(&self) -> usize {
        self.scanner.heap_bytes()
    }
}

impl Matcher<'_> {
    /// The signatures that hold for a request, in the ruleset's order.
    pub fn hits(&mut self, request: &Request<'_>, header_bits: &HeaderBits) -> Vec<Hit> {
        self.bit_state.clear();
        self.candidate_signatures.fill(0);
        self.origins.clear();
        self.sections_by_literal.fill(0);
        self.regex_gate.reset(request.text().len());
        for (bit, range) in &header_bits.0 {
            self.set(*bit, BitOrigin { start: range.start, end: range.end, is_in_text: false });
        }
        self.match_keywords(request);
        self.match_numbers(request);
        self.match_absences(request);
        self.match_text(request);
        let mut matched = self.matching_signatures(request);
        if self.regex_gate.budget_exhausted() {
            let tests = self.program.keywords.get(&FieldId::BodyUnreadable);
            run_keyword_tests(
                tests.map(Vec::as_slice).unwrap_or_default(),
                BUDGET_EXHAUSTED,
                &mut |bit, range| {
                    self.set(
                        bit,
                        BitOrigin { start: range.start, end: range.end, is_in_text: false },
                    );
                },
            );
            matched = self.matching_signatures(request);
        }
        if matched.is_empty() { Vec::new() } else { self.with_evidence(matched, request) }
    }

    /// Whether regexes were given up on, because the text is made to be dear to search.
    pub fn budget_exhausted(&self) -> bool {
        self.regex_gate.budget_exhausted()
    }

    fn set(&mut self, bit: usize, origin: BitOrigin) {
        if self.bit_state.set(bit) {
            self.origins.push((bit, origin));
            self.mark_candidates(bit);
        }
    }

    /// Has the signatures looked at in which a bit occurs.
    fn mark_candidates(&mut self, bit: usize) {
        for signature in self.program.signatures_by_bit.get(bit).into_iter().flatten() {
            if let Some(word) = self.candidate_signatures.get_mut(*signature as usize / 64) {
                *word |= 1 << (signature % 64);
            }
        }
    }

    fn match_keywords(&mut self, request: &Request<'_>) {
        let program = self.program;
        for (name, value) in request.keywords() {
            if let Some(tests) = program.keywords.get(name) {
                run_keyword_tests(tests, value, &mut |bit, range| {
                    self.set(
                        bit,
                        BitOrigin { start: range.start, end: range.end, is_in_text: false },
                    );
                });
            }
        }
    }

    fn match_numbers(&mut self, request: &Request<'_>) {
        let program = self.program;
        for (name, value) in request.numbers() {
            for test in program.numbers.get(name).into_iter().flatten() {
                if test
                    .check
                    .is_none_or(|(comparator, operand)| comparator.matches(*value, operand))
                {
                    self.set(test.bit, BitOrigin::default());
                }
            }
        }
    }

    fn match_absences(&mut self, request: &Request<'_>) {
        let program = self.program;
        let sections =
            request.segments().iter().fold(0, |mask, segment| mask | segment.section as u8);
        for (mask, bit) in &program.presence_tests {
            if mask & sections != 0 {
                self.set(*bit, BitOrigin::default());
            }
        }
        for (field, bit) in &program.absence_tests {
            if let Field::Known(name) = field
                && !has_value(request, *name, sections)
            {
                self.set(*bit, BitOrigin::default());
            }
        }
    }

    fn match_text(&mut self, request: &Request<'_>) {
        let program = self.program;
        let mut cased_values: BTreeMap<usize, String> = BTreeMap::new();
        // Whether a cased pattern stands in a value is asked once: that looks at the whole value.
        let mut tested: BTreeSet<(usize, usize, usize)> = BTreeSet::new();
        // What is found next is mostly in the same value.
        let mut last_segment = None;
        program.scanner.scan(request.text().as_bytes(), &mut |literal_index, start| {
            let Some(literal) = program.literals.get(literal_index) else { return };
            last_segment = last_segment
                .filter(|(_, segment): &(usize, &Segment<'_>)| segment.range.contains(&start));
            last_segment = last_segment.or_else(|| segment_at(request, start));
            let Some((segment_index, segment)) = last_segment else { return };
            if literal.is_required_by_regex {
                self.regex_gate.record_occurrence(literal_index, start);
            }
            if let Some(seen_sections) = self.sections_by_literal.get_mut(literal_index) {
                if *seen_sections & segment.section as u8 != 0 && !literal.is_position_sensitive {
                    return;
                }
                *seen_sections |= segment.section as u8;
            }
            let end = start.saturating_add(program.scanner.literal_len(literal_index));
            for (use_index, literal_use) in literal.uses.iter().enumerate() {
                if literal_use.sections & segment.section as u8 == 0
                    || !satisfies_anchor(literal_use.anchor, segment, start, end)
                {
                    continue;
                }
                if let Some(pattern) = &literal_use.cased_pattern
                    && (!tested.insert((segment_index, literal_index, use_index))
                        || !literal_use.anchor.matches(
                            cased_value(&mut cased_values, segment_index, segment),
                            pattern,
                        ))
                {
                    continue;
                }
                match literal_use.target {
                    LiteralTarget::Bit(bit) => {
                        self.set(bit, BitOrigin { start, end, is_in_text: true })
                    }
                    LiteralTarget::Regex { regex, required_index: landmark } => {
                        self.record_literal_set(regex, landmark)
                    }
                }
            }
        });
    }

    fn origin(&self, bit: usize) -> Option<&BitOrigin> {
        self.origins.iter().find(|(other, _)| *other == bit).map(|(_, origin)| origin)
    }

    fn record_literal_set(&mut self, regex: usize, required_index: usize) {
        let Some(test) = self.program.regexes.get(regex) else { return };
        if self.regex_gate.record_literal_set(regex, test, required_index) {
            self.bit_state.set_pending(test.bit, true);
            self.mark_candidates(test.bit);
        }
    }

    fn run_regex(&mut self, regex: usize, request: &Request<'_>) {
        let Some(test) = self.program.regexes.get(regex) else { return };
        self.bit_state.set_pending(test.bit, false);
        if let Some(range) = self.regex_gate.find_match(test, request) {
            self.set(test.bit, BitOrigin { start: range.start, end: range.end, is_in_text: true });
        }
    }

    /// The signatures whose condition holds, of those that a bit touches.
    fn matching_signatures(&mut self, request: &Request<'_>) -> Vec<usize> {
        let mut matching = Vec::new();
        // A regex that matches touches only signatures that its literals have touched already.
        for word_index in 0..self.candidate_signatures.len() {
            let mut word = self.candidate_signatures.get(word_index).copied().unwrap_or_default();
            while word != 0 {
                let bit = word.trailing_zeros();
                word ^= 1 << bit;
                let signature = word_index.saturating_mul(64).saturating_add(bit as usize);
                if self.signature_matches(signature, request) {
                    matching.push(signature);
                }
            }
        }
        matching
    }

    fn signature_matches(&mut self, signature: usize, request: &Request<'_>) -> bool {
        let Some(condition) = self.program.conditions.get(signature) else { return false };
        loop {
            match condition.evaluate(&self.bit_state) {
                Ternary::Holds => return true,
                Ternary::Fails => return false,
                Ternary::DependsOn(bit) => match self.program.regex_by_bit.get(bit) {
                    Some(Some(regex)) => self.run_regex(*regex, request),
                    _ => return false,
                },
            }
        }
    }

    /// The hits, with their proofs. Values are gone through again for that around what was found, no byte
    /// twice.
    fn with_evidence(&self, signatures: Vec<usize>, request: &Request<'_>) -> Vec<Hit> {
        let mut witnesses = Vec::with_capacity(signatures.len());
        let mut offsets_by_segment: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for signature in signatures {
            let mut bits = Vec::new();
            if let Some(condition) = self.program.conditions.get(signature) {
                condition.witness_bits(&self.bit_state, &mut bits);
            }
            for origin in
                bits.iter().filter_map(|bit| self.origin(*bit)).filter(|origin| origin.is_in_text)
            {
                if let Some((segment_index, segment)) = segment_at(request, origin.start) {
                    let offsets = offsets_by_segment.entry(segment_index).or_default();
                    for position in [origin.start, origin.end.saturating_sub(1)] {
                        offsets.push(position.saturating_sub(segment.range.start));
                    }
                }
            }
            witnesses.push((signature, bits));
        }
        let source_map = |(segment_index, offsets): (usize, Vec<usize>)| {
            Some((
                segment_index,
                request.source_map(request.segments().get(segment_index)?, offsets)?,
            ))
        };
        let source_maps: BTreeMap<usize, text::SourceMap> =
            offsets_by_segment.into_iter().filter_map(source_map).collect();
        let locate = |bit: usize| {
            let field = self.program.field_by_bit.get(bit)?.clone();
            let origin = self.origin(bit)?;
            if !origin.is_in_text {
                return Some(Evidence { field, start: origin.start, end: origin.end });
            }
            let (segment_index, segment) = segment_at(request, origin.start)?;
            let base = segment.range.start;
            let range_in_value = origin.start.checked_sub(base)?..origin.end.checked_sub(base)?;
            let range = match segment.source {
                Source::Value(_) => source_maps.get(&segment_index)?.source_range(range_in_value),
                Source::Joined(ref range) => range.clone(),
            };
            Some(Evidence { field, start: range.start, end: range.end })
        };
        let to_hit = |(signature, bits): (usize, Vec<usize>)| Hit {
            signature,
            evidence: bits.into_iter().filter_map(locate).collect(),
            indicator_key: None,
        };
        witnesses.into_iter().map(to_hit).collect()
    }
}

/// The value of `hedgerow.body.unreadable` for text that is too dear to search.
const BUDGET_EXHAUSTED: &str = "search_budget";

fn satisfies_anchor(anchor: StringMatch, segment: &Segment<'_>, start: usize, end: usize) -> bool {
    match anchor {
        StringMatch::Contains => true,
        StringMatch::StartsWith => start == segment.range.start,
        StringMatch::EndsWith => end == segment.range.end,
        StringMatch::Equals => start == segment.range.start && end == segment.range.end,
    }
}

/// The segment's text with its case, made once a request; seams have none.
fn cased_value<'c>(
    cased_values: &'c mut BTreeMap<usize, String>,
    segment_index: usize,
    segment: &Segment<'_>,
) -> &'c str {
    let decode = || segment.source.value().map(decode_cased).unwrap_or_default();
    cased_values.entry(segment_index).or_insert_with(decode)
}

fn decode_cased(raw: RawString<'_>) -> String {
    let mut out = String::new();
    let mut normalizer = text::Normalizer::new(&mut out, Case::Keep);
    raw.decode(&mut normalizer);
    normalizer.finish();
    out
}

fn has_value(request: &Request<'_>, name: FieldId, sections: u8) -> bool {
    crate::field::sections(name) & sections != 0
        || request.keywords().iter().any(|(present, _)| *present == name)
        || request.numbers().iter().any(|(present, _)| *present == name)
}
