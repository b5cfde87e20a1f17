//! Character classes: spaces, invisible characters, combining marks, look-alikes, plain runs.

use icu_normalizer::properties::CanonicalCompositionBorrowed;
use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};

/// Returns the ASCII character that a lower-case `char` looks like, else `char`; `None` if `char`
/// is invisible.
pub fn fold_char(char: char) -> Option<char> {
    (!is_invisible(char)).then(|| look_alike(char))
}

/// Returns whether a character of normalised text is part of a word: a letter, a digit, or a sign
/// that modifies a letter.
pub fn is_word_char(char: char) -> bool {
    char.is_alphanumeric()
        || matches!(char,
            '\u{300}'..='\u{36f}' | '\u{64b}'..='\u{65f}' | '\u{93c}' | '\u{94d}' | '\u{9bc}'
            | '\u{9cd}')
}

/// Returns whether the script of a letter puts spaces or other marks between words. The scripts of
/// Chinese, Japanese, Thai, Lao, Burmese and Khmer do not.
pub fn has_word_spaces(char: char) -> bool {
    !matches!(char,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{a9e0}'..='\u{a9ff}' | '\u{aa60}'..='\u{aa7f}'
        | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Returns whether a text in UTF-8 begins with a character of a script without spaces: Chinese,
/// Japanese, Thai and related scripts, with their punctuation, and emoji. Normalised text does not
/// contain presentation forms of other scripts.
pub(crate) fn is_unspaced_script(text: &[u8]) -> bool {
    match text {
        // U+0E00 to U+0FFF: Thai, Lao, Tibetan.
        [0xe0, 0xb8..=0xbf, ..] => true,
        // U+1000 to U+109F: Burmese; Georgian follows. U+1780 to U+17FF: Khmer.
        [0xe1, 0x80..=0x81 | 0x9e..=0x9f, ..] | [0xe1, 0x82, 0x80..=0x9f, ..] => true,
        // U+2E80 to U+9FFF: Chinese and Japanese. U+A000 to U+A4CF: Yi.
        [0xe2, 0xba..=0xbf, ..] | [0xe3..=0xe9, ..] => true,
        [0xea, 0x80..=0x92, ..] | [0xea, 0x93, 0x80..=0x8f, ..] => true,
        // U+A980 to U+A9FF: Javanese, Burmese. U+AA60 to U+AADF: Burmese, Tai Viet.
        [0xea, 0xa6..=0xa7 | 0xaa, ..] => true,
        [0xea, 0xa9, 0xa0..=0xbf, ..] | [0xea, 0xab, 0x80..=0x9f, ..] => true,
        // U+10000 to U+16FFF and U+1E000 to U+1EFFF: other scripts, such as Adlam.
        [0xf0, 0x90..=0x96 | 0x9e, ..] => false,
        // From U+E000 on: ideographs, emoji.
        [0xee..=0xf4, ..] => true,
        _ => false,
    }
}

/// Returns how many leading bytes of `text` are printable ASCII without two spaces in a row.
pub(super) fn plain_prefix_len(text: &[u8]) -> usize {
    let mut plain_len = 0_usize;
    let shifted = text.get(1..).unwrap_or_default();
    for (block, next) in text.chunks_exact(CHUNK_BYTES).zip(shifted.chunks_exact(CHUNK_BYTES)) {
        let special = block
            .iter()
            .zip(next)
            .fold(0_u8, |special, (byte, next)| special | special_flag(*byte, *next));
        if special != 0 {
            break;
        }
        plain_len = plain_len.saturating_add(CHUNK_BYTES);
    }
    let remaining = text.get(plain_len..).unwrap_or_default();
    let mut pairs = remaining.iter().zip(remaining.iter().skip(1).chain(b"."));
    let plain_tail_len = pairs.position(|(byte, next)| special_flag(*byte, *next) != 0);
    plain_len.saturating_add(plain_tail_len.unwrap_or(remaining.len()))
}

/// Returns how many leading bytes of `text` are outside ASCII.
pub(super) fn non_ascii_prefix_len(text: &[u8]) -> usize {
    let (blocks, _) = text.as_chunks::<CHUNK_BYTES>();
    let is_non_ascii =
        |block: &&[u8; CHUNK_BYTES]| block.iter().fold(0x80, |all, byte| all & byte) != 0;
    let block_bytes = blocks.iter().take_while(is_non_ascii).count().saturating_mul(CHUNK_BYTES);
    let remaining = text.get(block_bytes..).unwrap_or_default();
    block_bytes.saturating_add(remaining.iter().position(u8::is_ascii).unwrap_or(remaining.len()))
}

/// Returns 1 if `byte` is not printable ASCII, or if `byte` and `next` are both spaces; else 0.
pub(super) fn special_flag(byte: u8, next: u8) -> u8 {
    u8::from(byte < b' ')
        | u8::from(byte > b'~')
        | (u8::from(byte == b' ') & u8::from(next == b' '))
}

pub(super) fn is_ascii_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

pub(super) fn is_space(char: char) -> bool {
    char.is_whitespace()
}

/// Returns whether a character has no glyph: controls, format characters, fillers, variation
/// selectors.
pub(super) fn is_invisible(char: char) -> bool {
    matches!(char,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}'
        | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns whether `char` may change the characters before it when they are composed. Invisible
/// characters count, too.
pub(super) fn joins_previous(char: char) -> bool {
    match char {
        ..'\u{300}' | '\u{3190}'..='\u{a66e}' | '\u{ac00}'..='\u{d7a3}' => {
            matches!(char, '\u{80}'..='\u{9f}' | '\u{ad}')
        }
        '\u{10000}'..='\u{1ffff}' => true,
        // Indic scripts have blocks of 128 characters. In each block, the letters are at offsets
        // 0x05 to 0x39. The characters around them include signs that join a letter.
        '\u{900}'..='\u{dff}' => !(0x05..=0x39).contains(&(char as u32 & 0x7f)),
        _ => {
            let index = COMBINING_MARKS.partition_point(|range| *range.end() < char);
            COMBINING_MARKS.get(index).is_some_and(|range| *range.start() <= char)
                || is_invisible(char)
        }
    }
}

/// Returns whether NFKC turns `char` into more than four characters. Normalisation keeps
/// these characters: U+FDFA, for example, would become eighteen.
pub(super) fn expands_too_far(char: char) -> bool {
    matches!(char,
        '\u{3307}' | '\u{3315}'..='\u{3317}' | '\u{3319}'..='\u{331a}' | '\u{3320}' | '\u{332b}'
        | '\u{332e}' | '\u{3332}' | '\u{3334}' | '\u{3336}' | '\u{3347}' | '\u{334a}' | '\u{3356}'
        | '\u{33ae}'..='\u{33af}' | '\u{fdfa}'..='\u{fdfb}')
}

/// Maximum number of characters into which one character is normalised.
#[cfg(test)]
pub(super) const MAX_EXPANSION: usize = 4;

/// Returns the ASCII letter or sign that `char` looks like, else `char`.
pub(super) fn look_alike(char: char) -> char {
    if !('\u{131}'..='\u{2212}').contains(&char) {
        return char;
    }
    let position = LOOK_ALIKES.binary_search_by_key(&char, |(from, _)| *from);
    position.ok().and_then(|index| LOOK_ALIKES.get(index)).map_or(char, |(_, to)| *to)
}

pub(super) const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfkc();

pub(super) const CANONICAL_COMPOSITION: CanonicalCompositionBorrowed<'static> =
    CanonicalCompositionBorrowed::new();

pub(super) const CHUNK_BYTES: usize = 16;

/// Ranges with combining marks and trailing Hangul letters, in order. The ranges are coarse: a
/// character that is included without need only takes the slower path.
pub(super) const COMBINING_MARKS: &[std::ops::RangeInclusive<char>] = &[
    '\u{300}'..='\u{36f}',
    '\u{483}'..='\u{489}',
    '\u{591}'..='\u{5cf}',
    '\u{610}'..='\u{61a}',
    '\u{64b}'..='\u{65f}',
    '\u{670}'..='\u{670}',
    '\u{6d6}'..='\u{6ed}',
    '\u{711}'..='\u{711}',
    '\u{730}'..='\u{74a}',
    '\u{7a6}'..='\u{85b}',
    '\u{898}'..='\u{8ff}',
    '\u{e31}'..='\u{e31}',
    '\u{e33}'..='\u{e3a}',
    '\u{e47}'..='\u{e4e}',
    '\u{eb1}'..='\u{eb1}',
    '\u{eb3}'..='\u{ebc}',
    '\u{ec8}'..='\u{ece}',
    '\u{f18}'..='\u{109d}',
    '\u{1160}'..='\u{11ff}',
    '\u{135d}'..='\u{135f}',
    '\u{1714}'..='\u{1734}',
    '\u{17b4}'..='\u{17dd}',
    '\u{1a17}'..='\u{1dff}',
    '\u{20d0}'..='\u{20f0}',
    '\u{2cef}'..='\u{2cf1}',
    '\u{2d7f}'..='\u{2dff}',
    '\u{302a}'..='\u{302f}',
    '\u{3099}'..='\u{309c}',
    '\u{3131}'..='\u{318e}',
    '\u{a66f}'..='\u{abff}',
    '\u{d7b0}'..='\u{d7ff}',
    '\u{fb1e}'..='\u{fb1e}',
    '\u{fe20}'..='\u{fe2f}',
    '\u{ff9e}'..='\u{ffdc}',
];

/// Lower-case letters of other scripts and typographic signs, with the ASCII characters that they
/// look like. These are the confusables of Unicode (UTS #39), limited to characters that NFKC and
/// conversion to lower case do not change.
pub(super) const LOOK_ALIKES: &[(char, char)] = &[
    ('\u{131}', 'i'),
    ('\u{251}', 'a'),
    ('\u{261}', 'g'),
    ('\u{269}', 'i'),
    ('\u{2bc}', '\''),
    ('\u{3b1}', 'a'),
    ('\u{3b5}', 'e'),
    ('\u{3b9}', 'i'),
    ('\u{3ba}', 'k'),
    ('\u{3bd}', 'v'),
    ('\u{3bf}', 'o'),
    ('\u{3c1}', 'p'),
    ('\u{3c4}', 't'),
    ('\u{3c5}', 'u'),
    ('\u{3c7}', 'x'),
    ('\u{3f2}', 'c'),
    ('\u{3f3}', 'j'),
    ('\u{430}', 'a'),
    ('\u{432}', 'b'),
    ('\u{435}', 'e'),
    ('\u{43a}', 'k'),
    ('\u{43c}', 'm'),
    ('\u{43d}', 'h'),
    ('\u{43e}', 'o'),
    ('\u{440}', 'p'),
    ('\u{441}', 'c'),
    ('\u{442}', 't'),
    ('\u{443}', 'y'),
    ('\u{445}', 'x'),
    ('\u{455}', 's'),
    ('\u{456}', 'i'),
    ('\u{458}', 'j'),
    ('\u{475}', 'v'),
    ('\u{4bb}', 'h'),
    ('\u{4cf}', 'l'),
    ('\u{501}', 'd'),
    ('\u{51b}', 'q'),
    ('\u{51d}', 'w'),
    ('\u{570}', 'h'),
    ('\u{578}', 'n'),
    ('\u{57d}', 'u'),
    ('\u{585}', 'o'),
    ('\u{2010}', '-'),
    ('\u{2011}', '-'),
    ('\u{2012}', '-'),
    ('\u{2013}', '-'),
    ('\u{2014}', '-'),
    ('\u{2015}', '-'),
    ('\u{2018}', '\''),
    ('\u{2019}', '\''),
    ('\u{201a}', '\''),
    ('\u{201b}', '\''),
    ('\u{201c}', '"'),
    ('\u{201d}', '"'),
    ('\u{201e}', '"'),
    ('\u{2032}', '\''),
    ('\u{2033}', '"'),
    ('\u{2212}', '-'),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of Unicode, from which the test below computes the expected values.
    const UNSPACED_BLOCKS: &[std::ops::RangeInclusive<char>] = &[
        '\u{e00}'..='\u{e7f}',     // Thai
        '\u{e80}'..='\u{eff}',     // Lao
        '\u{f00}'..='\u{fff}',     // Tibetan
        '\u{1000}'..='\u{109f}',   // Burmese
        '\u{1780}'..='\u{17ff}',   // Khmer
        '\u{2e80}'..='\u{9fff}',   // Chinese and Japanese
        '\u{a000}'..='\u{a4cf}',   // Yi
        '\u{a980}'..='\u{a9df}',   // Javanese
        '\u{a9e0}'..='\u{a9ff}',   // Burmese, extension B
        '\u{aa60}'..='\u{aa7f}',   // Burmese, extension A
        '\u{aa80}'..='\u{aadf}',   // Tai Viet
        '\u{e000}'..='\u{ffff}',   // ideographs; forms that normalisation replaces
        '\u{17000}'..='\u{1dfff}', // Tangut and Kana; signs that normalisation replaces
        '\u{1f000}'..=char::MAX,   // emoji and ideographs
    ];

    /// Georgian capitals, Cherokee and Manipuri counted as scripts without spaces.
    #[test]
    fn scripts_without_spaces_are_whole_blocks() {
        for char in '\0'..=char::MAX {
            let is_unspaced = is_unspaced_script(char.encode_utf8(&mut [0; 4]).as_bytes());
            let expected = UNSPACED_BLOCKS.iter().any(|block| block.contains(&char));
            assert_eq!(is_unspaced, expected, "{char:?}");
            assert!(has_word_spaces(char) || is_unspaced, "{char:?}");
        }
    }

    #[test]
    fn expansion_is_bounded() {
        for char in '\0'..=char::MAX {
            let expanded = NFKC.normalize(&char.to_string()).chars().count();
            assert_eq!(expands_too_far(char), expanded > MAX_EXPANSION, "{char:?}: {expanded}");
        }
    }
}
