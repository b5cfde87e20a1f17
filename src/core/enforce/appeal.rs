//! Appeal references: request ids in a form that people can read aloud, type and paste.
//!
//! A request id is a UUID of version 7, of which 122 bits vary. A reference consists of these bits
//! and a check of 8 bits: 26 symbols of Crockford's Base32, in five groups. It can be computed from
//! the id, and the id from it, so nothing is stored. It is as hard to guess as the id.
//!
//! The check finds every wrong symbol, and every exchange of two symbols.

/// Returns the appeal reference of a request id; `None` if the id is not a UUID of version 7.
///
/// ```
/// use hedgerow_core::enforce::appeal::reference_of;
/// let reference = reference_of("01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a");
/// assert_eq!(reference.as_deref(), Some("06CHP-B1X9V-4YEKG-FSFDA-E8PYPZ"));
/// ```
pub fn reference_of(request_id: &str) -> Option<String> {
    let id = u128::from_str_radix(&request_id.replace('-', ""), 16).ok()?;
    if (id >> 76) & 0xf != 7 || (id >> 62) & 3 != 2 {
        return None;
    }
    let bits = (id >> 80) << 74 | ((id >> 64) & 0xfff) << 62 | id & RANDOM_TAIL;
    let end = (bits & 3) << 8 | u128::from(check(bits));
    let mut reference = String::new();
    for index in 0..SYMBOLS {
        if index % GROUP == 0 && (1..SYMBOLS - 1).contains(&index) {
            reference.push('-');
        }
        // 24 symbols contain 120 bits. The last two contain the other two bits, and the check.
        let value = if index < 24 { bits >> (117 - 5 * index) } else { end >> (5 * (25 - index)) };
        let symbol = ALPHABET.get((value & 31) as usize);
        reference.push(symbol.copied().unwrap_or_default().into());
    }
    Some(reference)
}

/// The request id in a pasted text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pasted {
    /// The text contains this request id, or its reference. The id is in lower case.
    RequestId(String),
    /// The text contains a reference with a wrong, a missing or an additional symbol.
    Mistyped,
    /// The text contains neither an id nor a reference.
    Nothing,
}

/// Finds the first request id in a text, such as a header line; otherwise the first reference;
/// otherwise the first UUID of another version, which may be any other id of the customer. A
/// reference may contain spaces, hyphens or other separators, in any place, and letters in any
/// case. `O` is read as 0, and `I` and `L` as 1.
pub fn find_request_id(text: &str) -> Pasted {
    if let Some(id) = uuids(text).find(|id| reference_of(id).is_some()) {
        return Pasted::RequestId(id);
    }
    // The digits of a UUID are not symbols of a reference.
    let remove = |text: String, id: String| text.replace(&id, "|");
    let plain = uuids(text).fold(text.to_ascii_lowercase(), remove);
    let words = plain.split(|character: char| !character.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut is_mistyped = false;
    for start in 0..words.len() {
        for end in start + 1..=words.len() {
            let words = words.get(start..end).unwrap_or_default();
            let joined = words.concat();
            match read(&joined, words) {
                Reading::Id(id) => return Pasted::RequestId(id),
                Reading::Mistyped => is_mistyped = true,
                Reading::Other => {}
            }
            if joined.len() > SYMBOLS {
                break;
            }
        }
    }
    match uuids(text).next() {
        Some(id) => Pasted::RequestId(id),
        None if is_mistyped => Pasted::Mistyped,
        None => Pasted::Nothing,
    }
}

/// The meaning of words that were joined.
enum Reading {
    /// A reference of this request id.
    Id(String),
    /// Almost a reference.
    Mistyped,
    /// Not similar to a reference.
    Other,
}

/// Reads `words`, which are joined in `text`. They are almost a reference if they have 26 symbols,
/// or if they look like its groups with a wrong, a missing or an additional symbol. They must have
/// at least two digits, which distinguishes a reference from prose.
fn read(text: &str, words: &[&str]) -> Reading {
    let values: Option<Vec<u8>> = text.bytes().map(symbol_value).collect();
    let has_length = text.len() == SYMBOLS;
    if let Some(id) = values.as_deref().filter(|_| has_length).and_then(decode) {
        return Reading::Id(id);
    }
    let is_group = |word: &&str| (GROUP - 1..=GROUP + 2).contains(&word.len());
    let is_grouped = words.len() == SYMBOLS / GROUP
        && words.iter().all(is_group)
        && (SYMBOLS - 1..=SYMBOLS + 1).contains(&text.len());
    let has_digits = text.bytes().filter(u8::is_ascii_digit).count() >= 2;
    let is_similar = is_grouped || has_length && values.is_some();
    if is_similar && has_digits { Reading::Mistyped } else { Reading::Other }
}

/// Returns the request id of 26 symbols; `None` if their check is wrong.
fn decode(values: &[u8]) -> Option<String> {
    let (start, end) = values.split_at_checked(24)?;
    let join = |values: &[u8]| values.iter().fold(0, |bits, value| bits << 5 | u128::from(*value));
    let end = join(end);
    let bits = join(start) << 2 | end >> 8;
    if end & 0xff != u128::from(check(bits)) {
        return None;
    }
    let id = (bits >> 74) << 80 | 7 << 76 | ((bits >> 62) & 0xfff) << 64 | 2 << 62;
    let mut text = format!("{:032x}", id | bits & RANDOM_TAIL);
    [8, 13, 18, 23].into_iter().for_each(|position| text.insert(position, '-'));
    Some(text)
}

/// Returns the value of a symbol; `None` if the byte is not a symbol.
fn symbol_value(byte: u8) -> Option<u8> {
    let symbol = match byte.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        symbol => symbol,
    };
    ALPHABET.iter().position(|known| *known == symbol).map(|value| value as u8)
}

