//! Sets of prefixes: the beginnings of words and sentences that are searched for.
#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use crate::text::{Case, normalize};

/// A set of prefixes, grouped by their first byte. Most prefixes differ in their first byte, so the
/// groups are small.
pub(super) struct PrefixSet {
    /// Prefixes, normalised like the text, grouped by first byte.
    prefixes: Vec<Cow<'static, str>>,
    /// Start in `prefixes` of the group of each first byte, and the end of the last group.
    starts: Box<[usize]>,
}

impl PrefixSet {
    /// Creates a set from prefixes in lower case, with `|` between them.
    pub fn new(list: &'static str) -> Self {
        // Prefixes in ASCII are normalised already.
        let normalized = |prefix: &'static str| match prefix.is_ascii() {
            true => Cow::Borrowed(prefix),
            false => Cow::Owned(normalize(prefix, Case::Fold)),
        };
        let mut prefixes: Vec<Cow<'static, str>> = list.split('|').map(normalized).collect();
        let first_byte = |prefix: &Cow<'static, str>| prefix.bytes().next().map_or(0, usize::from);
        prefixes.sort_by_key(first_byte);
        let start = |byte: usize| prefixes.partition_point(|prefix| first_byte(prefix) < byte);
        let starts = (0..=256).map(start).collect();
        Self { prefixes, starts }
    }

    /// Returns the prefixes that have the same first byte as a text; `None` if the text is empty.
    fn group(&self, text: &str) -> Option<&[Cow<'static, str>]> {
        let first = usize::from(*text.as_bytes().first()?);
        self.prefixes.get(*self.starts.get(first)?..*self.starts.get(first.saturating_add(1))?)
    }

    /// Returns the prefix at the beginning of a text; `None` if there is none. If several prefixes
    /// match, returns the first in the list.
    pub fn prefix_of(&self, text: &str) -> Option<&str> {
        let mut group = self.group(text)?.iter();
        group.find(|prefix| text.starts_with(prefix.as_ref())).map(AsRef::as_ref)
    }

    /// Returns whether a word is one of the prefixes.
    pub fn contains(&self, word: &str) -> bool {
        self.group(word).is_some_and(|group| group.iter().any(|prefix| prefix == word))
    }

    /// Returns whether a text begins with a prefix.
    pub fn begins(&self, text: &str) -> bool {
        self.prefix_of(text).is_some()
    }

    /// Returns whether a prefix occurs in the text, starting at a character that `may_begin`
    /// accepts. `may_begin` is called for each character in order, until a prefix is found.
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
    fn prefixes_are_found_by_their_first_byte() {
        let prefixes = PrefixSet::new("write|请你|请|wri|ask ");
        let rows = [
            ("writes", Some("write")),
            ("wring", Some("wri")),
            ("请你写", Some("请你")),
            ("请写", Some("请")),
            ("asks", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(prefixes.prefix_of(text), expected, "{text}");
            assert_eq!(prefixes.begins(text), expected.is_some(), "{text}");
        }
        assert!(prefixes.is_in("我请", |_| true) && prefixes.is_in("to ask me", |_| true));
        assert!(!prefixes.is_in("我请", |char| char == '我') && !prefixes.is_in("我", |_| true));
    }

    #[test]
    fn prefixes_are_normalised_like_the_text() {
        let prefix = "şimdi yaz";
        assert!(PrefixSet::new(prefix).begins(&normalize(prefix, Case::Fold)));
    }
}
