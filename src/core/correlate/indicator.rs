//! Indicators: keys for which a correlation fired. Later requests with such a key score higher.
//!
//! The registry publishes all indicators in a binary form. Isolates search the binary form without
//! decoding it, because a new isolate has no time to decode a hundred thousand entries.

mod entry;
mod packed;
pub mod quota;
pub mod strength;
pub mod table;

use std::collections::{HashMap, hash_map};
use std::hash::BuildHasherDefault;

use entry::{ENTRY_BYTES, IndicatorEntry, NO_ENTRY};
use packed::PackedIndicators;

use super::cluster::MAX_ALIASES;
use super::cluster_aliases::{ALIAS_BYTES, ClusterAliases};
use super::identity_hasher::IdentityHasher;
use crate::error::Error;

/// Maximum number of indicators.
pub const MAX_INDICATORS: usize = 200_000;

/// Maximum bytes of the binary form, with all entries, all aliases and all names.
pub const MAX_PACKED_BYTES: usize =
    MAX_INDICATORS * ENTRY_BYTES + MAX_ALIASES * ALIAS_BYTES + (64 << 10) + 64;

/// Maximum number of correlations with indicators: the number is encoded in one byte.
pub const MAX_CORRELATION_NAMES: usize = 255;

/// Maximum bytes of a correlation's name: the length is encoded in one byte.
pub const MAX_NAME_BYTES: usize = 255;

/// Format version, the first byte of the binary form. Other versions are rejected.
pub const FORMAT_VERSION: u8 = 1;

/// A key for which a correlation fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indicator<'i> {
    /// Name of the correlation.
    pub correlation: &'i str,
    /// Hash over the values of the group.
    pub key: u64,
    /// Time from which on the indicator is inactive, in seconds since the epoch.
    pub expires: u32,
    /// Id of the cluster of the indicator's accounts; 0 if the accounts are not in a cluster.
    pub cluster: u32,
}

/// Indicators by key. A look-up takes constant time.
#[derive(Clone, Debug, Default)]
pub struct Indicators {
    correlation_names: Vec<String>,
    /// Former ids of the clusters of the indicators.
    aliases: ClusterAliases,
    /// Entries in the binary form, as [`Indicators::decode`] read them.
    packed: PackedIndicators,
    /// Entries that were added after decoding: one linked list per key.
    added: Vec<IndicatorEntry>,
    /// Index of the first added entry of each key.
    first_added: HashMap<u64, u32, BuildHasherDefault<IdentityHasher>>,
}

impl Indicators {
    /// Returns the number of indicators, including expired indicators.
    pub fn len(&self) -> usize {
        self.added.len().saturating_add(self.packed.len())
    }

