//! A firing as a correlator reports it to the registry.

use std::collections::BTreeMap;

use hedgerow_core::correlate::indicator::{Indicator, Indicators};
use hedgerow_core::correlate::{Firing, Plan};
use serde::{Deserialize, Serialize};

/// A correlation that holds for a group. JSON of `POST /firings`, and of the table `firing`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FiringReport {
    /// Name of the correlation.
    pub correlation: String,
    /// Key of the group, 16 hex digits: a JSON number cannot hold 64 bits.
    pub key: String,
    /// Time of the firing, in seconds since the epoch.
    pub at: u32,
    /// Time until which the indicator is active, in seconds since the epoch.
    pub expires: u32,
    /// The measured value that met the threshold, in the unit of the correlation's measure.
    pub measured: f64,
    /// The threshold, as a sentence for people.
    pub threshold: String,
    /// Whether the accounts are linked to a cluster.
    pub links_accounts: bool,
    /// Accounts of the group, 16 hex digits each; a sample of a large group.
    pub accounts: Vec<String>,
}

impl FiringReport {
    /// Converts a firing; `None` if `plan` does not have its correlation. The account 0, a request
    /// without credential, is left out.
    pub fn from_firing(firing: &Firing, plan: &Plan) -> Option<Self> {
        let correlation = plan.correlations().get(firing.correlation)?;
        let hex = |hash: &u64| format!("{hash:016x}");
        Some(Self {
            correlation: correlation.name.clone(),
            key: hex(&firing.key),
            at: firing.at,
            expires: firing.at.saturating_add(correlation.ttl),
            measured: firing.value,
            threshold: correlation.describe(),
            links_accounts: correlation.links_accounts(),
            accounts: firing.accounts.iter().filter(|account| **account != 0).map(hex).collect(),
        })
    }
}

/// Encodes firings as packed indicators, the answer to an isolate. `clusters` has the cluster ids
/// by key, both in hex; a key without a cluster gets cluster 0.
pub fn encode_indicators(firings: &[FiringReport], clusters: &BTreeMap<String, String>) -> Vec<u8> {
    let mut indicators = Indicators::default();
    for FiringReport { correlation, key, expires, .. } in firings {
        let cluster = clusters.get(key).and_then(|id| u32::from_str_radix(id, 16).ok());
        let (cluster, expires) = (cluster.unwrap_or(0), *expires);
        if let Ok(key) = u64::from_str_radix(key, 16) {
            indicators.add(Indicator { correlation, key, expires, cluster });
        }
    }
    indicators.encode()
}
