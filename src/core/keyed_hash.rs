//! Keyed hashes, which are counted and compared in place of values that must not be stored.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;
use xxhash_rust::xxh3::xxh3_64;

use crate::field::FieldId;
use crate::hash_purpose::HashPurpose;

/// The hash key of a deployment.
///
/// Without the key, a hash does not reveal its value; with another key, all hashes differ. The
/// default key is for offline use, in which no hash is stored.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HashKey(u64, u64);

impl HashKey {
    /// Derives the key from the secret of a deployment.
    pub fn derive(secret: &[u8]) -> Self {
        let digest = Sha256::new()
            .chain_update(HashPurpose::HashKey.prefix())
            .chain_update(secret)
            .finalize();
        let mut words = digest
            .chunks_exact(8)
            .map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        Self(words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// Hashes a value of a field. The same bytes in another field have another hash.
    pub fn keyed_hash(&self, field_name: &str, hash_value: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        hasher.write(field_name.as_bytes());
        hasher.write(&[0]);
        hasher.write(hash_value);
        hasher.finish()
    }

    /// Hashes the network of an address: the whole IPv4 address, or the first 64 bits of an IPv6
    /// address, which usually belong to one client. Returns `None` if `address` is not an IP
    /// address.
    pub fn hash_network(&self, address: &str) -> Option<u64> {
        let field_name = FieldId::ClientAddress.spec().name;
        Some(match address.trim().parse::<IpAddr>().ok()?.to_canonical() {
            IpAddr::V4(address) => self.keyed_hash(field_name, &address.octets()),
            IpAddr::V6(address) => self.keyed_hash(field_name, address.octets().get(..8)?),
        })
    }

    /// Hashes the name of a tenant. The hash is not 0, which stands for an unknown tenant.
    pub fn hash_tenant(&self, tenant: &str) -> u64 {
        self.keyed_hash("hedgerow.tenant", tenant.as_bytes()).max(1)
    }

    /// Returns a secret salt for fast hashes, which are never stored or sent.
    pub(crate) fn salt(&self) -> u64 {
        self.0
    }
}

/// Combines hashes into one hash that depends on their order. Returns a single hash unchanged, and
/// 0 for an empty list.
pub fn combine_hashes(hashes: &[u64]) -> u64 {
    match hashes {
        [hash] => *hash,
        hashes => hashes
            .iter()
            .fold(hashes.len() as u64, |state, hash| fmix64(state.rotate_left(29) ^ hash)),
    }
}

/// Hashes bytes fast and without a key. Hash the result with a key before it is stored or sent.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Mixes the bits of a word; a bijection (the finaliser of MurmurHash3).
pub fn fmix64(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// Returns the word whose [`fmix64`] is `hash`.
pub(crate) fn fmix64_inverse(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0x9cb4_b2f8_1293_37db);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0x4f74_430c_22a5_4005);
    hash ^ hash >> 33
}

impl fmt::Debug for HashKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HashKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_hash_to_the_same_value() {
        let key = HashKey::default();
        let rows = [
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.8", false),
            ("203.0.113.7", "::ffff:203.0.113.7", true),
            ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4", true),
            ("2001:db8:1:2::3", "2001:db8:1:3::3", false),
        ];
        for (left, right, alike) in rows {
            assert_eq!(key.hash_network(left) == key.hash_network(right), alike, "{left} {right}");
        }
        assert_eq!(key.hash_network("nonsense"), None);
    }

    #[test]
    fn different_secrets_give_different_hashes() {
        let keys = [HashKey::default(), HashKey::derive(b"one"), HashKey::derive(b"two")];
        let hashes = keys.map(|key| key.keyed_hash("hedgerow.account", b"a"));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
        assert_ne!(keys[0].keyed_hash("a", b"x"), keys[0].keyed_hash("b", b"x"));
        assert_eq!(format!("{:?}", keys[1]), "HashKey(…)");
    }

    /// Hashes must not change, because they are stored and other versions of the program compare
    /// them.
    #[test]
    fn hashes_are_stable() {
        let key = HashKey::derive(b"secret");
        assert_eq!(key.keyed_hash("hedgerow.account", b"a"), 1161478017095893624);
        assert_eq!(combine_hashes(&[1, 2]), 6548439592091584233);
        assert_eq!(combine_hashes(&[7]), 7);
    }
}
