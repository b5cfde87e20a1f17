//! The program: compiled comparisons and conditions of a ruleset, and the matcher that runs them.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::condition::{BitExpr, BitState, Ternary};
use super::hit::{Evidence, Hit};
use super::keyword::{KeywordCheck, KeywordTest, run_keyword_tests};
use super::literal_scanner::Scanner;
use super::near;
use super::near::{NearProgram, NearState, NearTest};
use super::regex_gate::{self, RegexGate, RegexTest, segment_at};
use crate::error::Error;
use crate::extract::{ReadIssues, Request, Segment, Source};
use crate::field::{Field, FieldId};
use crate::rules::signature::{Comparator, StringMatch};
use crate::text;

/// The compiled comparisons and conditions of a ruleset.
#[derive(Debug, Default)]
pub struct Program {
    pub(crate) scanner: Scanner,
    /// Uses of each literal, by index in the scanner.
    pub(crate) literals: Vec<Literal>,
    /// Number of literals that are not only anchors of concepts; they come first.
    pub(crate) counted_literals: usize,
    pub(crate) regexes: Vec<RegexTest>,
    pub(crate) near: NearProgram,
    /// The test that sets a bit after the scan, by bit; `None` for other bits.
    pub(crate) late_tests: Vec<Option<LateTest>>,
    pub(crate) keywords: BTreeMap<FieldId, Vec<KeywordTest>>,
    pub(crate) headers: BTreeMap<String, Vec<KeywordTest>>,
    pub(crate) numbers: BTreeMap<FieldId, Vec<NumberTest>>,
    /// Fields, and the bit to set if the field has no value.
    pub(crate) absence_tests: Vec<(Field, usize)>,
    /// Sections, and the bit to set if a segment of them has text.
    pub(crate) presence_tests: Vec<(u8, usize)>,
    /// Field of the comparison, by bit.
    pub(crate) field_by_bit: Vec<Field>,
    /// Signatures to evaluate when the bit is set, by bit.
    pub(crate) signatures_by_bit: Vec<Vec<u32>>,
    /// Condition of each signature.
    pub(crate) conditions: Vec<BitExpr>,
}

/// The uses of a literal.
#[derive(Debug, Default)]
pub(crate) struct Literal {
    pub uses: Vec<LiteralUse>,
    /// Whether the literal is a required literal of a regex.
    pub is_required_by_regex: bool,
    /// Whether the position of an occurrence within a value, or its case, matters to a use.
    pub is_position_sensitive: bool,
}

/// A use of a literal: conditions on an occurrence, and its effect.
#[derive(Clone, Debug)]
pub(crate) struct LiteralUse {
    /// Sections in which an occurrence counts, as bits of [`crate::field::Section`].
    pub sections: u8,
    pub anchor: StringMatch,
    /// Pattern with its case, for a case-sensitive comparison.
    pub cased_pattern: Option<String>,
    pub target: LiteralTarget,
}

/// The effect of an occurrence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LiteralTarget {
    /// Sets the bit of a comparison.
    Bit(usize),
    /// Marks a required literal of a regex as seen, by its index in the regex.
    Regex { regex: usize, required_index: usize },
    /// Records a term of a concept that anchors comparisons.
    Anchor { concept: u32, is_stem: bool },
}

/// A test that runs after the scan, only if a condition depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LateTest {
    /// A regex, by its index in [`Program::regexes`].
    Regex(usize),
    /// A comparison with concepts, by its index in [`NearProgram::tests`].
    Near(usize),
}

/// A number comparison, or `None` for presence, and its bit.
#[derive(Debug)]
pub(crate) struct NumberTest {
    pub check: Option<(Comparator, f64)>,
    pub bit: usize,
}

/// The bits that headers set, computed once for all entries of a batch.
#[derive(Clone, Debug, Default)]
pub struct HeaderBits(Vec<(usize, Range<usize>)>);

