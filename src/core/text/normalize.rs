//! The normaliser: appends text to a buffer, folded, composed and without invisible characters.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::characters::{
    is_ascii_space, is_invisible, is_space, joins_previous, non_ascii_prefix_len, plain_prefix_len,
};
use super::checkpoint::CheckpointWriter;
use super::precomposed::{FoldOutcome, ideograph_prefix_len};
use crate::extract::raw_string::Sink;

/// Character after each segment in a buffer of normalised text. Segments hold no control
/// characters.
pub const SEGMENT_END: char = '\n';

/// A normaliser of one value, which appends its pieces to a buffer. A value may be split into
/// pieces at any character.
#[derive(Debug)]
pub struct Normalizer<'o> {
    pub(super) out: &'o mut String,
    pub(super) value_start: usize,
    pub(super) case: Case,
    /// Characters that are composed together when their run ends.
    pub(super) pending: String,
    /// Number of characters at the end of `pending` that may join a character before them.
    pub(super) joining_count: usize,
    /// Reusable buffer for the result of a composition.
    pub(super) composed: String,
    /// Length of `out` in bytes at which no more text is appended.
    pub(super) limit: usize,
    pub(super) trimmed: TrimmedEdges,
}

/// The edges at which a value had white space, which normalisation drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrimmedEdges {
    /// Whether the value began with white space.
    pub leading: bool,
    /// Whether the value ended with white space.
    pub trailing: bool,
}

/// The treatment of upper case and look-alikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Fold both. This is the default of comparisons.
    Fold,
    /// Keep both, for `|cased`.
    Keep,
}

/// Normalises a whole string.
pub fn normalize(text: &str, case: Case) -> String {
    let mut out = String::with_capacity(text.len());
    let mut normalizer = Normalizer::new(&mut out, case);
    normalizer.push_run(text);
    normalizer.finish();
    out
}

/// Normalises a pattern. White space at the edges of a pattern is kept as one space; in text, it is
/// dropped.
pub fn normalize_pattern(text: &str, case: Case) -> String {
    let edge_space =
        |edge: Option<char>| if edge.is_some_and(char::is_whitespace) { " " } else { "" };
    let inner = normalize(text, case);
    if inner.is_empty() {
        return edge_space(text.chars().next()).to_owned();
    }
    format!("{}{inner}{}", edge_space(text.chars().next()), edge_space(text.chars().next_back()))
}

impl<'o> Normalizer<'o> {
    /// Creates a normaliser that appends one value to `out`.
    pub fn new(out: &'o mut String, case: Case) -> Self {
        let start = out.len();
        Self {
            out,
            value_start: start,
            case,
            pending: String::new(),
            joining_count: 0,
            composed: String::new(),
            limit: usize::MAX,
            trimmed: TrimmedEdges::default(),
        }
    }

    /// Limits the buffer to about `limit` bytes. Text of the value beyond the limit is dropped.
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Returns whether the buffer has reached its limit.
    pub fn is_full(&self) -> bool {
        self.out.len() >= self.limit
    }

    /// Returns the length of the value so far in bytes. Characters that may still be composed do
    /// not count.
    pub fn value_len(&self) -> usize {
        self.out.len().saturating_sub(self.value_start)
    }

    /// Ends the value and returns its range in the buffer.
    pub fn finish(self) -> Range<usize> {
        self.finish_with_edges().0
    }

    /// Ends the value and returns its range in the buffer, and the edges that were trimmed.
    pub fn finish_with_edges(mut self) -> (Range<usize>, TrimmedEdges) {
        self.compose();
        if self.out.len() > self.value_start && self.out.ends_with(' ') {
            self.out.pop();
            self.trimmed.trailing = true;
        }
        (self.value_start..self.out.len(), self.trimmed)
    }

    /// Appends any ASCII text.
    pub(super) fn push_ascii(&mut self, mut run: &str) {
        while !run.is_empty() {
            let plain_len = plain_prefix_len(run.as_bytes());
            if plain_len > 0 {
                self.compose();
                self.push_plain(run.get(..plain_len).unwrap_or_default());
                run = run.get(plain_len..).unwrap_or_default();
            }
            let space_len = run.bytes().take_while(|byte| is_ascii_space(*byte)).count();
            if space_len > 0 {
                self.compose();
                self.push_space();
                run = run.get(space_len..).unwrap_or_default();
            } else if let Some(special) = run.chars().next() {
                self.push_special(special);
                run = run.get(1..).unwrap_or_default();
            }
        }
    }

