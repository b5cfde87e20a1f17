//! Counts the results of a simulation.

use std::collections::{HashMap, HashSet};

use hedgerow_core::Ruleset;
use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::rules::policy::Band;
use serde::Serialize;

use super::account::Account;
use super::engine::Verdict;
use super::simulation::{SentRequest, Simulation};
use super::traffic_source::TrafficSource;

/// The counts so far.
pub struct Metrics {
    pub requests: u64,
    /// Counts of each source, in the order of the simulation's sources.
    pub sources: Vec<SourceCounts>,
    /// Firings of each signature, in the order of the ruleset, in which correlations are last. Only
    /// correlations have counts above 0.
    pub firings: Vec<FiringCounts>,
    /// Whether an account belongs to a campaign, by the hash of the account.
    is_campaign_account: HashMap<u64, bool>,
    /// Ids of clusters with a flagged account.
    flagged_clusters: HashSet<u32>,
    /// Index of the first correlation among the signatures.
    first_correlation: usize,
}

/// The counts of a source.
#[derive(Clone, Default)]
pub struct SourceCounts {
    pub requests: u64,
    /// Exchanges: requests that the origin answered with status 200.
    pub exchanges: u32,
    /// Exchanges that came before their account, or any account of its cluster, was flagged.
    pub leaked: u32,
    /// Requests that were notice or worse.
    pub notice: u64,
    /// Requests that were suspect or worse.
    pub suspect: u64,
    /// Number of requests that each signature matched, by index of the signature.
    pub hits: Vec<u64>,
    /// By index of the signature: number of accounts whose first suspect request the signature
    /// matched.
    pub flagged_accounts: Vec<u64>,
}

/// The number of firings of a correlation, by whether the accounts of the key belong to campaigns,
/// to benign sources, or to both.
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

    /// Counts a request and its assessment.
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
            let has_accounts_of = |campaign: bool| {
                let owners = firing.accounts.iter();
                owners
                    .filter_map(|account| self.is_campaign_account.get(account))
                    .any(|is_campaign| *is_campaign == campaign)
            };
            let (has_campaign, has_benign) = (has_accounts_of(true), has_accounts_of(false));
            let index = self.first_correlation + firing.correlation;
            let Some(firing_counts) = self.firings.get_mut(index) else { continue };
            match (has_campaign, has_benign) {
                (true, true) => firing_counts.both += 1,
                (true, false) => firing_counts.campaign += 1,
                (false, _) => firing_counts.benign += 1,
            }
        }
    }

    /// Counts a request as leaked if the origin answered it with status 200, and neither its
    /// account nor any account of its cluster is flagged. Must be called after
    /// [`record`](Self::record) for the same request.
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
    /// Counts a request. The first suspect request of an account flags the account, and sets the
    /// time of the account's ban.
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
        self.notice += u64::from(verdict.band >= Band::Notice);
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
        // The delay is multiplied by a factor from 0.5 to 1.5, which differs by account, because
        // people review accounts one by one.
        let factor = 0.5 + (account.hash % 1_000) as f64 / 1_000.0;
        account.banned_at =
            ban_hours.map(|hours| request.at_ms + (hours * factor * 3_600_000.0) as u64);
    }
}
