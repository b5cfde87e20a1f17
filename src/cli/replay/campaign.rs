//! A recorded file as a campaign: how soon its accounts are found.

use std::collections::{HashMap, HashSet};

use hedgerow::cluster::Clusters;
use serde::Serialize;

/// What is known of a file's accounts while it is read.
#[derive(Default)]
pub struct Campaign {
    /// Accounts, and whether they were flagged.
    accounts: HashMap<u64, bool>,
    /// Clusters of flagged accounts.
    clusters: HashSet<u32>,
    requests: usize,
    /// Requests that came before their account or its cluster was flagged.
    leaked: usize,
    first_flag: Option<usize>,
}

/// The end of it.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
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

impl Campaign {
    /// Counts a request of an account, as it is hashed, and whether it was suspect or worse.
    pub fn add(&mut self, account: u64, is_suspect: bool, clusters: &Clusters) {
        self.requests += 1;
        let cluster = clusters.of_account(account).map(|cluster| cluster.id);
        let flagged = self.accounts.entry(account).or_default();
        if is_suspect {
            *flagged = true;
            self.clusters.extend(cluster);
            self.first_flag = self.first_flag.or(Some(self.requests));
        } else if !*flagged && !cluster.is_some_and(|cluster| self.clusters.contains(&cluster)) {
            self.leaked += 1;
        }
    }

    /// The figures so far.
    pub fn figures(&self) -> Figures {
        Figures {
            accounts: self.accounts.len(),
            flagged: self.accounts.values().filter(|flagged| **flagged).count(),
            exchanges: self.requests,
            first_flag_at: self.first_flag,
            leakage: if self.requests == 0 {
                0.0
            } else {
                self.leaked as f64 / self.requests as f64
            },
        }
    }
}
