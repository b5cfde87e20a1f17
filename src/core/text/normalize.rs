//! The normaliser: appends text to a buffer, folded, composed and without invisible characters.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::characters::{
    CANONICAL_COMPOSITION, NFKC, expands_too_far, fold_char, is_ascii_space, is_invisible,
    is_space, joins_previous, non_ascii_prefix_len, plain_prefix_len,
};
use super::checkpoint::CheckpointWriter;
use super::precomposed::{FoldOutcome, ideograph_prefix_len};
use crate::extract::raw_string::Sink;

/// Ends every segment in a buffer of normalised text, where control characters never occur.
pub const SEGMENT_END: char = '\n';

/// A normaliser of one value, which appends its pieces to a buffer. A value may be split into
/// pieces at any character.
#[derive(Debug)]
pub struct Normalizer<'o> {
    pub(super) out: &'o mut String,
    pub(super) value_start: usize,
    pub(super) case: Case,
    /// Characters that are composed together once their run has ended.
    pub(super) pending: String,
    /// Number of characters at the end of `pending` that may join a character before them.
    pub(super) joining_count: usize,
    /// Buffer of composed characters.
    pub(super) composed: String,
    /// Bytes of `out` from which on no text is appended.
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
    /// Fold both, the default of comparisons.
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

/// Normalises a pattern. Unlike in text, white space at its edges is kept, as one space.
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

    /// Limits the buffer to about `limit` bytes: text beyond is dropped, from the end of the value.
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Returns whether the buffer has reached its limit.
    pub fn is_full(&self) -> bool {
        self.out.len() >= self.limit
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
            // The character is dropped only after composition, in which it separates its
            // neighbours. One separates as well as many.
            if !self.pending.ends_with(|last: char| last.is_ascii_control()) {
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

    /// Appends a space, unless at the start of the value or after another.
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

    /// Starts a run to compose. It begins with the ASCII character before it, which a mark may
    /// join.
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
    /// Bounds their number: those before a character that joins nothing can be composed at any
    /// time, and a run of characters that may join is split, as in the Stream-Safe Text Format
    /// (Unicode Standard Annex #15). The split depends on nothing but the run.
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

    /// Appends characters outside ASCII, which `next_byte` follows.
    ///
    /// Characters that neither join nor are joined are appended at once; the rest waits for
    /// composition.
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

    /// Records a checkpoint, if one is due, before a character `ahead` bytes further on that joins
    /// nothing before it.
    ///
    /// It records none after dropped characters or white space, which must be normalised together
    /// with the text that follows.
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

    /// Appends a character by its outcome, or adds it to the pending characters.
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
        if let Some(char) = compose_pair(&pending) {
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

/// Returns the character that an ASCII letter and an accent compose to, if `text` is such a pair:
/// the usual form of decomposed text.
fn compose_pair(text: &str) -> Option<char> {
    let mut chars = text.chars();
    let letter = chars.next().filter(char::is_ascii_alphabetic)?;
    // The marks in this range have no decomposition of their own.
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

/// Maximum number of characters in a row that are composed with a character before them. The
/// Stream-Safe Text Format allows 30 marks; `joins_previous` holds for whole scripts.
const MAX_JOINING_CHARS: usize = 128;

/// Bytes of pending characters from which on they are composed as soon as possible.
const MAX_PENDING_BYTES: usize = 256;

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

        /// A string becomes the same text in one pass and piece by piece.
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

    /// A run of marks is composed in pieces. Composing all of it takes memory for all of it, and
    /// sorts it.
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
