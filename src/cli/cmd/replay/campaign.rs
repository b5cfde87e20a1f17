//! A recorded file as a campaign: how soon its accounts are found.

use std::collections::{HashMap, HashSet};

use hedgerow_core::correlate::cluster::Clusters;
use serde::Serialize;

/// What is known of a file's accounts while it is read.
#[derive(Default)]
pub struct CampaignTracker {
    /// Accounts, and whether they were flagged.
    accounts: HashMap<u64, bool>,
    /// Clusters of flagged accounts.
    clusters: HashSet<u32>,
    requests: usize,
    /// Requests that came before their account or its cluster was flagged.
    leaked: usize,
    first_flagged_request: Option<usize>,
}

/// The end of it.
#[derive(Clone, Debug, Serialize)]
pub struct CampaignStats {
    /// Accounts.
    pub accounts: usize,
    /// Accounts with a request that was suspect or worse.
    pub flagged: usize,
    /// Requests.
    pub exchanges: usize,
    /// Number of the request at which the first was flagged, from 1.
    pub first_flag_at: Option<usize>,
    /// Share of requests that came before their account's or their cluster's first flag.
    pub leakage: f64,
}

impl CampaignTracker {
    /// Counts a request of an account, as it is hashed, and whether it was suspect or worse.
    pub fn record(&mut self, account: u64, is_suspect: bool, clusters: &Clusters) {
        self.requests += 1;
        let cluster = clusters.for_account(account).map(|cluster| cluster.id);
        let is_flagged = self.accounts.entry(account).or_default();
        if is_suspect {
            *is_flagged = true;
            self.clusters.extend(cluster);
            self.first_flagged_request = self.first_flagged_request.or(Some(self.requests));
        } else if !*is_flagged && !cluster.is_some_and(|cluster| self.clusters.contains(&cluster)) {
            self.leaked += 1;
        }
    }

    /// The figures so far.
    pub fn stats(&self) -> CampaignStats {
        CampaignStats {
            accounts: self.accounts.len(),
            flagged: self.accounts.values().filter(|is_flagged| **is_flagged).count(),
            exchanges: self.requests,
            first_flag_at: self.first_flagged_request,
            leakage: if self.requests == 0 {
                0.0
            } else {
                self.leaked as f64 / self.requests as f64
            },
        }
    }
}
