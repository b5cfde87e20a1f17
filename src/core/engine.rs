//! The filter with its correlator, indicators and clusters in one place: what replay and simulation use,
//! where nothing has to travel.
#![deny(clippy::arithmetic_side_effects)]

use std::sync::Arc;

use crate::correlate::cluster::Clusters;
use crate::correlate::indicator::{Indicator, Indicators};
use crate::correlate::{Correlator, Firing, Observation, Shard};
use crate::evaluate::decision::Assessment;
use crate::field::FieldId;
use crate::http::envelope::Envelope;
use crate::rules::policy::{Action, Disposition, Mode};
use crate::ruleset::Ruleset;

/// Judges one request after the other, as an edge with all its isolates would.
#[derive(Debug)]
pub struct LocalEngine<'r> {
    ruleset: &'r Ruleset,
    /// Whether requests are counted, and what that shows weighs.
    correlation_enabled: bool,
    correlator: Correlator,
    indicators: Indicators,
    clusters: Clusters,
    firings: Vec<Firing>,
    /// When expired indicators are forgotten next.
    next_prune_at: u32,
}

/// What a request came to.
#[derive(Debug)]
pub struct Evaluation {
    /// What scoring found.
    pub assessment: Assessment,
    /// Mode and actions.
    pub disposition: Disposition,
    /// The account, as it is hashed where it is counted.
    pub account: u64,
}

/// Seconds after which expired indicators are forgotten.
const PRUNE_INTERVAL_SECONDS: u32 = 3_600;

impl<'r> LocalEngine<'r> {
    /// Judges by a ruleset; unless it `counts`, each request alone.
    pub fn new(ruleset: &'r Ruleset, correlation_enabled: bool) -> Self {
        let settings = ruleset.policy().correlate;
        let memory = settings.memory.saturating_mul(settings.shards as usize);
        let plan = Arc::clone(ruleset.plan());
        Self {
            ruleset,
            correlation_enabled: correlation_enabled && !plan.is_empty(),
            correlator: Correlator::new(plan, Shard::ALL, memory),
            indicators: Indicators::default(),
            clusters: Clusters::default(),
            firings: Vec::new(),
            next_prune_at: 0,
        }
    }

    /// The clusters so far.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// What held by the last request.
    pub fn firings(&self) -> &[Firing] {
        &self.firings
    }

    /// Judges a request that was answered with `status`, and counts it; `None` where it is no LLM call.
    pub fn evaluate(&mut self, envelope: &Envelope<'_>, status: u16) -> Option<Evaluation> {
        self.firings.clear();
        let indicators = self.correlation_enabled.then_some(&self.indicators);
        let envelope = Envelope { indicators, ..envelope.clone() };
        let mut assessment = self.ruleset.assess(&envelope)?;
        let cluster = assessment.cluster_id(&envelope);
        let policy = self.ruleset.policy();
        let disposition =
            policy.disposition_in_cluster(cluster.as_deref(), envelope.path, envelope.account);
        let action = assessment.action(&disposition);
        let applied_action = if disposition.mode == Mode::Enforce { action } else { Action::Allow };
        let (hash_key, now) = (envelope.hash_key, envelope.now);
        let account = envelope.account.unwrap_or_default();
        let account = hash_key.keyed_hash(FieldId::Account.spec().name, account.as_bytes());
        if let Some(mut observation) = assessment.observation.take() {
            self.ruleset.record_outcome(&mut observation, &hash_key, status, applied_action);
            self.observe(&observation, u32::try_from(now).unwrap_or(u32::MAX));
        }
        Some(Evaluation { assessment, disposition, account })
    }

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
            let cluster = match correlation.links_accounts() {
                true => self.clusters.link(name, firing.key, &firing.accounts, firing.at),
                false => 0,
            };
            let expires = firing.at.saturating_add(correlation.ttl);
            self.indicators.add(Indicator { correlation: name, key: firing.key, expires, cluster });
        }
    }
}
