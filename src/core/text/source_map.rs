//! The source map: maps ranges of normalised text back to ranges of the body, for evidence.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::characters::{joins_previous, plain_prefix_len};
use super::checkpoint::Checkpoint;
use super::normalize::{Case, Normalizer};
use crate::extract::raw_string::{Piece, RawString, Sink};

/// A map from offsets in the normalised text of a value to byte ranges of the body.
#[derive(Debug)]
pub struct SourceMap {
    /// Ranges in ascending order of `text_start`.
    ranges: Vec<SourceRange>,
    /// Byte offset in the body at which the value ends.
    source_end: usize,
}

/// A mapped range: text from `text_start` on came from `source`, byte by byte if `is_bytewise`,
/// else as a whole.
#[derive(Debug)]
struct SourceRange {
    text_start: usize,
    source: Range<usize>,
    is_bytewise: bool,
}

/// Adds a range. A range that adds nothing to the text, such as a repeated space, is merged with
/// the last range, and so is every range beyond [`MAX_RANGES`].
fn push_range(ranges: &mut Vec<SourceRange>, mut range: SourceRange) {
    let is_full = ranges.len() >= MAX_RANGES;
    if let Some(last) = ranges.last_mut() {
        range.text_start = range.text_start.max(last.text_start);
        let adds_nothing = !last.is_bytewise
            && !range.is_bytewise
            && last.text_start == range.text_start
            && last.source.end == range.source.start;
        if adds_nothing || is_full {
            last.source.end = range.source.end;
            last.is_bytewise = false;
            return;
        }
    }
    ranges.push(range);
}

/// Maximum number of ranges of a map. A long run of marks needs this limit, because it has no
/// checkpoints and one range per mark.
const MAX_RANGES: usize = 16_384;

impl SourceMap {
    /// Normalises a value again, from the nearest checkpoints, to map its bytes at `offsets`.
    ///
    /// `value` is the normalised text of the value, which begins at byte `base` of the buffer to
    /// which the offsets of `checkpoints` refer. Each checkpoint must lie within the value.
    pub fn new(
        raw: RawString<'_>,
        value: &str,
        base: usize,
        checkpoints: &[Checkpoint],
        mut offsets: Vec<usize>,
    ) -> Self {
        offsets.sort_unstable();
        let rebase = |checkpoint: &Checkpoint| Checkpoint {
            text_offset: checkpoint.text_offset.saturating_sub(base),
            ..*checkpoint
        };
        let checkpoints: Vec<Checkpoint> = checkpoints.iter().map(rebase).collect();
        let mut source_map = Self { ranges: Vec::new(), source_end: raw.range().end };
        let start = Checkpoint { text_offset: 0, source_offset: raw.range().start };
        let mut pending: Option<(Checkpoint, usize)> = None;
        for offset in offsets {
            let after = checkpoints.partition_point(|checkpoint| checkpoint.text_offset <= offset);
            let checkpoint = after
                .checked_sub(1)
                .and_then(|index| checkpoints.get(index))
                .copied()
                .unwrap_or(start);
            pending = Some(match pending {
                // Overlapping ranges are normalised once.
                Some((from, end)) if checkpoint.text_offset <= end => (from, offset),
                Some((from, end)) => {
                    source_map.extend(raw, value, &checkpoints, from, end);
                    (checkpoint, offset)
                }
                None => (checkpoint, offset),
            });
        }
        if let Some((from, end)) = pending {
            source_map.extend(raw, value, &checkpoints, from, end);
        }
        source_map
    }

