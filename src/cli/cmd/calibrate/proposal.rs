//! Rounds estimates to weights that rules may have (`rules/README.md`). The limits follow from the
//! policy.

use hedgerow_core::rules::policy::{Policy, Scoring};

/// The limits of proposed weights, in decibans.
pub struct WeightLimits<'p> {
    /// The caps of families.
    scoring: &'p Scoring,
    /// Smallest whole weight of a signature that makes a request suspect on its own, even if the
    /// family `context` subtracts as much as its cap allows. Infinite if no weight is enough.
    sufficient: f64,
}

impl<'p> WeightLimits<'p> {
    /// Returns the limits of a policy.
    pub fn new(policy: &'p Policy) -> Self {
        let suspect = policy.bands.suspect / 100.0;
        let threshold = 10.0 * (suspect / (1.0 - suspect)).log10();
        let scoring = &policy.score;
        let needed = threshold - scoring.prior + scoring.family_cap(CONTEXT).abs();
        Self { scoring, sufficient: needed.ceil().max(MIN_WEIGHT) }
    }

    /// Returns the weight to propose for an estimate, in decibans. `written` is the weight in the
    /// rule file, and `family` the family of the rule.
    ///
    /// A signature should either clearly make a request suspect on its own (22 with the shipped
    /// policy) or clearly not (at most 14). A correlation should not make a request suspect on its
    /// own. The proposal is therefore at most 22 for a signature and 14 for a correlation. It is
    /// also at most the cap of the family. If the written weight is higher, it is the limit.
    ///
    /// A weight keeps its sign. If the evidence has the opposite sign, the proposal is the weight
    /// nearest to 0 with the written sign (0.5 or −1), and the rule should be retired. A negative
    /// proposal is at least the negative cap of the family.
    pub fn round(&self, estimate: f64, written: f64, family: &str) -> f64 {
        let cap = self.scoring.family_cap(family).abs();
        if written < 0.0 {
            let lowest = -cap.floor().max(1.0);
            return estimate.round().clamp(lowest, -1.0);
        }
        let insufficient = MAX_INSUFFICIENT_WEIGHT.min(self.sufficient);
        let highest = if is_correlation(family) { insufficient } else { self.sufficient };
        let rounded = match estimate {
            estimate if estimate < 0.75 => MIN_WEIGHT,
            estimate if estimate < insufficient => estimate.round(),
            estimate if estimate < (insufficient + self.sufficient) / 2.0 => insufficient,
            estimate => estimate.round().max(self.sufficient),
        };
        rounded.min(highest.min(cap).max(written))
    }
}

/// Returns whether a family consists of correlations.
fn is_correlation(family: &str) -> bool {
    matches!(family, "cluster" | "account_behavior")
}

/// The family of signs of an ordinary user, whose signatures have negative weights.
const CONTEXT: &str = "context";

/// Highest weight that does not make a request suspect on its own. Weights between this and
/// [`WeightLimits::sufficient`] are avoided.
const MAX_INSUFFICIENT_WEIGHT: f64 = 14.0;

/// Smallest positive weight of a signature that is in use.
const MIN_WEIGHT: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_the_bands_the_caps_and_their_sign() {
        let mut policy = Policy::default();
        policy.score.caps.insert("provenance".to_owned(), 7.0);
        let limits = WeightLimits::new(&policy);
        // name, estimate, written, family, expected
        let rows = [
            ("sufficient", 21.3, 22.0, "synthesis", 22.0),
            ("more than half way up", 18.2, 14.0, "synthesis", 22.0),
            ("less than half way up", 17.8, 22.0, "synthesis", 14.0),
            ("a hint", 8.4, 14.0, "synthesis", 8.0),
            ("nearly nothing", 0.6, 5.0, "synthesis", 0.5),
            ("evidence of the opposite", -4.0, 5.0, "synthesis", 0.5),
            ("a low cap", 12.0, 5.0, "provenance", 7.0),
            ("written above the cap", 12.0, 9.0, "provenance", 9.0),
            ("correlations alone suffice never", 23.0, 11.0, "cluster", 14.0),
            ("a correlation that is written higher", 23.0, 19.0, "account_behavior", 19.0),
            ("ordinary use", -1.6, -1.0, "context", -2.0),
            ("ordinary use that is none", 2.0, -1.0, "context", -1.0),
            ("ordinary use beyond the cap", -9.0, -3.0, "context", -2.0),
        ];
        for (name, estimate, written, family, expected) in rows {
            assert_eq!(limits.round(estimate, written, family), expected, "{name}");
        }
    }

    #[test]
    fn the_sufficient_weight_follows_from_the_policy() {
        let sufficient = |prior: f64, suspect: f64, context: f64| {
            let mut policy = Policy::default();
            policy.score.prior = prior;
            policy.bands.suspect = suspect;
            policy.score.caps.insert(CONTEXT.to_owned(), context);
            WeightLimits::new(&policy).sufficient
        };
        assert_eq!(sufficient(-20.0, 50.0, 2.0), 22.0, "the shipped policy");
        assert_eq!(sufficient(-30.0, 50.0, 0.0), 30.0);
        // Odds of 80 to 20 are 6.02 dB.
        assert_eq!(sufficient(-10.0, 80.0, 2.0), 19.0);
        assert_eq!(sufficient(-20.0, 100.0, 2.0), f64::INFINITY);
        assert_eq!(sufficient(30.0, 50.0, 2.0), MIN_WEIGHT);
    }
}
