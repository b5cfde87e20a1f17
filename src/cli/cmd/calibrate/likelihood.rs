//! The likelihood ratio of an event, with shrinkage to the written weight.
//!
//! `h` and `o` are the shares of requests with the event in harvests and in other traffic. The
//! likelihood is binomial with one trial for each tool: `h^k · (1 − h)^(n − k)`, where `k` is the
//! sum of the shares of the `n` tools. The prior of the weight `10 · log10(h / o)` is normal around
//! the written weight; the prior of `log(h · o)` is flat. The estimate is the mean of the
//! posterior, computed on a grid of `log h` and `log o`.
//!
//! This has two consequences. A tool that hits in each of a thousand requests is still one
//! observation. An event that no benign tool shows keeps about its written weight, because the
//! observation "none of 45 tools" is nearly as likely with `o` = 1/1,000 as with `o` = 1/10,000.

use serde::Serialize;

/// The evidence for a likelihood ratio. For each label, it holds the number of tools, and the sum
/// of the shares of their requests that have the event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    pub harvest_tools: f64,
    pub harvest_sum: f64,
    pub other_tools: f64,
    pub other_sum: f64,
}

/// A weight in decibans with its 95 % credible interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Posterior {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// The grid of shares. For each share `s`, it holds `ln s` and `ln (1 − s)`, which do not depend on
/// the evidence.
pub struct Grid {
    log_hits: Vec<f64>,
    log_misses: Vec<f64>,
}

/// The densities of a normal prior of a weight, one for each difference between the grid positions
/// of `h` and `o`.
pub struct Prior(Vec<f64>);

impl Grid {
    pub fn new() -> Self {
        let shares = (0..POINTS).map(|index| {
            let share = 10_f64.powf(LOWEST + STEP * index as f64);
            share.min(HIGHEST_SHARE)
        });
        let shares: Vec<f64> = shares.collect();
        Self {
            log_hits: shares.iter().map(|share| share.ln()).collect(),
            log_misses: shares.iter().map(|share| (-share).ln_1p()).collect(),
        }
    }

    /// Returns a normal prior with the mean `written` and the standard deviation `deviation`, both
    /// in decibans.
    pub fn prior(&self, written: f64, deviation: f64) -> Prior {
        let density = |index: usize| {
            let standard = (decibans_at(index) - written) / deviation;
            (-standard * standard / 2.0).exp()
        };
        Prior((0..2 * POINTS - 1).map(density).collect())
    }

    /// Returns the posterior of a weight: its mean and its 95 % credible interval.
    pub fn posterior(&self, evidence: Evidence, prior: &Prior) -> Posterior {
        let harvest = self.likelihood(evidence.harvest_sum, evidence.harvest_tools);
        let other = self.likelihood(evidence.other_sum, evidence.other_tools);
        // Posterior mass of each difference between the positions of `h` and `o`.
        let mut masses = vec![0.0_f64; 2 * POINTS - 1];
        for (h, harvest) in harvest.iter().enumerate() {
            let row = masses.iter_mut().skip(h);
            // The shares `o` are read from the highest to the lowest, because the difference grows
            // as `o` falls.
            for (mass, other) in row.zip(other.iter().rev()) {
                *mass += harvest * other;
            }
        }
        masses.iter_mut().zip(&prior.0).for_each(|(mass, density)| *mass *= density);
        summarize(&masses)
    }

    /// Returns the likelihood of each share, divided by the highest likelihood.
    fn likelihood(&self, sum: f64, tools: f64) -> Vec<f64> {
        let misses = (tools - sum).max(0.0);
        let logs = self.log_hits.iter().zip(&self.log_misses);
        let logs: Vec<f64> = logs.map(|(hit, miss)| sum * hit + misses * miss).collect();
        let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        logs.iter().map(|log| (log - highest).exp()).collect()
    }
}

/// Returns the mean and the 95 % interval of a distribution of weights. `masses` holds the mass of
/// each difference between the grid positions of `h` and `o`; the sum need not be 1.
fn summarize(masses: &[f64]) -> Posterior {
    let total: f64 = masses.iter().sum();
    let weighted = masses.iter().enumerate().map(|(index, mass)| mass * decibans_at(index));
    let mean = weighted.sum::<f64>() / total;
    let quantile = |share: f64| {
        let mut sum = 0.0;
        let is_reached = |mass: &f64| {
            sum += mass;
            sum >= share * total
        };
        decibans_at(masses.iter().position(is_reached).unwrap_or(masses.len().saturating_sub(1)))
    };
    Posterior { mean, low: quantile(0.025), high: quantile(0.975) }
}

/// Returns the weight in decibans, from −70 to 70, that belongs to an index of `masses`.
fn decibans_at(index: usize) -> f64 {
    10.0 * STEP * (index as f64 - (POINTS - 1) as f64)
}

/// Number of shares in the grid.
const POINTS: usize = 141;

/// Decimal logarithm of the lowest share.
const LOWEST: f64 = -7.0;

/// Step of the decimal logarithm from one share to the next.
const STEP: f64 = 0.05;

/// Highest share. It is below 1, because no event is certain.
const HIGHEST_SHARE: f64 = 0.995;

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(harvest: (f64, f64), other: (f64, f64), written: f64, deviation: f64) -> Posterior {
        let grid = Grid::new();
        let evidence = Evidence {
            harvest_sum: harvest.0,
            harvest_tools: harvest.1,
            other_sum: other.0,
            other_tools: other.1,
        };
        grid.posterior(evidence, &grid.prior(written, deviation))
    }

    #[test]
    fn much_evidence_outweighs_the_written_weight() {
        // 2,000 of 10,000 against 20 of 10,000: a ratio of 100.
        let posterior = estimate((2_000.0, 10_000.0), (20.0, 10_000.0), 5.0, 5.0);
        assert!((posterior.mean - 20.0).abs() < 1.0, "{posterior:?}");
        assert!(posterior.low < 20.0 && posterior.high > 19.0, "{posterior:?}");
    }

    #[test]
    fn no_evidence_leaves_the_written_weight() {
        for written in [-3.0, 5.0, 20.0] {
            let posterior = estimate((0.0, 0.0), (0.0, 0.0), written, 3.0);
            assert!((posterior.mean - written).abs() < 0.3, "{written}: {posterior:?}");
            // The interval of the prior: 1.96 standard deviations on both sides.
            assert!((posterior.high - posterior.low - 11.8).abs() < 0.9, "{posterior:?}");
        }
    }

    #[test]
    fn an_event_of_no_benign_tool_stays_near_its_weight() {
        let posterior = estimate((4.0, 100.0), (0.0, 45.0), 20.0, 5.0);
        assert!((posterior.mean - 20.0).abs() < 2.0, "{posterior:?}");
    }

    #[test]
    fn evidence_moves_the_weight_in_its_direction_and_in_order() {
        let means: Vec<f64> = [0.0, 0.5, 1.0, 3.0, 9.0]
            .iter()
            .map(|benign| estimate((10.0, 50.0), (*benign, 50.0), 14.0, 5.0).mean)
            .collect();
        assert!(means.is_sorted_by(|a, b| a > b), "{means:?}");
        assert!(means[0] > 13.0 && means[4] < 5.0, "{means:?}");
        // With a weaker prior, the estimate follows the corpus more closely.
        let weak = estimate((10.0, 50.0), (9.0, 50.0), 14.0, 15.0).mean;
        assert!(weak < means[4], "{weak} {means:?}");
    }
}
