//! Blocks: the parts of a text that its structure sets apart, such as a fence.
//!
//! Marks set a block apart: fences, tags, quotation marks and lines of one mark. So do labels that
//! name a document, and labels that are repeated.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::cues::{Ask, begins_with_order, names_ask, names_document};
use super::examples::find_examples;
use super::lines::{BlockKind, Line, TextBlock, label, last_text, trimmed};

/// Returns the blocks of a text, in order. They do not overlap.
pub(super) fn find_blocks(lines: &[Line<'_>], text: &str) -> Vec<TextBlock> {
    let mut blocks = Vec::new();
    let mut unclosed = Unclosed::default();
    let mut index = 0_usize;
    while index < lines.len() {
        let block = enclosed(lines, index, &mut unclosed, text);
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

/// Marks that were searched to the end of the text, so that no mark is searched twice in vain.
#[derive(Default)]
struct Unclosed(Vec<String>);

impl Unclosed {
    fn contains(&self, mark: &str) -> bool {
        self.0.len() >= MAX_UNCLOSED || self.0.iter().any(|unclosed| unclosed == mark)
    }
}

/// Maximum number of marks without an end.
const MAX_UNCLOSED: usize = 16;

/// Returns the block that marks enclose and that begins in a line.
fn enclosed(
    lines: &[Line<'_>],
    index: usize,
    unclosed: &mut Unclosed,
    text: &str,
) -> Option<TextBlock> {
    let line = lines.get(index)?;
    let mark = opening_mark(lines, index)?;
    let closing = mark.closing();
    if unclosed.contains(&closing) {
        return None;
    }
    let Some((end_line, end)) = mark.find_end(lines, index, &closing) else {
        unclosed.0.push(closing);
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
    /// Bytes of the line before the content.
    content_offset: usize,
}

enum MarkKind<'t> {
    /// A fence of code, by its character.
    Fence(&'t str),
    /// Three quotation marks.
    Quotes(&'t str),
    /// A tag, by its name.
    Tag(&'t str),
    /// A line of one character.
    Rule(&'t str),
}

impl Mark<'_> {
    /// Returns the mark that ends the block.
    fn closing(&self) -> String {
        match self.kind {
            MarkKind::Fence(mark) | MarkKind::Quotes(mark) | MarkKind::Rule(mark) => {
                mark.to_owned()
            }
            MarkKind::Tag(name) => format!("</{name}"),
        }
    }

    /// Returns the line of the closing mark, and its offset in the line.
    fn find_end(&self, lines: &[Line<'_>], index: usize, closing: &str) -> Option<(usize, usize)> {
        let mut depth = 1_usize;
        let first = match self.kind {
            MarkKind::Fence(_) | MarkKind::Rule(_) => index.saturating_add(1),
            MarkKind::Quotes(_) | MarkKind::Tag(_) => index,
        };
        for (number, line) in lines.iter().enumerate().skip(first) {
            let from = if number == index { self.content_offset } else { 0 };
            match self.kind {
                // A fence with the name of a language opens one within.
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

/// Returns the mark that a line opens.
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

/// Returns the name of the tag with which a line begins, and the bytes of the tag.
fn tag(line: &str) -> Option<(&str, usize)> {
    let inner = line.strip_prefix('<')?;
    let is_name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | ':');
    let name_len = inner.find(|char: char| !is_name(char))?;
    let name = inner.get(..name_len).filter(|name| !name.is_empty())?;
    let close = line.find('>')?;
    Some((name, close.saturating_add(1)))
}

/// Returns whether a line is a row of one mark.
fn is_rule(line: &str) -> bool {
    let mut chars = line.chars();
    let first = chars.next().unwrap_or_default();
    line.len() >= 3 && "-=*_#~+".contains(first) && chars.all(|char| char == first)
}

/// Returns the block that begins with a label in a line.
fn labelled(lines: &[Line<'_>], index: usize, text: &str) -> Option<TextBlock> {
    let line = lines.get(index)?;
    let label = label(line.text)?;
    // A task is at the beginning of a text: "summary:" within a document is not a task.
    let is_task = index < OPENING_LINES && Ask::of_sentence(line.text) == Ask::TextTask;
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

/// Returns the line before which a labelled block ends: at a label that asks, at a mark, or at a
/// paragraph that begins with an order or is a question, unless it is the first, or the label is a
/// task whose object is all that follows.
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
        let is_spoken = is_paragraph_start
            && !is_first
            && !is_task
            && (is_question || begins_with_order(line.text));
        if asks || is_mark || is_spoken {
            return index;
        }
        (is_first, is_paragraph_start) = (false, false);
    }
    lines.len()
}

/// Maximum bytes of a question that ends a block.
const MAX_QUESTION_BYTES: usize = 300;
