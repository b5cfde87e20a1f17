//! The sections and voices in which a text counts: all that are possible, or those of its passage.

use crate::extract::{Passages, Segment};
use crate::field::possible_voices;

/// Returns the sections of a segment and every voice that its text may have, as bits.
pub(super) fn possible_sections(segment: &Segment<'_>) -> u16 {
    let sections = segment.sections();
    sections | possible_voices(sections)
}

/// Returns the sections and the voices of the text at a byte, as bits. Without passages, these are
/// all possible voices.
pub(super) fn sections_at(
    segment: &Segment<'_>,
    passages: Option<&Passages>,
    position: usize,
) -> u16 {
    match passages {
        None => possible_sections(segment),
        Some(passages) => segment.sections() | passages.voice_at(position),
    }
}

/// Returns the sections and the voices that a segment has anywhere, as bits.
pub(super) fn segment_sections(segment: &Segment<'_>, passages: Option<&Passages>) -> u16 {
    let Some(passages) = passages else { return possible_sections(segment) };
    let voices = passages.within(&segment.range);
    voices.fold(segment.sections(), |mask, (_, voice)| mask | voice)
}
