//! The keys of JSON members, as origins compare them.

use crate::json::Raw;

/// A member's key in the one spelling under which it is looked up: lower case, no underscores.
///
/// Origins do not agree on spelling: Go's `encoding/json` takes a key in any case, with the two
/// letters outside ASCII that fold to a Latin one; protobuf's JSON takes `maxTokens` and
/// `max_tokens`. Whoever reads more spellings than the filter does is a way past it. But nobody
/// takes `_messages`: what the filter reads and the origin does not is a place for decoys.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    letters: [u8; LONGEST],
    length: usize,
}

impl Key {
    /// The spelling of a key; an empty one, which nothing is known by, for a key that is too long
    /// or not in Latin.
    pub fn of(raw: Raw<'_>) -> Self {
        let mut key = Self { letters: [0; LONGEST], length: 0 };
        let is_plain = |byte: &u8| byte.is_ascii() && *byte != b'\\';
        let fits = match raw.bytes().iter().all(is_plain) {
            true => key.spell(raw.bytes().iter().copied()),
            false => key.spell(raw.text().chars().map(latin)),
        };
        if fits { key } else { Self { length: 0, ..key } }
    }

    /// The spelling.
    pub fn as_str(&self) -> &str {
        let letters = self.letters.get(..self.length).unwrap_or_default();
        std::str::from_utf8(letters).unwrap_or_default()
    }

    /// Takes the letters; false where the key cannot be one that is known, also because underscores
    /// stand where no origin reads them: at an edge, or two in a row.
    fn spell(&mut self, letters: impl Iterator<Item = u8>) -> bool {
        let mut before = b'_';
        for letter in letters {
            if before == b'_' && letter == b'_' || !self.push(letter) {
                return false;
            }
            before = letter;
        }
        before != b'_'
    }

    /// Adds a letter; false where the key cannot be one that is known.
    fn push(&mut self, letter: u8) -> bool {
        if letter == b'_' {
            return true;
        }
        let Some(place) = self.letters.get_mut(self.length) else { return false };
        *place = letter.to_ascii_lowercase();
        self.length = self.length.saturating_add(1);
        letter.is_ascii()
    }
}

/// The ASCII letter that a character folds to; 255 where there is none.
fn latin(char: char) -> u8 {
    match char {
        '\u{17f}' => b's',
        '\u{212a}' => b'k',
        char => u8::try_from(char).ok().filter(u8::is_ascii).unwrap_or(u8::MAX),
    }
}

/// Letters of the longest key that is known anywhere, and some.
const LONGEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_key_are_one() {
        let rows = [
            ("messages", "messages"),
            ("Messages", "messages"),
            ("MESSAGE\u{17f}", "messages"),
            ("to\u{212a}en", "token"),
            ("mess\\u0061ges", "messages"),
            ("maxOutputTokens", "maxoutputtokens"),
            ("max_output_tokens", "maxoutputtokens"),
            ("", ""),
            ("_messages", ""),
            ("messages_", ""),
            ("max__tokens", ""),
            ("\\u005fmessages", ""),
            ("mess\u{e4}ges", ""),
            ("\u{ff}", ""),
            ("a key that is so long that it is none of ours", ""),
        ];
        for (key, spelling) in rows {
            assert_eq!(Key::of(Raw::new(key.as_bytes(), 0)).as_str(), spelling, "{key}");
        }
    }
}
