//! Measures how soon the accounts of a campaign are flagged. The requests of one recorded file are
//! taken for one campaign. An account is flagged by its first suspect request.

use std::collections::{HashMap, HashSet};

use hedgerow_core::correlate::cluster::Clusters;
use serde::Serialize;

/// The accounts of a file, updated while the file is read.
#[derive(Default)]
pub struct CampaignTracker {
    /// Accounts by hash, and whether they were flagged.
    accounts: HashMap<u64, bool>,
    /// Ids of the clusters of flagged accounts.
    clusters: HashSet<u32>,
    requests: usize,
    /// Number of requests that came before their account, or any account of its cluster, was
    /// flagged.
    leaked: usize,
    first_flagged_request: Option<usize>,
}

/// The measures of a file.
#[derive(Clone, Debug, Serialize)]
pub struct CampaignStats {
    /// Number of accounts in the file.
    pub accounts: usize,
    /// Number of accounts with a request that was suspect or worse.
    pub flagged: usize,
    /// Number of requests in the file.
    #[serde(rename = "exchanges")]
    pub requests: usize,
    /// Position in the file, from 1, of the first request that flagged an account.
    pub first_flag_at: Option<usize>,
    /// Share, from 0 to 1, of the requests that came before their account, or any account of its
    /// cluster, was flagged.
    pub leakage: f64,
}

impl CampaignTracker {
    /// Counts a request. `account` is the hash of its account; `is_suspect` is true if the request
    /// was suspect or worse.
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

    /// Returns the measures so far.
    pub fn stats(&self) -> CampaignStats {
        CampaignStats {
            accounts: self.accounts.len(),
            flagged: self.accounts.values().filter(|is_flagged| **is_flagged).count(),
            requests: self.requests,
            first_flag_at: self.first_flagged_request,
            leakage: if self.requests == 0 {
                0.0
            } else {
                self.leaked as f64 / self.requests as f64
            },
        }
    }
}
