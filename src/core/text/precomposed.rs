//! Folding of single characters: a table that replaces NFKC for characters that compose with
//! nothing.
//!
//! NFKC composes a letter with the marks after it. Most text outside ASCII has no such marks. If
//! the next character cannot join a letter, the letter is folded independently, by a look-up.

use once_cell::sync::Lazy;

use super::characters::{NFKC, expands_too_far, fold_char, is_invisible, is_space};
use super::checkpoint::CHECKPOINT_INTERVAL;

/// The folded form of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoldOutcome {
    /// This character, whatever follows.
    Final(char),
    /// This character, unless the next character joins it.
    UnlessJoined(char),
    /// A space: the character is white space.
    Space,
    /// Three dots: the character is an ellipsis.
    Ellipsis,
    /// The folded form depends on the neighbours: the character may join the character before it,
    /// or become several characters.
    NeedsContext,
}

impl FoldOutcome {
    /// Returns the case-folded form of a character that is not a control character. Only a
    /// character with the outcome [`Self::NeedsContext`] may join the character before it.
    pub fn from_char(char: char) -> Self {
        match char {
            ' ' => Self::Space,
            ..'\u{80}' => Self::Final(char.to_ascii_lowercase()),
            '\u{80}'..='\u{7ff}' => {
                match FOLDED_TWO_BYTE_CHARS.get((char as usize).wrapping_sub(0x80)) {
                    Some(' ') => Self::Space,
                    Some('\0') | None => Self::NeedsContext,
                    Some(letter) => Self::UnlessJoined(*letter),
                }
            }
            // Letters and digits of Devanagari and Thai.
            '\u{904}'..='\u{939}'
            | '\u{966}'..='\u{96f}'
            | '\u{e01}'..='\u{e30}'
            | '\u{e32}'
            | '\u{e40}'..='\u{e46}'
            | '\u{e50}'..='\u{e59}' => Self::UnlessJoined(char),
            '\u{3000}' => Self::Space,
            // Ideographs and their punctuation, with which no mark composes.
            '\u{3001}'..='\u{3003}' | '\u{3005}'..='\u{3011}' | '\u{3400}'..='\u{9fff}' => {
                Self::Final(char)
            }
            '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fe}' | '\u{ac00}'..='\u{d7a3}' => {
                Self::UnlessJoined(char)
            }
            // Full-width ASCII. Some capital letters compose with a mark only after conversion to
            // lower case.
            '\u{ff21}'..='\u{ff3a}' => Self::UnlessJoined(to_half_width(char).to_ascii_lowercase()),
            '\u{ff01}'..='\u{ff5e}' => Self::Final(to_half_width(char)),
            '\u{2010}'..='\u{2015}' => Self::Final('-'),
            '\u{2018}'..='\u{201b}' => Self::Final('\''),
            '\u{201c}'..='\u{201e}' => Self::Final('"'),
            '\u{2026}' => Self::Ellipsis,
            char::REPLACEMENT_CHARACTER => Self::Final(char),
            _ if expands_too_far(char) => Self::Final(char),
            _ => Self::NeedsContext,
        }
    }
}

/// Returns the ASCII character of a full-width character.
fn to_half_width(full_width: char) -> char {
    char::from(u8::try_from((full_width as u32).wrapping_sub(0xfee0)).unwrap_or_default())
}

/// Returns how many leading bytes of a text are ideographs that the first byte alone identifies.
/// Counts at most [`CHECKPOINT_INTERVAL`] bytes, because a checkpoint may be due after them.
pub(super) fn ideograph_prefix_len(text: &str) -> usize {
    let lead_bytes = text.as_bytes().iter().step_by(3).take(CHECKPOINT_INTERVAL / 3);
    lead_bytes.take_while(|lead| matches!(lead, 0xe4..=0xe9)).count().saturating_mul(3)
}

/// The folded form of each character of two bytes in UTF-8. It is `\0` if the form is not one
/// character, or if the character may join another character before it.
static FOLDED_TWO_BYTE_CHARS: Lazy<Box<[char]>> =
    Lazy::new(|| ('\u{80}'..='\u{7ff}').map(fold_two_byte_char).collect());

/// Computes an entry of [`FOLDED_TWO_BYTE_CHARS`].
fn fold_two_byte_char(char: char) -> char {
    if !ALPHABETS.iter().any(|alphabet| alphabet.contains(&char)) {
        return '\0';
    }
    let mut buffer = [0; 4];
    let composed = NFKC.normalize(char.encode_utf8(&mut buffer));
    let lower: Vec<char> = composed.chars().flat_map(char::to_lowercase).collect();
    match lower[..] {
        [lower] if is_space(lower) => ' ',
        [lower] if !is_invisible(lower) => fold_char(lower).unwrap_or_default(),
        _ => '\0',
    }
}

