//! Finds the sections and roles in which a text counts: every possible role before the text is
//! divided into passages, and the role of the passage after that.

use crate::extract::{Passages, Segment};
use crate::field::possible_roles;

/// Returns the sections of a segment and every role that its text may have, as bits.
pub(super) fn possible_sections(segment: &Segment<'_>) -> u16 {
    let sections = segment.sections();
    sections | possible_roles(sections)
}

/// Returns the sections and the roles of the text at a byte, as bits. Without passages, these are
/// all possible roles.
pub(super) fn sections_at(
    segment: &Segment<'_>,
    passages: Option<&Passages>,
    position: usize,
) -> u16 {
    match passages {
        None => possible_sections(segment),
        Some(passages) => segment.sections() | passages.role_at(position),
    }
}

/// Returns the sections of a segment and the roles of all its passages, as bits. Without passages,
/// the roles are all possible roles.
pub(super) fn segment_sections(segment: &Segment<'_>, passages: Option<&Passages>) -> u16 {
    let Some(passages) = passages else { return possible_sections(segment) };
    let roles = passages.within(&segment.range);
    roles.fold(segment.sections(), |mask, (_, role)| mask | role)
}
