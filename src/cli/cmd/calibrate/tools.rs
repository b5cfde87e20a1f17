//! The tools of a corpus, and for each tool the share of its requests with an event.

use std::collections::BTreeMap;

use super::likelihood::Evidence;
use crate::cmd::evaluate::{BENIGN, Corpus, HARVEST, ScoredRequest};

/// The requests of one program from all its runs with one label.
pub struct Tool<'c> {
    pub name: &'c str,
    pub is_harvest: bool,
    pub requests: Vec<&'c ScoredRequest>,
    /// Share of requests that each signature matches, by the index of the signature. Signatures
    /// without a hit are missing.
    pub shares: BTreeMap<usize, f64>,
}

/// Returns the tools of the runs labelled `harvest` or `benign`: benign tools first, each group
/// sorted by name. Names that differ only in case count as one. A program with runs of both labels
/// is two tools.
pub fn group(corpus: &Corpus) -> Vec<Tool<'_>> {
    let mut tools: BTreeMap<(bool, String), Tool<'_>> = BTreeMap::new();
    for run in &corpus.runs {
        let is_harvest = match run.label.as_str() {
            HARVEST => true,
            BENIGN => false,
            _ => continue,
        };
        let tool = tools.entry((is_harvest, run.tool.to_lowercase())).or_insert_with(|| Tool {
            name: &run.tool,
            is_harvest,
            requests: Vec::new(),
            shares: BTreeMap::new(),
        });
        tool.requests.extend(&run.requests);
    }
    let mut tools: Vec<Tool<'_>> =
        tools.into_values().filter(|tool| !tool.requests.is_empty()).collect();
    tools.iter_mut().for_each(Tool::count);
    tools
}

impl Tool<'_> {
    /// Returns the share, from 0 to 1, of the requests for which `holds` returns true.
    pub fn share(&self, holds: impl Fn(&ScoredRequest) -> bool) -> f64 {
        let count = self.requests.iter().filter(|request| holds(request)).count();
        count as f64 / self.requests.len().max(1) as f64
    }

    fn count(&mut self) {
        let weight = 1.0 / self.requests.len().max(1) as f64;
        for request in &self.requests {
            for hit in &request.verdict(true).hits {
                *self.shares.entry(*hit).or_default() += weight;
            }
        }
    }
}

/// Returns the evidence for an event, from pairs of a tool and its share of requests with the
/// event.
pub fn evidence<'t, 'c: 't>(tools: impl IntoIterator<Item = (&'t Tool<'c>, f64)>) -> Evidence {
    let mut evidence = Evidence::default();
    for (tool, share) in tools {
        let (tools, sum) = match tool.is_harvest {
            true => (&mut evidence.harvest_tools, &mut evidence.harvest_sum),
            false => (&mut evidence.other_tools, &mut evidence.other_sum),
        };
        *tools += 1.0;
        *sum += share;
    }
    evidence
}

/// Returns the evidence for the event that a signature matches.
pub fn signature_evidence<'t, 'c: 't>(
    tools: impl IntoIterator<Item = &'t Tool<'c>>,
    signature: usize,
) -> Evidence {
    let share = |tool: &Tool<'_>| tool.shares.get(&signature).copied().unwrap_or_default();
    evidence(tools.into_iter().map(|tool| (tool, share(tool))))
}
