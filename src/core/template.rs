//! Template keys: hashes that requests from one template share, whatever text fills its slots.
//!
//! Each eight consecutive words of a text form a shingle. The smallest shingle hashes are the keys
//! of the text (bottom-k MinHash). Two texts that share a passage share its shingles, and some of
//! these are probably among the smallest of both texts. If the text in a slot is long, this is
//! unlikely, but the template text usually comes before or after the slot. So the first and the
//! last words have additional keys: two texts always share a key if their template begins or ends
//! with at least `EDGE_NEAR_WORDS` words outside its slots.
#![deny(clippy::arithmetic_side_effects)]

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::keyed_hash::{HashKey, fmix64};
use crate::text::is_unspaced_script;
use crate::text::simd::{MSB, Swar8};

/// Maximum number of template keys of the whole text.
const WHOLE_KEYS: usize = 8;

/// Number of words at each end of a text that have [`EDGE_NEAR_KEYS`] additional keys.
const EDGE_NEAR_WORDS: usize = 16;

/// Maximum number of additional keys of the first [`EDGE_NEAR_WORDS`] words; the last words have as
/// many.
const EDGE_NEAR_KEYS: usize = 1;

/// Number of words at each end of a text that have [`EDGE_FAR_KEYS`] additional keys.
const EDGE_FAR_WORDS: usize = 32;

/// Maximum number of additional keys of the first [`EDGE_FAR_WORDS`] words; the last words have as
/// many.
const EDGE_FAR_KEYS: usize = 2;

/// Maximum number of keys of a text.
pub const MAX_KEYS: usize = WHOLE_KEYS + 2 * (EDGE_NEAR_KEYS + EDGE_FAR_KEYS);

/// Words per shingle.
const SHINGLE_WORDS: usize = 8;

/// Characters per shingle in scripts without spaces, which have about two characters per word.
const SHINGLE_CHARS: usize = 16;

/// Maximum bytes that are hashed from the start of a text.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Maximum bytes that are hashed from the end of a longer text.
const MAX_TAIL_BYTES: usize = 1 << 10;

/// Maximum bytes of a text that are hashed.
pub(crate) const MAX_SKETCHED_BYTES: usize = MAX_HEAD_BYTES + MAX_TAIL_BYTES;

/// Returns the template keys of a text that consists of several values in order: each key once, in
/// no particular order, at most [`MAX_KEYS`]. A text shorter than a shingle has no keys.
///
/// `field` is the name of the field, on which the keys depend.
pub fn keys<'t>(field: &str, values: impl Iterator<Item = &'t str>, key: &HashKey) -> Vec<u64> {
    let values: Vec<&str> = values.collect();
    let mut whole_text = BottomK::<WHOLE_KEYS>::default();
    let mut head_edge = EdgeKeys::default();
    let mut tail_shingles = TailShingles::default();
    // Shingles span values, because a client may split a text into any parts.
    let mut rolling_hash = RollingHash::default();
    let mut remaining = MAX_HEAD_BYTES;
    for value in &values {
        let part = prefix(value, remaining);
        rolling_hash.for_each_shingle(part, key.salt(), &mut |word_count, hash| {
            whole_text.add(hash);
            head_edge.add(word_count, hash);
            tail_shingles.add(word_count, hash);
        });
        remaining = remaining.saturating_sub(value.len());
        if remaining == 0 {
            break;
        }
    }
    if values.iter().map(|value| value.len()).sum::<usize>() > MAX_HEAD_BYTES {
        let mut rolling_hash = RollingHash::default();
        tail_shingles = TailShingles::default();
        for part in tail_parts(&values, MAX_TAIL_BYTES) {
            rolling_hash.for_each_shingle(part, key.salt(), &mut |word_count, hash| {
                tail_shingles.add(word_count, hash)
            });
        }
    }
    let tail_edge = tail_shingles.edge_keys();
    let mut keys: Vec<u64> = Vec::with_capacity(MAX_KEYS);
    for hash in whole_text.hashes().chain(head_edge.hashes()).chain(tail_edge.hashes()) {
        // The hash is hashed again with the key, so that the result does not reveal the salt.
        let template_key = key.keyed_hash(field, &hash.to_le_bytes());
        if !keys.contains(&template_key) {
            keys.push(template_key);
        }
    }
    keys
}

