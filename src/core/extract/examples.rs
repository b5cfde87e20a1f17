//! Examples: records of a text that begin with the same labels, such as a question and an answer.
#![deny(clippy::arithmetic_side_effects)]

use super::lines::{BlockKind, Line, TextBlock, label, trimmed};

/// A line that begins with a label.
struct LabelLine<'t> {
    line: usize,
    name: &'t str,
    /// Byte offset in the text at which the content after the label begins.
    content: usize,
}

/// Returns the example records of a text. A record begins with a label, and at least two records
/// must have the same two labels, such as `Q:` and `A:`.
///
/// The last record may be the question that the caller asks, so it is not an example. Labels inside
/// `enclosed` blocks are ignored, because such a block is one unit.
pub(super) fn find_examples(
    lines: &[Line<'_>],
    enclosed: &[TextBlock],
    text: &str,
) -> Vec<TextBlock> {
    let labels: Vec<LabelLine<'_>> = label_lines(lines, enclosed);
    let Some((first, second)) = repeated_pair(&labels) else { return Vec::new() };
    let starts: Vec<&LabelLine<'_>> = labels.iter().filter(|label| label.name == first).collect();
    let mut records = Vec::new();
    for pair in starts.windows(2) {
        let [start, next] = pair else { continue };
        let end = lines.get(next.line).map_or(text.len(), |line| line.start);
        let has_second = labels
            .iter()
            .any(|label| label.name == second && (start.line..next.line).contains(&label.line));
        if has_second {
            let range = trimmed(start.content.min(end)..end, text);
            let lines = start.line..next.line;
            records.push(TextBlock { range, lines, kind: BlockKind::Example });
        }
    }
    records
}

fn label_lines<'t>(lines: &[Line<'t>], enclosed: &[TextBlock]) -> Vec<LabelLine<'t>> {
    let mut blocks = enclosed.iter().filter(|block| block.kind == BlockKind::Enclosed).peekable();
    let mut labels = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        while blocks.next_if(|block| block.lines.end <= number).is_some() {}
        if blocks.peek().is_some_and(|block| block.lines.contains(&number)) {
            continue;
        }
        let Some(label) = label(line.text) else { continue };
        if labels.len() >= MAX_LABELS {
            break;
        }
        if label.name.len() <= MAX_NAME_BYTES {
            let content = line.start.saturating_add(label.content_offset);
            labels.push(LabelLine { line: number, name: label.name, content });
        }
    }
    labels
}

/// Returns the first pair of different labels that follow each other at least [`MIN_RECORDS`]
/// times; `None` if there is no such pair.
fn repeated_pair<'t>(labels: &[LabelLine<'t>]) -> Option<(&'t str, &'t str)> {
    let pairs = || labels.iter().zip(labels.iter().skip(1)).map(|(one, two)| (one.name, two.name));
    let is_repeated = |pair: &(&str, &str)| {
        pair.0 != pair.1 && pairs().filter(|other| other == pair).count() >= MIN_RECORDS
    };
    pairs().find(is_repeated)
}

/// Minimum number of records. A single record may be a form to fill in, not an example.
const MIN_RECORDS: usize = 2;

/// Maximum bytes of the label of a record.
const MAX_NAME_BYTES: usize = 32;

/// Maximum number of labels that are compared with each other.
const MAX_LABELS: usize = 256;
