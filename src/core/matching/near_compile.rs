//! Compiles comparisons with concepts: which terms the scan of the text finds, and which are
//! searched for around them.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;

use super::literal_scanner::MIN_LITERAL_BYTES;
use super::near::{NearProgram, NearTest};
use super::term_index::TermIndex;
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
    /// Returns an error if a concept has a term that cannot be found.
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

    /// Adds a comparison, and returns its index.
    ///
    /// Returns an error if a concept is unknown, if no part consists of rare concepts, or if the
    /// distance is too large.
    pub fn compile(
        &mut self,
        bit: usize,
        sections: u8,
        within: Within,
        parts: &[Vec<String>],
    ) -> Result<usize, Error> {
        if within.bytes() > MAX_NEAR_BYTES.into() {
            let problem = format!("concepts are searched for within {} bytes", within.bytes());
            return Err(Error::new(problem, format!("use {MAX_NEAR_BYTES} at most")));
        }
        let mut others = Vec::new();
        let mut anchor = None;
        for part in parts {
            let concepts = self.resolve(part)?;
            let mut rareness = concepts.iter().map(|index| self.concept(*index));
            let is_rare = rareness.all(|concept| concept.is_some_and(|concept| concept.rare));
            match anchor {
                None if is_rare && !concepts.is_empty() => anchor = Some(concepts),
                _ => others.push(concepts),
            }
        }
        let anchor = anchor.ok_or_else(|| {
            let names = parts.concat().join(", ");
            let problem = format!("no part of a comparison with concepts is rare: {names}");
            Error::new(problem, "add a selection of rare concepts to `hedgerow.near`")
        })?;
        let test = self.program.tests.len();
        for concept in anchor.iter() {
            if let Some(tests) = self.program.tests_by_anchor.get_mut(*concept as usize) {
                tests.push(test);
            }
        }
        if !others.is_empty() {
            self.program.max_reach = self.program.max_reach.max(within.bytes());
        }
        self.searched.extend(others.iter().flatten());
        let others = others.into();
        self.program.tests.push(NearTest { bit, sections, within, anchor, others });
        Ok(test)
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

    /// Returns the terms that the scan of the text has to find, each with its concept.
    pub fn anchor_terms(&self) -> Vec<(u32, Term<'c>)> {
        let anchors = (0_u32..).zip(&self.program.tests_by_anchor);
        let anchors = anchors.filter(|(_, tests)| !tests.is_empty());
        anchors.flat_map(|(index, _)| self.terms_of(index)).collect()
    }

    /// Returns the compiled comparisons.
    pub fn finish(self) -> NearProgram {
        let terms = self.searched.iter().flat_map(|index| self.terms_of(*index));
        NearProgram { index: TermIndex::new(terms), ..self.program }
    }

    fn terms_of(&self, index: u32) -> impl Iterator<Item = (u32, Term<'c>)> + use<'c> {
        let terms = self.concept(index).into_iter().flat_map(|concept| &concept.terms);
        terms.map(move |term| (index, Term::parse(term)))
    }
}
