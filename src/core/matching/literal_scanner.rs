//! The literal scanner: one scan that finds all occurrences of many literals in a text.
//!
//! The scan does not step an automaton through every byte. It hashes the eight bytes at every
//! eighth position. Literals shorter than 15 bytes need smaller steps: eight bytes at every fourth
//! position for 11 to 14 bytes, four bytes at every second position for 5 to 10 bytes, and four
//! bytes at every position for four bytes.
//!
//! The hashed bytes are a *gram*. Each literal is represented by a window of as many grams as a
//! step has bytes, at successive offsets. So at any alignment of the literal in the text, one of
//! these grams lies at a position that the scan visits. The window with the rarest grams is chosen:
//! for example, grams that span two words are rare in text, even if both words are common.
//!
//! A bitmap rejects nearly all positions. At each other position, two checks follow: a small Bloom
//! filter checks the bytes next to the gram, then one search checks the last bytes of all literals
//! of the same length. Only a literal that passes both checks is compared. So text made of pieces
//! of literals costs more, but never in proportion to the number of literals that share a piece.
//!
//! A look-up at every position costs as much as all other look-ups together. So if only a few
//! literals have four bytes (`MAX_SINGLE_LITERALS`), each of them is searched for separately, many
//! bytes at a time.
#![deny(clippy::arithmetic_side_effects)]

use memchr::memmem::Finder;

use super::grams::{
    CONTEXT_BYTES, ContextSide, GramRow, context_bit, gram_at, gram_counts, gram_rows, hash_gram,
    le_u64, min_literal_len,
};

/// A set of literals, compiled so that one scan finds all of them in a text.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    literals: Vec<Box<[u8]>>,
    long: GramTable<8, 8>,
    middle: GramTable<4, 8>,
    short: GramTable<2, 4>,
    shortest: GramTable<1, 4>,
    /// Index in `literals` and finder of each literal of four bytes, if these literals are few.
    /// `shortest` is empty then.
    single_literals: Box<[(usize, Finder<'static>)]>,
}

/// Bytes of the shortest literal that can be found.
pub const MIN_LITERAL_BYTES: usize = min_literal_len(1, 4);

impl Scanner {
    /// Compiles literals. [`Self::scan`] identifies a literal by its index in `literals`.
    ///
    /// Literals shorter than [`MIN_LITERAL_BYTES`] are never found.
    pub fn new(literals: impl IntoIterator<Item = String>) -> Self {
        let literals: Vec<Box<[u8]>> =
            literals.into_iter().map(|text| text.into_bytes().into()).collect();
        let long = min_literal_len(8, 8);
        let middle = min_literal_len(4, 8);
        let short = min_literal_len(2, 4);
        let is_shortest = |literal: &[u8]| (MIN_LITERAL_BYTES..short).contains(&literal.len());
        let indexed = || literals.iter().map(AsRef::as_ref).enumerate();
        let shortest = || indexed().filter(|(_, literal): &(usize, &[u8])| is_shortest(literal));
        let is_few = shortest().count() <= MAX_SINGLE_LITERALS;
        let length_end = if is_few { MIN_LITERAL_BYTES } else { short };
        let finder = |(index, literal): (usize, &[u8])| (index, Finder::new(literal).into_owned());
        Self {
            long: GramTable::new(&literals, long..usize::MAX),
            middle: GramTable::new(&literals, middle..long),
            short: GramTable::new(&literals, short..middle),
            shortest: GramTable::new(&literals, MIN_LITERAL_BYTES..length_end),
            single_literals: shortest().filter(|_| is_few).map(finder).collect(),
            literals,
        }
    }

    /// Calls `on_match` once for each occurrence of a literal in `text`, with the index of the
    /// literal and its start, in no particular order.
    pub fn scan(&self, text: &[u8], on_match: &mut impl FnMut(usize, usize)) {
        self.long.scan(text, &self.literals, on_match);
        self.middle.scan(text, &self.literals, on_match);
        self.short.scan(text, &self.literals, on_match);
        self.shortest.scan(text, &self.literals, on_match);
        for (literal, finder) in &self.single_literals {
            let mut rest = 0_usize;
            while let Some(found) = text.get(rest..).and_then(|text| finder.find(text)) {
                let start = rest.saturating_add(found);
                on_match(*literal, start);
                rest = start.saturating_add(1);
            }
        }
    }

    /// Returns the length of a literal in bytes; 0 for an unknown index.
    pub fn literal_len(&self, literal: usize) -> usize {
        self.literals.get(literal).map_or(0, |literal| literal.len())
    }

    /// Returns the approximate number of heap bytes of the scanner.
    pub fn heap_bytes(&self) -> usize {
        let literals: usize = self.literals.iter().map(|literal| literal.len()).sum();
        let longer = [self.long.heap_bytes(), self.middle.heap_bytes()];
        let grams = longer.into_iter().chain([self.short.heap_bytes(), self.shortest.heap_bytes()]);
        grams.fold(literals, usize::saturating_add)
    }
}

/// A hash table of grams of `WIDTH` bytes, looked up at every `STRIDE`th position of the text.
#[derive(Clone, Debug, Default)]
struct GramTable<const STRIDE: usize, const WIDTH: usize> {
    /// One bit per hash value, which is set if a gram has this hash value.
    bitmap: Box<[u64]>,
    /// Index of the first entry of each bucket. A bucket covers [`HASHES_PER_BUCKET`] hash values.
    /// The last element is the number of entries.
    bucket_starts: Box<[u32]>,
    /// Entries, sorted by hash.
    entries: Box<[GramEntry]>,
    /// Literals of the entries, grouped by entry.
    suffixes: Box<[Suffix]>,
    /// Number of bits by which [`hash_gram`] shifts a product right to get a hash value.
    hash_shift: u32,
}

/// A gram with the literals that contain it at the same offset and have context bytes on the same
/// side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GramEntry {
    gram: u64,
    offset: u32,
    context_side: ContextSide,
    /// Bloom filter of the context bytes of all literals of the entry.
    context_filter: u64,
    /// Start of the entry's literals in `suffixes`. They are sorted by length, then by last bytes.
    suffix_start: u32,
    /// End of the entry's literals in `suffixes`.
    suffix_end: u32,
}

