//! Positions of literals in the text of a request, grouped by literal.

use std::ops::Range;

use super::required_literals::RequiredLiteralIds;
use super::sparse_array::SparseArray;

/// Occurrences of literals: recorded in the order of the scan, then grouped by literal.
///
/// A counting sort groups them in linear time. All requests use the same buffers.
#[derive(Debug)]
pub(super) struct Occurrences {
    /// Literal and start of each occurrence, in the order of recording.
    recorded: Vec<(u32, u32)>,
    /// Group of each literal; valid after [`Self::sort`].
    groups: SparseArray<LiteralGroup>,
    /// Literals with at least one occurrence; valid after [`Self::sort`].
    seen_literals: Vec<u32>,
    /// Start of each occurrence, grouped by literal; valid after [`Self::sort`].
    starts: Vec<u32>,
    /// Maximum number of occurrences.
    max_recorded: usize,
}

/// The occurrences of one literal.
#[derive(Clone, Copy, Debug, Default)]
struct LiteralGroup {
    count: u32,
    /// End of the group in [`Occurrences::starts`].
    end: u32,
}

impl Occurrences {
    /// Creates an empty list for `literals` literals.
    pub fn new(literals: usize) -> Self {
        Self {
            recorded: Vec::new(),
            groups: SparseArray::new(literals),
            seen_literals: Vec::new(),
            starts: Vec::new(),
            max_recorded: 0,
        }
    }

    /// Removes all occurrences, and sets the limit for a text of `text_len` bytes.
    pub fn clear(&mut self, text_len: usize) {
        self.max_recorded = max_occurrences(text_len);
        self.recorded.clear();
        self.groups.clear();
        self.seen_literals.clear();
        self.starts.clear();
    }

    /// Records that a literal begins at byte `start` of the text. Returns false if the limit is
    /// reached; the occurrence is then dropped.
    pub fn record(&mut self, literal: usize, start: usize) -> bool {
        if self.recorded.len() >= self.max_recorded {
            return false;
        }
        self.recorded.push((literal as u32, start as u32));
        true
    }

    /// Groups the occurrences by literal and sorts them by start, unless that is done already.
    /// Look-ups by position need sorted occurrences.
    pub fn sort(&mut self) {
        if self.starts.len() == self.recorded.len() {
            return;
        }
        for (literal, _) in &self.recorded {
            let Some(group) = self.groups.get_mut(*literal as usize) else { continue };
            group.count = group.count.saturating_add(1);
            if group.count == 1 {
                self.seen_literals.push(*literal);
            }
        }
        let mut range_start = 0_u32;
        for literal in &self.seen_literals {
            if let Some(group) = self.groups.get_mut(*literal as usize) {
                group.end = range_start;
                range_start = range_start.saturating_add(group.count);
            }
        }
        self.starts.resize(self.recorded.len(), 0);
        for (literal, start) in &self.recorded {
            let Some(group) = self.groups.get_mut(*literal as usize) else { continue };
            if let Some(slot) = self.starts.get_mut(group.end as usize) {
                *slot = *start;
            }
            group.end = group.end.saturating_add(1);
        }
        for literal in &self.seen_literals {
            let range = self.range(*literal as usize);
            let literal_starts = self.starts.get_mut(range).unwrap_or_default();
            // The scan may report overlapping occurrences of one literal out of order.
            literal_starts.sort();
        }
    }

    /// Returns the starts of the occurrences of a literal, in ascending order.
    pub fn starts_of(&self, literal: usize) -> &[u32] {
        self.starts.get(self.range(literal)).unwrap_or_default()
    }

    /// Returns the number of occurrences of all alternatives of a required literal together.
    pub fn count(&self, required: &RequiredLiteralIds) -> usize {
        let counts = required.literals.iter().map(|literal| self.groups.get(*literal).count);
        counts.fold(0, |sum, count| sum.saturating_add(count as usize))
    }

    /// Returns the starts of all alternatives of a required literal, in ascending order.
    pub fn starts_of_any(&self, required: &RequiredLiteralIds) -> Vec<usize> {
        let mut starts = Vec::with_capacity(self.count(required));
        for literal in &required.literals {
            starts.extend(self.starts_of(*literal).iter().map(|start| *start as usize));
        }
        // A stable sort merges the sorted runs of the alternatives.
        starts.sort();
        starts
    }

    /// Returns whether one of `literals` begins between `earliest` and `latest`, both included.
    pub fn any_within(&self, literals: &[usize], earliest: usize, latest: usize) -> bool {
        literals.iter().any(|literal| {
            let starts = self.starts_of(*literal);
            let index = starts.partition_point(|start| (*start as usize) < earliest);
            starts.get(index).is_some_and(|start| *start as usize <= latest)
        })
    }

    /// Returns the range of the literal's group in `starts`.
    fn range(&self, literal: usize) -> Range<usize> {
        let group = self.groups.get(literal);
        group.end.saturating_sub(group.count) as usize..group.end as usize
    }
}

/// Returns the number of occurrences that may be recorded in a text of `text_len` bytes. The limit
/// applies to the occurrences of literals, to anchors, and to the terms around anchors, each.
pub(super) fn max_occurrences(text_len: usize) -> usize {
    (text_len / BYTES_PER_OCCURRENCE).saturating_add(MIN_OCCURRENCES)
}

/// Bytes of text per occurrence that may be recorded, in addition to [`MIN_OCCURRENCES`]. This
/// limits memory: an occurrence takes twelve bytes, and text made of the words of signatures would
/// have more occurrences.
const BYTES_PER_OCCURRENCE: usize = 24;

/// Number of occurrences that may be recorded in any text, however short.
const MIN_OCCURRENCES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_occurrences_is_limited_by_the_length_of_the_text() {
        let mut occurrences = Occurrences::new(1);
        occurrences.clear(2 * BYTES_PER_OCCURRENCE);
        for start in 0..MIN_OCCURRENCES + 2 {
            assert!(occurrences.record(0, start), "{start}");
        }
        assert!(!occurrences.record(0, 0));
        occurrences.sort();
        assert_eq!(occurrences.starts_of(0).len(), MIN_OCCURRENCES + 2);
    }
}
