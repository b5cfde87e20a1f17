//! Normalisation: what `contains` sees.
//!
//! Text is matched after NFKC, case folding, look-alike folding, white space runs to one space and
//! removal of invisible characters, so that `Step\u{200b} BY\n\nstep` is `step by step`. Patterns
//! are normalised the same way when a ruleset is built.
//!
//! ASCII, which most prompts are, takes a path that looks at sixteen bytes at a time; what is composed with
//! nothing is looked up (`letters`).
#![deny(clippy::arithmetic_side_effects)]

mod escaped;
mod letters;
mod sources;

use std::ops::Range;

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};

use crate::json::Sink;
use letters::{Fate, ideographs};
use sources::Trail;

pub use sources::{Mark, Sources};

/// Ends every segment in a buffer of normalised text, where control characters never occur.
pub const END: char = '\n';

/// Appends normalised text to a buffer, piece by piece; pieces may come from anywhere in a value.
#[derive(Debug)]
pub struct Normalizer<'o> {
    out: &'o mut String,
    start: usize,
    case: Case,
    /// A run that has seen a character outside ASCII and waits for its end to be composed.
    pending: String,
    edges: Edges,
}

/// Whether a value began or ended with white space, which normalisation drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// It began with white space.
    pub lead: bool,
    /// It ended with white space.
    pub trail: bool,
}

/// What becomes of upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Folded, as `contains` wants it.
    Fold,
    /// Kept, as `cased` wants it; look-alikes are kept too.
    Keep,
}

/// Normalises a whole string.
pub fn normalize(text: &str, case: Case) -> String {
    let mut out = String::with_capacity(text.len());
    let mut normalizer = Normalizer::new(&mut out, case);
    normalizer.run(text);
    normalizer.finish();
    out
}

/// Normalises a pattern: like text, but its outer spaces are part of it.
pub fn normalize_pattern(text: &str, case: Case) -> String {
    let edge = |edge: Option<char>| if edge.is_some_and(char::is_whitespace) { " " } else { "" };
    let inner = normalize(text, case);
    if inner.is_empty() {
        return edge(text.chars().next()).to_owned();
    }
    format!("{}{inner}{}", edge(text.chars().next()), edge(text.chars().next_back()))
}

/// The character that a lower-case `char` is matched as; `None` where it is not seen.
pub fn fold(char: char) -> Option<char> {
    (!is_invisible(char)).then(|| look_alike(char))
}

impl<'o> Normalizer<'o> {
    /// Appends one value to `out`.
    pub fn new(out: &'o mut String, case: Case) -> Self {
        let start = out.len();
        Self { out, start, case, pending: String::new(), edges: Edges::default() }
    }

    /// Ends the value; its range in the buffer.
    pub fn finish(self) -> Range<usize> {
        self.finish_with_edges().0
    }

    /// Ends the value; its range in the buffer, and what was dropped at its edges.
    pub fn finish_with_edges(mut self) -> (Range<usize>, Edges) {
        self.compose();
        if self.out.len() > self.start && self.out.ends_with(' ') {
            self.out.pop();
            self.edges.trail = true;
        }
        (self.start..self.out.len(), self.edges)
    }

    fn ascii(&mut self, mut run: &str) {
        while !run.is_empty() {
            let plain = plain_prefix(run.as_bytes());
            if plain > 0 {
                self.compose();
                self.plain(run.get(..plain).unwrap_or_default());
                run = run.get(plain..).unwrap_or_default();
            }
            let spaces = run.bytes().take_while(|byte| is_ascii_space(*byte)).count();
            if spaces > 0 {
                self.compose();
                self.space();
                run = run.get(spaces..).unwrap_or_default();
            } else if let Some(odd) = run.chars().next() {
                self.odd(odd);
                run = run.get(1..).unwrap_or_default();
            }
        }
    }

    /// Appends ASCII that holds no control character and no two spaces in a row.
    fn plain(&mut self, run: &str) {
        let mut run = run;
        if run.starts_with(' ') && self.after_space() {
            self.edges.lead |= self.out.len() == self.start;
            run = run.strip_prefix(' ').unwrap_or(run);
        }
        let from = self.out.len();
        self.out.push_str(run);
        if self.case == Case::Fold
            && let Some(tail) = self.out.get_mut(from..)
        {
            tail.make_ascii_lowercase();
        }
    }

