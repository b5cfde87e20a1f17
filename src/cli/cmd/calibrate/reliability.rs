//! Reliability: the share of harvests among requests with similar scores. A score is the
//! probability of harvesting, so this share should equal the score. The requests are weighted so
//! that harvests have the share that the prior of the policy gives them.

use serde::Serialize;

use super::tools::Tool;

/// The requests whose scores lie in a range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Range of scores, from 0 to 100. A score equal to `to` is in the next bin, except that the
    /// last bin includes 100.
    pub from: f64,
    pub to: f64,
    /// Share of the harvest requests, and of the other requests, whose scores are in the range.
    /// Each tool counts the same.
    pub harvest_share: f64,
    pub other_share: f64,
    /// Mean score of the bin, weighted by the prior, from 0 to 100; `None` if the bin is empty.
    pub expected: Option<f64>,
    /// Percentage of harvests among the requests of the bin, weighted by the prior; `None` if the
    /// bin is empty.
    pub observed: Option<f64>,
}

/// Returns the bins. `score` returns the score of a request, given a tool and the index of the
/// request in that tool. `prior` is the prior of harvesting in decibans. Harvests are weighted down
/// to it, because they are a far larger share of a corpus than of traffic.
pub fn bins(
    tools: &[Tool<'_>],
    prior: f64,
    score: impl Fn(&Tool<'_>, usize) -> f64,
) -> Vec<ReliabilityBin> {
    let odds = 10_f64.powf(prior / 10.0);
    let weight_of = [1.0 / (1.0 + odds), odds / (1.0 + odds)];
    let mut sums = vec![BinSums::default(); EDGES.len()];
    for tool in tools {
        let class = tools.iter().filter(|other| other.is_harvest == tool.is_harvest).count();
        let weight = 1.0 / (class as f64 * tool.requests.len() as f64);
        for position in 0..tool.requests.len() {
            let score = score(tool, position);
            let bin = EDGES.partition_point(|edge| *edge <= score).saturating_sub(1);
            let Some(sums) = sums.get_mut(bin) else { continue };
            let class = usize::from(tool.is_harvest);
            let at_prior = weight * weight_of.get(class).copied().unwrap_or_default();
            sums.mass += at_prior;
            sums.score += at_prior * score;
            if tool.is_harvest {
                sums.harvest += weight;
                sums.harvest_mass += at_prior;
            } else {
                sums.other += weight;
            }
        }
    }
    let ends = EDGES.iter().skip(1).copied().chain([100.0]);
    sums.iter().zip(EDGES.iter().zip(ends)).map(|(sums, (from, to))| sums.bin(*from, to)).collect()
}

#[derive(Clone, Copy, Default)]
struct BinSums {
    harvest: f64,
    other: f64,
    /// Sum of the weights of all requests, and of harvest requests, at the prior.
    mass: f64,
    harvest_mass: f64,
    /// Sum of the scores, each multiplied by the weight of its request.
    score: f64,
}

impl BinSums {
    fn bin(&self, from: f64, to: f64) -> ReliabilityBin {
        let of_mass = |part: f64| (self.mass > 0.0).then(|| part / self.mass);
        ReliabilityBin {
            from,
            to,
            harvest_share: self.harvest,
            other_share: self.other,
            expected: of_mass(self.score),
            observed: of_mass(100.0 * self.harvest_mass),
        }
    }
}

/// Lower bounds of the bins, as scores from 0 to 100.
const EDGES: [f64; 8] = [0.0, 1.0, 5.0, 20.0, 50.0, 80.0, 95.0, 99.0];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hedgerow_core::rules::policy::Band;

    use super::*;
    use crate::cmd::evaluate::{ScoredRequest, ScoredVerdict};

    fn request(score: f64) -> ScoredRequest {
        ScoredRequest {
            line: 1,
            account: String::new(),
            language: "none",
            dialect: "generic",
            uncorrelated: ScoredVerdict {
                score,
                band: Band::Clear,
                hits: Vec::new(),
                innocent: Vec::new(),
            },
            correlated: None,
        }
    }

    #[test]
    fn bins_are_weighted_by_tool_and_prior() {
        let harvest: Vec<ScoredRequest> = [60.0, 60.0, 60.0, 0.5].map(request).into();
        let benign: Vec<ScoredRequest> = [0.5, 60.0].map(request).into();
        let quiet = [request(0.5)];
        let tool = |requests: &'static str, is_harvest, list| Tool {
            name: requests,
            is_harvest,
            requests: list,
            shares: BTreeMap::new(),
        };
        let tools = [
            tool("a", true, harvest.iter().collect()),
            tool("b", false, benign.iter().collect()),
            tool("c", false, quiet.iter().collect()),
        ];
        let bins = bins(&tools, 0.0, |tool, position| tool.requests[position].uncorrelated.score);
        let bin = bins.iter().find(|bin| bin.from == 50.0).unwrap();
        // At a prior of 0 dB (even odds), 3/4 of the harvests and 1/4 of the others are in the bin.
        assert!((bin.harvest_share - 0.75).abs() < 1e-9 && (bin.other_share - 0.25).abs() < 1e-9);
        assert!((bin.observed.unwrap() - 75.0).abs() < 1e-9, "{bin:?}");
        assert!((bin.expected.unwrap() - 60.0).abs() < 1e-9, "{bin:?}");
        assert_eq!(bins.iter().find(|bin| bin.from == 80.0).unwrap().observed, None);
        let total: f64 = bins.iter().map(|bin| bin.harvest_share).sum();
        assert!((total - 1.0).abs() < 1e-9);
    }
}
