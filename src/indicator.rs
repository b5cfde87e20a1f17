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
    names: Vec<String>,
    /// Those that were read, as they came. An isolate that has just begun has no time to take a hundred
    /// thousand of them apart.
    read: Read,
    /// Those that were added.
    entries: Vec<Entry>,
    /// The first of those of each key.
    first: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
}

/// Entries of the compact form, in the order of their keys.
#[derive(Clone, Debug, Default)]
struct Read {
    bytes: Vec<u8>,
    /// How many bits of a key tell its bucket; and where each bucket begins, and the last one ends.
    bits: u32,
    starts: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    name: u16,
    expires: u32,
    cluster: u32,
    /// Another entry of the same key.
    next: u32,
}

/// No further entry.
const NONE: u32 = u32::MAX;

/// Indicators that are held at most.
pub const MAX_INDICATORS: usize = 200_000;

/// Bytes that they have at most where they are published: with all names, and what stands before them.
pub const MAX_BYTES: usize = MAX_INDICATORS * ENTRY + (64 << 10) + 64;

/// Correlations that indicators are of at most, and bytes of the name of one: each is a byte in the
/// compact form.
pub const MAX_NAMES: usize = 255;
/// See above.
pub const MAX_NAME: usize = 255;

/// The form that this version writes, and the only one that it reads.
const VERSION: u8 = 2;

/// Bytes of an entry in that form.
const ENTRY: usize = 18;

impl Indicators {
    /// How many there are, expired ones too.
    pub fn len(&self) -> usize {
        self.entries.len().saturating_add(self.read.bytes.len() / ENTRY)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indicators of a key that count now.
    pub fn of(&self, key: u64, now: u64) -> impl Iterator<Item = Indicator<'_>> {
        self.known(key)
            .filter(move |known| now < u64::from(known.expires))
            .filter_map(|known| self.tell(&known))
    }

    /// The indicator of a correlation for a key, even if it counts no more.
    pub fn find(&self, correlation: &str, key: u64) -> Option<Indicator<'_>> {
        let name = self.names.iter().position(|name| name == correlation)?;
        let known = self.known(key).find(|known| usize::from(known.name) == name)?;
        self.tell(&known)
    }

    /// How many there are of a correlation.
    pub fn count(&self, correlation: &str) -> usize {
        let name = self.names.iter().position(|name| name == correlation);
        name.map_or(0, |name| self.all().filter(|known| usize::from(known.name) == name).count())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Indicator<'_>> {
        self.all().filter_map(|known| self.tell(&known))
    }

    fn all(&self) -> impl Iterator<Item = Entry> {
        self.read.all().chain(self.entries.iter().copied())
    }

    /// All of a key.
    fn known(&self, key: u64) -> impl Iterator<Item = Entry> {
        let first = self.first.get(&key).copied().unwrap_or(NONE);
        let entry = |place: u32| self.entries.get(place as usize).copied();
        let added = std::iter::successors(entry(first), move |known| entry(known.next));
        self.read.of(key).chain(added)
    }

    /// Adds an indicator, or extends the one there is. One more than there may be is left out.
    pub fn add(&mut self, indicator: Indicator<'_>) {
        let Indicator { key, expires, cluster, .. } = indicator;
        if let Some(name) = self.name(indicator.correlation) {
            self.put(Entry { key, name, expires, cluster, next: NONE });
        }
    }

    fn put(&mut self, entry: Entry) {
        if self.read.extend(&entry) {
            return;
        }
        let last = self.entries.len() as u32;
        let is_full = self.len() >= MAX_INDICATORS;
        match self.first.entry(entry.key) {
            Slot::Vacant(slot) if !is_full => {
                slot.insert(last);
                self.entries.push(entry);
            }
            Slot::Vacant(_) => {}
            Slot::Occupied(mut slot) => {
                let mut place = *slot.get();
                while let Some(known) = self.entries.get_mut(place as usize) {
                    if known.name == entry.name {
                        return known.extend(&entry);
                    }
                    place = known.next;
                }
                if !is_full {
                    self.entries.push(Entry { next: slot.insert(last), ..entry });
                }
            }
        }
    }

    /// The same without those that count no more, or that are not to be kept.
    pub fn only(&self, now: u64, keep: impl Fn(&Indicator<'_>) -> bool) -> Self {
        self.only_where(|known| now < u64::from(known.expires) && keep(known))
    }

    /// The same without those that are not to be kept.
    pub fn only_where(&self, keep: impl Fn(&Indicator<'_>) -> bool) -> Self {
        let mut kept = Self::default();
        self.iter().filter(keep).for_each(|known| kept.add(known));
        kept
    }

    /// The compact form: a version, the number of correlations and their names, each behind its
    /// length, and then entries of eighteen bytes, little-endian: key, correlation, expiry, cluster; in
    /// the order of keys and correlations.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.names.len().min(MAX_NAMES) as u8];
        for name in self.names.iter().take(MAX_NAMES) {
            let name = name.as_bytes().get(..MAX_NAME).unwrap_or(name.as_bytes());
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name);
        }
        let mut entries: Vec<Entry> = self.all().collect();
        entries.sort_unstable_by_key(|entry| (entry.key, entry.name));
        bytes.reserve(entries.len().saturating_mul(ENTRY));
        entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.bytes()));
        bytes
    }

    /// Reads the compact form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::new("these are no indicators", "publish them again");
        let (head, mut rest) = bytes.split_first_chunk::<2>().ok_or_else(damaged)?;
        if head[0] != VERSION {
            let problem = format!("version {} of indicators is not known", head[0]);
            return Err(Error::new(problem, "update Hedgerow"));
        }
        let mut indicators = Self::default();
        for place in 0..usize::from(head[1]) {
            let (length, behind) = rest.split_first().ok_or_else(damaged)?;
            let (name, behind) =
                behind.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
            let name = std::str::from_utf8(name).map_err(|_| damaged())?;
            if indicators.name(name).map(usize::from) != Some(place) {
                return Err(damaged());
            }
            rest = behind;
        }
        indicators.read = Read::new(rest, indicators.names.len()).ok_or_else(damaged)?;
        Ok(indicators)
    }

    fn tell(&self, entry: &Entry) -> Option<Indicator<'_>> {
        let correlation = self.names.get(usize::from(entry.name))?;
        let Entry { key, expires, cluster, .. } = *entry;
        Some(Indicator { correlation, key, expires, cluster })
    }

    /// The place of a correlation's name.
    fn name(&mut self, name: &str) -> Option<u16> {
        let known = self.names.iter().position(|known| known == name);
        let place = match known {
            Some(place) => place,
            None if self.names.len() < MAX_NAMES && name.len() <= MAX_NAME => {
                self.names.push(name.to_owned());
                self.names.len().saturating_sub(1)
            }
            None => return None,
        };
        u16::try_from(place).ok()
    }
}