    /// Returns whether there are no indicators.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the active indicators of a key. `now` is the current time, in seconds since the
    /// epoch.
    pub fn active(&self, key: u64, now: u64) -> impl Iterator<Item = Indicator<'_>> {
        self.entries_of(key)
            .filter(move |entry| now < u64::from(entry.expires))
            .filter_map(|entry| self.resolve(&entry))
    }

    /// Returns the indicator of a correlation for a key, even if it has expired; `None` if there is
    /// none.
    pub fn find(&self, correlation: &str, key: u64) -> Option<Indicator<'_>> {
        let name_index = self.name_index(correlation)?;
        let entry =
            self.entries_of(key).find(|entry| usize::from(entry.name_index) == name_index)?;
        self.resolve(&entry)
    }

    /// Returns the number of indicators of a correlation, including expired indicators. Reads all
    /// indicators.
    pub fn count(&self, correlation: &str) -> usize {
        let Some(name_index) = self.name_index(correlation) else { return 0 };
        self.all_entries().filter(|entry| usize::from(entry.name_index) == name_index).count()
    }

    /// Returns all indicators, including expired indicators.
    pub fn iter(&self) -> impl Iterator<Item = Indicator<'_>> {
        self.all_entries().filter_map(|entry| self.resolve(&entry))
    }

    /// Adds an indicator, or extends the indicator with the same key and correlation. Ignores new
    /// indicators beyond [`MAX_INDICATORS`], and indicators of a new correlation if its name is too
    /// long or there are [`MAX_CORRELATION_NAMES`] names already.
    pub fn add(&mut self, indicator: Indicator<'_>) {
        let Indicator { key, expires, cluster, .. } = indicator;
        if let Some(name_index) = self.intern(indicator.correlation) {
            self.insert(IndicatorEntry { key, name_index, expires, cluster, next_index: NO_ENTRY });
        }
    }

    /// Returns the aliases of clusters.
    pub fn aliases(&self) -> &ClusterAliases {
        &self.aliases
    }

    /// Adds an alias: the id of a cluster that has merged into the cluster `id`.
    pub fn add_alias(&mut self, alias: u32, id: u32) {
        self.aliases.add(alias, id);
    }

    /// Returns a copy with the active indicators that `keep` accepts. `now` is the current time, in
    /// seconds since the epoch.
    pub fn without_expired(&self, now: u64, keep: impl Fn(&Indicator<'_>) -> bool) -> Self {
        self.filtered(|indicator| now < u64::from(indicator.expires) && keep(indicator))
    }

    /// Returns a copy with the indicators that `keep` accepts.
    pub fn filtered(&self, keep: impl Fn(&Indicator<'_>) -> bool) -> Self {
        let mut result = Self { aliases: self.aliases.clone(), ..Self::default() };
        self.iter().filter(keep).for_each(|indicator| result.add(indicator));
        result
    }

    /// Encodes the indicators in the binary form.
    ///
    /// The form has these parts, in this order. The number of bytes is in parentheses. Numbers are
    /// little-endian.
    ///
    /// - The version (1).
    /// - The number of names (1). For each name: its length (1) and its text.
    /// - The number of aliases (4). For each alias, in ascending order: the alias (4) and the id of
    ///   its cluster (4).
    /// - The entries, sorted by key and index of the name. For each entry: key (8), index of the
    ///   name (2), expiry (4), cluster (4).
    pub fn encode(&self) -> Vec<u8> {
        let name_count = self.correlation_names.len().min(MAX_CORRELATION_NAMES);
        let mut encoded = vec![FORMAT_VERSION, name_count as u8];
        for name in self.correlation_names.iter().take(MAX_CORRELATION_NAMES) {
            let name = name.as_bytes().get(..MAX_NAME_BYTES).unwrap_or(name.as_bytes());
            encoded.push(name.len() as u8);
            encoded.extend_from_slice(name);
        }
        self.aliases.encode(&mut encoded);
        let mut entries: Vec<IndicatorEntry> = self.all_entries().collect();
        entries.sort_unstable_by_key(|entry| (entry.key, entry.name_index));
        encoded.reserve(entries.len().saturating_mul(ENTRY_BYTES));
        entries.iter().for_each(|entry| encoded.extend_from_slice(&entry.encode()));
        encoded
    }

    /// Decodes the binary form.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not indicators of this format version, or exceed a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = || Error::new("indicators are invalid", "publish them again");
        let (head, mut rest) = bytes.split_first_chunk::<2>().ok_or_else(invalid)?;
        let [version, name_count] = *head;
        if version != FORMAT_VERSION {
            let problem =
                format!("indicators have format version {version}: expected {FORMAT_VERSION}");
            let remedy = "wait for a minute: the registry publishes them again after an update";
            return Err(Error::new(problem, remedy));
        }
        let mut indicators = Self::default();
        for index in 0..usize::from(name_count) {
            let (length, after_length) = rest.split_first().ok_or_else(invalid)?;
            let (name, after_name) =
                after_length.split_at_checked(usize::from(*length)).ok_or_else(invalid)?;
            let name = std::str::from_utf8(name).map_err(|_| invalid())?;
            // A repeated name has the index of its first occurrence, which differs from `index`.
            if indicators.intern(name).map(usize::from) != Some(index) {
                return Err(invalid());
            }
            rest = after_name;
        }
        let (aliases, rest) = ClusterAliases::decode(rest).ok_or_else(invalid)?;
        indicators.aliases = aliases;
        if rest.len() / ENTRY_BYTES > MAX_INDICATORS {
            return Err(invalid());
        }
        let name_count = indicators.correlation_names.len();
        indicators.packed = PackedIndicators::decode(rest, name_count).ok_or_else(invalid)?;
        Ok(indicators)
    }

    fn all_entries(&self) -> impl Iterator<Item = IndicatorEntry> {
        self.packed.entries().chain(self.added.iter().copied())
    }

    fn entries_of(&self, key: u64) -> impl Iterator<Item = IndicatorEntry> {
        let first_index = self.first_added.get(&key).copied().unwrap_or(NO_ENTRY);
        let added_entry = |index: u32| self.added.get(index as usize).copied();
        let added = std::iter::successors(added_entry(first_index), move |previous| {
            added_entry(previous.next_index)
        });
        self.packed.entries_of(key).chain(added)
    }

    fn insert(&mut self, entry: IndicatorEntry) {
        if self.packed.merge(&entry) {
            return;
        }
        let is_full = self.len() >= MAX_INDICATORS;
        let new_index = self.added.len() as u32;
        match self.first_added.entry(entry.key) {
            hash_map::Entry::Vacant(slot) => {
                if !is_full {
                    slot.insert(new_index);
                    self.added.push(entry);
                }
            }
            hash_map::Entry::Occupied(mut slot) => {
                let mut index = *slot.get();
                while let Some(existing) = self.added.get_mut(index as usize) {
                    if existing.name_index == entry.name_index {
                        return existing.merge(&entry);
                    }
                    index = existing.next_index;
                }
                if !is_full {
                    let next_index = slot.insert(new_index);
                    self.added.push(IndicatorEntry { next_index, ..entry });
                }
            }
        }
    }

    fn resolve(&self, entry: &IndicatorEntry) -> Option<Indicator<'_>> {
        let correlation = self.correlation_names.get(usize::from(entry.name_index))?;
        let IndicatorEntry { key, expires, cluster, .. } = *entry;
        Some(Indicator { correlation, key, expires, cluster })
    }

    fn name_index(&self, correlation: &str) -> Option<usize> {
        self.correlation_names.iter().position(|name| name == correlation)
    }

    /// Returns the index of a correlation's name. Adds the name if it is new. Returns `None` if the
    /// name is too long or there are too many names.
    fn intern(&mut self, correlation: &str) -> Option<u16> {
        let index = match self.name_index(correlation) {
            Some(index) => index,
            None if self.correlation_names.len() < MAX_CORRELATION_NAMES
                && correlation.len() <= MAX_NAME_BYTES =>
            {
                self.correlation_names.push(correlation.to_owned());
                self.correlation_names.len().saturating_sub(1)
            }
            None => return None,
        };
        u16::try_from(index).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indicator(correlation: &str, key: u64, expires: u32) -> Indicator<'_> {
        Indicator { correlation, key, expires, cluster: 0 }
    }

    fn active_correlations(indicators: &Indicators, key: u64, now: u64) -> Vec<&str> {
        let mut names: Vec<&str> =
            indicators.active(key, now).map(|indicator| indicator.correlation).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn an_indicator_counts_until_it_expires_and_firing_again_extends_it() {
        let mut indicators = Indicators::default();
        indicators.add(indicator("one", 7, 100));
        indicators.add(indicator("two", 7, 200));
        indicators.add(indicator("one", 8, 100));
        assert_eq!(active_correlations(&indicators, 7, 99), ["one", "two"]);
        assert_eq!(active_correlations(&indicators, 7, 100), ["two"]);
        indicators.add(indicator("one", 7, 300));
        indicators.add(indicator("one", 7, 50));
        assert_eq!((active_correlations(&indicators, 7, 250), indicators.len()), (vec!["one"], 3));
        assert_eq!((indicators.count("one"), indicators.count("three")), (2, 0));
        assert_eq!(
            active_correlations(&indicators.without_expired(250, |_| true), 7, 250),
            ["one"]
        );
        assert_eq!(indicators.find("two", 7), Some(indicator("two", 7, 200)));
        assert_eq!(indicators.find("two", 8), None);
        assert!(
            active_correlations(
                &indicators.without_expired(0, |indicator| indicator.key != 7),
                7,
                0
            )
            .is_empty()
        );
    }

    #[test]
    fn a_hundred_thousand_encode_to_less_than_four_megabytes() {
        let mut indicators = Indicators::default();
        for key in 0..100_000_u64 {
            let name = if key % 3 == 0 { "cluster_a" } else { "cluster_b" };
            let (key, expires) = (crate::keyed_hash::fmix64(key), key as u32);
            indicators.add(Indicator { correlation: name, key, expires, cluster: 9 });
        }
        let bytes = indicators.encode();
        assert!(bytes.len() <= 4_000_000, "{}", bytes.len());
        let decoded = Indicators::decode(&bytes).unwrap();
        assert_eq!(decoded.len(), indicators.len());
        for indicator in indicators.iter() {
            assert_eq!(decoded.find(indicator.correlation, indicator.key), Some(indicator));
        }
        assert_eq!(decoded.find("cluster_a", 77), None);
        assert_eq!(decoded.encode(), bytes);
    }

    /// Entries that are added after decoding are found together with the decoded ones.
    #[test]
    fn packed_and_added_entries_are_merged() {
        for count in [0, 1, 2, 3, 9, 100, 5_000] {
            let key = |index: u32| crate::keyed_hash::fmix64(u64::from(index));
            let mut indicators = Indicators::default();
            for index in 0..count {
                indicators.add(indicator("one", key(index), 100 + index));
            }
            let mut decoded = Indicators::decode(&indicators.encode()).unwrap();
            for index in (0..count + 3).step_by(3) {
                for target in [&mut indicators, &mut decoded] {
                    target.add(indicator("one", key(index), 9_000));
                    target.add(Indicator { cluster: 4, ..indicator("two", key(index), 50) });
                }
            }
            assert_eq!(decoded.len(), indicators.len());
            for index in 0..count + 9 {
                for now in [40, 80, 8_000] {
                    let now = u64::from(now as u32);
                    assert_eq!(
                        active_correlations(&decoded, key(index), now),
                        active_correlations(&indicators, key(index), now)
                    );
                }
            }
            assert_eq!(decoded.encode(), indicators.encode());
        }
    }

    #[test]
    fn malformed_bytes_are_rejected() {
        let mut indicators = Indicators::default();
        indicators.add(indicator("one", 7, 100));
        let valid = indicators.encode();
        assert_eq!(
            valid,
            [
                &[1, 1, 3, b'o', b'n', b'e', 0, 0, 0, 0][..],
                &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat()
        );
        for end in 0..valid.len() {
            let is_head_alone = end == 10;
            assert_eq!(Indicators::decode(&valid[..end]).is_ok(), is_head_alone, "{end}");
        }
        let mut invalid = valid.clone();
        invalid[0] = 2;
        assert!(Indicators::decode(&invalid).unwrap_err().problem().contains("version 2"));
        assert!(
            Indicators::decode(&[&valid[..], &valid[10..]].concat()).is_err(),
            "a repeated entry"
        );
        invalid = valid;
        invalid[18] = 1;
        assert!(Indicators::decode(&invalid).is_err(), "a correlation without a name");
    }
}
