//! Template keys: hashes that requests made from one template share, whatever fills its slots.
//!
//! The words of a text make shingles of eight; the smallest hashes among them are its keys (bottom-k
//! MinHash). Two texts that share a part share the shingles in it, and some of those are among the
//! smallest of both. A long slot drowns the rest, however, and templates stand before or behind what
//! fills them; so the first and the last words have keys of their own: a template of `NEAR` words at
//! either end always shares one.
#![deny(clippy::arithmetic_side_effects)]

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::bits::{Eight, HIGH};
use crate::hash::{HashKey, mix};

/// Keys of the whole text, at most.
const WHOLE: usize = 8;

/// Words that are first, or last; and their keys.
const NEAR: usize = 16;
const OF_NEAR: usize = 1;

/// The same, further in.
const FAR: usize = 32;
const OF_FAR: usize = 2;

/// Keys of a text, at most.
pub const MAX_KEYS: usize = WHOLE + 2 * (OF_NEAR + OF_FAR);

/// Words of a shingle.
const WORDS: usize = 8;

/// Characters of a shingle where words are not set apart: some two to a word.
const SIGNS: usize = 16;

/// Bytes that are looked at from the start of the text; and bytes from its end.
const FROM_START: usize = 64 << 10;
const FROM_END: usize = 1 << 10;

/// The keys of a text that comes in several values, in their order: each once, in no order that means
/// anything. Few words have none. `name` is the field's.
pub fn keys<'t>(name: &str, values: impl Iterator<Item = &'t str>, key: &HashKey) -> Vec<u64> {
    let values: Vec<&str> = values.collect();
    let mut whole = Smallest::<WHOLE>::default();
    let mut first = Edge::default();
    let mut last = Last::default();
    // Shingles go on from one value to the next: a text may be cut into any parts.
    let mut window = Window::default();
    let mut left = FROM_START;
    for value in &values {
        let part = head(value, left);
        window.read(part, key.seed(), &mut |at, hash| {
            whole.add(hash);
            first.add(at, hash);
            last.add(at, hash);
        });
        left = left.saturating_sub(value.len());
        if left == 0 {
            break;
        }
    }
    if values.iter().map(|value| value.len()).sum::<usize>() > FROM_START {
        let mut window = Window::default();
        last = Last::default();
        for part in end(&values) {
            window.read(part, key.seed(), &mut |at, hash| last.add(at, hash));
        }
    }
    let last = last.edge();
    let mut all: Vec<u64> = Vec::with_capacity(MAX_KEYS);
    for hash in whole.hashes().chain(first.hashes()).chain(last.hashes()) {
        // What leaves the request is a hash that does not show the seed.
        let hash = key.value(name, &hash.to_le_bytes());
        if !all.contains(&hash) {
            all.push(hash);
        }
    }
    all
}

/// The hash of a whole text that comes in several values; `None` where there is no word in it.
pub fn digest<'t>(name: &str, values: impl Iterator<Item = &'t str>, key: &HashKey) -> Option<u64> {
    let mut sum = 0_u64;
    let mut is_empty = true;
    for value in values {
        is_empty &= value.is_empty();
        sum = mix(sum.rotate_left(17) ^ xxh3_64_with_seed(value.as_bytes(), key.seed()));
    }
    (!is_empty).then(|| key.value(name, &sum.to_le_bytes()))
}

/// The first bytes of a text, whole characters.
fn head(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

/// The last bytes of several values, in their order, from a word's start on.
fn end<'t>(values: &[&'t str]) -> Vec<&'t str> {
    let mut left = FROM_END;
    let mut parts = Vec::new();
    for value in values.iter().rev() {
        let from = value.ceil_char_boundary(value.len().saturating_sub(left));
        let part = value.get(from..).unwrap_or_default();
        left = left.saturating_sub(part.len().max(1));
        parts.push(match from {
            0 => part,
            _ => part.split_once(' ').map_or(part, |(_, rest)| rest),
        });
        if left == 0 {
            break;
        }
    }
    parts.reverse();
    parts
}

/// What a stretch of text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Letters and digits between what is neither.
    Letters,
    /// Digits alone: whichever they are, for they count what the template was used for.
    Number,
    /// One character of a script that sets no words apart.
    Sign,
}

