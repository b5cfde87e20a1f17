//! Indicators: keys for which a correlation held, so that every later request with such a key counts.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::{BuildHasherDefault, Hasher};

use crate::error::Error;

/// A key for which a correlation held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indicator<'i> {
    /// The correlation.
    pub correlation: &'i str,
    /// The group's values, hashed together.
    pub key: u64,
    /// Seconds since the epoch from which on it counts no more.
    pub expires: u32,
    /// The cluster that it belongs to; 0 for none.
    pub cluster: u32,
}

/// Indicators by key; a look-up takes the same time however many there are.
#[derive(Clone, Debug, Default)]
pub struct Indicators {
    correlation_names: Vec<String>,
    /// Those that were read, as they came. An isolate that has just begun has no time to take a hundred
    /// thousand of them apart.
    packed: PackedIndicators,
    /// Those that were added.
    added: Vec<IndicatorEntry>,
    /// The first of those of each key.
    first_added: HashMap<u64, u32, BuildHasherDefault<IdentityHasher>>,
}

/// Entries of the compact form, in the order of their keys.
#[derive(Clone, Debug, Default)]
struct PackedIndicators {
    encoded: Vec<u8>,
    /// How many bits of a key tell its bucket; and where each bucket begins, and the last one ends.
    bucket_bits: u32,
    bucket_starts: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct IndicatorEntry {
    key: u64,
    name_index: u16,
    expires: u32,
    cluster: u32,
    /// Another entry of the same key.
    next_index: u32,
}

/// No further entry.
const NO_ENTRY: u32 = u32::MAX;

/// Indicators that are held at most.
pub const MAX_INDICATORS: usize = 200_000;

/// Bytes that they have at most where they are published: with all names, and what stands before them.
pub const MAX_PACKED_BYTES: usize = MAX_INDICATORS * ENTRY_BYTES + (64 << 10) + 64;

/// Correlations that indicators are of at most, and bytes of the name of one: each is a byte in the
/// compact form.
pub const MAX_CORRELATION_NAMES: usize = 255;
/// See above.
pub const MAX_NAME_BYTES: usize = 255;

/// The form that this version writes, and the only one that it reads.
const FORMAT_VERSION: u8 = 2;

/// Bytes of an entry in that form.
const ENTRY_BYTES: usize = 18;

impl Indicators {
    /// How many there are, expired ones too.
    pub fn len(&self) -> usize {
        self.added.len().saturating_add(self.packed.encoded.len() / ENTRY_BYTES)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indicators of a key that count now.
    pub fn active(&self, key: u64, now: u64) -> impl Iterator<Item = Indicator<'_>> {
        self.entries_of(key)
            .filter(move |entry| now < u64::from(entry.expires))
            .filter_map(|entry| self.resolve(&entry))
    }

    /// The indicator of a correlation for a key, even if it counts no more.
    pub fn find(&self, correlation: &str, key: u64) -> Option<Indicator<'_>> {
        let name_index = self.correlation_names.iter().position(|name| name == correlation)?;
        let entry =
            self.entries_of(key).find(|known| usize::from(known.name_index) == name_index)?;
        self.resolve(&entry)
    }

