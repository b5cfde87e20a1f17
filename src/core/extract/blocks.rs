//! Finds blocks: parts of a text that its structure separates from the rest, such as fenced code.
//!
//! A block is enclosed in marks (code fences, tags, triple quotation marks, or lines that repeat
//! one character, such as `---`), or it follows a label that names a document (`Context:`), or it
//! is one of several records with the same labels (`Q:`, `A:`).
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::cues::{RequestKind, begins_with_order, names_ask, names_document};
use super::examples::find_examples;
use super::lines::{BlockKind, Line, TextBlock, label, last_text, trimmed};

/// Returns the blocks of a text, in order. They do not overlap.
pub(super) fn find_blocks(lines: &[Line<'_>], text: &str) -> Vec<TextBlock> {
    let mut blocks = Vec::new();
    let mut missing = MissingClosingMarks::default();
    let mut index = 0_usize;
    while index < lines.len() {
        let block = enclosed(lines, index, &mut missing, text);
        let block = block.or_else(|| labelled(lines, index, text));
        let next = index.saturating_add(1);
        index = block.as_ref().map_or(next, |block| block.lines.end.max(next));
        blocks.extend(block.filter(|block| !block.range.is_empty()));
    }
    let examples = find_examples(lines, &blocks, text);
    if !examples.is_empty() {
        blocks
            .retain(|block| !examples.iter().any(|example| overlap(&block.range, &example.range)));
        blocks.extend(examples);
        blocks.sort_by_key(|block| block.range.start);
    }
    blocks
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Closing marks that the rest of the text does not contain. They are remembered, so that the text
/// is not searched for the same mark again.
#[derive(Default)]
struct MissingClosingMarks(Vec<String>);

impl MissingClosingMarks {
    fn contains(&self, mark: &str) -> bool {
        self.0.len() >= MAX_MISSING_CLOSING_MARKS || self.0.iter().any(|missing| missing == mark)
    }
}

/// Maximum number of closing marks that are searched for without success. After that, no more
/// enclosed blocks are found.
const MAX_MISSING_CLOSING_MARKS: usize = 16;

/// Returns the block that begins in line `index` and is enclosed in marks; `None` if the line has
/// no opening mark, or if the closing mark is missing.
fn enclosed(
    lines: &[Line<'_>],
    index: usize,
    missing: &mut MissingClosingMarks,
    text: &str,
) -> Option<TextBlock> {
    let line = lines.get(index)?;
    let mark = opening_mark(lines, index)?;
    let closing = mark.closing();
    if missing.contains(&closing) {
        return None;
    }
    let Some((end_line, end)) = mark.find_end(lines, index, &closing) else {
        missing.0.push(closing);
        return None;
    };
    let start = line.start.saturating_add(mark.content_offset);
    let last = lines.get(end_line).map_or(text.len(), |line| line.start.saturating_add(end));
    let range = trimmed(start.min(last)..last, text);
    Some(TextBlock { range, lines: index..end_line.saturating_add(1), kind: BlockKind::Enclosed })
}

/// A mark that opens a block.
struct Mark<'t> {
    kind: MarkKind<'t>,
    /// Byte offset of the content in the line.
    content_offset: usize,
}

enum MarkKind<'t> {
    /// A code fence. The string is the three characters of the fence.
    Fence(&'t str),
    /// Three quotation marks, which the string holds.
    Quotes(&'t str),
    /// A tag. The string is the name of the tag.
    Tag(&'t str),
    /// A line that repeats one character, such as `---`. The string is the whole line.
    Rule(&'t str),
}

impl Mark<'_> {
    /// Returns the text that ends the block. For a tag, this is the beginning of the closing tag.
    fn closing(&self) -> String {
        match self.kind {
            MarkKind::Fence(mark) | MarkKind::Quotes(mark) | MarkKind::Rule(mark) => {
                mark.to_owned()
            }
            MarkKind::Tag(name) => format!("</{name}"),
        }
    }

    /// Returns the index of the line with the closing mark, and the byte offset of the mark in that
    /// line; `None` if no line has the closing mark.
    fn find_end(&self, lines: &[Line<'_>], index: usize, closing: &str) -> Option<(usize, usize)> {
        let mut depth = 1_usize;
        let first = match self.kind {
            MarkKind::Fence(_) | MarkKind::Rule(_) => index.saturating_add(1),
            MarkKind::Quotes(_) | MarkKind::Tag(_) => index,
        };
        for (number, line) in lines.iter().enumerate().skip(first) {
            let from = if number == index { self.content_offset } else { 0 };
            match self.kind {
                // A fence with the name of a language opens a nested block.
                MarkKind::Fence(_) if line.text.starts_with(closing) => {
                    let is_closing = line.text.trim_start_matches(['`', '~']).is_empty();
                    depth = match is_closing {
                        true => depth.saturating_sub(1),
                        false => depth.saturating_add(1),
                    };
                    if depth == 0 {
                        return Some((number, 0));
                    }
                }
                MarkKind::Rule(_) if line.text == closing => return Some((number, 0)),
                MarkKind::Quotes(_) | MarkKind::Tag(_) => {
                    if let Some(found) = line.text.get(from..).and_then(|rest| rest.find(closing)) {
                        return Some((number, from.saturating_add(found)));
                    }
                }
                MarkKind::Fence(_) | MarkKind::Rule(_) => {}
            }
        }
        None
    }
}

/// Returns the mark that opens a block in line `index`; `None` if the line has no such mark.
fn opening_mark<'t>(lines: &[Line<'t>], index: usize) -> Option<Mark<'t>> {
    let line = lines.get(index)?.text;
    for fence in ["```", "~~~"] {
        if line.starts_with(fence) {
            return Some(Mark { kind: MarkKind::Fence(fence), content_offset: line.len() });
        }
    }
    if let Some(first) = memchr::memchr2(b'"', b'\'', line.as_bytes()) {
        for quotes in ["\"\"\"", "'''"] {
            if let Some(found) = line.get(first..).and_then(|rest| rest.find(quotes)) {
                let content_offset = first.saturating_add(found).saturating_add(quotes.len());
                return Some(Mark { kind: MarkKind::Quotes(quotes), content_offset });
            }
        }
    }
    if let Some((name, content_offset)) = tag(line) {
        return Some(Mark { kind: MarkKind::Tag(name), content_offset });
    }
    if is_rule(line) && last_text(lines, index).is_some_and(|before| before.ends_with(':')) {
        return Some(Mark { kind: MarkKind::Rule(line), content_offset: line.len() });
    }
    None
}

/// Returns the name and the length in bytes of the tag at the start of a line; `None` if the line
/// does not start with a tag.
fn tag(line: &str) -> Option<(&str, usize)> {
    let inner = line.strip_prefix('<')?;
    let is_name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | ':');
    let name_len = inner.find(|char: char| !is_name(char))?;
    let name = inner.get(..name_len).filter(|name| !name.is_empty())?;
    let close = line.find('>')?;
    Some((name, close.saturating_add(1)))
}

/// Returns whether a line consists of one mark, repeated at least three times, such as `---`.
fn is_rule(line: &str) -> bool {
    let mut chars = line.chars();
    let first = chars.next().unwrap_or_default();
    line.len() >= 3 && "-=*_#~+".contains(first) && chars.all(|char| char == first)
}

/// Returns the block that begins with a label in line `index`. Returns `None` if the line has no
/// label, or if the label names neither a document nor a task.
fn labelled(lines: &[Line<'_>], index: usize, text: &str) -> Option<TextBlock> {
    let line = lines.get(index)?;
    let label = label(line.text)?;
    // A label names a task only at the beginning of a text: "summary:" within a document is not a
    // task.
    let is_task =
        index < OPENING_LINES && RequestKind::of_sentence(line.text) == RequestKind::TextTask;
    let is_item = line.text.starts_with(|char: char| char == '-' || char.is_ascii_digit())
        || line.text.starts_with("* ");
    let is_document = !is_item && names_document(label.name) && !names_ask(label.name);
    if !is_task && !is_document {
        return None;
    }
    let is_bare = label.content_offset == line.text.len();
    let end_line = block_end(lines, index.saturating_add(1), is_bare, is_task);
    let end = lines.get(end_line).map_or(text.len(), |line| line.start);
    let range = trimmed(line.start.saturating_add(label.content_offset).min(end)..end, text);
    Some(TextBlock { range, lines: index..end_line, kind: BlockKind::Labelled })
}

/// Number of lines at the beginning of a text that may name its task.
const OPENING_LINES: usize = 6;

/// Returns the index of the line before which a labelled block ends. `from` is the line after the
/// label, and `is_bare` says that the line of the label has no other text.
///
/// The block ends at a label that names a question, an order or an answer, at an opening mark, or
/// at a paragraph that begins with an order or is a question. Such a paragraph does not end the
/// block if it is the first text after a bare label. It also does not end the block if the label
/// names a task (`is_task`), because then all following text is the object of the task.
fn block_end(lines: &[Line<'_>], from: usize, is_bare: bool, is_task: bool) -> usize {
    let mut is_first = is_bare;
    let mut is_paragraph_start = is_bare;
    for (index, line) in lines.iter().enumerate().skip(from) {
        if line.text.is_empty() {
            is_paragraph_start = true;
            continue;
        }
        let asks = label(line.text).is_some_and(|label| names_ask(label.name));
        let is_mark = opening_mark(lines, index).is_some();
        let is_question =
            line.text.len() <= MAX_QUESTION_BYTES && line.text.ends_with(['?', '\u{61f}']);
        let is_order_or_question = is_paragraph_start
            && !is_first
            && !is_task
            && (is_question || begins_with_order(line.text));
        if asks || is_mark || is_order_or_question {
            return index;
        }
        (is_first, is_paragraph_start) = (false, false);
    }
    lines.len()
}

/// Maximum bytes of a question that ends a block.
const MAX_QUESTION_BYTES: usize = 300;