    /// Appends an ASCII character that needs thought: white space or a control character.
    fn odd(&mut self, char: char) {
        if is_space(char) {
            self.space();
        } else if char.is_ascii_control() {
            // It is dropped, but only after composition: it keeps its neighbours apart.
            self.begin_pending();
            self.pending.push(char);
        } else {
            self.out.push(self.folded(char));
        }
    }

    fn folded(&self, ascii: char) -> char {
        if self.case == Case::Fold { ascii.to_ascii_lowercase() } else { ascii }
    }

    fn space(&mut self) {
        if self.out.len() == self.start {
            self.edges.lead = true;
        } else if !self.out.ends_with(' ') {
            self.out.push(' ');
        }
    }

    fn after_space(&self) -> bool {
        self.out.len() == self.start || self.out.ends_with(' ')
    }

    /// Starts a run that has to be composed; a letter before it may belong to it.
    fn begin_pending(&mut self) {
        if self.pending.is_empty()
            && self.out.len() > self.start
            && let Some(last) = self.out.chars().next_back()
            && last.is_ascii_graphic()
        {
            self.out.pop();
            self.pending.push(last);
        }
    }

    /// Appends characters outside ASCII: at once what joins nothing and is not joined by what follows, be
    /// it `then` behind them; the rest waits to be composed.
    fn others(&mut self, run: &str, then: Option<u8>, trail: &mut Trail<'_>) {
        if self.case == Case::Keep {
            self.begin_pending();
            return self.pending.push_str(run);
        }
        let mut rest = run;
        loop {
            let plain = ideographs(rest);
            if plain > 0 {
                self.mark_on(trail, 0);
                self.compose();
                self.out.push_str(rest.get(..plain).unwrap_or_default());
                rest = rest.get(plain..).unwrap_or_default();
                trail.source = trail.source.saturating_add(plain);
            }
            let Some(taken) = self.letters(rest, then, trail) else { return };
            rest = rest.get(taken..).unwrap_or_default();
            trail.source = trail.source.saturating_add(taken);
        }
    }

    /// Appends characters up to the next ideograph; how many bytes those are, if any.
    fn letters(&mut self, run: &str, then: Option<u8>, trail: &mut Trail<'_>) -> Option<usize> {
        let mut chars = run.char_indices();
        let mut at = chars.next().map(|(place, char)| (place, char, Fate::of(char)))?;
        loop {
            let next = chars.next().map(|(place, char)| (place, char, Fate::of(char)));
            let (place, char, fate) = at;
            if trail.is_due(place) && !is_space(char) && !joins_previous(char) {
                self.mark_on(trail, place);
            }
            let is_joined = matches!(fate, Fate::Letter(_))
                && match next {
                    Some((.., next)) => next == Fate::Open,
                    None => then.is_none_or(|then| then == b'\\'),
                };
            self.other(char, if is_joined { Fate::Open } else { fate });
            match next {
                Some((place, '\u{4000}'..='\u{9fff}', _)) => return Some(place),
                Some(next) => at = next,
                None => return Some(run.len()),
            }
        }
    }

    /// Marks, where one is due, that what is so many bytes further on joins nothing before it. What is before
    /// has to have become text, for what is dropped, as a row of white space, is met as a whole with what follows.
    fn mark_on(&mut self, trail: &mut Trail<'_>, further: usize) {
        let is_dropped = |last: char| is_space(last) || is_invisible(last);
        if !trail.is_due(further) || self.pending.chars().next_back().is_some_and(is_dropped) {
            return;
        }
        self.compose();
        if !self.after_space() {
            trail.mark(self.out.len(), further);
        }
    }

    fn other(&mut self, char: char, fate: Fate) {
        if fate == Fate::Open {
            self.begin_pending();
            return self.pending.push(char);
        }
        self.compose();
        match fate {
            Fate::Settled(char) | Fate::Letter(char) => self.out.push(char),
            Fate::Space => self.space(),
            Fate::Dots => self.out.push_str("..."),
            Fate::Open => {}
        }
    }