impl Word {
    fn hash(self, bytes: &[u8], seed: u64) -> u64 {
        match (self, bytes.len()) {
            (Self::Number, _) => mix(seed),
            (_, ..8) => mix(padded(bytes) ^ seed),
            _ => xxh3_64_with_seed(bytes, seed),
        }
    }
}

/// The word at the start of a text, and its bytes.
fn word(text: &[u8]) -> (Word, usize) {
    let mut is_number = true;
    let mut at = 0_usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'0'..=b'9' => at = at.saturating_add(1),
            byte if byte.is_ascii_alphabetic() => {
                is_number = false;
                at = at.saturating_add(1);
            }
            0x80.. => {
                let length = width(*byte);
                if is_sign(text.get(at..).unwrap_or_default()) {
                    if at == 0 {
                        return (Word::Sign, length);
                    }
                    break;
                }
                is_number = false;
                at = at.saturating_add(length);
            }
            _ => break,
        }
    }
    (if is_number { Word::Number } else { Word::Letters }, at)
}

/// Bytes of a character of UTF-8, by its first.
fn width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    }
}

/// Whether a text begins with a character of Chinese, Japanese or Thai, or of their neighbours, which
/// do not set words apart (or, like punctuation of theirs, are as good as one).
fn is_sign(text: &[u8]) -> bool {
    match text {
        // U+0E00 to U+0EFF: Thai and Lao. U+1000 to U+109F: Burmese. U+1780 to U+17FF: Khmer.
        [0xe0, 0xb8..=0xbb, ..] | [0xe1, 0x80..=0x82 | 0x9e..=0x9f, ..] => true,
        // From U+2E80 on, but for Hangul (U+AC00 to U+D7FF).
        [0xe2, 0xba..=0xbf, ..] | [0xe3..=0xe9 | 0xee..=0xf4, ..] => true,
        [0xea, second, ..] => *second < 0xb0,
        _ => false,
    }
}

/// The next eight bytes of a text, looked at together: a mask has the highest bit of each byte that is
/// of its kind.
struct Words {
    bytes: u64,
    digits: u64,
    letters: u64,
    beyond_ascii: u64,
}

impl Words {
    fn of(text: &[u8]) -> Self {
        let bytes = text.first_chunk().map_or_else(|| padded(text), |own| u64::from_le_bytes(*own));
        let (own, lower) = (Eight(bytes), Eight(Eight(bytes).lower()));
        Self {
            bytes,
            digits: own.from(b'0') & !own.from(b'9'.saturating_add(1)) & HIGH,
            letters: lower.from(b'a') & !lower.from(b'z'.saturating_add(1)) & HIGH,
            beyond_ascii: own.beyond_ascii(),
        }
    }

    /// Bytes of ASCII letters and digits at the start, up to eight.
    fn word(&self) -> usize {
        count(!(self.digits | self.letters) & HIGH)
    }

    /// The hash of the first bytes, which are a word: as `Word::hash`.
    fn hash(&self, length: usize, seed: u64) -> u64 {
        let is_number = self.letters & !behind(length) == 0;
        let bytes = if is_number { 0 } else { self.bytes & !behind(length) };
        mix(bytes ^ seed)
    }

    /// Whether the byte behind the first ones, which are of ASCII, is of another character.
    fn goes_on(&self, length: usize) -> bool {
        count(self.beyond_ascii) == length
    }

    /// Where the first word behind `length` bytes begins, or eight.
    fn next_word(&self, length: usize) -> usize {
        count((self.digits | self.letters | self.beyond_ascii) & behind(length))
    }
}

