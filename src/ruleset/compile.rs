//! From signatures to a program: every distinct comparison becomes one bit.

use std::collections::HashMap;

use once_cell::sync::OnceCell;

use crate::error::Error;
use crate::field::{Field, Kind, places};
use crate::matcher::{
    KeywordCheck, KeywordTest, Landmark, Literal, Node, NumberTest, Program, RegexTest, Sets, Use,
};
use crate::scan::{MIN_LITERAL, Scanner};
use crate::signature::{self, Anchor, Condition, FieldTest, MAX_LANDMARKS, Op, Signature, Test};
use crate::text::{Case, normalize_pattern};

/// Compiles signatures.
pub fn compile(signatures: &[Signature]) -> Result<Program, Error> {
    let mut compiler = Compiler::default();
    for (number, signature) in signatures.iter().enumerate() {
        let node = compiler.condition(signature, &signature.condition)?;
        if triggers(&node, &compiler.program).is_none() {
            let problem = format!(
                "signature '{}' may hold where none of its comparisons does",
                signature.name
            );
            return Err(Error::new(problem, "require a selection that is not negated"));
        }
        for bit in triggers(&node, &compiler.program).unwrap_or_default() {
            if let Some(touched) = compiler.program.touches.get_mut(bit) {
                touched.push(number as u32);
            }
        }
        compiler.program.conditions.push(node);
    }
    Ok(compiler.finish())
}

#[derive(Default)]
struct Compiler {
    program: Program,
    /// The bit of each comparison, by its canonical text.
    bits: HashMap<String, usize>,
    /// The scanner's literals and their places in its list.
    literals: Vec<String>,
    places: HashMap<String, usize>,
    /// Parts of conditions, each selection counted wherever it is named.
    nodes: usize,
}

/// Parts of conditions that a ruleset has at most: a few signatures that name large selections again
/// and again would have any number. The shipped rules have one in twenty.
const MAX_NODES: usize = 100_000;

impl Compiler {
    fn finish(mut self) -> Program {
        self.program.scanner = Scanner::new(self.literals);
        self.program
    }

