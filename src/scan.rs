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
    long: Grams<8, 8>,
    middle: Grams<4, 8>,
    short: Grams<2, 4>,
    shortest: Grams<1, 4>,
}

/// The shortest literal that can be found.
pub const MIN_LITERAL: usize = span(1, 4);

impl Scanner {
    /// Compiles literals, each of at least [`MIN_LITERAL`] bytes; shorter ones are never found.
    /// A literal is known by its place in the list.
    pub fn new(literals: impl IntoIterator<Item = String>) -> Self {
        let literals: Vec<Box<[u8]>> =
            literals.into_iter().map(|text| text.into_bytes().into()).collect();
        let (long, middle, short) = (span(8, 8), span(4, 8), span(2, 4));
        Self {
            long: Grams::new(&literals, long..usize::MAX),
            middle: Grams::new(&literals, middle..long),
            short: Grams::new(&literals, short..middle),
            shortest: Grams::new(&literals, MIN_LITERAL..short),
            literals,
        }
    }

    /// Calls `found` with the place in the list and the start of every literal in `text`. The order is
    /// that of the scan; the same occurrence is told once.
    pub fn scan(&self, text: &[u8], found: &mut impl FnMut(usize, usize)) {
        self.long.scan(text, &self.literals, found);
        self.middle.scan(text, &self.literals, found);
        self.short.scan(text, &self.literals, found);
        self.shortest.scan(text, &self.literals, found);
    }

    /// The length of a literal.
    pub fn len_of(&self, literal: usize) -> usize {
        self.literals.get(literal).map_or(0, |literal| literal.len())
    }

    /// Bytes held, roughly.
    pub fn memory(&self) -> usize {
        let literals: usize = self.literals.iter().map(|literal| literal.len()).sum();
        let longer = [self.long.memory(), self.middle.memory()];
        let grams = longer.into_iter().chain([self.short.memory(), self.shortest.memory()]);
        grams.fold(literals, usize::saturating_add)
    }
}

/// Grams of `WIDTH` bytes that are looked for at every `STRIDE`th position.
#[derive(Clone, Debug, Default)]
struct Grams<const STRIDE: usize, const WIDTH: usize> {
    /// A bit for each hash value that a gram has.
    bitmap: Box<[u64]>,
    /// Where the entries of each few hash values begin.
    heads: Box<[u32]>,
    entries: Box<[Entry]>,
    /// What the entries' literals end with.
    tails: Box<[Tail]>,
    shift: u32,
}

/// A gram that some literals have at the same offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    gram: u64,
    offset: u32,
    side: Side,
    /// A bit for each hash value that the bytes on that side have.
    beside: u64,
    /// Its literals among the tails, in the order of their lengths and last bytes.
    from: u32,
    to: u32,
}

/// Where the literals of an entry go on beside the gram, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Behind,
    Before,
    Neither,
}

/// A literal and its last `WIDTH` bytes.
#[derive(Clone, Copy, Debug)]
struct Tail {
    bytes: u64,
    literal: u32,
    length: u32,
    /// How many tails of the same length follow, this one included.
    run: u32,
}

/// A literal's gram, before it is gathered with others.
type Row = (u64, u32, Side, u32, u64, u32, u64);

impl<const STRIDE: usize, const WIDTH: usize> Grams<STRIDE, WIDTH> {
    fn new(literals: &[Box<[u8]>], lengths: std::ops::Range<usize>) -> Self {
        let own = || (0_u32..).zip(literals).filter(|(_, it)| lengths.contains(&it.len()));
        let shared = sharing::<WIDTH>(own().map(|(_, literal)| &**literal));
        let mut rows: Vec<Row> =
            own().flat_map(|(number, it)| rows::<STRIDE, WIDTH>(it, number, &shared)).collect();
        if rows.is_empty() {
            return Self::default();
        }
        // Sixteen bits a gram, where each is of one literal.
        let bits = rows.len().saturating_mul(16).next_power_of_two().ilog2().clamp(10, 20);
        let mut grams = Self { shift: 64_u32.saturating_sub(bits), ..Self::default() };
        rows.sort_unstable_by_key(|row| (hash(row.0, grams.shift), *row));
        grams.fill(&rows, 1_usize.wrapping_shl(bits));
        grams
    }

