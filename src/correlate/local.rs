//! The filter with its correlator, indicators and clusters in one place: what replay and simulation use,
//! where nothing has to travel.
#![deny(clippy::arithmetic_side_effects)]

use std::sync::Arc;

use super::{Correlator, Firing, Observation, Shard};
use crate::cluster::Clusters;
use crate::decision::Assessment;
use crate::field::Name;
use crate::indicator::{Indicator, Indicators};
use crate::policy::{Action, Mode, Treatment};
use crate::request::Envelope;
use crate::ruleset::Ruleset;

/// Judges one request after the other, as an edge with all its isolates would.
#[derive(Debug)]
pub struct Local<'r> {
    ruleset: &'r Ruleset,
    /// Whether requests are counted, and what that shows weighs.
    counts: bool,
    correlator: Correlator,
    indicators: Indicators,
    clusters: Clusters,
    firings: Vec<Firing>,
    /// When expired indicators are forgotten next.
    tidy: u32,
}

/// What a request came to.
#[derive(Debug)]
pub struct Judged {
    /// What scoring found.
    pub assessment: Assessment,
    /// Mode and actions.
    pub treatment: Treatment,
    /// The account, as it is hashed where it is counted.
    pub account: u64,
}

/// Seconds after which expired indicators are forgotten.
const TIDY: u32 = 3_600;

impl<'r> Local<'r> {
    /// Judges by a ruleset; unless it `counts`, each request alone.
    pub fn new(ruleset: &'r Ruleset, counts: bool) -> Self {
        let correlate = ruleset.policy().correlate;
        let memory = correlate.memory.saturating_mul(correlate.shards as usize);
        let plan = Arc::clone(ruleset.plan());
        Self {
            ruleset,
            counts: counts && !plan.is_empty(),
            correlator: Correlator::new(plan, Shard::WHOLE, memory),
            indicators: Indicators::default(),
            clusters: Clusters::default(),
            firings: Vec::new(),
            tidy: 0,
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
    pub fn judge(&mut self, envelope: &Envelope<'_>, status: u16) -> Option<Judged> {
        self.firings.clear();
        let indicators = self.counts.then_some(&self.indicators);
        let envelope = Envelope { indicators, ..envelope.clone() };
        let mut assessment = self.ruleset.assess(&envelope)?;
        let cluster = assessment.cluster(&envelope);
        let policy = self.ruleset.policy();
        let treatment = policy.treatment_in(cluster.as_deref(), envelope.path, envelope.account);
        let action = assessment.action(&treatment);
        let done = if treatment.mode == Mode::Enforce { action } else { Action::Allow };
        let (key, now) = (envelope.key, envelope.now);
        let account = envelope.account.unwrap_or_default();
        let account = key.value(Name::Account.row().name, account.as_bytes());
        if let Some(mut observation) = assessment.observation.take() {
            self.ruleset.conclude(&mut observation, &key, status, done);
            self.observe(&observation, u32::try_from(now).unwrap_or(u32::MAX));
        }
        Some(Judged { assessment, treatment, account })
    }

    fn observe(&mut self, observation: &Observation, now: u32) {
        if now >= self.tidy {
            self.tidy = now.saturating_add(TIDY);
            self.indicators = self.indicators.only(u64::from(now), |_| true);
        }
        self.correlator.observe(observation, now, &mut self.firings);
        let plan = self.ruleset.plan();
        for firing in &self.firings {
            let Some(correlation) = plan.correlations().get(firing.correlation) else { continue };
            let name = correlation.name.as_str();
            let cluster = match correlation.links() {
                true => self.clusters.link(name, firing.key, &firing.accounts, firing.at),
                false => 0,
            };
            let expires = firing.at.saturating_add(correlation.lasts);
            self.indicators.add(Indicator { correlation: name, key: firing.key, expires, cluster });
        }
    }
}
