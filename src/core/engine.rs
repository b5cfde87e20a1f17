//! The local engine runs filter, correlator, indicators and clusters in one process, for offline
//! use.
//!
//! `hedgerow replay` and `hedgerow simulate` use the engine. It decides like a deployment in which
//! observations and indicators arrive without delay.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashSet;
use std::sync::Arc;

use crate::correlate::cluster::{Clusters, Linked};
use crate::correlate::indicator::{Indicator, Indicators};
use crate::correlate::{Correlator, Firing, Observation, Shard};
use crate::evaluate::decision::Assessment;
use crate::field::FieldId;
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::identity::kind::AccountKind;
use crate::rules::policy::{Action, Disposition, Mode};
use crate::ruleset::Ruleset;

/// Seconds between two removals of expired indicators.
const PRUNE_INTERVAL_SECONDS: u32 = 3_600;

/// Evaluates requests one after another and keeps the history that correlations need.
#[derive(Debug)]
pub struct LocalEngine<'r> {
    ruleset: &'r Ruleset,
    correlation_enabled: bool,
    correlator: Correlator,
    indicators: Indicators,
    clusters: Clusters,
    /// Keyed hashes of the accounts to which the origin has answered with success.
    proven_accounts: HashSet<u64>,
    /// Firings of the latest request.
    firings: Vec<Firing>,
    /// Time of the next removal of expired indicators, in seconds since the epoch.
    next_prune_at: u32,
}

/// The result of evaluating a request.
#[derive(Debug)]
pub struct Evaluation {
    /// Assessment with hits and score.
    pub assessment: Assessment,
    /// Mode and actions that apply to the request.
    pub disposition: Disposition,
    /// Action that the policy gives for the request. Mode Shadow only records this action.
    pub action: Action,
    /// Keyed hash of the account; the hash of an empty text if the request has no account.
    pub account: u64,
}

impl<'r> LocalEngine<'r> {
    /// Creates an engine without history. If correlation is disabled, earlier requests have no
    /// influence on the evaluation of a request.
    pub fn new(ruleset: &'r Ruleset, correlation_enabled: bool) -> Self {
        let settings = ruleset.policy().correlate;
        let max_bytes = settings.memory.saturating_mul(settings.shards as usize);
        let plan = Arc::clone(ruleset.plan());
        Self {
            ruleset,
            correlation_enabled: correlation_enabled && !plan.is_empty(),
            correlator: Correlator::new(plan, Shard::ALL, max_bytes),
            indicators: Indicators::default(),
            clusters: Clusters::default(),
            proven_accounts: HashSet::new(),
            firings: Vec::new(),
            next_prune_at: 0,
        }
    }

    /// Returns the clusters that were found so far.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Returns the indicators that were found so far.
    pub fn indicators(&self) -> &Indicators {
        &self.indicators
    }

    /// Returns the firings of the latest request.
    pub fn firings(&self) -> &[Firing] {
        &self.firings
    }

    /// Evaluates a request and counts it in the correlations. `status` is the HTTP status of its
    /// response. Returns `None` if the request is not an LLM call.
    pub fn evaluate(&mut self, envelope: &Envelope<'_>, status: u16) -> Option<Evaluation> {
        self.evaluate_as(self.ruleset.endpoint(envelope)?, envelope, status)
    }

    /// Evaluates a request like [`LocalEngine::evaluate`]. `endpoint` is the result of
    /// [`Ruleset::endpoint`] for this request.
    pub fn evaluate_as(
        &mut self,
        endpoint: Endpoint,
        envelope: &Envelope<'_>,
        status: u16,
    ) -> Option<Evaluation> {
        self.firings.clear();
        let indicators = self.correlation_enabled.then_some(&self.indicators);
        let envelope = Envelope { indicators, ..envelope.clone() };
        let mut assessment = self.ruleset.assess_as(endpoint, &envelope)?;
        let policy = self.ruleset.policy();
        let attributes = envelope.attributes(assessment.model.as_deref());
        let disposition = policy.disposition_in_clusters(&assessment.clusters, &attributes);
        let (action, _) = assessment.action(policy, &disposition);
        let applied_action = if disposition.mode == Mode::Enforce { action } else { Action::Allow };
        let hash_key = envelope.hash_key;
        let account = envelope.account.unwrap_or_default();
        let account = hash_key.keyed_hash(FieldId::Account.spec().name, account.as_bytes());
        let now = u32::try_from(envelope.now).unwrap_or(u32::MAX);
        if let Some(mut observation) = assessment.observation.take() {
            observation.proven = self.proven_accounts.contains(&account);
            self.ruleset.record_outcome(&mut observation, &hash_key, status, applied_action);
            if observation.proven {
                self.proven_accounts.insert(account);
            }
            let is_claim = envelope.account_kind.is_some_and(AccountKind::is_claim);
            if is_claim && !observation.proven {
                observation.replace_unconfirmed_account(&hash_key);
            }
            self.observe(&observation, now);
        }
        Some(Evaluation { assessment, disposition, action, account })
    }

    /// Counts an observation in the correlations. Each firing that results becomes an indicator. If
    /// the correlation links accounts, the accounts of the firing join one cluster.
    fn observe(&mut self, observation: &Observation, now: u32) {
        if now >= self.next_prune_at {
            self.next_prune_at = now.saturating_add(PRUNE_INTERVAL_SECONDS);
            self.indicators = self.indicators.without_expired(u64::from(now), |_| true);
        }
        self.correlator.observe(observation, now, &mut self.firings);
        let plan = self.ruleset.plan();
        for firing in &self.firings {
            let Some(correlation) = plan.correlations().get(firing.correlation) else { continue };
            let name = correlation.name.as_str();
            let linked = if correlation.links_accounts() {
                self.clusters.link(name, firing.key, &firing.accounts, firing.at)
            } else {
                None
            };
            let Linked { id: cluster, merged, .. } = linked.unwrap_or_default();
            merged.iter().for_each(|alias| self.indicators.add_alias(*alias, cluster));
            let expires = firing.at.saturating_add(correlation.ttl);
            self.indicators.add(Indicator { correlation: name, key: firing.key, expires, cluster });
        }
    }
}
