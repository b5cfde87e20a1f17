//! From normalised text back to the body: where what was found came from.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::{Case, Normalizer, joins_previous, plain_prefix};
use crate::json::{Piece, Raw, Sink};

/// How far normalisation had come at some place, for those who come back to it: up to here the bytes of
/// the body make the text up to there, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Bytes of the buffer of normalised text.
    pub text: usize,
    /// Bytes of the body.
    pub source: usize,
}

/// What is marked while text of the body is appended as it stands.
pub(super) struct Trail<'m> {
    /// Where marks are kept, if they are.
    marks: Option<&'m mut Vec<Mark>>,
    /// Where in the body the text began.
    start: usize,
    /// Where in the body that is which is appended next.
    pub source: usize,
}

impl<'m> Trail<'m> {
    /// Of text that begins at some byte of the body.
    pub fn new(marks: &'m mut Vec<Mark>, source: usize) -> Self {
        Self { marks: Some(marks), start: source, source }
    }

    /// Of text that stands in no body.
    pub fn none() -> Self {
        Self { marks: None, start: 0, source: 0 }
    }

    /// Whether the next mark may stand so many bytes further on; behind the start of the text, that is.
    pub fn is_due(&self, further: usize) -> bool {
        let Some(marks) = &self.marks else { return false };
        let last = marks.last().map_or(0, |last| last.source.saturating_add(MARKED));
        self.source.saturating_add(further) >= last.max(self.start.saturating_add(1))
    }

    /// Marks that so many bytes further on the text goes on from its byte `text`.
    pub fn mark(&mut self, text: usize, further: usize) {
        if let Some(marks) = &mut self.marks {
            marks.push(Mark { text, source: self.source.saturating_add(further) });
        }
    }
}

/// Bytes of the body between two marks, at least.
pub(super) const MARKED: usize = 512;

/// From normalised text back to the body: where stretches of a value came from.
#[derive(Debug)]
pub struct Sources {
    stretches: Vec<Stretch>,
    end: usize,
}

/// Normalised bytes from `at` on came from the body's bytes in `source`; byte by byte if `is_plain`.
#[derive(Debug)]
struct Stretch {
    at: usize,
    source: Range<usize>,
    is_plain: bool,
}

/// Adds a stretch; one that adds nothing to the text, such as a further space, is joined to the last.
fn add(stretches: &mut Vec<Stretch>, mut stretch: Stretch) {
    if let Some(last) = stretches.last_mut() {
        stretch.at = stretch.at.max(last.at);
        if !last.is_plain
            && !stretch.is_plain
            && last.at == stretch.at
            && last.source.end == stretch.source.start
        {
            last.source.end = stretch.source.end;
            return;
        }
    }
    stretches.push(stretch);
}

impl Sources {
    /// Normalises a value again as far as is needed to say where its normalised bytes `wanted` came
    /// from, keeping score. `value` is its normalised text, which begins at byte `base` of the buffer
    /// that the `marks` within it count in.
    pub fn new(
        raw: Raw<'_>,
        value: &str,
        base: usize,
        marks: &[Mark],
        mut wanted: Vec<usize>,
    ) -> Self {
        wanted.sort_unstable();
        let own = |mark: &Mark| Mark { text: mark.text.saturating_sub(base), ..*mark };
        let marks: Vec<Mark> = marks.iter().map(own).collect();
        let mut sources = Self { stretches: Vec::new(), end: raw.range().end };
        let start = Mark { text: 0, source: raw.range().start };
        let mut next: Option<(Mark, usize)> = None;
        for until in wanted {
            let after = marks.partition_point(|mark| mark.text <= until);
            let mark = after.checked_sub(1).and_then(|at| marks.get(at)).copied().unwrap_or(start);
            next = Some(match next {
                // Stretches that overlap are gone through once.
                Some((from, end)) if mark.text <= end => (from, until),
                Some((from, end)) => {
                    sources.add(raw, value, &marks, from, end);
                    (mark, until)
                }
                None => (mark, until),
            });
        }
        if let Some((from, end)) = next {
            sources.add(raw, value, &marks, from, end);
        }
        sources
    }

