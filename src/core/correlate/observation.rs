//! The observation: the part of a request that correlation counts.

use crate::keyed_hash::HashKey;

/// Maximum number of values of one field that are counted per request; further values are ignored.
pub const MAX_VALUES_PER_FIELD: usize = 64;

/// The part of a request that correlation counts. It refers to fields and signatures by their index
/// in the [`Plan`](super::Plan) that made it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Time of the request, in seconds since the epoch.
    pub at: u32,
    /// Signatures that matched, as indexes in [`Plan::signatures`](super::Plan::signatures).
    pub signatures: Vec<u16>,
    /// Pairs of an index in [`Plan::fields`](super::Plan::fields) and the hash of a value, sorted
    /// by index.
    pub values: Vec<(u16, u64)>,
    /// Pairs of an index in [`Plan::fields`](super::Plan::fields) and a number.
    pub numbers: Vec<(u16, f64)>,
    /// Whether the origin has answered the account with success, in this or an earlier request.
    /// Only a proven account counts in groups that other accounts share.
    pub proven: bool,
    /// Hash of the tenant, the customer that owns the account; 0 if it is unknown. Accounts of a
    /// tenant count as one in groups that other accounts share.
    pub tenant: u64,
    /// Hash of the network of the client's address; 0 if it is unknown. It counts towards quotas
    /// of new indicators.
    pub network: u64,
}

impl Observation {
    /// Returns the values of a field, at most [`MAX_VALUES_PER_FIELD`].
    pub fn values(&self, field: u16) -> &[(u16, u64)] {
        let from = self.values.partition_point(|(index, _)| *index < field);
        let until = self.values.partition_point(|(index, _)| *index <= field);
        let until = until.min(from.saturating_add(MAX_VALUES_PER_FIELD));
        self.values.get(from..until).unwrap_or_default()
    }

    /// Returns the hash of the account, or 0 if the request has none. The account is the first
    /// field of every plan.
    pub fn account(&self) -> u64 {
        self.values(0).first().map_or(0, |(_, hash)| *hash)
    }

    /// Returns the values under which the request counts among the accounts that share a key: the
    /// tenant if it is known, or else the accounts.
    pub(super) fn principals(&self) -> Vec<(u16, u64)> {
        if self.tenant == 0 { self.values(0).to_vec() } else { vec![(0, self.tenant)] }
    }

    /// Replaces the account by the account with the hash `hash`.
    pub fn set_account(&mut self, hash: u64) {
        self.values.retain(|(field, _)| *field != 0);
        self.values.insert(0, (0, hash));
    }

    /// Replaces the account by a separate account whose hash is derived from it, and removes the
    /// tenant. Anybody can claim an account, with a forged token for example. As long as the origin
    /// has not confirmed the claim, the request must not harm the account that it names.
    pub fn replace_unconfirmed_account(&mut self, key: &HashKey) {
        self.tenant = 0;
        let accounts = self.values.iter_mut().take_while(|(field, _)| *field == 0);
        accounts.for_each(|(_, hash)| {
            *hash = key.keyed_hash(UNCONFIRMED_ACCOUNT_DOMAIN, &hash.to_le_bytes())
        });
    }

    /// Returns the value of a numeric field; `None` if the request does not have the field.
    pub(super) fn number(&self, field: u16) -> Option<f64> {
        self.numbers.iter().find(|(index, _)| *index == field).map(|(_, number)| *number)
    }
}

/// Domain of the hashes of accounts that were claimed without proof.
const UNCONFIRMED_ACCOUNT_DOMAIN: &str = "hedgerow.account.claimed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unconfirmed_account_is_replaced() {
        let values = vec![(0, 7), (1, 7)];
        let observation = Observation { values, tenant: 5, ..Observation::default() };
        let (mut first, mut second) = (observation.clone(), observation.clone());
        let key = HashKey::derive(b"secret");
        first.replace_unconfirmed_account(&key);
        second.replace_unconfirmed_account(&key);
        assert!(first.account() != 7 && first.tenant == 0);
        assert_eq!((first.account(), first.values(1)), (second.account(), observation.values(1)));
        second.set_account(9);
        assert_eq!((second.account(), second.values.len()), (9, 2));
        let mut anonymous = Observation::default();
        anonymous.replace_unconfirmed_account(&key);
        assert_eq!(anonymous.account(), 0);
        anonymous.set_account(9);
        assert_eq!(anonymous.account(), 9);
    }
}
