//! Compiles signatures into a program: every distinct comparison becomes one bit.

use std::collections::HashMap;

use once_cell::sync::OnceCell;

use super::condition::BitExpr;
use super::keyword::{KeywordCheck, KeywordTest};
use super::near_compile::NearCompiler;
use super::program::{
    DivisionNeeds, LateTest, Literal, LiteralTarget, LiteralUse, NumberTest, Program,
};
use super::regex_gate::RegexTest;
use super::required_literals::{RequiredLiteralIds, add_distances, context_literals};
use crate::error::Error;
use crate::field::{Field, FieldType, PASSAGE_ROLES, sections};
use crate::matching::literal_scanner::{MIN_LITERAL_BYTES, Scanner};
use crate::rules::concept::Concept;
use crate::rules::signature::{
    Comparison, Condition, FieldComparison, MAX_CONTEXT_LITERALS, MAX_REQUIRED_LITERALS,
    RequiredLiterals, Selection, Signature, StringMatch, Within,
};
use crate::text::{Case, normalize_pattern};

/// Compiles signatures into a program. Each signature keeps its index.
///
/// Returns an error if a signature is malformed, can match without a set bit, or exceeds a limit.
/// Regexes are not compiled here: see `Program::compile_regexes_stepwise`.
pub fn compile(signatures: &[Signature], concepts: &[Concept]) -> Result<Program, Error> {
    let mut compiler = Compiler { near: NearCompiler::new(concepts)?, ..Compiler::default() };
    for (index, signature) in signatures.iter().enumerate() {
        let node = compiler.compile_condition(signature, &signature.condition)?;
        if trigger_bits(&node, &compiler.program).is_none() {
            let problem = format!(
                "signature '{}' may match although none of its comparisons does",
                signature.name
            );
            return Err(Error::new(problem, "require a selection that is not negated"));
        }
        for bit in trigger_bits(&node, &compiler.program).unwrap_or_default() {
            if let Some(triggered) = compiler.program.signatures_by_bit.get_mut(bit) {
                triggered.push(index as u32);
            }
        }
        let innocence = signature.innocence.iter();
        let innocence = innocence.map(|name| compiler.compile_named_selection(signature, name));
        let innocence: Box<[BitExpr]> = innocence.collect::<Result<_, _>>()?;
        let has_role = compiler.has_role(&node)
            || innocence.iter().any(|selection| compiler.has_role(selection));
        compiler
            .program
            .division_needs
            .push(DivisionNeeds { has_role, is_evidence: signature.weight > 0.0 });
        compiler.program.conditions.push(node);
        compiler.program.innocence.push(innocence);
    }
    Ok(compiler.finish())
}

#[derive(Default)]
struct Compiler<'c> {
    program: Program,
    /// Bit of each comparison, by the JSON text of the comparison.
    bits: HashMap<String, usize>,
    /// Literals of the scanner. `literal_index` maps each literal to its index here.
    literals: Vec<String>,
    literal_index: HashMap<String, usize>,
    /// Required literal sets of each regex, by index of the regex.
    required_literals: Vec<Vec<RequiredLiterals>>,
    near: NearCompiler<'c>,
    /// Number of nodes of all conditions. A selection counts each time a condition names it.
    node_count: usize,
}

/// Maximum number of condition nodes in a ruleset. Without this limit, a few signatures that name a
/// large selection many times could have any number of nodes. The shipped rules have a twentieth of
/// this number.
const MAX_CONDITION_NODES: usize = 100_000;

