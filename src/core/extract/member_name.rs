//! The keys of JSON members, as origins compare them.

use crate::extract::lenient_json::RawString;

/// A member's key in the one spelling under which it is looked up: lower case, no underscores.
///
/// Origins do not agree on spelling: Go's `encoding/json` takes a key in any case, with the two
/// letters outside ASCII that fold to a Latin one; protobuf's JSON takes `maxTokens` and
/// `max_tokens`. Whoever reads more spellings than the filter does is a way past it. But nobody
/// takes `_messages`: what the filter reads and the origin does not is a place for decoys.
#[derive(Clone, Copy, Debug)]
pub struct MemberName {
    bytes: [u8; MAX_NAME_BYTES],
    length: usize,
}

impl MemberName {
    /// The spelling of a key; an empty one, which nothing is known by, for a key that is too long
    /// or not in Latin.
    pub fn new(raw: RawString<'_>) -> Self {
        let mut name = Self { bytes: [0; MAX_NAME_BYTES], length: 0 };
        let is_plain = |byte: &u8| byte.is_ascii() && *byte != b'\\';
        let is_valid = match raw.bytes().iter().all(is_plain) {
            true => name.normalize(raw.bytes().iter().copied()),
            false => name.normalize(raw.text().chars().map(fold_to_ascii)),
        };
        if is_valid { name } else { Self { length: 0, ..name } }
    }

    /// The spelling.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Takes the letters; false where the key cannot be one that is known, also because underscores
    /// stand where no origin reads them: at an edge, or two in a row.
    fn normalize(&mut self, letters: impl Iterator<Item = u8>) -> bool {
        let mut previous = b'_';
        for letter in letters {
            if previous == b'_' && letter == b'_' || !self.push(letter) {
                return false;
            }
            previous = letter;
        }
        previous != b'_'
    }

    /// Adds a letter; false where the key cannot be one that is known.
    fn push(&mut self, letter: u8) -> bool {
        if letter == b'_' {
            return true;
        }
        let Some(slot) = self.bytes.get_mut(self.length) else { return false };
        *slot = letter.to_ascii_lowercase();
        self.length = self.length.saturating_add(1);
        letter.is_ascii()
    }
}

/// The ASCII letter that a character folds to; 255 where there is none.
fn fold_to_ascii(char: char) -> u8 {
    match char {
        '\u{17f}' => b's',
        '\u{212a}' => b'k',
        char => u8::try_from(char).ok().filter(u8::is_ascii).unwrap_or(u8::MAX),
    }
}

/// Letters of the longest key that is known anywhere, and some.
const MAX_NAME_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_spellings_normalize_alike() {
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
            assert_eq!(
                MemberName::new(RawString::new(key.as_bytes(), 0)).as_str(),
                spelling,
                "{key}"
            );
        }
    }
}
