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

impl Request<'_> {
    /// Adds the seams of a message whose parts begin with the segment `start`.
    pub(super) fn sew(&mut self, start: usize) {
        let end = self.segments.len();
        let mut from = start;
        while let Some(first) = self.segments.get(from..end).and_then(<[_]>::first) {
            let place = first.place;
            let run = self.segments.get(from..end).unwrap_or_default();
            let length = run.iter().take_while(|part| part.place == place).count();
            let to = from.saturating_add(length);
            if SAID.contains(&place) && length > 1 {
                self.sew_run(from..to, false);
                let run = self.segments.get(from..to).unwrap_or_default();
                let mut pairs = run.iter().zip(run.iter().skip(1));
                if !pairs.all(|(one, next)| one.edges.trail || next.edges.lead) {
                    self.sew_run(from..to, true);
                }
            }
            from = to;
        }
    }

    /// Joins parts: short ones whole, of long ones the ends.
    fn sew_run(&mut self, run: Range<usize>, spaced: bool) {
        let mut seam: Option<Seam> = None;
        let mut before = Edges::default();
        let mut end = 0;
        for number in run {
            let Some(part) = self.segments.get(number) else { return };
            let (place, range, edges) = (part.place, part.range.clone(), part.edges);
            let source = part.source.range();
            let mut open = match seam.take() {
                None => self.open(place, source.start),
                Some(open) => {
                    if spaced || before.trail || edges.lead {
                        self.text.push(' ');
                    }
                    Seam { is_joined: true, ..open }
                }
            };
            match self.ends(range.clone()) {
                None => self.text.extend_from_within(range),
                Some((head, tail)) => {
                    self.text.extend_from_within(head);
                    self.text.push(CUT);
                    self.close(open, source.end);
                    open = self.open(place, source.start);
                    self.text.push(CUT);
                    self.text.extend_from_within(tail);
                }
            }
            (seam, before, end) = (Some(open), edges, source.end);
        }
        if let Some(seam) = seam {
            self.close(seam, end);
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

    fn open(&self, place: Place, source: usize) -> Seam {
        Seam { place, start: self.text.len(), source, is_joined: false }
    }

    /// Ends a seam; one of a single part is nothing new.
    fn close(&mut self, seam: Seam, end: usize) {
        if !seam.is_joined {
            return self.text.truncate(seam.start);
        }
        let range = seam.start..self.text.len();
        self.text.push(text::END);
        let source = Source::Seam(seam.source..end);
        self.segments.push(Segment { place: seam.place, range, source, edges: Edges::default() });
    }
}

/// The places whose parts make up one text. What tools return does not.
const SAID: [Place; 3] = [Place::System, Place::User, Place::Assistant];

/// Bytes that a seam takes from the end of a part: phrases are shorter.
const REACH: usize = 256;

/// Stands where a part was cut: what begins or ends there does not begin or end a value. Control
/// characters do not occur in normalised text.
const CUT: char = '\u{1}';
