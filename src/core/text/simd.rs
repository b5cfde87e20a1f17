//! SIMD masks: the classes of 64 bytes of text at a time, one bit per byte.
//!
//! A loop that searches for the next byte of a class waits for the result of the previous step. A
//! mask of all bytes is computed without waiting; its bits are then used one by one, or all at
//! once.
//!
//! `wide` uses SIMD on targets that always have it: Wasm (with `simd128`), x86-64, 64-bit ARM.
#![deny(clippy::arithmetic_side_effects)]

use wide::{i8x16, u8x16};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 64;

/// A block of text.
pub type Block = [u8; BLOCK_BYTES];

/// One bit per byte of a block, the lowest for the first byte.
pub type Mask = u64;

/// Eight bytes in one word (SIMD within a register). In a mask of these bytes, the highest bit of
/// each byte shows whether the byte belongs to the class.
#[derive(Clone, Copy, Debug)]
pub struct Swar8(pub u64);

/// A block as four vectors of 16 bytes.
#[derive(Clone, Copy, Debug)]
pub struct SimdBlock([u8x16; BLOCK_BYTES / 16]);

impl SimdBlock {
    /// Loads the first block of a text, filled up with zeros if the text is shorter.
    pub fn from_prefix(text: &[u8]) -> Self {
        if let Some(block) = text.first_chunk() {
            return Self::from_block(block);
        }
        let mut block = [0; BLOCK_BYTES];
        block.iter_mut().zip(text).for_each(|(dst, byte)| *dst = *byte);
        Self::from_block(&block)
    }

    fn from_block(block: &Block) -> Self {
        let mut lanes = [u8x16::ZERO; BLOCK_BYTES / 16];
        for (lane, bytes) in lanes.iter_mut().zip(block.as_chunks::<16>().0) {
            *lane = u8x16::new(*bytes);
        }
        Self(lanes)
    }

    /// Returns whether any byte equals `byte` or `other`.
    pub fn contains_either(&self, byte: u8, other: u8) -> bool {
        let [a, b, c, d] = self.0.map(|lane| equal(lane, byte) | equal(lane, other));
        ((a | b) | (c | d)).to_bitmask() != 0
    }

    /// Returns the mask of the bytes that equal `byte`.
    pub fn equal(&self, byte: u8) -> Mask {
        self.mask(|lane| equal(lane, byte))
    }

    /// Returns the mask of the bytes greater than `above` and less than `below`, both ASCII.
    pub fn between(&self, above: u8, below: u8) -> Mask {
        self.mask(|lane| between(lane, above, below))
    }

    /// Returns the block with ASCII letters in lower case.
    pub fn to_ascii_lowercase(&self) -> Block {
        let mut block = [0; BLOCK_BYTES];
        for (lane, bytes) in self.0.iter().zip(block.as_chunks_mut::<16>().0) {
            let uppercase = between(*lane, b'A' - 1, b'Z' + 1);
            *bytes = (*lane | (uppercase & u8x16::splat(b' '))).to_array();
        }
        block
    }

    fn mask(&self, predicate: impl Fn(u8x16) -> u8x16) -> Mask {
        let [a, b, c, d] = self.0.map(|lane| u64::from(predicate(lane).to_bitmask()));
        a | b << 16 | c << 32 | d << 48
    }
}

fn equal(lane: u8x16, byte: u8) -> u8x16 {
    lane.simd_eq(u8x16::splat(byte))
}

fn between(lane: u8x16, above: u8, below: u8) -> u8x16 {
    // As signed numbers, bytes outside ASCII are negative.
    let lane = lane.cast_signed();
    let is_between = lane.simd_gt(i8x16::splat(above.cast_signed()))
        & lane.simd_lt(i8x16::splat(below.cast_signed()));
    is_between.cast_unsigned()
}

/// The escapes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escapes {
    /// Bytes that are escaped.
    pub escaped: Mask,
    /// Backslashes that escape the next byte.
    pub escaping: Mask,
}

/// Finds the escapes of a block that begins outside an escape: in a run of backslashes, every other
/// backslash escapes the next byte.
pub fn find_escapes(backslashes: Mask) -> Escapes {
    const ODD_BITS: Mask = 0xaaaa_aaaa_aaaa_aaaa;
    // simdjson's method: in a run that begins on an even bit, the subtraction borrows through the
    // odd bits.
    let escape_and_terminal = ((backslashes << 1 | ODD_BITS).wrapping_sub(backslashes)) ^ ODD_BITS;
    Escapes {
        escaped: escape_and_terminal ^ backslashes,
        escaping: escape_and_terminal & backslashes,
    }
}

/// Moves the bytes of a block that `keep` selects to the front of `out`. Returns their number.
pub fn compress(block: &Block, keep: Mask, out: &mut CompressBuffer) -> usize {
    let mut written = 0_usize;
    for (bytes, mask) in block.as_chunks::<8>().0.iter().zip(keep.to_le_bytes()) {
        if let Some(dst) = out.get_mut(written..).and_then(|tail| tail.first_chunk_mut::<8>()) {
            *dst = compress8(*bytes, mask);
        }
        written = written.saturating_add(mask.count_ones() as usize);
    }
    written
}

/// An output buffer of [`compress`]. Bytes after the kept bytes are arbitrary.
pub type CompressBuffer = [u8; BLOCK_BYTES];

impl Swar8 {
    /// Returns the mask of the bytes outside ASCII.
    pub fn non_ascii(self) -> u64 {
        self.0 & MSB
    }