    fn fill(&mut self, rows: &[Row], size: usize) {
        let mut bitmap = vec![0_u64; size / 64];
        let mut heads = vec![0_u32; (size / HEAD).saturating_add(1)];
        let (mut entries, mut tails): (Vec<Entry>, Vec<Tail>) = (Vec::new(), Vec::new());
        for (gram, offset, side, length, bytes, literal, beside) in rows.iter().copied() {
            let hash = hash(gram, self.shift);
            if let Some(word) = bitmap.get_mut(hash / 64) {
                *word |= 1_u64.wrapping_shl(hash as u32 % 64);
            }
            let is_known = entries
                .last()
                .is_some_and(|last| (last.gram, last.offset, last.side) == (gram, offset, side));
            if !is_known {
                let from = tails.len() as u32;
                entries.push(Entry { gram, offset, side, beside: 0, from, to: from });
                if let Some(head) = heads.get_mut((hash / HEAD).saturating_add(1)) {
                    *head = head.saturating_add(1);
                }
            }
            tails.push(Tail { bytes, literal, length, run: 1 });
            if let Some(last) = entries.last_mut() {
                last.beside |= beside;
                last.to = tails.len() as u32;
            }
        }
        heads.iter_mut().fold(0_u32, |sum, head| {
            *head = head.saturating_add(sum);
            *head
        });
        for entry in &entries {
            let own = tails.get_mut(entry.from as usize..entry.to as usize).unwrap_or_default();
            let mut next = (0, 0_u32);
            for tail in own.iter_mut().rev() {
                tail.run = if tail.length == next.0 { next.1.saturating_add(1) } else { 1 };
                next = (tail.length, tail.run);
            }
        }
        (self.bitmap, self.heads) = (bitmap.into(), heads.into());
        (self.entries, self.tails) = (entries.into(), tails.into());
    }

    fn scan(&self, text: &[u8], literals: &[Box<[u8]>], found: &mut impl FnMut(usize, usize)) {
        if self.entries.is_empty() {
            return;
        }
        let mut at = 0_usize;
        if STRIDE == WIDTH {
            for chunk in text.as_chunks::<WIDTH>().0 {
                let gram = number(chunk);
                if self.may_hold(gram) {
                    self.verify(text, at, gram, literals, found);
                }
                at = at.saturating_add(STRIDE);
            }
        } else {
            while let Some(gram) = gram_at::<WIDTH>(text, at) {
                if self.may_hold(gram) {
                    self.verify(text, at, gram, literals, found);
                }
                at = at.saturating_add(STRIDE);
            }
        }
    }

    fn may_hold(&self, gram: u64) -> bool {
        let hash = hash(gram, self.shift);
        self.bitmap.get(hash / 64).is_some_and(|word| word.wrapping_shr(hash as u32 % 64) & 1 != 0)
    }

    #[inline(never)]
    fn verify(
        &self,
        text: &[u8],
        at: usize,
        gram: u64,
        literals: &[Box<[u8]>],
        found: &mut impl FnMut(usize, usize),
    ) {
        let head = hash(gram, self.shift) / HEAD;
        let (Some(from), Some(to)) = (self.heads.get(head), self.heads.get(head.saturating_add(1)))
        else {
            return;
        };
        for entry in self.entries.get(*from as usize..*to as usize).unwrap_or_default() {
            if entry.gram != gram || !entry.goes_on::<WIDTH>(text, at) {
                continue;
            }
            let Some(start) = at.checked_sub(entry.offset as usize) else { continue };
            let rest = text.get(start..).unwrap_or_default();
            self.compare(entry, rest, literals, &mut |literal| found(literal, start));
        }
    }

