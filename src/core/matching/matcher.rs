//! The matcher: runs the comparisons and conditions of a program on one request after another.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;
use std::ops::Range;

use super::condition::{BitExpr, BitState, Ternary};
use super::hit::Hit;
use super::keyword::run_keyword_tests;
use super::near;
use super::near::{NearState, NearTest};
use super::passage_roles::{possible_sections, sections_at, segment_sections};
use super::program::{
    DivisionNeeds, HeaderBits, LateTest, Literal, LiteralTarget, LiteralUse, Program,
};
use super::regex_gate::RegexGate;
use super::segments::SegmentCursor;
use super::sparse_array::SparseArray;
use crate::extract::{Passages, ReadIssues, Request, Segment};
use crate::field::{Field, FieldId, PASSAGE_ROLES};
use crate::rules::signature::StringMatch;

/// Matches one request after another with the same buffers.
#[derive(Debug)]
pub struct Matcher<'p> {
    pub(super) program: &'p Program,
    pub(super) bit_state: BitState,
    /// Each set bit with its origin.
    origins: Vec<(usize, BitOrigin)>,
    /// Signatures to evaluate, as a set of one bit per signature.
    candidate_signatures: Vec<u64>,
    /// Sections and roles in which a literal was seen, as bits, by index of the literal.
    sections_by_literal: SparseArray<u16>,
    /// Occurrences of literals with a use that is limited to one role, as (literal, start), in the
    /// order of the scan.
    role_literals: Vec<(u32, u32)>,
    regex_gate: RegexGate,
    near: NearState,
}

/// The match that set a bit: a byte range in the normalised text if `is_in_text`, else in a value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BitOrigin {
    pub start: usize,
    pub end: usize,
    pub is_in_text: bool,
}

/// An occurrence of a literal in the text of a request.
struct FoundLiteral<'r, 'a> {
    literal: usize,
    segment_index: usize,
    segment: &'r Segment<'a>,
    start: usize,
    end: usize,
}

impl Program {
    /// Creates a matcher with its own buffers.
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher {
            program: self,
            bit_state: BitState::new(self.field_by_bit.len()),
            origins: Vec::with_capacity(64),
            candidate_signatures: vec![0; self.conditions.len().div_ceil(64)],
            sections_by_literal: SparseArray::new(self.literals.len()),
            role_literals: Vec::new(),
            regex_gate: RegexGate::new(self.regexes.len(), self.literals.len()),
            near: NearState::default(),
        }
    }

    /// Returns whether the text must be divided into passages. This is so if `matched` has a
    /// signature that depends on roles and a signature with a positive weight. Without a positive
    /// weight, no signature adds to the score.
    fn needs_division(&self, matched: &[usize]) -> bool {
        let any = |is_wanted: fn(&DivisionNeeds) -> bool| {
            matched
                .iter()
                .filter_map(|signature| self.division_needs.get(*signature))
                .any(is_wanted)
        };
        any(|signature| signature.is_evidence) && any(|signature| signature.has_role)
    }

    /// Returns whether the comparison of a bit is limited to text of one role.
    pub(super) fn tests_role(&self, bit: usize) -> bool {
        matches!(self.field_by_bit.get(bit),
            Some(Field::Known(field)) if crate::field::sections(*field) & PASSAGE_ROLES != 0)
    }
}

