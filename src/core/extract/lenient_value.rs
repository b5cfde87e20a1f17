//! Values of parameters, as lax parsers take them.
#![deny(clippy::arithmetic_side_effects)]

use crate::extract::lenient_json::{Reader, Token};

/// Bytes of a number or flag in quotes, leading zeros and spaces included.
const MAX_QUOTED_BYTES: usize = 256;

/// The number that a value is. One in quotes counts, and its digits may be grouped by underscores,
/// as lax parsers have it (Pydantic's).
pub fn parse_number(token: Token<'_>, reader: &mut Reader<'_>) -> Option<f64> {
    let number = match token {
        Token::Number(number) => Some(number),
        Token::String(raw) if raw.bytes().len() <= MAX_QUOTED_BYTES => {
            raw.text().trim().replace('_', "").parse().ok()
        }
        token => {
            skip_mistyped(token, reader);
            None
        }
    };
    number.filter(|number| number.is_finite())
}

/// The flag that a value is; in words, those that lax parsers take (Pydantic's).
pub fn parse_flag(token: Token<'_>) -> Option<bool> {
    match token {
        Token::Bool(flag) => Some(flag),
        Token::String(raw) if raw.bytes().len() <= MAX_QUOTED_BYTES => {
            match raw.text().trim().to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "on" => Some(true),
                "false" | "f" | "no" | "n" | "off" => Some(false),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Passes over the rest of a value that has the wrong type.
pub fn skip_mistyped(token: Token<'_>, reader: &mut Reader<'_>) {
    if matches!(token, Token::Object | Token::Array) {
        reader.skip_rest();
    }
}