/// Ranges of letters and signs, without marks: Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic.
const ALPHABETS: &[std::ops::RangeInclusive<char>] = &[
    '\u{a0}'..='\u{24f}',
    '\u{370}'..='\u{482}',
    '\u{48a}'..='\u{556}',
    '\u{559}'..='\u{58a}',
    '\u{5d0}'..='\u{5f4}',
    '\u{620}'..='\u{64a}',
    '\u{660}'..='\u{66f}',
    '\u{671}'..='\u{6d5}',
];

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop};

    use super::*;
    use crate::extract::raw_string::RawString;
    use crate::text::{Case, Normalizer, normalize};

    /// Returns the specified result: NFKC of the whole text, then folding by character. ASCII is
    /// folded first, so that a mark composes with a lower-case letter even if it cannot compose
    /// with the capital.
    fn reference_normalize(text: &str) -> String {
        let mut out = String::new();
        let mut normalizer = Normalizer::new(&mut out, Case::Fold);
        normalizer.pending.push_str(&text.to_ascii_lowercase());
        normalizer.finish();
        out
    }

    #[test]
    fn fold_outcomes_match_nfkc() {
        let marks = [
            '\u{301}', '\u{308}', '\u{323}', '\u{338}', '\u{345}', '\u{653}', '\u{3099}',
            '\u{11a8}',
        ];
        for char in ('\u{80}'..=char::MAX)
            .filter(|char| FoldOutcome::from_char(*char) != FoldOutcome::NeedsContext)
        {
            let single = char.to_string();
            assert_eq!(normalize(&single, Case::Fold), reference_normalize(&single), "{char:?}");
            for prefix in
                ["a", "e\u{301}", "\u{435}", "\u{304b}", "\u{ac00}", "\u{1100}", "=", "\u{9c7}"]
            {
                let text = format!("{prefix}{char}x");
                assert_eq!(normalize(&text, Case::Fold), reference_normalize(&text), "{text:?}");
            }
            if !matches!(char, '\u{3500}'..='\u{9ff0}' | '\u{ac20}'..='\u{d780}') {
                for mark in marks {
                    let text = format!("x{char}{mark}y");
                    assert_eq!(
                        normalize(&text, Case::Fold),
                        reference_normalize(&text),
                        "{text:?}"
                    );
                }
            }
        }
    }

    fn arbitrary_text() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "a",
            "E",
            "T",
            " ",
            "  ",
            "=",
            "\u{1}",
            "\u{e9}",
            "\u{c9}",
            "\u{130}",
            "\u{df}",
            "\u{a0}",
            "\u{ad}",
            "\u{bc}",
            "\u{301}",
            "\u{308}",
            "\u{338}",
            "\u{345}",
            "\u{3b1}",
            "\u{3a3}",
            "\u{1f00}",
            "\u{435}",
            "\u{415}",
            "\u{456}",
            "\u{5d0}",
            "\u{5b8}",
            "\u{627}",
            "\u{653}",
            "\u{670}",
            "\u{2019}",
            "\u{201c}",
            "\u{2014}",
            "\u{2026}",
            "\u{200b}",
            "\u{200d}",
            "\u{2033}",
            "\u{1100}",
            "\u{1161}",
            "\u{11a8}",
            "\u{ac00}",
            "\u{3042}",
            "\u{304b}",
            "\u{30ab}",
            "\u{309d}",
            "\u{3099}",
            "\u{309b}",
            "\u{3000}",
            "\u{3001}",
            "\u{3002}",
            "\u{4e00}",
            "\u{6b65}",
            "\u{3402}",
            "\u{ff0c}",
            "\u{ff21}",
            "\u{ff1d}",
            "\u{ff76}",
            "\u{ff9e}",
            "\u{1f600}",
            "\u{e0041}",
            "\u{9c7}",
            "\u{9be}",
            "\u{fdfa}",
            "\u{f900}",
            "step by step, ",
        ]);
        prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 4_000,
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn normalization_matches_nfkc(
            text in arbitrary_text(),
            escapes in proptest::bits::u32::ANY,
        ) {
            let expected = reference_normalize(&text);
            proptest::prop_assert_eq!(&normalize(&text, Case::Fold), &expected);
            // Writes some characters as JSON escapes, because the mark that joins a letter may be
            // written as an escape.
            let escaped: String = text.chars().enumerate().map(|(index, char)| {
                let is_escaped = escapes >> (index % 32) & 1 != 0 || char.is_ascii_control();
                let mut units = [0; 2];
                let units = char.encode_utf16(&mut units).iter();
                let escape = units.map(|unit| format!("\\u{unit:04x}")).collect();
                if is_escaped { escape } else { char.to_string() }
            }).collect();
            let mut out = String::new();
            let mut normalizer = Normalizer::new(&mut out, Case::Fold);
            normalizer.push_escaped(RawString::new(escaped.as_bytes(), 0), &mut Vec::new());
            normalizer.finish();
            proptest::prop_assert_eq!(&out, &expected, "{}", escaped);
        }
    }
}
