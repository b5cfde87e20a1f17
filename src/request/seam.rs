//! Seams: what a message's parts say together.
//!
//! A message may come in many parts, and the model reads them as one text. A phrase that is cut in
//! two stands in neither part. So the ends of neighbouring parts are joined to further values: once
//! as they follow each other, and, since some servers put a line end between parts, once with spaces.

use std::ops::Range;

use super::{Request, Segment, Source};
use crate::field::Place;
use crate::text::{self, Edges};

/// A seam under way.
struct Seam {
    place: Place,
    /// Where its text begins.
    start: usize,
    /// Where its first part begins in the body.
    source: usize,
    /// Whether it holds more than one part.
    is_joined: bool,
}

impl<'a> Request<'a> {
    /// Adds the seams of a message whose parts begin with the segment `start`.
    pub(super) fn sew(&mut self, start: usize) {
        let parts: Vec<Segment<'a>> = self.segments.get(start..).unwrap_or_default().to_vec();
        for run in parts.chunk_by(|one, next| one.place == next.place) {
            let is_said = run.first().is_some_and(|part| SAID.contains(&part.place));
            if !is_said || run.len() < 2 {
                continue;
            }
            self.sew_run(run, false);
            let mut pairs = run.iter().zip(run.iter().skip(1));
            if !pairs.all(|(one, next)| is_spaced(one, next)) {
                self.sew_run(run, true);
            }
        }
    }

    /// Joins parts: short ones whole, of long ones the ends.
    fn sew_run(&mut self, parts: &[Segment<'a>], spaced: bool) {
        let mut seam: Option<Seam> = None;
        let mut before: Option<&Segment<'a>> = None;
        for part in parts {
            let mut open = seam.take().unwrap_or_else(|| self.open(part));
            if let Some(before) = before {
                open.is_joined = true;
                if spaced || is_spaced(before, part) {
                    self.text.push(' ');
                }
            }
            match self.ends(part.range.clone()) {
                None => self.text.extend_from_within(part.range.clone()),
                Some((head, tail)) => {
                    self.text.extend_from_within(head);
                    self.close(open, part);
                    open = self.open(part);
                    self.text.extend_from_within(tail);
                }
            }
            (seam, before) = (Some(open), Some(part));
        }
        if let Some((seam, last)) = seam.zip(before) {
            self.close(seam, last);
        }
    }

    /// The ends of a long text; `None` of a short one.
    fn ends(&self, range: Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
        let text = self.text.get(range.clone())?;
        let length = text.len().checked_sub(REACH).filter(|length| *length > REACH)?;
        let head = range.start.saturating_add(text.floor_char_boundary(REACH));
        let tail = range.start.saturating_add(text.ceil_char_boundary(length));
        Some((range.start..head, tail..range.end))
    }

    fn open(&self, part: &Segment<'a>) -> Seam {
        let source = part.source.range().start;
        Seam { place: part.place, start: self.text.len(), source, is_joined: false }
    }

    /// Ends a seam; one of a single part is nothing new.
    fn close(&mut self, seam: Seam, last: &Segment<'a>) {
        if !seam.is_joined {
            return self.text.truncate(seam.start);
        }
        let range = seam.start..self.text.len();
        self.text.push(text::END);
        let source = Source::Seam(seam.source..last.source.range().end);
        self.segments.push(Segment { place: seam.place, range, source, edges: Edges::default() });
    }
}

fn is_spaced(one: &Segment<'_>, next: &Segment<'_>) -> bool {
    one.edges.trail || next.edges.lead
}

/// The places whose parts make up one text. What tools return does not.
const SAID: [Place; 3] = [Place::System, Place::User, Place::Assistant];

/// Bytes that a seam takes from the end of a part: phrases are shorter.
const REACH: usize = 256;