impl Compiler<'_> {
    fn finish(mut self) -> Program {
        let recorded = |text: &str| {
            let index = *self.literal_index.get(text)?;
            self.program.literals.get(index)?.is_required_by_regex.then_some(index)
        };
        for (regex, sets) in self.program.regexes.iter_mut().zip(&self.required_literals) {
            regex.context_literals = context_literals(sets, recorded);
        }
        self.program.near = self.near.finish();
        self.program.scanner = Scanner::new(self.literals);
        self.program
    }

    /// Counts a condition node. Returns an error above [`MAX_CONDITION_NODES`].
    fn count_node(&mut self) -> Result<(), Error> {
        self.node_count = self.node_count.saturating_add(1);
        if self.node_count <= MAX_CONDITION_NODES {
            return Ok(());
        }
        Err(Error::new(
            format!("the signatures' conditions have more than {MAX_CONDITION_NODES} parts"),
            "name large selections once, or retire signatures",
        ))
    }

    fn compile_condition(
        &mut self,
        signature: &Signature,
        condition: &Condition,
    ) -> Result<BitExpr, Error> {
        self.count_node()?;
        Ok(match condition {
            Condition::All(parts) => BitExpr::All(self.compile_conditions(signature, parts)?),
            Condition::Any(parts) => BitExpr::any_of(self.compile_conditions(signature, parts)?),
            Condition::Not(part) => {
                let part = Box::new(self.compile_condition(signature, part)?);
                if self.has_role(&part) { BitExpr::NotInRole(part) } else { BitExpr::Not(part) }
            }
            Condition::Selection(name) => self.compile_named_selection(signature, name)?,
        })
    }

    fn compile_named_selection(
        &mut self,
        signature: &Signature,
        name: &str,
    ) -> Result<BitExpr, Error> {
        let selection = signature.selections.get(name).ok_or_else(|| {
            let problem = format!("signature '{}' has no selection '{name}'", signature.name);
            Error::new(problem, "name it under `detection`")
        })?;
        self.compile_selection(selection)
    }

    fn compile_conditions(
        &mut self,
        signature: &Signature,
        parts: &[Condition],
    ) -> Result<Box<[BitExpr]>, Error> {
        parts.iter().map(|part| self.compile_condition(signature, part)).collect()
    }

    fn compile_selection(&mut self, selection: &Selection) -> Result<BitExpr, Error> {
        self.count_node()?;
        Ok(match selection {
            Selection::All(parts) => BitExpr::All(self.compile_selections(parts)?),
            Selection::Any(parts) => BitExpr::any_of(self.compile_selections(parts)?),
            Selection::Field(test) => BitExpr::Bit(self.bit_for(test)?),
        })
    }

    fn compile_selections(&mut self, parts: &[Selection]) -> Result<Box<[BitExpr]>, Error> {
        parts.iter().map(|part| self.compile_selection(part)).collect()
    }

    /// Returns whether a condition has a comparison that is limited to text of one role.
    fn has_role(&self, node: &BitExpr) -> bool {
        let tests_role = |bit: usize| self.program.tests_role(bit);
        match node {
            BitExpr::Bit(bit) => tests_role(*bit),
            BitExpr::AnyBit(words) => BitExpr::bit_indices(words).any(tests_role),
            BitExpr::All(parts) | BitExpr::Any(parts) => {
                parts.iter().any(|part| self.has_role(part))
            }
            BitExpr::Not(part) | BitExpr::NotInRole(part) => self.has_role(part),
        }
    }

    /// Returns the bit of a comparison. A comparison without a bit is compiled first. Returns an
    /// error if the comparison is invalid or does not fit the type of its field.
    fn bit_for(&mut self, test: &FieldComparison) -> Result<usize, Error> {
        let key = serde_json::to_string(test).unwrap_or_default();
        if let Some(bit) = self.bits.get(&key) {
            return Ok(*bit);
        }
        let bit = self.program.field_by_bit.len();
        self.program.field_by_bit.push(test.field.clone());
        self.program.signatures_by_bit.push(Vec::new());
        self.program.late_tests.push(None);
        self.bits.insert(key, bit);
        match test.field.field_type() {
            FieldType::Text => self.compile_text(test, bit)?,
            FieldType::Keyword | FieldType::Address => self.compile_keyword(test, bit)?,
            FieldType::Number | FieldType::Flag => self.compile_number(test, bit)?,
            FieldType::Key => return Err(type_mismatch(test)),
        }
        Ok(bit)
    }

    /// Stores the test that decides a bit after the scan.
    fn set_late_test(&mut self, bit: usize, test: LateTest) {
        if let Some(slot) = self.program.late_tests.get_mut(bit) {
            *slot = Some(test);
        }
    }

    /// Compiles a comparison with the prompt text: for a literal, a regex, concepts, or the
    /// presence of text. Returns an error if the comparison is invalid or does not fit a text
    /// field.
    fn compile_text(&mut self, test: &FieldComparison, bit: usize) -> Result<(), Error> {
        let Field::Known(field_id) = test.field else { return Err(type_mismatch(test)) };
        let sections = sections(field_id);
        match &test.comparison {
            Comparison::String { string_match, value, cased } => {
                self.compile_literal(bit, sections, *string_match, value, *cased)
            }
            Comparison::Regex { pattern, required_literals, max_len, first_bytes } => {
                let regex = RegexTest {
                    pattern: pattern.clone(),
                    compiled: OnceCell::new(),
                    bit,
                    sections,
                    required_literals: self.compile_required_literals(
                        pattern,
                        required_literals,
                        sections,
                    )?,
                    context_literals: Vec::new(),
                    first_literals: first_literals(required_literals),
                    max_len: *max_len,
                    first_bytes: first_bytes.as_deref().map(Box::from),
                };
                self.set_late_test(bit, LateTest::Regex(self.program.regexes.len()));
                self.program.regexes.push(regex);
                self.required_literals.push(required_literals.clone());
                Ok(())
            }
            Comparison::Near { within, parts } => self.compile_near(bit, sections, *within, parts),
            Comparison::Exists(true) => {
                self.program.presence_tests.push((sections, bit));
                Ok(())
            }
            Comparison::Exists(false) => {
                self.program.absence_tests.push((test.field.clone(), bit));
                Ok(())
            }
            Comparison::Cidr(_) | Comparison::Number { .. } => Err(type_mismatch(test)),
        }
    }

    /// Compiles a comparison of prompt text with a literal.
    fn compile_literal(
        &mut self,
        bit: usize,
        sections: u16,
        string_match: StringMatch,
        value: &str,
        is_cased: bool,
    ) -> Result<(), Error> {
        let (folded, cased_pattern) = if is_cased {
            (normalize_pattern(value, Case::Fold), Some(value.to_owned()))
        } else {
            (value.to_owned(), None)
        };
        let target = LiteralTarget::Bit(bit);
        let literal_use = LiteralUse { sections, string_match, cased_pattern, target };
        self.add_literal(folded, literal_use).map(drop)
    }

    /// Compiles a comparison of prompt text with concepts that are near each other.
    fn compile_near(
        &mut self,
        bit: usize,
        sections: u16,
        within: Within,
        parts: &[Vec<String>],
    ) -> Result<(), Error> {
        let (test, anchors) = self.near.compile(bit, sections, within, parts)?;
        self.set_late_test(bit, LateTest::Near(test));
        anchors.into_iter().try_for_each(|(concept, term)| {
            let target = LiteralTarget::Anchor { concept, is_stem: term.is_stem };
            let literal_use = LiteralUse {
                sections: !0,
                string_match: StringMatch::Contains,
                cased_pattern: None,
                target,
            };
            self.add_literal(term.text.to_owned(), literal_use).map(drop)
        })
    }

    /// Adds the literals of the scanned sets of a regex to the scanner. Returns these sets with the
    /// indices of their literals. The distance between two scanned sets includes the distances of
    /// the sets between them.
    ///
    /// Call it before the regex is added, because it uses the number of regexes as the index of the
    /// regex. Returns an error if no set is scanned, if a set is empty, or if there are too many
    /// sets.
    fn compile_required_literals(
        &mut self,
        pattern: &str,
        sets: &[RequiredLiterals],
        sections: u16,
    ) -> Result<Vec<RequiredLiteralIds>, Error> {
        let scanned = sets.iter().filter(|set| set.is_scanned()).count();
        let has_empty_set = sets.iter().any(|set| set.alternatives.is_empty());
        if scanned == 0 || has_empty_set {
            let problem = format!("the regex '{pattern}' has no required literal");
            return Err(Error::new(problem, "add a word that every match contains"));
        }
        if scanned > MAX_REQUIRED_LITERALS
            || sets.len().saturating_sub(scanned) > MAX_CONTEXT_LITERALS
        {
            let problem = format!("the regex '{pattern}' has too many lists of literals");
            return Err(Error::new(problem, "build the bundle with `hedgerow build`"));
        }
        let regex = self.program.regexes.len();
        let mut compiled = Vec::with_capacity(scanned);
        let mut gap = (0, Some(0));
        for set in sets {
            gap = add_distances(gap, (set.min_distance, set.max_distance));
            if !set.is_scanned() {
                continue;
            }
            let target = LiteralTarget::Regex { regex, required_index: compiled.len() };
            let literal_use = LiteralUse {
                sections,
                string_match: StringMatch::Contains,
                cased_pattern: None,
                target,
            };
            let literals = set.alternatives.iter();
            let literals = literals.map(|text| self.add_literal(text.clone(), literal_use.clone()));
            compiled.push(RequiredLiteralIds {
                literals: literals.collect::<Result<_, _>>()?,
                min_distance: gap.0,
                max_distance: gap.1,
            });
            gap = (0, Some(0));
        }
        Ok(compiled)
    }

    /// Adds a use of a literal, and the literal itself if it is new. Returns the literal's index in
    /// the scanner, or an error if the literal is shorter than [`MIN_LITERAL_BYTES`].
    fn add_literal(&mut self, literal: String, literal_use: LiteralUse) -> Result<usize, Error> {
        if literal.len() < MIN_LITERAL_BYTES {
            let problem =
                format!("the literal '{literal}' is shorter than {MIN_LITERAL_BYTES} bytes");
            return Err(Error::new(problem, "make it longer: short words are in every prompt"));
        }
        let index = *self.literal_index.entry(literal.clone()).or_insert_with(|| {
            self.literals.push(literal);
            self.program.literals.push(Literal::default());
            self.literals.len().saturating_sub(1)
        });
        if let Some(entry) = self.program.literals.get_mut(index) {
            entry.is_required_by_regex |= matches!(literal_use.target, LiteralTarget::Regex { .. });
            entry.is_position_sensitive |= literal_use.string_match != StringMatch::Contains
                || literal_use.cased_pattern.is_some()
                || matches!(literal_use.target, LiteralTarget::Anchor { .. });
            entry.has_role |= matches!(literal_use.target, LiteralTarget::Bit(_))
                && literal_use.sections & PASSAGE_ROLES != 0;
            // Most literals have one use, but the first push to an empty vector allocates room for
            // four.
            if entry.uses.is_empty() {
                entry.uses.reserve_exact(1);
            }
            entry.uses.push(literal_use);
        }
        Ok(index)
    }

    fn compile_keyword(&mut self, test: &FieldComparison, bit: usize) -> Result<(), Error> {
        let check = match &test.comparison {
            Comparison::String { string_match, value, cased } => KeywordCheck::String {
                string_match: *string_match,
                value: value.clone(),
                is_cased: *cased,
            },
            Comparison::Regex { pattern, .. } => {
                KeywordCheck::Regex { pattern: pattern.clone(), compiled: OnceCell::new() }
            }
            Comparison::Cidr(network) => KeywordCheck::Cidr(*network),
            Comparison::Exists(true) => KeywordCheck::Present,
            Comparison::Exists(false) => {
                self.program.absence_tests.push((test.field.clone(), bit));
                return Ok(());
            }
            Comparison::Number { .. } | Comparison::Near { .. } => {
                return Err(type_mismatch(test));
            }
        };
        let tests = match &test.field {
            Field::Known(name) => self.program.keywords.entry(*name).or_default(),
            Field::Header(name) => self.program.headers.entry(name.clone()).or_default(),
        };
        tests.push(KeywordTest { check, bit });
        Ok(())
    }

    fn compile_number(&mut self, test: &FieldComparison, bit: usize) -> Result<(), Error> {
        let Field::Known(field_id) = test.field else { return Err(type_mismatch(test)) };
        let check = match test.comparison {
            Comparison::Number { comparator, value } => Some((comparator, value)),
            Comparison::Exists(true) => None,
            Comparison::Exists(false) => {
                self.program.absence_tests.push((test.field.clone(), bit));
                return Ok(());
            }
            _ => return Err(type_mismatch(test)),
        };
        self.program.numbers.entry(field_id).or_default().push(NumberTest { check, bit });
        Ok(())
    }
}