/// Returns the hash of a whole text that consists of several values; `None` if the text is empty.
pub fn digest<'t>(
    field: &str,
    values: impl Iterator<Item = &'t str>,
    key: &HashKey,
) -> Option<u64> {
    let mut sum = 0_u64;
    let mut is_empty = true;
    for value in values {
        is_empty &= value.is_empty();
        sum = fmix64(sum.rotate_left(17) ^ xxh3_64_with_seed(value.as_bytes(), key.salt()));
    }
    (!is_empty).then(|| key.keyed_hash(field, &sum.to_le_bytes()))
}

/// Returns the first bytes of a text, at most `max_bytes`, without splitting a character.
fn prefix(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or_default()
}

/// Calls `on_shingle` with the hash of every eight consecutive words of several values in order.
pub(crate) fn for_each_shingle<'t>(
    values: impl Iterator<Item = &'t str>,
    salt: u64,
    on_shingle: &mut impl FnMut(u64),
) {
    let mut rolling_hash = RollingHash::default();
    for value in values {
        rolling_hash.for_each_shingle(value, salt, &mut |_, hash| on_shingle(hash));
    }
}

/// Returns the last parts of several values, in order, with at most `max_bytes` bytes together. If
/// the first part does not begin a value, it begins after a space, if it has one.
pub(crate) fn tail_parts<'t>(values: &[&'t str], max_bytes: usize) -> Vec<&'t str> {
    let mut remaining = max_bytes;
    let mut parts = Vec::new();
    for value in values.iter().rev() {
        let start = value.ceil_char_boundary(value.len().saturating_sub(remaining));
        let part = value.get(start..).unwrap_or_default();
        remaining = remaining.saturating_sub(part.len().max(1));
        parts.push(match start {
            0 => part,
            _ => part.split_once(' ').map_or(part, |(_, rest)| rest),
        });
        if remaining == 0 {
            break;
        }
    }
    parts.reverse();
    parts
}

/// The kind of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    /// A run of letters and digits.
    Word,
    /// A run of digits. All numbers are equal, because templates often contain a counter.
    Number,
    /// One character of a script without spaces.
    UnspacedChar,
}

impl TokenKind {
    /// Returns the hash of a token. All numbers have the same hash.
    fn hash(self, bytes: &[u8], salt: u64) -> u64 {
        match (self, bytes.len()) {
            (Self::Number, _) => fmix64(salt),
            (_, ..8) => fmix64(le_u64_padded(bytes) ^ salt),
            _ => xxh3_64_with_seed(bytes, salt),
        }
    }
}

/// Returns the kind and the length in bytes of the token at the start of a text. The length is 0 if
/// the text does not begin with a token.
fn next_token(text: &[u8]) -> (TokenKind, usize) {
    let mut is_number = true;
    let mut position = 0_usize;
    while let Some(byte) = text.get(position) {
        match byte {
            b'0'..=b'9' => position = position.saturating_add(1),
            byte if byte.is_ascii_alphabetic() => {
                is_number = false;
                position = position.saturating_add(1);
            }
            0x80.. => {
                let length = utf8_len(*byte);
                if is_unspaced_script(text.get(position..).unwrap_or_default()) {
                    if position == 0 {
                        return (TokenKind::UnspacedChar, length);
                    }
                    break;
                }
                is_number = false;
                position = position.saturating_add(length);
            }
            _ => break,
        }
    }
    (if is_number { TokenKind::Number } else { TokenKind::Word }, position)
}

/// Returns the length in bytes of a character outside ASCII in UTF-8, from its first byte.
fn utf8_len(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    }
}

/// The next eight bytes of a text, with a mask for each class of characters. A mask has the highest
/// bit set in each byte that belongs to the class.
struct CharMasks {
    bytes: u64,
    digits: u64,
    letters: u64,
    non_ascii: u64,
}

impl CharMasks {
    fn classify(text: &[u8]) -> Self {
        let bytes = text
            .first_chunk()
            .map_or_else(|| le_u64_padded(text), |chunk| u64::from_le_bytes(*chunk));
        let swar = Swar8(bytes);
        let lower = Swar8(swar.to_ascii_lowercase());
        Self {
            bytes,
            digits: swar.at_least(b'0') & !swar.at_least(b'9'.saturating_add(1)) & MSB,
            letters: lower.at_least(b'a') & !lower.at_least(b'z'.saturating_add(1)) & MSB,
            non_ascii: swar.non_ascii(),
        }
    }