    /// Maps a value from a checkpoint to byte `end_offset` of its normalised text.
    fn extend(
        &mut self,
        raw: RawString<'_>,
        value: &str,
        checkpoints: &[Checkpoint],
        from: Checkpoint,
        end_offset: usize,
    ) {
        let end_index =
            checkpoints.partition_point(|checkpoint| checkpoint.text_offset <= end_offset);
        let end = checkpoints
            .get(end_index)
            .map_or(raw.range().end, |checkpoint| checkpoint.source_offset);
        // The next character may compose with the last character before the checkpoint.
        let last = value.get(..from.text_offset).and_then(|before| before.chars().next_back());
        let mut out = last.map(String::from).unwrap_or_default();
        let base = from.text_offset.saturating_sub(out.len());
        let mut normalizer = Normalizer { value_start: 0, ..Normalizer::new(&mut out, Case::Fold) };
        let ranges = &mut self.ranges;
        raw.slice(from.source_offset..end).decode_with_ranges(|piece, range| {
            if base.saturating_add(normalizer.out.len()) > end_offset {
                return;
            }
            match piece {
                Piece::Char(char) => {
                    let text_start = base.saturating_add(normalizer.compose_before(char));
                    push_range(
                        ranges,
                        SourceRange { text_start, source: range, is_bytewise: false },
                    );
                    normalizer.push_char(char);
                }
                Piece::Run(run) => {
                    normalizer.push_mapped_run(run, range.start, base..end_offset, ranges)
                }
            }
        });
    }

    /// Returns the range of the body that produced a range of the normalised text. An offset that
    /// is not mapped counts as the end of the value.
    pub fn source_range(&self, text_range: Range<usize>) -> Range<usize> {
        let range_at = |offset: usize| {
            let after = self.ranges.partition_point(|range| range.text_start <= offset);
            self.ranges.get(after.checked_sub(1)?)
        };
        let start = range_at(text_range.start).map_or(self.source_end, |range| {
            let offset = text_range.start.saturating_sub(range.text_start);
            let bytewise = range.source.start.saturating_add(offset);
            if range.is_bytewise { bytewise.min(range.source.end) } else { range.source.start }
        });
        let end = range_at(text_range.end.saturating_sub(1)).map_or(self.source_end, |range| {
            let offset = text_range.end.saturating_sub(range.text_start);
            let bytewise = range.source.start.saturating_add(offset);
            if range.is_bytewise { bytewise.min(range.source.end) } else { range.source.end }
        });
        start.min(end)..end
    }
}