impl Matcher<'_> {
    /// Returns the signatures that match a request, in the order of the ruleset.
    ///
    /// At first, all text counts in every role that it may have. If the matching signatures include
    /// one that depends on roles and one with a positive weight, the text is divided into passages,
    /// and the matching signatures are evaluated again. Few requests need this. If the budget does
    /// not suffice for the second evaluation, the first result is kept. Without this result, text
    /// that is expensive to search would hide all signatures.
    pub fn hits(&mut self, request: &Request<'_>, header_bits: &HeaderBits) -> Vec<Hit> {
        let mut matched = self.matched(request, header_bits);
        let mut passages = None;
        // If the budget is exhausted, the text is not divided and still counts in every possible
        // role.
        if !request.work().is_exhausted() && self.program.needs_division(&matched) {
            let undivided = (self.bit_state.clone(), self.origins.clone());
            request.work().begin_search(request.text().len());
            matched = self.recheck_by_passage(matched, request, request.passages());
            passages = Some(request.passages());
            if request.work().is_exhausted() {
                (self.bit_state, self.origins) = undivided;
                self.match_exhaustion(request);
                matched = self.matching_signatures(request, None);
                passages = None;
            }
        }
        if matched.is_empty() {
            return Vec::new();
        }
        let innocence: Vec<Vec<usize>> =
            matched.iter().map(|signature| self.innocence(*signature, request, passages)).collect();
        let mut hits = self.with_evidence(matched, request);
        for (hit, innocence) in hits.iter_mut().zip(innocence) {
            hit.innocence = innocence;
        }
        hits
    }

    /// Returns the signatures whose conditions hold if text counts in all possible roles.
    fn matched(&mut self, request: &Request<'_>, header_bits: &HeaderBits) -> Vec<usize> {
        self.bit_state.clear();
        self.bit_state.is_superset = true;
        self.candidate_signatures.fill(0);
        self.origins.clear();
        self.sections_by_literal.clear();
        self.role_literals.clear();
        self.regex_gate.reset(request.text().len());
        self.near.reset(request.text().len());
        for (bit, range) in header_bits.iter() {
            self.set_by_value(*bit, range.clone());
        }
        self.match_keywords(request);
        self.match_numbers(request);
        self.match_absences(request, None);
        self.match_text(request);
        let matched = self.matching_signatures(request, None);
        match self.match_exhaustion(request) {
            true => self.matching_signatures(request, None),
            false => matched,
        }
    }

    /// Returns the signatures in `matched` whose conditions also hold if each passage counts only
    /// in its own role.
    ///
    /// No other signature can hold. The division only removes bits, and negations of comparisons
    /// with roles counted as true before it. So only the bits of roles are set again, and a late
    /// test of a role runs again only if it matched before.
    fn recheck_by_passage(
        &mut self,
        mut matched: Vec<usize>,
        request: &Request<'_>,
        passages: &Passages,
    ) -> Vec<usize> {
        let program = self.program;
        self.bit_state.is_superset = false;
        let bit_state = &mut self.bit_state;
        self.origins.retain(|(bit, _)| {
            let is_kept = !program.tests_role(*bit);
            if !is_kept {
                bit_state.unset(*bit);
                let is_late = program.late_tests.get(*bit).is_some_and(Option::is_some);
                bit_state.set_pending(*bit, is_late);
            }
            is_kept
        });
        self.match_absences(request, Some(passages));
        self.near.retain_anchors_by_role(&program.near, request, passages);
        self.match_text_by_role(request, passages);
        matched.retain(|signature| self.signature_matches(*signature, request, Some(passages)));
        matched
    }

    /// Compares `hedgerow.body.unreadable` with the value `costly` and sets the bits, if matching
    /// has exhausted the budget of the request. Returns whether it has. Returns false if the budget
    /// was exhausted before matching.
    fn match_exhaustion(&mut self, request: &Request<'_>) -> bool {
        let is_new =
            request.work().is_exhausted() && !request.issues().contains(ReadIssues::COSTLY);
        if is_new && let Some(tests) = self.program.keywords.get(&FieldId::BodyUnreadable) {
            run_keyword_tests(tests, BUDGET_EXHAUSTED, &mut |bit, range| {
                self.set_by_value(bit, range);
            });
        }
        is_new
    }

    /// Sets a bit, with a range in a value as evidence.
    fn set_by_value(&mut self, bit: usize, range: Range<usize>) {
        self.set(bit, BitOrigin { start: range.start, end: range.end, is_in_text: false });
    }

    /// Sets a bit and records its origin as evidence. A bit that is set already keeps its origin.
    fn set(&mut self, bit: usize, origin: BitOrigin) {
        if self.bit_state.set(bit) {
            self.origins.push((bit, origin));
            self.mark_candidates(bit);
        }
    }

    /// Marks the signatures that a bit triggers, so that they are evaluated.
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
                run_keyword_tests(tests, value, &mut |bit, range| self.set_by_value(bit, range));
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

    /// Sets the bits of the `|exists` comparisons that test whether text is present, or whether a
    /// field other than a header is absent. `passages` is `None` before the text is divided.
    fn match_absences(&mut self, request: &Request<'_>, passages: Option<&Passages>) {
        let program = self.program;
        let segments = request.segments().iter();
        let sections = segments.fold(0, |mask, segment| mask | segment_sections(segment, passages));
        for (mask, bit) in &program.presence_tests {
            if mask & sections != 0 {
                self.set(*bit, BitOrigin::default());
            }
        }
        for (field, bit) in &program.absence_tests {
            let Field::Known(name) = field else { continue };
            // The roles of undivided text are not known, so any of them may be absent.
            let may_lack = passages.is_none() && crate::field::sections(*name) & PASSAGE_ROLES != 0;
            if may_lack || !has_value(request, *name, sections) {
                self.set(*bit, BitOrigin::default());
            }
        }
    }

    /// Scans the text for all literals, sets their bits, and records literals for the regex gate.
    fn match_text(&mut self, request: &Request<'_>) {
        let program = self.program;
        // The scan reads the text once per gram table. It runs even if this exhausts the budget,
        // because it takes linear time.
        request.work().spend_reading(request.text().len());
        let mut place_and_case = PlaceAndCaseCheck::default();
        let mut locate = locator(program, request);
        program.scanner.scan(request.text().as_bytes(), &mut |literal_index, start| {
            let Some((literal, occurrence)) = locate(literal_index, start) else { return };
            if literal.is_required_by_regex
                && !self.regex_gate.record_occurrence(literal_index, start)
            {
                request.work().exhaust();
            }
            // An entry beyond the maximum shows that the list is incomplete.
            if literal.has_role && self.role_literals.len() <= MAX_ROLE_LITERALS {
                self.role_literals.push((literal_index as u32, start as u32));
            }
            let sections = possible_sections(occurrence.segment);
            if let Some(seen_sections) = self.sections_by_literal.get_mut(literal_index) {
                if sections & !*seen_sections == 0 && !literal.is_position_sensitive {
                    return;
                }
                *seen_sections |= sections;
            }
            for (index, literal_use) in literal.uses.iter().enumerate() {
                if literal_use.sections & sections == 0
                    || literal.is_position_sensitive
                        && !place_and_case.satisfies(literal_use, index, &occurrence, request)
                {
                    continue;
                }
                let FoundLiteral { start, end, .. } = occurrence;
                match literal_use.target {
                    LiteralTarget::Bit(bit) => {
                        self.set(bit, BitOrigin { start, end, is_in_text: true })
                    }
                    LiteralTarget::Regex { regex, required_index } => {
                        self.mark_required_seen(regex, required_index)
                    }
                    LiteralTarget::Anchor { concept, is_stem } => {
                        self.record_anchor(concept, is_stem, start..end, request, sections);
                    }
                }
            }
        });
    }

    /// Sets the bits of comparisons that search text of one role for a literal, by the roles of the
    /// passages.
    fn match_text_by_role(&mut self, request: &Request<'_>, passages: &Passages) {
        let program = self.program;
        let role_literals = std::mem::take(&mut self.role_literals);
        let mut place_and_case = PlaceAndCaseCheck::default();
        let mut locate = locator(program, request);
        let mut on_match = |literal_index: usize, start: usize| {
            let Some((literal, occurrence)) = locate(literal_index, start) else { return };
            let sections = sections_at(occurrence.segment, Some(passages), start);
            for (index, literal_use) in literal.uses.iter().enumerate() {
                let LiteralTarget::Bit(bit) = literal_use.target else { continue };
                if literal_use.sections & PASSAGE_ROLES != 0
                    && literal_use.sections & sections != 0
                    && !self.bit_state.is_set(bit)
                    && place_and_case.satisfies(literal_use, index, &occurrence, request)
                {
                    let FoundLiteral { start, end, .. } = occurrence;
                    self.set(bit, BitOrigin { start, end, is_in_text: true });
                }
            }
        };
        if role_literals.len() <= MAX_ROLE_LITERALS {
            for (literal, start) in &role_literals {
                on_match(*literal as usize, *start as usize);
            }
        } else {
            request.work().spend_reading(request.text().len());
            program.scanner.scan(request.text().as_bytes(), &mut on_match);
        }
        self.role_literals = role_literals;
    }

    /// Returns the origin of a set bit; `None` if the bit is not set.
    pub(super) fn origin(&self, bit: usize) -> Option<&BitOrigin> {
        self.origins.iter().find(|(other, _)| *other == bit).map(|(_, origin)| origin)
    }

    /// Records that a required literal of a regex was found. If no other is missing, the bit of the
    /// regex becomes pending.
    fn mark_required_seen(&mut self, regex: usize, required_index: usize) {
        let Some(test) = self.program.regexes.get(regex) else { return };
        if self.regex_gate.mark_required_seen(regex, test, required_index) {
            self.bit_state.set_pending(test.bit, true);
            self.mark_candidates(test.bit);
        }
    }

    /// Records an occurrence of a term that is an anchor of comparisons with concepts, if it is a
    /// whole word in a section that one of them tests. The bits of these comparisons become
    /// pending. If too many anchors are recorded already, exhausts the budget instead.
    fn record_anchor(
        &mut self,
        concept: u32,
        is_stem: bool,
        range: Range<usize>,
        request: &Request<'_>,
        sections: u16,
    ) {
        let near = &self.program.near;
        let is_in_section = |test: &NearTest| test.sections & sections != 0;
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

    /// Runs a pending test, and sets its bit if the test matches. The bit is then no longer
    /// pending.
    fn run_late_test(
        &mut self,
        bit: usize,
        test: LateTest,
        request: &Request<'_>,
        passages: Option<&Passages>,
    ) {
        self.bit_state.set_pending(bit, false);
        let program = self.program;
        let matched = match test {
            LateTest::Regex(index) => program
                .regexes
                .get(index)
                .and_then(|regex| self.regex_gate.find_match(regex, request, passages)),
            LateTest::Near(index) => program
                .near
                .tests
                .get(index)
                .and_then(|test| self.near.find_match(&program.near, test, request, passages)),
        };
        if let Some(range) = matched {
            self.set(bit, BitOrigin { start: range.start, end: range.end, is_in_text: true });
        }
    }

    /// Returns the candidate signatures whose condition holds, running late tests as needed.
    fn matching_signatures(
        &mut self,
        request: &Request<'_>,
        passages: Option<&Passages>,
    ) -> Vec<usize> {
        let mut matching = Vec::new();
        // No signature becomes a candidate in this loop: a late test that matches triggers only
        // signatures that its pending bit has triggered before.
        for word_index in 0..self.candidate_signatures.len() {
            let mut word = self.candidate_signatures.get(word_index).copied().unwrap_or_default();
            while word != 0 {
                let bit = word.trailing_zeros();
                word ^= 1 << bit;
                let signature = word_index.saturating_mul(64).saturating_add(bit as usize);
                if self.signature_matches(signature, request, passages) {
                    matching.push(signature);
                }
            }
        }
        matching
    }

    /// Returns whether the condition of a signature holds.
    fn signature_matches(
        &mut self,
        signature: usize,
        request: &Request<'_>,
        passages: Option<&Passages>,
    ) -> bool {
        let condition = self.program.conditions.get(signature);
        condition.is_some_and(|condition| self.holds(condition, request, passages))
    }

    /// Returns the indices of those innocence selections of a signature that hold.
    fn innocence(
        &mut self,
        signature: usize,
        request: &Request<'_>,
        passages: Option<&Passages>,
    ) -> Vec<usize> {
        let Some(selections) = self.program.innocence.get(signature) else { return Vec::new() };
        let holding = |(position, selection): (usize, &BitExpr)| {
            self.holds(selection, request, passages).then_some(position)
        };
        selections.iter().enumerate().filter_map(holding).collect()
    }

    /// Evaluates an expression, running late tests as long as the value depends on one.
    fn holds(
        &mut self,
        expression: &BitExpr,
        request: &Request<'_>,
        passages: Option<&Passages>,
    ) -> bool {
        loop {
            match expression.evaluate(&self.bit_state) {
                Ternary::Holds => return true,
                Ternary::Fails => return false,
                Ternary::DependsOn(bit) => match self.program.late_tests.get(bit) {
                    Some(Some(test)) => self.run_late_test(bit, *test, request, passages),
                    _ => return false,
                },
            }
        }
    }
}

