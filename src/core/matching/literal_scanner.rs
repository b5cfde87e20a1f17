//! One scan that finds which of many literals occur in a text.
//!
//! Instead of stepping an automaton through every byte, the scan looks at the eight bytes at every
//! eighth position (every fourth for literals shorter than fifteen bytes; four bytes at every second
//! for those shorter than eleven, at every one for those of four). Each literal is known by one window,
//! in which such grams stand at successive offsets: wherever the literal lies, one of them falls on a
//! position that is looked at. A window that goes over from one word to the next is rare in text, even
//! where its words are not.
//!
//! A bitmap refuses nearly all positions. For the rest, the bytes beside the gram are asked for in a
//! small Bloom filter, then a literal's last bytes, of all literals of a length at once; only then is a
//! literal compared. So text that is made of pieces of literals costs more, but never by the number of
//! literals that share a piece.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;

/// Literals, compiled.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    literals: Vec<Box<[u8]>>,
    long: GramTable<8, 8>,
    middle: GramTable<4, 8>,
    short: GramTable<2, 4>,
    shortest: GramTable<1, 4>,
}

/// The shortest literal that can be found.
pub const MIN_LITERAL_BYTES: usize = min_literal_len(1, 4);

impl Scanner {
    /// Compiles literals, each of at least [`MIN_LITERAL`] bytes; shorter ones are never found.
    /// A literal is known by its place in the list.
    pub fn new(literals: impl IntoIterator<Item = String>) -> Self {
        let literals: Vec<Box<[u8]>> =
            literals.into_iter().map(|text| text.into_bytes().into()).collect();
        let (long, middle, short) =
            (min_literal_len(8, 8), min_literal_len(4, 8), min_literal_len(2, 4));
        Self {
            long: GramTable::new(&literals, long..usize::MAX),
            middle: GramTable::new(&literals, middle..long),
            short: GramTable::new(&literals, short..middle),
            shortest: GramTable::new(&literals, MIN_LITERAL_BYTES..short),
            literals,
        }
    }

    /// Calls `found` with the place in the list and the start of every literal in `text`. The order is
    /// that of the scan; the same occurrence is told once.
    pub fn scan(&self, text: &[u8], on_match: &mut impl FnMut(usize, usize)) {
        self.long.scan(text, &self.literals, on_match);
        self.middle.scan(text, &self.literals, on_match);
        self.short.scan(text, &self.literals, on_match);
        self.shortest.scan(text, &self.literals, on_match);
    }

    /// The length of a literal.
    pub fn literal_len(&self, literal: usize) -> usize {
        self.literals.get(literal).map_or(0, |literal| literal.len())
    }

    /// Bytes held, roughly.
    pub fn heap_bytes(&self) -> usize {
        let literals: usize = self.literals.iter().map(|literal| literal.len()).sum();
        let longer = [self.long.heap_bytes(), self.middle.heap_bytes()];
        let grams = longer.into_iter().chain([self.short.heap_bytes(), self.shortest.heap_bytes()]);
        grams.fold(literals, usize::saturating_add)
    }
}

/// Grams of `WIDTH` bytes that are looked for at every `STRIDE`th position.
#[derive(Clone, Debug, Default)]
struct GramTable<const STRIDE: usize, const WIDTH: usize> {
    /// A bit for each hash value that a gram has.
    bitmap: Box<[u64]>,
    /// Where the entries of each few hash values begin.
    bucket_starts: Box<[u32]>,
    entries: Box<[GramEntry]>,
    /// What the entries' literals end with.
    suffixes: Box<[Suffix]>,
    hash_shift: u32,
}

/// A gram that some literals have at the same offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GramEntry {
    gram: u64,
    offset: u32,
    context_side: ContextSide,
    /// A bit for each hash value that the bytes on that side have.
    context_filter: u64,
    /// Its literals among the tails, in the order of their lengths and last bytes.
    suffix_start: u32,
    suffix_end: u32,
}

/// Where the literals of an entry go on beside the gram, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ContextSide {
    After,
    Before,
    Neither,
}

/// A literal and its last `WIDTH` bytes.
#[derive(Clone, Copy, Debug)]
struct Suffix {
    bytes: u64,
    literal: u32,
    literal_len: u32,
    /// How many tails of the same length follow, this one included.
    run_len: u32,
}

/// A literal's gram, before it is gathered with others.
type GramRow = (u64, u32, ContextSide, u32, u64, u32, u64);

