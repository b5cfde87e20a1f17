//! Composition: characters outside ASCII are *pending* until the characters that may join them are
//! known. Then the pending characters are composed (NFKC), folded and appended.
#![deny(clippy::arithmetic_side_effects)]

use super::characters::{
    CANONICAL_COMPOSITION, NFKC, expands_too_far, fold_char, is_invisible, is_space, joins_previous,
};
use super::normalize::{Case, Normalizer};
use super::precomposed::FoldOutcome;

impl Normalizer<'_> {
    /// Starts a run of pending characters. The run begins with the ASCII character before it,
    /// because a mark may join that character.
    pub(super) fn begin_pending(&mut self) {
        if self.pending.is_empty()
            && self.out.len() > self.value_start
            && let Some(last) = self.out.chars().next_back()
            && last.is_ascii_graphic()
        {
            self.out.pop();
            self.pending.push(last);
        }
    }

    /// Adds a character to the pending characters.
    ///
    /// Bounds the number of pending characters. Before a character that joins nothing, they can be
    /// composed at any time. A run of characters that may join is split, as in the Stream-Safe Text
    /// Format (Unicode Standard Annex #15). The split depends only on the run.
    pub(super) fn push_pending(&mut self, char: char) {
        if joins_previous(char) {
            if self.joining_count >= MAX_JOINING_CHARS {
                self.compose();
            }
            self.joining_count = self.joining_count.saturating_add(1);
        } else {
            if self.pending.len() >= MAX_PENDING_BYTES {
                self.compose();
            }
            self.joining_count = 0;
        }
        self.pending.push(char);
    }

    /// Composes the pending characters and appends them.
    #[inline]
    pub(super) fn compose(&mut self) {
        if !self.pending.is_empty() {
            self.compose_pending();
        }
    }

    #[inline(never)]
    pub(super) fn compose_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.joining_count = 0;
        if pending.is_ascii() {
            // Control characters and the character before them. NFKC does not change ASCII.
            pending.chars().for_each(|char| self.push_composed(char));
        } else if let Some(char) = compose_pair(&pending) {
            self.push_composed(char);
        } else {
            let mut remaining = pending.as_str();
            while let Some((index, char)) =
                remaining.char_indices().find(|(_, char)| expands_too_far(*char))
            {
                self.compose_run(remaining.get(..index).unwrap_or_default());
                self.push_composed(char);
                let end = index.saturating_add(char.len_utf8());
                remaining = remaining.get(end..).unwrap_or_default();
            }
            self.compose_run(remaining);
        }
        self.pending = pending;
        self.pending.clear();
    }

    /// Composes characters and appends them.
    fn compose_run(&mut self, run: &str) {
        let (composed, rest) = NFKC.split_normalized(run);
        composed.chars().for_each(|char| self.push_composed(char));
        if rest.is_empty() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.composed);
        // Writing to a string cannot fail.
        let _ = NFKC.normalize_to(rest, &mut buffer);
        buffer.chars().for_each(|char| self.push_composed(char));
        buffer.clear();
        self.composed = buffer;
    }

    /// Folds a composed character and appends it.
    pub(super) fn push_composed(&mut self, char: char) {
        match char {
            '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => self.out.push(char),
            '!'..='~' => self.out.push(self.fold_ascii(char)),
            // The only character whose lower case is two characters.
            '\u{130}' if self.case == Case::Fold => self.out.push_str("i\u{307}"),
            _ if is_space(char) => self.push_space(),
            _ if is_invisible(char) => {}
            _ if self.case == Case::Keep || is_caseless(char) => self.out.push(char),
            _ => match FoldOutcome::from_char(char) {
                FoldOutcome::Final(folded) | FoldOutcome::UnlessJoined(folded) => {
                    self.out.push(folded)
                }
                _ => self.out.extend(char.to_lowercase().filter_map(fold_char)),
            },
        }
    }
}

