//! The context of a count: the observation, its time, and the aggregation that counts it.

use super::earlier_events::EarlierEvents;
use super::firing::{Cause, Firing};
use super::observation::Observation;
use super::plan::{Aggregation, Plan, Rule};
use crate::keyed_hash::combine_hashes;

/// An observation that is being counted.
#[derive(Clone, Copy)]
pub struct EventContext<'t> {
    /// Plan of the correlator.
    pub plan: &'t Plan,
    /// Observation that is being counted.
    pub observation: &'t Observation,
    /// Bitmap of the signatures that matched, by their index in the plan.
    pub signature_bits: &'t [u64],
    /// Earlier events of the account, if the observation was deferred (see the module `deferral`).
    pub earlier_events: Option<EarlierEvents>,
    /// Pairs of field index and hash under which the observation counts among the accounts that
    /// share a key: the tenant if it is known, or else the accounts.
    pub principals: &'t [(u16, u64)],
    /// Time of the observation, in seconds since the epoch.
    pub at: u32,
    /// Current time, in seconds since the epoch.
    pub now: u32,
}

/// An observation that is being counted in an aggregation.
#[derive(Clone, Copy)]
pub struct AggregationContext<'t> {
    /// Observation, with its times.
    pub event: EventContext<'t>,
    /// Aggregation that counts the observation.
    pub aggregation: &'t Aggregation,
    /// Values that the aggregation counts: the principals if it counts accounts that share a key,
    /// or else the values of its field. Empty if the aggregation has no field.
    pub values: &'t [(u16, u64)],
    /// Hash of the group's values. It is combined with each counted value by exclusive or, so that
    /// different large groups sample different accounts. An account that shares several keys with
    /// others is then likely to be in the sample of one of these groups.
    pub salt: u64,
}

impl<'t> EventContext<'t> {
    /// Returns the hash of the tenant or else of the account; 0 if the observation has neither.
    pub fn principal(&self) -> u64 {
        self.principals.first().map_or(0, |(_, hash)| *hash)
    }

    /// Returns whether a signature matched, by its index in the plan.
    pub fn has_signature(&self, index: usize) -> bool {
        let word = self.signature_bits.get(index / 64).copied().unwrap_or_default();
        word >> (index % 64) & 1 == 1
    }

    /// Returns the context for one aggregation.
    pub fn for_aggregation(self, aggregation: &'t Aggregation) -> AggregationContext<'t> {
        let values = aggregation.field.map(|field| {
            if aggregation.counts_tenants() {
                self.principals
            } else {
                self.observation.values(field)
            }
        });
        AggregationContext { event: self, aggregation, values: values.unwrap_or_default(), salt: 0 }
    }
}

impl AggregationContext<'_> {
    /// Returns the context for the group with the hash `values_hash` over its values.
    pub fn for_group(&self, values_hash: u64) -> Self {
        Self { salt: values_hash, ..*self }
    }

    /// Returns the hash of the tenant or else of the account, combined with the salt of the group.
    pub fn salted_principal(&self) -> u64 {
        self.event.principal() ^ self.salt
    }

    /// Returns the length of a rule's window in seconds.
    pub fn window(&self, rule: &Rule) -> u32 {
        self.aggregation.windows.get(rule.window).copied().unwrap_or_default()
    }

    /// Returns the firing of a rule. `values` are the values of the group; the account of the
    /// observation replaces them if the indicators of the rule are for accounts. `value` is the
    /// measured number, and `accounts` are the accounts to report.
    pub fn firing(&self, rule: &Rule, values: &[u64], value: f64, accounts: Vec<u64>) -> Firing {
        let observation = self.event.observation;
        let account = [observation.account()];
        let values = if rule.min_own_events.is_some() { &account } else { values };
        Firing {
            correlation: rule.correlation,
            key: combine_hashes(values),
            values: values.to_vec(),
            at: self.event.at,
            value,
            accounts,
            cause: Cause {
                account: observation.account(),
                tenant: observation.tenant,
                network: observation.network,
            },
            is_repeated: false,
        }
    }
}
