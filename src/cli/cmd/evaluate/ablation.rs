//! The contribution of each signature and each family: verdicts without it.

use std::collections::HashSet;

use hedgerow_core::rules::policy::{Band, Policy};
use serde::Serialize;

use super::scored::{BENIGN, Corpus, HARVEST, ScoredRequest};

/// The requests that need a signature, or a family, to reach a band.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Addition {
    pub name: String,
    /// Weight in decibans; 0 for a family.
    pub weight: f64,
    /// Harvest requests that match, and those that are suspect only with it.
    pub harvest_hits: u64,
    pub harvest_suspect_only: u64,
    /// Runs of these suspect requests.
    pub harvest_runs_only: u64,
    /// Benign requests that match, and those that reach a band only with it.
    pub benign_hits: u64,
    pub benign_notice_only: u64,
    pub benign_suspect_only: u64,
}

/// Returns what each signature adds that matched harvest or benign requests, by name.
pub fn by_signature(corpus: &Corpus, policy: &Policy) -> Vec<Addition> {
    let rows = corpus.signatures.rows().iter().enumerate();
    let additions = rows.map(|(index, row)| {
        let mut addition = measure(corpus, policy, &|hit| hit == index);
        addition.name.clone_from(&row.name);
        addition.weight = row.weight;
        addition
    });
    sorted(additions.collect())
}

/// Returns what each family adds, by name.
pub fn by_family(corpus: &Corpus, policy: &Policy) -> Vec<Addition> {
    let rows = corpus.signatures.rows();
    let families: HashSet<&str> = rows.iter().map(|row| row.family.as_str()).collect();
    let additions = families.into_iter().map(|family| {
        let is_removed = |hit: usize| rows.get(hit).is_some_and(|row| row.family == family);
        let mut addition = measure(corpus, policy, &is_removed);
        addition.name = family.to_owned();
        addition
    });
    sorted(additions.collect())
}

fn sorted(mut additions: Vec<Addition>) -> Vec<Addition> {
    additions.retain(|addition| addition.harvest_hits + addition.benign_hits > 0);
    additions.sort_by(|a, b| a.name.cmp(&b.name));
    additions
}

/// Compares the verdicts with and without the hits that are removed.
fn measure(corpus: &Corpus, policy: &Policy, is_removed: &dyn Fn(usize) -> bool) -> Addition {
    let mut addition = Addition::default();
    for run in &corpus.runs {
        let before = addition.harvest_suspect_only;
        for request in &run.requests {
            let Some((with, without)) = bands(corpus, policy, request, is_removed) else {
                continue;
            };
            let needs = |band: Band| u64::from(with >= band && without < band);
            match run.label.as_str() {
                HARVEST => {
                    addition.harvest_hits += 1;
                    addition.harvest_suspect_only += needs(Band::Suspect);
                }
                BENIGN => {
                    addition.benign_hits += 1;
                    addition.benign_notice_only += needs(Band::Notice);
                    addition.benign_suspect_only += needs(Band::Suspect);
                }
                _ => {}
            }
        }
        addition.harvest_runs_only += u64::from(addition.harvest_suspect_only > before);
    }
    addition
}

/// Returns the bands of a request with and without the hits that are removed; `None` if it has no
/// such hit.
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