impl<const STRIDE: usize, const WIDTH: usize> GramTable<STRIDE, WIDTH> {
    fn new(literals: &[Box<[u8]>], lengths: std::ops::Range<usize>) -> Self {
        let selected =
            || (0_u32..).zip(literals).filter(|(_, literal)| lengths.contains(&literal.len()));
        let counts = gram_counts::<WIDTH>(selected().map(|(_, literal)| &**literal));
        let mut rows: Vec<GramRow> = selected()
            .flat_map(|(literal_index, literal)| {
                gram_rows::<STRIDE, WIDTH>(literal, literal_index, &counts)
            })
            .collect();
        if rows.is_empty() {
            return Self::default();
        }
        // Sixteen bits a gram, where each is of one literal.
        let hash_bits = rows.len().saturating_mul(16).next_power_of_two().ilog2().clamp(10, 20);
        let mut table = Self { hash_shift: 64_u32.saturating_sub(hash_bits), ..Self::default() };
        rows.sort_unstable_by_key(|row| (hash_gram(row.0, table.hash_shift), *row));
        table.fill(&rows, 1_usize.wrapping_shl(hash_bits));
        table
    }

    fn fill(&mut self, rows: &[GramRow], bitmap_bits: usize) {
        let mut bitmap = vec![0_u64; bitmap_bits / 64];
        let mut bucket_starts = vec![0_u32; (bitmap_bits / HASHES_PER_BUCKET).saturating_add(1)];
        let (mut entries, mut suffixes): (Vec<GramEntry>, Vec<Suffix>) = (Vec::new(), Vec::new());
        for (gram, offset, context_side, literal_len, bytes, literal, context_filter) in
            rows.iter().copied()
        {
            let hash = hash_gram(gram, self.hash_shift);
            if let Some(word) = bitmap.get_mut(hash / 64) {
                *word |= 1_u64.wrapping_shl(hash as u32 % 64);
            }
            let is_same_entry = entries.last().is_some_and(|last| {
                (last.gram, last.offset, last.context_side) == (gram, offset, context_side)
            });
            if !is_same_entry {
                let suffix_start = suffixes.len() as u32;
                entries.push(GramEntry {
                    gram,
                    offset,
                    context_side,
                    context_filter: 0,
                    suffix_start,
                    suffix_end: suffix_start,
                });
                if let Some(bucket_start) =
                    bucket_starts.get_mut((hash / HASHES_PER_BUCKET).saturating_add(1))
                {
                    *bucket_start = bucket_start.saturating_add(1);
                }
            }
            suffixes.push(Suffix { bytes, literal, literal_len, run_len: 1 });
            if let Some(last) = entries.last_mut() {
                last.context_filter |= context_filter;
                last.suffix_end = suffixes.len() as u32;
            }
        }
        bucket_starts.iter_mut().fold(0_u32, |sum, bucket_start| {
            *bucket_start = bucket_start.saturating_add(sum);
            *bucket_start
        });
        for entry in &entries {
            let entry_suffixes = suffixes
                .get_mut(entry.suffix_start as usize..entry.suffix_end as usize)
                .unwrap_or_default();
            let mut next_run = (0, 0_u32);
            for suffix in entry_suffixes.iter_mut().rev() {
                suffix.run_len =
                    if suffix.literal_len == next_run.0 { next_run.1.saturating_add(1) } else { 1 };
                next_run = (suffix.literal_len, suffix.run_len);
            }
        }
        (self.bitmap, self.bucket_starts) = (bitmap.into(), bucket_starts.into());
        (self.entries, self.suffixes) = (entries.into(), suffixes.into());
    }

    fn scan(&self, text: &[u8], literals: &[Box<[u8]>], on_match: &mut impl FnMut(usize, usize)) {
        if self.entries.is_empty() {
            return;
        }
        let mut position = 0_usize;
        if STRIDE == WIDTH {
            for chunk in text.as_chunks::<WIDTH>().0 {
                let gram = le_u64(chunk);
                if self.may_contain(gram) {
                    self.verify(text, position, gram, literals, on_match);
                }
                position = position.saturating_add(STRIDE);
            }
        } else {
            while let Some(gram) = gram_at::<WIDTH>(text, position) {
                if self.may_contain(gram) {
                    self.verify(text, position, gram, literals, on_match);
                }
                position = position.saturating_add(STRIDE);
            }
        }
    }

    fn may_contain(&self, gram: u64) -> bool {
        let hash = hash_gram(gram, self.hash_shift);
        self.bitmap.get(hash / 64).is_some_and(|word| word.wrapping_shr(hash as u32 % 64) & 1 != 0)
    }

    #[inline(never)]
    fn verify(
        &self,
        text: &[u8],
        position: usize,
        gram: u64,
        literals: &[Box<[u8]>],
        on_match: &mut impl FnMut(usize, usize),
    ) {
        let bucket = hash_gram(gram, self.hash_shift) / HASHES_PER_BUCKET;
        let (Some(bucket_start), Some(bucket_end)) =
            (self.bucket_starts.get(bucket), self.bucket_starts.get(bucket.saturating_add(1)))
        else {
            return;
        };
        for entry in
            self.entries.get(*bucket_start as usize..*bucket_end as usize).unwrap_or_default()
        {
            if entry.gram != gram || !entry.may_match::<WIDTH>(text, position) {
                continue;
            }
            let Some(start) = position.checked_sub(entry.offset as usize) else { continue };
            let candidate = text.get(start..).unwrap_or_default();
            self.compare_literals(entry, candidate, literals, &mut |literal| {
                on_match(literal, start)
            });
        }
    }

