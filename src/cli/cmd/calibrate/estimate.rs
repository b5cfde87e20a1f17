//! Estimates for signatures, for pairs of them, and for the caps of families.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_core::rules::policy::Policy;
use serde::Serialize;

use super::likelihood::{Evidence, Grid, Posterior};
use super::proposal::WeightLimits;
use super::tools::{Tool, evidence, signature_evidence};
use crate::cmd::evaluate::{ScoredRequest, SignatureTable};
use crate::cmd::simulate::Rng;

/// The settings of a calibration.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Settings {
    /// Standard deviation of the prior around a written weight, in decibans.
    pub prior_sd: f64,
    /// Seed of the resampling.
    pub seed: u64,
}

/// The estimate for a signature or correlation.
#[derive(Clone, Debug, Serialize)]
pub struct SignatureEstimate {
    pub name: String,
    pub family: String,
    /// Weight as written, in decibans.
    pub written: f64,
    /// Share of harvest requests, and of other requests, that match. Each tool counts the same.
    pub harvest_share: f64,
    pub other_share: f64,
    /// Number of harvest tools, and of other tools, with a match.
    pub harvest_tools: usize,
    pub other_tools: usize,
    /// Estimated weight with its credible interval.
    pub estimate: Posterior,
    /// 95 % interval of the estimate over bootstrap samples of the tools, in decibans: its lower
    /// and upper bound.
    pub resampled: (f64, f64),
    /// Weight to write into the rule file, in decibans: the rounded estimate.
    pub proposed: f64,
}

/// The estimate for two signatures that match together.
#[derive(Clone, Debug, Serialize)]
pub struct PairEstimate {
    pub first: String,
    pub second: String,
    /// Whether both signatures belong to one family, whose cap limits the sum of their weights.
    pub same_family: bool,
    /// Number of tools with a request that both signatures match.
    pub tools: usize,
    /// Sum of the two written weights, in decibans.
    pub sum: f64,
    pub estimate: Posterior,
}

/// The estimate for the cap of a family: the weight of the event that the hits of a request in this
/// family have weights that add up to the cap or more.
#[derive(Clone, Debug, Serialize)]
pub struct CapEstimate {
    pub family: String,
    /// Cap in the policy, in decibans.
    pub cap: f64,
    /// Number of harvest tools, and of other tools, with a request whose sum reaches the cap.
    pub harvest_tools: usize,
    pub other_tools: usize,
    pub estimate: Posterior,
}

/// Computes estimates from the requests of tools.
pub struct Estimator<'t> {
    tools: &'t [Tool<'t>],
    table: &'t SignatureTable,
    settings: Settings,
    limits: WeightLimits<'t>,
    grid: Grid,
}

