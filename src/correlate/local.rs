//! A correlator with its indicators and clusters in one place: what replay and simulation use, where
//! nothing has to travel.
#![deny(clippy::arithmetic_side_effects)]

use std::sync::Arc;

use super::{Correlator, Firing, Observation, Plan, Shard};
use crate::cluster::Clusters;
use crate::indicator::{Indicator, Indicators};

/// Counts requests, and remembers what that showed.
#[derive(Debug)]
pub struct Local {
    plan: Arc<Plan>,
    correlator: Correlator,
    indicators: Indicators,
    clusters: Clusters,
    firings: Vec<Firing>,
    /// When expired indicators are forgotten next.
    tidy: u32,
}

/// Seconds after which expired indicators are forgotten.
const TIDY: u32 = 3_600;

impl Local {
    /// Counts for a plan, with `memory` bytes for groups.
    pub fn new(plan: Arc<Plan>, memory: usize) -> Self {
        let correlator = Correlator::new(Arc::clone(&plan), Shard::WHOLE, memory);
        let (indicators, clusters) = (Indicators::default(), Clusters::default());
        Self { plan, correlator, indicators, clusters, firings: Vec::new(), tidy: 0 }
    }

    /// The indicators so far.
    pub fn indicators(&self) -> &Indicators {
        &self.indicators
    }

    /// The clusters so far.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// The correlator.
    pub fn correlator(&self) -> &Correlator {
        &self.correlator
    }

    /// Counts a request; what held by it.
    pub fn observe(&mut self, observation: &Observation, now: u32) -> &[Firing] {
        if now >= self.tidy {
            self.tidy = now.saturating_add(TIDY);
            self.indicators = self.indicators.only(u64::from(now), |_| true);
        }
        self.firings.clear();
        self.correlator.observe(observation, now, &mut self.firings);
        for firing in &self.firings {
            let Some(correlation) = self.plan.correlations().get(firing.correlation) else {
                continue;
            };
            let name = correlation.name.as_str();
            let cluster = match correlation.links() {
                true => self.clusters.link(name, firing.key, &firing.accounts, firing.at),
                false => 0,
            };
            let expires = firing.at.saturating_add(correlation.lasts);
            self.indicators.add(Indicator { correlation: name, key: firing.key, expires, cluster });
        }
        &self.firings
    }
}
