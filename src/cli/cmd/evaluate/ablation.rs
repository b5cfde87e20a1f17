//! The contribution of each signature and each family: verdicts with and without it are compared.

use std::collections::HashSet;

use hedgerow_core::rules::policy::{Band, Policy};
use serde::Serialize;

use super::scored::{BENIGN, Corpus, HARVEST, ScoredRequest};

/// The numbers of requests that reach a band only with a signature or a family.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleContribution {
    pub name: String,
    /// Weight in decibans; 0 for a family.
    pub weight: f64,
    /// Harvest requests with a hit, and harvest requests that are suspect only with the signature
    /// or family.
    pub harvest_hits: u64,
    pub harvest_suspect_only: u64,
    /// Runs with a harvest request that is suspect only with the signature or family.
    pub harvest_runs_only: u64,
    /// Benign requests with a hit, and benign requests that reach notice or suspect only with the
    /// signature or family.
    pub benign_hits: u64,
    pub benign_notice_only: u64,
    pub benign_suspect_only: u64,
}

/// Returns the contributions of the signatures that match harvest or benign requests, sorted by
/// name.
pub fn by_signature(corpus: &Corpus, policy: &Policy) -> Vec<RuleContribution> {
    let rows = corpus.signatures.rows().iter().enumerate();
    let contributions = rows.map(|(index, row)| {
        let mut contribution = measure(corpus, policy, &|hit| hit == index);
        contribution.name.clone_from(&row.name);
        contribution.weight = row.weight;
        contribution
    });
    sorted(contributions.collect())
}

/// Returns the contributions of the families that match harvest or benign requests, sorted by name.
pub fn by_family(corpus: &Corpus, policy: &Policy) -> Vec<RuleContribution> {
    let rows = corpus.signatures.rows();
    let families: HashSet<&str> = rows.iter().map(|row| row.family.as_str()).collect();
    let contributions = families.into_iter().map(|family| {
        let is_removed = |hit: usize| rows.get(hit).is_some_and(|row| row.family == family);
        let mut contribution = measure(corpus, policy, &is_removed);
        contribution.name = family.to_owned();
        contribution
    });
    sorted(contributions.collect())
}

fn sorted(mut contributions: Vec<RuleContribution>) -> Vec<RuleContribution> {
    contributions.retain(|contribution| contribution.harvest_hits + contribution.benign_hits > 0);
    contributions.sort_by(|a, b| a.name.cmp(&b.name));
    contributions
}

/// Counts the requests with a hit for which `is_removed` returns true, and those of them that do
/// not reach a band without these hits. `is_removed` gets the index of a signature. The caller sets
/// the name and the weight.
fn measure(
    corpus: &Corpus,
    policy: &Policy,
    is_removed: &dyn Fn(usize) -> bool,
) -> RuleContribution {
    let mut contribution = RuleContribution::default();
    for run in &corpus.runs {
        let before = contribution.harvest_suspect_only;
        for request in &run.requests {
            let Some((with, without)) = bands(corpus, policy, request, is_removed) else {
                continue;
            };
            let needs = |band: Band| u64::from(with >= band && without < band);
            match run.label.as_str() {
                HARVEST => {
                    contribution.harvest_hits += 1;
                    contribution.harvest_suspect_only += needs(Band::Suspect);
                }
                BENIGN => {
                    contribution.benign_hits += 1;
                    contribution.benign_notice_only += needs(Band::Notice);
                    contribution.benign_suspect_only += needs(Band::Suspect);
                }
                _ => {}
            }
        }
        contribution.harvest_runs_only += u64::from(contribution.harvest_suspect_only > before);
    }
    contribution
}

/// Returns the band of a request with all hits, and its band without the removed hits; `None` if no
/// hit of the request is removed.
fn bands(
    corpus: &Corpus,
    policy: &Policy,
    request: &ScoredRequest,
    is_removed: &dyn Fn(usize) -> bool,
) -> Option<(Band, Band)> {
    let verdict = request.verdict(true);
    verdict.hits.iter().any(|hit| is_removed(*hit)).then(|| {
        let weight = |hit: usize| {
            let row = corpus.signatures.get(hit).filter(|_| !is_removed(hit))?;
            Some(row.weight)
        };
        (verdict.band, corpus.signatures.rescore(verdict, policy, weight).1)
    })
}
