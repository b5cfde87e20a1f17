//! Scored requests of a corpus, by run.

use std::collections::HashMap;

use hedgerow_core::evaluate::score::{HitWeight, Score};
use hedgerow_core::rules::policy::{Band, Policy};
use hedgerow_core::{Decision, Ruleset};

use super::disguise::DisguiseCounts;

/// Label of requests that the rules should detect.
pub const HARVEST: &str = "harvest";

/// Label of requests that the rules should not detect.
pub const BENIGN: &str = "benign";

/// A corpus after scoring.
#[derive(Default)]
pub struct Corpus {
    /// Runs in the order of their files.
    pub runs: Vec<Run>,
    pub signatures: SignatureTable,
    /// Whether the requests were also scored with correlations.
    pub is_correlated: bool,
    /// Counts by disguise, if they were measured; the first row is without a disguise.
    pub disguises: Option<Vec<DisguiseCounts>>,
    /// Number of requests that are not LLM calls.
    pub not_llm_calls: u64,
    /// Number of LLM calls that were not judged, because their body is unknown.
    pub not_judged: u64,
    /// Lines that are not requests: `path:line:1: problem`.
    pub unreadable: Vec<String>,
}

/// The requests of a file that have the same tool and task: one job of one program.
pub struct Run {
    /// Name of the file without its extension; if the file has several runs, `tool__task`, or
    /// `tool` without a task.
    pub name: String,
    /// Name of the program; if the recording does not name it, the name of the file up to `__`.
    pub tool: String,
    /// Label of the first labelled request; `unlabelled` if no request has a label.
    pub label: String,
    /// Requests in the order of the file.
    pub requests: Vec<ScoredRequest>,
}

/// A request with its verdicts.
pub struct ScoredRequest {
    /// Line in the file, from 1.
    pub line: usize,
    pub account: String,
    /// English name of the main language of the prompt, `uncertain` or `none`.
    pub language: &'static str,
    pub dialect: &'static str,
    /// Verdict without correlations.
    pub uncorrelated: ScoredVerdict,
    /// Verdict with correlations over the whole corpus; `None` if correlations were not scored.
    pub correlated: Option<ScoredVerdict>,
}

/// The parts of a decision that an evaluation measures.
#[derive(Clone)]
pub struct ScoredVerdict {
    /// Probability of harvesting, from 0 to 100.
    pub score: f64,
    pub band: Band,
    /// Indices of the signatures that match, in the [`SignatureTable`].
    pub hits: Vec<usize>,
    /// Indices of the hits with evidence of innocence: a selection that the signature lists under
    /// `hedgerow.innocence` also holds.
    pub innocent: Vec<usize>,
}

/// The signatures, lists and correlations of a ruleset.
#[derive(Default)]
pub struct SignatureTable {
    rows: Vec<SignatureRow>,
    indices: HashMap<String, usize>,
}

/// A signature, list or correlation with its weight.
pub struct SignatureRow {
    pub name: String,
    pub family: String,
    /// Weight in decibans.
    pub weight: f64,
}

impl ScoredRequest {
    /// Returns the verdict with correlations if `correlated` is true and this verdict exists.
    /// Otherwise returns the verdict without correlations.
    pub fn verdict(&self, correlated: bool) -> &ScoredVerdict {
        self.correlated.as_ref().filter(|_| correlated).unwrap_or(&self.uncorrelated)
    }
}

impl SignatureTable {
    /// Returns the table of a ruleset.
    pub fn new(ruleset: &Ruleset) -> Self {
        let row = |signature: &hedgerow_core::rules::signature::Signature| SignatureRow {
            name: signature.name.clone(),
            family: signature.family.clone(),
            weight: signature.weight,
        };
        let rows: Vec<SignatureRow> = ruleset.signatures().iter().map(row).collect();
        let indices = rows.iter().enumerate().map(|(index, row)| (row.name.clone(), index));
        Self { indices: indices.collect(), rows }
    }

    /// Returns all rows; their positions are the indices of hits.
    pub fn rows(&self) -> &[SignatureRow] {
        &self.rows
    }

    /// Returns the row of a hit; `None` if the table has no row with this index.
    pub fn get(&self, index: usize) -> Option<&SignatureRow> {
        self.rows.get(index)
    }

    /// Converts a decision to a verdict. Hits of signatures that the table does not have are left
    /// out.
    pub fn verdict(&self, decision: &Decision) -> ScoredVerdict {
        let hits = decision.hits.iter();
        let hits =
            hits.filter_map(|hit| Some((self.indices.get(&hit.name).copied()?, &hit.innocence)));
        let innocent = hits.clone().filter(|(_, innocence)| !innocence.is_empty());
        ScoredVerdict {
            score: decision.score,
            band: decision.band,
            innocent: innocent.map(|(index, _)| index).collect(),
            hits: hits.map(|(index, _)| index).collect(),
        }
    }

    /// Scores the hits of a verdict again, with the weights that `weight` returns for their
    /// indices. Hits for which it returns `None` do not count. Returns the score, from 0 to 100,
    /// and the band.
    pub fn rescore(
        &self,
        verdict: &ScoredVerdict,
        policy: &Policy,
        weight: impl Fn(usize) -> Option<f64>,
    ) -> (f64, Band) {
        let weights = verdict.hits.iter().filter_map(|hit| {
            let row = self.rows.get(*hit)?;
            let is_innocent = verdict.innocent.contains(hit);
            Some(HitWeight { family: &row.family, weight: weight(*hit)?, is_innocent })
        });
        let score = Score::new(weights, &policy.score).probability;
        (score, policy.bands.band(score))
    }
}