/// Matches one request after another with the same buffers.
#[derive(Debug)]
pub struct Matcher<'p> {
    program: &'p Program,
    bit_state: BitState,
    /// Origin of each set bit.
    origins: Vec<(usize, BitOrigin)>,
    /// Bit set of signatures to evaluate.
    candidate_signatures: Vec<u64>,
    /// Sections in which a literal was seen, by literal that is not only an anchor.
    sections_by_literal: Vec<u8>,
    regex_gate: RegexGate,
    near: NearState,
}

/// The location that set a bit: a range in the normalised text, or in a value.
#[derive(Clone, Copy, Debug, Default)]
struct BitOrigin {
    start: usize,
    end: usize,
    is_in_text: bool,
}

impl Program {
    /// Compiles one regex per step, so that a caller can yield in between.
    ///
    /// Yields an error if a regex does not compile, or if the regexes so far exceed the memory
    /// limit.
    pub(crate) fn compile_regexes_stepwise(&self) -> impl Iterator<Item = Result<(), Error>> {
        let text_regexes = self.regexes.iter().map(|test| (&test.pattern, &test.compiled));
        let keyword_tests = self.keywords.values().chain(self.headers.values()).flatten();
        let keyword_regexes = keyword_tests.filter_map(|test| match &test.check {
            KeywordCheck::Regex { pattern, compiled } => Some((pattern, compiled)),
            _ => None,
        });
        regex_gate::compile_stepwise(text_regexes.chain(keyword_regexes))
    }

    /// Creates a matcher with its own buffers.
    pub fn matcher(&self) -> Matcher<'_> {
        let zeroed_bitset = |bits: usize| vec![0; bits.div_ceil(64)];
        Matcher {
            program: self,
            bit_state: BitState::new(self.field_by_bit.len()),
            origins: Vec::with_capacity(64),
            candidate_signatures: zeroed_bitset(self.conditions.len()),
            sections_by_literal: vec![0; self.counted_literals],
            regex_gate: RegexGate::new(self.regexes.len(), self.counted_literals),
            near: NearState::default(),
        }
    }

    /// Evaluates the header comparisons. Names of `headers` are in lower case.
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

    /// Returns the number of distinct literals.
    pub fn literal_count(&self) -> usize {
        self.literals.len()
    }

    /// Returns the heap bytes of the scanner's tables, and of the index of terms.
    pub fn heap_bytes(&self) -> usize {
        self.scanner.heap_bytes().saturating_add(self.near.index.heap_bytes())
    }
}