    /// Goes through a value from a mark to its normalised byte `until`.
    fn add(&mut self, raw: Raw<'_>, value: &str, marks: &[Mark], from: Mark, until: usize) {
        let behind = marks.partition_point(|mark| mark.text <= until);
        let end = marks.get(behind).map_or(raw.range().end, |mark| mark.source);
        // What follows may depend on the last character before.
        let last = value.get(..from.text).and_then(|before| before.chars().next_back());
        let mut out = last.map(String::from).unwrap_or_default();
        let base = from.text.saturating_sub(out.len());
        let mut normalizer = Normalizer { start: 0, ..Normalizer::new(&mut out, Case::Fold) };
        let stretches = &mut self.stretches;
        raw.part(from.source..end).pieces(|piece, range| {
            if base.saturating_add(normalizer.out.len()) > until {
                return;
            }
            match piece {
                Piece::Char(char) => {
                    let at = base.saturating_add(normalizer.boundary(char));
                    add(stretches, Stretch { at, source: range, is_plain: false });
                    normalizer.char(char);
                }
                Piece::Run(run) => normalizer.note(run, range.start, base..until, stretches),
            }
        });
    }

    /// The range in the body from which the normalised bytes `part` were made.
    pub fn find(&self, part: Range<usize>) -> Range<usize> {
        let holding = |at: usize| {
            let after = self.stretches.partition_point(|stretch| stretch.at <= at);
            self.stretches.get(after.checked_sub(1)?)
        };
        let start = holding(part.start).map_or(self.end, |stretch| {
            let inside = part.start.saturating_sub(stretch.at);
            let plain = stretch.source.start.saturating_add(inside);
            if stretch.is_plain { plain.min(stretch.source.end) } else { stretch.source.start }
        });
        let end = holding(part.end.saturating_sub(1)).map_or(self.end, |stretch| {
            let inside = part.end.saturating_sub(stretch.at);
            let plain = stretch.source.start.saturating_add(inside);
            if stretch.is_plain { plain.min(stretch.source.end) } else { stretch.source.end }
        });
        start.min(end)..end
    }
}

