//! Where literals stand in the text of a request, by literal.

use std::ops::Range;

use super::Landmark;

/// Occurrences of literals: noted as they are found, then sorted by literal.
#[derive(Debug)]
pub(super) struct Occurrences {
    /// Literal and start, in the order in which they were noted: of one literal, the first comes first.
    noted: Vec<(u32, u32)>,
    /// How often each literal was noted, and those that were.
    counts: Vec<u32>,
    literals: Vec<u32>,
    /// The starts, those of one literal together; and where each literal's end, by literal.
    starts: Vec<u32>,
    ends: Vec<u32>,
}

impl Occurrences {
    pub fn new(literals: usize) -> Self {
        Self {
            noted: Vec::new(),
            counts: vec![0; literals],
            literals: Vec::new(),
            starts: Vec::new(),
            ends: vec![0; literals],
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        for literal in self.literals.drain(..) {
            if let Some(count) = self.counts.get_mut(literal as usize) {
                *count = 0;
            }
        }
        self.noted.clear();
        self.starts.clear();
    }

    /// Notes that a literal begins at a byte of the text.
    pub fn note(&mut self, literal: usize, start: usize) {
        let Some(count) = self.counts.get_mut(literal) else { return };
        *count = count.saturating_add(1);
        if *count == 1 {
            self.literals.push(literal as u32);
        }
        self.noted.push((literal as u32, start as u32));
    }

    /// Sorts what was noted; it is asked for only then.
    pub fn sort(&mut self) {
        if self.starts.len() == self.noted.len() {
            return;
        }
        let mut begin = 0_u32;
        for literal in &self.literals {
            let literal = *literal as usize;
            if let (Some(end), Some(count)) = (self.ends.get_mut(literal), self.counts.get(literal))
            {
                *end = begin;
                begin = begin.saturating_add(*count);
            }
        }
        self.starts.resize(self.noted.len(), 0);
        for (literal, start) in &self.noted {
            let Some(end) = self.ends.get_mut(*literal as usize) else { continue };
            if let Some(own) = self.starts.get_mut(*end as usize) {
                *own = *start;
            }
            *end = end.saturating_add(1);
        }
        for literal in &self.literals {
            let own = self.range(*literal as usize);
            let own = self.starts.get_mut(own).unwrap_or_default();
            // One that overlaps with itself may be noted out of order.
            if !own.is_sorted() {
                own.sort_unstable();
            }
        }
    }

    /// Where a literal begins, in order.
    pub fn of(&self, literal: usize) -> &[u32] {
        self.starts.get(self.range(literal)).unwrap_or_default()
    }

    /// How often a landmark's literals occur.
    pub fn count(&self, landmark: &Landmark) -> usize {
        let counts = landmark.literals.iter().filter_map(|literal| self.counts.get(*literal));
        counts.fold(0, |sum, count| sum.saturating_add(*count as usize))
    }

    /// Where any of a landmark's literals begins, in order.
    pub fn all(&self, landmark: &Landmark) -> Vec<usize> {
        let own = landmark.literals.iter().flat_map(|literal| self.of(*literal));
        let mut starts: Vec<usize> = own.map(|start| *start as usize).collect();
        if landmark.literals.len() > 1 {
            starts.sort_unstable();
        }
        starts
    }

    /// Whether any of a landmark's literals begins in a stretch of the text, both ends included.
    pub fn any_within(&self, landmark: &Landmark, earliest: usize, latest: usize) -> bool {
        landmark.literals.iter().any(|literal| {
            let starts = self.of(*literal);
            let first = starts.partition_point(|start| (*start as usize) < earliest);
            starts.get(first).is_some_and(|start| *start as usize <= latest)
        })
    }

    fn range(&self, literal: usize) -> Range<usize> {
        let count = self.counts.get(literal).copied().unwrap_or_default() as usize;
        let end = match count {
            0 => 0,
            _ => self.ends.get(literal).copied().unwrap_or_default() as usize,
        };
        end.saturating_sub(count)..end
    }
}
