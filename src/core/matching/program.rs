//! The program: the compiled comparisons and conditions of a ruleset.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::ops::Range;

use super::condition::BitExpr;
use super::keyword::{KeywordCheck, KeywordTest, run_keyword_tests};
use super::literal_scanner::Scanner;
use super::near::NearProgram;
use super::regex_gate::{self, RegexTest};
use crate::error::Error;
use crate::field::{Field, FieldId};
use crate::rules::signature::{Comparator, StringMatch};

/// The compiled comparisons and conditions of a ruleset.
#[derive(Debug, Default)]
pub struct Program {
    pub(crate) scanner: Scanner,
    /// Uses of each literal, by index in the scanner.
    pub(crate) literals: Vec<Literal>,
    pub(crate) regexes: Vec<RegexTest>,
    pub(crate) near: NearProgram,
    /// For each bit, the test that sets it after the scan; `None` if the bit has no such test.
    pub(crate) late_tests: Vec<Option<LateTest>>,
    pub(crate) keywords: BTreeMap<FieldId, Vec<KeywordTest>>,
    pub(crate) headers: BTreeMap<String, Vec<KeywordTest>>,
    pub(crate) numbers: BTreeMap<FieldId, Vec<NumberTest>>,
    /// Field of each test for absence, and the bit to set if the field has no value.
    pub(crate) absence_tests: Vec<(Field, usize)>,
    /// Sections of each test for presence, and the bit to set if a segment of one of these sections
    /// has text.
    pub(crate) presence_tests: Vec<(u16, usize)>,
    /// Field of the comparison, by bit.
    pub(crate) field_by_bit: Vec<Field>,
    /// Signatures to evaluate when the bit is set, by bit.
    pub(crate) signatures_by_bit: Vec<Vec<u32>>,
    /// Condition of each signature.
    pub(crate) conditions: Vec<BitExpr>,
    /// Facts of each signature that decide whether its match requires the text to be divided.
    pub(crate) division_needs: Vec<DivisionNeeds>,
    /// Innocence selections of each signature.
    pub(crate) innocence: Vec<Box<[BitExpr]>>,
}

/// The facts of a signature that decide whether its match requires the division of the text into
/// passages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DivisionNeeds {
    /// Whether one of its comparisons is limited to text of one role.
    pub has_role: bool,
    /// Whether its weight is positive.
    pub is_evidence: bool,
}

/// The uses of a literal.
#[derive(Debug, Default)]
pub(crate) struct Literal {
    pub uses: Vec<LiteralUse>,
    /// Whether the literal is a required literal of a regex.
    pub is_required_by_regex: bool,
    /// Whether a use depends on the position of an occurrence within a value, or on its case.
    pub is_position_sensitive: bool,
    /// Whether a use sets the bit of a comparison that is limited to text of one role.
    pub has_role: bool,
}

/// A use of a literal: conditions on an occurrence, and its effect.
#[derive(Clone, Debug)]
pub(crate) struct LiteralUse {
    /// Sections and roles in which an occurrence counts, as bits.
    pub sections: u16,
    pub string_match: StringMatch,
    /// Pattern in its original case, for a case-sensitive comparison.
    pub cased_pattern: Option<String>,
    pub target: LiteralTarget,
}

/// The effect of an occurrence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LiteralTarget {
    /// Sets the bit of a comparison.
    Bit(usize),
    /// Marks a required literal of a regex as seen. `regex` is an index in [`Program::regexes`],
    /// `required_index` an index in [`RegexTest::required_literals`].
    Regex { regex: usize, required_index: usize },
    /// Records a term that is an anchor of comparisons with concepts. `concept` is the index of the
    /// concept. If `is_stem`, a word may continue after the term.
    Anchor { concept: u32, is_stem: bool },
}

/// A test that runs after the scan, and only if a condition depends on its result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LateTest {
    /// A regex, by its index in [`Program::regexes`].
    Regex(usize),
    /// A comparison with concepts, by its index in [`NearProgram::tests`].
    Near(usize),
}

/// A comparison of a number, and its bit. `check` is `None` if only the presence of a number is
/// tested.
#[derive(Debug)]
pub(crate) struct NumberTest {
    pub check: Option<(Comparator, f64)>,
    pub bit: usize,
}

/// The bits that headers set, computed once for all entries of a batch.
#[derive(Clone, Debug, Default)]
pub struct HeaderBits(Vec<(usize, Range<usize>)>);

impl HeaderBits {
    /// Returns each bit with a range in the value of the header. The range is empty if the bit
    /// shows that the header is absent.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(usize, Range<usize>)> {
        self.0.iter()
    }
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

    /// Evaluates the comparisons with headers, and returns the bits of those that hold. The names
    /// in `headers` must be in lower case.
    pub fn header_bits(&self, headers: &[(String, String)]) -> HeaderBits {
        let mut bits = HeaderBits::default();
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

    /// Returns the approximate number of heap bytes of the scanners.
    pub fn heap_bytes(&self) -> usize {
        self.scanner.heap_bytes().saturating_add(self.near.scanner.heap_bytes())
    }
}