    #[inline]
    fn compose(&mut self) {
        if !self.pending.is_empty() {
            self.compose_pending();
        }
    }

    #[inline(never)]
    fn compose_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for char in NFKC.normalize(&pending).chars() {
            self.composed(char);
        }
        self.pending = pending;
        self.pending.clear();
    }

    fn composed(&mut self, char: char) {
        match char {
            '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => self.out.push(char),
            _ if is_space(char) => self.space(),
            _ if is_invisible(char) => {}
            _ if self.case == Case::Keep => self.out.push(char),
            _ => {
                for lower in char.to_lowercase() {
                    self.out.extend(fold(lower));
                }
            }
        }
    }
}

impl Sink for Normalizer<'_> {
    fn run(&mut self, mut run: &str) {
        if run.is_ascii() {
            return self.ascii(run);
        }
        while !run.is_empty() {
            let ascii = run.bytes().take_while(u8::is_ascii).count();
            let (plain, rest) = run.split_at_checked(ascii).unwrap_or((run, ""));
            self.ascii(plain);
            let others = beyond_ascii(rest.as_bytes());
            let (others, rest) = rest.split_at_checked(others).unwrap_or((rest, ""));
            self.others(others, rest.bytes().next(), &mut Trail::none());
            run = rest;
        }
    }

    fn char(&mut self, char: char) {
        if char.is_ascii() {
            self.compose();
            if char.is_ascii_graphic() {
                self.out.push(self.folded(char));
            } else {
                self.odd(char);
            }
        } else {
            self.begin_pending();
            self.pending.push(char);
        }
    }
}

/// How many leading bytes of `text` are printable ASCII, with no space after a space.
fn plain_prefix(text: &[u8]) -> usize {
    let mut plain = 0_usize;
    let shifted = text.get(1..).unwrap_or_default();
    for (block, next) in text.chunks_exact(BLOCK).zip(shifted.chunks_exact(BLOCK)) {
        let odd = block.iter().zip(next).fold(0_u8, |odd, (byte, next)| odd | is_odd(*byte, *next));
        if odd != 0 {
            break;
        }
        plain = plain.saturating_add(BLOCK);
    }
    let rest = text.get(plain..).unwrap_or_default();
    let mut pairs = rest.iter().zip(rest.iter().skip(1).chain(b"."));
    let tail = pairs.position(|(byte, next)| is_odd(*byte, *next) != 0);
    plain.saturating_add(tail.unwrap_or(rest.len()))
}

/// How many bytes at the start of a text are outside ASCII.
fn beyond_ascii(text: &[u8]) -> usize {
    let (blocks, _) = text.as_chunks::<BLOCK>();
    let is_beyond = |block: &&[u8; BLOCK]| block.iter().fold(0x80, |all, byte| all & byte) != 0;
    let blocks = blocks.iter().take_while(is_beyond).count().saturating_mul(BLOCK);
    let rest = text.get(blocks..).unwrap_or_default();
    blocks.saturating_add(rest.iter().position(u8::is_ascii).unwrap_or(rest.len()))
}

fn is_odd(byte: u8, next: u8) -> u8 {
    u8::from(byte < b' ')
        | u8::from(byte > b'~')
        | (u8::from(byte == b' ') & u8::from(next == b' '))
}

fn is_ascii_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn is_space(char: char) -> bool {
    char.is_whitespace()
}

