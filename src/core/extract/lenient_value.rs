//! Lenient conversion of parameter values: numbers and flags as tolerant origins accept them.
#![deny(clippy::arithmetic_side_effects)]

use crate::extract::lenient_json::{Reader, Token};

/// Maximum bytes of a quoted number or flag, including leading zeros and spaces.
const MAX_QUOTED_BYTES: usize = 256;

/// Returns a value as a finite number. Returns `None` if the value is not a number, is not finite,
/// or is a string of more than [`MAX_QUOTED_BYTES`].
///
/// Like Pydantic, the function accepts a number in quotes, and digits grouped by underscores. An
/// object or an array is skipped.
pub fn parse_number(token: Token<'_>, reader: &mut Reader<'_>) -> Option<f64> {
    let number = match token {
        Token::Number(number) => Some(number),
        Token::String(raw) if raw.bytes().len() <= MAX_QUOTED_BYTES => {
            raw.text().trim().replace('_', "").parse().ok()
        }
        token => {
            skip_rest_of_value(token, reader);
            None
        }
    };
    number.filter(|number| number.is_finite())
}

/// Returns a value as a flag. Returns `None` if the value is not a flag, or is a string of more
/// than [`MAX_QUOTED_BYTES`]. Like Pydantic, `parse_flag` accepts words such as `"yes"` and
/// `"off"`.
///
/// The function reads no further tokens, so the caller must skip the rest of an object or an array.
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

/// Calls `on_token` with the first token of each element of a list. `on_token` must read or skip
/// the rest of an element that is an object or a list. A value that is not a list is skipped.
pub fn for_each_token<'a>(
    reader: &mut Reader<'a>,
    mut on_token: impl FnMut(Token<'a>, &mut Reader<'a>),
) {
    match reader.next_token() {
        Token::Array => {
            while reader.next_element() {
                let token = reader.next_token();
                on_token(token, reader);
            }
        }
        token => skip_rest_of_value(token, reader),
    }
}

/// Skips the rest of a value of the wrong type, whose first token has been read.
pub fn skip_rest_of_value(token: Token<'_>, reader: &mut Reader<'_>) {
    if matches!(token, Token::Object | Token::Array) {
        reader.skip_rest();
    }
}
