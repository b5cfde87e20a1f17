//! Keyword matching: compares each short value with each pattern of its field.

use std::borrow::Cow;
use std::ops::Range;

use once_cell::sync::OnceCell;
use regex_automata::meta::Regex;

use super::regex_gate::get_or_compile;
use crate::rules::signature::StringMatch;
use crate::text;
use crate::text::Case;

/// A keyword comparison and its bit.
#[derive(Debug)]
pub(crate) struct KeywordTest {
    pub check: KeywordCheck,
    pub bit: usize,
}

/// The comparison of a keyword value.
#[derive(Debug)]
pub(crate) enum KeywordCheck {
    String { string_match: StringMatch, value: String, is_cased: bool },
    Regex { pattern: String, compiled: OnceCell<Option<Regex>> },
    Cidr(ipnet::IpNet),
    Present,
}

/// Runs the tests of a field on one value. Calls `set_bit` for each test that holds, with the bit
/// of the test and a byte range of the value as evidence.
///
/// The range is always the whole value, because evidence in keywords is not located more precisely.
pub(super) fn run_keyword_tests(
    tests: &[KeywordTest],
    value: &str,
    set_bit: &mut dyn FnMut(usize, Range<usize>),
) {
    let folded = normalize_keyword(value);
    for test in tests {
        let range = 0..value.len();
        match &test.check {
            KeywordCheck::Present => set_bit(test.bit, range),
            KeywordCheck::String { string_match, value: pattern, is_cased: false } => {
                if string_match.matches(&folded, pattern) {
                    set_bit(test.bit, range);
                }
            }
            KeywordCheck::String { string_match, value: pattern, is_cased: true } => {
                if string_match.matches(&text::normalize(value, Case::Keep), pattern) {
                    set_bit(test.bit, range);
                }
            }
            KeywordCheck::Regex { pattern, compiled: cell } => {
                if get_or_compile(pattern, cell)
                    .is_some_and(|regex| regex.is_match(folded.as_ref()))
                {
                    set_bit(test.bit, range);
                }
            }
            KeywordCheck::Cidr(network) => {
                if value.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address)) {
                    set_bit(test.bit, range);
                }
            }
        }
    }
}

/// Normalises a keyword value. Most values are printable ASCII without capital letters and spaces.
/// Normalisation does not change such a value, so it is borrowed.
fn normalize_keyword(value: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    if value.bytes().all(is_plain) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(text::normalize(value, Case::Fold))
    }
}