/// Whether a character draws nothing: controls, format characters, fillers, variation selectors.
fn is_invisible(char: char) -> bool {
    matches!(char,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether `char` may change what stands before it when composed; dropped characters may.
fn joins_previous(char: char) -> bool {
    match char {
        ..'\u{80}' => false,
        // The scripts of India have their letters at the same places of blocks of 128, signs around them.
        '\u{900}'..='\u{dff}' => !(0x05..=0x39).contains(&(char as u32 & 0x7f)),
        _ => MARKS.iter().any(|marks| marks.contains(&char)) || is_invisible(char),
    }
}

/// The Latin letter or ASCII sign that `char` looks like, else `char`.
fn look_alike(char: char) -> char {
    if char < '\u{131}' {
        return char;
    }
    let found = LOOK_ALIKES.binary_search_by_key(&char, |(from, _)| *from);
    found.ok().and_then(|at| LOOK_ALIKES.get(at)).map_or(char, |(_, to)| *to)
}

const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfkc();

const BLOCK: usize = 16;

/// Where combining marks and what becomes trailing letters of Hangul syllables are; coarse, to the safe side.
const MARKS: &[std::ops::RangeInclusive<char>] = &[
    '\u{300}'..='\u{36f}',
    '\u{483}'..='\u{489}',
    '\u{591}'..='\u{5cf}',
    '\u{610}'..='\u{61a}',
    '\u{64b}'..='\u{65f}',
    '\u{670}'..='\u{670}',
    '\u{6d6}'..='\u{6ed}',
    '\u{711}'..='\u{711}',
    '\u{730}'..='\u{74a}',
    '\u{7a6}'..='\u{85b}',
    '\u{898}'..='\u{8ff}',
    '\u{e31}'..='\u{e31}',
    '\u{e33}'..='\u{e3a}',
    '\u{e47}'..='\u{e4e}',
    '\u{eb1}'..='\u{eb1}',
    '\u{eb3}'..='\u{ebc}',
    '\u{ec8}'..='\u{ece}',
    '\u{f18}'..='\u{109d}',
    '\u{1160}'..='\u{11ff}',
    '\u{135d}'..='\u{135f}',
    '\u{1714}'..='\u{1734}',
    '\u{17b4}'..='\u{17dd}',
    '\u{1a17}'..='\u{1dff}',
    '\u{20d0}'..='\u{20f0}',
    '\u{2cef}'..='\u{2cf1}',
    '\u{2d7f}'..='\u{2dff}',
    '\u{302a}'..='\u{302f}',
    '\u{3099}'..='\u{309c}',
    '\u{3131}'..='\u{318e}',
    '\u{a66f}'..='\u{abff}',
    '\u{d7b0}'..='\u{d7ff}',
    '\u{fb1e}'..='\u{fb1e}',
    '\u{fe20}'..='\u{fe2f}',
    '\u{ff9e}'..='\u{ffdc}',
    '\u{10000}'..='\u{1ffff}',
];

/// Lower-case letters of other scripts, and typographic signs, by the ASCII that they look like.
/// Chosen from Unicode's confusables (UTS #39) for what survives NFKC and lower case.
const LOOK_ALIKES: &[(char, char)] = &[
    ('\u{131}', 'i'),
    ('\u{251}', 'a'),
    ('\u{261}', 'g'),
    ('\u{269}', 'i'),
    ('\u{2bc}', '\''),
    ('\u{3b1}', 'a'),
    ('\u{3b5}', 'e'),
    ('\u{3b9}', 'i'),
    ('\u{3ba}', 'k'),
    ('\u{3bd}', 'v'),
    ('\u{3bf}', 'o'),
    ('\u{3c1}', 'p'),
    ('\u{3c4}', 't'),
    ('\u{3c5}', 'u'),
    ('\u{3c7}', 'x'),
    ('\u{3f2}', 'c'),
    ('\u{3f3}', 'j'),
    ('\u{430}', 'a'),
    ('\u{432}', 'b'),
    ('\u{435}', 'e'),
    ('\u{43a}', 'k'),
    ('\u{43c}', 'm'),
    ('\u{43d}', 'h'),
    ('\u{43e}', 'o'),
    ('\u{440}', 'p'),
    ('\u{441}', 'c'),
    ('\u{442}', 't'),
    ('\u{443}', 'y'),
    ('\u{445}', 'x'),
    ('\u{455}', 's'),
    ('\u{456}', 'i'),
    ('\u{458}', 'j'),
    ('\u{475}', 'v'),
    ('\u{4bb}', 'h'),
    ('\u{4cf}', 'l'),
    ('\u{501}', 'd'),
    ('\u{51b}', 'q'),
    ('\u{51d}', 'w'),
    ('\u{570}', 'h'),
    ('\u{578}', 'n'),
    ('\u{57d}', 'u'),
    ('\u{585}', 'o'),
    ('\u{2010}', '-'),
    ('\u{2011}', '-'),
    ('\u{2012}', '-'),
    ('\u{2013}', '-'),
    ('\u{2014}', '-'),
    ('\u{2015}', '-'),
    ('\u{2018}', '\''),
    ('\u{2019}', '\''),
    ('\u{201a}', '\''),
    ('\u{201b}', '\''),
    ('\u{201c}', '"'),
    ('\u{201d}', '"'),
    ('\u{201e}', '"'),
    ('\u{2032}', '\''),
    ('\u{2033}', '"'),
    ('\u{2212}', '-'),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Raw;

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
            ("nothing", " \u{200b} ", ""),
        ];
        for (name, text, expected) in rows {
            assert_eq!(normalize(text, Case::Fold), expected, "{name}");
        }
        assert_eq!(normalize(" Chain  of\u{200b} Thought", Case::Keep), "Chain of Thought");
        assert_eq!(normalize_pattern(" Own  ", Case::Fold), " own ");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

        /// In one go or piece by piece, a string becomes the same text.
        #[test]
        fn strings_are_normalised_in_one_go_as_piece_by_piece(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60),
        ) {
            let bytes: Vec<u8> = pieces.concat();
            let raw = Raw::new(&bytes, 0);
            for before in ["", "e"] {
                let both = [false, true].map(|at_once| {
                    let mut out = "x ".to_owned();
                    let mut normalizer = Normalizer::new(&mut out, Case::Fold);
                    normalizer.run(before);
                    if at_once { normalizer.escaped(raw, &mut Vec::new()) } else { raw.decode(&mut normalizer) }
                    let (range, edges) = normalizer.finish_with_edges();
                    (range, edges, out)
                });
                proptest::prop_assert_eq!(&both[0], &both[1], "{:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    pub(super) const PIECES: &[&[u8]] = &[
        "\u{314b}\u{3160}".as_bytes(), "\u{ac00}\u{3133}".as_bytes(), "\u{627}\u{670}\u{653}".as_bytes(), "\u{ff76}\u{ff9e}".as_bytes(),
        "\u{434}\u{43e} \u{440}\u{435}\u{43a}\u{438}, ".as_bytes(), "\u{4e00}\u{6b65}\u{ff0c}\u{4e00}\u{6b65}\u{3002}".as_bytes(), "\u{e01}\u{e48}\u{e38}".as_bytes(),
        "\u{304b}\u{3099}\u{3042}".as_bytes(), "\u{201c}a\u{201d} \u{2026} \u{a0}".as_bytes(), "\u{1f600}".as_bytes(),
        b"Step by STEP ", b"a", b"e", b" ", b"  ", b"        ", b"\\n", b"\\t", b"\\\"", b"\\\\", b"\\/", b"\\b", b"\\q",
        b"\\u0041", b"\\u0301", b"\\ud83d\\ude00", b"\\ud83d", b"\\u00", b"\\", b"\n", b"\t", b"\x01", b"\x7f", b"\x0b",
        b"\xc3\xa9", b"\xcc\x81", b"\xe4\xb8\x80", b"\xff", b"\xe2\x80\x8b", b"\xc2\xa0", b"\xe4\xb8",
        b"A longer run of plain text, which has no escapes at all and goes on for more than a block or two.",
    ];

    #[test]
    fn what_joins_nothing_is_composed_by_itself() {
        let before = [
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
        let composed = before.map(|before| NFKC.normalize(before).into_owned());
        for char in ('\0'..='\u{1ffff}').filter(|char| !joins_previous(*char)) {
            let own = char.to_string();
            let own_composed = NFKC.normalize(&own);
            for (before, composed) in before.iter().zip(&composed) {
                let both = format!("{before}{own}");
                let apart = format!("{composed}{own_composed}");
                assert_eq!(NFKC.normalize(&both), apart, "{before:?} and {char:?}");
            }
        }
    }

    #[test]
    fn look_alikes_are_sorted_and_final() {
        assert!(LOOK_ALIKES.is_sorted_by_key(|(from, _)| *from));
        assert!(LOOK_ALIKES.iter().all(|(_, to)| to.is_ascii() && look_alike(*to) == *to));
    }
}