/// Up to eight bytes as a number.
fn padded(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Bytes before the first that a mask has; eight where it has none.
fn count(mask: u64) -> usize {
    (mask.trailing_zeros() / 8) as usize
}

/// All bytes but the first ones.
fn behind(bytes: usize) -> u64 {
    u64::MAX.checked_shl(8_u32.saturating_mul(bytes as u32)).unwrap_or(0)
}

/// The smallest hashes at one end of a text.
#[derive(Default)]
struct Edge {
    near: Smallest<OF_NEAR>,
    far: Smallest<OF_FAR>,
}

impl Edge {
    /// Adds a shingle that reaches so many words into the text.
    fn add(&mut self, reach: usize, hash: u64) {
        if reach <= NEAR {
            self.near.add(hash);
        }
        if reach <= FAR {
            self.far.add(hash);
        }
    }

    fn hashes(&self) -> impl Iterator<Item = u64> {
        self.near.hashes().chain(self.far.hashes())
    }
}

/// The last shingles, by the words that end with each.
#[derive(Default)]
struct Last {
    ring: [(usize, u64); FAR],
    words: usize,
}

impl Last {
    fn add(&mut self, at: usize, hash: u64) {
        self.words = at;
        if let Some(slot) = self.ring.get_mut(at % FAR) {
            *slot = (at, hash);
        }
    }

    fn edge(&self) -> Edge {
        let mut edge = Edge::default();
        for (at, hash) in self.ring.iter().filter(|(at, _)| *at > 0) {
            edge.add(self.words.saturating_add(WORDS).saturating_sub(*at), *hash);
        }
        edge
    }
}

/// Hashes over the last words: polynomials, which move on by one.
#[derive(Default)]
struct Window {
    last: [u64; SIGNS],
    pushed: usize,
    /// Over as many as a shingle has words, and as many as it has signs.
    words: u64,
    signs: u64,
}

impl Window {
    /// Reads normalised text, and calls `each` with every shingle: how many words end with it, and its
    /// hash.
    fn read(&mut self, text: &str, seed: u64, each: &mut impl FnMut(usize, u64)) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let words = Words::of(rest);
            let length = words.word();
            let is_whole = length < 8 && !words.goes_on(length);
            let (hash, span, next) = match length {
                0 if is_whole => {
                    rest = rest.get(words.next_word(0)..).unwrap_or_default();
                    continue;
                }
                _ if is_whole => (words.hash(length, seed), WORDS, words.next_word(length)),
                _ => {
                    let (word, length) = word(rest);
                    let (bytes, _) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                    let span = if matches!(word, Word::Sign) { SIGNS } else { WORDS };
                    (word.hash(bytes, seed), span, length.max(1))
                }
            };
            rest = rest.get(next..).unwrap_or_default();
            if let Some(hash) = self.push(hash, span) {
                each(self.pushed, mix(hash ^ seed));
            }
        }
    }

    /// Adds a word; the hash of the last `span`, once there are so many.
    fn push(&mut self, hash: u64, span: usize) -> Option<u64> {
        let back = |words: usize| self.last.get(self.pushed.wrapping_sub(words) % SIGNS).copied();
        let (word, sign) = (back(WORDS).unwrap_or(0), back(SIGNS).unwrap_or(0));
        self.words = roll::<WORDS>(self.words, hash, word);
        self.signs = roll::<SIGNS>(self.signs, hash, sign);
        if let Some(slot) = self.last.get_mut(self.pushed % SIGNS) {
            *slot = hash;
        }
        self.pushed = self.pushed.saturating_add(1);
        (self.pushed >= span).then_some(if span == WORDS { self.words } else { self.signs })
    }
}

/// A polynomial over the last hashes, with a new one and without the one that was added so many before.
fn roll<const SPAN: usize>(sum: u64, new: u64, old: u64) -> u64 {
    let gone = old.wrapping_mul(const { BASE.wrapping_pow(SPAN as u32) });
    sum.wrapping_mul(BASE).wrapping_add(new).wrapping_sub(gone)
}

const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The smallest of the hashes that were added, each once.
struct Smallest<const N: usize> {
    hashes: [u64; N],
    len: usize,
}

impl<const N: usize> Default for Smallest<N> {
    fn default() -> Self {
        Self { hashes: [u64::MAX; N], len: 0 }
    }
}

impl<const N: usize> Smallest<N> {
    fn add(&mut self, hash: u64) {
        let is_large = self.hashes.last().is_none_or(|largest| hash >= *largest);
        if is_large || self.hashes.contains(&hash) {
            return;
        }
        // The largest goes; what is larger than the new one moves up.
        let mut new = hash;
        for kept in &mut self.hashes {
            if new < *kept {
                std::mem::swap(kept, &mut new);
            }
        }
        self.len = self.len.saturating_add(1).min(N);
    }