impl Normalizer<'_> {
    /// Composes what is pending if `next` cannot change it; the length of the value so far.
    fn boundary(&mut self, next: char) -> usize {
        if !joins_previous(next) {
            self.compose();
        }
        self.out.len().saturating_sub(self.start)
    }

    /// Appends a run that stands at byte `start` of the body, noting its stretches, which begin at the first byte of
    /// `bytes` and are wanted up to the last.
    fn note(
        &mut self,
        mut run: &str,
        mut start: usize,
        bytes: Range<usize>,
        stretches: &mut Vec<Stretch>,
    ) {
        let mut ascii = 0_usize;
        while let Some(first) = run.chars().next() {
            if ascii == 0 {
                ascii = run.bytes().take_while(u8::is_ascii).count();
            }
            let plain = plain_prefix(run.as_bytes().get(..ascii).unwrap_or_default());
            // A space at the edge may be dropped; by itself it is no plain stretch.
            let is_plain = plain > 0 && first != ' ';
            let length = if is_plain { plain } else { first.len_utf8() };
            let (stretch, rest) = run.split_at_checked(length).unwrap_or((run, ""));
            let end = start.saturating_add(length);
            let at = bytes.start.saturating_add(self.boundary(first));
            add(stretches, Stretch { at, source: start..end, is_plain });
            if at > bytes.end {
                return;
            }
            self.run(stretch);
            ascii = ascii.saturating_sub(length);
            (run, start) = (rest, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::PIECES;
    use super::*;

    /// Else what stands at the end of a long value is located by going through all of it.
    #[test]
    fn marks_stand_in_text_of_any_kind() {
        for part in [
            "step by step ",
            "d\u{e9}j\u{e0} vu ",
            "\u{449}",
            "\u{4e00}",
            "\u{4e00}\u{ff0c}",
            "\u{ac00}",
            "\u{e01}\u{e48}",
            "\u{915}\u{94d}",
        ] {
            let text = part.repeat(20_000 / part.len());
            let mut marks = Vec::new();
            let mut out = String::new();
            Normalizer::new(&mut out, Case::Fold).escaped(Raw::new(text.as_bytes(), 0), &mut marks);
            let most = marks.windows(2).map(|pair| pair[1].source - pair[0].source).max();
            assert!(most.is_some_and(|most| most < 3 * MARKED), "{part:?}: {most:?}");
        }
    }

    /// A mark behind what is dropped would cut it off what it is met with.
    #[test]
    fn no_mark_stands_behind_what_is_dropped() {
        for part in ["\u{4e00}\u{200b}", "\u{449}\u{200b}", "\u{449}\u{449} \u{200b} "] {
            let text = part.repeat(400);
            let raw = Raw::new(text.as_bytes(), 0);
            let (mut out, mut marks) = (String::new(), Vec::new());
            let mut normalizer = Normalizer::new(&mut out, Case::Fold);
            normalizer.escaped(raw, &mut marks);
            normalizer.finish();
            let wanted: Vec<usize> = (0..out.len()).collect();
            for at in wanted.iter().copied().step_by(7) {
                let [with, without] = [marks.as_slice(), &[]]
                    .map(|marks| Sources::new(raw, &out, 0, marks, vec![at]).find(at..at + 1));
                assert_eq!(with, without, "{at} of {part:?}");
            }
        }
    }

    #[test]
    fn locates_what_was_found_in_the_body() {
        let rows = [
            (r"say Step\n\nBY  step now", "step by step", r"Step\n\nBY  step"),
            ("x \u{ff33}te\u{200b}p by step.", "step by step", "\u{ff33}te\u{200b}p by step"),
            (
                "\u{8bf7}\u{4e00}\u{6b65}\u{4e00}\u{6b65}\u{601d}\u{8003}",
                "\u{4e00}\u{6b65}\u{601d}",
                "\u{4e00}\u{6b65}\u{601d}",
            ),
            (r"\u0053\u0074ep up", "step", r"\u0053\u0074ep"),
        ];
        for (raw, pattern, expected) in rows {
            let raw = Raw::new(raw.as_bytes(), 0);
            let mut out = String::new();
            let mut normalizer = Normalizer::new(&mut out, Case::Fold);
            normalizer.escaped(raw, &mut Vec::new());
            normalizer.finish();
            let at = out.find(pattern).unwrap();
            let part = at..at + pattern.len();
            let found = Sources::new(raw, &out, 0, &[], vec![part.start, part.end - 1]).find(part);
            assert_eq!(std::str::from_utf8(&raw.bytes()[found]).unwrap(), expected);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

        /// With marks or without, what was found is located at the same bytes.
        #[test]
        fn marks_change_no_source(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..300),
            wanted in proptest::collection::vec(proptest::prelude::any::<proptest::sample::Index>(), 1..8),
        ) {
            let bytes: Vec<u8> = pieces.concat();
            let raw = Raw::new(&bytes, 7);
            let (mut out, mut marks) = ("x ".to_owned(), Vec::new());
            let mut normalizer = Normalizer::new(&mut out, Case::Fold);
            normalizer.escaped(raw, &mut marks);
            let range = normalizer.finish();
            let value = &out[range.clone()];
            let wanted: Vec<usize> =
                wanted.iter().map(|at| at.index(value.len().saturating_add(1))).collect();
            let with = Sources::new(raw, value, range.start, &marks, wanted.clone());
            let without = Sources::new(raw, value, range.start, &[], wanted.clone());
            for at in wanted {
                let part = at..at.saturating_add(1);
                proptest::prop_assert_eq!(with.find(part.clone()), without.find(part), "{} of {}", at, value);
            }
        }
    }
}
