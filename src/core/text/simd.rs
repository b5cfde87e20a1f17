//! Sixty-four bytes of text at a time: what each of them is, as a bit.
//!
//! To find the next byte of some kind, a loop has to wait for the one before; a mask of all of them
//! is made without waiting, and its bits are then taken one by one, or all at once.
//!
//! Masks are made by SIMD where it is always there: in Wasm, on x86-64, on 64-bit ARM.
#![deny(clippy::arithmetic_side_effects)]

use wide::{i8x16, u8x16};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 64;

/// A block of text.
pub type Block = [u8; BLOCK_BYTES];

/// A bit for each byte of a block, the lowest for the first.
pub type Mask = u64;

/// Eight bytes, looked at together. A mask of them has the highest bit of each byte that is so.
#[derive(Clone, Copy, Debug)]
pub struct Swar8(pub u64);

/// A block, sixteen bytes by sixteen.
#[derive(Clone, Copy, Debug)]
pub struct SimdBlock([u8x16; BLOCK_BYTES / 16]);

impl SimdBlock {
    /// The first block of a text; what is missing at its end is filled with zeros.
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

    /// Whether any byte is one of two.
    pub fn contains_either(&self, byte: u8, other: u8) -> bool {
        let [a, b, c, d] = self.0.map(|lane| equal(lane, byte) | equal(lane, other));
        ((a | b) | (c | d)).to_bitmask() != 0
    }

    /// Which bytes are equal to one.
    pub fn equal(&self, byte: u8) -> Mask {
        self.mask(|lane| equal(lane, byte))
    }

    /// Which bytes are more than `after` and less than `end`, both of ASCII.
    pub fn between(&self, above: u8, below: u8) -> Mask {
        self.mask(|lane| between(lane, above, below))
    }

    /// The block without capitals of ASCII.
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
    // What is not ASCII is negative.
    let lane = lane.cast_signed();
    let is_between = lane.simd_gt(i8x16::splat(above.cast_signed()))
        & lane.simd_lt(i8x16::splat(below.cast_signed()));
    is_between.cast_unsigned()
}

/// Which bytes are escaped and which backslashes escape them, of text that begins outside an escape:
/// of a row of backslashes every other one escapes the next byte.
pub fn find_escapes(backslashes: Mask) -> (Mask, Mask) {
    const ODD_BITS: Mask = 0xaaaa_aaaa_aaaa_aaaa;
    // Where a row begins on an even bit, the subtraction carries through its odd ones; simdjson's way.
    let escape_and_terminal = ((backslashes << 1 | ODD_BITS).wrapping_sub(backslashes)) ^ ODD_BITS;
    (escape_and_terminal ^ backslashes, escape_and_terminal & backslashes)
}

/// Moves the bytes of a block that `keep` names to the front of `to`; how many those are.
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

/// Room for the bytes of a block that are kept, and those that are overwritten by the next.
pub type CompressBuffer = [u8; BLOCK_BYTES];

impl Swar8 {
    /// Those that are not ASCII.
    pub fn non_ascii(self) -> u64 {
        self.0 & MSB
    }

    /// Those that are `least` or more; of ASCII.
    pub fn at_least(self, min: u8) -> u64 {
        // Sums of bytes below 0x80: none carries into the next.
        let low = self.0 & !MSB;
        low.wrapping_add(LSB.wrapping_mul(u64::from(0x80_u8.wrapping_sub(min)))) & !self.0
    }

    /// Without capitals of ASCII.
    pub fn to_ascii_lowercase(self) -> u64 {
        let uppercase = self.at_least(b'A') & !self.at_least(b'Z'.saturating_add(1)) & MSB;
        self.0 | uppercase >> 2
    }
}

/// Moves those of eight bytes that are kept to the front.
#[cfg(target_feature = "simd128")]
fn compress8(bytes: [u8; 8], keep: u8) -> [u8; 8] {
    use core::arch::wasm32::{u8x16_swizzle, u64x2_extract_lane, u64x2_splat};
    let shuffle = SHUFFLES.get(usize::from(keep)).copied().unwrap_or_default();
    let bytes = u64x2_splat(u64::from_le_bytes(bytes));
    u64x2_extract_lane::<0>(u8x16_swizzle(bytes, u64x2_splat(shuffle))).to_le_bytes()
}

/// For each choice of eight bytes, where those come from that are kept: the first ones of eight.
#[cfg(target_feature = "simd128")]
#[allow(clippy::indexing_slicing, reason = "what is out of bounds does not compile")]
const SHUFFLES: [u64; 256] = {
    let mut shuffles = [0; 256];
    let mut keep = 0;
    while keep < 256 {
        let mut from = 8_u64;
        // From the last to the first, so that each pushes those behind it up.
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

/// The same where bytes cannot be shuffled by a table on every machine.
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

const LSB: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
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
            ("from the least", simd_block.between(0, b' '), |byte| (1..b' ').contains(&byte)),
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
            // Rows of all lengths are rare in random bits, and usual where two such are joined.
            for backslashes in [backslashes, backslashes | more, backslashes & more] {
                let (mut escaped, mut escaping) = (0_u64, 0_u64);
                for index in 0..64 {
                    if backslashes >> index & 1 == 1 && escaped >> index & 1 == 0 {
                        escaping |= 1 << index;
                        escaped |= (1_u64 << index) << 1;
                    }
                }
                proptest::prop_assert_eq!(find_escapes(backslashes), (escaped, escaping));
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
