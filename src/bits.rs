//! Sixty-four bytes of text at a time: what each of them is, as a bit.
//!
//! To find the next byte of some kind, a loop has to wait for the one before; a mask of all of them
//! is made without waiting, and its bits are then taken one by one.
#![deny(clippy::arithmetic_side_effects)]

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// A block of text.
pub type Block = [u8; BLOCK];

/// Eight bytes, looked at together. A mask of them has the highest bit of each byte that is so.
#[derive(Clone, Copy, Debug)]
pub struct Eight(pub u64);

/// The first block of a text; what is missing at its end is filled with zeros.
pub fn first(text: &[u8]) -> Block {
    text.first_chunk().copied().unwrap_or_else(|| {
        let mut block = [0; BLOCK];
        block.iter_mut().zip(text).for_each(|(own, byte)| *own = *byte);
        block
    })
}

/// A bit for each byte of a block, the lowest for the first: whether the mask of its eight has it.
pub fn bits(block: &Block, mask: impl Fn(Eight) -> u64) -> u64 {
    let mut bits = 0_u64;
    for bytes in block.as_chunks::<8>().0.iter().rev() {
        let mask = mask(Eight(u64::from_le_bytes(*bytes))) & HIGH;
        // Each product's highest byte has the eight bits side by side.
        bits = bits << 8 | (mask >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    }
    bits
}

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

    /// Those that are equal to another, which is of ASCII.
    pub fn equal(self, other: u8) -> u64 {
        let differs = self.0 ^ EACH.wrapping_mul(u64::from(other));
        !((differs & !HIGH).wrapping_add(!HIGH) | differs)
    }

    /// Without capitals of ASCII.
    pub fn lower(self) -> u64 {
        let capitals = self.from(b'A') & !self.from(b'Z'.saturating_add(1)) & HIGH;
        self.0 | capitals >> 2
    }
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
        let rows: [(&str, u64, fn(u8) -> bool); 4] = [
            ("beyond", bits(&block, Eight::beyond_ascii), |byte| byte >= 0x80),
            ("from", bits(&block, |it| it.from(b'A')), |byte| (b'A'..0x80).contains(&byte)),
            ("least", bits(&block, |it| it.from(1)), |byte| (1..0x80).contains(&byte)),
            ("equal", bits(&block, |it| it.equal(b'`')), |byte| byte == b'`'),
        ];
        for (name, bits, is) in rows {
            for (at, byte) in block.iter().enumerate() {
                assert_eq!(bits >> at & 1 == 1, is(*byte), "{name}: {byte:#x}");
            }
        }
        for byte in 0..=255_u8 {
            let lower = Eight(u64::from_le_bytes([byte; 8])).lower();
            assert_eq!(lower, u64::from_le_bytes([byte.to_ascii_lowercase(); 8]), "{byte:#x}");
            let alone = Eight(u64::from_le_bytes([0xff, byte, 0xff, 0, 0, 0, 0, 0x7f]));
            assert_eq!(alone.equal(b'"') >> 15 & 1 == 1, byte == b'"', "{byte:#x}");
        }
        assert_eq!(first(b"ab"), first(b"ab\0"));
    }
}
