//! Sixty-four bytes of text at a time: what each of them is, as a bit.
//!
//! To find the next byte of some kind, a loop has to wait for the one before; a mask of all of them
//! is made without waiting, and its bits are then taken one by one, or all at once.
//!
//! Masks are made by SIMD where it is always there: in Wasm, on x86-64, on 64-bit ARM.
#![deny(clippy::arithmetic_side_effects)]

use wide::{i8x16, u8x16};

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// A block of text.
pub type Block = [u8; BLOCK];

/// A bit for each byte of a block, the lowest for the first.
pub type Mask = u64;

/// Eight bytes, looked at together. A mask of them has the highest bit of each byte that is so.
#[derive(Clone, Copy, Debug)]
pub struct Eight(pub u64);

/// A block, sixteen bytes by sixteen.
#[derive(Clone, Copy, Debug)]
pub struct Lanes([u8x16; BLOCK / 16]);

impl Lanes {
    /// The first block of a text; what is missing at its end is filled with zeros.
    pub fn first(text: &[u8]) -> Self {
        if let Some(block) = text.first_chunk() {
            return Self::of(block);
        }
        let mut block = [0; BLOCK];
        block.iter_mut().zip(text).for_each(|(own, byte)| *own = *byte);
        Self::of(&block)
    }

    fn of(block: &Block) -> Self {
        let mut lanes = [u8x16::ZERO; BLOCK / 16];
        for (own, bytes) in lanes.iter_mut().zip(block.as_chunks::<16>().0) {
            *own = u8x16::new(*bytes);
        }
        Self(lanes)
    }

    /// Whether any byte is one of two.
    pub fn has(&self, byte: u8, other: u8) -> bool {
        let [a, b, c, d] = self.0.map(|lane| equal(lane, byte) | equal(lane, other));
        ((a | b) | (c | d)).to_bitmask() != 0
    }

    /// Which bytes are equal to one.
    pub fn equal(&self, byte: u8) -> Mask {
        self.mask(|lane| equal(lane, byte))
    }

    /// Which bytes are more than `after` and less than `end`, both of ASCII.
    pub fn between(&self, after: u8, end: u8) -> Mask {
        self.mask(|lane| between(lane, after, end))
    }

    /// The block without capitals of ASCII.
    pub fn lower(&self) -> Block {
        let mut block = [0; BLOCK];
        for (lane, bytes) in self.0.iter().zip(block.as_chunks_mut::<16>().0) {
            let capitals = between(*lane, b'A' - 1, b'Z' + 1);
            *bytes = (*lane | (capitals & u8x16::splat(b' '))).to_array();
        }
        block
    }

    fn mask(&self, is: impl Fn(u8x16) -> u8x16) -> Mask {
        let [a, b, c, d] = self.0.map(|lane| u64::from(is(lane).to_bitmask()));
        a | b << 16 | c << 32 | d << 48
    }
}

fn equal(lane: u8x16, byte: u8) -> u8x16 {
    lane.simd_eq(u8x16::splat(byte))
}

fn between(lane: u8x16, after: u8, end: u8) -> u8x16 {
    // What is not ASCII is negative.
    let lane = lane.cast_signed();
    let is_between = lane.simd_gt(i8x16::splat(after.cast_signed()))
        & lane.simd_lt(i8x16::splat(end.cast_signed()));
    is_between.cast_unsigned()
}

/// Which bytes are escaped and which backslashes escape them, of text that begins outside an escape:
/// of a row of backslashes every other one escapes the next byte.
pub fn escapes(backslashes: Mask) -> (Mask, Mask) {
    const ODD: Mask = 0xaaaa_aaaa_aaaa_aaaa;
    // Where a row begins on an even bit, the subtraction carries through its odd ones; simdjson's way.
    let ends = ((backslashes << 1 | ODD).wrapping_sub(backslashes)) ^ ODD;
    (ends ^ backslashes, ends & backslashes)
}

/// Moves the bytes of a block that `keep` names to the front of `to`; how many those are.
pub fn compact(block: &Block, keep: Mask, to: &mut Compacted) -> usize {
    let mut kept = 0_usize;
    for (bytes, own) in block.as_chunks::<8>().0.iter().zip(keep.to_le_bytes()) {
        if let Some(to) = to.get_mut(kept..).and_then(|to| to.first_chunk_mut::<8>()) {
            *to = gather(*bytes, own);
        }
        kept = kept.saturating_add(own.count_ones() as usize);
    }
    kept
}

