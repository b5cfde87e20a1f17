//! Scores recorded requests one after the other, and makes the decisions that the edge would make.

use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::engine::{Evaluation, LocalEngine};
use hedgerow_core::http::unknown_parts::UnknownParts;
use hedgerow_core::{Decision, Ruleset};
use hedgerow_sigma::recorded::RecordedRequest;
use hedgerow_sigma::recorded_time::MIN_EPOCH_SECONDS;

use crate::account_ids::AccountIds;
use crate::dates::now;

/// A ruleset with the state of its correlations, and the time of the recording.
pub struct ReplayEngine<'r> {
    ruleset: &'r Ruleset,
    local_engine: LocalEngine<'r>,
    /// Last midnight in UTC, in seconds since the epoch. It is added to times that count from the
    /// start of a recording.
    midnight: u64,
    last_time: u64,
    account_ids: AccountIds,
}

/// A decision about a recorded request.
pub struct ReplayDecision {
    pub decision: Decision,
    /// Hash of the account in clusters.
    pub account_hash: u64,
}

impl<'r> ReplayEngine<'r> {
    /// Returns an engine without history. With `correlate`, indicators affect later requests.
    pub fn new(ruleset: &'r Ruleset, correlate: bool) -> Self {
        let now = now();
        let local_engine = LocalEngine::new(ruleset, correlate);
        Self {
            ruleset,
            local_engine,
            midnight: now - now % DAY_SECONDS,
            last_time: now,
            account_ids: AccountIds::new(),
        }
    }

    /// Returns the clusters so far.
    pub fn clusters(&self) -> &Clusters {
        self.local_engine.clusters()
    }

    /// Returns whether a request is an LLM call that cannot be judged, because its body is unknown.
    pub fn lacks_body(&self, recorded: &RecordedRequest) -> bool {
        let max_body = self.ruleset.policy().scan.max_body;
        recorded.unknown.intersects(UnknownParts::BODY)
            && self.ruleset.endpoint(&recorded.envelope(max_body, self.last_time)).is_some()
    }

    /// Decides about a request, and counts it for correlations. Returns `None` if the request is
    /// not an LLM call, or if its body is unknown. A request without a time gets the time of the
    /// previous request.
    pub fn evaluate(&mut self, recorded: &RecordedRequest) -> Option<ReplayDecision> {
        let now = match recorded.time {
            Some(time) if time < MIN_EPOCH_SECONDS => self.midnight.saturating_add(time as u64),
            Some(time) => time as u64,
            None => self.last_time,
        };
        self.last_time = now;
        if recorded.unknown.intersects(UnknownParts::BODY) {
            return None;
        }
        let policy = self.ruleset.policy();
        let envelope = recorded.envelope(policy.scan.max_body, now);
        let endpoint = self.ruleset.endpoint(&envelope)?;
        let principal = self.account_ids.principal(recorded, endpoint.dialect(), policy);
        let envelope = principal.envelope(envelope);
        let status = recorded.response_status.unwrap_or(200);
        let evaluation = self.local_engine.evaluate_as(endpoint, &envelope, status)?;
        let Evaluation { assessment, disposition, account, .. } = evaluation;
        let decision = Decision::new(self.ruleset, &envelope, assessment, disposition);
        Some(ReplayDecision { decision, account_hash: account })
    }
}

const DAY_SECONDS: u64 = 86_400;
