//! Passages: the parts of a request's text, each with one role (instruction, material or
//! examples).
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

/// The passages of the text of a request, in order, without gaps.
#[derive(Clone, Debug, Default)]
pub struct Passages(Vec<Passage>);

/// The beginning of a passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passage {
    /// Offset in the normalised text of the request.
    start: usize,
    /// Role of the passage, as one bit; 0 in sections whose text has no role.
    role: u16,
}

impl Passages {
    /// Returns the role of the text at byte `position`, as one bit; 0 if the text has no role.
    pub fn role_at(&self, position: usize) -> u16 {
        self.index_at(position).and_then(|index| self.0.get(index)).map_or(0, |found| found.role)
    }

    /// Returns the end of the passage that contains byte `position`; `usize::MAX` for the last
    /// passage.
    pub fn end_at(&self, position: usize) -> usize {
        let next = self.0.partition_point(|passage| passage.start <= position);
        self.0.get(next).map_or(usize::MAX, |next| next.start)
    }

    /// Returns the passages within a range of the text, cut at the edges of the range. Each has a
    /// role, as one bit.
    pub fn within(&self, range: &Range<usize>) -> impl Iterator<Item = (Range<usize>, u16)> {
        let Range { start, end } = range.clone();
        let passages = self.0.get(self.index_at(start).unwrap_or_default()..).unwrap_or_default();
        let within = passages.iter().take_while(move |passage| passage.start < end);
        within.map(move |passage| {
            let from = passage.start.max(start);
            (from..self.end_at(from).min(end), passage.role)
        })
    }

    fn index_at(&self, position: usize) -> Option<usize> {
        self.0.partition_point(|passage| passage.start <= position).checked_sub(1)
    }

    /// Adds a passage at the end. A passage with the role of the last passage extends the last
    /// passage. If the last passage is empty, the new passage replaces it.
    pub(super) fn push(&mut self, start: usize, role: u16) {
        match self.0.last_mut() {
            Some(last) if last.role == role => {}
            Some(last) if last.start == start => last.role = role,
            _ => self.0.push(Passage { start, role }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_cover_the_text() {
        let mut passages = Passages::default();
        for (start, role) in [(0, 128), (4, 256), (4, 512), (6, 512), (9, 128)] {
            passages.push(start, role);
        }
        let starts = [(0, 128), (4, 512), (9, 128)];
        assert!(passages.0.iter().map(|found| (found.start, found.role)).eq(starts));
        assert_eq!([3, 4, 8, 20].map(|at| passages.role_at(at)), [128, 512, 512, 128]);
        assert_eq!([0, 4].map(|at| passages.end_at(at)), [4, 9]);
        let within: Vec<_> = passages.within(&(2..10)).collect();
        assert_eq!(within, [(2..4, 128), (4..9, 512), (9..10, 128)]);
    }
}