    /// Compares a text with the literals of an entry: those of one length after the other.
    fn compare_literals(
        &self,
        entry: &GramEntry,
        text: &[u8],
        literals: &[Box<[u8]>],
        on_match: &mut impl FnMut(usize),
    ) {
        let mut suffixes = self
            .suffixes
            .get(entry.suffix_start as usize..entry.suffix_end as usize)
            .unwrap_or_default();
        while let Some(first) = suffixes.first() {
            let (run, longer) =
                suffixes.split_at_checked(first.run_len as usize).unwrap_or((suffixes, &[]));
            suffixes = longer;
            let suffix_offset = (first.literal_len as usize).saturating_sub(WIDTH);
            let Some(text_suffix) = gram_at::<WIDTH>(text, suffix_offset) else { return };
            let first_index = match run.len() {
                0..=LINEAR_SCAN_MAX => 0,
                _ => run.partition_point(|suffix| suffix.bytes < text_suffix),
            };
            let candidates =
                run.iter().skip(first_index).take_while(|suffix| suffix.bytes <= text_suffix);
            for suffix in candidates.filter(|suffix| suffix.bytes == text_suffix) {
                let literal_index = suffix.literal as usize;
                if literals.get(literal_index).is_some_and(|literal| starts_with(text, literal)) {
                    on_match(literal_index);
                }
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        let bytes = |count: usize, size: usize| count.saturating_mul(size);
        bytes(self.bitmap.len(), size_of::<u64>())
            .saturating_add(bytes(self.bucket_starts.len(), size_of::<u32>()))
            .saturating_add(bytes(self.entries.len(), size_of::<GramEntry>()))
            .saturating_add(bytes(self.suffixes.len(), size_of::<Suffix>()))
    }
}

impl GramEntry {
    /// Whether the text around its gram may be that of one of its literals.
    fn may_match<const WIDTH: usize>(&self, text: &[u8], position: usize) -> bool {
        let context_start = match self.context_side {
            ContextSide::After => position.checked_add(WIDTH),
            ContextSide::Before => position.checked_sub(CONTEXT_BYTES),
            ContextSide::Neither => return true,
        };
        let context = context_start.and_then(|position| gram_at::<CONTEXT_BYTES>(text, position));
        context.is_some_and(|context| self.context_filter & context_bit(context) != 0)
    }
}

/// The grams of a literal's window, one for each of the `STRIDE` ways in which the literal can lie
/// across the positions that are looked at.
fn gram_rows<const STRIDE: usize, const WIDTH: usize>(
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
        Some((
            gram,
            offset as u32,
            context_side,
            literal.len() as u32,
            suffix,
            literal_index,
            context_filter,
        ))
    };
    offsets(start).filter_map(row).collect()
}

/// In how many places of all literals each gram stands.
fn gram_counts<'l, const WIDTH: usize>(
    literals: impl Iterator<Item = &'l [u8]>,
) -> HashMap<u64, u32> {
    let mut counts = HashMap::new();
    for gram in literals.flat_map(|literal| literal.windows(WIDTH)) {
        let count: &mut u32 = counts.entry(le_u64_padded(gram)).or_default();
        *count = count.saturating_add(1);
    }
    counts
}

/// How common a gram is in text, on an arbitrary scale: within a word it comes with the word; across
/// two it comes only with both.
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

/// How long a literal is at least that is found by grams of `width` bytes at every `stride`th position.
const fn min_literal_len(stride: usize, width: usize) -> usize {
    stride.saturating_add(width).saturating_sub(1)
}

fn gram_at<const WIDTH: usize>(text: &[u8], position: usize) -> Option<u64> {
    text.get(position..)?.first_chunk::<WIDTH>().map(le_u64)
}

/// Some bytes as a number, the first its lowest.
fn le_u64<const WIDTH: usize>(bytes: &[u8; WIDTH]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => match bytes.first_chunk::<4>() {
            Some(bytes) => u64::from(u32::from_le_bytes(*bytes)),
            None => le_u64_padded(bytes),
        },
    }
}

