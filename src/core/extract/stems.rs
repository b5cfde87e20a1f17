//! Sets of stems: the beginnings of words and sentences that are searched for.
#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use crate::text::{Case, normalize};

/// Stems, found by their first byte, in which nearly all differ.
pub(super) struct StemSet {
    /// Stems, normalised like the text, grouped by first byte.
    stems: Vec<Cow<'static, str>>,
    /// Start of the group of each first byte, and the end of the last.
    starts: Box<[usize]>,
}

impl StemSet {
    /// Creates a set from stems in lower case, with `|` between them.
    pub fn new(list: &'static str) -> Self {
        // Stems in ASCII are normalised already.
        let normalized = |stem: &'static str| match stem.is_ascii() {
            true => Cow::Borrowed(stem),
            false => Cow::Owned(normalize(stem, Case::Fold)),
        };
        let mut stems: Vec<Cow<'static, str>> = list.split('|').map(normalized).collect();
        let first_byte = |stem: &Cow<'static, str>| stem.bytes().next().map_or(0, usize::from);
        stems.sort_by_key(first_byte);
        let start = |byte: usize| stems.partition_point(|stem| first_byte(stem) < byte);
        let starts = (0..=256).map(start).collect();
        Self { stems, starts }
    }

    /// Returns the stems with the first byte of a text.
    fn group(&self, text: &str) -> Option<&[Cow<'static, str>]> {
        let first = usize::from(*text.as_bytes().first()?);
        self.stems.get(*self.starts.get(first)?..*self.starts.get(first.saturating_add(1))?)
    }

    /// Returns the stem with which a text begins: the first of the list.
    pub fn prefix_of(&self, text: &str) -> Option<&str> {
        let mut group = self.group(text)?.iter();
        group.find(|stem| text.starts_with(stem.as_ref())).map(AsRef::as_ref)
    }

    /// Returns whether a word is one of the stems.
    pub fn contains(&self, word: &str) -> bool {
        self.group(word).is_some_and(|group| group.iter().any(|stem| stem == word))
    }

    /// Returns whether a text begins with a stem.
    pub fn begins(&self, text: &str) -> bool {
        self.prefix_of(text).is_some()
    }

    /// Returns whether a stem begins with a character of the text that `may_begin` accepts.
    pub fn is_in(&self, text: &str, mut may_begin: impl FnMut(char) -> bool) -> bool {
        text.char_indices().any(|(start, char)| {
            may_begin(char) && text.get(start..).is_some_and(|rest| self.begins(rest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_found_by_their_first_byte() {
        let stems = StemSet::new("write|请你|请|wri|ask ");
        let rows = [
            ("writes", Some("write")),
            ("wring", Some("wri")),
            ("请你写", Some("请你")),
            ("请写", Some("请")),
            ("asks", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(stems.prefix_of(text), expected, "{text}");
            assert_eq!(stems.begins(text), expected.is_some(), "{text}");
        }
        assert!(stems.is_in("我请", |_| true) && stems.is_in("to ask me", |_| true));
        assert!(!stems.is_in("我请", |char| char == '我') && !stems.is_in("我", |_| true));
    }

    #[test]
    fn stems_are_normalised_like_the_text() {
        let stem = "şimdi yaz";
        assert!(StemSet::new(stem).begins(&normalize(stem, Case::Fold)));
    }
}