/// A literal and its last `WIDTH` bytes.
#[derive(Clone, Copy, Debug)]
struct Suffix {
    bytes: u64,
    literal: u32,
    literal_len: u32,
    /// Number of suffixes from here on that have the same length, including this one.
    run_len: u32,
}

impl GramRow {
    /// Returns whether a row belongs to `entry`.
    fn belongs_to(&self, entry: &GramEntry) -> bool {
        entry.gram == self.gram
            && entry.offset == self.offset
            && entry.context_side == self.context_side
    }
}

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
        // 16 to 32 bits per row keep the bitmap sparse. Large tables have fewer bits per row,
        // because the bitmap has at most 2²⁰ bits.
        let hash_bits = rows.len().saturating_mul(16).next_power_of_two().ilog2().clamp(10, 20);
        let mut table = Self { hash_shift: 64_u32.saturating_sub(hash_bits), ..Self::default() };
        rows.sort_unstable_by_key(|row| (hash_gram(row.gram, table.hash_shift), *row));
        table.fill(&rows, 1_usize.wrapping_shl(hash_bits));
        table
    }

    /// Builds the table from rows sorted by hash.
    fn fill(&mut self, rows: &[GramRow], bitmap_bits: usize) {
        let mut bitmap = vec![0_u64; bitmap_bits / 64];
        let mut bucket_starts = vec![0_u32; (bitmap_bits / HASHES_PER_BUCKET).saturating_add(1)];
        let mut entries: Vec<GramEntry> = Vec::new();
        let mut suffixes: Vec<Suffix> = Vec::new();
        for row in rows {
            let hash = hash_gram(row.gram, self.hash_shift);
            if let Some(word) = bitmap.get_mut(hash / 64) {
                *word |= 1_u64.wrapping_shl(hash as u32 % 64);
            }
            if !entries.last().is_some_and(|last| row.belongs_to(last)) {
                let suffix_start = suffixes.len() as u32;
                entries.push(GramEntry {
                    gram: row.gram,
                    offset: row.offset,
                    context_side: row.context_side,
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
            suffixes.push(Suffix {
                bytes: row.suffix,
                literal: row.literal_index,
                literal_len: row.literal_len,
                run_len: 1,
            });
            if let Some(last) = entries.last_mut() {
                last.context_filter |= row.context_filter;
                last.suffix_end = suffixes.len() as u32;
            }
        }
        bucket_starts.iter_mut().fold(0_u32, |sum, bucket_start| {
            *bucket_start = bucket_start.saturating_add(sum);
            *bucket_start
        });
        set_run_lens(&entries, &mut suffixes);
        self.bitmap = bitmap.into();
        self.bucket_starts = bucket_starts.into();
        self.entries = entries.into();
        self.suffixes = suffixes.into();
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

    /// Returns whether a gram may be in the table: whether the bitmap has its hash value.
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

    /// Calls `on_match` with each literal of an entry that is at the start of `text`. Compares the
    /// literals in ascending order of their length.
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
    /// Returns whether the bytes next to the gram at `position` may belong to a literal of the
    /// entry.
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

/// Sets the `run_len` of all suffixes. The suffixes of each entry must be sorted by length.
fn set_run_lens(entries: &[GramEntry], suffixes: &mut [Suffix]) {
    for entry in entries {
        let entry_suffixes = suffixes
            .get_mut(entry.suffix_start as usize..entry.suffix_end as usize)
            .unwrap_or_default();
        let mut next_len = 0;
        let mut next_run_len = 0_u32;
        for suffix in entry_suffixes.iter_mut().rev() {
            let is_same_run = suffix.literal_len == next_len;
            suffix.run_len = if is_same_run { next_run_len.saturating_add(1) } else { 1 };
            next_len = suffix.literal_len;
            next_run_len = suffix.run_len;
        }
    }
}

/// Returns whether a text begins with a literal.
fn starts_with(text: &[u8], literal: &[u8]) -> bool {
    // Compares eight bytes at a time, because Wasm compares slices byte by byte.
    let (literal_words, literal_rest) = literal.as_chunks::<8>();
    let Some((text, _)) = text.split_at_checked(literal.len()) else { return false };
    let (text_words, text_rest) = text.as_chunks::<8>();
    let equals = |(left, right): (&[u8; 8], &[u8; 8])| le_u64(left) == le_u64(right);
    literal_words.iter().zip(text_words).all(equals)
        && literal_rest.iter().zip(text_rest).all(|(left, right)| left == right)
}

/// Maximum number of literals of four bytes that are searched for separately. Each such search
/// takes some 2 % of the work of a table that is looked up at every position.
const MAX_SINGLE_LITERALS: usize = 24;

/// Hash values per bucket.
const HASHES_PER_BUCKET: usize = 4;

/// Maximum number of suffixes searched linearly; longer runs are searched by bisection.
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
            ("nested", &["step by step", "by step"], "step by step", &[(0, 0), (1, 5)]),
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

    /// Returns literals that share words, as phrases of signatures do, and a text of their pieces.
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
                let starts = (0..text.len()).filter(|position| {
                    text.as_bytes()[*position..].starts_with(literal.as_bytes())
                });
                expected.extend(starts.map(|start| (index, start)));
            }
            let literals: Vec<&str> = literals.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(find_all(&literals, &text), expected);
        }

        #[test]
        fn equals_a_search_for_each_literal(
            literals in prop::sample::select(vec!["[ab ]{4,24}", "[ab ]{4}"])
                .prop_flat_map(|literal| prop::collection::vec(literal, 1..20)),
            text in "[ab ]{0,400}",
        ) {
            let mut expected = Vec::new();
            for (index, literal) in literals.iter().enumerate() {
                let starts = (0..text.len())
                    .filter(|position| text[*position..].starts_with(literal.as_str()));
                expected.extend(starts.map(|start| (index, start)));
            }
            let literals: Vec<&str> = literals.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(find_all(&literals, &text), expected);
        }
    }
}
