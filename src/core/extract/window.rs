//! The scan window: only the beginning and the end of a long text are scored.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::issues::ReadIssues;
use super::request::Request;
use super::segment::{Segment, Source};
use crate::text::SEGMENT_END;

impl Request<'_> {
    /// Removes the middle of the text, so that at most `window` bytes are left: half of them from
    /// the beginning, half from the end. If text is removed, records [`ReadIssues::WINDOW`].
    pub(super) fn keep_window(&mut self, window: usize) {
        if self.text.len() <= window {
            return;
        }
        self.issues.insert(ReadIssues::WINDOW);
        let half = window / 2;
        let removed = self.middle(half);
        self.segments = std::mem::take(&mut self.segments)
            .into_iter()
            .flat_map(|segment| parts_outside(segment, &removed))
            .collect();
        // The cut may be in the middle of a segment, but the text of each segment must end with
        // this character.
        let mut end = [0; 1];
        self.text.replace_range(removed.clone(), SEGMENT_END.encode_utf8(&mut end));
        let shift = removed.len().saturating_sub(end.len());
        self.checkpoints.retain_mut(|checkpoint| {
            if checkpoint.text_offset >= removed.end {
                checkpoint.text_offset = checkpoint.text_offset.saturating_sub(shift);
                return true;
            }
            checkpoint.text_offset <= removed.start
        });
    }
}

impl Request<'_> {
    /// Returns the range of the text between its first and its last `half` bytes. The range
    /// includes the end characters of segments at its edges.
    fn middle(&self, half: usize) -> Range<usize> {
        let start = self.text.floor_char_boundary(half);
        let end = self.text.ceil_char_boundary(self.text.len().saturating_sub(half));
        let (before, after) = (self.text.get(..start), self.text.get(end..));
        let is_after_end = before.is_some_and(|text| text.ends_with(SEGMENT_END));
        let is_before_end = after.is_some_and(|text| text.starts_with(SEGMENT_END));
        start.saturating_sub(usize::from(is_after_end))
            ..end.saturating_add(usize::from(is_before_end))
    }
}

/// Returns the parts of a segment before and after a removed range of the text. Ranges after the
/// removed range are shifted, because one character replaces the removed text.
fn parts_outside<'a>(
    segment: Segment<'a>,
    removed: &Range<usize>,
) -> impl Iterator<Item = Segment<'a>> + use<'a> {
    let Range { start, end } = segment.range.clone();
    let moved =
        |offset: usize| offset.saturating_sub(removed.len()).saturating_add(SEGMENT_END.len_utf8());
    let head = (start < removed.start)
        .then(|| Segment { range: start..end.min(removed.start), ..segment.clone() });
    let tail = (end > removed.end).then(|| {
        let is_whole = start >= removed.end;
        let range = moved(start.max(removed.end))..moved(end);
        // Offsets in the end of a cut segment do not count from the start of the segment's string,
        // so the evidence is the whole string.
        let source = if is_whole { segment.source } else { Source::Joined(segment.source.range()) };
        Segment { range, source, ..segment }
    });
    head.into_iter().chain(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::raw_string::RawString;
    use crate::field::Section;

    fn windowed(texts: &[&str], window: usize) -> (Vec<String>, ReadIssues) {
        let mut request = Request::default();
        let mut offset = 0;
        for text in texts {
            request.push_text(Section::User, RawString::new(text.as_bytes(), offset), true);
            offset = text.len().saturating_add(offset);
        }
        request.keep_window(window);
        let segments = request.segments();
        for pair in segments.windows(2) {
            assert_eq!(pair[0].range.end.saturating_add(1), pair[1].range.start);
        }
        let texts = segments.iter().map(|segment| request.text()[segment.range.clone()].to_owned());
        assert!(
            segments.iter().all(|segment| request.text()[segment.range.end..].starts_with('\n'))
        );
        (texts.collect(), request.issues())
    }

    #[test]
    fn the_middle_is_removed() {
        let rows: [(&str, &[&str], usize, &[&str]); 6] = [
            ("short", &["one", "two"], 8, &["one", "two"]),
            ("between segments", &["one", "two", "six"], 8, &["one", "six"]),
            ("within a segment", &["abcdefghijklmnop"], 8, &["abcd", "nop"]),
            ("within two segments", &["abcdefgh", "ijklmnop"], 8, &["abcd", "nop"]),
            ("characters are whole", &["\u{e9}\u{e9}\u{e9}\u{e9}"], 6, &["\u{e9}", "\u{e9}"]),
            ("no window", &["abc"], 0, &[]),
        ];
        for (name, texts, window, expected) in rows {
            let (kept, issues) = windowed(texts, window);
            assert_eq!(kept, expected, "{name}");
            assert_eq!(issues == ReadIssues::WINDOW, name != "short", "{name}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            failure_persistence: None,
            ..Default::default()
        })]

        /// The remaining text has at most `window` bytes, and begins and ends like the whole text.
        #[test]
        fn both_ends_are_kept(
            texts in proptest::collection::vec("[a-z\u{e9}\u{4e00}]{1,12}", 1..8),
            window in 2_usize..64,
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (all, _) = windowed(&texts, usize::MAX);
            let (kept, issues) = windowed(&texts, window);
            let (all, kept) = (all.concat(), kept.concat());
            if issues.is_empty() {
                proptest::prop_assert_eq!(all, kept);
            } else {
                proptest::prop_assert!(kept.len() <= window);
                let common = all.chars().zip(kept.chars()).take_while(|(a, b)| a == b).count();
                let rest: String = kept.chars().skip(common).collect();
                proptest::prop_assert!(all.ends_with(&rest), "{} {}", all, kept);
            }
        }
    }
}
