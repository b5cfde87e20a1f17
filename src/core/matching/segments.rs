//! Finds the segment of a position in the text of a request.
#![deny(clippy::arithmetic_side_effects)]

use crate::extract::{Request, Segment};

/// Returns the index of the segment that contains a byte of the text, and the segment; `None` if
/// the position is before the first segment.
pub(super) fn segment_at<'r, 'a>(
    request: &'r Request<'a>,
    position: usize,
) -> Option<(usize, &'r Segment<'a>)> {
    let after = request.segments().partition_point(|segment| segment.range.start <= position);
    let index = after.checked_sub(1)?;
    Some((index, request.segments().get(index)?))
}

/// Finds segments like [`segment_at`]. It first tries the segment that it found last, because the
/// next position is mostly in the same segment.
pub(super) struct SegmentCursor<'r, 'a> {
    request: &'r Request<'a>,
    last: Option<(usize, &'r Segment<'a>)>,
}

impl<'r, 'a> SegmentCursor<'r, 'a> {
    pub fn new(request: &'r Request<'a>) -> Self {
        Self { request, last: None }
    }

    /// Returns the index of the segment that contains a byte of the text, and the segment, like
    /// [`segment_at`].
    pub fn at(&mut self, position: usize) -> Option<(usize, &'r Segment<'a>)> {
        let is_in_last = self.last.is_some_and(|(_, last)| last.range.contains(&position));
        if !is_in_last {
            self.last = segment_at(self.request, position);
        }
        self.last
    }
}