    fn count(&mut self) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(1);
        match self.nodes > MAX_NODES {
            false => Ok(()),
            true => Err(Error::new(
                format!("the signatures' conditions have more than {MAX_NODES} parts"),
                "name large selections once, or retire signatures",
            )),
        }
    }

    fn condition(&mut self, signature: &Signature, condition: &Condition) -> Result<Node, Error> {
        self.count()?;
        Ok(match condition {
            Condition::All(parts) => Node::All(self.conditions(signature, parts)?),
            Condition::Any(parts) => Node::any(self.conditions(signature, parts)?),
            Condition::Not(part) => Node::Not(Box::new(self.condition(signature, part)?)),
            Condition::Is(name) => {
                let selection = signature.selections.get(name).ok_or_else(|| {
                    let problem =
                        format!("signature '{}' has no selection '{name}'", signature.name);
                    Error::new(problem, "name it under `detection`")
                })?;
                self.test(selection)?
            }
        })
    }

    fn conditions(
        &mut self,
        signature: &Signature,
        parts: &[Condition],
    ) -> Result<Box<[Node]>, Error> {
        parts.iter().map(|part| self.condition(signature, part)).collect()
    }

    fn test(&mut self, test: &Test) -> Result<Node, Error> {
        self.count()?;
        Ok(match test {
            Test::All(parts) => Node::All(self.tests(parts)?),
            Test::Any(parts) => Node::any(self.tests(parts)?),
            Test::Field(test) => Node::Bit(self.bit(test)?),
        })
    }

    fn tests(&mut self, parts: &[Test]) -> Result<Box<[Node]>, Error> {
        parts.iter().map(|part| self.test(part)).collect()
    }

    fn bit(&mut self, test: &FieldTest) -> Result<usize, Error> {
        let key = serde_json::to_string(test).unwrap_or_default();
        if let Some(bit) = self.bits.get(&key) {
            return Ok(*bit);
        }
        let bit = self.program.fields.len();
        self.program.fields.push(test.field.clone());
        self.program.touches.push(Vec::new());
        self.program.regex_of.push(None);
        self.bits.insert(key, bit);
        match test.field.kind() {
            Kind::Text => self.text(test, bit)?,
            Kind::Keyword | Kind::Address => self.keyword(test, bit)?,
            Kind::Number | Kind::Flag => self.number(test, bit)?,
            Kind::Key => return Err(misfit(test)),
        }
        Ok(bit)
    }

    fn text(&mut self, test: &FieldTest, bit: usize) -> Result<(), Error> {
        let Field::Known(name) = test.field else { return Err(misfit(test)) };
        let places = places(name);
        match &test.op {
            Op::String { anchor, value, cased } => {
                let (folded, cased) = match cased {
                    true => (normalize_pattern(value, Case::Fold), Some(value.clone())),
                    false => (value.clone(), None),
                };
                let sets = Sets::Bit(bit);
                self.literal(folded, Use { places, anchor: *anchor, cased, sets }).map(drop)
            }
            Op::Regex { pattern, landmarks, longest, first } => {
                let regex = RegexTest {
                    pattern: pattern.clone(),
                    compiled: OnceCell::new(),
                    bit,
                    places,
                    landmarks: self.landmarks(pattern, landmarks, places)?,
                    longest: *longest,
                    first: first.as_deref().map(Box::from),
                };
                if let Some(slot) = self.program.regex_of.get_mut(bit) {
                    *slot = Some(self.program.regexes.len());
                }
                self.program.regexes.push(regex);
                Ok(())
            }
            Op::Exists(true) => {
                self.program.present.push((places, bit));
                Ok(())
            }
            Op::Exists(false) => {
                self.program.absent.push((test.field.clone(), bit));
                Ok(())
            }
            Op::Cidr(_) | Op::Number { .. } => Err(misfit(test)),
        }
    }

    fn landmarks(
        &mut self,
        pattern: &str,
        landmarks: &[signature::Landmark],
        places: u8,
    ) -> Result<Vec<Landmark>, Error> {
        if landmarks.is_empty() || landmarks.iter().any(|landmark| landmark.strings.is_empty()) {
            let problem = format!("the regex '{pattern}' has no required literal");
            return Err(Error::new(problem, "add a word that every match must contain"));
        }
        if landmarks.len() > MAX_LANDMARKS {
            let problem =
                format!("the regex '{pattern}' has more than {MAX_LANDMARKS} lists of literals");
            return Err(Error::new(problem, "build the bundle with `hedgerow build`"));
        }
        let regex = self.program.regexes.len();
        let compiled = landmarks.iter().enumerate().map(|(number, landmark)| {
            let sets = Sets::Regex { regex, landmark: number };
            let purpose = Use { places, anchor: Anchor::Contains, cased: None, sets };
            let literals = landmark
                .strings
                .iter()
                .map(|string| self.literal(string.clone(), purpose.clone()))
                .collect::<Result<_, _>>()?;
            Ok(Landmark { literals, min: landmark.min, max: landmark.max })
        });
        compiled.collect()
    }

    /// Adds a use of a literal; its place in the scanner's list.
    fn literal(&mut self, literal: String, purpose: Use) -> Result<usize, Error> {
        if literal.len() < MIN_LITERAL {
            let problem = format!("the literal '{literal}' is shorter than {MIN_LITERAL} bytes");
            return Err(Error::new(problem, "make it longer: short words are in every prompt"));
        }
        let place = *self.places.entry(literal.clone()).or_insert_with(|| {
            self.literals.push(literal);
            self.program.literals.push(Literal::default());
            self.literals.len().saturating_sub(1)
        });
        if let Some(known) = self.program.literals.get_mut(place) {
            known.is_landmark |= matches!(purpose.sets, Sets::Regex { .. });
            known.is_particular |= purpose.anchor != Anchor::Contains || purpose.cased.is_some();
            // Most have one use, and room for four is what vectors begin with.
            if known.uses.is_empty() {
                known.uses.reserve_exact(1);
            }
            known.uses.push(purpose);
        }
        Ok(place)
    }

    fn keyword(&mut self, test: &FieldTest, bit: usize) -> Result<(), Error> {
        let check = match &test.op {
            Op::String { anchor, value, cased } => {
                KeywordCheck::String { anchor: *anchor, value: value.clone(), cased: *cased }
            }
            Op::Regex { pattern, .. } => {
                KeywordCheck::Regex { pattern: pattern.clone(), compiled: OnceCell::new() }
            }
            Op::Cidr(network) => KeywordCheck::Cidr(*network),
            Op::Exists(true) => KeywordCheck::Present,
            Op::Exists(false) => {
                self.program.absent.push((test.field.clone(), bit));
                return Ok(());
            }
            Op::Number { .. } => return Err(misfit(test)),
        };
        let tests = match &test.field {
            Field::Known(name) => self.program.keywords.entry(*name).or_default(),
            Field::Header(name) => self.program.headers.entry(name.clone()).or_default(),
        };
        tests.push(KeywordTest { check, bit });
        Ok(())
    }

    fn number(&mut self, test: &FieldTest, bit: usize) -> Result<(), Error> {
        let Field::Known(name) = test.field else { return Err(misfit(test)) };
        let check = match test.op {
            Op::Number { order, value } => Some((order, value)),
            Op::Exists(true) => None,
            Op::Exists(false) => {
                self.program.absent.push((test.field.clone(), bit));
                return Ok(());
            }
            _ => return Err(misfit(test)),
        };
        self.program.numbers.entry(name).or_default().push(NumberTest { check, bit });
        Ok(())
    }
}

fn misfit(test: &FieldTest) -> Error {
    let problem = format!("this comparison does not fit the field '{}'", test.field.name());
    Error::new(problem, "see docs/fields.md for the field's type")
}

/// Bits of which at least one is set whenever the condition holds: of a conjunction, those of the
/// part that is least often met. `None` where it can hold with no bit set.
fn triggers(node: &Node, program: &Program) -> Option<Vec<usize>> {
    let mut bits = match node {
        Node::Bit(bit) => vec![*bit],
        Node::AnyBit(words) => Node::bits(words).collect(),
        Node::Not(part) => match &**part {
            Node::Not(part) => return triggers(part, program),
            _ => return None,
        },
        Node::Any(parts) => {
            let parts: Option<Vec<Vec<usize>>> =
                parts.iter().map(|part| triggers(part, program)).collect();
            parts?.concat()
        }
        Node::All(parts) => {
            let parts = parts.iter().filter_map(|part| triggers(part, program));
            parts.min_by_key(|bits| commonness(bits, program))?
        }
    };
    bits.sort_unstable();
    bits.dedup();
    Some(bits)
}

/// How often one of some bits is set, on an arbitrary scale: parameters and headers are in every
/// request, a phrase is in few.
fn commonness(bits: &[usize], program: &Program) -> usize {
    let fields = bits.iter().filter_map(|bit| program.fields.get(*bit));
    let kinds = fields.map(|field| if field.kind() == Kind::Text { 1 } else { 1_000 });
    kinds.sum()
}
