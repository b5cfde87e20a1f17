//! One indicator in its binary form.

/// Bytes of an encoded entry.
pub const ENTRY_BYTES: usize = 18;

/// Value of [`IndicatorEntry::next_index`] in the last entry of a list.
pub const NO_ENTRY: u32 = u32::MAX;

/// An indicator that refers to its correlation by index.
#[derive(Clone, Copy, Debug)]
pub struct IndicatorEntry {
    /// Hash over the values of the group.
    pub key: u64,
    /// Index of the correlation's name.
    pub name_index: u16,
    /// Time from which on the indicator is inactive, in seconds since the epoch.
    pub expires: u32,
    /// Id of the cluster of the indicator's accounts; 0 if the accounts are not in a cluster.
    pub cluster: u32,
    /// Index of the next entry with the same key, in a list in memory; [`NO_ENTRY`] if there is
    /// none. This field is not encoded. It needs no additional memory, because it replaces padding.
    pub next_index: u32,
}

impl IndicatorEntry {
    /// Decodes the first [`ENTRY_BYTES`] of `bytes`; `None` if `bytes` has fewer.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<8>()?;
        let (name_index, rest) = rest.split_first_chunk::<2>()?;
        let (expires, rest) = rest.split_first_chunk::<4>()?;
        let (cluster, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            key: u64::from_le_bytes(*key),
            name_index: u16::from_le_bytes(*name_index),
            expires: u32::from_le_bytes(*expires),
            cluster: u32::from_le_bytes(*cluster),
            next_index: NO_ENTRY,
        })
    }

    /// Encodes the fields in their order, little-endian.
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut encoded = [0; ENTRY_BYTES];
        let (key, rest) = encoded.split_at_mut(8);
        let (name_index, rest) = rest.split_at_mut(2);
        let (expires, cluster) = rest.split_at_mut(4);
        key.copy_from_slice(&self.key.to_le_bytes());
        name_index.copy_from_slice(&self.name_index.to_le_bytes());
        expires.copy_from_slice(&self.expires.to_le_bytes());
        cluster.copy_from_slice(&self.cluster.to_le_bytes());
        encoded
    }

    /// Merges a later entry with the same key and correlation: keeps the later expiry, and the
    /// cluster of the later entry unless this cluster is 0.
    pub fn merge(&mut self, other: &Self) {
        self.expires = self.expires.max(other.expires);
        self.cluster = if other.cluster == 0 { self.cluster } else { other.cluster };
    }
}