impl<'t> Estimator<'t> {
    pub fn new(
        tools: &'t [Tool<'t>],
        table: &'t SignatureTable,
        policy: &'t Policy,
        settings: Settings,
    ) -> Self {
        Self { tools, table, settings, limits: WeightLimits::new(policy), grid: Grid::new() }
    }

    /// Returns the indices of the signatures that match in any tool and have a weight other than 0.
    pub fn observed(&self) -> BTreeSet<usize> {
        let hits = self.tools.iter().flat_map(|tool| tool.shares.keys().copied());
        hits.filter(|hit| self.table.get(*hit).is_some_and(|row| row.weight != 0.0)).collect()
    }

    /// Returns the proposed weight of a signature, estimated from all tools except the one with the
    /// index `left_out`. Returns `None` if the table does not have the signature.
    pub fn proposal_without(&self, signature: usize, left_out: usize) -> Option<f64> {
        let row = self.table.get(signature)?;
        let tools = self.tools.iter().enumerate().filter(|(index, _)| *index != left_out);
        let evidence = signature_evidence(tools.map(|(_, tool)| tool), signature);
        let posterior = self.posterior(evidence, row.weight);
        Some(self.limits.round(posterior.mean, row.weight, &row.family))
    }

    /// Returns the estimates for the [`observed`](Self::observed) signatures, sorted by name.
    pub fn signatures(&self) -> Vec<SignatureEstimate> {
        let samples = self.samples();
        let observed = self.observed();
        let estimates = observed.iter().filter_map(|index| self.signature(*index, &samples));
        let mut estimates: Vec<SignatureEstimate> = estimates.collect();
        estimates.sort_by(|a, b| a.name.cmp(&b.name));
        estimates
    }

    fn signature(&self, index: usize, samples: &[Vec<usize>]) -> Option<SignatureEstimate> {
        let row = self.table.get(index)?;
        let evidence = signature_evidence(self.tools, index);
        let prior = self.grid.prior(row.weight, self.settings.prior_sd);
        let estimate = self.grid.posterior(evidence, &prior);
        let resampled = samples.iter().map(|sample| {
            let tools = sample.iter().filter_map(|tool| self.tools.get(*tool));
            self.grid.posterior(signature_evidence(tools, index), &prior).mean
        });
        let mut resampled: Vec<f64> = resampled.collect();
        resampled.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let position = (share * resampled.len().saturating_sub(1) as f64).round() as usize;
            resampled.get(position).copied().unwrap_or(estimate.mean)
        };
        let matching = |is_harvest: bool| {
            let tools = self.tools.iter().filter(|tool| tool.is_harvest == is_harvest);
            tools.filter(|tool| tool.shares.contains_key(&index)).count()
        };
        Some(SignatureEstimate {
            name: row.name.clone(),
            family: row.family.clone(),
            written: row.weight,
            harvest_share: share(evidence.harvest_sum, evidence.harvest_tools),
            other_share: share(evidence.other_sum, evidence.other_tools),
            harvest_tools: matching(true),
            other_tools: matching(false),
            estimate,
            resampled: (quantile(0.025), quantile(0.975)),
            proposed: self.limits.round(estimate.mean, row.weight, &row.family),
        })
    }

    /// Returns [`SAMPLES`] bootstrap samples of the tools, each as a list of indices. Harvest tools
    /// and other tools are drawn separately, so that every sample contains both.
    fn samples(&self) -> Vec<Vec<usize>> {
        let with_label = |is_harvest: bool| {
            let tools = self.tools.iter().enumerate();
            let tools = tools.filter(|(_, tool)| tool.is_harvest == is_harvest);
            tools.map(|(index, _)| index).collect::<Vec<usize>>()
        };
        let classes = [with_label(true), with_label(false)];
        let mut rng = Rng::new(self.settings.seed, 0);
        let mut sample = || {
            let classes = classes.iter();
            let drawn = classes.flat_map(|class| {
                let picks: Vec<usize> = class.iter().map(|_| rng.pick(class)).collect();
                picks
            });
            drawn.collect()
        };
        (0..SAMPLES).map(|_| sample()).collect()
    }

    /// Returns the estimates for pairs of signatures that match the same request in at least two
    /// tools. The pairs with the most tools come first; at most [`MAX_PAIRS`] are returned.
    pub fn pairs(&self) -> Vec<PairEstimate> {
        let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for tool in self.tools {
            let mut pairs = BTreeSet::new();
            for request in &tool.requests {
                let hits: BTreeSet<usize> = request.verdict(true).hits.iter().copied().collect();
                let hits = hits.iter().filter(|hit| self.has_pair_weight(**hit));
                let hits: Vec<usize> = hits.copied().collect();
                for (position, first) in hits.iter().enumerate() {
                    pairs.extend(hits.iter().skip(position + 1).map(|second| (*first, *second)));
                }
            }
            pairs.into_iter().for_each(|pair| *counts.entry(pair).or_default() += 1);
        }
        let mut counts: Vec<_> = counts.into_iter().filter(|(_, tools)| *tools > 1).collect();
        counts.sort_by_key(|(pair, tools)| (std::cmp::Reverse(*tools), *pair));
        let pairs = counts.into_iter().take(MAX_PAIRS);
        pairs.filter_map(|(pair, tools)| self.pair(pair, tools)).collect()
    }

    /// Returns whether a signature has enough weight to be part of a pair.
    fn has_pair_weight(&self, signature: usize) -> bool {
        self.table.get(signature).is_some_and(|row| row.weight >= MIN_PAIR_WEIGHT)
    }

    fn pair(&self, (first, second): (usize, usize), tools: usize) -> Option<PairEstimate> {
        let (a, b) = (self.table.get(first)?, self.table.get(second)?);
        let holds = |request: &ScoredRequest| {
            let hits = &request.verdict(true).hits;
            hits.contains(&first) && hits.contains(&second)
        };
        let sum = a.weight + b.weight;
        Some(PairEstimate {
            first: a.name.clone(),
            second: b.name.clone(),
            same_family: a.family == b.family,
            tools,
            sum,
            estimate: self.posterior(self.event_evidence(holds), sum),
        })
    }

    /// Returns the estimates for the caps of the families that reach their cap in any tool, sorted
    /// by name.
    pub fn caps(&self, policy: &Policy) -> Vec<CapEstimate> {
        let rows = self.table.rows().iter();
        let families: BTreeSet<&str> = rows.map(|row| row.family.as_str()).collect();
        families.into_iter().filter_map(|family| self.cap(family, policy)).collect()
    }

    fn cap(&self, family: &str, policy: &Policy) -> Option<CapEstimate> {
        let cap = policy.score.family_cap(family).abs();
        let holds = |request: &ScoredRequest| {
            let hits = request.verdict(true).hits.iter();
            let rows = hits.filter_map(|hit| self.table.get(*hit));
            let sum: f64 = rows.filter(|row| row.family == family).map(|row| row.weight).sum();
            sum >= cap
        };
        let reaching = |is_harvest: bool| {
            let tools = self.tools.iter().filter(|tool| tool.is_harvest == is_harvest);
            tools.filter(|tool| tool.share(holds) > 0.0).count()
        };
        let (harvest_tools, other_tools) = (reaching(true), reaching(false));
        (harvest_tools + other_tools > 0).then(|| CapEstimate {
            family: family.to_owned(),
            cap,
            harvest_tools,
            other_tools,
            estimate: self.posterior(self.event_evidence(holds), cap),
        })
    }

    /// Returns the evidence for the event that `holds` returns true for a request.
    fn event_evidence(&self, holds: impl Fn(&ScoredRequest) -> bool) -> Evidence {
        evidence(self.tools.iter().map(|tool| (tool, tool.share(&holds))))
    }

    fn posterior(&self, evidence: Evidence, written: f64) -> Posterior {
        self.grid.posterior(evidence, &self.grid.prior(written, self.settings.prior_sd))
    }
}

fn share(sum: f64, tools: f64) -> f64 {
    if tools == 0.0 { 0.0 } else { sum / tools }
}

/// Number of bootstrap samples of the tools, from which the interval of an estimate is computed.
const SAMPLES: usize = 200;

/// Maximum number of pairs that are estimated.
const MAX_PAIRS: usize = 20;

/// Minimum weight of each signature of a pair, in decibans. Weaker signatures are left out, because
/// counting one of them twice changes a score little.
const MIN_PAIR_WEIGHT: f64 = 3.0;
