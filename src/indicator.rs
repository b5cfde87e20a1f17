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
    entries: Vec<Entry>,
    /// The first entry of each key.
    first: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
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
const VERSION: u8 = 1;

/// Bytes of an entry in that form.
const ENTRY: usize = 18;

impl Indicators {
    /// How many there are, expired ones too.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The indicators of a key that count now.
    pub fn of(&self, key: u64, now: u64) -> impl Iterator<Item = Indicator<'_>> {
        let first = self.first.get(&key).copied().unwrap_or(NONE);
        let entry = |place: u32| self.entries.get(place as usize);
        let chain = std::iter::successors(entry(first), move |known| entry(known.next));
        chain
            .filter(move |known| now < u64::from(known.expires))
            .filter_map(|known| self.tell(known))
    }

    /// The indicator of a correlation for a key, even if it counts no more.
    pub fn find(&self, correlation: &str, key: u64) -> Option<Indicator<'_>> {
        let first = self.entries.get(*self.first.get(&key)? as usize);
        let mut chain = std::iter::successors(first, |known| self.entries.get(known.next as usize));
        let name = self.names.iter().position(|name| name == correlation)?;
        chain.find(|known| usize::from(known.name) == name).and_then(|known| self.tell(known))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Indicator<'_>> {
        self.entries.iter().filter_map(|known| self.tell(known))
    }

    /// Adds an indicator, or extends the one there is. One more than there may be is left out.
    pub fn add(&mut self, indicator: Indicator<'_>) {
        let Indicator { key, expires, cluster, .. } = indicator;
        if let Some(name) = self.name(indicator.correlation) {
            self.put(Entry { key, name, expires, cluster, next: NONE });
        }
    }

    fn put(&mut self, entry: Entry) {
        let last = self.entries.len() as u32;
        let is_full = self.entries.len() >= MAX_INDICATORS;
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
    /// length, and then entries of eighteen bytes, little-endian: key, correlation, expiry, cluster.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.names.len().min(MAX_NAMES) as u8];
        for name in self.names.iter().take(MAX_NAMES) {
            let name = name.as_bytes().get(..MAX_NAME).unwrap_or(name.as_bytes());
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name);
        }
        bytes.reserve(self.entries.len().saturating_mul(ENTRY));
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.key.to_le_bytes());
            bytes.extend_from_slice(&entry.name.to_le_bytes());
            bytes.extend_from_slice(&entry.expires.to_le_bytes());
            bytes.extend_from_slice(&entry.cluster.to_le_bytes());
        }
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
        let mut names = Vec::new();
        for _ in 0..head[1] {
            let (length, behind) = rest.split_first().ok_or_else(damaged)?;
            let (name, behind) =
                behind.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
            let name = std::str::from_utf8(name).map_err(|_| damaged())?;
            names.push(indicators.name(name).ok_or_else(damaged)?);
            rest = behind;
        }
        let count = rest.len() / ENTRY;
        if rest.len() % ENTRY != 0 || count > MAX_INDICATORS {
            return Err(damaged());
        }
        indicators.entries.reserve_exact(count);
        indicators.first.reserve(count);
        for entry in rest.chunks_exact(ENTRY) {
            indicators.put(read(entry, &names).ok_or_else(damaged)?);
        }
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
    /// Takes over what another of the same key and correlation says.
    fn extend(&mut self, other: &Self) {
        self.expires = self.expires.max(other.expires);
        self.cluster = if other.cluster == 0 { self.cluster } else { other.cluster };
    }
}

/// Reads an entry of the compact form; `names` are the places of its names.
fn read(entry: &[u8], names: &[u16]) -> Option<Entry> {
    let (key, rest) = entry.split_first_chunk::<8>()?;
    let (name, rest) = rest.split_first_chunk::<2>()?;
    let (expires, rest) = rest.split_first_chunk::<4>()?;
    let (cluster, _) = rest.split_first_chunk::<4>()?;
    Some(Entry {
        key: u64::from_le_bytes(*key),
        name: *names.get(usize::from(u16::from_le_bytes(*name)))?,
        expires: u32::from_le_bytes(*expires),
        cluster: u32::from_le_bytes(*cluster),
        next: NONE,
    })
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
        assert!(read.iter().eq(indicators.iter()));
    }

    #[test]
    fn what_is_no_indicators_is_refused() {
        let mut good = Indicators::default();
        good.add(indicator("one", 7, 100));
        let good = good.bytes();
        assert_eq!(
            good,
            [1, 1, 3, b'o', b'n', b'e', 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0]
        );
        for end in 0..good.len() {
            let is_head_alone = end == 6;
            assert_eq!(Indicators::parse(&good[..end]).is_ok(), is_head_alone, "{end}");
        }
        let mut other = good.clone();
        other[0] = 2;
        assert!(Indicators::parse(&other).unwrap_err().problem().contains("version 2"));
        other = good;
        other[14] = 1;
        assert!(Indicators::parse(&other).is_err(), "a correlation without a name");
    }
}
