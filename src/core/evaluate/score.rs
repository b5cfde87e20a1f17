//! The score: weights of evidence in decibans add up to a posterior probability, from 0 to 100.
//!
//! A deciban is ten times the decimal logarithm of a likelihood ratio (Turing and Good). The
//! signatures of a family are correlated evidence, so the sum of each family is capped.

use serde::{Deserialize, Serialize};

use crate::rules::policy::{INNOCENCE_FAMILY, Scoring};

/// A score with its derivation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// Probability of harvesting, from 0 to 100.
    pub probability: f64,
    /// Prior of the policy: the decibans before any evidence is added.
    pub prior: f64,
    /// Evidence of all hits in decibans, after the cap of each family.
    pub evidence: f64,
    /// Contribution of each family of signatures to the evidence.
    pub contributions: Vec<Contribution>,
}

/// The contribution of a family of signatures to a score, in decibans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Contribution {
    /// Name of the family.
    pub family: String,
    /// Sum of the weights of the family's hits.
    pub raw: f64,
    /// Sum of the weights, limited to the cap of the family.
    pub capped: f64,
}

/// The weight of a hit.
#[derive(Clone, Copy, Debug)]
pub struct HitWeight<'h> {
    /// Family, whose weights are capped together.
    pub family: &'h str,
    /// Weight in decibans.
    pub weight: f64,
    /// Whether an innocence selection of the signature holds. Such a selection is a sign of a
    /// harmless request. It cancels the weight of the hit, up to a cap.
    pub is_innocent: bool,
}

impl Score {
    /// Computes the score of hits.
    pub fn new<'h>(hits: impl IntoIterator<Item = HitWeight<'h>>, scoring: &Scoring) -> Self {
        let mut contributions: Vec<Contribution> = Vec::new();
        // Sum of the weights of the innocent hits, by family.
        let mut innocent: Vec<f64> = Vec::new();
        for HitWeight { family, weight, is_innocent } in hits {
            let known = contributions.iter().position(|contribution| contribution.family == family);
            let position = known.unwrap_or(contributions.len());
            if known.is_none() {
                let family = family.to_owned();
                contributions.push(Contribution { family, raw: 0.0, capped: 0.0 });
                innocent.push(0.0);
            }
            if let Some(contribution) = contributions.get_mut(position) {
                contribution.raw += weight;
            }
            if let Some(sum) = innocent.get_mut(position).filter(|_| is_innocent) {
                *sum += weight.max(0.0);
            }
        }
        let mut innocence = 0.0;
        for (contribution, innocent) in contributions.iter_mut().zip(innocent) {
            let cap = scoring.family_cap(&contribution.family).abs();
            contribution.capped = contribution.raw.clamp(-cap, cap);
            // Adds, as a negative number, the share of the capped sum that is due to the innocent
            // hits.
            innocence += (contribution.raw - innocent).clamp(-cap, cap) - contribution.capped;
        }
        if innocence < 0.0 {
            let cap = scoring.family_cap(INNOCENCE_FAMILY).abs();
            contributions.push(Contribution {
                family: INNOCENCE_FAMILY.to_owned(),
                raw: innocence,
                capped: innocence.max(-cap),
            });
        }
        // The sum of an empty iterator is -0. Adding 0 turns it into 0.
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
    /// Returns the evidence of the request's content in decibans, after caps. This is the evidence
    /// of all families except the families that describe the client and the circumstances of the
    /// request.
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
            ("context is capped low", &[("a", 22.0), ("context", -50.0)], 50.0),
            ("evidence beyond floats", &[("a", f64::MAX), ("a", f64::MAX)], 75.97),
        ];
        for (name, weights, expected) in rows {
            let hits = weights.iter().map(|(family, weight)| hit(family, *weight, false));
            assert_eq!(Score::new(hits, &Scoring::default()).probability, *expected, "{name}");
        }
    }

    fn hit(family: &str, weight: f64, is_innocent: bool) -> HitWeight<'_> {
        HitWeight { family, weight, is_innocent }
    }

    #[test]
    fn innocence_takes_back_what_its_hits_have_added_within_the_cap() {
        let rows: &[(&str, &[(&str, f64, bool)], f64)] = &[
            ("a weak hit is cancelled", &[("a", 4.0, true)], 0.0),
            ("a strong hit is not", &[("a", 22.0, true)], 16.0),
            ("the cap holds for the sum", &[("a", 22.0, true), ("b", 22.0, true)], 38.0),
            ("other hits remain", &[("a", 22.0, false), ("b", 3.0, true)], 22.0),
            (
                "the excess over a cap is not taken back",
                &[("a", 22.0, false), ("a", 14.0, true)],
                22.0,
            ),
            ("negative evidence stays", &[("a", -2.0, true)], -2.0),
        ];
        for (name, hits, expected) in rows {
            let hits =
                hits.iter().map(|(family, weight, innocent)| hit(family, *weight, *innocent));
            assert_eq!(Score::new(hits, &Scoring::default()).evidence, *expected, "{name}");
        }
    }
}
