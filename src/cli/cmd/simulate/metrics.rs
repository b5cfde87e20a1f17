//! Counts what the filter made of a scenario.

use std::collections::{HashMap, HashSet};

use hedgerow_core::Ruleset;
use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::rules::policy::Band;
use serde::Serialize;

use super::account::Account;
use super::engine::Verdict;
use super::simulation::{SentRequest, Simulation};
use super::traffic_source::TrafficSource;

/// What has been counted so far.
pub struct Metrics {
    pub requests: u64,
    /// By source.
    pub sources: Vec<SourceCounts>,
    /// By signature, in the ruleset's order, correlations last.
    pub firings: Vec<FiringCounts>,
    /// Whether an account is a campaign's, by its hash.
    is_campaign_account: HashMap<u64, bool>,
    /// Clusters of which an account was flagged.
    flagged_clusters: HashSet<u32>,
    /// The place of the first correlation among signatures.
    first_correlation: usize,
}

/// Counts of a source.
#[derive(Clone, Default)]
pub struct SourceCounts {
    pub requests: u64,
    /// Requests that were answered.
    pub exchanges: u32,
    /// Requests that came before their account, or its cluster, was flagged.
    pub leaked: u32,
    /// Requests that reached suspect.
    pub suspect: u64,
    /// By signature: requests for which it held.
    pub hits: Vec<u64>,
    /// And accounts that were flagged by such a request.
    pub flagged_accounts: Vec<u64>,
}

/// How often a correlation came to hold, by whose accounts its key had.
#[derive(Clone, Copy, Default, Serialize)]
pub struct FiringCounts {
    pub campaign: u64,
    pub benign: u64,
    pub both: u64,
}

impl Metrics {
    pub fn new(ruleset: &Ruleset, sources: usize) -> Self {
        let signatures = ruleset.signatures().len();
        let counts = SourceCounts {
            hits: vec![0; signatures],
            flagged_accounts: vec![0; signatures],
            ..SourceCounts::default()
        };
        Self {
            requests: 0,
            sources: vec![counts; sources],
            firings: vec![FiringCounts::default(); signatures],
            is_campaign_account: HashMap::new(),
            flagged_clusters: HashSet::new(),
            first_correlation: ruleset.first_correlation_index(),
        }
    }

    /// Counts a request and what was found.
    pub fn record(
        &mut self,
        simulation: &mut Simulation,
        request: SentRequest,
        verdict: &Verdict<'_>,
    ) {
        let Simulation { sources, accounts, .. } = simulation;
        let Some(account) = accounts.get_mut(request.account) else { return };
        let Some(source) = sources.get(account.source) else { return };
        let Some(counts) = self.sources.get_mut(account.source) else { return };
        self.requests += 1;
        counts.requests += 1;
        if account.requests == 0 {
            account.hash = verdict.account;
            self.is_campaign_account.insert(verdict.account, source.campaign.is_some());
        }
        account.requests += 1;
        counts.record(account, source, request, verdict);
        for firing in verdict.firings {
            let sides =
                firing.accounts.iter().filter_map(|account| self.is_campaign_account.get(account));
            let (mut has_benign, mut has_campaign) = (false, false);
            sides.for_each(
                |is_campaign| if *is_campaign { has_campaign = true } else { has_benign = true },
            );
            if let Some(firing_counts) =
                self.firings.get_mut(self.first_correlation + firing.correlation)
            {
                match (has_campaign, has_benign) {
                    (true, true) => firing_counts.both += 1,
                    (true, false) => firing_counts.campaign += 1,
                    (false, _) => firing_counts.benign += 1,
                }
            }
        }
    }

    /// Counts whether a request leaked: neither its account nor its cluster has been flagged. To be told
    /// once the request has been counted by the correlator, too.
    pub fn record_leak(&mut self, account: &Account, clusters: &Clusters, status: u16) {
        let cluster = clusters.for_account(account.hash);
        let is_flagged = account.flagged_at_exchange > 0;
        if let Some(cluster) = cluster.filter(|_| is_flagged) {
            self.flagged_clusters.insert(cluster.id);
        }
        let is_detected = is_flagged
            || cluster.is_some_and(|cluster| self.flagged_clusters.contains(&cluster.id));
        if !is_detected
            && status == 200
            && let Some(counts) = self.sources.get_mut(account.source)
        {
            counts.leaked += 1;
        }
    }
}

impl SourceCounts {
    fn record(
        &mut self,
        account: &mut Account,
        source: &TrafficSource,
        request: SentRequest,
        verdict: &Verdict<'_>,
    ) {
        if request.status == 200 {
            self.exchanges += 1;
        }
        account.is_blocked |= verdict.is_blocked;
        for hit in &verdict.hits {
            if let Some(hits) = self.hits.get_mut(*hit) {
                *hits += 1;
            }
        }
        if verdict.band < Band::Suspect {
            return;
        }
        self.suspect += 1;
        if account.flagged_at_exchange > 0 {
            return;
        }
        account.flagged_at_exchange = self.exchanges.max(1);
        account.flagged_at_request = account.requests.max(1);
        for hit in &verdict.hits {
            if let Some(flagged_accounts) = self.flagged_accounts.get_mut(*hit) {
                *flagged_accounts += 1;
            }
        }
        let ban_hours = source.campaign.as_ref().and_then(|campaign| campaign.banned_after);
        // Half as long or half as much again, by the account: people look at them one by one.
        let factor = 0.5 + (account.hash % 1_000) as f64 / 1_000.0;
        account.banned_at =
            ban_hours.map(|hours| request.at_ms + (hours * factor * 3_600_000.0) as u64);
    }
}
