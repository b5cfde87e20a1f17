//! `GET /series`: counts over time.

use serde::{Deserialize, Serialize};

use super::traffic::Counts;
use crate::rules::release::RulesetRole;

/// The response of `GET /series`. Each list named `points`, and each list in `bands` and `actions`,
/// has one number per step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Series {
    /// Length of the period in minutes.
    pub minutes: u64,
    /// Seconds per step.
    pub step: u64,
    /// Start of each step.
    pub at: Vec<u64>,
    /// Requests by band.
    pub bands: BandSeries,
    /// Requests by action.
    pub actions: ActionSeries,
    /// Requests by score: twenty buckets of five points, from 0 to 100.
    pub scores: Vec<u64>,
    /// Hits of signatures, lists and correlations, the most frequent first; at most 50.
    pub signatures: Vec<SignatureSeries>,
    /// Failures of Hedgerow, the most frequent first; at most 50.
    pub errors: Vec<ErrorSeries>,
    /// Requests by the ruleset that decided.
    pub rulesets: Vec<RulesetTraffic>,
}

/// Requests by band, one number per step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct BandSeries {
    /// Requests in band clear.
    pub clear: Vec<u64>,
    /// Requests in band notice.
    pub notice: Vec<u64>,
    /// Requests in band suspect.
    pub suspect: Vec<u64>,
    /// Requests in band hostile.
    pub hostile: Vec<u64>,
}

/// Requests by action, one number per step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ActionSeries {
    /// Requests with action allow.
    pub allow: Vec<u64>,
    /// Requests with action tag.
    pub tag: Vec<u64>,
    /// Requests with action degrade.
    pub degrade: Vec<u64>,
    /// Requests with action throttle.
    pub throttle: Vec<u64>,
    /// Requests with action block.
    pub block: Vec<u64>,
}

/// Hits of a signature, list or correlation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct SignatureSeries {
    /// Name of the signature, list or correlation.
    pub name: String,
    /// Number of requests that the signature, list or correlation hit in the period.
    pub hits: u64,
    /// Hits by step.
    pub points: Vec<u64>,
}

/// A failure of Hedgerow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ErrorSeries {
    /// Description of the failure.
    pub message: String,
    /// Number of failures in the period.
    pub count: u64,
    /// Failures by step.
    pub points: Vec<u64>,
}

/// Requests that one ruleset decided in one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RulesetTraffic {
    /// Digest of the bundle.
    pub ruleset: String,
    /// Serial of the release; 0 if there was no release.
    pub serial: u64,
    /// Role of the ruleset: the reason why it decided.
    pub role: RulesetRole,
    /// Number of requests in the period.
    pub requests: u64,
    /// Requests by band.
    pub bands: Counts,
}