/// The value of `hedgerow.body.unreadable` if the search budget is exhausted.
const BUDGET_EXHAUSTED: &str = "costly";

/// Returns whether the occurrence from `start` to `end` has the position in the segment that
/// `string_match` requires.
fn satisfies_place(
    string_match: StringMatch,
    segment: &Segment<'_>,
    start: usize,
    end: usize,
) -> bool {
    match string_match {
        StringMatch::Contains => true,
        StringMatch::StartsWith => start == segment.range.start,
        StringMatch::EndsWith => end == segment.range.end,
        StringMatch::Equals => start == segment.range.start && end == segment.range.end,
    }
}

/// Returns a function that takes the index of a literal and the start of an occurrence. The
/// function returns the literal and the located occurrence; `None` if no segment contains the
/// start.
fn locator<'r, 'a>(
    program: &'r Program,
    request: &'r Request<'a>,
) -> impl FnMut(usize, usize) -> Option<(&'r Literal, FoundLiteral<'r, 'a>)> {
    let mut segments = SegmentCursor::new(request);
    move |literal, start| {
        let (segment_index, segment) = segments.at(start)?;
        let end = start.saturating_add(program.scanner.literal_len(literal));
        let occurrence = FoundLiteral { literal, segment_index, segment, start, end };
        Some((program.literals.get(literal)?, occurrence))
    }
}