impl Normalizer<'_> {
    /// Composes the pending characters if `next` cannot change them. Returns the length of the
    /// value so far.
    fn compose_before(&mut self, next: char) -> usize {
        if !joins_previous(next) {
            self.compose();
        }
        self.out.len().saturating_sub(self.value_start)
    }

    /// Appends a run at byte `start` of the body and adds its ranges to `ranges`.
    ///
    /// The buffer begins at the start of `text_range`; text after its end needs no map.
    fn push_mapped_run(
        &mut self,
        mut run: &str,
        mut start: usize,
        text_range: Range<usize>,
        ranges: &mut Vec<SourceRange>,
    ) {
        let mut ascii_len = 0_usize;
        while let Some(first) = run.chars().next() {
            if ascii_len == 0 {
                ascii_len = run.bytes().take_while(u8::is_ascii).count();
            }
            let plain_len = plain_prefix_len(run.as_bytes().get(..ascii_len).unwrap_or_default());
            // A space at the start of a chunk may be dropped, so it gets a separate range.
            let is_bytewise = plain_len > 0 && first != ' ';
            let length = if is_bytewise { plain_len } else { first.len_utf8() };
            let (chunk, remaining) = run.split_at_checked(length).unwrap_or((run, ""));
            let end = start.saturating_add(length);
            let text_start = text_range.start.saturating_add(self.compose_before(first));
            push_range(ranges, SourceRange { text_start, source: start..end, is_bytewise });
            if text_start > text_range.end {
                return;
            }
            self.push_run(chunk);
            ascii_len = ascii_len.saturating_sub(length);
            run = remaining;
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::checkpoint::CHECKPOINT_INTERVAL;
    use crate::text::normalize::tests::PIECES;

    /// Without checkpoints, the whole of a long value must be normalised to locate evidence at its
    /// end.
    #[test]
    fn checkpoints_are_recorded_in_every_script() {
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
            let mut checkpoints = Vec::new();
            let mut out = String::new();
            Normalizer::new(&mut out, Case::Fold)
                .push_escaped(RawString::new(text.as_bytes(), 0), &mut checkpoints);
            let max_gap = checkpoints
                .windows(2)
                .map(|pair| pair[1].source_offset - pair[0].source_offset)
                .max();
            assert!(
                max_gap.is_some_and(|gap| gap < 3 * CHECKPOINT_INTERVAL),
                "{part:?}: {max_gap:?}"
            );
        }
    }

    /// A checkpoint after dropped characters would separate them from the text that they affect.
    #[test]
    fn no_checkpoint_follows_dropped_characters() {
        for part in ["\u{4e00}\u{200b}", "\u{449}\u{200b}", "\u{449}\u{449} \u{200b} "] {
            let text = part.repeat(400);
            let raw = RawString::new(text.as_bytes(), 0);
            let (mut out, mut checkpoints) = (String::new(), Vec::new());
            let mut normalizer = Normalizer::new(&mut out, Case::Fold);
            normalizer.push_escaped(raw, &mut checkpoints);
            normalizer.finish();
            let offsets: Vec<usize> = (0..out.len()).collect();
            for offset in offsets.iter().copied().step_by(7) {
                let [with_checkpoints, without_checkpoints] =
                    [checkpoints.as_slice(), &[]].map(|checkpoints| {
                        SourceMap::new(raw, &out, 0, checkpoints, vec![offset])
                            .source_range(offset..offset + 1)
                    });
                assert_eq!(with_checkpoints, without_checkpoints, "{offset} of {part:?}");
            }
        }
    }

    #[test]
    fn matches_map_back_to_the_body() {
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
            let raw = RawString::new(raw.as_bytes(), 0);
            let mut out = String::new();
            let mut normalizer = Normalizer::new(&mut out, Case::Fold);
            normalizer.push_escaped(raw, &mut Vec::new());
            normalizer.finish();
            let position = out.find(pattern).unwrap();
            let text_range = position..position + pattern.len();
            let source_range =
                SourceMap::new(raw, &out, 0, &[], vec![text_range.start, text_range.end - 1])
                    .source_range(text_range);
            assert_eq!(std::str::from_utf8(&raw.bytes()[source_range]).unwrap(), expected);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 1_000,
            failure_persistence: None,
            ..Default::default()
        })]

        /// Evidence has the same location with checkpoints and without.
        #[test]
        fn checkpoints_do_not_change_source_ranges(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..300),
            wanted in proptest::collection::vec(
                proptest::prelude::any::<proptest::sample::Index>(),
                1..8,
            ),
        ) {
            let bytes: Vec<u8> = pieces.concat();
            let raw = RawString::new(&bytes, 7);
            let (mut out, mut checkpoints) = ("x ".to_owned(), Vec::new());
            let mut normalizer = Normalizer::new(&mut out, Case::Fold);
            normalizer.push_escaped(raw, &mut checkpoints);
            let range = normalizer.finish();
            let value = &out[range.clone()];
            let offsets: Vec<usize> =
                wanted.iter().map(|index| index.index(value.len().saturating_add(1))).collect();
            let with_checkpoints =
                SourceMap::new(raw, value, range.start, &checkpoints, offsets.clone());
            let without_checkpoints = SourceMap::new(raw, value, range.start, &[], offsets.clone());
            for offset in offsets {
                let text_range = offset..offset.saturating_add(1);
                proptest::prop_assert_eq!(
                    with_checkpoints.source_range(text_range.clone()),
                    without_checkpoints.source_range(text_range),
                    "{} of {}",
                    offset,
                    value
                );
            }
        }
    }
}