impl Matcher<'_> {
    /// Returns the signatures that match a request, in the order of the ruleset.
    pub fn hits(&mut self, request: &Request<'_>, header_bits: &HeaderBits) -> Vec<Hit> {
        self.bit_state.clear();
        self.candidate_signatures.fill(0);
        self.origins.clear();
        self.sections_by_literal.fill(0);
        self.regex_gate.reset(request.text().len());
        self.near.reset(request.text().len());
        for (bit, range) in &header_bits.0 {
            self.set(*bit, BitOrigin { start: range.start, end: range.end, is_in_text: false });
        }
        self.match_keywords(request);
        self.match_numbers(request);
        self.match_absences(request);
        self.match_text(request);
        let mut matched = self.matching_signatures(request);
        if request.work().is_exhausted() && !request.issues().contains(ReadIssues::COSTLY) {
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

    /// Sets a bit, with the origin of the first match as evidence.
    fn set(&mut self, bit: usize, origin: BitOrigin) {
        if self.bit_state.set(bit) {
            self.origins.push((bit, origin));
            self.mark_candidates(bit);
        }
    }

    /// Marks the signatures that a bit triggers for evaluation.
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

    /// Sets the bits of `|exists` comparisons.
    fn match_absences(&mut self, request: &Request<'_>) {
        let program = self.program;
        let sections = request.segments().iter().fold(0, |mask, segment| mask | segment.sections());
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

    /// Scans the text for all literals, sets their bits, and records literals for the regex gate.
    fn match_text(&mut self, request: &Request<'_>) {
        let program = self.program;
        // The text is scanned once per width of grams. A request whose text fits its budget is
        // always scanned, for that is linear.
        request.work().spend_reading(request.text().len());
        let mut cased_value = CasedValue::default();
        // A cased pattern is compared with the whole value, so once per value is enough.
        let mut tested: BTreeSet<(usize, usize, usize)> = BTreeSet::new();
        // The next occurrence is mostly in the same value.
        let mut last_segment = None;
        program.scanner.scan(request.text().as_bytes(), &mut |literal_index, start| {
            let Some(literal) = program.literals.get(literal_index) else { return };
            last_segment = last_segment
                .filter(|(_, segment): &(usize, &Segment<'_>)| segment.range.contains(&start));
            last_segment = last_segment.or_else(|| segment_at(request, start));
            let Some((segment_index, segment)) = last_segment else { return };
            if literal.is_required_by_regex
                && !self.regex_gate.record_occurrence(literal_index, start)
            {
                request.work().exhaust();
            }
            if let Some(seen_sections) = self.sections_by_literal.get_mut(literal_index) {
                if segment.sections() & !*seen_sections == 0 && !literal.is_position_sensitive {
                    return;
                }
                *seen_sections |= segment.sections();
            }
            let end = start.saturating_add(program.scanner.literal_len(literal_index));
            for (use_index, literal_use) in literal.uses.iter().enumerate() {
                if literal_use.sections & segment.sections() == 0
                    || !satisfies_anchor(literal_use.anchor, segment, start, end)
                {
                    continue;
                }
                if let Some(pattern) = &literal_use.cased_pattern
                    && (!tested.insert((segment_index, literal_index, use_index))
                        || !request.work().spend_searching(segment.range.len())
                        || !literal_use
                            .anchor
                            .matches(cased_value.text(segment_index, segment, request), pattern))
                {
                    continue;
                }
                match literal_use.target {
                    LiteralTarget::Bit(bit) => {
                        self.set(bit, BitOrigin { start, end, is_in_text: true })
                    }
                    LiteralTarget::Regex { regex, required_index } => {
                        self.record_literal_set(regex, required_index)
                    }
                    LiteralTarget::Anchor { concept, is_stem } => {
                        self.record_anchor(concept, is_stem, start..end, segment, request);
                    }
                }
            }
        });
    }

    fn origin(&self, bit: usize) -> Option<&BitOrigin> {
        self.origins.iter().find(|(other, _)| *other == bit).map(|(_, origin)| origin)
    }

    /// Records a required literal of a regex. The last missing literal makes the bit of the regex
    /// pending.
    fn record_literal_set(&mut self, regex: usize, required_index: usize) {
        let Some(test) = self.program.regexes.get(regex) else { return };
        if self.regex_gate.record_literal_set(regex, test, required_index) {
            self.bit_state.set_pending(test.bit, true);
            self.mark_candidates(test.bit);
        }
    }

    /// Records a term that anchors comparisons with concepts, whose bits become pending.
    fn record_anchor(
        &mut self,
        concept: u32,
        is_stem: bool,
        range: Range<usize>,
        segment: &Segment<'_>,
        request: &Request<'_>,
    ) {
        let near = &self.program.near;
        let is_in_section = |test: &NearTest| test.sections & segment.sections() != 0;
        if !near.tests_of(concept).any(|(_, test)| is_in_section(test))
            || !near::is_word_in_text(request, &range, is_stem)
        {
            return;
        }
        if !self.near.record_anchor(concept, &range) {
            return request.work().exhaust();
        }
        for (_, test) in near.tests_of(concept).filter(|(_, test)| is_in_section(test)) {
            self.bit_state.set_pending(test.bit, true);
            self.mark_candidates(test.bit);
        }
    }

    /// Runs a pending test. Its bit is then no longer pending.
    fn run_late_test(&mut self, bit: usize, test: LateTest, request: &Request<'_>) {
        self.bit_state.set_pending(bit, false);
        let program = self.program;
        let matched = match test {
            LateTest::Regex(index) => program
                .regexes
                .get(index)
                .and_then(|regex| self.regex_gate.find_match(regex, request)),
            LateTest::Near(index) => program
                .near
                .tests
                .get(index)
                .and_then(|test| self.near.find_match(&program.near, test, request)),
        };
        if let Some(range) = matched {
            self.set(bit, BitOrigin { start: range.start, end: range.end, is_in_text: true });
        }
    }

    /// Returns the candidate signatures whose condition holds, running late tests as needed.
    fn matching_signatures(&mut self, request: &Request<'_>) -> Vec<usize> {
        let mut matching = Vec::new();
        // No signature becomes a candidate in this loop: a late test that matches triggers only
        // signatures that its pending bit has triggered before.
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

    /// Evaluates a condition, running pending tests as long as the value depends on one.
    fn signature_matches(&mut self, signature: usize, request: &Request<'_>) -> bool {
        let Some(condition) = self.program.conditions.get(signature) else { return false };
        loop {
            match condition.evaluate(&self.bit_state) {
                Ternary::Holds => return true,
                Ternary::Fails => return false,
                Ternary::DependsOn(bit) => match self.program.late_tests.get(bit) {
                    Some(Some(test)) => self.run_late_test(bit, *test, request),
                    _ => return false,
                },
            }
        }
    }

    /// Returns the hits with their evidence.
    ///
    /// Maps offsets of the normalised text back to the body. For this, it reads the values around
    /// the matches again, no byte twice.
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
                Source::Encoded(..) | Source::Joined(_) | Source::Earlier(_) => {
                    segment.source.range()
                }
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

/// The value of `hedgerow.body.unreadable` if the search budget is exhausted.
const BUDGET_EXHAUSTED: &str = "costly";

/// Returns whether an occurrence from `start` to `end` lies at the edge of the segment that
/// `anchor` requires.
fn satisfies_anchor(anchor: StringMatch, segment: &Segment<'_>, start: usize, end: usize) -> bool {
    match anchor {
        StringMatch::Contains => true,
        StringMatch::StartsWith => start == segment.range.start,
        StringMatch::EndsWith => end == segment.range.end,
        StringMatch::Equals => start == segment.range.start && end == segment.range.end,
    }
}

/// The text of the last segment that was compared with its case.
#[derive(Default)]
struct CasedValue {
    segment_index: Option<usize>,
    text: String,
}

impl CasedValue {
    /// Returns the text of a segment with its case; empty for joined parts, or if the budget does
    /// not suffice to normalise it.
    ///
    /// It is computed again if another segment was asked for since, which takes less memory than
    /// all of them. A scan visits the segments in order, once per width of grams.
    fn text(&mut self, index: usize, segment: &Segment<'_>, request: &Request<'_>) -> &str {
        if self.segment_index != Some(index) {
            self.segment_index = Some(index);
            self.text.clear();
            let source = &segment.source;
            if !source.is_joined() && request.work().spend_searching(source.size()) {
                // Case does not change the length of text by much.
                let limit = segment.range.len().saturating_mul(2);
                self.text.reserve_exact(segment.range.len());
                source.push_cased_text(&mut self.text, limit);
            }
        }
        &self.text
    }
}

/// Returns whether a request has a value of a field; `sections` are the sections with text.
fn has_value(request: &Request<'_>, name: FieldId, sections: u8) -> bool {
    crate::field::sections(name) & sections != 0
        || request.keywords().iter().any(|(present, _)| *present == name)
        || request.numbers().iter().any(|(present, _)| *present == name)
}
