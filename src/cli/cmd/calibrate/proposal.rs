//! Rounds estimates to weights that rules may have (`rules/README.md`).

/// Returns the weight to propose for an estimate, in decibans. A signature should either clearly
/// make a request suspect on its own (20) or clearly not (at most 14). A correlation should not
/// make a request suspect on its own. The proposal is therefore at most 20 for a signature and 14
/// for a correlation, or the written weight if that is higher. A negative proposal is at least −6.
///
/// A weight keeps its sign. If the evidence has the opposite sign, the proposal is the weight
/// nearest to 0 with the written sign (0.5 or −1), and the rule should be retired.
pub fn round(estimate: f64, written: f64, is_correlation: bool) -> f64 {
    if written < 0.0 {
        return estimate.round().clamp(-MAX_NEGATIVE, -1.0);
    }
    let highest = match is_correlation {
        true => written.max(MAX_INSUFFICIENT_WEIGHT),
        false => written.max(SUFFICIENT),
    };
    let rounded = match estimate {
        estimate if estimate < 0.75 => MIN_WEIGHT,
        estimate if estimate < MAX_INSUFFICIENT_WEIGHT => estimate.round(),
        estimate if estimate < (MAX_INSUFFICIENT_WEIGHT + SUFFICIENT) / 2.0 => {
            MAX_INSUFFICIENT_WEIGHT
        }
        estimate => estimate.round().max(SUFFICIENT),
    };
    rounded.min(highest)
}

/// Weight that makes a request suspect on its own.
const SUFFICIENT: f64 = 20.0;

/// Highest weight that does not make a request suspect on its own. Weights between this and
/// [`SUFFICIENT`] are avoided.
const MAX_INSUFFICIENT_WEIGHT: f64 = 14.0;

/// Smallest positive weight of a signature that is in use.
const MIN_WEIGHT: f64 = 0.5;

/// Largest absolute value of a negative weight, in decibans. A negative weight is evidence of
/// ordinary use. The cap of the family in the policy can limit the effect of the weight further.
const MAX_NEGATIVE: f64 = 6.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_the_bands_and_their_sign() {
        let rows = [
            ("sufficient", 21.3, 20.0, false, 20.0),
            ("more than half way up", 17.2, 14.0, false, 20.0),
            ("less than half way up", 16.8, 20.0, false, 14.0),
            ("a hint", 8.4, 14.0, false, 8.0),
            ("nearly nothing", 0.6, 5.0, false, 0.5),
            ("evidence of the opposite", -4.0, 5.0, false, 0.5),
            ("correlations alone suffice never", 23.0, 11.0, true, 14.0),
            ("a correlation that is written higher", 23.0, 19.0, true, 19.0),
            ("ordinary use", -2.6, -1.0, false, -3.0),
            ("ordinary use that is none", 2.0, -1.0, false, -1.0),
            ("ordinary use within the cap", -9.0, -3.0, false, -6.0),
        ];
        for (name, estimate, written, is_correlation, expected) in rows {
            assert_eq!(round(estimate, written, is_correlation), expected, "{name}");
        }
    }
}
