//! The grams by which the literal scanner recognises literals: which bytes of a literal represent
//! it, and how bytes become numbers and hash values.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;

/// The side of a gram on which all literals of an entry have context bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ContextSide {
    After,
    Before,
    Neither,
}

/// A gram of one literal, from which the table is built. The order of the fields is the sort order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GramRow {
    pub(super) gram: u64,
    pub(super) offset: u32,
    pub(super) context_side: ContextSide,
    pub(super) literal_len: u32,
    pub(super) suffix: u64,
    pub(super) literal_index: u32,
    pub(super) context_filter: u64,
}

/// Returns the grams of a literal's window: one for each of the `STRIDE` alignments of the literal
/// to the positions that the scan visits.
///
/// The window is the part of the literal whose grams are rarest in text and occur in the fewest
/// other literals.
pub(super) fn gram_rows<const STRIDE: usize, const WIDTH: usize>(
    literal: &[u8],
    literal_index: u32,
    counts: &HashMap<u64, u32>,
) -> Vec<GramRow> {
    let offsets = |start: usize| start..start.saturating_add(STRIDE);
    let cost = |start: usize| -> u64 {
        let grams = offsets(start)
            .filter_map(|position| literal.get(position..position.saturating_add(WIDTH)));
        let costs = grams.map(|gram| {
            let count = counts.get(&le_u64_padded(gram)).copied().unwrap_or(1);
            u64::from(frequency_rank(gram)).saturating_mul(u64::from(count))
        });
        costs.sum()
    };
    let last_start = literal.len().saturating_sub(min_literal_len(STRIDE, WIDTH));
    let start = (0..=last_start).min_by_key(|start| cost(*start)).unwrap_or(0);
    let row = |offset: usize| {
        let gram = gram_at::<WIDTH>(literal, offset)?;
        let suffix = gram_at::<WIDTH>(literal, literal.len().saturating_sub(WIDTH))?;
        let after = gram_at::<CONTEXT_BYTES>(literal, offset.saturating_add(WIDTH));
        let before = offset
            .checked_sub(CONTEXT_BYTES)
            .and_then(|position| gram_at::<CONTEXT_BYTES>(literal, position));
        let (context_side, context_filter) = match (after, before) {
            (Some(after), _) => (ContextSide::After, context_bit(after)),
            (None, Some(before)) => (ContextSide::Before, context_bit(before)),
            (None, None) => (ContextSide::Neither, 0),
        };
        Some(GramRow {
            gram,
            offset: offset as u32,
            context_side,
            literal_len: literal.len() as u32,
            suffix,
            literal_index,
            context_filter,
        })
    };
    offsets(start).filter_map(row).collect()
}

/// Counts the occurrences of each gram in all literals.
pub(super) fn gram_counts<'l, const WIDTH: usize>(
    literals: impl Iterator<Item = &'l [u8]>,
) -> HashMap<u64, u32> {
    let mut counts = HashMap::new();
    for gram in literals.flat_map(|literal| literal.windows(WIDTH)) {
        let count: &mut u32 = counts.entry(le_u64_padded(gram)).or_default();
        *count = count.saturating_add(1);
    }
    counts
}

/// Estimates how common a gram is in text, on an arbitrary scale. A gram within a word is as common
/// as the word. A gram that spans two words is rarer, because one word must follow the other.
fn frequency_rank(gram: &[u8]) -> u32 {
    let words = gram.split(|byte| *byte == b' ').filter(|word| word.len() > 1).count();
    let is_rare = |byte: &&u8| {
        matches!(byte, b'j' | b'k' | b'q' | b'v' | b'x' | b'z')
            || !byte.is_ascii_lowercase() && **byte != b' '
    };
    let rare_bytes = gram.iter().filter(is_rare).count().min(3) as u32;
    let common = if words > 1 { 8_u32 } else { 128 };
    common.wrapping_shr(rare_bytes)
}

/// Returns the minimum length in bytes of a literal that is found at any alignment, with grams of
/// `width` bytes at every `stride`th position.
pub(super) const fn min_literal_len(stride: usize, width: usize) -> usize {
    stride.saturating_add(width).saturating_sub(1)
}

/// Returns the `WIDTH` bytes at a position as a number; `None` if the text has fewer bytes there.
pub(super) fn gram_at<const WIDTH: usize>(text: &[u8], position: usize) -> Option<u64> {
    text.get(position..)?.first_chunk::<WIDTH>().map(le_u64)
}

/// Returns the first eight bytes, or all bytes of a shorter array, as a little-endian number.
pub(super) fn le_u64<const WIDTH: usize>(bytes: &[u8; WIDTH]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => match bytes.first_chunk::<4>() {
            Some(bytes) => u64::from(u32::from_le_bytes(*bytes)),
            None => le_u64_padded(bytes),
        },
    }
}

/// Returns up to eight bytes as a little-endian number.
fn le_u64_padded(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Returns the hash value of a gram: the bits of a product that remain after a shift by `shift`.
pub(super) fn hash_gram(gram: u64, shift: u32) -> usize {
    // Fibonacci hashing: the high bits of a product with 2^64 divided by the golden ratio.
    gram.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_shr(shift) as usize
}

/// Returns the bit of context bytes in a Bloom filter of 64 bits.
pub(super) fn context_bit(context: u64) -> u64 {
    1_u64.wrapping_shl(hash_gram(context, 58) as u32)
}

/// Bytes next to a gram that the Bloom filter covers.
pub(super) const CONTEXT_BYTES: usize = 4;