    /// Compares a text with the literals of an entry: those of one length after the other.
    fn compare(
        &self,
        entry: &Entry,
        text: &[u8],
        literals: &[Box<[u8]>],
        found: &mut impl FnMut(usize),
    ) {
        let mut tails = self.tails.get(entry.from as usize..entry.to as usize).unwrap_or_default();
        while let Some(first) = tails.first() {
            let (run, longer) = tails.split_at_checked(first.run as usize).unwrap_or((tails, &[]));
            tails = longer;
            let last = (first.length as usize).saturating_sub(WIDTH);
            let Some(bytes) = gram_at::<WIDTH>(text, last) else { return };
            let from = match run.len() {
                0..=FEW => 0,
                _ => run.partition_point(|tail| tail.bytes < bytes),
            };
            let same = run.iter().skip(from).take_while(|tail| tail.bytes <= bytes);
            for tail in same.filter(|tail| tail.bytes == bytes) {
                let literal = tail.literal as usize;
                if literals.get(literal).is_some_and(|literal| begins(text, literal)) {
                    found(literal);
                }
            }
        }
    }

    fn memory(&self) -> usize {
        let bytes = |count: usize, size: usize| count.saturating_mul(size);
        bytes(self.bitmap.len(), size_of::<u64>())
            .saturating_add(bytes(self.heads.len(), size_of::<u32>()))
            .saturating_add(bytes(self.entries.len(), size_of::<Entry>()))
            .saturating_add(bytes(self.tails.len(), size_of::<Tail>()))
    }
}

impl Entry {
    /// Whether the text around its gram may be that of one of its literals.
    fn goes_on<const WIDTH: usize>(&self, text: &[u8], at: usize) -> bool {
        let beside = match self.side {
            Side::Behind => at.checked_add(WIDTH),
            Side::Before => at.checked_sub(BESIDE),
            Side::Neither => return true,
        };
        let beside = beside.and_then(|at| gram_at::<BESIDE>(text, at));
        beside.is_some_and(|beside| self.beside & bit(beside) != 0)
    }
}

/// The grams of a literal's window, one for each of the `STRIDE` ways in which the literal can lie
/// across the positions that are looked at.
fn rows<const STRIDE: usize, const WIDTH: usize>(
    literal: &[u8],
    number: u32,
    shared: &HashMap<u64, u32>,
) -> Vec<Row> {
    let offsets = |start: usize| start..start.saturating_add(STRIDE);
    let cost = |start: usize| -> u64 {
        let grams = offsets(start).filter_map(|at| literal.get(at..at.saturating_add(WIDTH)));
        let costs = grams.map(|gram| {
            let literals = shared.get(&padded(gram)).copied().unwrap_or(1);
            u64::from(commonness(gram)).saturating_mul(u64::from(literals))
        });
        costs.sum()
    };
    let last = literal.len().saturating_sub(span(STRIDE, WIDTH));
    let start = (0..=last).min_by_key(|start| cost(*start)).unwrap_or(0);
    let row = |offset: usize| {
        let gram = gram_at::<WIDTH>(literal, offset)?;
        let bytes = gram_at::<WIDTH>(literal, literal.len().saturating_sub(WIDTH))?;
        let behind = gram_at::<BESIDE>(literal, offset.saturating_add(WIDTH));
        let before = offset.checked_sub(BESIDE).and_then(|at| gram_at::<BESIDE>(literal, at));
        let (side, beside) = match (behind, before) {
            (Some(behind), _) => (Side::Behind, bit(behind)),
            (None, Some(before)) => (Side::Before, bit(before)),
            (None, None) => (Side::Neither, 0),
        };
        Some((gram, offset as u32, side, literal.len() as u32, bytes, number, beside))
    };
    offsets(start).filter_map(row).collect()
}

/// In how many places of all literals each gram stands.
fn sharing<'l, const WIDTH: usize>(literals: impl Iterator<Item = &'l [u8]>) -> HashMap<u64, u32> {
    let mut shared = HashMap::new();
    for gram in literals.flat_map(|literal| literal.windows(WIDTH)) {
        let count: &mut u32 = shared.entry(padded(gram)).or_default();
        *count = count.saturating_add(1);
    }
    shared
}