    /// Returns the number of leading ASCII letters and digits, up to eight.
    fn word_len(&self) -> usize {
        first_marked_byte(!(self.digits | self.letters) & MSB)
    }

    /// Returns the hash of the word in the first `length` bytes; it equals [`TokenKind::hash`].
    fn hash_word(&self, length: usize, salt: u64) -> u64 {
        let is_number = self.letters & !mask_after(length) == 0;
        let bytes = if is_number { 0 } else { self.bytes & !mask_after(length) };
        fmix64(bytes ^ salt)
    }

    /// Returns whether the byte after the first `length` ASCII bytes is outside ASCII.
    fn continues_with_non_ascii(&self, length: usize) -> bool {
        first_marked_byte(self.non_ascii) == length
    }

    /// Returns the offset of the first word after `length` bytes; eight if there is none.
    fn next_word_offset(&self, length: usize) -> usize {
        first_marked_byte((self.digits | self.letters | self.non_ascii) & mask_after(length))
    }
}

/// Returns up to eight bytes as a little-endian number.
fn le_u64_padded(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Returns the index of the first byte in a mask; eight if the mask is empty.
fn first_marked_byte(mask: u64) -> usize {
    (mask.trailing_zeros() / 8) as usize
}

/// Returns a mask of all bytes except the first `bytes`.
fn mask_after(bytes: usize) -> u64 {
    u64::MAX.checked_shl(8_u32.saturating_mul(bytes as u32)).unwrap_or(0)
}

/// The keys at one end of a text: the smallest shingle hashes.
#[derive(Default)]
struct EdgeKeys {
    near: BottomK<EDGE_NEAR_KEYS>,
    far: BottomK<EDGE_FAR_KEYS>,
}

impl EdgeKeys {
    /// Adds a shingle whose far end is `words_from_edge` words from the edge.
    fn add(&mut self, words_from_edge: usize, hash: u64) {
        if words_from_edge <= EDGE_NEAR_WORDS {
            self.near.add(hash);
        }
        if words_from_edge <= EDGE_FAR_WORDS {
            self.far.add(hash);
        }
    }

    fn hashes(&self) -> impl Iterator<Item = u64> {
        self.near.hashes().chain(self.far.hashes())
    }
}

/// The last shingles of a text, in a ring buffer.
#[derive(Default)]
struct TailShingles {
    /// For each shingle, the number of words of the text up to its end, and its hash. Unused slots
    /// have zeros.
    ring: [(usize, u64); EDGE_FAR_WORDS],
    /// Number of words so far.
    word_count: usize,
}

impl TailShingles {
    fn add(&mut self, word_count: usize, hash: u64) {
        self.word_count = word_count;
        if let Some(slot) = self.ring.get_mut(word_count % EDGE_FAR_WORDS) {
            *slot = (word_count, hash);
        }
    }

    /// Returns the keys of the last words, by the distance of each shingle to the end.
    fn edge_keys(&self) -> EdgeKeys {
        let mut edge = EdgeKeys::default();
        for (word_count, hash) in self.ring.iter().filter(|(at, _)| *at > 0) {
            edge.add(
                self.word_count.saturating_add(SHINGLE_WORDS).saturating_sub(*word_count),
                *hash,
            );
        }
        edge
    }
}

/// Rolling polynomial hashes of the last tokens.
#[derive(Default)]
struct RollingHash {
    /// Hashes of the last tokens, in a ring buffer.
    recent: [u64; SHINGLE_CHARS],
    /// Number of tokens so far.
    token_count: usize,
    /// Hash of the last [`SHINGLE_WORDS`] tokens.
    word_hash: u64,
    /// Hash of the last [`SHINGLE_CHARS`] tokens.
    char_hash: u64,
}

impl RollingHash {
    /// Reads normalised text and calls `on_shingle` for every shingle, with the number of tokens up
    /// to its end and its hash.
    fn for_each_shingle(&mut self, text: &str, salt: u64, on_shingle: &mut impl FnMut(usize, u64)) {
        let mut remaining = text.as_bytes();
        while !remaining.is_empty() {
            let masks = CharMasks::classify(remaining);
            let ascii_len = masks.word_len();
            let is_complete_word = ascii_len < 8 && !masks.continues_with_non_ascii(ascii_len);
            let (hash, shingle_len, advance) = match ascii_len {
                0 if is_complete_word => {
                    remaining = remaining.get(masks.next_word_offset(0)..).unwrap_or_default();
                    continue;
                }
                _ if is_complete_word => (
                    masks.hash_word(ascii_len, salt),
                    SHINGLE_WORDS,
                    masks.next_word_offset(ascii_len),
                ),
                _ => {
                    let (kind, token_len) = next_token(remaining);
                    let (bytes, _) =
                        remaining.split_at_checked(token_len).unwrap_or((remaining, &[]));
                    let shingle_len = if matches!(kind, TokenKind::UnspacedChar) {
                        SHINGLE_CHARS
                    } else {
                        SHINGLE_WORDS
                    };
                    (kind.hash(bytes, salt), shingle_len, token_len.max(1))
                }
            };
            remaining = remaining.get(advance..).unwrap_or_default();
            if let Some(hash) = self.push(hash, shingle_len) {
                on_shingle(self.token_count, fmix64(hash ^ salt));
            }
        }
    }

    /// Adds a token. Returns the hash of the last `shingle_len` tokens; `None` before there are
    /// that many tokens.
    fn push(&mut self, hash: u64, shingle_len: usize) -> Option<u64> {
        let previous = |distance: usize| {
            self.recent.get(self.token_count.wrapping_sub(distance) % SHINGLE_CHARS).copied()
        };
        let outgoing_word = previous(SHINGLE_WORDS).unwrap_or(0);
        let outgoing_char = previous(SHINGLE_CHARS).unwrap_or(0);
        self.word_hash = roll::<SHINGLE_WORDS>(self.word_hash, hash, outgoing_word);
        self.char_hash = roll::<SHINGLE_CHARS>(self.char_hash, hash, outgoing_char);
        if let Some(slot) = self.recent.get_mut(self.token_count % SHINGLE_CHARS) {
            *slot = hash;
        }
        self.token_count = self.token_count.saturating_add(1);
        (self.token_count >= shingle_len).then_some(if shingle_len == SHINGLE_WORDS {
            self.word_hash
        } else {
            self.char_hash
        })
    }
}

/// Advances a polynomial hash of `SPAN` values by one value: adds `incoming` and removes
/// `outgoing`.
fn roll<const SPAN: usize>(sum: u64, incoming: u64, outgoing: u64) -> u64 {
    let removed = outgoing.wrapping_mul(const { POLYNOMIAL_BASE.wrapping_pow(SPAN as u32) });
    sum.wrapping_mul(POLYNOMIAL_BASE).wrapping_add(incoming).wrapping_sub(removed)
}

/// Base of the polynomial, which must be odd: 2⁶⁴ divided by the golden ratio.
const POLYNOMIAL_BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `N` smallest of the added hashes, each once, in ascending order.
struct BottomK<const N: usize> {
    hashes: [u64; N],
    len: usize,
}

impl<const N: usize> Default for BottomK<N> {
    fn default() -> Self {
        Self { hashes: [u64::MAX; N], len: 0 }
    }
}

impl<const N: usize> BottomK<N> {
    fn add(&mut self, hash: u64) {
        let is_large = self.hashes.last().is_none_or(|largest| hash >= *largest);
        if is_large || self.hashes.contains(&hash) {
            return;
        }
        // Insert in order; the largest drops out.
        let mut new = hash;
        for slot in &mut self.hashes {
            if new < *slot {
                std::mem::swap(slot, &mut new);
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

    const FIELD: &str = "hedgerow.template.user";

    fn keys_of_text(text: &str) -> Vec<u64> {
        keys(FIELD, text.split('\n'), &HashKey::default())
    }

    fn random_words(count: usize, seed: usize) -> String {
        let words = (0..count).map(|number| {
            format!("w{}", fmix64(seed.wrapping_mul(100_003).wrapping_add(number) as u64) % 50_000)
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn shared_key_count(left: &str, right: &str) -> usize {
        let right = keys_of_text(right);
        keys_of_text(left).iter().filter(|key| right.contains(key)).count()
    }

    const TASK: &str = "you are given a passage; write three questions that it answers, \
                        then answer each in one sentence";

    #[test]
    fn texts_from_one_template_share_a_key() {
        type MakeText = fn(usize) -> String;
        let rows: [(&str, MakeText, bool); 10] = [
            ("a short slot", |seed| format!("{TASK} {}", random_words(3, seed)), true),
            ("a long slot after", |seed| format!("{TASK}: {}", random_words(4_000, seed)), true),
            ("a long slot before", |seed| format!("{} {TASK}", random_words(4_000, seed)), true),
            ("in another message", |seed| format!("{}\n{TASK}", random_words(4_000, seed)), true),
            (
                "split into parts of one word",
                |seed| match seed % 2 {
                    0 => TASK.replace(' ', "\n"),
                    _ => format!("{TASK} {}", random_words(9, seed)),
                },
                true,
            ),
            ("a counter", |seed| format!("task {seed} of {}0: {TASK}", seed + 1), true),
            (
                "numbers in between",
                |seed| (0..5).map(|at| format!("row {} ", seed * 7 + at)).collect(),
                true,
            ),
            ("nothing in common", |seed| random_words(4_000, seed), false),
            (
                "a common phrase",
                |seed| format!("{} please write me a short", random_words(40, seed)),
                false,
            ),
            ("fewer than eight words", |_| "write a poem".into(), false),
        ];
        for (name, make_text, is_shared) in rows {
            let keys: Vec<Vec<u64>> = (0..20).map(|seed| keys_of_text(&make_text(seed))).collect();
            let pairs =
                keys.windows(2).filter(|pair| pair[0].iter().any(|key| pair[1].contains(key)));
            let pairs = pairs.count();
            assert_eq!(pairs, if is_shared { 19 } else { 0 }, "{name}");
        }
    }

    #[test]
    fn unspaced_scripts_have_shingles() {
        let task = "请根据下面的段落写出三个问题并分别用一句话回答每个问题";
        let (left, right) = (format!("{task}春天来了花都开了"), format!("{task}他去了北京看朋友"));
        assert!(shared_key_count(&left, &right) > 0);
        assert_eq!(
            shared_key_count("春天来了花都开了他去了北京看朋友", "夏天到了人们都去海边游泳晒太阳"),
            0
        );
        assert!(keys_of_text("напишите три вопроса по этому тексту и ответьте на них").len() > 1);
    }

    /// Georgian capitals counted as Burmese, so that each character was a token.
    #[test]
    fn georgian_text_consists_of_words() {
        for (text, length) in [("საქართველო და", 30), ("ႱႠႵႠႰႧႥႤႪႭ ႣႠ", 30), ("မြန်မာ", 3)]
        {
            assert_eq!(next_token(text.as_bytes()).1, length, "{text}");
        }
    }

    #[test]
    fn keys_are_bounded_and_differ_by_field_and_hash_key() {
        let text = random_words(500, 7);
        let keys_of = |name, key: HashKey| keys(name, [text.as_str()].into_iter(), &key);
        let user = keys_of(FIELD, HashKey::default());
        assert!(user.len() > WHOLE_KEYS && user.len() <= MAX_KEYS);
        let system = keys_of("hedgerow.template.system", HashKey::default());
        let other_deployment = keys_of(FIELD, HashKey::derive(b"another"));
        assert!(user.iter().all(|key| !system.contains(key) && !other_deployment.contains(key)));
        assert!(keys_of_text("").is_empty());
    }

    /// Stored template keys must stay valid after an update.
    #[test]
    fn keys_are_stable() {
        let expected = [3626888106747549125, 16402465389197096231];
        assert_eq!(
            keys_of_text("write three questions about the passage and answer each"),
            expected
        );
        let unspaced = keys_of_text("请根据下面的段落写出三个问题并分别用一句话回答每个问题");
        assert_eq!(unspaced[..2], [12338826853505472909, 8080320280604089316]);
        let digest = |text: &'static str| {
            digest("hedgerow.prompt.digest", text.split('\n'), &HashKey::default())
        };
        assert_eq!(digest("one\ntwo"), Some(4346207962656675956));
        assert_ne!(digest("one\ntwo"), digest("two\none"));
        assert_eq!(digest(""), None);
    }
}
