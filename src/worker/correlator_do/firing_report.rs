//! A firing as a correlator reports it to the registry.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_core::correlate::indicator::strength::Strength;
use hedgerow_core::correlate::indicator::{Indicator, Indicators};
use hedgerow_core::correlate::{Cause, Firing, Plan};
use serde::{Deserialize, Serialize};

/// A firing: a correlation that holds for a group. The JSON form is used in `POST /firings` and in
/// the table `firing`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FiringReport {
    /// Name of the correlation.
    pub correlation: String,
    /// Key of the group, as 16 hex digits: a JSON number cannot hold 64 bits exactly.
    pub key: String,
    /// Time of the firing, in seconds since the epoch.
    pub at: u32,
    /// Time until which the indicator is active, in seconds since the epoch.
    pub expires: u32,
    /// The measured value that met the threshold, in the unit of the correlation's measure.
    pub measured: f64,
    /// The threshold, as a sentence that the console and the CLI show.
    pub threshold: String,
    /// Whether the firing links its accounts to one cluster.
    pub links_accounts: bool,
    /// Accounts of the group, 16 hex digits each; a sample of a large group.
    pub accounts: Vec<String>,
    /// Account of the request at which the correlation fired, as 16 hex digits; `None` if it is
    /// unknown.
    #[serde(default)]
    pub account: Option<String>,
    /// Hash of the tenant of that request, as 16 hex digits; `None` if it is unknown.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Hash of the network of that request, as 16 hex digits; `None` if it is unknown.
    #[serde(default)]
    pub network: Option<String>,
}

/// The registry's answer to firings.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FiringsAnswer {
    /// Ids of clusters by the key of the group, both in hex.
    pub clusters: BTreeMap<String, String>,
    /// The firings that did not become indicators, because a quota is exhausted or the registry is
    /// full of stronger indicators. Each is a pair: the name of the correlation, and the key in
    /// hex.
    pub refused: BTreeSet<(String, String)>,
}

impl FiringReport {
    /// Converts a firing; returns `None` if `plan` does not have its correlation. Leaves out the
    /// account 0, which means a request without a credential.
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
            account: optional_hex(firing.cause.account),
            tenant: optional_hex(firing.cause.tenant),
            network: optional_hex(firing.cause.network),
        })
    }

    /// Returns the account, tenant and network that caused the firing; 0 for unknown values.
    pub fn cause(&self) -> Cause {
        let hash = |hex: &Option<String>| {
            hex.as_deref().and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default()
        };
        let Self { account, tenant, network, .. } = self;
        Cause { account: hash(account), tenant: hash(tenant), network: hash(network) }
    }

    /// Returns the strength of the indicator that this firing creates, if it is the group's first
    /// firing.
    pub fn strength(&self) -> Strength {
        let accounts = u32::try_from(self.accounts.len()).unwrap_or(u32::MAX);
        Strength { accounts, times: 1, last: self.at }
    }

    /// Returns the name of the correlation and the key. Together they identify a firing in
    /// [`FiringsAnswer::refused`].
    pub fn name(&self) -> (String, String) {
        (self.correlation.clone(), self.key.clone())
    }
}

/// Returns a hash as 16 hex digits; `None` for 0, which means unknown.
fn optional_hex(hash: u64) -> Option<String> {
    (hash != 0).then(|| format!("{hash:016x}"))
}

/// Encodes the answer to an isolate. It has three parts: the length of the second part as four
/// little-endian bytes, the packed indicators that several accounts caused, and the packed
/// indicators that a single account caused. Firings that the registry refused are left out. A key
/// without a cluster gets cluster 0.
pub fn encode_answer(firings: &[FiringReport], answer: &FiringsAnswer) -> Vec<u8> {
    let (mut shared, mut single) = (Indicators::default(), Indicators::default());
    for firing in firings.iter().filter(|firing| !answer.refused.contains(&firing.name())) {
        let FiringReport { correlation, key, expires, .. } = firing;
        let cluster = answer.clusters.get(key).and_then(|id| u32::from_str_radix(id, 16).ok());
        let (cluster, expires) = (cluster.unwrap_or(0), *expires);
        let target = if firing.strength().is_shared() { &mut shared } else { &mut single };
        if let Ok(key) = u64::from_str_radix(key, 16) {
            target.add(Indicator { correlation, key, expires, cluster });
        }
    }
    let shared = shared.encode();
    let length = u32::try_from(shared.len()).unwrap_or(u32::MAX);
    [length.to_le_bytes().as_slice(), &shared, &single.encode()].concat()
}

/// Decodes an answer into the indicators of several accounts and the indicators of a single
/// account. Returns `None` if the answer is malformed.
pub fn decode_answer(bytes: &[u8]) -> Option<(Indicators, Indicators)> {
    let (length, parts) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (shared, single) = parts.split_at_checked(length)?;
    Some((Indicators::decode(shared).ok()?, Indicators::decode(single).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_indicators_that_were_not_refused() {
        let firing = |key: u64, accounts: &[u64]| FiringReport {
            correlation: "cluster_one".to_owned(),
            key: format!("{key:016x}"),
            at: 10,
            expires: 100,
            measured: 1.0,
            threshold: String::new(),
            links_accounts: true,
            accounts: accounts.iter().map(|account| format!("{account:016x}")).collect(),
            account: optional_hex(5),
            tenant: None,
            network: optional_hex(7),
        };
        let firings = [firing(1, &[5]), firing(2, &[5, 6]), firing(3, &[5])];
        let answer = FiringsAnswer {
            clusters: BTreeMap::from([(firings[1].key.clone(), "000000ff".to_owned())]),
            refused: BTreeSet::from([firings[2].name()]),
        };
        let (shared, single) = decode_answer(&encode_answer(&firings, &answer)).unwrap();
        let keys = |indicators: &Indicators| {
            indicators.iter().map(|found| (found.key, found.cluster)).collect::<Vec<_>>()
        };
        assert_eq!((keys(&shared), keys(&single)), (vec![(2, 255)], vec![(1, 0)]));
        assert_eq!(firings[0].cause(), Cause { account: 5, tenant: 0, network: 7 });
        assert!(decode_answer(&[9, 0, 0, 0, 1]).is_none() && decode_answer(&[]).is_none());
    }
}
