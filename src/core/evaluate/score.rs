//! The score: weights of evidence in decibans add up to a posterior probability, from 0 to 100.
//!
//! A deciban is ten times the decimal logarithm of a likelihood ratio (Turing and Good). The
//! signatures of a family are correlated evidence, so the sum of each family is capped.

use serde::{Deserialize, Serialize};

use crate::rules::policy::Scoring;

/// A score with its derivation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Probability of harvesting, from 0 to 100.
    pub probability: f64,
    /// Decibans before any evidence.
    pub prior: f64,
    /// Decibans of evidence, after caps.
    pub evidence: f64,
    /// Contribution of each family.
    pub contributions: Vec<Contribution>,
}

/// The contribution of a family to a score, in decibans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Contribution {
    /// Name of the family.
    pub family: String,
    /// Sum of its weights.
    pub raw: f64,
    /// Sum of its weights within the cap.
    pub capped: f64,
}

impl Score {
    /// Computes the score of weights in decibans, each with its family.
    pub fn new<'w>(weights: impl IntoIterator<Item = (&'w str, f64)>, scoring: &Scoring) -> Self {
        let mut contributions: Vec<Contribution> = Vec::new();
        for (family, weight) in weights {
            match contributions.iter_mut().find(|contribution| contribution.family == family) {
                Some(contribution) => contribution.raw += weight,
                None => contributions.push(Contribution {
                    family: family.to_owned(),
                    raw: weight,
                    capped: 0.0,
                }),
            }
        }
        for contribution in &mut contributions {
            let cap = scoring.family_cap(&contribution.family).abs();
            contribution.capped = contribution.raw.clamp(-cap, cap);
        }
        // Adding 0 turns the sum of an empty iterator, -0, into 0.
        let capped = contributions.iter().map(|contribution| contribution.capped);
        let evidence = capped.sum::<f64>() + 0.0;
        Self {
            probability: posterior_percent(scoring.prior + evidence),
            prior: scoring.prior,
            evidence,
            contributions,
        }
    }
}

impl Score {
    /// Returns the evidence of the content of the request in decibans, after caps: of all families
    /// but those that describe its client and its circumstances.
    pub fn content_evidence(&self) -> f64 {
        let is_content =
            |part: &&Contribution| !CIRCUMSTANTIAL_FAMILIES.contains(&part.family.as_str());
        self.contributions.iter().filter(is_content).map(|part| part.capped).sum()
    }
}

/// Families whose signatures describe the client and the circumstances of a request.
const CIRCUMSTANTIAL_FAMILIES: [&str; 2] = ["provenance", "context"];

/// Returns the probability for odds of `decibans`, in percent with two decimals.
fn posterior_percent(decibans: f64) -> f64 {
    let odds = 10_f64.powf(decibans / 10.0);
    let percent = if odds.is_finite() { 100.0 * odds / (1.0 + odds) } else { 100.0 };
    (percent * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decibans_become_probabilities() {
        let rows: &[(&str, &[(&str, f64)], f64)] = &[
            ("no evidence: the prior", &[], 0.99),
            ("twenty decibans outweigh the prior", &[("a", 13.0), ("b", 7.0)], 50.0),
            ("notice", &[("a", 7.3)], 5.1),
            ("a family is capped", &[("a", 22.0), ("a", 22.0)], 75.97),
            ("two families are hostile", &[("a", 22.0), ("b", 13.0)], 96.93),
            ("context is capped low", &[("a", 22.0), ("context", -50.0)], 28.47),
            ("evidence beyond floats", &[("a", f64::MAX), ("a", f64::MAX)], 75.97),
        ];
        for (name, weights, expected) in rows {
            assert_eq!(
                Score::new(weights.iter().copied(), &Scoring::default()).probability,
                *expected,
                "{name}"
            );
        }
    }
}