/// Returns literals, one of which is at the start of every match. The list is empty if such
/// literals are unknown, or if the scan finds them anyway.
fn first_literals(sets: &[RequiredLiterals]) -> Box<[Box<[u8]>]> {
    let first = sets.first().filter(|set| set.max_distance == Some(0) && !set.is_scanned());
    let literals = first.into_iter().flat_map(|set| &set.alternatives);
    literals.map(|text| text.as_bytes().into()).collect()
}

fn type_mismatch(test: &FieldComparison) -> Error {
    let problem = format!("a comparison does not fit the type of field '{}'", test.field.name());
    Error::new(problem, "see docs/fields.md for the field's type")
}

/// Returns bits, at least one of which is set whenever the condition holds; `None` if the condition
/// can hold without a set bit. For a conjunction, returns the bits of the part whose bits are
/// estimated to be set least often.
fn trigger_bits(node: &BitExpr, program: &Program) -> Option<Vec<usize>> {
    let mut bits = match node {
        BitExpr::Bit(bit) => vec![*bit],
        BitExpr::AnyBit(words) => BitExpr::bit_indices(words).collect(),
        BitExpr::Not(part) | BitExpr::NotInRole(part) => match &**part {
            BitExpr::Not(part) | BitExpr::NotInRole(part) => return trigger_bits(part, program),
            _ => return None,
        },
        BitExpr::Any(parts) => {
            let parts: Option<Vec<Vec<usize>>> =
                parts.iter().map(|part| trigger_bits(part, program)).collect();
            parts?.concat()
        }
        BitExpr::All(parts) => {
            let parts = parts.iter().filter_map(|part| trigger_bits(part, program));
            parts.min_by_key(|bits| estimated_frequency(bits, program))?
        }
    };
    bits.sort_unstable();
    bits.dedup();
    Some(bits)
}

/// Estimates how often any of `bits` is set, on an arbitrary scale: parameters and headers are in
/// every request, a phrase is in few.
fn estimated_frequency(bits: &[usize], program: &Program) -> usize {
    let fields = bits.iter().filter_map(|bit| program.field_by_bit.get(*bit));
    let frequencies =
        fields.map(|field| if field.field_type() == FieldType::Text { 1 } else { 1_000 });
    frequencies.sum()
}