fn le_u64_padded(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Whether a text begins with a literal.
fn starts_with(text: &[u8], literal: &[u8]) -> bool {
    // In Wasm, comparing slices goes byte by byte.
    let (literal_words, literal_rest) = literal.as_chunks::<8>();
    let Some((text, _)) = text.split_at_checked(literal.len()) else { return false };
    let (text_words, text_rest) = text.as_chunks::<8>();
    let equals = |(left, right): (&[u8; 8], &[u8; 8])| le_u64(left) == le_u64(right);
    literal_words.iter().zip(text_words).all(equals)
        && literal_rest.iter().zip(text_rest).all(|(left, right)| left == right)
}

fn hash_gram(gram: u64, shift: u32) -> usize {
    // Fibonacci hashing: the high bits of a product with 2^64 divided by the golden ratio.
    gram.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_shr(shift) as usize
}

/// The bit of some bytes in a filter of 64.
fn context_bit(context: u64) -> u64 {
    1_u64.wrapping_shl(hash_gram(context, 58) as u32)
}

/// Bytes beside a gram that are looked at.
const CONTEXT_BYTES: usize = 4;

/// Hash values that have a head together.
const HASHES_PER_BUCKET: usize = 4;

/// Tails that are looked at one by one.
const LINEAR_SCAN_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop};

    use super::*;

    fn find_all(literals: &[&str], text: &str) -> Vec<(usize, usize)> {
        let scanner = Scanner::new(literals.iter().map(ToString::to_string));
        let mut matches = Vec::new();
        scanner.scan(text.as_bytes(), &mut |literal, start| matches.push((literal, start)));
        matches.sort_unstable();
        matches
    }

    #[test]
    fn finds_all_occurrences() {
        let rows: &[(&str, &[&str], &str, &[(usize, usize)])] = &[
            (
                "long, anywhere",
                &["step by step"],
                "go step by step, step by step",
                &[(0, 3), (0, 17)],
            ),
            ("of four bytes", &["grade", "rate"], "irate: rate", &[(1, 1), (1, 7)]),
            ("short", &["judge"], "a judge judges", &[(0, 2), (0, 8)]),
            ("one in another", &["step by step", "by step"], "step by step", &[(0, 0), (1, 5)]),
            ("whole text", &["exactly this"], "exactly this", &[(0, 0)]),
            ("longer than the text", &["step by step"], "step", &[]),
            ("too short to be found", &["cot", ""], "cot cot", &[]),
            ("repeating", &["aaaaaaaaaaaa"], "aaaaaaaaaaaaa", &[(0, 0), (0, 1)]),
            (
                "chinese",
                &["\u{4e00}\u{6b65}\u{4e00}\u{6b65}"],
                "\u{8bf7}\u{4e00}\u{6b65}\u{4e00}\u{6b65}",
                &[(0, 3)],
            ),
        ];
        for (name, literals, text, expected) in rows {
            assert_eq!(find_all(literals, text), *expected, "{name}");
        }
    }

    /// Literals that share words, as phrases of signatures do; and a text of their pieces.
    fn phrases_and_pieces() -> impl Strategy<Value = (Vec<String>, String)> {
        let word = prop::sample::select(vec![
            "write",
            "create",
            "diverse",
            "new",
            "一步",
            "questions",
            "answers",
            "a",
            "harder",
        ]);
        let phrase = prop::collection::vec(word, 1..7).prop_map(|words| words.join(" "));
        let literals = prop::collection::vec(phrase, 1..40);
        let piece = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4_u8);
        (literals, prop::collection::vec(piece, 0..60)).prop_map(|(literals, pieces)| {
            let mut text = String::new();
            for (literal, cut, end) in pieces {
                let literal = literal.get(&literals);
                let cut = literal.floor_char_boundary(cut.index(literal.len().saturating_add(1)));
                text.push_str(match end {
                    0 => &literal[..cut],
                    1 => &literal[cut..],
                    _ => literal,
                });
                text.push_str(if end == 3 { "" } else { " " });
            }
            (literals, text)
        })
    }

    proptest::proptest! {
        #[test]
        fn phrases_are_found_among_their_pieces((literals, text) in phrases_and_pieces()) {
            let literals: Vec<String> =
                literals.into_iter().filter(|literal| literal.len() >= MIN_LITERAL_BYTES).collect();
            let mut expected = Vec::new();
            for (index, literal) in literals.iter().enumerate() {
                let starts = (0..text.len()).filter(|position| text.as_bytes()[*position..].starts_with(literal.as_bytes()));
                expected.extend(starts.map(|start| (index, start)));
            }
            let literals: Vec<&str> = literals.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(find_all(&literals, &text), expected);
        }

        #[test]
        fn equals_searching_one_by_one(
            literals in proptest::collection::vec("[ab ]{4,24}", 1..20),
            text in "[ab ]{0,400}",
        ) {
            let mut expected = Vec::new();
            for (index, literal) in literals.iter().enumerate() {
                let starts = (0..text.len()).filter(|position| text[*position..].starts_with(literal.as_str()));
                expected.extend(starts.map(|start| (index, start)));
            }
            let literals: Vec<&str> = literals.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(find_all(&literals, &text), expected);
        }
    }
}
