//! Rates with confidence intervals, and ROC curves.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

/// A share with its interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    pub count: u64,
    pub total: u64,
    /// Share from 0 to 1; 0 if `total` is 0.
    pub share: f64,
    /// Bounds of the 95 % interval by Clopper and Pearson, from 0 to 1.
    pub low: f64,
    pub high: f64,
}

impl Rate {
    /// Returns the rate of `count` of `total`.
    pub fn new(count: u64, total: u64) -> Self {
        let (low, high) = clopper_pearson(count, total);
        let share = if total == 0 { 0.0 } else { count as f64 / total as f64 };
        Self { count, total, share, low, high }
    }
}

/// Returns the 95 % interval of a share by Clopper and Pearson (1934), as its lower and upper
/// bound. The interval is valid for independent trials. If `total` is 0, the bounds are 0 and 1.
pub fn clopper_pearson(count: u64, total: u64) -> (f64, f64) {
    let (hits, misses) = (count as f64, total.saturating_sub(count) as f64);
    let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).ok().map(|beta| beta.inverse_cdf(p));
    // Without a hit, a parameter of the beta distribution is 0, so the lower bound is 0 by
    // definition. Without a miss, the upper bound is 1 by definition.
    let low = quantile(hits, misses + 1.0, TAIL).filter(|_| count > 0);
    let high = quantile(hits + 1.0, misses, 1.0 - TAIL).filter(|_| count < total);
    (low.unwrap_or(0.0), high.unwrap_or(1.0))
}

/// Probability beyond each end of an interval.
const TAIL: f64 = 0.025;

/// The ROC curve of scores that separate two classes: positives (harvests) and negatives (benign).
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// Unit that is scored: `request`, `account` or `run`.
    pub level: &'static str,
    /// Number of harvest units, which should be detected, and of benign units, which should not.
    pub positives: usize,
    pub negatives: usize,
    /// Probability that a positive scores higher than a negative; `None` if one class is empty.
    pub auc: Option<f64>,
    pub points: Vec<RocPoint>,
}

/// Shares of the two classes that reach a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RocPoint {
    /// Score, from 0 to 100.
    pub threshold: f64,
    pub true_positive_rate: f64,
    pub false_positive_rate: f64,
}

impl Curve {
    /// Returns the curve of the scores of both classes.
    pub fn new(level: &'static str, mut positives: Vec<f64>, mut negatives: Vec<f64>) -> Self {
        positives.sort_by(f64::total_cmp);
        negatives.sort_by(f64::total_cmp);
        let points = THRESHOLDS.iter().map(|threshold| RocPoint {
            threshold: *threshold,
            true_positive_rate: share_from(&positives, *threshold),
            false_positive_rate: share_from(&negatives, *threshold),
        });
        Self {
            level,
            positives: positives.len(),
            negatives: negatives.len(),
            auc: area_under_curve(&positives, &negatives),
            points: points.collect(),
        }
    }
}

/// Returns the share of sorted scores that are at least `threshold`; 0 for an empty list.
fn share_from(sorted: &[f64], threshold: f64) -> f64 {
    let below = sorted.partition_point(|score| *score < threshold);
    if sorted.is_empty() { 0.0 } else { (sorted.len() - below) as f64 / sorted.len() as f64 }
}

/// Returns the area under the curve: the Mann–Whitney statistic divided by the number of pairs, in
/// which a tie counts 1/2. Both lists must be sorted. Returns `None` if one is empty.
fn area_under_curve(positives: &[f64], negatives: &[f64]) -> Option<f64> {
    if positives.is_empty() || negatives.is_empty() {
        return None;
    }
    let wins = positives.iter().map(|score| {
        let below = negatives.partition_point(|negative| negative < score);
        let not_above = negatives.partition_point(|negative| negative <= score);
        (below + not_above) as f64 / 2.0
    });
    Some(wins.sum::<f64>() / (positives.len() as f64 * negatives.len() as f64))
}

/// Thresholds of the points of a curve, as scores from 0 to 100.
const THRESHOLDS: [f64; 12] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 35.0, 50.0, 65.0, 80.0, 95.0, 99.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_the_published_values() {
        // R: binom.test(k, n)$conf.int
        let rows = [
            (0, 10, 0.0, 0.308_497),
            (1, 10, 0.002_529, 0.445_016),
            (5, 10, 0.187_086, 0.812_914),
            (10, 10, 0.691_503, 1.0),
            (4, 20, 0.057_334, 0.436_614),
            (0, 0, 0.0, 1.0),
        ];
        for (count, total, low, high) in rows {
            let interval = clopper_pearson(count, total);
            let is_near = (interval.0 - low).abs() < 1e-5 && (interval.1 - high).abs() < 1e-5;
            assert!(is_near, "{count} of {total}: {interval:?}");
        }
        // As in the rule of three: without a hit in n trials, the upper bound of this two-sided
        // interval is about 3.7 / n.
        let (low, high) = clopper_pearson(0, 4_132);
        assert!(low == 0.0 && (high - 3.689 / 4_132.0).abs() < 1e-6, "{high}");
        let (low, high) = clopper_pearson(1_000_000, 3_000_000);
        assert!(low < 1.0 / 3.0 && high > 1.0 / 3.0 && high - low < 0.0011, "{low} {high}");
    }

    #[test]
    fn areas_count_pairs_and_ties() {
        let rows: [(&[f64], &[f64], Option<f64>); 6] = [
            (&[3.0, 4.0], &[1.0, 2.0], Some(1.0)),
            (&[1.0, 2.0], &[3.0, 4.0], Some(0.0)),
            (&[1.0, 1.0], &[1.0], Some(0.5)),
            // Nine pairs: 2 is higher than 1; 3 is higher than 1 and equal to 3; 5 is higher than
            // all.
            (&[2.0, 3.0, 5.0], &[1.0, 3.0, 4.0], Some((1.0 + 1.5 + 3.0) / 9.0)),
            (&[], &[1.0], None),
            (&[1.0], &[], None),
        ];
        for (positives, negatives, expected) in rows {
            let curve = Curve::new("request", positives.to_vec(), negatives.to_vec());
            assert_eq!(curve.auc, expected, "{positives:?} {negatives:?}");
        }
    }

    #[test]
    fn points_are_shares_at_or_above_the_threshold() {
        let curve = Curve::new("run", vec![50.0, 10.0, 99.0], vec![49.99, 0.0]);
        let at = |threshold: f64| {
            let point = curve.points.iter().find(|point| point.threshold == threshold).unwrap();
            (point.true_positive_rate, point.false_positive_rate)
        };
        assert_eq!(at(50.0), (2.0 / 3.0, 0.0));
        assert_eq!(at(10.0), (1.0, 0.5));
        assert_eq!(at(99.0), (1.0 / 3.0, 0.0));
    }
}
