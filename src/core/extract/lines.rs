//! Finds the lines of a normalised text. Normalisation removes line ends, so the source of the text
//! is decoded again to find them.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::raw_string::Sink;
use super::segment::Source;
use crate::text::{Case, Normalizer};

/// A block: a part of a text that the structure of the text separates from the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextBlock {
    /// Byte range of the content in the text, without marks and labels.
    pub range: Range<usize>,
    /// Range of lines, including the lines of marks and labels.
    pub lines: Range<usize>,
    pub kind: BlockKind,
}

/// The structure that separates a block from the rest of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// Marks on both sides, such as code fences.
    Enclosed,
    /// A label that names a document.
    Labelled,
    /// Labels that are repeated, such as those of questions and answers.
    Example,
}

/// A line of a normalised text, without white space at its edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'t> {
    /// Byte offset of the line in the text.
    pub start: usize,
    pub text: &'t str,
}

/// Returns the lines of a normalised text, whose source is `source`. Returns `None` in three cases:
/// the text was joined from parts, it does not agree with the beginning of its source, or it has
/// more than [`MAX_LINES`] lines.
pub(super) fn text_lines<'t>(source: &Source<'_>, text: &'t str) -> Option<Vec<Line<'t>>> {
    if is_one_line(source, text) {
        return Some(vec![Line { start: 0, text: text.trim() }]);
    }
    let decoded = source.decoded()?;
    let mut normalized = String::with_capacity(text.len().saturating_add(decoded.len() / 8));
    let mut normalizer = Normalizer::new(&mut normalized, Case::Fold);
    let mut starts = Vec::new();
    for line in decoded.split_inclusive('\n') {
        starts.push(normalizer.value_len());
        normalizer.push_run(line);
    }
    normalizer.finish();
    if !normalized.starts_with(text) || starts.len() > MAX_LINES {
        return None;
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let line = |(start, end): (&usize, usize)| {
        let start = (*start).min(text.len());
        let line = text.get(start..end.clamp(start, text.len()))?;
        Some(Line { start, text: line.trim() })
    };
    starts.iter().zip(ends).map(line).collect()
}

/// Returns whether a text is certainly the whole of its source, and has no line end. This is so for
/// most short messages. The function recognises only text in ASCII whose source has the same length
/// and no escapes.
fn is_one_line(source: &Source<'_>, text: &str) -> bool {
    source.value().is_some_and(|raw| {
        let bytes = raw.bytes().trim_ascii();
        bytes.len() == text.len()
            && text.is_ascii()
            && memchr::memchr2(b'\\', b'\n', bytes).is_none()
    })
}

/// Maximum number of lines of a text that is divided.
const MAX_LINES: usize = 20_000;

/// Returns a range of `text` without the white space at the edges of the range. A range that is not
/// valid in `text` becomes empty.
pub(super) fn trimmed(range: Range<usize>, text: &str) -> Range<usize> {
    let Some(content) = text.get(range.clone()) else { return range.start..range.start };
    let leading = content.len().saturating_sub(content.trim_start().len());
    let start = range.start.saturating_add(leading);
    start..start.saturating_add(content.trim().len())
}

/// Returns the last non-empty line before line `index`; `None` if there is none.
pub(super) fn last_text<'t>(lines: &[Line<'t>], index: usize) -> Option<&'t str> {
    let before = lines.get(..index)?;
    before.iter().rev().map(|line| line.text).find(|text| !text.is_empty())
}

/// Returns the first non-empty line from line `index` on; `None` if there is none.
pub(super) fn next_text<'t>(lines: &[Line<'t>], index: usize) -> Option<&'t str> {
    let after = lines.get(index..)?;
    after.iter().map(|line| line.text).find(|text| !text.is_empty())
}

/// The label of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label<'t> {
    /// Name, without marks.
    pub name: &'t str,
    /// Byte offset in the line at which the text after the label begins.
    pub content_offset: usize,
}

/// Returns the label at the beginning of a line: a few words before a colon, or a heading. Returns
/// `None` if the line does not begin with a label.
pub(super) fn label<'t>(line: &'t str) -> Option<Label<'t>> {
    let is_edge = |char: char| "#*>[]=-_()|\". ".contains(char) || char.is_ascii_digit();
    let is_enclosed = |start: &str, end: &str| line.starts_with(start) && line.ends_with(end);
    let is_heading = line.starts_with('#')
        || [("**", "**"), ("[", "]"), ("==", "==")]
            .iter()
            .any(|(start, end)| is_enclosed(start, end));
    let colon = line.find(':').filter(|colon| *colon <= MAX_LABEL_BYTES);
    let after = |colon: usize| line.get(colon.saturating_add(1)..).unwrap_or_default();
    let colon = colon.filter(|colon| !after(*colon).starts_with("//"));
    let end = match colon {
        Some(colon) => colon,
        None if is_heading && line.len() <= MAX_LABEL_BYTES => line.len(),
        None => return None,
    };
    let name = line.get(..end)?.trim_matches(is_edge);
    let words = name.split(' ').count();
    let rest = after(end).trim_start_matches(|char: char| "*]\"_# ".contains(char));
    let max_words = if rest.is_empty() { MAX_LINE_LABEL_WORDS } else { MAX_LABEL_WORDS };
    if name.is_empty() || words > max_words {
        return None;
    }
    Some(Label { name, content_offset: line.len().saturating_sub(rest.len()) })
}

/// Maximum bytes of a label.
const MAX_LABEL_BYTES: usize = 120;

/// Maximum number of words of a label on a line of its own.
const MAX_LINE_LABEL_WORDS: usize = 14;

/// Maximum number of words of a label that is followed by text on its line.
const MAX_LABEL_WORDS: usize = 4;
