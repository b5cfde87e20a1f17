//! Required literals of a regex: literals that every match contains, by index in the scanner.

use memchr::memmem::Finder;

use crate::rules::signature::RequiredLiterals;

/// A set of alternative literals, one of which is in every match: the compiled form of
/// [`RequiredLiterals`](crate::rules::signature::RequiredLiterals).
#[derive(Debug)]
pub(crate) struct RequiredLiteralIds {
    /// Indices of the alternatives in the scanner.
    pub literals: Vec<usize>,
    /// Minimum bytes from the start of the previous required literal to the start of this one. For
    /// the first required literal, the distance counts from the start of the match.
    pub min_distance: usize,
    /// Maximum of this distance in bytes; `None` if it is not bounded.
    pub max_distance: Option<usize>,
}

/// A set of alternatives, one of which is in every match, at most [`MAX_CONTEXT_DISTANCE`] bytes
/// from the start of the first required literal. The scan does not search for the set, because its
/// shortest alternative is so short that most texts have it. So the set costs nothing until the
/// required literals suggest a match.
#[derive(Debug)]
pub(crate) struct ContextLiterals {
    /// Indices, in the scanner, of the alternatives whose occurrences are recorded for other
    /// regexes.
    pub recorded: Vec<usize>,
    /// The other alternatives, which are searched for.
    pub searched: Vec<Finder<'static>>,
    /// Bytes of the longest alternative in `searched`; 0 if it is empty.
    pub max_searched_len: usize,
    pub side: Side,
    /// Minimum bytes between the start of the first required literal and the start of an
    /// alternative.
    pub min_distance: usize,
    /// Maximum bytes between these two starts.
    pub max_distance: usize,
}

/// The side of the first required literal on which a context literal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

impl ContextLiterals {
    /// Returns the first and the last position at which an alternative may start, if the first
    /// required literal starts at `start`; `None` if the last position is before the start of the
    /// text.
    pub fn positions(&self, start: usize) -> Option<(usize, usize)> {
        match self.side {
            Side::Before => Some((
                start.saturating_sub(self.max_distance),
                start.checked_sub(self.min_distance)?,
            )),
            Side::After => Some((
                start.saturating_add(self.min_distance),
                start.saturating_add(self.max_distance),
            )),
        }
    }
}

/// Returns those literal sets of a regex that the scan does not search for, if they are within
/// [`MAX_CONTEXT_DISTANCE`] bytes of the first set that it does search for. `recorded` returns the
/// index of a literal in the scanner if its occurrences are recorded for a regex, else `None`.
pub(super) fn context_literals(
    sets: &[RequiredLiterals],
    recorded: impl Fn(&str) -> Option<usize>,
) -> Vec<ContextLiterals> {
    let Some(first) = sets.iter().position(RequiredLiterals::is_scanned) else {
        return Vec::new();
    };
    let others = sets.iter().enumerate().filter(|(_, set)| !set.is_scanned());
    let context = |(index, set): (usize, &RequiredLiterals)| {
        let (side, between) = if index < first {
            (Side::Before, index.saturating_add(1)..=first)
        } else {
            (Side::After, first.saturating_add(1)..=index)
        };
        let distances = sets.get(between)?.iter().map(|set| (set.min_distance, set.max_distance));
        let (min_distance, max_distance) = distances.fold((0, Some(0)), add_distances);
        let searched = || set.alternatives.iter().filter(|text| recorded(text).is_none());
        Some(ContextLiterals {
            recorded: set.alternatives.iter().filter_map(|text| recorded(text)).collect(),
            searched: searched().map(|text| Finder::new(text).into_owned()).collect(),
            max_searched_len: searched().map(String::len).max().unwrap_or_default(),
            side,
            min_distance,
            max_distance: max_distance.filter(|max| *max <= MAX_CONTEXT_DISTANCE)?,
        })
    };
    others.filter_map(context).collect()
}

/// Returns the minimum and the maximum of the sum of two distances.
pub(super) fn add_distances(
    (min, max): (usize, Option<usize>),
    (next_min, next_max): (usize, Option<usize>),
) -> (usize, Option<usize>) {
    (min.saturating_add(next_min), max.zip(next_max).map(|(a, b)| a.saturating_add(b)))
}

/// Maximum bytes between the first required literal of a regex and its context literals: the search
/// for them in more text would cost as much as the regex.
const MAX_CONTEXT_DISTANCE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a set of the words in `alternatives`.
    fn set(
        alternatives: &str,
        min_distance: usize,
        max_distance: Option<usize>,
    ) -> RequiredLiterals {
        let alternatives = alternatives.split(' ').map(str::to_owned).collect();
        RequiredLiterals { alternatives, min_distance, max_distance }
    }

    #[test]
    fn context_lies_where_a_match_can_have_it() {
        // (ask|write) .{2,5} the question .{0,9} (any|every) .* (user)
        let sets = [
            set("ask write", 0, Some(0)),
            set("question", 6, Some(12)),
            set("any every", 9, Some(18)),
            set("user", 3, None),
        ];
        let context = context_literals(&sets, |text| (text == "write").then_some(7));
        // The last set may be anywhere, so it is left out.
        let [before, after] = context.as_slice() else { panic!("{context:?}") };
        assert_eq!((before.recorded.as_slice(), before.searched.len()), ([7].as_slice(), 1));
        assert_eq!((before.max_searched_len, after.max_searched_len), (3, 5));
        assert_eq!((before.positions(30), before.positions(5)), (Some((18, 24)), None));
        assert_eq!(after.positions(30), Some((39, 48)));
    }
}