impl Entry {
    /// Reads the compact form.
    fn read(entry: &[u8]) -> Option<Self> {
        let (key, rest) = entry.split_first_chunk::<8>()?;
        let (name, rest) = rest.split_first_chunk::<2>()?;
        let (expires, rest) = rest.split_first_chunk::<4>()?;
        let (cluster, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            key: u64::from_le_bytes(*key),
            name: u16::from_le_bytes(*name),
            expires: u32::from_le_bytes(*expires),
            cluster: u32::from_le_bytes(*cluster),
            next: NONE,
        })
    }

    fn bytes(&self) -> [u8; ENTRY] {
        let [a, b, c, d, e, f, g, h] = self.key.to_le_bytes();
        let [i, j] = self.name.to_le_bytes();
        let [k, l, m, n] = self.expires.to_le_bytes();
        let [o, p, q, r] = self.cluster.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r]
    }

    /// Takes over what another of the same key and correlation says.
    fn extend(&mut self, other: &Self) {
        self.expires = self.expires.max(other.expires);
        self.cluster = if other.cluster == 0 { self.cluster } else { other.cluster };
    }
}

impl Read {
    /// Entries of so many correlations; `None` where these are none, or not in their order.
    fn new(bytes: &[u8], names: usize) -> Option<Self> {
        let count = bytes.len() / ENTRY;
        if !bytes.len().is_multiple_of(ENTRY) || count > MAX_INDICATORS {
            return None;
        }
        // Some four entries to a bucket.
        let bits = (count / 4).checked_ilog2().unwrap_or(0);
        let buckets = 1_usize.checked_shl(bits)?;
        let mut read = Self { bytes: bytes.to_vec(), bits, starts: vec![0; buckets] };
        let mut before = None;
        for (number, entry) in (1_u32..).zip(bytes.chunks_exact(ENTRY)) {
            let Entry { key, name, .. } = Entry::read(entry)?;
            if usize::from(name) >= names || before.is_some_and(|before| before >= (key, name)) {
                return None;
            }
            before = Some((key, name));
            // For now, where a bucket ends.
            *read.starts.get_mut(bucket(key, bits))? = number;
        }
        let mut start = 0;
        for own in &mut read.starts {
            start = start.max(std::mem::replace(own, start));
        }
        read.starts.push(start);
        Some(read)
    }

    fn all(&self) -> impl Iterator<Item = Entry> {
        self.bytes.chunks_exact(ENTRY).filter_map(Entry::read)
    }

    /// Where the bytes of a key's bucket are.
    fn range(&self, key: u64) -> std::ops::Range<usize> {
        let place = bucket(key, self.bits);
        let start = |place: usize| self.starts.get(place).map_or(0, |start| *start as usize);
        let (from, to) = (start(place), start(place.saturating_add(1)));
        from.saturating_mul(ENTRY)..to.saturating_mul(ENTRY)
    }

