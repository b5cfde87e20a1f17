//! Compiles comparisons with concepts. Decides which terms the scan of the text finds, and which
//! terms are searched for only around the found terms.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;

use super::literal_scanner::{MIN_LITERAL_BYTES, Scanner};
use super::near::{NearProgram, NearTest};
use crate::error::Error;
use crate::rules::concept::{Concept, Term};
use crate::rules::signature::{MAX_NEAR_BYTES, Within};

/// Collects the comparisons with concepts of all signatures.
#[derive(Default)]
pub(super) struct NearCompiler<'c> {
    concepts: &'c [Concept],
    program: NearProgram,
    /// Concepts whose terms are searched for around anchors.
    searched: BTreeSet<u32>,
}

impl<'c> NearCompiler<'c> {
    /// Creates a compiler. Returns an error if a concept has a term that is too short to be found.
    pub fn new(concepts: &'c [Concept]) -> Result<Self, Error> {
        for concept in concepts {
            let is_too_short = |term: &&String| Term::parse(term).text.len() < MIN_LITERAL_BYTES;
            if let Some(term) = concept.terms.iter().find(is_too_short) {
                let problem = format!("the term '{term}' of '{}' is too short", concept.name);
                return Err(Error::new(problem, format!("use {MIN_LITERAL_BYTES} bytes or more")));
            }
        }
        let program = NearProgram {
            tests_by_anchor: vec![Vec::new(); concepts.len()],
            ..NearProgram::default()
        };
        Ok(Self { concepts, program, searched: BTreeSet::new() })
    }

    /// Adds a comparison. Returns the index of its test and the terms that newly become anchors,
    /// each with the index of its concept.
    ///
    /// Returns an error if a concept is unknown, if no part consists of rare concepts, or if the
    /// distance is too large.
    pub fn compile(
        &mut self,
        bit: usize,
        sections: u16,
        within: Within,
        parts: &[Vec<String>],
    ) -> Result<(usize, Vec<(u32, Term<'c>)>), Error> {
        if within.bytes() > MAX_NEAR_BYTES.into() {
            let problem = format!("concepts are searched for within {} bytes", within.bytes());
            return Err(Error::new(problem, format!("use {MAX_NEAR_BYTES} at most")));
        }
        let mut others = Vec::new();
        let mut anchor_concepts = None;
        for part in parts {
            let concepts = self.resolve(part)?;
            let mut rareness = concepts.iter().map(|index| self.concept(*index));
            let is_rare = rareness.all(|concept| concept.is_some_and(|concept| concept.rare));
            match anchor_concepts {
                None if is_rare && !concepts.is_empty() => anchor_concepts = Some(concepts),
                _ => others.push(concepts),
            }
        }
        let anchor_concepts = anchor_concepts.ok_or_else(|| {
            let names = parts.concat().join(", ");
            let problem = format!("no part of a comparison with concepts is rare: {names}");
            Error::new(problem, "add a selection of rare concepts to `hedgerow.near`")
        })?;
        let test = self.program.tests.len();
        let mut new_anchors = Vec::new();
        for concept in anchor_concepts.iter() {
            if let Some(tests) = self.program.tests_by_anchor.get_mut(*concept as usize) {
                if tests.is_empty() {
                    new_anchors.push(*concept);
                }
                tests.push(test);
            }
        }
        if !others.is_empty() {
            self.program.max_reach = self.program.max_reach.max(within.bytes());
        }
        self.searched.extend(others.iter().flatten());
        let others = others.into();
        self.program.tests.push(NearTest { bit, sections, within, anchor_concepts, others });
        let terms = new_anchors.into_iter().flat_map(|index| {
            let terms = self.concept(index).into_iter().flat_map(|concept| &concept.terms);
            terms.map(move |term| (index, Term::parse(term)))
        });
        Ok((test, terms.collect()))
    }

    /// Returns the indices of concepts. Returns an error if a name is unknown.
    fn resolve(&self, names: &[String]) -> Result<Box<[u32]>, Error> {
        let index_of = |name: &String| {
            let mut concepts = (0_u32..).zip(self.concepts);
            let found = concepts.find(|(_, concept)| concept.name == *name);
            found.map(|(index, _)| index).ok_or_else(|| {
                let problem = format!("unknown concept '{name}'");
                Error::new(problem, "build the bundle with `hedgerow build`")
            })
        };
        names.iter().map(index_of).collect()
    }

    fn concept(&self, index: u32) -> Option<&'c Concept> {
        self.concepts.get(index as usize)
    }

    /// Returns the compiled comparisons.
    pub fn finish(mut self) -> NearProgram {
        let mut literals = Vec::new();
        for index in &self.searched {
            let terms = self.concept(*index).into_iter().flat_map(|concept| &concept.terms);
            for term in terms.map(|term| Term::parse(term)) {
                literals.push(term.text.to_owned());
                self.program.terms.push((*index, term.is_stem));
            }
        }
        self.program.scanner = Scanner::new(literals);
        self.program
    }
}
