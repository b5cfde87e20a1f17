//! Template keys: hashes that requests made from one template share, whatever fills its slots.
//!
//! The words of a text make shingles of eight; the smallest hashes among them are its keys (bottom-k
//! MinHash). Two texts that share a part share the shingles in it, and some of those are among the
//! smallest of both. A long slot drowns the rest, however, and templates stand before or behind what
//! fills them; so the first and the last words have keys of their own.
#![deny(clippy::arithmetic_side_effects)]

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::hash::{HashKey, mix};

/// Keys of the whole text, at most.
const WHOLE: usize = 8;

/// Keys of its first words, and of its last, at most.
const EDGE: usize = 2;

/// Keys of a text, at most.
pub const MAX_KEYS: usize = WHOLE + 2 * EDGE;

/// Words of a shingle.
const WORDS: usize = 8;

/// Characters of a shingle where words are not set apart: some two to a word.
const SIGNS: usize = 16;

/// Words that are first, or last.
const NEAR: usize = 32;

/// Bytes that are looked at from the start of the text; and bytes from its end.
const FROM_START: usize = 64 << 10;
const FROM_END: usize = 1 << 10;

/// The keys of a text that comes in several values, in their order: each once, in no order that means
/// anything. Few words have none. `name` is the field's.
pub fn keys<'t>(name: &str, values: impl Iterator<Item = &'t str>, key: &HashKey) -> Vec<u64> {
    let values: Vec<&str> = values.collect();
    let mut whole = Smallest::<WHOLE>::default();
    let mut first = Smallest::<EDGE>::default();
    let is_short = values.iter().map(|value| value.len().max(1)).sum::<usize>() <= FROM_END;
    let mut tail = Vec::with_capacity(FROM_END / 4);
    // Shingles go on from one value to the next: a text may be cut into any parts.
    let mut window = Window::default();
    let mut left = FROM_START;
    for value in &values {
        let part = head(value, left);
        left = left.saturating_sub(part.len());
        window.read(part, key.seed(), &mut |at, hash| {
            whole.add(hash);
            if at <= NEAR {
                first.add(hash);
            }
            if is_short {
                tail.push((at, hash));
            }
        });
        if left == 0 {
            break;
        }
    }
    if !is_short {
        let mut window = Window::default();
        for part in end(&values) {
            window.read(part, key.seed(), &mut |at, hash| tail.push((at, hash)));
        }
    }
    let words = tail.last().map_or(0, |(at, _)| *at);
    let mut behind = Smallest::<EDGE>::default();
    let is_near = |at: usize| at.saturating_add(NEAR) >= words.saturating_add(WORDS);
    tail.iter().filter(|(at, _)| is_near(*at)).for_each(|(_, hash)| behind.add(*hash));
    let mut all: Vec<u64> = Vec::with_capacity(MAX_KEYS);
    for hash in whole.hashes().chain(first.hashes()).chain(behind.hashes()) {
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
enum Word {
    /// Letters and digits between what is neither.
    Letters,
    /// Digits alone: whichever they are, for they count what the template was used for.
    Number,
    /// One character of a script that sets no words apart.
    Sign,
    /// Neither letter nor digit.
    None,
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

/// Hashes over the last words, each in constant time.
#[derive(Default)]
struct Window {
    last: [u64; SIGNS],
    pushed: usize,
    words: u64,
    signs: u64,
}

impl Window {
    /// Reads normalised text, and calls `each` with every shingle: how many words end with it, and its
    /// hash.
    fn read(&mut self, text: &str, seed: u64, each: &mut impl FnMut(usize, u64)) {
        let mut rest = text.as_bytes();
        while let Some(byte) = rest.first() {
            let (word, length) = match byte {
                byte if byte.is_ascii_alphanumeric() || *byte >= 0x80 => word(rest),
                _ => (Word::None, 1),
            };
            let (bytes, behind) = rest.split_at_checked(length.max(1)).unwrap_or((rest, &[]));
            rest = behind;
            let hash = match word {
                Word::None => continue,
                Word::Number => self.push(mix(seed), WORDS),
                Word::Letters => self.push(xxh3_64_with_seed(bytes, seed), WORDS),
                Word::Sign => self.push(xxh3_64_with_seed(bytes, seed), SIGNS),
            };
            if let Some(hash) = hash {
                each(self.pushed, mix(hash ^ seed));
            }
        }
    }

    /// Adds a word; the hash of the last `span`, once there are so many.
    fn push(&mut self, hash: u64, span: usize) -> Option<u64> {
        let behind = |back: usize| {
            let at = self.pushed.checked_sub(back)?;
            self.last.get(at % SIGNS).copied()
        };
        let (old_word, old_sign) = (behind(WORDS).unwrap_or(0), behind(SIGNS).unwrap_or(0));
        self.words = roll(self.words, hash, old_word, POWER_OF_WORDS);
        self.signs = roll(self.signs, hash, old_sign, POWER_OF_SIGNS);
        if let Some(slot) = self.last.get_mut(self.pushed % SIGNS) {
            *slot = hash;
        }
        self.pushed = self.pushed.saturating_add(1);
        (self.pushed >= span).then_some(if span == WORDS { self.words } else { self.signs })
    }
}

/// A polynomial over the hashes in a window, as the window moves on by one.
fn roll(sum: u64, new: u64, old: u64, power: u64) -> u64 {
    sum.wrapping_mul(BASE).wrapping_add(new).wrapping_sub(old.wrapping_mul(power))
}

const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
const POWER_OF_WORDS: u64 = BASE.wrapping_pow(WORDS as u32);
const POWER_OF_SIGNS: u64 = BASE.wrapping_pow(SIGNS as u32);

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
        if self.hashes.last().is_none_or(|largest| hash >= *largest) || self.hashes.contains(&hash)
        {
            return;
        }
        if let Some(largest) = self.hashes.last_mut() {
            *largest = hash;
        }
        self.hashes.sort_unstable();
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
        let long = |seed| words(4_000, seed);
        let rows: [(&str, String, String, bool); 10] = [
            (
                "a short slot",
                format!("{TASK} {}", words(3, 1)),
                format!("{TASK} {}", words(3, 2)),
                true,
            ),
            (
                "a long slot behind",
                format!("{TASK}: {}", long(1)),
                format!("{TASK}: {}", long(2)),
                true,
            ),
            (
                "a long slot before",
                format!("{} {TASK}", long(1)),
                format!("{} {TASK}", long(2)),
                true,
            ),
            (
                "in another message",
                format!("{}\n{TASK}", long(1)),
                format!("{}\n{TASK}", long(2)),
                true,
            ),
            (
                "cut into parts of one word",
                TASK.replace(' ', "\n"),
                format!("{TASK} {}", words(9, 3)),
                true,
            ),
            (
                "a counter",
                format!("task 17 of 20: {}", TASK),
                format!("task 3 of 900: {}", TASK),
                true,
            ),
            (
                "numbers in between",
                "row 1 row 2 row 3 row 4 row 5".into(),
                "row 7 row 8 row 9 row 10 row 11".into(),
                true,
            ),
            ("nothing in common", long(1), long(2), false),
            (
                "a common phrase",
                format!("{} please write me a short", words(40, 1)),
                format!("{} please write me a short", words(40, 2)),
                false,
            ),
            ("no eight words", "write a poem".into(), "write a poem".into(), false),
        ];
        for (name, left, right, alike) in rows {
            assert_eq!(shared(&left, &right) > 0, alike, "{name}");
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
        let expected = [12084524882149509113, 5432748412397627954];
        assert_eq!(of("write three questions about the passage and answer each"), expected);
        let digest = |text: &'static str| {
            digest("hedgerow.prompt.digest", text.split('\n'), &HashKey::default())
        };
        assert_eq!(digest("one\ntwo"), Some(4346207962656675956));
        assert_ne!(digest("one\ntwo"), digest("two\none"));
        assert_eq!(digest(""), None);
    }
}