    /// Appends ASCII without control characters and without two spaces in a row.
    pub(super) fn push_plain(&mut self, run: &str) {
        let mut run = run;
        if run.starts_with(' ') && self.is_after_space() {
            self.trimmed.leading |= self.out.len() == self.value_start;
            run = run.strip_prefix(' ').unwrap_or(run);
        }
        let tail_start = self.out.len();
        self.out.push_str(run);
        if self.case == Case::Fold
            && let Some(tail) = self.out.get_mut(tail_start..)
        {
            tail.make_ascii_lowercase();
        }
    }

    /// Appends any ASCII character, including white space and control characters.
    pub(super) fn push_special(&mut self, char: char) {
        if is_space(char) {
            self.push_space();
        } else if char.is_ascii_control() {
            // The character is dropped only after composition, because it keeps its neighbours from
            // composing. Further control characters, or a control character after a space, have no
            // effect.
            let is_separated = self.pending.is_empty() && self.is_after_space();
            if !is_separated && !self.pending.ends_with(|last: char| last.is_ascii_control()) {
                self.begin_pending();
                self.push_pending(char);
            }
        } else {
            self.out.push(self.fold_ascii(char));
        }
    }

    pub(super) fn fold_ascii(&self, ascii: char) -> char {
        if self.case == Case::Fold { ascii.to_ascii_lowercase() } else { ascii }
    }

    /// Appends a space, except at the start of the value or after another space.
    pub(super) fn push_space(&mut self) {
        if self.out.len() == self.value_start {
            self.trimmed.leading = true;
        } else if !self.out.ends_with(' ') {
            self.out.push(' ');
        }
    }

    /// Returns whether a space here would be dropped.
    pub(super) fn is_after_space(&self) -> bool {
        self.out.len() == self.value_start || self.out.ends_with(' ')
    }

    /// Appends a run of characters that are mostly outside ASCII. `next_byte` is the byte after the
    /// run; `None` if the text ends there or the byte is not known.
    ///
    /// Characters that cannot compose with a neighbour are appended at once. The others are pending
    /// until they are composed.
    pub(super) fn push_non_ascii_run(
        &mut self,
        run: &str,
        next_byte: Option<u8>,
        checkpoints: &mut CheckpointWriter<'_>,
    ) {
        if self.case == Case::Keep {
            self.begin_pending();
            return run.chars().for_each(|char| self.push_pending(char));
        }
        let mut remaining = run;
        while !self.is_full() {
            let ideograph_len = ideograph_prefix_len(remaining);
            if ideograph_len > 0 {
                self.checkpoint_if_due(checkpoints, 0);
                self.compose();
                self.out.push_str(remaining.get(..ideograph_len).unwrap_or_default());
                remaining = remaining.get(ideograph_len..).unwrap_or_default();
                checkpoints.source_offset = checkpoints.source_offset.saturating_add(ideograph_len);
            }
            let Some(consumed) = self.push_letters(remaining, next_byte, checkpoints) else {
                return;
            };
            remaining = remaining.get(consumed..).unwrap_or_default();
            checkpoints.source_offset = checkpoints.source_offset.saturating_add(consumed);
        }
    }

    /// Appends characters up to the next ideograph. Returns the number of bytes consumed, or `None`
    /// if the run is empty.
    pub(super) fn push_letters(
        &mut self,
        run: &str,
        next_byte: Option<u8>,
        checkpoints: &mut CheckpointWriter<'_>,
    ) -> Option<usize> {
        let mut chars = run.char_indices();
        let mut current =
            chars.next().map(|(index, char)| (index, char, FoldOutcome::from_char(char)))?;
        loop {
            let next =
                chars.next().map(|(index, char)| (index, char, FoldOutcome::from_char(char)));
            let (index, char, outcome) = current;
            if checkpoints.is_due(index) && !is_space(char) && !joins_previous(char) {
                self.checkpoint_if_due(checkpoints, index);
            }
            let is_joined = matches!(outcome, FoldOutcome::UnlessJoined(_))
                && match next {
                    Some((.., next_outcome)) => next_outcome == FoldOutcome::NeedsContext,
                    None => next_byte.is_none_or(|byte| byte == b'\\'),
                };
            self.push_folded(char, if is_joined { FoldOutcome::NeedsContext } else { outcome });
            if self.is_full() {
                return Some(run.len());
            }
            match next {
                Some((index, '\u{4000}'..='\u{9fff}', _)) => return Some(index),
                Some(next) => current = next,
                None => return Some(run.len()),
            }
        }
    }