/// Maximum number of recorded occurrences of literals that are limited to one role. If the text
/// has more, it is scanned again.
const MAX_ROLE_LITERALS: usize = 4_096;

/// Checks the place and the case of occurrences of literals.
#[derive(Default)]
struct PlaceAndCaseCheck {
    value: CasedValue,
    /// Indices of segment, literal and use of each case-sensitive comparison that was made. A
    /// comparison covers the whole value, so one per value is enough.
    tested: BTreeSet<(usize, usize, usize)>,
}

impl PlaceAndCaseCheck {
    /// Returns whether an occurrence satisfies a use of its literal in place and case. Makes a
    /// case-sensitive comparison once per value, and returns false for further occurrences in the
    /// value. Returns false if the budget does not suffice for the comparison.
    fn satisfies(
        &mut self,
        literal_use: &LiteralUse,
        use_index: usize,
        occurrence: &FoundLiteral<'_, '_>,
        request: &Request<'_>,
    ) -> bool {
        let FoundLiteral { literal, segment_index, segment, start, end } = *occurrence;
        if !satisfies_place(literal_use.string_match, segment, start, end) {
            return false;
        }
        let Some(pattern) = &literal_use.cased_pattern else { return true };
        self.tested.insert((segment_index, literal, use_index))
            && request.work().spend_searching(segment.range.len())
            && literal_use
                .string_match
                .matches(self.value.text(segment_index, segment, request), pattern)
    }
}

