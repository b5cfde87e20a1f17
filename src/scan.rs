//! One scan that finds which of many literals occur in a text.
//!
//! Instead of stepping an automaton through every byte, the scan looks at four bytes in every eight
//! (in every two for literals shorter than eleven bytes). Each literal is known by the rarest window
//! of that length in it, whose four-byte grams at eight successive offsets are all in a table:
//! wherever the literal stands, one of them falls on a position that is looked at. A bitmap refuses
//! nearly all positions; the rest are compared byte by byte. Text that fills the bitmap costs more,
//! but no position is compared with more literals than share its gram.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;

/// Literals, compiled.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    literals: Vec<Box<[u8]>>,
    long: Grams<LONG_STRIDE>,
    short: Grams<SHORT_STRIDE>,
}

/// The shortest literal that can be found.
pub const MIN_LITERAL: usize = SHORT_STRIDE + GRAM - 1;

impl Scanner {
    /// Compiles literals, each of at least [`MIN_LITERAL`] bytes; shorter ones are never found.
    /// A literal is known by its place in the list.
    pub fn new(literals: impl IntoIterator<Item = String>) -> Self {
        let literals: Vec<Box<[u8]>> =
            literals.into_iter().map(|text| text.into_bytes().into()).collect();
        let is_long =
            |literal: &[u8]| literal.len() >= LONG_STRIDE.saturating_add(GRAM).saturating_sub(1);
        let long =
            Grams::new(literals.iter().map(|literal| Some(&**literal).filter(|it| is_long(it))));
        let short =
            Grams::new(literals.iter().map(|literal| Some(&**literal).filter(|it| !is_long(it))));
        Self { literals, long, short }
    }

    /// Calls `found` with the place in the list and the start of every literal in `text`. The order is
    /// that of the scan; the same occurrence is told once.
    pub fn scan(&self, text: &[u8], found: &mut impl FnMut(usize, usize)) {
        self.long.scan(text, &self.literals, found);
        self.short.scan(text, &self.literals, found);
    }

    /// The length of a literal.
    pub fn len_of(&self, literal: usize) -> usize {
        self.literals.get(literal).map_or(0, |literal| literal.len())
    }

    /// Bytes held, roughly.
    pub fn memory(&self) -> usize {
        let literals: usize = self.literals.iter().map(|literal| literal.len()).sum();
        literals.saturating_add(self.long.memory()).saturating_add(self.short.memory())
    }
}

/// The grams of literals that are looked for at every `STRIDE`th position.
#[derive(Clone, Debug, Default)]
struct Grams<const STRIDE: usize> {
    /// A bit for each hash value that a gram has.
    bitmap: Box<[u64]>,
    /// Where each hash value's entries begin.
    heads: Box<[u32]>,
    entries: Box<[Entry]>,
    shift: u32,
}

/// A gram of a literal.
#[derive(Clone, Copy, Debug)]
struct Entry {
    gram: u32,
    literal: u32,
    offset: u32,
}

impl<const STRIDE: usize> Grams<STRIDE> {
    fn new<'l>(literals: impl Iterator<Item = Option<&'l [u8]>>) -> Self {
        let literals: Vec<Option<&[u8]>> = literals.collect();
        let shared = sharing(&literals);
        let mut entries = Vec::new();
        for (number, literal) in literals.into_iter().enumerate() {
            let Some(literal) = literal else { continue };
            entries.extend(window::<STRIDE>(literal, number, &shared));
        }
        if entries.is_empty() {
            return Self::default();
        }
        // 32 bits an entry keep the share of positions that pass by chance near one in thirty.
        let bits = entries.len().saturating_mul(32).next_power_of_two().ilog2().clamp(10, 22);
        let shift = 32_u32.saturating_sub(bits);
        entries.sort_by_key(|entry| (hash(entry.gram, shift), entry.literal, entry.offset));
        let size = 1_usize.wrapping_shl(bits);
        let mut bitmap = vec![0_u64; size / 64];
        // Entries are grouped under coarser heads than the bitmap has bits: eight bits share a head.
        let mut heads = vec![0_u32; (size / HEAD).saturating_add(1)];
        for entry in &entries {
            let hash = hash(entry.gram, shift);
            if let Some(word) = bitmap.get_mut(hash / 64) {
                *word |= 1_u64.wrapping_shl(hash as u32 % 64);
            }
            if let Some(head) = heads.get_mut((hash / HEAD).saturating_add(1)) {
                *head = head.saturating_add(1);
            }
        }
        let mut sum = 0_u32;
        for head in &mut heads {
            sum = sum.saturating_add(*head);
            *head = sum;
        }
        Self { bitmap: bitmap.into(), heads: heads.into(), entries: entries.into(), shift }
    }

    fn scan(&self, text: &[u8], literals: &[Box<[u8]>], found: &mut impl FnMut(usize, usize)) {
        if self.entries.is_empty() {
            return;
        }
        let mut at = 0_usize;
        let mut chunks = text.chunks_exact(STRIDE);
        for chunk in chunks.by_ref() {
            let gram = match chunk {
                [a, b, c, d, ..] => Some(u32::from_le_bytes([*a, *b, *c, *d])),
                _ => gram_at(text, at),
            };
            if let Some(gram) = gram
                && self.may_hold(gram)
            {
                self.verify(text, at, gram, literals, found);
            }
            at = at.saturating_add(STRIDE);
        }
        if let Some(gram) = gram_at(text, at)
            && self.may_hold(gram)
        {
            self.verify(text, at, gram, literals, found);
        }
    }

    fn may_hold(&self, gram: u32) -> bool {
        let hash = hash(gram, self.shift);
        self.bitmap.get(hash / 64).is_some_and(|word| word.wrapping_shr(hash as u32 % 64) & 1 != 0)
    }

    #[cold]
    fn verify(
        &self,
        text: &[u8],
        at: usize,
        gram: u32,
        literals: &[Box<[u8]>],
        found: &mut impl FnMut(usize, usize),
    ) {
        let head = hash(gram, self.shift) / HEAD;
        let (Some(from), Some(to)) = (self.heads.get(head), self.heads.get(head.saturating_add(1)))
        else {
            return;
        };
        for entry in self.entries.get(*from as usize..*to as usize).unwrap_or_default() {
            if entry.gram != gram {
                continue;
            }
            let Some(start) = at.checked_sub(entry.offset as usize) else { continue };
            let Some(literal) = literals.get(entry.literal as usize) else { continue };
            if text.get(start..).is_some_and(|text| text.starts_with(literal)) {
                found(entry.literal as usize, start);
            }
        }
    }

    fn memory(&self) -> usize {
        let (bitmap, heads) =
            (self.bitmap.len().saturating_mul(8), self.heads.len().saturating_mul(4));
        bitmap.saturating_add(heads).saturating_add(self.entries.len().saturating_mul(12))
    }
}

