//! Joined parts: texts that span the parts of a message.
//!
//! A message may consist of many parts, which the model reads as one text. A phrase that is split
//! between two parts is complete in neither part. So the ends of adjacent parts are joined into
//! additional segments: once directly, and once with a space, because some servers insert a line
//! end between parts.

use std::ops::Range;

use super::request::{MAX_SEGMENTS, Request};
use super::segment::{Segment, Source};
use crate::field::Section;
use crate::text;
use crate::text::TrimmedEdges;

/// A joined segment under construction.
struct JoinedParts {
    section: Section,
    /// Byte offset in the text at which the segment begins.
    text_start: usize,
    /// Byte offset of the segment's first part in the body.
    source_start: usize,
    /// Whether the segment holds more than one part.
    is_joined: bool,
}

impl Request<'_> {
    /// Adds the joined segments of a message whose parts are the segments from index `start` on.
    pub(crate) fn join_parts(&mut self, start: usize) {
        self.join_range(start..self.segments.len());
    }

    /// Joins the parts with these segment indices: each run of adjacent parts that have the same
    /// section, if the section is one of [`JOINED_SECTIONS`]. A second variant with spaces is
    /// added, unless every two adjacent parts have white space between them anyway.
    pub(super) fn join_range(&mut self, parts: Range<usize>) {
        let Range { start: mut from, end } = parts;
        while let Some(first) = self.segments.get(from..end).and_then(<[_]>::first) {
            let section = first.section;
            let run = self.segments.get(from..end).unwrap_or_default();
            let length = run.iter().take_while(|part| part.section == section).count();
            let to = from.saturating_add(length);
            if JOINED_SECTIONS.contains(&section) && length > 1 {
                self.join_run(from..to, false);
                let run = self.segments.get(from..to).unwrap_or_default();
                let mut pairs = run.iter().zip(run.iter().skip(1));
                if !pairs.all(|(previous, next)| previous.edges.trailing || next.edges.leading) {
                    self.join_run(from..to, true);
                }
            }
            from = to;
        }
    }

    /// Joins parts: short parts completely, long parts only by their first and last bytes. If
    /// `insert_spaces` is false, only parts that had white space between them are separated by a
    /// space.
    fn join_run(&mut self, run: Range<usize>, insert_spaces: bool) {
        let mut joined: Option<JoinedParts> = None;
        let mut previous_edges = TrimmedEdges::default();
        let mut end = 0;
        for index in run {
            let Some(part) = self.segments.get(index) else { return };
            let joined_len = part.range.len().min(2 * OVERLAP_BYTES);
            if self.segments.len() >= MAX_SEGMENTS
                || self.text.len().saturating_add(joined_len) >= self.work.max_text()
                || !self.work.spend_reading(joined_len)
            {
                self.work.exhaust();
                break;
            }
            let (section, range, edges) = (part.section, part.range.clone(), part.edges);
            let source = part.source.range();
            let mut current = match joined.take() {
                None => self.begin_join(section, source.start),
                Some(current) => {
                    if insert_spaces || previous_edges.trailing || edges.leading {
                        self.text.push(' ');
                    }
                    JoinedParts { is_joined: true, ..current }
                }
            };
            match self.overlap_ranges(range.clone()) {
                None => self.text.extend_from_within(range),
                Some((head, tail)) => {
                    self.text.extend_from_within(head);
                    self.text.push(CUT_MARKER);
                    self.finish_join(current, source.end);
                    current = self.begin_join(section, source.start);
                    self.text.push(CUT_MARKER);
                    self.text.extend_from_within(tail);
                }
            }
            (joined, previous_edges, end) = (Some(current), edges, source.end);
        }
        if let Some(joined) = joined {
            self.finish_join(joined, end);
        }
    }

    /// Returns the ranges of the first and the last [`OVERLAP_BYTES`] of a text; `None` if the text
    /// is not longer than both together.
    fn overlap_ranges(&self, range: Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
        let text = self.text.get(range.clone())?;
        let tail_start =
            text.len().checked_sub(OVERLAP_BYTES).filter(|start| *start > OVERLAP_BYTES)?;
        let head = range.start.saturating_add(text.floor_char_boundary(OVERLAP_BYTES));
        let tail = range.start.saturating_add(text.ceil_char_boundary(tail_start));
        Some((range.start..head, tail..range.end))
    }

    /// Begins a joined segment at the end of the text.
    fn begin_join(&self, section: Section, source_start: usize) -> JoinedParts {
        JoinedParts { section, text_start: self.text.len(), source_start, is_joined: false }
    }

    /// Adds a joined segment whose last part ends at byte `source_end` of the body. Drops a segment
    /// that holds a single part.
    fn finish_join(&mut self, joined: JoinedParts, source_end: usize) {
        if !joined.is_joined {
            return self.text.truncate(joined.text_start);
        }
        let range = joined.text_start..self.text.len();
        self.text.push(text::SEGMENT_END);
        let source = Source::Joined(joined.source_start..source_end);
        self.segments.push(Segment {
            section: joined.section,
            range,
            source,
            is_pointed_at: false,
            edges: TrimmedEdges::default(),
        });
    }
}

/// The sections whose parts form one text. Results of tools are separate texts.
const JOINED_SECTIONS: [Section; 4] =
    [Section::System, Section::User, Section::Assistant, Section::Attachment];

/// Bytes taken from each end of a long part. The phrases that rules search for are shorter.
const OVERLAP_BYTES: usize = 256;

/// Marks the point where a part was cut, so that `|startswith` and `|endswith` do not match there.
/// Normalised text contains no control characters.
const CUT_MARKER: char = '\u{1}';