    /// Records a checkpoint, if one is due, before the character `ahead` bytes further on. The
    /// character must not join the characters before it.
    ///
    /// No checkpoint is recorded after dropped characters or white space, because they must be
    /// normalised together with the text that follows.
    pub(super) fn checkpoint_if_due(
        &mut self,
        checkpoints: &mut CheckpointWriter<'_>,
        ahead: usize,
    ) {
        let is_dropped = |last: char| is_space(last) || is_invisible(last);
        if !checkpoints.is_due(ahead) || self.pending.chars().next_back().is_some_and(is_dropped) {
            return;
        }
        self.compose();
        if !self.is_after_space() {
            checkpoints.record(self.out.len(), ahead);
        }
    }

    /// Appends the folded form of a character, or makes the character pending if the form depends
    /// on its neighbours.
    pub(super) fn push_folded(&mut self, char: char, outcome: FoldOutcome) {
        if outcome == FoldOutcome::NeedsContext {
            self.begin_pending();
            return self.push_pending(char);
        }
        self.compose();
        match outcome {
            FoldOutcome::Final(char) | FoldOutcome::UnlessJoined(char) => self.out.push(char),
            FoldOutcome::Space => self.push_space(),
            FoldOutcome::Ellipsis => self.out.push_str("..."),
            FoldOutcome::NeedsContext => {}
        }
    }
}

impl Sink for Normalizer<'_> {
    fn push_run(&mut self, mut run: &str) {
        if run.is_ascii() {
            return self.push_ascii(run);
        }
        while !run.is_empty() && !self.is_full() {
            let ascii_len = run.bytes().take_while(u8::is_ascii).count();
            let (ascii, remaining) = run.split_at_checked(ascii_len).unwrap_or((run, ""));
            self.push_ascii(ascii);
            let non_ascii_len = non_ascii_prefix_len(remaining.as_bytes());
            let (non_ascii, remaining) =
                remaining.split_at_checked(non_ascii_len).unwrap_or((remaining, ""));
            self.push_non_ascii_run(
                non_ascii,
                remaining.bytes().next(),
                &mut CheckpointWriter::disabled(),
            );
            run = remaining;
        }
    }

    fn push_char(&mut self, char: char) {
        if char.is_ascii_control() && !is_space(char) {
            self.push_special(char);
        } else if char.is_ascii() {
            self.compose();
            if char.is_ascii_graphic() {
                self.out.push(self.fold_ascii(char));
            } else {
                self.push_special(char);
            }
        } else {
            self.begin_pending();
            self.push_pending(char);
        }
    }
}

#[cfg(test)]
pub(in crate::text) mod tests {
    use super::*;
    use crate::extract::raw_string::RawString;
    use crate::text::characters::{LOOK_ALIKES, look_alike};

