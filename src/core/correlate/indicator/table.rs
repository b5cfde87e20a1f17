//! A table of indicators with a fixed number of places: in a full table, a new indicator replaces
//! the weakest indicator if the new indicator is stronger.
//!
//! One correlation has at most a quarter of the places. Clients can make some correlations hold for
//! any number of keys. Beyond the quarter, the new indicators of such a correlation replace its own
//! indicators, and not the indicators of other correlations.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::strength::{Rank, Strength};
use crate::correlate::firing::Cause;

/// One correlation may have at most `1 / CORRELATION_SHARE_DIVISOR` of the places.
const CORRELATION_SHARE_DIVISOR: usize = 4;

/// An indicator in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// The facts that decide how long the indicator stays in a full table.
    pub strength: Strength,
    /// Time from which on the indicator is inactive, in seconds since the epoch.
    pub expires: u32,
    /// Sender of the request at which the correlation first fired for the key.
    pub cause: Cause,
}

/// The name of an indicator: a correlation, and a key of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndicatorName {
    /// Name of the correlation.
    pub correlation: String,
    /// Hash over the values of the group.
    pub key: u64,
}

/// The result of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// The table has the indicator.
    Admitted,
    /// The table has the indicator in place of this weaker indicator.
    Replaced(IndicatorName),
    /// There is no free place, and all indicators that could be replaced are at least as strong.
    Refused,
}

/// Number of indicators by the hash of the account, tenant or network that caused them. The hash 0,
/// which means unknown, is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountsByCause {
    /// By account.
    pub accounts: HashMap<u64, u32>,
    /// By tenant.
    pub tenants: HashMap<u64, u32>,
    /// By network of the client.
    pub networks: HashMap<u64, u32>,
}

/// Indicators of all correlations, by strength.
#[derive(Clone, Debug, Default)]
pub struct IndicatorTable {
    max: usize,
    len: usize,
    correlations: BTreeMap<String, RankedEntries>,
    counts_by_cause: CountsByCause,
}

/// The indicators of one correlation.
#[derive(Clone, Debug, Default)]
struct RankedEntries {
    entries: HashMap<u64, TableEntry>,
    /// Ranks and keys, the weakest first.
    by_rank: BTreeSet<(Rank, u64)>,
}

impl IndicatorTable {
    /// Creates a table with `max` places.
    pub fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Returns the number of places.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Returns the number of places that one correlation may have.
    pub fn max_per_correlation(&self) -> usize {
        (self.max / CORRELATION_SHARE_DIVISOR).max(1)
    }

    /// Sets the number of places. Removes the weakest indicators if there are too many in total or
    /// of one correlation, and returns their names.
    pub fn set_max(&mut self, max: usize) -> Vec<IndicatorName> {
        self.max = max;
        let share = self.max_per_correlation();
        let mut evicted = Vec::new();
        let names: Vec<String> = self.correlations.keys().cloned().collect();
        for correlation in names {
            while self.count(&correlation) > share
                && let Some((_, key)) = self.weakest_of(&correlation)
            {
                self.remove(&correlation, key);
                evicted.push(IndicatorName { correlation: correlation.clone(), key });
            }
        }
        while self.len > max
            && let Some((_, weakest)) = self.weakest()
        {
            self.remove(&weakest.correlation, weakest.key);
            evicted.push(weakest);
        }
        evicted
    }

    /// Returns the number of indicators.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no indicators.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of indicators of a correlation.
    pub fn count(&self, correlation: &str) -> usize {
        self.correlations.get(correlation).map_or(0, |ranked| ranked.entries.len())
    }