    fn of(&self, key: u64) -> impl Iterator<Item = Entry> {
        let own = self.bytes.get(self.range(key)).unwrap_or_default();
        own.chunks_exact(ENTRY).filter_map(Entry::read).filter(move |known| known.key == key)
    }

    /// Has an entry say what another of its key and correlation says, if there is one.
    fn extend(&mut self, entry: &Entry) -> bool {
        let range = self.range(entry.key);
        let own = self.bytes.get_mut(range).unwrap_or_default();
        for bytes in own.chunks_exact_mut(ENTRY) {
            let Some(mut known) = Entry::read(bytes) else { continue };
            if (known.key, known.name) == (entry.key, entry.name) {
                known.extend(entry);
                bytes.copy_from_slice(&known.bytes());
                return true;
            }
        }
        false
    }
}

/// A key's bucket: its first bits.
fn bucket(key: u64, bits: u32) -> usize {
    key.checked_shr(u64::BITS.saturating_sub(bits)).unwrap_or(0) as usize
}

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum.rotate_left(8) ^ u64::from(*byte));
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

    fn of(indicators: &Indicators, key: u64, now: u64) -> Vec<&str> {
        let mut names: Vec<&str> = indicators.of(key, now).map(|it| it.correlation).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn an_indicator_counts_until_it_expires_and_firing_again_extends_it() {
        let mut indicators = Indicators::default();
        indicators.add(indicator("one", 7, 100));
        indicators.add(indicator("two", 7, 200));
        indicators.add(indicator("one", 8, 100));
        assert_eq!(of(&indicators, 7, 99), ["one", "two"]);
        assert_eq!(of(&indicators, 7, 100), ["two"]);
        indicators.add(indicator("one", 7, 300));
        indicators.add(indicator("one", 7, 50));
        assert_eq!((of(&indicators, 7, 250), indicators.len()), (vec!["one"], 3));
        assert_eq!((indicators.count("one"), indicators.count("three")), (2, 0));
        assert_eq!(of(&indicators.only(250, |_| true), 7, 250), ["one"]);
        assert_eq!(indicators.find("two", 7), Some(indicator("two", 7, 200)));
        assert_eq!(indicators.find("two", 8), None);
        assert!(of(&indicators.only(0, |it| it.key != 7), 7, 0).is_empty());
    }

    #[test]
    fn a_hundred_thousand_travel_in_less_than_four_megabytes() {
        let mut indicators = Indicators::default();
        for key in 0..100_000_u64 {
            let name = if key % 3 == 0 { "cluster_a" } else { "cluster_b" };
            let (key, expires) = (crate::hash::mix(key), key as u32);
            indicators.add(Indicator { correlation: name, key, expires, cluster: 9 });
        }
        let bytes = indicators.bytes();
        assert!(bytes.len() <= 4_000_000, "{}", bytes.len());
        let read = Indicators::parse(&bytes).unwrap();
        assert_eq!(read.len(), indicators.len());
        for known in indicators.iter() {
            assert_eq!(read.find(known.correlation, known.key), Some(known));
        }
        assert_eq!(read.find("cluster_a", 77), None);
        assert_eq!(read.bytes(), bytes);
    }

    /// What is added to those that were read is found beside them, and extends them.
    #[test]
    fn some_are_read_and_some_are_added() {
        for count in [0, 1, 2, 3, 9, 100, 5_000] {
            let key = |number: u32| crate::hash::mix(u64::from(number));
            let mut indicators = Indicators::default();
            for number in 0..count {
                indicators.add(indicator("one", key(number), 100 + number));
            }
            let mut read = Indicators::parse(&indicators.bytes()).unwrap();
            for number in (0..count + 3).step_by(3) {
                for own in [&mut indicators, &mut read] {
                    own.add(indicator("one", key(number), 9_000));
                    own.add(Indicator { cluster: 4, ..indicator("two", key(number), 50) });
                }
            }
            assert_eq!(read.len(), indicators.len());
            for number in 0..count + 9 {
                for now in [40, 80, 8_000] {
                    let now = u64::from(now as u32);
                    assert_eq!(of(&read, key(number), now), of(&indicators, key(number), now));
                }
            }
            assert_eq!(read.bytes(), indicators.bytes());
        }
    }

    #[test]
    fn what_is_no_indicators_is_refused() {
        let mut good = Indicators::default();
        good.add(indicator("one", 7, 100));
        let good = good.bytes();
        assert_eq!(
            good,
            [2, 1, 3, b'o', b'n', b'e', 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0]
        );
        for end in 0..good.len() {
            let is_head_alone = end == 6;
            assert_eq!(Indicators::parse(&good[..end]).is_ok(), is_head_alone, "{end}");
        }
        let mut other = good.clone();
        other[0] = 3;
        assert!(Indicators::parse(&other).unwrap_err().problem().contains("version 3"));
        assert!(Indicators::parse(&[&good[..], &good[6..]].concat()).is_err(), "twice");
        other = good;
        other[14] = 1;
        assert!(Indicators::parse(&other).is_err(), "a correlation without a name");
    }
}