/// How common a gram is in text, on an arbitrary scale: within a word it comes with the word; across
/// two it comes only with both.
fn commonness(gram: &[u8]) -> u32 {
    let words = gram.split(|byte| *byte == b' ').filter(|word| word.len() > 1).count();
    let is_rare = |byte: &&u8| {
        matches!(byte, b'j' | b'k' | b'q' | b'v' | b'x' | b'z')
            || !byte.is_ascii_lowercase() && **byte != b' '
    };
    let rare = gram.iter().filter(is_rare).count().min(3) as u32;
    let common = if words > 1 { 8_u32 } else { 128 };
    common.wrapping_shr(rare)
}

/// How long a literal is at least that is found by grams of `width` bytes at every `stride`th position.
const fn span(stride: usize, width: usize) -> usize {
    stride.saturating_add(width).saturating_sub(1)
}

fn gram_at<const WIDTH: usize>(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk::<WIDTH>().map(number)
}

/// Some bytes as a number, the first its lowest.
fn number<const WIDTH: usize>(bytes: &[u8; WIDTH]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => match bytes.first_chunk::<4>() {
            Some(bytes) => u64::from(u32::from_le_bytes(*bytes)),
            None => padded(bytes),
        },
    }
}

fn padded(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Whether a text begins with a literal.
fn begins(text: &[u8], literal: &[u8]) -> bool {
    // In Wasm, comparing slices goes byte by byte.
    let (words, rest) = literal.as_chunks::<8>();
    let Some((text, _)) = text.split_at_checked(literal.len()) else { return false };
    let (own, tail) = text.as_chunks::<8>();
    let equals = |(one, other): (&[u8; 8], &[u8; 8])| number(one) == number(other);
    words.iter().zip(own).all(equals) && rest.iter().zip(tail).all(|(one, other)| one == other)
}

fn hash(gram: u64, shift: u32) -> usize {
    // Fibonacci hashing: the high bits of a product with 2^64 divided by the golden ratio.
    gram.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_shr(shift) as usize
}

/// The bit of some bytes in a filter of 64.
fn bit(beside: u64) -> u64 {
    1_u64.wrapping_shl(hash(beside, 58) as u32)
}

/// Bytes beside a gram that are looked at.
const BESIDE: usize = 4;

/// Hash values that have a head together.
const HEAD: usize = 4;

/// Tails that are looked at one by one.
const FEW: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop};

    use super::*;

    fn scan(literals: &[&str], text: &str) -> Vec<(usize, usize)> {
        let scanner = Scanner::new(literals.iter().map(ToString::to_string));
        let mut found = Vec::new();
        scanner.scan(text.as_bytes(), &mut |literal, start| found.push((literal, start)));
        found.sort_unstable();
        found
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
            assert_eq!(scan(literals, text), *expected, "{name}");
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
                literals.into_iter().filter(|literal| literal.len() >= MIN_LITERAL).collect();
            let mut expected = Vec::new();
            for (number, literal) in literals.iter().enumerate() {
                let starts = (0..text.len()).filter(|at| text.as_bytes()[*at..].starts_with(literal.as_bytes()));
                expected.extend(starts.map(|start| (number, start)));
            }
            let literals: Vec<&str> = literals.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(scan(&literals, &text), expected);
        }

        #[test]
        fn equals_searching_one_by_one(
            literals in proptest::collection::vec("[ab ]{4,24}", 1..20),
            text in "[ab ]{0,400}",
        ) {
            let mut expected = Vec::new();
            for (number, literal) in literals.iter().enumerate() {
                let starts = (0..text.len()).filter(|at| text[*at..].starts_with(literal.as_str()));
                expected.extend(starts.map(|start| (number, start)));
            }
            let literals: Vec<&str> = literals.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(scan(&literals, &text), expected);
        }
    }
}