    /// Returns the number of indicators of each correlation that has any.
    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        let counts = self.correlations.iter();
        counts.map(|(name, ranked)| (name.as_str(), ranked.entries.len()))
    }

    /// Returns the numbers of indicators by the accounts, tenants and networks that caused them.
    pub fn counts_by_cause(&self) -> &CountsByCause {
        &self.counts_by_cause
    }

    /// Returns an indicator; `None` if the table does not have it.
    pub fn get(&self, correlation: &str, key: u64) -> Option<&TableEntry> {
        self.correlations.get(correlation)?.entries.get(&key)
    }

    /// Returns all indicators: the name of the correlation, the key and the entry.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64, &TableEntry)> {
        self.correlations.iter().flat_map(|(name, ranked)| {
            ranked.entries.iter().map(|(key, entry)| (name.as_str(), *key, entry))
        })
    }

    /// Adds an indicator, or updates the indicator with the same name. If there is no free place, a
    /// new indicator replaces a weaker one: the weakest of its correlation if the correlation has
    /// used up its share of the places, or else the weakest of all.
    pub fn insert(&mut self, correlation: &str, key: u64, entry: TableEntry) -> InsertOutcome {
        let rank = entry.strength.rank();
        let is_update = self.get(correlation, key).is_some();
        if is_update {
            self.remove(correlation, key);
        }
        let weakest = if self.count(correlation) >= self.max_per_correlation() {
            let name = |key| IndicatorName { correlation: correlation.to_owned(), key };
            self.weakest_of(correlation).map(|(rank, key)| (rank, name(key)))
        } else if self.len >= self.max {
            match self.weakest() {
                None => return InsertOutcome::Refused,
                weakest => weakest,
            }
        } else {
            None
        };
        let replaced = match weakest {
            Some((weakest_rank, _)) if rank <= weakest_rank && !is_update => {
                return InsertOutcome::Refused;
            }
            Some((_, weakest)) => {
                self.remove(&weakest.correlation, weakest.key);
                Some(weakest)
            }
            None => None,
        };
        self.add(correlation, key, entry);
        replaced.map_or(InsertOutcome::Admitted, InsertOutcome::Replaced)
    }

    /// Removes an indicator, and returns it; `None` if the table does not have it.
    pub fn remove(&mut self, correlation: &str, key: u64) -> Option<TableEntry> {
        let ranked = self.correlations.get_mut(correlation)?;
        let entry = ranked.entries.remove(&key)?;
        ranked.by_rank.remove(&(entry.strength.rank(), key));
        if ranked.entries.is_empty() {
            self.correlations.remove(correlation);
        }
        self.len = self.len.saturating_sub(1);
        self.counts_by_cause.subtract(&entry.cause);
        Some(entry)
    }

    /// Removes the indicators that have expired. `now` is the time in seconds since the epoch.
    pub fn remove_expired(&mut self, now: u64) {
        let has_expired = |entry: &TableEntry| u64::from(entry.expires) <= now;
        let expired = self.iter().filter(|(_, _, entry)| has_expired(entry));
        let expired: Vec<IndicatorName> = expired
            .map(|(name, key, _)| IndicatorName { correlation: name.to_owned(), key })
            .collect();
        for IndicatorName { correlation, key } in expired {
            self.remove(&correlation, key);
        }
    }

    fn add(&mut self, correlation: &str, key: u64, entry: TableEntry) {
        if !self.correlations.contains_key(correlation) {
            self.correlations.insert(correlation.to_owned(), RankedEntries::default());
        }
        let Some(ranked) = self.correlations.get_mut(correlation) else { return };
        ranked.by_rank.insert((entry.strength.rank(), key));
        ranked.entries.insert(key, entry);
        self.len = self.len.saturating_add(1);
        self.counts_by_cause.add(&entry.cause);
    }

    /// Returns rank and key of the weakest indicator of a correlation; `None` if the correlation
    /// has no indicators.
    fn weakest_of(&self, correlation: &str) -> Option<(Rank, u64)> {
        self.correlations.get(correlation)?.by_rank.first().copied()
    }

    /// Returns the weakest indicator of all, with its rank; `None` if the table is empty.
    fn weakest(&self) -> Option<(Rank, IndicatorName)> {
        let firsts = self.correlations.iter().filter_map(|(name, ranked)| {
            let (rank, key) = *ranked.by_rank.first()?;
            Some((rank, name, key))
        });
        let (rank, name, key) = firsts.min()?;
        Some((rank, IndicatorName { correlation: name.clone(), key }))
    }
}

impl CountsByCause {
    fn add(&mut self, cause: &Cause) {
        self.update(cause, |count| count.saturating_add(1));
    }

    fn subtract(&mut self, cause: &Cause) {
        self.update(cause, |count| count.saturating_sub(1));
    }