    /// How many there are of a correlation.
    pub fn count(&self, correlation: &str) -> usize {
        let name_index = self.correlation_names.iter().position(|name| name == correlation);
        name_index.map_or(0, |name| {
            self.all_entries().filter(|entry| usize::from(entry.name_index) == name).count()
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Indicator<'_>> {
        self.all_entries().filter_map(|entry| self.resolve(&entry))
    }

    fn all_entries(&self) -> impl Iterator<Item = IndicatorEntry> {
        self.packed.entries().chain(self.added.iter().copied())
    }

    /// All of a key.
    fn entries_of(&self, key: u64) -> impl Iterator<Item = IndicatorEntry> {
        let first_index = self.first_added.get(&key).copied().unwrap_or(NO_ENTRY);
        let added_entry = |index: u32| self.added.get(index as usize).copied();
        let added = std::iter::successors(added_entry(first_index), move |previous| {
            added_entry(previous.next_index)
        });
        self.packed.entries_of(key).chain(added)
    }

    /// Adds an indicator, or extends the one there is. One more than there may be is left out.
    pub fn add(&mut self, indicator: Indicator<'_>) {
        let Indicator { key, expires, cluster, .. } = indicator;
        if let Some(name_index) = self.intern(indicator.correlation) {
            self.insert(IndicatorEntry { key, name_index, expires, cluster, next_index: NO_ENTRY });
        }
    }

    fn insert(&mut self, entry: IndicatorEntry) {
        if self.packed.merge(&entry) {
            return;
        }
        let new_index = self.added.len() as u32;
        let is_full = self.len() >= MAX_INDICATORS;
        match self.first_added.entry(entry.key) {
            Slot::Vacant(slot) if !is_full => {
                slot.insert(new_index);
                self.added.push(entry);
            }
            Slot::Vacant(_) => {}
            Slot::Occupied(mut slot) => {
                let mut index = *slot.get();
                while let Some(existing) = self.added.get_mut(index as usize) {
                    if existing.name_index == entry.name_index {
                        return existing.merge(&entry);
                    }
                    index = existing.next_index;
                }
                if !is_full {
                    self.added.push(IndicatorEntry { next_index: slot.insert(new_index), ..entry });
                }
            }
        }
    }

    /// The same without those that count no more, or that are not to be kept.
    pub fn without_expired(&self, now: u64, keep: impl Fn(&Indicator<'_>) -> bool) -> Self {
        self.filtered(|indicator| now < u64::from(indicator.expires) && keep(indicator))
    }

    /// The same without those that are not to be kept.
    pub fn filtered(&self, keep: impl Fn(&Indicator<'_>) -> bool) -> Self {
        let mut result = Self::default();
        self.iter().filter(keep).for_each(|indicator| result.add(indicator));
        result
    }

    /// The compact form: a version, the number of correlations and their names, each behind its
    /// length, and then entries of eighteen bytes, little-endian: key, correlation, expiry, cluster; in
    /// the order of keys and correlations.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoded =
            vec![FORMAT_VERSION, self.correlation_names.len().min(MAX_CORRELATION_NAMES) as u8];
        for name in self.correlation_names.iter().take(MAX_CORRELATION_NAMES) {
            let name = name.as_bytes().get(..MAX_NAME_BYTES).unwrap_or(name.as_bytes());
            encoded.push(name.len() as u8);
            encoded.extend_from_slice(name);
        }
        let mut entries: Vec<IndicatorEntry> = self.all_entries().collect();
        entries.sort_unstable_by_key(|entry| (entry.key, entry.name_index));
        encoded.reserve(entries.len().saturating_mul(ENTRY_BYTES));
        entries.iter().for_each(|entry| encoded.extend_from_slice(&entry.encode()));
        encoded
    }

    /// Reads the compact form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = || Error::new("these are no indicators", "publish them again");
        let (head, mut rest) = bytes.split_first_chunk::<2>().ok_or_else(invalid)?;
        if head[0] != FORMAT_VERSION {
            let problem = format!("version {} of indicators is not known", head[0]);
            return Err(Error::new(problem, "update Hedgerow"));
        }
        let mut indicators = Self::default();
        for index in 0..usize::from(head[1]) {
            let (length, after_length) = rest.split_first().ok_or_else(invalid)?;
            let (name, after_name) =
                after_length.split_at_checked(usize::from(*length)).ok_or_else(invalid)?;
            let name = std::str::from_utf8(name).map_err(|_| invalid())?;
            if indicators.intern(name).map(usize::from) != Some(index) {
                return Err(invalid());
            }
            rest = after_name;
        }
        indicators.packed = PackedIndicators::decode(rest, indicators.correlation_names.len())
            .ok_or_else(invalid)?;
        Ok(indicators)
    }

    fn resolve(&self, entry: &IndicatorEntry) -> Option<Indicator<'_>> {
        let correlation = self.correlation_names.get(usize::from(entry.name_index))?;
        let IndicatorEntry { key, expires, cluster, .. } = *entry;
        Some(Indicator { correlation, key, expires, cluster })
    }

    /// The place of a correlation's name.
    fn intern(&mut self, intern: &str) -> Option<u16> {
        let existing =
            self.correlation_names.iter().position(|existing_index| existing_index == intern);
        let index = match existing {
            Some(index) => index,
            None if self.correlation_names.len() < MAX_CORRELATION_NAMES
                && intern.len() <= MAX_NAME_BYTES =>
            {
                self.correlation_names.push(intern.to_owned());
                self.correlation_names.len().saturating_sub(1)
            }
            None => return None,
        };
        u16::try_from(index).ok()
    }
}

impl IndicatorEntry {
    /// Reads the compact form.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<8>()?;
        let (name, rest) = rest.split_first_chunk::<2>()?;
        let (expires, rest) = rest.split_first_chunk::<4>()?;
        let (cluster, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            key: u64::from_le_bytes(*key),
            name_index: u16::from_le_bytes(*name),
            expires: u32::from_le_bytes(*expires),
            cluster: u32::from_le_bytes(*cluster),
            next_index: NO_ENTRY,
        })
    }

    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let [a, b, c, d, e, f, g, h] = self.key.to_le_bytes();
        let [i, j] = self.name_index.to_le_bytes();
        let [k, l, m, n] = self.expires.to_le_bytes();
        let [o, p, q, r] = self.cluster.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r]
    }

    /// Takes over what another of the same key and correlation says.
    fn merge(&mut self, other: &Self) {
        self.expires = self.expires.max(other.expires);
        self.cluster = if other.cluster == 0 { self.cluster } else { other.cluster };
    }
}

