//! The strength of an indicator: a full table drops the weakest indicators.

/// The facts that decide how long an indicator stays in a full table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strength {
    /// Number of distinct accounts that the largest firing named. If there are several, the origin
    /// has answered each of them with success.
    pub accounts: u32,
    /// Number of firings.
    pub times: u32,
    /// Time of the last firing, in seconds since the epoch.
    pub last: u32,
}

/// The rank of an indicator among others. A higher rank is stronger.
///
/// Scores decay, but the rank does not depend on the current time: all scores halve at the same
/// pace, so their order stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Whether several accounts took part. An indicator of a single account never replaces an
    /// indicator of several accounts, whatever their scores. Anybody can invent an account, but the
    /// accounts of a shared indicator are proven: the origin has answered them with success.
    is_shared: bool,
    /// Binary logarithm of the score, extrapolated to the epoch, as a multiple of 1/[`SCALE`].
    score: i64,
}

/// Number of steps of [`Rank::score`] per doubling of the score.
const SCALE: f64 = 1_048_576.0;

/// Seconds after which a score has halved.
const HALF_LIFE_SECONDS: f64 = 86_400.0;

impl Strength {
    /// Returns whether several accounts took part.
    pub fn is_shared(&self) -> bool {
        self.accounts > 1
    }

    /// Returns the rank. The score is `accounts × (1 + log2(times))`, halved for each day since the
    /// last firing.
    pub fn rank(&self) -> Rank {
        let accounts = f64::from(self.accounts.max(1));
        let times = 1.0 + f64::from(self.times.max(1)).log2();
        let doublings = (accounts * times).log2() + f64::from(self.last) / HALF_LIFE_SECONDS;
        Rank { is_shared: self.is_shared(), score: (doublings * SCALE) as i64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = 86_400;
    const NOW: u32 = 1_800_000_000;

    #[test]
    fn more_accounts_more_firings_and_later_ones_are_stronger() {
        let strength = |accounts, times, age| Strength { accounts, times, last: NOW - age };
        let rows = [
            // In each row, the stronger indicator is first.
            (strength(6, 1, 0), strength(5, 1, 0)),
            (strength(5, 2, 0), strength(5, 1, 0)),
            (strength(5, 1, 0), strength(5, 1, 60)),
            (strength(5, 1, 0), strength(9, 1, DAY)),
            (strength(11, 1, DAY), strength(5, 1, 0)),
            (strength(5, 8, 2 * DAY - 60), strength(5, 1, 0)),
            // Many accounts outweigh many firings of a few.
            (strength(40, 1, 0), strength(5, 64, 0)),
            // A single account never outweighs several.
            (strength(2, 1, 30 * DAY), strength(1, u32::MAX, 0)),
        ];
        for (stronger, weaker) in rows {
            assert!(stronger.rank() > weaker.rank(), "{stronger:?} {weaker:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_rank_grows_with_each_fact(
            accounts in 0_u32..10_000, times in 0_u32..10_000, last in 0_u32..2_000_000_000,
        ) {
            let strength = Strength { accounts, times, last };
            let higher = [
                Strength { accounts: accounts.saturating_add(1), ..strength },
                Strength { times: times.saturating_add(1), ..strength },
                Strength { last: last.saturating_add(1), ..strength },
            ];
            for higher in higher {
                proptest::prop_assert!(higher.rank() >= strength.rank());
            }
        }
    }
}