    fn hashes(&self) -> impl Iterator<Item = u64> {
        self.hashes.iter().take(self.len).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "hedgerow.template.user";

    fn of(text: &str) -> Vec<u64> {
        keys(NAME, text.split('\n'), &HashKey::default())
    }

    fn words(count: usize, seed: usize) -> String {
        let words = (0..count).map(|number| {
            format!("w{}", mix(seed.wrapping_mul(100_003).wrapping_add(number) as u64) % 50_000)
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn shared(left: &str, right: &str) -> usize {
        let right = of(right);
        of(left).iter().filter(|key| right.contains(key)).count()
    }

    const TASK: &str = "you are given a passage; write three questions that it answers, then answer each in one sentence";

    #[test]
    fn slots_of_a_template_may_hold_anything() {
        type Text = fn(usize) -> String;
        let rows: [(&str, Text, bool); 10] = [
            ("a short slot", |seed| format!("{TASK} {}", words(3, seed)), true),
            ("a long slot behind", |seed| format!("{TASK}: {}", words(4_000, seed)), true),
            ("a long slot before", |seed| format!("{} {TASK}", words(4_000, seed)), true),
            ("in another message", |seed| format!("{}\n{TASK}", words(4_000, seed)), true),
            (
                "cut into parts of one word",
                |seed| match seed % 2 {
                    0 => TASK.replace(' ', "\n"),
                    _ => format!("{TASK} {}", words(9, seed)),
                },
                true,
            ),
            ("a counter", |seed| format!("task {seed} of {}0: {TASK}", seed + 1), true),
            (
                "numbers in between",
                |seed| (0..5).map(|at| format!("row {} ", seed * 7 + at)).collect(),
                true,
            ),
            ("nothing in common", |seed| words(4_000, seed), false),
            (
                "a common phrase",
                |seed| format!("{} please write me a short", words(40, seed)),
                false,
            ),
            ("no eight words", |_| "write a poem".into(), false),
        ];
        for (name, text, alike) in rows {
            let keys: Vec<Vec<u64>> = (0..20).map(|seed| of(&text(seed))).collect();
            let pairs =
                keys.windows(2).filter(|pair| pair[0].iter().any(|key| pair[1].contains(key)));
            let pairs = pairs.count();
            assert_eq!(pairs, if alike { 19 } else { 0 }, "{name}");
        }
    }

    #[test]
    fn scripts_that_set_no_words_apart_have_shingles_too() {
        let task = "请根据下面的段落写出三个问题并分别用一句话回答每个问题";
        let (left, right) = (format!("{task}春天来了花都开了"), format!("{task}他去了北京看朋友"));
        assert!(shared(&left, &right) > 0);
        assert_eq!(shared("春天来了花都开了他去了北京看朋友", "夏天到了人们都去海边游泳晒太阳"), 0);
        assert!(of("напишите три вопроса по этому тексту и ответьте на них").len() > 1);
    }

    #[test]
    fn keys_are_few_and_belong_to_one_field_and_deployment() {
        let text = words(500, 7);
        let keys_of = |name, key: HashKey| keys(name, [text.as_str()].into_iter(), &key);
        let own = keys_of(NAME, HashKey::default());
        assert!(own.len() > WHOLE && own.len() <= MAX_KEYS);
        let system = keys_of("hedgerow.template.system", HashKey::default());
        let elsewhere = keys_of(NAME, HashKey::derive(b"another"));
        assert!(own.iter().all(|key| !system.contains(key) && !elsewhere.contains(key)));
        assert!(of("").is_empty());
    }

    /// What is kept of a template must still be known after an update.
    #[test]
    fn keys_stay_what_they_are() {
        let expected = [3626888106747549125, 16402465389197096231];
        assert_eq!(of("write three questions about the passage and answer each"), expected);
        let signs = of("请根据下面的段落写出三个问题并分别用一句话回答每个问题");
        assert_eq!(signs[..2], [12338826853505472909, 8080320280604089316]);
        let digest = |text: &'static str| {
            digest("hedgerow.prompt.digest", text.split('\n'), &HashKey::default())
        };
        assert_eq!(digest("one\ntwo"), Some(4346207962656675956));
        assert_ne!(digest("one\ntwo"), digest("two\none"));
        assert_eq!(digest(""), None);
    }
}
