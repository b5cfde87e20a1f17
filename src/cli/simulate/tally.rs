//! Counts what the filter made of a scenario.

use std::collections::{HashMap, HashSet};

use hedgerow::Ruleset;
use hedgerow::cluster::Clusters;
use hedgerow::policy::Band;
use serde::Serialize;

use super::account::Account;
use super::engine::Verdict;
use super::source::Source;
use super::world::{Sent, World};

/// What has been counted so far.
pub struct Tally {
    pub requests: u64,
    /// By source.
    pub sources: Vec<Counts>,
    /// By signature, in the ruleset's order, correlations last.
    pub fired: Vec<Fired>,
    /// Whether an account is a campaign's, by its hash.
    campaigns: HashMap<u64, bool>,
    /// Clusters of which an account was flagged.
    clusters: HashSet<u32>,
    /// The place of the first correlation among signatures.
    first: usize,
}

/// Counts of a source.
#[derive(Clone, Default)]
pub struct Counts {
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
    pub flags: Vec<u64>,
}

/// How often a correlation came to hold, by whose accounts its key had.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Fired {
    pub campaign: u64,
    pub benign: u64,
    pub both: u64,
}

impl Tally {
    pub fn new(ruleset: &Ruleset, sources: usize) -> Self {
        let signatures = ruleset.signatures().len();
        let counts =
            Counts { hits: vec![0; signatures], flags: vec![0; signatures], ..Counts::default() };
        Self {
            requests: 0,
            sources: vec![counts; sources],
            fired: vec![Fired::default(); signatures],
            campaigns: HashMap::new(),
            clusters: HashSet::new(),
            first: ruleset.first_correlation(),
        }
    }

    /// Counts a request and what was found.
    pub fn add(&mut self, world: &mut World, sent: Sent, verdict: &Verdict<'_>) {
        let World { sources, accounts, .. } = world;
        let Some(account) = accounts.get_mut(sent.account) else { return };
        let Some(source) = sources.get(account.source) else { return };
        let Some(counts) = self.sources.get_mut(account.source) else { return };
        self.requests += 1;
        counts.requests += 1;
        if account.requests == 0 {
            account.hash = verdict.account;
            self.campaigns.insert(verdict.account, source.campaign.is_some());
        }
        account.requests += 1;
        counts.add(account, source, sent, verdict);
        for firing in verdict.firings {
            let of = firing.accounts.iter().filter_map(|account| self.campaigns.get(account));
            let (mut ours, mut theirs) = (false, false);
            of.for_each(|is_campaign| if *is_campaign { theirs = true } else { ours = true });
            if let Some(fired) = self.fired.get_mut(self.first + firing.correlation) {
                match (theirs, ours) {
                    (true, true) => fired.both += 1,
                    (true, false) => fired.campaign += 1,
                    (false, _) => fired.benign += 1,
                }
            }
        }
    }

    /// Counts whether a request leaked: neither its account nor its cluster has been flagged. To be told
    /// once the request has been counted by the correlator, too.
    pub fn leaks(&mut self, account: &Account, clusters: &Clusters, status: u16) {
        let cluster = clusters.of_account(account.hash);
        let is_flagged = account.flagged > 0;
        if let Some(cluster) = cluster.filter(|_| is_flagged) {
            self.clusters.insert(cluster.id);
        }
        let is_known =
            is_flagged || cluster.is_some_and(|cluster| self.clusters.contains(&cluster.id));
        if !is_known
            && status == 200
            && let Some(counts) = self.sources.get_mut(account.source)
        {
            counts.leaked += 1;
        }
    }
}

impl Counts {
    fn add(&mut self, account: &mut Account, source: &Source, sent: Sent, verdict: &Verdict<'_>) {
        if sent.status == 200 {
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
        if account.flagged > 0 {
            return;
        }
        account.flagged = self.exchanges.max(1);
        account.after = account.requests.max(1);
        for hit in &verdict.hits {
            if let Some(flags) = self.flags.get_mut(*hit) {
                *flags += 1;
            }
        }
        let hours = source.campaign.as_ref().and_then(|campaign| campaign.banned_after);
        // Half as long or half as much again, by the account: people look at them one by one.
        let share = 0.5 + (account.hash % 1_000) as f64 / 1_000.0;
        account.banned = hours.map(|hours| sent.at + (hours * share * 3_600_000.0) as u64);
    }
}