/// Returns the character that an ASCII letter and an accent compose to. Most decomposed text
/// consists of such pairs. Returns `None` if `text` is not such a pair, or if it does not compose.
fn compose_pair(text: &str) -> Option<char> {
    let mut chars = text.chars();
    let letter = chars.next().filter(char::is_ascii_alphabetic)?;
    // The marks in this range do not decompose further.
    let mark = chars.next().filter(|mark| matches!(mark, '\u{300}'..='\u{33f}'))?;
    if chars.next().is_some() { None } else { CANONICAL_COMPOSITION.compose(letter, mark) }
}

/// Returns whether a character is in a block without upper case and without look-alikes.
fn is_caseless(char: char) -> bool {
    matches!(char,
        '\u{300}'..='\u{36f}' | '\u{590}'..='\u{109f}' | '\u{1100}'..='\u{139f}'
        | '\u{1400}'..='\u{1c7f}' | '\u{2040}'..='\u{20ff}' | '\u{2e80}'..='\u{a63f}'
        | '\u{ac00}'..='\u{faff}' | '\u{fb1d}'..='\u{feff}')
}

/// Maximum number of characters in a row that may compose with a character before them. A longer
/// run is split. The Stream-Safe Text Format allows 30 marks. This limit is higher, because
/// `joins_previous` holds for all characters of some scripts.
const MAX_JOINING_CHARS: usize = 128;

/// Number of bytes of pending characters at which they are composed, before the next character that
/// joins nothing.
const MAX_PENDING_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::raw_string::Sink;
    use crate::text::characters::look_alike;

    #[test]
    fn non_joining_characters_compose_independently() {
        let prefixes = [
            "e",
            "e\u{301}",
            "e\u{323}",
            "\u{3b1}",
            "\u{5d0}\u{5b8}",
            "\u{627}",
            "\u{915}",
            "\u{9c7}",
            "\u{bc6}",
            "\u{ddc}",
            "\u{e01}\u{e48}",
            "\u{1025}",
            "\u{1100}",
            "\u{ac00}",
            "\u{304b}",
            "\u{ff76}",
        ];
        let composed = prefixes.map(|prefix| NFKC.normalize(prefix).into_owned());
        for char in ('\0'..='\u{1ffff}').filter(|char| !joins_previous(*char)) {
            let single = char.to_string();
            let single_composed = NFKC.normalize(&single);
            for (prefix, composed) in prefixes.iter().zip(&composed) {
                let joined = format!("{prefix}{single}");
                let separate = format!("{composed}{single_composed}");
                assert_eq!(NFKC.normalize(&joined), separate, "{prefix:?} and {char:?}");
            }
        }
    }

    #[test]
    fn caseless_characters_fold_to_themselves() {
        for char in ('\0'..=char::MAX).filter(|char| is_caseless(*char)) {
            assert!(char.to_lowercase().eq([char]) && look_alike(char) == char, "{char:?}");
        }
    }

    /// A run of marks is composed in pieces, because composing a whole run sorts it and needs
    /// memory for all of it.
    #[test]
    fn pending_characters_are_bounded() {
        for (name, part) in [
            ("marks", "\u{301}\u{323}"),
            ("jamo", "\u{1161}\u{11a8}"),
            ("syllables", "\u{1112}\u{1161}\u{11ab}"),
            ("invisible", "\u{200b}"),
            ("emoji", "\u{1f600}"),
            ("squared words", "\u{3300}"),
            ("ligatures", "\u{fdfa}"),
        ] {
            let mut out = String::new();
            let mut normalizer = Normalizer::new(&mut out, Case::Fold);
            let mut longest = 0;
            for char in part.repeat(5_000).chars() {
                normalizer.push_char(char);
                longest = longest.max(normalizer.pending.len());
            }
            assert!(longest <= MAX_PENDING_BYTES + 4 * MAX_JOINING_CHARS, "{name}: {longest}");
        }
    }
}