/// The grams of a literal's rarest window, one for each of the `STRIDE` ways in which the literal can
/// lie across the positions that are looked at.
fn window<const STRIDE: usize>(
    literal: &[u8],
    number: usize,
    shared: &HashMap<u32, u32>,
) -> Vec<Entry> {
    let offsets = |start: usize| start..start.saturating_add(STRIDE);
    let cost = |start: usize| -> u64 {
        let grams = offsets(start).filter_map(|at| gram_at(literal, at));
        let costs = grams.map(|gram| {
            let literals = shared.get(&gram).copied().unwrap_or(1);
            u64::from(commonness(gram)).saturating_mul(u64::from(literals))
        });
        costs.sum()
    };
    let span = STRIDE.saturating_add(GRAM).saturating_sub(1);
    let Some(last) = literal.len().checked_sub(span) else { return Vec::new() };
    let start = (0..=last).min_by_key(|start| cost(*start)).unwrap_or(0);
    let entry = |offset: usize| {
        gram_at(literal, offset).map(|gram| Entry {
            gram,
            literal: number as u32,
            offset: offset as u32,
        })
    };
    offsets(start).filter_map(entry).collect()
}

/// In how many places of all literals each gram stands: what many share, all of them are compared for.
fn sharing(literals: &[Option<&[u8]>]) -> HashMap<u32, u32> {
    let mut shared = HashMap::new();
    for literal in literals.iter().flatten() {
        for gram in literal.windows(GRAM).filter_map(|gram| gram_at(gram, 0)) {
            let count: &mut u32 = shared.entry(gram).or_default();
            *count = count.saturating_add(1);
        }
    }
    shared
}

/// How common four bytes are in text, on an arbitrary scale: the product of their letters' shares.
fn commonness(gram: u32) -> u32 {
    gram.to_le_bytes().iter().fold(1, |product, byte| {
        let share = match byte {
            b' ' => 18,
            b'e' => 11,
            b't' => 8,
            b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 6,
            b'h' | b'l' | b'd' => 4,
            b'c' | b'u' | b'm' | b'f' | b'p' | b'g' => 3,
            b'a'..=b'z' => 2,
            0x80.. => 3,
            _ => 1,
        };
        u32::saturating_mul(product, share)
    })
}

fn gram_at(text: &[u8], at: usize) -> Option<u32> {
    let bytes = text.get(at..at.checked_add(GRAM)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn hash(gram: u32, shift: u32) -> usize {
    // Fibonacci hashing: the high bits of a product with 2^32 divided by the golden ratio.
    gram.wrapping_mul(0x9e37_79b1).wrapping_shr(shift) as usize
}

const GRAM: usize = 4;
const LONG_STRIDE: usize = 8;
const SHORT_STRIDE: usize = 2;
const HEAD: usize = 8;

#[cfg(test)]
mod tests {
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

    proptest::proptest! {
        #[test]
        fn equals_searching_one_by_one(
            literals in proptest::collection::vec("[ab ]{5,24}", 1..20),
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
