//! Normalised keys of JSON members, as origins compare them.

use crate::extract::raw_string::RawString;

/// The key of a JSON member, normalised for look-up: lower case, without underscores.
///
/// Origins accept different spellings. Go's `encoding/json` ignores case, including the two letters
/// outside ASCII that fold to an ASCII letter; protobuf's JSON accepts `maxTokens` and
/// `max_tokens`. If an origin accepts more spellings than the filter, a client can hide a prompt
/// from the filter. If an origin accepts fewer spellings, a client can show the filter a decoy that
/// the origin ignores. For example, no origin accepts `_messages`, so the filter does not accept it
/// either.
#[derive(Clone, Copy, Debug)]
pub struct MemberName {
    bytes: [u8; MAX_NAME_BYTES],
    length: usize,
}

impl MemberName {
    /// Normalises a key. The result is empty, and so matches no member, if the key is longer than
    /// [`MAX_NAME_BYTES`], does not fold to ASCII, or has misplaced underscores.
    pub fn new(raw: RawString<'_>) -> Self {
        let mut name = Self { bytes: [0; MAX_NAME_BYTES], length: 0 };
        let is_plain = |byte: &u8| byte.is_ascii() && *byte != b'\\';
        let is_valid = if raw.bytes().iter().all(is_plain) {
            name.normalize(raw.bytes().iter().copied())
        } else {
            name.normalize(raw.text().chars().map(fold_to_ascii))
        };
        if is_valid { name } else { Self { length: 0, ..name } }
    }

    /// Returns the normalised key.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Adds all letters. Returns false if the key cannot match any member, for example because it
    /// has an underscore at an edge or two in a row, which no origin accepts.
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

    /// Adds a letter. Returns false if the key cannot match any member.
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

/// Returns the ASCII letter that a character folds to, or 255 if it does not fold to ASCII.
fn fold_to_ascii(char: char) -> u8 {
    match char {
        '\u{17f}' => b's',
        '\u{212a}' => b'k',
        char => u8::try_from(char).ok().filter(u8::is_ascii).unwrap_or(u8::MAX),
    }
}

/// Maximum bytes of a normalised key: longer than every key that a dialect reads.
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
            ("a key that is longer than every known key", ""),
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
