//! Codings of text in a body, other than plain JSON: base64, URL-encoded forms, and parts of
//! uploads.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode;

use super::issues::ReadIssues;
use super::raw_string::RawString;
use crate::http::body::decode_utf16_32;

/// The coding of a text in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Base64 in a JSON string, in the standard or the URL-safe alphabet.
    Base64,
    /// Percent-encoding, with `+` for a space.
    Form,
    /// The bytes themselves, without escapes: a backslash is a literal backslash.
    Plain,
}

impl Coding {
    /// Decodes a text. Bytes that are not UTF-8 become U+FFFD.
    pub fn decode<'a>(self, raw: RawString<'a>) -> Cow<'a, str> {
        match self {
            Self::Base64 => Cow::Owned(bytes_to_text(decode_base64(raw))),
            Self::Form => {
                let bytes: Vec<u8> = raw
                    .bytes()
                    .iter()
                    .map(|byte| if *byte == b'+' { b' ' } else { *byte })
                    .collect();
                Cow::Owned(percent_decode(&bytes).decode_utf8_lossy().into_owned())
            }
            Self::Plain => String::from_utf8_lossy(raw.bytes()),
        }
    }
}

/// Decodes base64 as lenient servers do: bytes outside the alphabet are ignored, padding ends the
/// text, and the last characters may be missing.
pub(super) fn decode_base64(raw: RawString<'_>) -> Vec<u8> {
    let text = raw.text();
    let mut symbols = text.bytes().take_while(|byte| *byte != b'=').filter_map(standard_symbol);
    let mut bytes = Vec::with_capacity((text.len() / 4).saturating_mul(3));
    // The symbols are decoded in groups, because a copy of all symbols would take more memory.
    loop {
        let mut group = [0; GROUP_SYMBOLS];
        let slots = group.iter_mut().zip(&mut symbols);
        let length = slots.map(|(slot, symbol)| *slot = symbol).count();
        // A single symbol after the last group of four holds only six bits, less than a byte.
        let length = if length % 4 == 1 { length.saturating_sub(1) } else { length };
        let is_decoded = LENIENT.decode_vec(group.get(..length).unwrap_or_default(), &mut bytes);
        if is_decoded.is_err() || length < GROUP_SYMBOLS {
            return bytes;
        }
    }
}

/// Number of symbols that are decoded at once: a multiple of four.
const GROUP_SYMBOLS: usize = 1024;

/// Returns whether all bytes can occur in base64 in a JSON string.
pub(super) fn is_base64(bytes: &[u8]) -> bool {
    let mut is_escaped = false;
    bytes.iter().all(|byte| {
        let is_valid = match byte {
            b'n' | b'r' | b't' | b'/' if is_escaped => true,
            b'\\' => !is_escaped,
            b'=' => true,
            byte => standard_symbol(*byte).is_some() && !is_escaped,
        };
        is_escaped = *byte == b'\\';
        is_valid
    })
}

/// Returns the equivalent of a base64 symbol in the standard alphabet; `None` for any other byte.
fn standard_symbol(byte: u8) -> Option<u8> {
    match byte {
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => Some(byte),
        _ => None,
    }
}

fn bytes_to_text(bytes: Vec<u8>) -> String {
    if let Some(text) = decode_utf16_32(&bytes, usize::MAX, &mut ReadIssues::default()) {
        return text;
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Decodes base64 without padding, and ignores the unused bits of the last symbol.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn decode(coding: Coding, text: &str) -> String {
        coding.decode(RawString::new(text.as_bytes(), 0)).into_owned()
    }

    #[test]
    fn codings_are_decoded_as_lenient_servers_do() {
        let rows = [
            ("base64", Coding::Base64, "aGkgdGhlcmU=", "hi there"),
            ("without padding", Coding::Base64, "aGkgdGhlcmU", "hi there"),
            ("a line end", Coding::Base64, "aGkg\\ndGhlcmU=", "hi there"),
            ("an escaped slash", Coding::Base64, "Pz8\\/", "???"),
            ("URL alphabet", Coding::Base64, "Pz8_", "???"),
            ("a symbol too many", Coding::Base64, "aGkga", "hi "),
            ("nothing", Coding::Base64, "", ""),
            ("form", Coding::Form, "a+b%20c%C3%A9%zz", "a b c\u{e9}%zz"),
            ("plain", Coding::Plain, "a\\nb", "a\\nb"),
        ];
        for (name, coding, text, expected) in rows {
            assert_eq!(decode(coding, text), expected, "{name}");
        }
    }

    #[test]
    fn base64_is_recognized() {
        let rows = [
            ("aGkgdGhlcmU=", true),
            ("aGkg\\ndGhlcmU", true),
            ("Pz8\\/", true),
            ("two words", false),
            ("\\u0061", false),
            ("a.b", false),
        ];
        for (text, expected) in rows {
            assert_eq!(is_base64(text.as_bytes()), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_survives_base64(text in "\\PC{1,2000}") {
            // A text that begins with U+0000, or with one letter and U+0000, would be decoded as
            // UTF-16. The pattern `\PC` generates no U+0000.
            for encoded in [BASE64_STANDARD.encode(&text), BASE64_URL_SAFE_NO_PAD.encode(&text)] {
                proptest::prop_assert!(is_base64(encoded.as_bytes()));
                proptest::prop_assert_eq!(&decode(Coding::Base64, &encoded), &text);
            }
        }
    }
}