    #[test]
    fn normalizes() {
        let rows = [
            ("case", "Step BY Step", "step by step"),
            ("white space", "  step \r\n\t by\u{a0}\u{3000}step  ", "step by step"),
            ("invisible", "st\u{200b}ep\u{ad} b\u{2060}y s\0tep", "step by step"),
            ("tags", "step\u{e0041}\u{e0042} by", "step by"),
            ("look-alikes", "\u{455}t\u{435}\u{440} by", "step by"),
            ("full width and styled", "\u{ff33}tep \u{1d4b7}y", "step by"),
            ("composed", "cafe\u{301} CAF\u{c9}", "caf\u{e9} caf\u{e9}"),
            ("typographic", "user\u{2019}s \u{201c}own\u{201d} \u{2014} x", "user's \"own\" - x"),
            (
                "chinese",
                "\u{4e00}\u{6b65}\u{ff0c}  \u{4e00}\u{6b65}",
                "\u{4e00}\u{6b65}, \u{4e00}\u{6b65}",
            ),
            (
                "long ascii",
                "The quick brown fox jumps over the lazy dog, twice  over.",
                "the quick brown fox jumps over the lazy dog, twice over.",
            ),
            ("dotted capital", "\u{130}stanbul", "i\u{307}stanbul"),
            ("empty", " \u{200b} ", ""),
        ];
        for (name, text, expected) in rows {
            assert_eq!(normalize(text, Case::Fold), expected, "{name}");
        }
        assert_eq!(normalize(" Chain  of\u{200b} Thought", Case::Keep), "Chain of Thought");
        assert_eq!(normalize_pattern(" Own  ", Case::Fold), " own ");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 2_000,
            failure_persistence: None,
            ..Default::default()
        })]

        /// A string is normalised to the same text in one pass and piece by piece.
        #[test]
        fn push_escaped_matches_piecewise_decoding(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60),
        ) {
            let bytes: Vec<u8> = pieces.concat();
            let raw = RawString::new(&bytes, 0);
            for prefix in ["", "e"] {
                let results = [false, true].map(|at_once| {
                    let mut out = "x ".to_owned();
                    let mut normalizer = Normalizer::new(&mut out, Case::Fold);
                    normalizer.push_run(prefix);
                    if at_once {
                        normalizer.push_escaped(raw, &mut Vec::new())
                    } else {
                        raw.decode(&mut normalizer)
                    }
                    let (range, edges) = normalizer.finish_with_edges();
                    (range, edges, out)
                });
                let text = String::from_utf8_lossy(&bytes);
                proptest::prop_assert_eq!(&results[0], &results[1], "{:?}", text);
            }
        }
    }

    pub(in crate::text) const PIECES: &[&[u8]] = &[
        "\u{314b}\u{3160}".as_bytes(),
        "\u{ac00}\u{3133}".as_bytes(),
        "\u{627}\u{670}\u{653}".as_bytes(),
        "\u{ff76}\u{ff9e}".as_bytes(),
        "\u{434}\u{43e} \u{440}\u{435}\u{43a}\u{438}, ".as_bytes(),
        "\u{4e00}\u{6b65}\u{ff0c}\u{4e00}\u{6b65}\u{3002}".as_bytes(),
        "\u{e01}\u{e48}\u{e38}".as_bytes(),
        "\u{304b}\u{3099}\u{3042}".as_bytes(),
        "\u{201c}a\u{201d} \u{2026} \u{a0}".as_bytes(),
        "\u{1f600}".as_bytes(),
        b"Step by STEP ",
        b"a",
        b"e",
        b" ",
        b"  ",
        b"        ",
        b"\\n",
        b"\\t",
        b"\\\"",
        b"\\\\",
        b"\\/",
        b"\\b",
        b"\\q",
        b"\\u0041",
        b"\\u0301",
        b"\\ud83d\\ude00",
        b"\\ud83d",
        b"\\u00",
        b"\\",
        b"\n",
        b"\t",
        b"\x01",
        b"\x7f",
        b"\x0b",
        b"\xc3\xa9",
        b"\xcc\x81",
        b"\xe4\xb8\x80",
        b"\xff",
        b"\xe2\x80\x8b",
        b"\xc2\xa0",
        b"\xe4\xb8",
        b"A longer run of plain text, which has no escapes at all and goes on for more than a \
          block or two.",
    ];

    #[test]
    fn text_beyond_the_limit_is_dropped_from_the_end() {
        for part in ["\u{3300}", "\u{bd} ", "abc ", "\u{449}", "\u{4e00}", "x\u{ff}\u{bd}"] {
            let text = part.repeat(4_000);
            let whole = normalize(&text, Case::Fold);
            for limit in [0, 1, 1_000, 5_000] {
                let mut out = String::new();
                let mut normalizer = Normalizer::new(&mut out, Case::Fold).with_limit(limit);
                let raw = RawString::new(text.as_bytes(), 0);
                normalizer.push_escaped(raw, &mut Vec::new());
                let is_full = normalizer.is_full();
                normalizer.finish();
                assert!(is_full && whole.starts_with(&out), "{part:?} to {limit}");
                assert!(out.len() >= limit.saturating_sub(1), "{part:?} to {limit}: {}", out.len());
                assert!(out.len() <= limit + 4_096, "{part:?} to {limit}: {}", out.len());
            }
        }
    }

    #[test]
    fn look_alikes_are_sorted_and_final() {
        assert!(LOOK_ALIKES.is_sorted_by_key(|(from, _)| *from));
        assert!(LOOK_ALIKES.iter().all(|(_, to)| to.is_ascii() && look_alike(*to) == *to));
    }
}