/// The text of the segment that was last compared in its original case.
#[derive(Default)]
struct CasedValue {
    segment_index: Option<usize>,
    text: String,
}

impl CasedValue {
    /// Returns the text of a segment in its original case. The text is empty for joined parts, or
    /// if the budget does not suffice to normalise it.
    ///
    /// Only the text of the last segment is kept, to save memory. A scan visits the segments in
    /// order, so it normalises each text at most once per gram table, and once per literal that is
    /// searched for separately.
    fn text(&mut self, index: usize, segment: &Segment<'_>, request: &Request<'_>) -> &str {
        if self.segment_index != Some(index) {
            self.segment_index = Some(index);
            self.text.clear();
            let source = &segment.source;
            if !source.is_joined() && request.work().spend_searching(source.size()) {
                // A change of case changes the length of text by little.
                let limit = segment.range.len().saturating_mul(2);
                self.text.reserve_exact(segment.range.len());
                source.push_cased_text(&mut self.text, limit);
            }
        }
        &self.text
    }
}

/// Returns whether a request has a value of a field; `sections` are the sections with text.
fn has_value(request: &Request<'_>, name: FieldId, sections: u16) -> bool {
    crate::field::sections(name) & sections != 0
        || request.keywords().iter().any(|(present, _)| *present == name)
        || request.numbers().iter().any(|(present, _)| *present == name)
}
