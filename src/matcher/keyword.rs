//! Short values: each is compared with each pattern of its field.

use std::borrow::Cow;
use std::ops::Range;

use once_cell::sync::OnceCell;
use regex_automata::meta::Regex;

use super::regex::compiled;
use crate::signature::Anchor;
use crate::text::{self, Case};

/// A comparison of a short value.
#[derive(Debug)]
pub(crate) struct KeywordTest {
    pub check: KeywordCheck,
    pub bit: usize,
}

/// What a short value is compared with.
#[derive(Debug)]
pub(crate) enum KeywordCheck {
    String { anchor: Anchor, value: String, cased: bool },
    Regex { pattern: String, compiled: OnceCell<Option<Regex>> },
    Cidr(ipnet::IpNet),
    Present,
}

/// Runs a field's tests on one short value.
pub(super) fn keyword(
    tests: &[KeywordTest],
    value: &str,
    set: &mut dyn FnMut(usize, Range<usize>),
) {
    let folded = fold(value);
    for test in tests {
        let whole = 0..value.len();
        match &test.check {
            KeywordCheck::Present => set(test.bit, whole),
            KeywordCheck::String { anchor, value: pattern, cased: false } => {
                if anchor.fits(&folded, pattern) {
                    set(test.bit, whole);
                }
            }
            KeywordCheck::String { anchor, value: pattern, cased: true } => {
                if anchor.fits(&text::normalize(value, Case::Keep), pattern) {
                    set(test.bit, whole);
                }
            }
            KeywordCheck::Regex { pattern, compiled: cell } => {
                if compiled(pattern, cell).is_some_and(|regex| regex.is_match(folded.as_ref())) {
                    set(test.bit, whole);
                }
            }
            KeywordCheck::Cidr(network) => {
                if value.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address)) {
                    set(test.bit, whole);
                }
            }
        }
    }
}

/// Normalises a short value; most are lower-case ASCII already.
fn fold(value: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    if value.bytes().all(plain) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(text::normalize(value, Case::Fold))
    }
}
