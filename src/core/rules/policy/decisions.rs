//! Settings of the decisions that the ledger stores.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Settings of the stored decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionSettings {
    /// Days for which the ledger keeps enforced decisions.
    pub keep_days: u64,
    /// Maximum bytes of the enforced decisions that each object of the ledger keeps. If they need
    /// more, the oldest ones are deleted.
    pub max_bytes: u64,
}

/// Maximum value of `decisions.keep_days`.
pub const MAX_KEEP_DAYS: u64 = 90;

/// Minimum value of `decisions.max_bytes`.
pub const MIN_DECISION_BYTES: u64 = 1 << 20;

/// Maximum value of `decisions.max_bytes`. The database of a Durable Object has at most 10 GB.
pub const MAX_DECISION_BYTES: u64 = 4 << 30;

impl DecisionSettings {
    /// Returns whether all settings have their defaults.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that both numbers are within their limits.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let rows = [
            ("keep_days", self.keep_days, 1, MAX_KEEP_DAYS),
            ("max_bytes", self.max_bytes, MIN_DECISION_BYTES, MAX_DECISION_BYTES),
        ];
        for (name, value, min, max) in rows {
            if !(min..=max).contains(&value) {
                let problem = format!("the policy's 'decisions.{name}' is {value}");
                return Err(Error::new(problem, format!("use a number from {min} to {max}")));
            }
        }
        Ok(())
    }
}

impl Default for DecisionSettings {
    fn default() -> Self {
        Self { keep_days: 30, max_bytes: 256 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_within_their_limits() {
        let rows = [
            (30, 256 << 20, true),
            (1, 1 << 20, true),
            (90, 4 << 30, true),
            (0, 256 << 20, false),
            (91, 256 << 20, false),
            (30, (1 << 20) - 1, false),
            (30, (4 << 30) + 1, false),
        ];
        for (keep_days, max_bytes, expected) in rows {
            let settings = DecisionSettings { keep_days, max_bytes };
            assert_eq!(settings.validate().is_ok(), expected, "{settings:?}");
        }
    }
}