    fn update(&mut self, cause: &Cause, change: impl Fn(u32) -> u32) {
        let Self { accounts, tenants, networks } = self;
        let counters =
            [(accounts, cause.account), (tenants, cause.tenant), (networks, cause.network)];
        for (counts, hash) in counters {
            if hash == 0 {
                continue;
            }
            let count = change(counts.get(&hash).copied().unwrap_or_default());
            match count {
                0 => counts.remove(&hash),
                count => counts.insert(hash, count),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u32 = 1_800_000_000;

    fn entry(accounts: u32, last: u32) -> TableEntry {
        TableEntry {
            strength: Strength { accounts, times: 1, last },
            expires: last.saturating_add(1_000),
            cause: Cause { account: u64::from(last % 5), tenant: 0, network: 7 },
        }
    }

    #[test]
    fn a_flood_of_single_accounts_never_pushes_out_a_campaign() {
        let mut table = IndicatorTable::new(400);
        for key in 0..50 {
            assert_eq!(
                table.insert("cluster", key, entry(5, NOW - 86_400)),
                InsertOutcome::Admitted
            );
        }
        for key in 1_000..21_000_u64 {
            let name = ["cluster", "replay", "pace", "status", "other"][key as usize % 5];
            table.insert(name, key, entry(1, NOW + key as u32));
            assert!(table.len() <= 400 && table.count(name) <= 100);
        }
        assert!((0..50).all(|key| table.get("cluster", key).is_some()));
        assert_eq!(table.len(), 400);
        // A campaign that comes later finds a place, even in a correlation that is full.
        for key in 50..100 {
            let admission = table.insert("cluster", key, entry(5, NOW));
            assert!(matches!(admission, InsertOutcome::Replaced(name) if name.key >= 1_000));
        }
        assert_eq!(table.insert("cluster", 100, entry(5, NOW - 172_800)), InsertOutcome::Refused);
        assert_eq!(table.counts_by_cause().networks.get(&7), Some(&400));
        table.remove_expired(u64::MAX);
        assert!(table.is_empty() && *table.counts_by_cause() == CountsByCause::default());
    }

    #[test]
    fn a_firing_extends_an_indicator_in_a_full_table() {
        let mut table = IndicatorTable::new(8);
        assert_eq!(table.insert("a", 1, entry(1, NOW)), InsertOutcome::Admitted);
        assert_eq!(table.insert("a", 2, entry(1, NOW)), InsertOutcome::Admitted);
        assert_eq!(table.insert("a", 3, entry(1, NOW)), InsertOutcome::Refused, "no stronger");
        assert_eq!(table.insert("a", 1, entry(3, NOW)), InsertOutcome::Admitted);
        let weakest = IndicatorName { correlation: "a".to_owned(), key: 2 };
        assert_eq!(table.insert("a", 3, entry(2, NOW)), InsertOutcome::Replaced(weakest));
        assert_eq!(table.counts().collect::<Vec<_>>(), [("a", 2)]);
        assert_eq!(table.set_max(4), [IndicatorName { correlation: "a".to_owned(), key: 3 }]);
        assert_eq!((table.len(), table.get("a", 1).is_some()), (1, true));
    }

    proptest! {
        /// Compares the table after each insertion with its contents before the insertion.
        #[test]
        fn nothing_stronger_is_evicted_for_something_weaker(
            offers in prop::collection::vec(
                (0_usize..6, 0_u64..40, 1_u32..6, 0_u32..400_000), 1..200,
            ),
            max in 4_usize..40,
        ) {
            let mut table = IndicatorTable::new(max);
            for (correlation, key, accounts, age) in offers {
                let name = ["a", "b", "c", "d", "e", "f"][correlation];
                let offer = entry(accounts, NOW.saturating_sub(age));
                let before: Vec<(String, u64, Rank)> = table
                    .iter()
                    .map(|(name, key, entry)| (name.to_owned(), key, entry.strength.rank()))
                    .collect();
                let rank_of = |name: &str, key: u64| {
                    let found = before.iter().find(|(other, k, _)| other == name && *k == key);
                    found.map(|(_, _, rank)| *rank)
                };
                let is_update = rank_of(name, key).is_some();
                let rank = offer.strength.rank();
                match table.insert(name, key, offer) {
                    InsertOutcome::Admitted => prop_assert!(is_update || before.len() < max),
                    InsertOutcome::Refused => {
                        prop_assert!(!is_update);
                        let rivals = before.iter().filter(|(other, ..)| {
                            before.len() >= max && table.count(name) < table.max_per_correlation()
                                || other == name
                        });
                        prop_assert!(rivals.clone().count() > 0);
                        for (_, _, rival) in rivals {
                            prop_assert!(*rival >= rank);
                        }
                    }
                    InsertOutcome::Replaced(evicted) => {
                        prop_assert!(!is_update);
                        let evicted = rank_of(&evicted.correlation, evicted.key).unwrap();
                        prop_assert!(evicted < rank);
                    }
                }
                prop_assert!(table.len() <= max);
                prop_assert!(table.count(name) <= table.max_per_correlation());
                prop_assert_eq!(table.len(), table.iter().count());
                let held: u32 = table.counts_by_cause().networks.values().sum();
                prop_assert_eq!(held as usize, table.len());
            }
        }
    }
}