/// Room for the bytes of a block that are kept, and those that are overwritten by the next.
pub type Compacted = [u8; BLOCK];

impl Eight {
    /// Those that are not ASCII.
    pub fn beyond_ascii(self) -> u64 {
        self.0 & HIGH
    }

    /// Those that are `least` or more; of ASCII.
    pub fn from(self, least: u8) -> u64 {
        // Sums of bytes below 0x80: none carries into the next.
        let low = self.0 & !HIGH;
        low.wrapping_add(EACH.wrapping_mul(u64::from(0x80_u8.wrapping_sub(least)))) & !self.0
    }

    /// Without capitals of ASCII.
    pub fn lower(self) -> u64 {
        let capitals = self.from(b'A') & !self.from(b'Z'.saturating_add(1)) & HIGH;
        self.0 | capitals >> 2
    }
}

/// Moves those of eight bytes that are kept to the front.
#[cfg(target_feature = "simd128")]
fn gather(bytes: [u8; 8], keep: u8) -> [u8; 8] {
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
fn gather(bytes: [u8; 8], keep: u8) -> [u8; 8] {
    let mut kept = [0; 8];
    let mut to = 0_usize;
    for (place, byte) in bytes.into_iter().enumerate() {
        if let Some(own) = kept.get_mut(to) {
            *own = byte;
        }
        to = to.saturating_add(usize::from(keep >> place & 1));
    }
    kept
}

const EACH: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
pub const HIGH: u64 = EACH << 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_says_what_a_byte_is() {
        let block: Block = std::array::from_fn(|at| (at * 4 + at / 16) as u8);
        let lanes = Lanes::of(&block);
        let rows: [(&str, Mask, fn(u8) -> bool); 4] = [
            ("between", lanes.between(b'@', 0x7f), |byte| (b'A'..0x7f).contains(&byte)),
            ("from the least", lanes.between(0, b' '), |byte| (1..b' ').contains(&byte)),
            ("equal", lanes.equal(b'`'), |byte| byte == b'`'),
            ("zero", lanes.equal(0), |byte| byte == 0),
        ];
        for (name, bits, is) in rows {
            for (at, byte) in block.iter().enumerate() {
                assert_eq!(bits >> at & 1 == 1, is(*byte), "{name}: {byte:#x}");
            }
        }
        assert_eq!(lanes.lower(), block.map(|byte| byte.to_ascii_lowercase()));
        for byte in 0..=255_u8 {
            let lower = Eight(u64::from_le_bytes([byte; 8])).lower();
            assert_eq!(lower, u64::from_le_bytes([byte.to_ascii_lowercase(); 8]), "{byte:#x}");
        }
        assert_eq!(Lanes::first(b"ab\0").lower(), Lanes::first(b"AB").lower());
        assert!(Lanes::first(b"a..b").has(b'c', b'b') && !Lanes::first(b"a..").has(b'c', b'b'));
    }

    proptest::proptest! {
        #[test]
        fn every_other_backslash_of_a_row_escapes(backslashes: u64, more: u64) {
            // Rows of all lengths are rare in random bits, and usual where two such are joined.
            for backslashes in [backslashes, backslashes | more, backslashes & more] {
                let (mut escaped, mut escaping) = (0_u64, 0_u64);
                for at in 0..64 {
                    if backslashes >> at & 1 == 1 && escaped >> at & 1 == 0 {
                        escaping |= 1 << at;
                        escaped |= (1_u64 << at) << 1;
                    }
                }
                proptest::prop_assert_eq!(escapes(backslashes), (escaped, escaping));
            }
        }

        #[test]
        fn what_is_kept_moves_to_the_front(keep: u64) {
            let block: Block = std::array::from_fn(|at| at as u8 | 0x80);
            let mut kept = [0; BLOCK];
            let count = compact(&block, keep, &mut kept);
            let own = block.into_iter().enumerate().filter(|(at, _)| keep >> at & 1 == 1);
            let expected: Vec<u8> = own.map(|(_, byte)| byte).collect();
            proptest::prop_assert_eq!(&kept[..count], expected);
        }
    }
}
