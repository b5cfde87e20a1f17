//! Encoded indicators, which are searched without decoding them all.
//!
//! Entries are sorted by key. Keys are hashes and so evenly distributed: the first bits of a key
//! are the index of a bucket of about four entries.

use super::entry::{ENTRY_BYTES, IndicatorEntry};

/// Encoded entries, sorted by key and correlation, with an index of buckets.
#[derive(Clone, Debug, Default)]
pub struct PackedIndicators {
    encoded: Vec<u8>,
    /// Number of leading bits of a key that are the index of its bucket.
    bucket_bits: u32,
    /// Index of the first entry of each bucket, followed by the number of entries.
    bucket_starts: Vec<u32>,
}

impl PackedIndicators {
    /// Indexes encoded entries. Returns `None` if the entries are truncated, not sorted or
    /// repeated, or if the index of a name is `name_count` or more.
    pub fn decode(bytes: &[u8], name_count: usize) -> Option<Self> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return None;
        }
        let count = bytes.len() / ENTRY_BYTES;
        let bucket_bits = (count / 4).checked_ilog2().unwrap_or(0);
        let bucket_count = 1_usize.checked_shl(bucket_bits)?;
        // At first, `bucket_starts` has the end of each bucket that has entries.
        let mut bucket_starts = vec![0; bucket_count];
        let mut previous = None;
        for (entry_end, entry) in (1_u32..).zip(bytes.chunks_exact(ENTRY_BYTES)) {
            let IndicatorEntry { key, name_index, .. } = IndicatorEntry::decode(entry)?;
            if usize::from(name_index) >= name_count
                || previous.is_some_and(|previous| previous >= (key, name_index))
            {
                return None;
            }
            previous = Some((key, name_index));
            *bucket_starts.get_mut(bucket_of(key, bucket_bits))? = entry_end;
        }
        // A bucket starts where the buckets before it end.
        let mut start = 0;
        for bucket_start in &mut bucket_starts {
            start = start.max(std::mem::replace(bucket_start, start));
        }
        bucket_starts.push(start);
        Some(Self { encoded: bytes.to_vec(), bucket_bits, bucket_starts })
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.encoded.len() / ENTRY_BYTES
    }

    /// Returns all entries, sorted by key and correlation.
    pub fn entries(&self) -> impl Iterator<Item = IndicatorEntry> {
        self.encoded.chunks_exact(ENTRY_BYTES).filter_map(IndicatorEntry::decode)
    }

    /// Returns the entries of a key.
    pub fn entries_of(&self, key: u64) -> impl Iterator<Item = IndicatorEntry> {
        let bucket_bytes = self.encoded.get(self.bucket_range(key)).unwrap_or_default();
        bucket_bytes
            .chunks_exact(ENTRY_BYTES)
            .filter_map(IndicatorEntry::decode)
            .filter(move |entry| entry.key == key)
    }

    /// Merges `entry` into the entry with the same key and correlation. Returns false if there is
    /// no such entry.
    pub fn merge(&mut self, entry: &IndicatorEntry) -> bool {
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

    /// Returns the byte range of the bucket of a key.
    fn bucket_range(&self, key: u64) -> std::ops::Range<usize> {
        let bucket = bucket_of(key, self.bucket_bits);
        let offset_of = |index: usize| {
            let start = self.bucket_starts.get(index).map_or(0, |start| *start as usize);
            start.saturating_mul(ENTRY_BYTES)
        };
        offset_of(bucket)..offset_of(bucket.saturating_add(1))
    }
}

/// Returns the bucket of a key: its first `bits` bits.
fn bucket_of(key: u64, bits: u32) -> usize {
    key.checked_shr(u64::BITS.saturating_sub(bits)).unwrap_or(0) as usize
}