impl PackedIndicators {
    /// Entries of so many correlations; `None` where these are none, or not in their order.
    fn decode(bytes: &[u8], name_count: usize) -> Option<Self> {
        let count = bytes.len() / ENTRY_BYTES;
        if !bytes.len().is_multiple_of(ENTRY_BYTES) || count > MAX_INDICATORS {
            return None;
        }
        // Some four entries to a bucket.
        let bucket_bits = (count / 4).checked_ilog2().unwrap_or(0);
        let bucket_count = 1_usize.checked_shl(bucket_bits)?;
        let mut packed =
            Self { encoded: bytes.to_vec(), bucket_bits, bucket_starts: vec![0; bucket_count] };
        let mut previous = None;
        for (entry_end, entry) in (1_u32..).zip(bytes.chunks_exact(ENTRY_BYTES)) {
            let IndicatorEntry { key, name_index, .. } = IndicatorEntry::decode(entry)?;
            if usize::from(name_index) >= name_count
                || previous.is_some_and(|before| before >= (key, name_index))
            {
                return None;
            }
            previous = Some((key, name_index));
            // For now, where a bucket ends.
            *packed.bucket_starts.get_mut(bucket_of(key, bucket_bits))? = entry_end;
        }
        let mut start = 0;
        for bucket_start in &mut packed.bucket_starts {
            start = start.max(std::mem::replace(bucket_start, start));
        }
        packed.bucket_starts.push(start);
        Some(packed)
    }

    fn entries(&self) -> impl Iterator<Item = IndicatorEntry> {
        self.encoded.chunks_exact(ENTRY_BYTES).filter_map(IndicatorEntry::decode)
    }

    /// Where the bytes of a key's bucket are.
    fn bucket_range(&self, key: u64) -> std::ops::Range<usize> {
        let bucket = bucket_of(key, self.bucket_bits);
        let offset_of =
            |index: usize| self.bucket_starts.get(index).map_or(0, |start| *start as usize);
        let (first, end) = (offset_of(bucket), offset_of(bucket.saturating_add(1)));
        first.saturating_mul(ENTRY_BYTES)..end.saturating_mul(ENTRY_BYTES)
    }

    fn entries_of(&self, key: u64) -> impl Iterator<Item = IndicatorEntry> {
        let bucket_bytes = self.encoded.get(self.bucket_range(key)).unwrap_or_default();
        bucket_bytes
            .chunks_exact(ENTRY_BYTES)
            .filter_map(IndicatorEntry::decode)
            .filter(move |entry| entry.key == key)
    }

    /// Has an entry say what another of its key and correlation says, if there is one.
    fn merge(&mut self, entry: &IndicatorEntry) -> bool {
        let range = self.bucket_range(entry.key);
        let bucket_bytes = self.encoded.get_mut(range).unwrap_or_default();
        for bytes in bucket_bytes.chunks_exact_mut(ENTRY_BYTES) {
            let Some(mut existing) = IndicatorEntry::decode(bytes) else { continue };
            if (existing.key, existing.name_index) == (entry.key, entry.name_index) {
                existing.merge(entry);
                bytes.copy_from_slice(&existing.encode());
                return true;
            }
        }
        false
    }
}

/// A key's bucket: its first bits.
fn bucket_of(key: u64, bits: u32) -> usize {
    key.checked_shr(u64::BITS.saturating_sub(bits)).unwrap_or(0) as usize
}

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
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

    /// What is added to those that were read is found beside them, and extends them.
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
            [2, 1, 3, b'o', b'n', b'e', 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0]
        );
        for end in 0..valid.len() {
            let is_head_alone = end == 6;
            assert_eq!(Indicators::decode(&valid[..end]).is_ok(), is_head_alone, "{end}");
        }
        let mut invalid = valid.clone();
        invalid[0] = 3;
        assert!(Indicators::decode(&invalid).unwrap_err().problem().contains("version 3"));
        assert!(Indicators::decode(&[&valid[..], &valid[6..]].concat()).is_err(), "twice");
        invalid = valid;
        invalid[14] = 1;
        assert!(Indicators::decode(&invalid).is_err(), "a correlation without a name");
    }
}