    /// Returns the mask of the ASCII bytes that are `min` or more. Only the highest bit of each
    /// byte counts.
    pub fn at_least(self, min: u8) -> u64 {
        // The bytes are below 0x80, so no sum carries into the next byte.
        let low = self.0 & !MSB;
        low.wrapping_add(LSB.wrapping_mul(u64::from(0x80_u8.wrapping_sub(min)))) & !self.0
    }

    /// Returns the bytes with ASCII letters in lower case.
    pub fn to_ascii_lowercase(self) -> u64 {
        let uppercase = self.at_least(b'A') & !self.at_least(b'Z'.saturating_add(1)) & MSB;
        self.0 | uppercase >> 2
    }
}

/// Moves the bytes that `keep` selects to the front.
#[cfg(target_feature = "simd128")]
fn compress8(bytes: [u8; 8], keep: u8) -> [u8; 8] {
    use core::arch::wasm32::{u8x16_swizzle, u64x2_extract_lane, u64x2_splat};
    let shuffle = SHUFFLES.get(usize::from(keep)).copied().unwrap_or_default();
    let bytes = u64x2_splat(u64::from_le_bytes(bytes));
    u64x2_extract_lane::<0>(u8x16_swizzle(bytes, u64x2_splat(shuffle))).to_le_bytes()
}

/// For each selection of eight bytes, the indices of the selected bytes, packed at the front.
#[cfg(target_feature = "simd128")]
#[allow(clippy::indexing_slicing, reason = "an index out of bounds does not compile")]
const SHUFFLES: [u64; 256] = {
    let mut shuffles = [0; 256];
    let mut keep = 0;
    while keep < 256 {
        let mut from = 8_u64;
        // From the last index to the first: each index shifts the later indices up.
        while from > 0 {
            from -= 1;
            if keep >> from & 1 == 1 {
                shuffles[keep] = shuffles[keep] << 8 | from;
            }
        }
        keep += 1;
    }
    shuffles
};

/// Moves the bytes that `keep` selects to the front, on targets without the byte shuffle of Wasm.
#[cfg(not(target_feature = "simd128"))]
fn compress8(bytes: [u8; 8], keep: u8) -> [u8; 8] {
    let mut out = [0; 8];
    let mut len = 0_usize;
    for (index, byte) in bytes.into_iter().enumerate() {
        if let Some(dst) = out.get_mut(len) {
            *dst = byte;
        }
        len = len.saturating_add(usize::from(keep >> index & 1));
    }
    out
}

/// Lowest bit of each byte.
const LSB: u64 = 0x0101_0101_0101_0101;

/// Highest bit of each byte.
pub const MSB: u64 = LSB << 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_match_bytewise_checks() {
        let block: Block = std::array::from_fn(|index| (index * 4 + index / 16) as u8);
        let simd_block = SimdBlock::from_block(&block);
        let rows: [(&str, Mask, fn(u8) -> bool); 4] = [
            ("between", simd_block.between(b'@', 0x7f), |byte| (b'A'..0x7f).contains(&byte)),
            ("above zero", simd_block.between(0, b' '), |byte| (1..b' ').contains(&byte)),
            ("equal", simd_block.equal(b'`'), |byte| byte == b'`'),
            ("zero", simd_block.equal(0), |byte| byte == 0),
        ];
        for (name, mask, predicate) in rows {
            for (index, byte) in block.iter().enumerate() {
                assert_eq!(mask >> index & 1 == 1, predicate(*byte), "{name}: {byte:#x}");
            }
        }
        assert_eq!(simd_block.to_ascii_lowercase(), block.map(|byte| byte.to_ascii_lowercase()));
        for byte in 0..=255_u8 {
            let lower = Swar8(u64::from_le_bytes([byte; 8])).to_ascii_lowercase();
            assert_eq!(lower, u64::from_le_bytes([byte.to_ascii_lowercase(); 8]), "{byte:#x}");
        }
        assert_eq!(
            SimdBlock::from_prefix(b"ab\0").to_ascii_lowercase(),
            SimdBlock::from_prefix(b"AB").to_ascii_lowercase()
        );
        assert!(
            SimdBlock::from_prefix(b"a..b").contains_either(b'c', b'b')
                && !SimdBlock::from_prefix(b"a..").contains_either(b'c', b'b')
        );
    }

    proptest::proptest! {
        #[test]
        fn find_escapes_matches_sequential_scan(backslashes: u64, more: u64) {
            // Long runs are rare in random bits, but common in the union of two random masks.
            for backslashes in [backslashes, backslashes | more, backslashes & more] {
                let mut escaped = 0_u64;
                let mut escaping = 0_u64;
                for index in 0..64 {
                    if backslashes >> index & 1 == 1 && escaped >> index & 1 == 0 {
                        escaping |= 1 << index;
                        escaped |= (1_u64 << index) << 1;
                    }
                }
                proptest::prop_assert_eq!(find_escapes(backslashes), Escapes { escaped, escaping });
            }
        }

        #[test]
        fn compress_moves_kept_bytes_to_the_front(keep: u64) {
            let block: Block = std::array::from_fn(|index| index as u8 | 0x80);
            let mut out = [0; BLOCK_BYTES];
            let count = compress(&block, keep, &mut out);
            let kept = block.into_iter().enumerate().filter(|(index, _)| keep >> index & 1 == 1);
            let expected: Vec<u8> = kept.map(|(_, byte)| byte).collect();
            proptest::prop_assert_eq!(&out[..count], expected);
        }
    }
}
