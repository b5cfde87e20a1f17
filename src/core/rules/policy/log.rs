//! Settings of the decision log.

use serde::{Deserialize, Serialize};

use super::band::Band;
use crate::error::Error;
use crate::keyed_hash::hash_bytes;

/// The share of the decisions in each band that are logged, 0 to 1. Enforced decisions and failures
/// are logged whatever the share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Share of the clear decisions.
    pub clear: f64,
    /// Share of the decisions in band notice.
    pub notice: f64,
    /// Share of the decisions in band suspect.
    pub suspect: f64,
    /// Share of the decisions in band hostile.
    pub hostile: f64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { clear: 0.01, notice: 1.0, suspect: 1.0, hostile: 1.0 }
    }
}

impl LogSettings {
    /// Returns whether all settings have their defaults.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the share of the decisions in a band that are logged.
    pub fn share(&self, band: Band) -> f64 {
        match band {
            Band::Clear => self.clear,
            Band::Notice => self.notice,
            Band::Suspect => self.suspect,
            Band::Hostile => self.hostile,
        }
    }

    /// Returns whether the decision about a request is logged. The hash of the request id decides,
    /// so that the same requests are logged in every system that samples by this rule, and a larger
    /// share includes all requests of a smaller share.
    pub fn selects(&self, band: Band, request_id: &str) -> bool {
        // The 53 highest bits are the largest number that f64 represents exactly.
        let position = (hash_bytes(request_id.as_bytes()) >> 11) as f64 / (1u64 << 53) as f64;
        position < self.share(band)
    }

    /// Checks that each share is a number from 0 to 1.
    pub(super) fn validate(&self) -> Result<(), Error> {
        for band in [Band::Clear, Band::Notice, Band::Suspect, Band::Hostile] {
            let share = self.share(band);
            if !(0.0..=1.0).contains(&share) {
                let problem = format!("the policy's 'log.{}' is {share}", band.name());
                return Err(Error::new(problem, "use a share from 0 to 1"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(share: f64) -> Vec<usize> {
        let settings = LogSettings { clear: share, ..LogSettings::default() };
        let is_selected =
            |index: &usize| settings.selects(Band::Clear, &format!("request-{index}"));
        (0..20_000).filter(is_selected).collect()
    }

    #[test]
    fn the_share_of_selected_requests_is_the_share_of_the_policy() {
        for (share, min, max) in
            [(0.0, 0, 0), (0.01, 150, 250), (0.5, 9_700, 10_300), (1.0, 20_000, 20_000)]
        {
            let count = selected(share).len();
            assert!((min..=max).contains(&count), "{share}: {count}");
        }
    }

    #[test]
    fn a_larger_share_includes_the_requests_of_a_smaller_one() {
        let larger = selected(0.3);
        assert!(selected(0.1).iter().all(|index| larger.contains(index)));
    }

    #[test]
    fn only_clear_decisions_are_sampled_by_default() {
        let settings = LogSettings::default();
        for band in [Band::Notice, Band::Suspect, Band::Hostile] {
            assert!((0..100).all(|index| settings.selects(band, &index.to_string())), "{band:?}");
        }
    }

    #[test]
    fn shares_are_from_0_to_1() {
        for (share, expected) in
            [(0.0, true), (1.0, true), (-0.1, false), (1.1, false), (f64::NAN, false)]
        {
            let settings = LogSettings { suspect: share, ..LogSettings::default() };
            assert_eq!(settings.validate().is_ok(), expected, "{share}");
        }
    }
}