/// Returns the check of the 122 bits: CRC-8 with the polynomial x⁸ + x² + x + 1. Its factor of
/// degree 7 divides neither the difference between two symbols, which has 5 bits, nor
/// x⁵ⁿ + 1 for n up to 25, which is the other factor of an exchange. The result of zeros is not
/// zero, so that a reference of zeros is invalid.
fn check(bits: u128) -> u8 {
    let next = |crc: u8, index: u32| {
        let bit = ((bits >> index) & 1) as u8;
        let is_odd = (crc >> 7) ^ bit == 1;
        (crc << 1) ^ if is_odd { 0x07 } else { 0 }
    };
    (0..122).rev().fold(0, next) ^ 0x55
}

/// Returns the UUIDs in a text, in lower case.
fn uuids(text: &str) -> impl Iterator<Item = String> {
    let is_uuid = |candidate: &&str| {
        candidate.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let candidates = (0..text.len()).filter_map(move |start| text.get(start..start + UUID_BYTES));
    candidates.filter(is_uuid).map(str::to_ascii_lowercase)
}

/// Crockford's alphabet, which lacks I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Number of symbols of a reference.
const SYMBOLS: usize = 26;

/// Number of symbols of a group; the last group has one more.
const GROUP: usize = 5;

/// The 62 random bits at the end of an id.
const RANDOM_TAIL: u128 = (1 << 62) - 1;

/// Bytes of a UUID.
const UUID_BYTES: usize = 36;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ID: &str = "01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a";

    fn found(id: &str) -> Pasted {
        Pasted::RequestId(id.to_owned())
    }

    /// The console reads the same pairs in its own tests.
    #[test]
    fn a_reference_and_its_id_are_computed_from_each_other() {
        let pairs: Value =
            serde_json::from_str(include_str!("../../../tests/fixtures/appeal-references.json"))
                .unwrap();
        let pairs = pairs.as_array().unwrap();
        assert!(pairs.len() >= 4);
        for pair in pairs {
            let (id, reference) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            assert_eq!(reference_of(id).as_deref(), Some(reference), "{id}");
            assert_eq!(find_request_id(reference), found(id), "{reference}");
        }
    }

    #[test]
    fn only_uuids_of_version_7_have_a_reference() {
        let rows = [
            "",
            "r-1",
            "01991b2c-3d4e-4c9e-9d38-3f2f6a9c8b7a",
            "01991b2c-3d4e-7c9e-dd38-3f2f6a9c8b7a",
            "é1991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a",
        ];
        for id in rows {
            assert_eq!(reference_of(id), None, "{id}");
        }
    }

    #[test]
    fn references_are_found_in_pasted_text() {
        let reference = reference_of(ID).unwrap();
        let rows = [
            reference.to_lowercase(),
            reference.replace('-', " "),
            reference.replace('-', ""),
            reference.replace('-', "\u{2013}"),
            reference.replace('1', "l").replace('0', "O"),
            reference.replace('1', "I").replace('0', "o"),
            format!("  {reference}\r\n"),
            format!("x-hedgerow-appeal: {reference}"),
            format!("Appeal reference: {reference}. Bitte antworten Sie bis 12.05.2026"),
            format!("https://support.example.com/appeal?ref={reference}&lang=de"),
            reference.chars().map(|symbol| format!("{symbol} ")).collect(),
            format!("{reference} {ID}"),
        ];
        for text in rows {
            assert_eq!(find_request_id(&text), found(ID), "{text}");
        }
    }

    #[test]
    fn request_ids_are_found_in_pasted_text() {
        let rows = [
            ID.to_owned(),
            ID.to_uppercase(),
            format!("  {ID}\r\n"),
            format!("x-hedgerow-request-id: {ID}"),
            format!("X-Request-Id:{ID}"),
            format!("'x-request-id: \"{ID}\"'"),
            format!("Réponse: Request id: {ID}"),
        ];
        for text in rows {
            assert_eq!(find_request_id(&text), found(ID), "{text}");
        }
        let other = [
            "",
            "x-request-id:",
            "req_011CSHoEeqs5C35K2UUqR7Fy",
            "01991b2c3d4e7c9e9d383f2f6a9c8b7a",
            "my request was refused at 12:05 and again at 13:10",
        ];
        for text in other {
            assert_eq!(find_request_id(text), Pasted::Nothing, "{text}");
        }
    }

    #[test]
    fn other_uuids_count_only_without_a_request_id_and_a_reference() {
        const OTHER: &str = "6f1c2a9e-3b4d-4e5f-8a6b-7c8d9e0f1a2b";
        let reference = reference_of(ID).unwrap();
        let mistyped = reference.replace('4', "5");
        let rows = [
            (format!("Organization {OTHER} Appeal reference: {reference}"), ID),
            (format!("{reference} ({OTHER})"), ID),
            (format!("org {OTHER}, x-hedgerow-request-id: {ID}"), ID),
            (format!("{OTHER},{},{reference}", ID.to_uppercase()), ID),
            (format!("Organization {OTHER}"), OTHER),
            (format!("Organization {OTHER} Appeal reference: {mistyped}"), OTHER),
            // Digits of the UUID and the word after it are the symbols of another reference.
            (format!("6f1c2a9e-3b4d-4e5f-8a6b-7c8d9e0f106f opened {reference}"), ID),
        ];
        for (text, expected) in rows {
            assert_eq!(find_request_id(&text), found(expected), "{text}");
        }
    }

    #[test]
    fn every_wrong_symbol_and_every_exchange_is_found() {
        let reference = reference_of(ID).unwrap().replace('-', "");
        let mut symbols: Vec<char> = reference.chars().collect();
        for index in 0..SYMBOLS {
            for symbol in ALPHABET.map(char::from) {
                let original = std::mem::replace(&mut symbols[index], symbol);
                let text: String = symbols.iter().collect();
                let expected = if symbol == original { found(ID) } else { Pasted::Mistyped };
                assert_eq!(find_request_id(&text), expected, "{text}");
                symbols[index] = original;
            }
            for other in 0..SYMBOLS {
                symbols.swap(index, other);
                let text: String = symbols.iter().collect();
                let expected = if text == reference { found(ID) } else { Pasted::Mistyped };
                assert_eq!(find_request_id(&text), expected, "{text}");
                symbols.swap(index, other);
            }
        }
    }

    #[test]
    fn a_missing_or_additional_symbol_is_mistyped() {
        let reference = reference_of(ID).unwrap();
        let spaced = reference.replace('-', " ");
        let rows = [
            reference.strip_suffix('Z').unwrap().to_owned(),
            format!("{reference}7"),
            spaced.replacen("CHP", "CH", 1),
            spaced.replacen("CHP", "CHUP", 1),
            format!("reference: {}", reference.replacen('9', "U", 1)),
            "00000-00000-00000-00000-000000".to_owned(),
        ];
        for text in rows {
            assert_eq!(find_request_id(&text), Pasted::Mistyped, "{text}");
        }
    }
}
