//! Knowledge of the isolate about accounts: credentials that the origin has accepted, and its names
//! of accounts.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::platform::clock::now_seconds;

/// The ids of the account and the tenant that the origin named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginNames {
    /// Account id; `None` if the origin did not name the account.
    pub account: Option<String>,
    /// Tenant id; `None` if the origin did not name the tenant.
    pub tenant: Option<String>,
}

impl OriginNames {
    /// Returns whether the origin named neither.
    pub fn is_empty(&self) -> bool {
        self.account.is_none() && self.tenant.is_none()
    }
}

/// Seconds for which the names of the origin hold: an account may get another tenant.
const NAME_SECONDS: u64 = 3_600;

/// Seconds for which a proof holds. The next success of the origin renews it.
const PROOF_SECONDS: u64 = 86_400;

/// Maximum number of accounts with names: about a megabyte.
const MAX_NAMES: usize = 4_096;

/// Maximum number of proofs: about a megabyte.
const MAX_PROOFS: usize = 16_384;

thread_local! {
    static NAMES: RefCell<ExpiringMap<String, OriginNames>> =
        RefCell::new(ExpiringMap::new(MAX_NAMES, NAME_SECONDS));
    static PROOFS: RefCell<ExpiringMap<u64, ()>> =
        RefCell::new(ExpiringMap::new(MAX_PROOFS, PROOF_SECONDS));
}

/// Returns how the origin named an account, if it did within the last hour.
pub fn named_by_origin(account: &str) -> Option<OriginNames> {
    NAMES.with_borrow(|names| names.get(account, now_seconds()).cloned())
}

/// Remembers how the origin named an account.
pub fn remember_names(account: &str, names: &OriginNames) {
    NAMES.with_borrow_mut(|known| known.insert(account.to_owned(), names.clone(), now_seconds()));
}

/// Returns whether the origin has accepted a credential within the last day; `proof` is its hash, 0
/// for a request without one.
pub fn is_proven(proof: u64) -> bool {
    PROOFS.with_borrow(|proofs| proofs.get(&proof, now_seconds()).is_some())
}

/// Remembers that the origin has accepted a credential.
pub fn remember_proof(proof: u64) {
    if proof != 0 {
        PROOFS.with_borrow_mut(|proofs| proofs.insert(proof, (), now_seconds()));
    }
}

/// A map of bounded size, whose entries expire. The oldest entry is dropped for a new one.
struct ExpiringMap<K, V> {
    /// Values with the time at which they expire, in seconds since the epoch.
    entries: HashMap<K, (u64, V)>,
    /// Keys in the order in which they were added.
    order: VecDeque<K>,
    capacity: usize,
    seconds: u64,
}

impl<K: Clone + Eq + Hash, V> ExpiringMap<K, V> {
    fn new(capacity: usize, seconds: u64) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), capacity, seconds }
    }

    fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: u64) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key).filter(|(until, _)| now < *until).map(|(_, value)| value)
    }

    /// Adds or renews an entry.
    fn insert(&mut self, key: K, value: V, now: u64) {
        let until = now.saturating_add(self.seconds);
        if self.entries.insert(key.clone(), (until, value)).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_expire_and_the_oldest_makes_room() {
        let mut map = ExpiringMap::new(2, 10);
        map.insert(1, 'a', 0);
        map.insert(2, 'b', 5);
        assert_eq!((map.get(&1, 9), map.get(&1, 10)), (Some(&'a'), None));
        map.insert(1, 'c', 10);
        assert_eq!(map.get(&1, 19), Some(&'c'));
        map.insert(3, 'd', 11);
        assert_eq!(
            (map.get(&1, 11), map.get(&2, 11), map.get(&3, 11)),
            (None, Some(&'b'), Some(&'d'))
        );
        (4..100).for_each(|key| map.insert(key, 'e', 12));
        assert_eq!((map.entries.len(), map.order.len()), (2, 2));
    }
}
